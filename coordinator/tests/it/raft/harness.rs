//! A cluster of Raft nodes, each with its own data directory and port, that can be stopped and started again.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::distance::Distance;
use coordinator::raft::{
    Authenticate, JoinError, JoinRequest, Peer, ProposeError, Proposed, RaftConfig, RaftLimits, RaftNode,
    RaftTiming, StartError, Subscription, WallClock, raft_id,
};
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use state::{Command, features::SUPPORTED};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use types::{
    ModelName, NodeId, Principal, RegionId, RequestId,
    model::Placement,
    reason::{Reason, Refusal},
    role::TimingPolicy,
};
use wal::{disk::Disk, faulty::FaultyDisk};

/// Longer than anything here may take, also on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

pub(super) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

pub(super) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen within {PATIENCE:?}"))
}

pub(super) fn user() -> Principal {
    "spiffe://regent.local/user/admin".parse().unwrap()
}

pub(super) fn request_id() -> RequestId {
    RequestId::from_u128(uuid::Uuid::now_v7().as_u128())
}

pub(super) fn create_model(name: &str) -> Command {
    Command::CreateModel {
        name: name.parse().unwrap(),
        description: "x".repeat(200),
        tags: BTreeMap::new(),
        placement: Placement::default(),
    }
}

pub(super) fn has_model(node: &RaftNode, name: &str) -> bool {
    let name: ModelName = name.parse().unwrap();
    node.read(|state| state.model(&name).is_some())
}

/// Slower than the defaults: the tests of a whole workspace share two cores.
pub(super) fn timing() -> RaftTiming {
    RaftTiming {
        heartbeat: Duration::from_millis(150),
        election_min: Duration::from_millis(600),
        election_max: Duration::from_millis(1_000),
    }
}

/// One node that runs.
pub(super) struct Running {
    pub(super) node: RaftNode,
    stop_server: CancellationToken,
    server: JoinHandle<()>,
}

impl Running {
    pub(super) async fn stop(self) {
        self.stop_server.cancel();
        self.node.shutdown().await;
        within("the end of a server", self.server).await.unwrap();
    }
}

/// One node, running or not. Its directory and port stay.
pub(super) struct Site {
    pub(super) config: RaftConfig,
    address: SocketAddr,
    distance: Distance,
    disk: Option<FaultyDisk>,
    pub(super) running: Option<Running>,
}

impl Site {
    pub(super) fn node(&self) -> &RaftNode {
        &self.running.as_ref().expect("this node runs").node
    }

    pub(super) fn dir(&self) -> &Path {
        &self.config.data_dir
    }

    pub(super) fn peer(&self) -> Peer {
        self.node().own_peer().clone()
    }

    /// The next start takes another port.
    pub(super) fn move_raft_port(&mut self) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        self.address = free.local_addr().unwrap();
        self.config.raft_endpoint = format!("http://{}", self.address);
    }

    pub(super) async fn start(&mut self) -> Result<(), StartError> {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (config, disk) = (self.config.clone(), self.disk.clone());
        self.running = Some(run(config, listener, self.distance.clone(), disk).await?);
        Ok(())
    }

    pub(super) async fn stop(&mut self) {
        self.running.take().expect("this node runs").stop().await;
    }
}

/// The first word of the user agent says who calls, in place of a certificate.
#[derive(Clone)]
struct Caller(String);

fn authenticate() -> Authenticate {
    Arc::new(|extensions| {
        let caller = extensions.get::<Caller>();
        let caller = caller.ok_or_else(|| Refusal::new(Reason::PermissionDenied, "nobody calls"))?;
        let invalid = |e: types::InvalidId| Refusal::new(Reason::PermissionDenied, e.to_string());
        caller.0.parse().map_err(invalid)
    })
}

fn note_caller<B>(mut request: http::Request<B>) -> http::Request<B> {
    let agent = request.headers().get(http::header::USER_AGENT);
    let agent = agent.and_then(|a| a.to_str().ok()).unwrap_or_default();
    let caller = agent.split(' ').next().unwrap_or_default().to_owned();
    request.extensions_mut().insert(Caller(caller));
    request
}

async fn run(
    config: RaftConfig,
    listener: TcpListener,
    distance: Distance,
    disk: Option<FaultyDisk>,
) -> Result<Running, StartError> {
    let caller = Principal::Coordinator {
        region: config.region.clone(),
        node: config.node.clone(),
    };
    let own = config.node.clone();
    let dial = move |peer: &Peer, endpoint: Endpoint| {
        let endpoint = endpoint.user_agent(caller.to_string())?;
        Ok(distance.channel(own.as_str(), peer.node.as_str(), &endpoint))
    };
    let disk = disk.map(|disk| Arc::new(disk) as Arc<dyn Disk>);
    let node = RaftNode::start(config, Arc::new(dial), disk).await?;
    let stop_server = CancellationToken::new();
    let served = Server::builder()
        .layer(tower::util::MapRequestLayer::new(note_caller))
        .add_service(node.service(authenticate()))
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            stop_server.clone().cancelled_owned(),
        );
    let server = tokio::spawn(async move { served.await.unwrap() });
    Ok(Running {
        node,
        stop_server,
        server,
    })
}

/// A cluster; the first node founded it.
pub(super) struct Cluster {
    pub(super) sites: Vec<Site>,
    pub(super) root: TempDir,
    /// How far the nodes are from each other: not at all, unless a test says so.
    pub(super) distance: Distance,
    timing: RaftTiming,
    /// The wall clocks of the first nodes; the others have the machine's.
    clocks: Vec<WallClock>,
    /// The disks of the first nodes' logs; the others have the machine's.
    disks: Vec<FaultyDisk>,
    /// Nodes that are witnesses.
    witnesses: Vec<usize>,
}

impl Cluster {
    /// `n` voters.
    pub(super) async fn of(n: usize, limits: RaftLimits) -> Self {
        Self::timed(n, limits, timing()).await
    }

    /// `n` voters with other times of elections.
    pub(super) async fn timed(n: usize, limits: RaftLimits, timing: RaftTiming) -> Self {
        Self::clocked(n, limits, timing, Vec::new()).await
    }

    /// `n` voters, of which the first have these wall clocks.
    pub(super) async fn clocked(
        n: usize,
        limits: RaftLimits,
        timing: RaftTiming,
        clocks: Vec<WallClock>,
    ) -> Self {
        let mut cluster = Self::empty(timing);
        cluster.clocks = clocks;
        cluster.grow(n, limits).await;
        cluster
    }

    /// A voter for each of these disks, on which its log is.
    pub(super) async fn on(disks: Vec<FaultyDisk>, limits: RaftLimits) -> Self {
        let (mut cluster, n) = (Self::empty(timing()), disks.len());
        cluster.disks = disks;
        cluster.grow(n, limits).await;
        cluster
    }

    fn empty(timing: RaftTiming) -> Self {
        Self {
            sites: Vec::new(),
            root: TempDir::new().unwrap(),
            distance: Distance::default(),
            timing,
            clocks: Vec::new(),
            disks: Vec::new(),
            witnesses: Vec::new(),
        }
    }

    /// Two voters that serve, 0 and 1, and a witness, 2.
    pub(super) async fn with_witness(limits: RaftLimits, disks: Vec<FaultyDisk>) -> Self {
        let cluster = Self::two_and_a_witness(limits, disks, SUPPORTED).await;
        cluster.join(2).await;
        cluster
    }

    /// The same at another feature level, and the witness is no member yet.
    pub(super) async fn with_witness_from(limits: RaftLimits, level: u32) -> Self {
        Self::two_and_a_witness(limits, Vec::new(), level).await
    }

    async fn two_and_a_witness(limits: RaftLimits, disks: Vec<FaultyDisk>, level: u32) -> Self {
        let mut cluster = Self::empty(timing());
        cluster.disks = disks;
        cluster.witnesses = vec![2];
        cluster.grow(2, limits).await;
        let level = Command::SetFeatureLevel { level };
        cluster.propose_as(request_id(), level).await.outcome.unwrap();
        cluster.add_site(limits).await;
        cluster
    }

    async fn grow(&mut self, n: usize, limits: RaftLimits) {
        for _ in 0..n {
            let i = self.add_site(limits).await;
            if i > 0 {
                self.join(i).await;
            }
            self.node(i).founded(deadline()).await.unwrap();
        }
    }

    /// Starts one more node; it is no member yet, unless it is the first.
    pub(super) async fn add_site(&mut self, limits: RaftLimits) -> usize {
        let i = self.sites.len();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = RaftConfig {
            node: NodeId::new(format!("c{i}")).unwrap(),
            region: RegionId::new(format!("region-{i}")).unwrap(),
            witness: self.witnesses.contains(&i),
            data_dir: self.root.path().join(format!("c{i}")),
            api_endpoint: format!("http://127.0.0.1:{}", 10_000 + i),
            raft_endpoint: format!("http://{address}"),
            bootstrap: (i == 0).then(TimingPolicy::fast),
            timing: self.timing,
            timing_fixed: self.timing != RaftTiming::default(),
            limits,
            clock: self.clocks.get(i).cloned().unwrap_or_else(WallClock::system),
            supported_level: SUPPORTED,
        };
        let disk = self.disks.get(i).cloned();
        let running = Some(
            run(config.clone(), listener, self.distance.clone(), disk.clone())
                .await
                .unwrap(),
        );
        self.sites.push(Site {
            config,
            address,
            distance: self.distance.clone(),
            disk,
            running,
        });
        i
    }

    pub(super) async fn join(&self, i: usize) {
        let joined = async {
            while let Err(error) = self.try_join(i).await {
                assert!(error.to_refusal().reason.retryable(), "{error}");
                tokio::task::yield_now().await;
            }
        };
        within("a join", joined).await;
    }

    /// Hears from the leader that it is new, unless its disk knows a cluster.
    pub(super) async fn welcome(&self, i: usize) -> Result<(), JoinError> {
        let site = &self.sites[i];
        if site.node().cluster_id().is_none() {
            let cluster_id = self.leader().await.welcome(&site.peer(), deadline()).await?;
            site.node().enter_cluster(cluster_id).unwrap();
        }
        Ok(())
    }

    pub(super) async fn try_join(&self, i: usize) -> Result<(), JoinError> {
        self.welcome(i).await?;
        let request = JoinRequest {
            peer: self.sites[i].peer(),
            cluster_id: self.sites[i].node().cluster_id().unwrap(),
            supported_level: SUPPORTED,
        };
        let joined = self.leader().await.add_member(request, deadline()).await;
        joined.map(drop)
    }

    /// What coordinator `from` says to the Raft port of site `to`, as its certificate lets it.
    pub(super) fn calls(&self, from: usize, to: usize) -> RaftServiceClient<Channel> {
        let caller = &self.sites[from].config;
        let caller = Principal::Coordinator {
            region: caller.region.clone(),
            node: caller.node.clone(),
        };
        let endpoint = Endpoint::from_shared(self.sites[to].config.raft_endpoint.clone()).unwrap();
        let channel = endpoint.user_agent(caller.to_string()).unwrap().connect_lazy();
        RaftServiceClient::new(channel)
    }

    /// As a message from `from` to `to` in this cluster says it.
    pub(super) fn route(&self, from: usize, to: usize) -> pb::Route {
        let cluster_id = self.node(from).cluster_id();
        let node = &self.sites[to].config.node;
        let members = self.node(from).members();
        let disk = members.into_iter().find(|m| m.peer.node == *node);
        let disk = disk.and_then(|m| m.peer.disk);
        pb::Route {
            from: raft_id(&self.sites[from].config.node),
            to: raft_id(&self.sites[to].config.node),
            cluster_id: cluster_id.map_or_else(Vec::new, |id| id.to_bytes().to_vec()),
            to_disk: disk.map_or_else(Vec::new, |id| id.to_bytes().to_vec()),
            remembered: None,
        }
    }

    pub(super) fn node(&self, i: usize) -> &RaftNode {
        self.sites[i].node()
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &RaftNode> {
        self.sites.iter().filter_map(|s| Some(&s.running.as_ref()?.node))
    }

    /// A running node that leads, and has applied an entry of its own term.
    pub(super) async fn leader(&self) -> &RaftNode {
        let wait = self.live().map(|node| {
            Box::pin(async move {
                let mut leadership = node.leadership();
                leadership.wait_for(|l| l.since.is_some()).await.unwrap();
                node
            })
        });
        within("an election", futures::future::select_all(wait)).await.0
    }

    pub(super) async fn leader_index(&self) -> usize {
        let leader = self.leader().await.own_peer().node.clone();
        let at = |s: &Site| s.running.is_some() && s.config.node == leader;
        self.sites.iter().position(at).unwrap()
    }

    /// Proposes on whoever leads, with one request id, until there is an answer.
    pub(super) async fn propose_as(&self, request_id: RequestId, command: Command) -> Proposed {
        let proposed = async {
            loop {
                let leader = self.leader().await;
                let by = Instant::now() + Duration::from_secs(5);
                match leader.propose(user(), request_id, command.clone(), by).await {
                    Ok(proposed) => return proposed,
                    Err(ProposeError::TooLarge { bytes, .. }) => panic!("an entry of {bytes} bytes"),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        within("a proposal", proposed).await
    }

    /// Makes a model and insists on the first answer.
    pub(super) async fn write(&self, name: &str) -> Proposed {
        let proposed = self.propose_as(request_id(), create_model(name)).await;
        proposed.outcome.as_ref().unwrap();
        proposed
    }

    /// Waits until a node has a snapshot; each look costs a round of Raft.
    pub(super) async fn snapshot_taken(&self, i: usize) {
        let taken = async {
            while self.node(i).status().snapshot == types::Revision::default() {
                self.node(i).linearize(deadline()).await.unwrap();
            }
        };
        within("a snapshot", taken).await;
    }

    /// Waits until the leader's log begins behind a revision: whoever stands there needs a snapshot. A leader keeps what it is sending
    /// to somebody until that has failed.
    pub(super) async fn purged_beyond(&self, revision: types::Revision) {
        let purged = async {
            while self.leader().await.status().purged <= revision {
                // In vain in an election; then it is looked at again.
                let _ = self.leader().await.linearize(deadline()).await;
            }
        };
        within("the end of a log", purged).await;
    }

    pub(super) async fn stop_all(&mut self) {
        for site in &mut self.sites {
            if site.running.is_some() {
                site.stop().await;
            }
        }
    }

    pub(super) async fn start_all(&mut self) {
        for site in &mut self.sites {
            site.start().await.unwrap();
        }
    }

    /// All running nodes have applied the same, and hold equal states.
    ///
    /// Compared at one revision: the leader writes by itself, too (a measured election timing, the mark of the time), and such an entry
    /// may be applied by one node and not yet by the next when they are read.
    pub(super) async fn assert_converged(&self) {
        let mut at = self.leader().await.linearize(deadline()).await.unwrap();
        let states = loop {
            let mut states = Vec::new();
            for node in self.live() {
                node.wait_applied(at, deadline()).await.unwrap();
                states.push(node.read(Clone::clone));
            }
            let newest = states.iter().map(|state| state.revision()).max().unwrap();
            if states.iter().all(|state| state.revision() == newest) {
                break states;
            }
            at = newest;
        };
        assert!(
            states.windows(2).all(|pair| pair[0] == pair[1]),
            "replicas differ"
        );
    }
}

/// Reads a subscription until `upto`.
pub(super) async fn read_until(
    subscription: &mut Subscription,
    upto: types::Revision,
) -> Vec<coordinator::raft::Published> {
    use coordinator::raft::Published;
    let mut steps = Vec::new();
    loop {
        let step = within("a revision", subscription.next())
            .await
            .expect("the node runs");
        let (Published::Applied { revision, .. } | Published::Reset { revision }) = &step;
        let last = *revision >= upto;
        steps.push(step);
        if last {
            return steps;
        }
    }
}

/// The files of a folder, in the order of their names.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_file())
        .collect();
    all.sort();
    all
}
