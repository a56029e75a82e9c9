//! What a state becomes when a new cluster goes on from it: from a saved snapshot, or from one survivor's disk after the majority
//! is lost for good (L19).
//!
//! Whoever answered last may have promoted, answered and promised what is not in this state. So nothing that was given out
//! before is good any more: another cluster id voids tokens of watches and leases, a higher generation every epoch, roles are
//! held by nobody, running plans are given up, and every request id that may have been answered is too old. The first leader
//! waits the largest outstanding TTL out before it grants anything, as each new leader does (L8).
//!
//! Absent on purpose: files, membership, and signatures: doors follow by statements that the CA signed (`policy::rebind`), which
//! are only kept here.
//! Absent, too: what agents, pointers, databases and other survivors have seen. None of them need be there when a cluster is founded
//! from a file or a disk. Each door looks for itself: it follows to no generation that is not above what it saw
//! (`policy::rebind::follow`), and one that has not followed refuses by the cluster's id, whatever the generation.
//! Invariant: every epoch of the new state is above every one of the old.

use std::{sync::Arc, time::Duration};

use types::{
    ClusterId, Epoch, NodeId, Principal, Rebind, RequestId, Revision, SignedRebind, UnixMillis,
    history::{HealthChange, HealthSubject, Standing},
    plan::{PlanRecord, PlanState, StepState},
    region::{NodeKind, NodeRecord, NodeStatus},
    role::RoleRecord,
};

use crate::{
    features::Feature,
    requests::Answers,
    state::{ClusterRecord, ControlState, EVIDENCE_CHARS_MAX, FormerTtl, RoleState},
};

/// How a new cluster goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Its name.
    pub cluster_id: ClusterId,
    /// Above every generation in the state, which is all that is looked at here; who knows of a higher one elsewhere names one above
    /// that.
    pub generation: u32,
    /// The coordinator that founds it.
    pub founder: NodeId,
    /// The revision at which it begins, above that of the state.
    pub revision: Revision,
    /// Wall clock of the recovery. Requests that were made before it are too old.
    pub at: UnixMillis,
    /// The longest TTL that the lost cluster may have granted; that of the state counts where it is longer.
    pub outstanding_ttl: Duration,
    /// That it goes on from the old cluster, and from any other that its doors may belong to; signed or not.
    pub rebinds: Vec<SignedRebind>,
    /// What happened, for people: it stands in every role and plan that it changed.
    pub reason: String,
}

/// Why a state cannot be gone on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecoverable {
    /// There is nothing in it.
    #[error("the state has no cluster: nothing was ever committed to it")]
    NotBootstrapped,
    /// A name that was used must not mean two histories.
    #[error("the new cluster id is the old one, {0}")]
    SameCluster(ClusterId),
    /// Old epochs would pass for new ones.
    #[error("generation {shown} is not above {found}, which was found in the state")]
    Generation {
        /// The one that was asked for.
        shown: u32,
        /// The highest in the state.
        found: u32,
    },
    /// Doors would follow to another cluster than this one.
    #[error(
        "the statement {0:?} is not one of the new cluster and its generation, or names it as its own predecessor"
    )]
    Rebind(Rebind),
    /// What is changed would have no revision of its own.
    #[error("revision {shown} is not above {found}, that of the state")]
    Revision {
        /// The one that was asked for.
        shown: Revision,
        /// The state's.
        found: Revision,
    },
}

impl ControlState {
    /// The highest generation of any epoch in this state.
    pub fn highest_generation(&self) -> u32 {
        let cluster = self.cluster().map_or(0, |cluster| cluster.generation);
        let roles = self.roles.values().map(|role| role.highest_epoch.generation());
        roles.fold(cluster, u32::max)
    }

    /// The longest TTL that this state knows to be outstanding.
    pub fn longest_ttl(&self) -> Duration {
        let cluster = self.cluster().map_or(Duration::ZERO, |c| c.timing.lease_ttl);
        let roles = self.roles.values().map(RoleState::outstanding_ttl);
        roles.fold(cluster, Duration::max)
    }

    /// The state from which the new cluster goes on.
    pub fn recovered(&self, recovery: &Recovery) -> Result<Self, Unrecoverable> {
        let old = self.cluster().ok_or(Unrecoverable::NotBootstrapped)?;
        self.check_recovery(old, recovery)?;
        let cluster = ClusterRecord {
            cluster_id: recovery.cluster_id,
            generation: recovery.generation,
            modified: recovery.revision,
            // The founder is the only voter, and its build is this one.
            feature_level: old.feature_level.max(Feature::Rebinds.level()),
            rebinds: [old.rebinds.as_slice(), &recovery.rebinds].concat(),
            ..old.clone()
        };
        let mut new = Self {
            time: self.time.max(recovery.at),
            revision: recovery.revision,
            cluster: Some(Arc::new(cluster)),
            ..self.clone()
        };
        new.empty_roles(recovery);
        new.give_plans_up(&recovery.reason);
        new.void_requests();
        new.mark_the_others(recovery);
        Ok(new)
    }

    fn check_recovery(&self, old: &ClusterRecord, recovery: &Recovery) -> Result<(), Unrecoverable> {
        if old.cluster_id == recovery.cluster_id {
            return Err(Unrecoverable::SameCluster(old.cluster_id));
        }
        let (shown, found) = (recovery.generation, self.highest_generation());
        if shown <= found {
            return Err(Unrecoverable::Generation { shown, found });
        }
        let foreign = |statement: &Rebind| {
            let own = (recovery.cluster_id, recovery.generation);
            (statement.cluster, statement.generation) != own || statement.supersedes == statement.cluster
        };
        let mut statements = recovery.rebinds.iter().map(|rebind| rebind.statement);
        if let Some(statement) = statements.find(foreign) {
            return Err(Unrecoverable::Rebind(statement));
        }
        let (shown, found) = (recovery.revision, self.revision);
        if shown <= found {
            return Err(Unrecoverable::Revision { shown, found });
        }
        Ok(())
    }

    /// Whoever held a role holds it no more, and what was longest promised to any of them is waited out for all.
    fn empty_roles(&mut self, recovery: &Recovery) {
        let ttl = self.longest_ttl().max(recovery.outstanding_ttl);
        let former = FormerTtl {
            ttl,
            since: self.revision,
        };
        let epoch = Epoch::new(recovery.generation, 0);
        for role in self.roles.clone().values() {
            let record = RoleRecord {
                epoch,
                holder: None,
                reservation: None,
                changed_at: self.time,
                reason: recovery.reason.clone(),
                outstanding_ttl: ttl,
                modified: self.revision,
                ..role.record.clone()
            };
            let emptied = RoleState {
                highest_epoch: epoch,
                former_ttl: (ttl > record.timing.lease_ttl).then_some(former),
                record,
            };
            self.roles.insert(emptied.record.role.clone(), emptied);
        }
    }

    fn give_plans_up(&mut self, reason: &str) {
        let plans = self.plans.clone();
        for plan in plans.values().filter(|p| p.state == PlanState::Running) {
            let mut plan = PlanRecord {
                state: PlanState::Failed,
                finished_at: Some(self.time),
                reason: format!("void: {reason}"),
                modified: self.revision,
                ..plan.clone()
            };
            let steps = plan.steps.iter_mut();
            for step in steps.filter(|s| s.state == StepState::Running) {
                step.state = StepState::Failed;
                step.finished_at = Some(self.time);
            }
            self.add_plan(plan);
        }
    }

    /// Those that are known to have been answered, and those that only the lost majority knows of: they were made before now.
    fn void_requests(&mut self) {
        let newest = self.requests.answered.iter().next_back().map(|a| a.id);
        let now = RequestId::v7_from_parts(self.time.0, u128::MAX);
        self.requests.floor = self.requests.floor.max(newest).max(Some(now));
        self.requests.answered = Answers::default();
    }

    /// The other coordinators come back with empty disks, as other runs.
    fn mark_the_others(&mut self, recovery: &Recovery) {
        let is_other = |n: &&NodeRecord| {
            n.kind != NodeKind::Agent && n.node != recovery.founder && n.status != NodeStatus::Removed
        };
        let nodes = self.nodes.clone();
        for node in nodes.values().filter(is_other) {
            let gone = NodeRecord {
                status: NodeStatus::Removed,
                changed_at: self.time,
                modified: self.revision,
                ..node.clone()
            };
            self.note_removal(node, recovery);
            self.nodes.insert(gone.node.clone(), gone);
        }
    }

    /// In the name of the coordinator that founds the new cluster: nobody else was asked.
    fn note_removal(&mut self, node: &NodeRecord, recovery: &Recovery) {
        if !self.features().has(Feature::Histories) {
            return;
        }
        let founder = self.nodes.get(&recovery.founder);
        let by = Principal::Coordinator {
            region: founder.map_or_else(|| node.region.clone(), |f| f.region.clone()),
            node: recovery.founder.clone(),
        };
        self.add_health_change(HealthChange {
            subject: HealthSubject::Node(node.node.clone()),
            revision: self.revision,
            from: Some(node.status.into()),
            to: Standing::Removed,
            evidence: recovery.reason.chars().take(EVIDENCE_CHARS_MAX).collect(),
            at: self.time,
            by,
        });
    }
}
