//! How a coordinator becomes, and stays, known to its cluster: it asks the leader to be taken in, at each start.
//!
//! The leader takes a stranger in, brings a member's endpoints up to date, and enters region and run into the registry;
//! so the same call serves the first start and every later one. A coordinator whose disk has seen no cluster first asks
//! whether it is new, and writes the answer down: until then its Raft port refuses all, because it may be a voter whose
//! disk was wiped. So may a founder: one that is told of others founds only once each of them has said that it knows of no
//! cluster. One whose disk knows a cluster looks for that one as long as it takes: whoever is of another is passed over, with a
//! warning. Were everybody of another, ending would help nobody, and might take a voter away while its own cluster is down.

use std::{sync::Arc, time::Duration};

use client::{Callee, Complaint, complaint::causes};
use futures::future::join_all;
use proto::{
    convert::{
        regions,
        status::{UNKNOWN_REASON, from_status},
    },
    v1::{self as pb, cluster_service_client::ClusterServiceClient},
};
use rand::Rng as _;
use state::Feature;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tracing::{error, info, warn};
use types::{NodeIncarnation, Reason, ZoneName, reason::Refusal, role::TimingPolicy};

use crate::{
    api::Api,
    authz::Caller,
    raft::{JoinError, JoinRequest, RaftNode},
    tls::Tls,
};

/// How long one answer may take; being taken in waits until the log has been copied.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);
/// Waits between attempts: from, to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How often nobody may have been there to ask before it is said: for that long an election may take.
const ELECTION: u32 = 6;

/// How often a coordinator that is known asks again while the registry has another zone of it than its config: the cluster knows
/// of none before its last coordinator is upgraded.
const RELABEL: Duration = Duration::from_secs(2);

/// What is needed to ask.
pub(crate) struct Joiner {
    pub(crate) raft: RaftNode,
    /// Through which a leader enters itself; none at a witness, which enters nobody.
    pub(crate) api: Option<Arc<Api>>,
    pub(crate) tls: Tls,
    pub(crate) incarnation: NodeIncarnation,
    /// From the config.
    pub(crate) zone: Option<ZoneName>,
    /// Endpoints from the config.
    pub(crate) seeds: Vec<String>,
    /// With what the cluster is founded, where the seeds know of none; `None`: not by this node.
    pub(crate) found: Option<TimingPolicy>,
}

impl Joiner {
    /// Asks until this run is known to the cluster, with its zone, or `shutdown`. An error cannot be helped by asking again.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Refusal> {
        let mut pause = PAUSE.0;
        let mut turn = 0;
        let mut hint = None;
        let mut complaints = Complaints::default();
        // Who was asked last, or had named who was.
        let mut origin: Option<String> = None;
        let mut in_vain = None;
        let mut known = false;
        loop {
            let followed = hint.is_some();
            let asked = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                asked = self.ask(turn, hint.take(), in_vain.take()) => asked,
            };
            match asked {
                Ok(zone) => {
                    if !std::mem::replace(&mut known, true) {
                        info!("known to the cluster");
                    }
                    if zone == self.zone {
                        return Ok(());
                    }
                    pause = RELABEL;
                }
                Err(refusal) => {
                    if !followed {
                        origin = refusal.operand(ASKED).map(str::to_owned);
                    }
                    if self.cannot_be_helped(&refusal) {
                        error!(%refusal, "the cluster does not take this coordinator in");
                        return Err(refusal);
                    }
                    complaints.take(&refusal, followed);
                    hint = refusal.operand("leader_api").map(str::to_owned);
                    if origin.as_ref() == self.seed(turn) && hint.is_none() {
                        turn += 1;
                    }
                    in_vain = origin.clone().filter(|_| is_of_no_use(&refusal));
                }
            }
            let wait = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            pause = (pause * 2).min(PAUSE.1);
            let mut leadership = self.raft.leadership();
            leadership.mark_unchanged();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
                // An election is news: ask the new leader at once.
                _ = leadership.changed() => {}
            }
        }
    }

    /// Whether asking again cannot help: where the disk knows a cluster, somebody else may be of that one.
    fn cannot_be_helped(&self, refusal: &Refusal) -> bool {
        let elsewhere = refusal.reason == Reason::WrongCluster && self.raft.cluster_id().is_none();
        elsewhere || is_final(refusal)
    }

    fn seed(&self, turn: usize) -> Option<&String> {
        self.seeds.get(turn % self.seeds.len().max(1))
    }

    /// The zone that the registry has of this coordinator now. `in_vain`: who was no help just now; another one is asked.
    async fn ask(
        &self,
        turn: usize,
        hint: Option<String>,
        in_vain: Option<String>,
    ) -> Result<Option<ZoneName>, Refusal> {
        let leadership = self.raft.leadership().borrow().clone();
        if leadership.since.is_some() {
            return self.enter_own().await;
        }
        if self.raft.founds() {
            // It would ask itself, and is no stranger there.
            return Err(JoinError::NotBootstrapped.to_refusal());
        }
        // Who names a leader knows of a cluster.
        if self.raft.cluster_id().is_none()
            && hint.is_none()
            && let Some(timing) = self.found.clone()
        {
            if let Some(endpoint) = self.cluster_among_seeds().await? {
                return self.ask_at(&endpoint).await;
            }
            self.raft.found(timing).await.map_err(internal)?;
            return Err(JoinError::NotBootstrapped.to_refusal());
        }
        // A witness that leads takes nobody in; it hands leadership over soon.
        let known = leadership.leader.filter(|l| !l.witness).map(|l| l.api_endpoint);
        // A node that is left alone goes on naming its last leader, which may be gone, or of another cluster by now.
        let known = known.filter(|known| in_vain.as_ref() != Some(known) || self.seeds.is_empty());
        match hint.or(known).or_else(|| self.seed(turn).cloned()) {
            Some(endpoint) => self.ask_at(&endpoint).await,
            None => Err(Refusal::new(
                Reason::Unreachable,
                "no leader is known, and none to ask for one",
            )),
        }
    }

    /// This coordinator leads: it enters itself.
    async fn enter_own(&self) -> Result<Option<ZoneName>, Refusal> {
        let Some(api) = &self.api else {
            let text = "this witness leads until it has handed leadership over";
            return Err(Refusal::new(Reason::NotServing, text));
        };
        let deadline = Instant::now() + PATIENCE;
        let peer = self.raft.own_peer().clone();
        let cluster_id = self.raft.cluster_id();
        let request = JoinRequest {
            peer: peer.clone(),
            cluster_id: cluster_id.ok_or_else(|| JoinError::NotBootstrapped.to_refusal())?,
            supported_level: self.raft.supported_level(),
        };
        let added = self.raft.add_member(request, deadline).await;
        added.map_err(|e| e.to_refusal())?;
        let caller = Caller {
            principal: api.own_principal(),
            received: Instant::now(),
            deadline,
        };
        let entered = api.register_coordinator(&caller, &peer, self.incarnation, self.zone.clone());
        entered.await.map_err(|status| from_status(&status))?;
        Ok(api.zone_of(&peer.node))
    }

    /// A seed that knows of a cluster; none only if every seed says that it knows of none. This node's own founding that a
    /// crash cut off goes on without asking: nobody else can have written its log.
    async fn cluster_among_seeds(&self) -> Result<Option<String>, Refusal> {
        if self.raft.has_begun().await.map_err(internal)? {
            return Ok(None);
        }
        let asked = join_all(
            self.seeds
                .iter()
                .map(|seed| async move { (seed, self.knows_a_cluster(seed).await) }),
        );
        let (mut silent, mut whys) = (Vec::new(), Vec::new());
        for (seed, answer) in asked.await {
            match answer {
                Ok(true) => return Ok(Some(seed.clone())),
                Ok(false) => {}
                Err(refusal) => {
                    silent.push(seed.as_str());
                    whys.push(refusal.message);
                }
            }
        }
        if silent.is_empty() {
            return Ok(None);
        }
        let whys = whys.join("; ");
        let text = format!("founds no cluster before each of `join` has said that it knows of none: {whys}");
        Err(Refusal::new(Reason::Unreachable, text).with(ASKED, silent.join(", ")))
    }

    async fn knows_a_cluster(&self, endpoint: &str) -> Result<bool, Refusal> {
        let asked = async {
            let mut seed = ClusterServiceClient::new(self.connect(endpoint).await?);
            let answer = seed.get_status(pb::GetStatusRequest {}).await;
            answer.map_err(|status| from_status(&status))
        };
        let late = |_| Refusal::new(Reason::Unreachable, "it does not answer");
        let status = tokio::time::timeout(CONNECT * 2, asked).await.map_err(late)??;
        Ok(status
            .into_inner()
            .header
            .is_some_and(|h| !h.cluster_id.is_empty()))
    }

    async fn connect(&self, endpoint: &str) -> Result<Channel, Refusal> {
        let unreachable = |e: tonic::transport::Error| Refusal::new(Reason::Unreachable, causes(&e));
        let plain = Endpoint::from_shared(endpoint.to_owned())
            .map_err(unreachable)?
            .connect_timeout(CONNECT)
            .timeout(PATIENCE);
        let secure = self.tls.calls().secure(plain, Callee::AnyCoordinator);
        secure.map_err(unreachable)?.connect().await.map_err(unreachable)
    }

    async fn ask_at(&self, endpoint: &str) -> Result<Option<ZoneName>, Refusal> {
        let asked = self.try_ask_at(endpoint).await;
        asked.map_err(|refusal| refusal.with(ASKED, endpoint))
    }

    async fn try_ask_at(&self, endpoint: &str) -> Result<Option<ZoneName>, Refusal> {
        let mut leader = ClusterServiceClient::new(self.connect(endpoint).await?);
        if self.raft.is_witness() {
            check_knows_witnesses(&mut leader).await?;
        }
        if self.raft.cluster_id().is_none() {
            let welcome = leader.join(self.request()).await;
            let welcome = welcome.map_err(|status| from_status(&status))?.into_inner();
            self.enter_cluster(&welcome.cluster_id)?;
        }
        let answer = leader.join(self.request()).await;
        let answer = answer.map_err(|status| from_status(&status))?;
        regions::zone(&answer.into_inner().zone)
    }

    /// Writes down that this node is new to a cluster.
    fn enter_cluster(&self, cluster_id: &str) -> Result<(), Refusal> {
        let unnamed = |e: types::InvalidId| {
            let text = format!("the leader does not name its cluster: {e}");
            Refusal::new(Reason::ClusterState, text)
        };
        let cluster_id = cluster_id.parse().map_err(unnamed)?;
        let entered = self.raft.enter_cluster(cluster_id);
        entered.map_err(|e| Refusal::new(Reason::Internal, format!("node.json: {e}")))
    }

    fn request(&self) -> pb::JoinRequest {
        let peer = self.raft.own_peer();
        let cluster_id = self.raft.cluster_id();
        pb::JoinRequest {
            node: peer.node.to_string(),
            region: peer.region.to_string(),
            api_endpoint: peer.api_endpoint.clone(),
            raft_endpoint: peer.raft_endpoint.clone(),
            incarnation: self.incarnation.to_string(),
            cluster_id: cluster_id.map(|id| id.to_string()).unwrap_or_default(),
            disk_id: peer.disk.map(|id| id.to_string()).unwrap_or_default(),
            supported_level: self.raft.supported_level(),
            zone: regions::zone_to_pb(self.zone.as_ref()),
            witness: peer.witness,
        }
    }
}

/// A build that does not know of witnesses would take this one in as a voter with a state.
async fn check_knows_witnesses(leader: &mut ClusterServiceClient<Channel>) -> Result<(), Refusal> {
    let status = leader.get_status(pb::GetStatusRequest {}).await;
    let status = status.map_err(|status| from_status(&status))?.into_inner();
    let (level, needs) = (status.feature_level, Feature::Witnesses.level());
    // Another witness knows no level; it says who serves when it is asked.
    if status.witness || level >= needs {
        return Ok(());
    }
    let text = format!(
        "a witness takes feature level {needs}, and {} is at {level}: the level rises once every coordinator's build knows it",
        status.node
    );
    Err(Refusal::new(Reason::NotServing, text))
}

/// The operand that names who was asked.
const ASKED: &str = "asked";

/// What is said of a coordinator that is not known to its cluster yet.
struct Complaints {
    /// Of those that it asked.
    asked: Complaint,
    /// Where there was nobody to ask.
    own: Complaint,
}

impl Default for Complaints {
    fn default() -> Self {
        Self {
            asked: Complaint::default(),
            own: Complaint::after(ELECTION),
        }
    }
}

impl Complaints {
    /// Takes in why an attempt failed. `followed`: somebody had named who was asked as the leader.
    fn take(&mut self, refusal: &Refusal, followed: bool) {
        let why = format!("{} ({})", refusal.message, refusal.reason);
        // To be sent on is no failure, unless it leads from one to the next.
        if !followed && refusal.operand("leader_api").is_some() {
            return;
        }
        if let Some(endpoint) = refusal.operand(ASKED) {
            if let Some(why) = self.asked.news(endpoint, &why) {
                warn!(endpoint, "not known to the cluster yet: {why}");
            }
        } else if let Some(why) = self.own.news("", &why) {
            warn!("not known to the cluster yet: {why}");
        }
    }
}

fn internal(text: String) -> Refusal {
    Refusal::new(Reason::Internal, text)
}

/// Whether who was asked is no way to the cluster, for now.
fn is_of_no_use(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason,
        Reason::Unreachable | Reason::OutcomeUnknown | Reason::WrongCluster
    )
}

/// Whether asking again, or somebody else, cannot help: a name that is taken, a certificate that names somebody else, another
/// process that took over, a disk that was lost, a build that is too old.
fn is_final(refusal: &Refusal) -> bool {
    // What a leader of a later version says for a reason of its own may pass.
    let is_known = refusal.operand(UNKNOWN_REASON).is_none();
    is_known
        && matches!(
            refusal.reason,
            Reason::AlreadyExists
                | Reason::InvalidArgument
                | Reason::IllegalTransition
                | Reason::StaleIncarnation
                | Reason::FeatureLevel
                | Reason::NodeRemoved
        )
        || (is_known && refusal.reason == Reason::PermissionDenied && refusal.operand("grpc_code").is_none())
        || refusal.operand(JoinError::LOST_DISK).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_build_knows_to_be_final_ends_a_coordinator() {
        let refusal = |reason| Refusal::new(reason, "no");
        assert!(is_final(&refusal(Reason::IllegalTransition)));
        assert!(is_final(&refusal(Reason::PermissionDenied)));
        assert!(is_final(
            &refusal(Reason::ClusterState).with(JoinError::LOST_DISK, "c1")
        ));
        // A proxy says so.
        assert!(!is_final(
            &refusal(Reason::PermissionDenied).with("grpc_code", "Unauthenticated")
        ));
        for passing in [Reason::WrongCluster, Reason::ClusterState, Reason::NotServing] {
            assert!(!is_final(&refusal(passing)), "{passing}");
        }
        for nearest in [Reason::IllegalTransition, Reason::PermissionDenied] {
            let newer = refusal(nearest).with(UNKNOWN_REASON, "CLOCK_STRUCK");
            assert!(!is_final(&newer), "{nearest}");
        }
    }
}
