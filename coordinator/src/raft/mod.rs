//! The Raft half of the coordinator: one [`RaftNode`] puts commands into the replicated log and lets readers see the
//! state that comes out.
//!
//! Absent on purpose: rules (crate `state`), the public API, certificates (a [`Dial`] and an [`Authenticate`] are handed in),
//! leases and health. Entries are written in `crate::propose` alone.
//! Invariant: what [`RaftNode::propose`] acknowledged is on the disks of a majority, each synced, and applied here.
//!
//! Reading order: [`config`], [`error`], [`types`], [`view`], [`publish`], then `identity`, `log_store`,
//! `state_machine`, `network`, `engine`, `service`, `membership`, `timing`.

mod announce;
mod compaction;
pub mod config;
mod convert;
mod engine;
pub mod error;
mod export;
mod features;
pub(crate) mod files;
mod hashes;
mod hearing;
mod held;
mod identity;
mod integrity;
mod lag;
mod log_store;
mod membership;
mod memory;
mod mend;
pub(crate) mod network;
pub mod offline;
mod preference;
pub mod publish;
mod removal;
mod room;
mod service;
mod snapshot;
mod state_machine;
mod stop;
mod suspicion;
#[cfg(test)]
pub(crate) mod tests;
mod time;
mod timing;
pub mod types;
pub mod view;
mod witness;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::types::{ClusterId, Principal, Revision, reason::Refusal};
use openraft::{Config, SnapshotPolicy, async_runtime::WatchReceiver as _};
use policy::standing::Boot;
use proto::raft_v1::raft_service_server::RaftServiceServer;
use state::ControlState;
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::{Channel, Endpoint};
use tracing::info;

pub(crate) use self::identity::may_be_a_members;
use self::{
    announce::{Admission, shown_at_start},
    engine::{Engine, Raft},
    hearing::Hearing,
    identity::Identity,
    log_store::LogStore,
    memory::Memory,
    network::{Connections, MESSAGE_BYTES_MAX},
    state_machine::Store,
    time::Reckoning,
    timing::{InForce, RoundTrips},
    types::Membership,
};
pub use self::{
    config::{RaftConfig, RaftLimits, RaftTiming, WallClock},
    error::{CannotLead, JoinError, LeaderHint, ProposeError, StartError},
    export::{Saved, SavedPart},
    integrity::Compared,
    publish::{Published, Subscription},
    removal::{Removal, RemovalStep, RemoveError, RemoveRequest},
    service::RaftRpc,
    types::{Peer, Proposed, raft_id},
    view::{Leadership, Member, RaftRole, RaftStatus},
};
use crate::{
    gather::Gather,
    propose::{PROPOSED_BYTES_MAX, Proposal},
    rounds::Rounds,
};

/// Connects to another coordinator's Raft port; [`crate::tls::Tls`] does. `endpoint` has its address, timeouts and keep-alive set; the dialler
/// adds TLS (its own certificate, and that the other end is `peer.node`) and connects lazily.
pub trait Dial: Send + Sync + 'static {
    /// A channel that connects when first used, and again after a break.
    fn dial(&self, peer: &Peer, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error>;
}

impl<F> Dial for F
where
    F: Fn(&Peer, Endpoint) -> Result<Channel, tonic::transport::Error> + Send + Sync + 'static,
{
    fn dial(&self, peer: &Peer, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
        self(peer, endpoint)
    }
}

/// Reads who calls from a request's extensions (its TLS connection info). The Raft service itself then checks that the
/// caller is a coordinator and that its node is the sender that the message names.
pub type Authenticate = Arc<dyn Fn(&http::Extensions) -> Result<Principal, Refusal> + Send + Sync>;

/// A coordinator that asks to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// Who and where it is, in this run.
    pub peer: Peer,
    /// The cluster that its disk belongs to. One that has seen none asks [`RaftNode::welcome`] first.
    pub cluster_id: ClusterId,
    /// Up to which feature level its build knows the rules.
    pub supported_level: u32,
}

/// A running Raft node. A cheap handle: clones share the node.
#[derive(Clone)]
pub struct RaftNode {
    inner: Arc<Inner>,
}

struct Inner {
    config: RaftConfig,
    own_id: u64,
    own_peer: Peer,
    engine: Engine,
    /// How full the log's disk is.
    room: wal::View,
    store: Arc<Store>,
    identity: Arc<Identity>,
    admission: Admission,
    memory: Arc<Memory>,
    /// This run is founding a cluster, or has founded it.
    founding: AtomicBool,
    connections: Arc<Connections>,
    leadership: watch::Sender<Leadership>,
    hearing: Hearing,
    reckoning: Reckoning,
    /// By which timing this node goes now.
    in_force: Arc<InForce>,
    round_trips: RoundTrips,
    lags: lag::Lags,
    /// Held while the timing changes.
    adopting: AsyncMutex<timing::Adopting>,
    /// What came of the last comparison of states.
    compared: watch::Sender<Compared>,
    /// Why Raft stopped, once it did.
    stopped: watch::Sender<Option<String>>,
    /// Of a witness: nobody else has won for so long that it campaigns.
    campaigns: AtomicBool,
    in_flight: Semaphore,
    /// Bytes of proposals that may yet come in flight.
    in_flight_bytes: Semaphore,
    /// Let through, and not in the log yet.
    sent: Arc<room::Sent>,
    /// On their way into the log.
    proposals: Gather<Proposal>,
    /// Of readers who need this node's own leadership confirmed.
    own_rounds: Rounds,
    /// Of readers for whom the leader is asked.
    asked_rounds: Rounds,
    membership_changes: AsyncMutex<()>,
    /// Snapshots that are being taken away.
    exports: Arc<Semaphore>,
    stopping: CancellationToken,
    tasks: TaskTracker,
    log_closed: Mutex<Option<oneshot::Receiver<()>>>,
}

impl RaftNode {
    /// Locks the data directory, loads snapshot and log, applies what is known to be committed, and starts to follow,
    /// campaign or wait to be taken in. Founds the cluster where `config.bootstrap` says so and the disk has seen none;
    /// that waits for no other node. Returns before anyone leads.
    ///
    /// `log_disk`: where the log is, for tests of what disks do; `None` is `data_dir`'s own.
    pub async fn start(
        config: RaftConfig,
        dial: Arc<dyn Dial>,
        log_disk: Option<Arc<dyn wal::disk::Disk>>,
    ) -> Result<Self, StartError> {
        let identity = Identity::open_as(&config.data_dir, &config.node, Some(config.witness));
        let identity = Arc::new(identity?);
        let started = Self::start_in(identity.clone(), config, dial, log_disk).await;
        if started.is_err() {
            // Whoever tries again finds it free.
            stop::let_go_of(&identity).await;
        }
        started
    }

    async fn start_in(
        identity: Arc<Identity>,
        config: RaftConfig,
        dial: Arc<dyn Dial>,
        log_disk: Option<Arc<dyn wal::disk::Disk>>,
    ) -> Result<Self, StartError> {
        // By which it went last; the config's is where it begins.
        let timing = identity.timing().unwrap_or(config.timing);
        let raft_config = openraft_config(&config, &timing, false)?;
        let in_force = Arc::new(InForce::new(timing));
        let store = Store::open(identity.clone(), config.limits.growth(), config.supported_level)?;
        let (mut log, log_closed) = open_log(&identity, log_disk)?;
        check_log_is_there(&identity, &log)?;
        check_snapshot_is_there(&identity, &store, &mut log).await?;
        let room = log.view();
        let own_id = raft_id(&config.node);
        let boot = Boot {
            count: identity.boots(),
            run: rand::random(),
        };
        let snapshot = store.applied().last;
        let shown = shown_at_start(boot, &mut log, snapshot).await;
        let admission = Admission::new(shown.map_err(|e| StartError::Raft(e.to_string()))?);
        let memory = Arc::new(Memory::open(&config.data_dir)?);
        let connections = Connections::new(own_id, identity.clone(), memory.clone(), dial, in_force.clone());
        let engine = Engine::start(own_id, raft_config, log, store.clone(), connections.clone())
            .await
            .map_err(|error| not_started(&identity, &store, error))?;
        let own_peer = Peer {
            node: config.node.clone(),
            region: config.region.clone(),
            raft_endpoint: config.raft_endpoint.clone(),
            api_endpoint: config.api_endpoint.clone(),
            disk: identity.disk_id(),
            witness: config.witness,
        };
        let node = Self {
            inner: Arc::new(Inner {
                in_flight: Semaphore::new(config.limits.proposals_in_flight),
                in_flight_bytes: Semaphore::new(PROPOSED_BYTES_MAX),
                sent: Arc::default(),
                proposals: Gather::new(config.limits.proposals_in_flight),
                own_rounds: Rounds::default(),
                asked_rounds: Rounds::default(),
                config,
                own_id,
                own_peer,
                engine,
                room,
                store,
                identity,
                admission,
                memory,
                founding: AtomicBool::default(),
                connections,
                leadership: watch::Sender::default(),
                hearing: Hearing::default(),
                reckoning: Reckoning::default(),
                in_force,
                round_trips: RoundTrips::default(),
                lags: lag::Lags::default(),
                adopting: AsyncMutex::default(),
                compared: watch::Sender::default(),
                campaigns: AtomicBool::default(),
                stopped: watch::Sender::default(),
                membership_changes: AsyncMutex::default(),
                exports: Arc::new(Semaphore::new(export::AT_ONCE)),
                stopping: CancellationToken::new(),
                tasks: TaskTracker::new(),
                log_closed: Mutex::new(Some(log_closed)),
            }),
        };
        if let Err(error) = node.begin().await {
            node.shutdown().await;
            return Err(error);
        }
        Ok(node)
    }

    async fn begin(&self) -> Result<(), StartError> {
        self.spawn(Self::watch_raft);
        self.begin_admission().await.map_err(StartError::Raft)?;
        self.spawn(Self::measure);
        self.spawn(Self::follow_lags);
        self.spawn(Self::compact);
        match self.is_witness() {
            true => {
                self.spawn(Self::hold_elections_back);
                self.spawn(Self::hand_leadership_over);
            }
            false => self.spawn_what_takes_a_state(),
        }
        if let Some(timing) = self.config().bootstrap.clone()
            && self.cluster_id().is_none()
        {
            self.found(timing).await.map_err(StartError::Raft)?;
        }
        info!(node = %self.config().node, raft_id = self.own_id(), applied = %self.applied(), "raft started");
        Ok(())
    }

    fn spawn_what_takes_a_state(&self) {
        self.spawn(Self::steer_timing);
        self.spawn(Self::serve_rounds);
        self.spawn(Self::serve_proposals);
        self.spawn(Self::prefer_leader);
        self.spawn(Self::compare_states);
    }

    /// A task that ends with the node; none is what it came to then.
    pub(crate) fn spawn<F>(&self, task: impl FnOnce(Self) -> F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = self
            .inner
            .stopping
            .clone()
            .run_until_cancelled_owned(task(self.clone()));
        self.inner.tasks.spawn(task)
    }

    /// A task that no stop cuts off; the node waits for it.
    fn spawn_to_its_end<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.inner.tasks.spawn(task)
    }

    /// The service for the Raft port; every call is authenticated first.
    pub fn service(&self, authenticate: Authenticate) -> RaftServiceServer<RaftRpc> {
        let rpc = RaftRpc {
            node: self.clone(),
            authenticate,
        };
        RaftServiceServer::new(rpc)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Reads the state as applied here, however old. `f` must be short: apply waits for it.
    pub fn read<T>(&self, f: impl FnOnce(&ControlState) -> T) -> T {
        f(&self.inner.store.applied().state)
    }

    /// As [`Self::read`], with the revision that the state stands at: that of the last applied entry, blank entries
    /// included (so it may be above `ControlState::revision`). Watch from it to miss nothing.
    pub fn read_at<T>(&self, f: impl FnOnce(&ControlState) -> T) -> (Revision, T) {
        let applied = self.inner.store.applied();
        (applied.revision(), f(&applied.state))
    }

    /// The state as applied here, and its revision as in [`Self::read_at`]: a view that costs next to nothing, holds up
    /// nobody, and sees nothing of what comes after. For whoever looks at many records.
    pub fn view(&self) -> (Revision, ControlState) {
        let view = self.inner.store.view();
        (view.revision(), view.state)
    }

    /// Puts another state in the place of this replica's, for tests of what finds it. No release build has it.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn tamper(&self, with: impl FnOnce(&ControlState) -> ControlState) {
        self.inner.store.tamper(with);
    }

    /// The revision applied last.
    pub fn applied(&self) -> Revision {
        self.inner.store.applied().revision()
    }

    /// Who leads, as it changes. Each new leadership of this node has a new `since`.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// The applied stream: every revision once, in order. The first subscriber also gets the backlog since start.
    /// A subscriber that does not read holds apply back.
    pub fn subscribe(&self) -> Subscription {
        self.inner.store.publisher.subscribe()
    }

    /// The cluster that this disk belongs to; `None` before a leader said that this node is new to it, or, at the founder,
    /// before its first entry was applied. Until then other nodes' votes, appends and snapshots are refused.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.inner.identity.cluster_id()
    }

    /// Whether this node is founding a cluster, of which it is the only member so far.
    pub(crate) fn founds(&self) -> bool {
        self.inner.founding.load(Ordering::Acquire) && self.cluster_id().is_none()
    }

    /// Remembers for ever what a leader's [`Self::welcome`] said: this node is new to that cluster, and has nothing to
    /// forget. An error if the disk belongs to another cluster or cannot be written.
    pub fn enter_cluster(&self, cluster_id: ClusterId) -> io::Result<()> {
        self.inner.identity.learn_cluster(cluster_id)
    }

    /// Founds a cluster of which this node is the only member, or goes on with that. Whoever calls it has made sure that
    /// there is no other: [`RaftConfig::bootstrap`] does it unasked.
    pub(crate) async fn found(&self, timing: ::types::role::TimingPolicy) -> Result<(), String> {
        if !self.has_begun().await? {
            self.initialize().await?;
        }
        // From here on it is the member of a cluster that has no name yet, and must not be taken for a wiped one.
        if self.inner.founding.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.spawn(|node| async move { node.found_cluster(timing).await });
        Ok(())
    }

    /// Whether anything is in its log: before that it has voted for nobody.
    pub(crate) async fn has_begun(&self) -> Result<bool, String> {
        self.raft().is_initialized().await.map_err(|e| e.to_string())
    }

    /// This node, as it is reached in this run.
    pub fn own_peer(&self) -> &Peer {
        &self.inner.own_peer
    }

    /// Completes when Raft stopped, with the cause: a failed disk, a broken invariant, or [`Self::shutdown`]. The
    /// process must end then.
    pub async fn stopped(&self) -> String {
        let mut stopped = self.inner.stopped.subscribe();
        let cause = stopped.wait_for(Option::is_some).await;
        let cause = cause.ok().and_then(|cause| cause.clone());
        cause.unwrap_or_else(|| "raft stopped".to_owned())
    }

    /// Why it stopped, if that was for rules that its build does not know: both levels, and what to do.
    pub fn too_old(&self) -> Option<String> {
        self.inner.store.too_new()
    }

    pub(crate) fn config(&self) -> &RaftConfig {
        &self.inner.config
    }
    pub(crate) fn own_id(&self) -> u64 {
        self.inner.own_id
    }
    /// The openraft node of now; another one follows it where the timing changes.
    pub(crate) fn raft(&self) -> Raft {
        self.inner.engine.raft()
    }
    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }
    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.inner.identity
    }
    pub(crate) fn in_force(&self) -> &InForce {
        &self.inner.in_force
    }
    pub(crate) fn round_trips(&self) -> &RoundTrips {
        &self.inner.round_trips
    }
    pub(crate) fn adopting(&self) -> &AsyncMutex<timing::Adopting> {
        &self.inner.adopting
    }
    pub(crate) fn room(&self) -> &wal::View {
        &self.inner.room
    }
    /// Whether the log's disk has no room for more than the reserve.
    pub(crate) fn is_full(&self) -> bool {
        self.room().is_full()
    }
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }
    pub(crate) fn admission(&self) -> &Admission {
        &self.inner.admission
    }
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.inner.memory
    }
    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.inner.connections
    }
    pub(crate) fn in_flight(&self) -> &Semaphore {
        &self.inner.in_flight
    }
    pub(crate) fn in_flight_bytes(&self) -> &Semaphore {
        &self.inner.in_flight_bytes
    }
    pub(crate) fn sent(&self) -> &Arc<room::Sent> {
        &self.inner.sent
    }
    pub(crate) fn proposals(&self) -> &Gather<Proposal> {
        &self.inner.proposals
    }
    pub(crate) fn own_rounds(&self) -> &Rounds {
        &self.inner.own_rounds
    }
    pub(crate) fn asked_rounds(&self) -> &Rounds {
        &self.inner.asked_rounds
    }
    pub(crate) fn membership_changes(&self) -> &AsyncMutex<()> {
        &self.inner.membership_changes
    }
    pub(crate) fn exports(&self) -> &Arc<Semaphore> {
        &self.inner.exports
    }
    pub(crate) fn leadership_sender(&self) -> &watch::Sender<Leadership> {
        &self.inner.leadership
    }
    pub(crate) fn hearing(&self) -> &Hearing {
        &self.inner.hearing
    }
    pub(crate) fn compared(&self) -> &watch::Sender<Compared> {
        &self.inner.compared
    }
    pub(crate) fn reckoning(&self) -> &Reckoning {
        &self.inner.reckoning
    }
    pub(crate) fn campaigns(&self) -> &AtomicBool {
        &self.inner.campaigns
    }
    pub(crate) fn stopped_sender(&self) -> &watch::Sender<Option<String>> {
        &self.inner.stopped
    }
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// The membership as Raft uses it: the newest in the log, committed or not.
    pub(crate) fn membership(&self) -> Membership {
        let now = self.raft().metrics().borrow_watched().clone();
        now.membership_config.membership().clone()
    }

    /// An error at a witness, once the node stops or has stopped, or does not believe its own state; before anything is proposed.
    pub(crate) fn check_serving(&self) -> Result<(), ProposeError> {
        if let Some(refused) = self.refused_by_witness() {
            return Err(refused);
        }
        let cause = self.inner.stopped.borrow().clone();
        let stopping = self.inner.stopping.is_cancelled().then(|| "stopping".to_owned());
        match cause.or(stopping).or_else(|| self.inner.store.suspicion().why()) {
            Some(detail) => Err(ProposeError::NotServing { detail }),
            None => Ok(()),
        }
    }
}

fn open_log(
    identity: &Arc<Identity>,
    disk: Option<Arc<dyn wal::disk::Disk>>,
) -> Result<(LogStore, oneshot::Receiver<()>), StartError> {
    let path = identity.dir().join("log");
    std::fs::create_dir_all(&path).map_err(|source| StartError::DataDir {
        path: path.clone(),
        doing: "cannot make the log's directory",
        source,
    })?;
    let disk = disk.unwrap_or_else(|| Arc::new(wal::disk::RealDisk::new(path)));
    Ok(LogStore::open(disk, identity.clone())?)
}

/// A voter whose log was removed forgot what it acknowledged, as if its whole disk had been wiped.
fn check_log_is_there(identity: &Identity, log: &LogStore) -> Result<(), StartError> {
    if log.is_pristine() && identity.misses_its_log() {
        return Err(StartError::Damaged {
            path: identity.dir().join("log"),
            problem: "it is empty, and this node has voted in its cluster".to_owned(),
        });
    }
    Ok(())
}

/// What was committed is applied at the start.
fn not_started(identity: &Identity, store: &Store, error: String) -> StartError {
    match store.too_new() {
        Some(problem) => StartError::TooOld {
            path: identity.dir().join("log"),
            problem,
        },
        None => StartError::Raft(error),
    }
}

/// What is wrong with a directory whose log was purged up to where no snapshot reaches.
const SNAPSHOT_IS_MISSING: &str = "the log begins behind it: the newest snapshot is missing";

/// What the log has let go of is in a snapshot, or lost: openraft would go on from an empty state where nothing is known to be
/// committed yet.
async fn check_snapshot_is_there(
    identity: &Identity,
    store: &Store,
    log: &mut LogStore,
) -> Result<(), StartError> {
    use openraft::storage::RaftLogStorage as _;
    let purged = log.get_log_state().await.map(|state| state.last_purged_log_id);
    let purged = purged.map_err(|e| StartError::Raft(e.to_string()))?;
    if purged <= store.applied().last {
        return Ok(());
    }
    Err(StartError::Damaged {
        path: identity.dir().join("snapshots"),
        problem: SNAPSHOT_IS_MISSING.to_owned(),
    })
}

/// `acts`: the node was let in already, and goes on as what it was. At a start it was not: until the others have said that its disk is
/// not older than they remember it does not campaign, nor go on leading unelected, which its disk may be older than.
fn openraft_config(config: &RaftConfig, timing: &RaftTiming, acts: bool) -> Result<Arc<Config>, StartError> {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let limits = config.limits;
    let config = Config {
        cluster_name: "regent".to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        // Without these a node that was cut off disrupts a healthy leader, and a leader that reaches one bridge only
        // keeps everybody else from electing another (openraft#2080).
        enable_pre_vote: Some(true),
        quorum_loss_probe_interval: Some(millis(timing.election_max).saturating_mul(3)),
        // `compaction` says when.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: limits.logs_kept,
        replication_lag_threshold: limits.snapshot_after.saturating_mul(2),
        // Of a witness `witness` says when.
        enable_elect: acts && !config.witness,
        enable_leader_restore: Some(acts && !config.witness),
        // With 1 MiB an entry this stays within one message.
        max_payload_entries: 64,
        ..Config::default()
    };
    let config = config.validate().map_err(|e| StartError::Config(e.to_string()))?;
    Ok(Arc::new(config))
}
