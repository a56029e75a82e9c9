//! Founding a cluster and taking coordinators in, one typed step at a time.
//!
//! Invariant: every step may be repeated; whoever asks again goes on where the last attempt ended. One change of
//! membership runs at a time, and each goes through joint consensus.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::{
    ChangeMembers,
    async_runtime::WatchReceiver as _,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};
use state::{Command, Feature};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{error, info, warn};
use types::{ClusterId, Principal, RequestId, role::TimingPolicy};
use uuid::Uuid;

use super::{
    JoinRequest, RaftNode,
    error::{CannotLead, JoinError, LeaderHint, ProposeError},
    types::{Membership, Peer, raft_id},
    view::Member,
};

/// A learner this close behind the leader becomes a voter.
pub(super) const CAUGHT_UP_WITHIN: u64 = 64;

/// Before the deadline of a caller who should hear what is missing.
const TELL_WITHIN: Duration = Duration::from_millis(500);

/// What a coordinator that joins needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinStep {
    /// Nobody knows it: it becomes a learner.
    AddLearner,
    /// It moved: the others learn where it is.
    UpdateEndpoints,
    /// It listens: once it has caught up it becomes a voter.
    Promote,
    /// It votes, and everybody knows where it is.
    Done,
}

/// What `peer` needs next, under `membership`. An id that belongs to another name is a collision; a disk that is not the
/// member's never stored what the leader counts on.
pub(crate) fn next_step(membership: &Membership, peer: &Peer) -> Result<JoinStep, JoinError> {
    let id = raft_id(&peer.node);
    let Some(known) = membership.get_node(&id) else {
        return Ok(JoinStep::AddLearner);
    };
    if known.node != peer.node {
        return Err(JoinError::IdCollision {
            node: peer.node.clone(),
            member: known.node.clone(),
            raft_id: id,
        });
    }
    if known
        .disk
        .is_some_and(|known| peer.disk.is_some_and(|shown| shown != known))
    {
        return Err(JoinError::OtherDisk {
            node: peer.node.clone(),
        });
    }
    if known.witness != peer.witness {
        return Err(JoinError::OtherKind {
            node: peer.node.clone(),
            witness: known.witness,
        });
    }
    let voter = membership.voter_ids().any(|v| v == id);
    Ok(match (*known == peer.after(known), voter) {
        (false, _) => JoinStep::UpdateEndpoints,
        (true, false) => JoinStep::Promote,
        (true, true) => JoinStep::Done,
    })
}

impl RaftNode {
    /// Takes a coordinator in: as a learner, then as a voter once it has caught up. Leader only. Idempotent: a member
    /// that asks again only has its endpoints brought up to date. The answer lists the members.
    pub async fn add_member(
        &self,
        request: JoinRequest,
        deadline: Instant,
    ) -> Result<Vec<Member>, JoinError> {
        self.confirm_leadership(deadline).await?;
        self.check_cluster(&request)?;
        let changing = timeout_at(deadline, self.membership_changes().lock());
        let _changing = changing
            .await
            .map_err(|_| out_of_time("another change of membership"))?;
        // One that is too old now need not be added first; `promote` has the last word.
        self.check_features(&request)?;
        self.check_witnesses_are_known(&request.peer)?;
        loop {
            self.check_not_removed(&request.peer)?;
            let step = next_step(&self.membership(), &request.peer)?;
            if step == JoinStep::Done {
                return Ok(self.members());
            }
            info!(node = %request.peer.node, ?step, "taking a coordinator in");
            let done = timeout_at(deadline, self.take_step(step, &request, deadline));
            done.await.map_err(|_| out_of_time("a change of membership"))??;
        }
    }

    /// What a coordinator whose disk has seen no cluster needs to hear before it may store or vote: that this cluster
    /// never counted on that disk. Leader only. A member is refused, also one that does not vote yet: the leader counts
    /// on what it has acknowledged.
    pub async fn welcome(&self, peer: &Peer, deadline: Instant) -> Result<ClusterId, JoinError> {
        self.confirm_leadership(deadline).await?;
        let ours = self.cluster_id().ok_or(JoinError::NotBootstrapped)?;
        match next_step(&self.membership(), peer) {
            Ok(JoinStep::AddLearner) => Ok(ours),
            Ok(JoinStep::UpdateEndpoints | JoinStep::Promote | JoinStep::Done)
            | Err(JoinError::OtherDisk { .. }) => Err(JoinError::LostDisk {
                node: peer.node.clone(),
            }),
            Err(other) => Err(other),
        }
    }

    /// The certificate of one that was taken out is good for another disk only.
    fn check_not_removed(&self, peer: &Peer) -> Result<(), JoinError> {
        match self.is_removed(&peer.node, peer.disk) {
            true => Err(JoinError::Removed {
                node: peer.node.clone(),
            }),
            false => Ok(()),
        }
    }

    fn check_cluster(&self, request: &JoinRequest) -> Result<(), JoinError> {
        let ours = self.cluster_id().ok_or(JoinError::NotBootstrapped)?;
        if request.cluster_id == ours {
            return Ok(());
        }
        Err(JoinError::OtherCluster {
            node: request.peer.node.clone(),
            theirs: request.cluster_id,
            ours,
        })
    }

    fn check_features(&self, request: &JoinRequest) -> Result<(), JoinError> {
        let level = self.read(|state| state.features().level());
        if request.supported_level >= level {
            return Ok(());
        }
        Err(JoinError::TooOld {
            node: request.peer.node.clone(),
            supported: request.supported_level,
            level,
        })
    }

    /// A voter whose build does not know of witnesses would count one's state, and hand leadership over to it.
    fn check_witnesses_are_known(&self, peer: &Peer) -> Result<(), JoinError> {
        let features = self.read(state::ControlState::features);
        if !peer.witness || features.has(Feature::Witnesses) {
            return Ok(());
        }
        let (level, needs) = (features.level(), Feature::Witnesses.level());
        Err(JoinError::NotYet {
            node: peer.node.clone(),
            missing: format!(
                "a witness takes feature level {needs}, and the cluster is at {level}: the level rises once every coordinator's build \
                 knows it"
            ),
        })
    }

    async fn take_step(
        &self,
        step: JoinStep,
        request: &JoinRequest,
        deadline: Instant,
    ) -> Result<(), JoinError> {
        match step {
            JoinStep::AddLearner => {
                let one = self.entry_of(&request.peer);
                Ok(self.change(ChangeMembers::AddNodes(one), true).await.map(drop)?)
            }
            JoinStep::UpdateEndpoints => self.update_endpoints(&request.peer).await.map(drop),
            JoinStep::Promote => self.promote(request, deadline).await,
            JoinStep::Done => Ok(()),
        }
    }

    fn entry_of(&self, peer: &Peer) -> BTreeMap<u64, Peer> {
        let id = raft_id(&peer.node);
        let membership = self.membership();
        let known = membership.get_node(&id).unwrap_or(peer);
        BTreeMap::from([(id, peer.after(known))])
    }

    /// False where another change was under way, and this one was not made.
    async fn update_endpoints(&self, peer: &Peer) -> Result<bool, JoinError> {
        Ok(self
            .change(ChangeMembers::SetNodes(self.entry_of(peer)), true)
            .await?)
    }

    /// A raise of the level may have been in the log, unapplied, when the request was looked at, and its proposer may have
    /// given up waiting. Whoever raises next holds the lock on changes, so once an entry of ours is applied behind that one
    /// the level stays until the newcomer votes, and is among those who are asked.
    async fn promote(&self, request: &JoinRequest, deadline: Instant) -> Result<(), JoinError> {
        let id = raft_id(&request.peer.node);
        self.caught_up(id).await?;
        if self.update_endpoints(&request.peer).await? {
            self.check_features(request)?;
            self.check_distance(&request.peer, deadline).await?;
            let voter = BTreeSet::from([id]);
            self.change(ChangeMembers::AddVoterIds(voter), true).await?;
        }
        Ok(())
    }

    /// A voter that cannot answer in time would count against the majority, and campaign. A little before the deadline this
    /// ends with what is missing: more helpful than that time is up.
    async fn check_distance(&self, peer: &Peer, deadline: Instant) -> Result<(), JoinError> {
        let deadline = deadline.checked_sub(TELL_WITHIN).unwrap_or(deadline);
        let admitted = self.admits(peer, deadline).await;
        admitted.map_err(|missing| JoinError::NotYet {
            node: peer.node.clone(),
            missing,
        })
    }

    /// Waits until the learner stores nearly all that the leader does.
    async fn caught_up(&self, id: u64) -> Result<(), ProposeError> {
        let mut metrics = self.raft().metrics();
        loop {
            let (leads, near) = {
                let now = metrics.borrow_watched();
                let matched = now
                    .replication
                    .as_ref()
                    .and_then(|r| r.get(&id).cloned().flatten());
                let behind = now
                    .last_log_index
                    .unwrap_or(0)
                    .saturating_sub(matched.map_or(0, |m| m.index()));
                (
                    now.replication.is_some(),
                    matched.is_some() && behind <= CAUGHT_UP_WITHIN,
                )
            };
            if near {
                return Ok(());
            }
            if !leads {
                return Err(ProposeError::NotLeader { leader: None });
            }
            metrics.changed().await.map_err(|_| stopped())?;
        }
    }

    /// One change through the log: true once it is applied. A change that is still under way is waited for: false, and
    /// the caller decides anew. Voters that leave go on listening where `retain` says so.
    pub(super) async fn change(
        &self,
        change: ChangeMembers<u64, Peer>,
        retain: bool,
    ) -> Result<bool, ProposeError> {
        match self.raft().change_membership(change, retain).await {
            Ok(_) => Ok(true),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            ))) => {
                let mut metrics = self.raft().metrics();
                metrics.changed().await.map_err(|_| stopped())?;
                Ok(false)
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(self.forwarded(&forward))
            }
            Err(other) => Err(ProposeError::OutcomeUnknown {
                detail: other.to_string(),
            }),
        }
    }

    /// A leader that was started with other endpoints tells the others.
    pub(crate) async fn announce_own_endpoints(&self) {
        let own = self.own_peer();
        if next_step(&self.membership(), own) != Ok(JoinStep::UpdateEndpoints) {
            return;
        }
        let _changing = self.membership_changes().lock().await;
        if let Err(error) = self.update_endpoints(own).await {
            warn!(%error, "own endpoints are not announced yet");
        }
    }

    /// Hands leadership to `to`, or to the most caught-up other voter, and waits until another node leads. Leader only;
    /// call it before a planned stop.
    pub async fn transfer_leadership(
        &self,
        to: Option<types::NodeId>,
        deadline: Instant,
    ) -> Result<LeaderHint, ProposeError> {
        let mut leadership = self.leadership();
        let target = self.next_leader(to.as_ref())?;
        let handed = self.raft().trigger().transfer_leader(target.raft_id).await;
        handed.map_err(|_| stopped())?;
        let own = self.own_id();
        let other = leadership.wait_for(|l| l.leader.as_ref().is_some_and(|hint| hint.raft_id != own));
        match timeout_at(deadline, other).await {
            Ok(Ok(now)) => now.leader.clone().ok_or(ProposeError::NotLeader { leader: None }),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(ProposeError::OutcomeUnknown {
                detail: format!("{} has not taken over yet", target.peer.node),
            }),
        }
    }

    /// Who would take over from this node: `to`, or the most caught-up other voter. Leader only.
    pub(crate) fn next_leader(&self, to: Option<&types::NodeId>) -> Result<Member, ProposeError> {
        let leadership = self.leadership();
        if !leadership.borrow().is_leader {
            let leader = leadership.borrow().leader.clone();
            return Err(ProposeError::NotLeader { leader });
        }
        let lately = self.timing().election_max;
        let mut others = self.members();
        others.retain(|m| m.raft_id != self.own_id());
        match to {
            Some(node) => named(others, node, lately),
            None => successor(others, lately).ok_or_else(|| ProposeError::NoQuorum {
                detail: "there is no other voter to hand over to".to_owned(),
            }),
        }
    }

    /// Makes this node the only voter of a new log; the rest is [`Self::found_cluster`]'s.
    pub(crate) async fn initialize(&self) -> Result<(), String> {
        let only = BTreeMap::from([(self.own_id(), self.own_peer().clone())]);
        self.raft().initialize(only).await.map_err(|e| e.to_string())
    }

    /// Proposes the cluster's first entry as soon as this node leads, unless it is there already: an earlier start may
    /// have come this far and died. Ends when the cluster has its name, or the node stops.
    pub(crate) async fn found_cluster(&self, timing: TimingPolicy) {
        let mut leadership = self.leadership();
        while self.cluster_id().is_none() {
            if leadership.wait_for(|l| l.since.is_some()).await.is_err() {
                return;
            }
            let command = Command::InitCluster {
                cluster_id: ClusterId::from_u128(Uuid::now_v7().as_u128()),
                generation: 1,
                timing: timing.clone(),
            };
            let actor = Principal::Coordinator {
                region: self.own_peer().region.clone(),
                node: self.own_peer().node.clone(),
            };
            let request_id = RequestId::from_u128(Uuid::now_v7().as_u128());
            let deadline = Instant::now() + self.timing().election_max * 10;
            match self.propose(actor, request_id, command, deadline).await {
                Ok(proposed) => match proposed.outcome {
                    Ok(_) => info!(revision = %proposed.revision, "cluster founded"),
                    Err(rejection) => {
                        error!(rejection = %rejection.to_refusal(), "the cluster's first entry was refused");
                        return;
                    }
                },
                Err(error) => warn!(%error, "the cluster is not founded yet"),
            }
            sleep(self.timing().heartbeat).await;
        }
    }
}

/// The voter of this name, if it can take over.
fn named(others: Vec<Member>, node: &types::NodeId, lately: Duration) -> Result<Member, ProposeError> {
    let cannot = |why| ProposeError::CannotLead {
        node: node.clone(),
        why,
    };
    let found = others.into_iter().find(|m| m.voter && m.peer.node == *node);
    let member = found.ok_or_else(|| cannot(CannotLead::NoVoter))?;
    // Of whom nothing is known yet, this leader has only just begun.
    let silent = member.silent_millis.map(Duration::from_millis);
    if member.peer.witness {
        return Err(cannot(CannotLead::Witness));
    }
    match silent.is_some_and(|silent| silent >= lately) {
        true => Err(cannot(CannotLead::Silent)),
        false => Ok(member),
    }
}

/// The voter that takes over best: one that answered within `lately`, and of those the most caught-up. No witness.
pub(super) fn successor(others: Vec<Member>, lately: Duration) -> Option<Member> {
    let answers = |m: &Member| {
        m.silent_millis
            .is_some_and(|ms| Duration::from_millis(ms) < lately)
    };
    let voters = others.into_iter().filter(|m| m.voter && !m.peer.witness);
    voters.max_by_key(|m| (answers(m), m.matched))
}

fn stopped() -> ProposeError {
    ProposeError::NotServing {
        detail: "raft stopped".to_owned(),
    }
}

pub(super) fn out_of_time(what: &str) -> ProposeError {
    ProposeError::OutcomeUnknown {
        detail: format!("{what} did not end before the deadline; asking again goes on with it"),
    }
}
