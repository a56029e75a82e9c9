//! Taking coordinators out, one typed step at a time; and ending what a leader left half made.
//!
//! Whether a change is safe is decided in [`policy::membership`]. That somebody is to go is an entry of the log first, which
//! bars the disk and names who asked; then the membership changes. So whoever leads next goes on with it.
//!
//! Invariant: a change is made only after `policy::membership` allowed it, under the lock on changes; and a joint membership
//! that was left behind is ended before anything else is changed.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, time::Duration};

use openraft::{ChangeMembers, async_runtime::WatchReceiver as _};
use policy::membership::{self, Change, Refused, Survival, Warning};
use state::{Command, Feature, Rejection};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};
use types::{
    DiskId, NodeId, Principal, RequestId,
    reason::{Reason, Refusal},
};

use super::{
    RaftNode,
    error::ProposeError,
    membership::{CAUGHT_UP_WITHIN, out_of_time},
    types::raft_id,
    view::Member,
};

/// How often a leader looks for changes that were left half made.
const LOOK: Duration = Duration::from_secs(1);
/// How long one try to end such a change may take.
const TRY: Duration = Duration::from_secs(10);

/// Somebody wants a coordinator out.
#[derive(Clone, Debug)]
pub struct RemoveRequest {
    /// Its name.
    pub node: NodeId,
    /// Only this disk of that name; `None`: whichever it is.
    pub disk: Option<DiskId>,
    /// Also where region survival is lost by it.
    pub accept_region_loss: bool,
    /// Only say what would be done.
    pub validate_only: bool,
    /// Who asks.
    pub actor: Principal,
    /// The name of the request (I9).
    pub request_id: RequestId,
}

/// What a removal does, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalStep {
    /// It leads: another voter takes over first.
    HandOver,
    /// The log says that it goes, and its disk is barred.
    Bar(Option<DiskId>),
    /// The membership goes on without it.
    TakeOut,
}

impl fmt::Display for RemovalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandOver => f.write_str("hand leadership over to another voter"),
            Self::Bar(Some(disk)) => write!(f, "bar disk {disk}, by an entry in the log"),
            Self::Bar(None) => f.write_str("say so in the log; its disk has no id that could be barred"),
            Self::TakeOut => f.write_str("take it out of the membership"),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// What was done, or would be; empty where it was gone already.
    pub steps: Vec<RemovalStep>,
    /// What is to be said of the cluster without it.
    pub warnings: Vec<String>,
    /// The members now.
    pub members: Vec<Member>,
}

/// Why a coordinator was not taken out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// It would not be safe, or there is no such member.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A rule of the state machine said no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The name belongs to another disk by now.
    #[error(
        "{node} is a member with disk {current}, not with disk {shown}: the one that was meant is gone already"
    )]
    OtherDisk {
        /// Who was named.
        node: NodeId,
        /// The disk that was meant.
        shown: DiskId,
        /// The member's.
        current: String,
    },
    /// The change has no answer; asking again goes on with it.
    #[error(transparent)]
    Raft(#[from] ProposeError),
}

impl RemoveError {
    /// The refusal as it travels.
    pub fn to_refusal(&self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::Refused(Refused::NoMember { node }) => {
                Refusal::new(Reason::NodeNotFound, text).with("node", node)
            }
            Self::Refused(refused) => {
                let refusal = Refusal::new(Reason::MembershipUnsafe, text).with("rule", rule(refused));
                match refused {
                    Refused::RegionSurvival { region, .. } => refusal.with("region", region),
                    _ => refusal,
                }
            }
            Self::Rejected(rejection) => rejection.to_refusal(),
            Self::OtherDisk { shown, current, .. } => Refusal::new(Reason::ClusterState, text)
                .with("shown", shown)
                .with("current", current),
            Self::Raft(error) => error.to_refusal(),
        }
    }
}

/// Which rule it is, as an operand.
const fn rule(refused: &Refused) -> &'static str {
    match refused {
        Refused::NoMember { .. } => "member",
        Refused::UnderWay => "one_change_at_a_time",
        Refused::LastVoter { .. } => "last_voter",
        Refused::LastServing { .. } => "last_serving",
        Refused::NoQuorum { .. } => "quorum",
        Refused::TooFewCaughtUp { .. } => "caught_up",
        Refused::RegionSurvival { .. } => "region_survival",
    }
}

/// Said where not all builds know how to bar a disk.
const NOT_BARRED: &str = "not every coordinator runs a version that can bar a disk yet: keep the removed one from being started again";

impl RaftNode {
    /// Takes a coordinator out. Leader only; a leader that is to go hands over first, and names the next. Idempotent: one
    /// that is gone already is no error.
    pub async fn remove_member(
        &self,
        request: RemoveRequest,
        deadline: Instant,
    ) -> Result<Removal, RemoveError> {
        self.confirm_leadership(deadline).await?;
        let changing = timeout_at(deadline, self.membership_changes().lock()).await;
        let _changing = changing.map_err(|_| out_of_time("another change of membership"))?;
        self.check_request(&request)?;
        // A look only says what stands; it changes nothing.
        if !request.validate_only {
            self.end_joint(deadline).await?;
        }
        let Some(target) = self.target(&request)? else {
            return Ok(self.removal(Vec::new(), Vec::new()));
        };
        let change = Change::Remove {
            node: request.node.clone(),
            accept_region_loss: request.accept_region_loss,
        };
        let warnings = membership::decide(&self.settled_view(deadline).await, &change)?;
        let mut warnings: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        if !self.bars_disks() {
            warnings.push(NOT_BARRED.to_owned());
        }
        let steps = self.steps(&target);
        if request.validate_only {
            return Ok(self.removal(steps, warnings));
        }
        if target.raft_id == self.own_id() {
            return Err(self.step_aside(deadline).await.into());
        }
        info!(node = %request.node, actor = %request.actor, "taking a coordinator out");
        self.bar(&target, &request, deadline).await?;
        let taken = timeout_at(deadline, self.take_out(target.raft_id)).await;
        taken.map_err(|_| out_of_time("a change of membership"))??;
        Ok(self.removal(steps, warnings))
    }

    fn removal(&self, steps: Vec<RemovalStep>, warnings: Vec<String>) -> Removal {
        Removal {
            steps,
            warnings,
            members: self.members(),
        }
    }

    fn bars_disks(&self) -> bool {
        self.read(|state| state.features().has(Feature::CoordinatorsLeave))
    }

    fn steps(&self, target: &Member) -> Vec<RemovalStep> {
        let leads = (target.raft_id == self.own_id()).then_some(RemovalStep::HandOver);
        let bar = self.bars_disks().then_some(RemovalStep::Bar(target.peer.disk));
        leads
            .into_iter()
            .chain(bar)
            .chain([RemovalStep::TakeOut])
            .collect()
    }

    /// Before anything is changed, leadership too: an id that was good for something else, or for another caller, is no retry.
    fn check_request(&self, request: &RemoveRequest) -> Result<(), RemoveError> {
        let members = self.members().into_iter();
        let mut disks: Vec<_> = members
            .filter(|m| m.peer.node == request.node)
            .map(|m| m.peer.disk)
            .collect();
        disks.extend([request.disk, None]);
        let RemoveRequest {
            request_id,
            actor,
            node,
            ..
        } = request;
        match self.read(|state| state.asked_for_another(*request_id, actor, node, &disks)) {
            true => Err(Rejection::RequestReused {
                request_id: *request_id,
            }
            .into()),
            false => Ok(()),
        }
    }

    /// The member that is meant; none where it was taken out before.
    fn target(&self, request: &RemoveRequest) -> Result<Option<Member>, RemoveError> {
        let mut members = self.members().into_iter();
        let member = members.find(|m| m.peer.node == request.node);
        let gone = self.read(|state| {
            let mut removed = state.removed_coordinators().iter();
            removed.any(|r| r.node == request.node && request.disk.is_none_or(|disk| r.disk == Some(disk)))
        });
        match (member, request.disk) {
            (Some(member), Some(shown)) if member.peer.disk != Some(shown) => match gone {
                true => Ok(None),
                false => Err(RemoveError::OtherDisk {
                    node: request.node.clone(),
                    shown,
                    current: member.peer.disk.map_or_else(String::new, |disk| disk.to_string()),
                }),
            },
            (Some(member), _) if gone && self.is_successor(&member, request) => Ok(None),
            (Some(member), _) => Ok(Some(member)),
            (None, _) if gone => Ok(None),
            (None, _) => Err(Refused::NoMember {
                node: request.node.clone(),
            }
            .into()),
        }
    }

    /// Whether this very request took out another disk of the name before: whoever asks again means that one.
    fn is_successor(&self, member: &Member, request: &RemoveRequest) -> bool {
        self.read(|state| {
            let mut removed = state.removed_coordinators().iter();
            let is_barred = removed.any(|r| r.node == request.node && r.disk == member.peer.disk);
            let disk = member.peer.disk;
            !is_barred && state.took_out(request.request_id, &request.actor, &request.node, disk)
        })
    }

    /// The members, each of whom had the time to answer anew: one that died a moment ago is not counted on.
    async fn settled_view(&self, deadline: Instant) -> membership::Membership {
        let timing = self.timing();
        let began = Instant::now();
        // Half of what is left is for the change itself. Whoever was not heard by then does not count, so less time refuses more.
        let until = began + (timing.election_max * 2).min(deadline.saturating_duration_since(began) / 2);
        let mut metrics = self.raft().metrics();
        loop {
            let view = self.membership_view(began.elapsed());
            if view.voters.iter().all(|v| v.answers && v.caught_up) || Instant::now() >= until {
                return view;
            }
            let changed = timeout(timing.heartbeat, metrics.changed()).await;
            if changed.is_ok_and(|changed| changed.is_err()) {
                return view;
            }
        }
    }

    /// The members as the rules look at them, where this node leads. Who has been silent for longer than `lately` does not
    /// answer.
    pub(crate) fn membership_view(&self, lately: Duration) -> membership::Membership {
        let last = self.status().last_log.0;
        let mut view = membership::Membership {
            changing: self.is_changing_membership(),
            ..membership::Membership::default()
        };
        for member in self.members() {
            if !member.voter {
                view.learners.insert(member.peer.node);
                continue;
            }
            let own = member.raft_id == self.own_id();
            let silent = member.silent_millis.map(Duration::from_millis);
            let matched = member.matched.map_or(0, |revision| revision.0);
            view.voters.push(membership::Voter {
                answers: own || silent.is_some_and(|silent| silent < lately),
                caught_up: own || matched + CAUGHT_UP_WITHIN >= last,
                witness: member.peer.witness,
                node: member.peer.node,
                region: member.peer.region,
            });
        }
        view
    }

    /// Whether two sets of voters must agree now, because a change of membership has not ended.
    pub fn is_changing_membership(&self) -> bool {
        self.membership().get_joint_config().len() > 1
    }

    /// What becomes of the majority when one region is lost; `None` where this node does not lead.
    pub fn region_survival(&self) -> Option<Survival> {
        let leads = self.leadership().borrow().is_leader;
        let lately = self.timing().election_max;
        leads.then(|| membership::survival(&self.membership_view(lately).voters))
    }

    /// Nothing was changed by it, so the caller may go on with the next leader.
    async fn step_aside(&self, deadline: Instant) -> ProposeError {
        match self.transfer_leadership(None, deadline).await {
            Ok(leader) => ProposeError::NotLeader { leader: Some(leader) },
            Err(ProposeError::OutcomeUnknown { detail }) => ProposeError::NotServing { detail },
            Err(other) => other,
        }
    }

    async fn bar(
        &self,
        target: &Member,
        request: &RemoveRequest,
        deadline: Instant,
    ) -> Result<(), RemoveError> {
        if !self.bars_disks() {
            return Ok(());
        }
        let command = Command::RemoveCoordinator {
            node: request.node.clone(),
            disk: target.peer.disk,
        };
        let proposed = self.propose(request.actor.clone(), request.request_id, command, deadline);
        proposed.await?.outcome?;
        Ok(())
    }

    /// Until the member is none any more. Whoever calls it holds the lock on changes.
    async fn take_out(&self, id: u64) -> Result<(), ProposeError> {
        loop {
            let membership = self.membership();
            if membership.get_node(&id).is_none() {
                return Ok(());
            }
            let one = BTreeSet::from([id]);
            let change = match membership.voter_ids().any(|voter| voter == id) {
                true => ChangeMembers::RemoveVoters(one),
                false => ChangeMembers::RemoveNodes(one),
            };
            self.change(change, false).await?;
        }
    }

    /// Ends a joint membership, if there is one: who was to leave has left then.
    async fn end_joint(&self, deadline: Instant) -> Result<(), ProposeError> {
        while self.is_changing_membership() {
            info!("ending a change of membership that was left half made");
            let nobody = ChangeMembers::AddVoterIds(BTreeSet::new());
            let ended = timeout_at(deadline, self.change(nobody, false)).await;
            ended.map_err(|_| out_of_time("a change of membership"))??;
        }
        Ok(())
    }

    /// While this node leads: ends what a former leader, or a caller that gave up, left half made.
    pub(crate) async fn end_changes(self) {
        let since = self.leadership().borrow().since;
        while since.is_some() && self.leadership().borrow().since == since {
            if self.is_half_made() {
                let changing = self.membership_changes().lock().await;
                if let Err(error) = self.end_half_made().await {
                    debug!(%error, "a change of membership stays half made for now");
                }
                drop(changing);
            }
            sleep(LOOK).await;
        }
    }

    fn is_half_made(&self) -> bool {
        self.is_changing_membership() || self.barred_member().is_some()
    }

    /// One whose removal is in the log, and that is still a member.
    fn barred_member(&self) -> Option<Member> {
        let barred = |m: &Member| m.peer.disk.is_some_and(|disk| self.read(|s| s.is_barred(disk)));
        self.members().into_iter().find(barred)
    }

    async fn end_half_made(&self) -> Result<(), RemoveError> {
        let deadline = Instant::now() + TRY;
        self.end_joint(deadline).await?;
        let Some(barred) = self.barred_member() else {
            return Ok(());
        };
        // Whoever asked for it has been answered for the risk; the quorum is looked at anew.
        let change = Change::Remove {
            node: barred.peer.node.clone(),
            accept_region_loss: true,
        };
        membership::decide(&self.settled_view(deadline).await, &change)?;
        if barred.raft_id == self.own_id() {
            return Err(self.step_aside(deadline).await.into());
        }
        warn!(node = %barred.peer.node, "going on with a removal that was left half made");
        let taken = timeout_at(deadline, self.take_out(barred.raft_id)).await;
        Ok(taken.map_err(|_| out_of_time("a change of membership"))??)
    }

    /// Whether the log says that this disk left the cluster.
    pub(crate) fn is_removed(&self, node: &NodeId, disk: Option<DiskId>) -> bool {
        let id = raft_id(node);
        let member = self
            .membership()
            .get_node(&id)
            .is_some_and(|peer| peer.disk == disk);
        !member && disk.is_some_and(|disk| self.read(|state| state.is_barred(disk)))
    }
}
