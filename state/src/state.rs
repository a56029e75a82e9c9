//! The state, and the one way to change it.
//!
//! Absent on purpose: rules; each family of commands has its file under `apply/`.
//! Invariant: fields change only in `apply`, and only together with the events that say so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use types::{
    AliasName, ClusterId, DiskId, Epoch, ModelName, NodeId, NodeIncarnation, PlanId, Principal, RegionId,
    Revision, RoleName, UnixMillis, VersionKey,
    election::ElectionSettings,
    model::{AliasRecord, ModelRecord, VersionRecord},
    plan::PlanRecord,
    region::{NodeRecord, RegionRecord},
    replica::{ReplicaKey, ReplicaRecord},
    role::{RoleRecord, TimingPolicy},
};

use crate::{
    apply,
    command::Entry,
    rejection::Rejection,
    reply::Applied,
    requests::{RequestTable, Seen},
};

/// The cluster itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRecord {
    /// Its name, for ever.
    pub cluster_id: ClusterId,
    /// Generation of its epochs.
    pub generation: u32,
    /// Heartbeats and probes of the whole cluster; the default of new roles.
    pub timing: TimingPolicy,
    /// Which rules are switched on.
    pub feature_level: u32,
    /// How fast the coordinators' elections are, and who should lead.
    pub elections: ElectionSettings,
    /// State time of the first entry.
    pub created_at: UnixMillis,
    /// Revision of the last change; its etag.
    pub modified: Revision,
    /// Coordinators that were taken out, the last one last; of more than a thousand the oldest are forgotten.
    pub removed: Vec<RemovedCoordinator>,
}

/// A coordinator that a person took out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedCoordinator {
    /// Its name, which may have joined anew since.
    pub node: NodeId,
    /// Its data directory, which does not come back; none where it had no id.
    pub disk: Option<DiskId>,
    /// State time.
    pub at: UnixMillis,
    /// Who asked for it.
    pub by: Principal,
}

/// A role and what only the epoch rules need to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleState {
    pub(crate) record: RoleRecord,
    /// The highest epoch that was ever issued or reserved; a plan that fails after its fence burns the reserved one.
    pub(crate) highest_epoch: Epoch,
    /// The TTL of former timings that may still be outstanding.
    pub(crate) former_ttl: Option<FormerTtl>,
}

/// The largest TTL that was granted before a role's timing was shortened. It counts until a leader has said, by
/// `RetireTtl`, that it waited it out on its own monotonic clock: state time follows wall clocks, and would end it early
/// where one was fast (L8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerTtl {
    /// The TTL.
    pub ttl: Duration,
    /// The entry that shortened it last: a wait that began before it does not count.
    pub since: Revision,
}

/// Everything that the log has said so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlState {
    pub(crate) time: UnixMillis,
    pub(crate) revision: Revision,
    pub(crate) cluster: Option<ClusterRecord>,
    pub(crate) regions: BTreeMap<RegionId, RegionRecord>,
    /// Every region once, in the order in which they were registered.
    pub(crate) join_order: Vec<RegionId>,
    pub(crate) nodes: BTreeMap<NodeId, NodeRecord>,
    /// Runs of each node that another one has followed, oldest first: they register nothing any more (L2).
    pub(crate) superseded: BTreeMap<NodeId, Vec<NodeIncarnation>>,
    pub(crate) models: BTreeMap<ModelName, ModelRecord>,
    /// Models of which a version was READY once.
    pub(crate) published: BTreeSet<ModelName>,
    pub(crate) versions: BTreeMap<VersionKey, VersionRecord>,
    pub(crate) aliases: BTreeMap<(ModelName, AliasName), AliasRecord>,
    pub(crate) replicas: BTreeMap<ReplicaKey, ReplicaRecord>,
    pub(crate) roles: BTreeMap<RoleName, RoleState>,
    pub(crate) plans: BTreeMap<PlanId, PlanRecord>,
    pub(crate) requests: RequestTable,
    /// Finished plans that are kept per role.
    pub(crate) finished_plans_kept: u64,
}

/// How many finished plans are kept per role.
pub const FINISHED_PLANS_KEPT: u64 = 1_000;

impl Default for ControlState {
    fn default() -> Self {
        Self::new()
    }
}

impl ControlState {
    /// Before the first entry.
    pub fn new() -> Self {
        Self::with_limits(RequestTable::new(), FINISHED_PLANS_KEPT)
    }

    /// With other bounds on what is remembered, for tests that must reach them. The bounds are part of the state and
    /// of its snapshots, so that all replicas forget alike.
    pub fn with_limits(requests: RequestTable, finished_plans_kept: u64) -> Self {
        Self {
            time: UnixMillis::default(),
            revision: Revision::default(),
            cluster: None,
            regions: BTreeMap::new(),
            join_order: Vec::new(),
            nodes: BTreeMap::new(),
            superseded: BTreeMap::new(),
            models: BTreeMap::new(),
            published: BTreeSet::new(),
            versions: BTreeMap::new(),
            aliases: BTreeMap::new(),
            replicas: BTreeMap::new(),
            roles: BTreeMap::new(),
            plans: BTreeMap::new(),
            requests,
            finished_plans_kept,
        }
    }

    /// Applies one entry at its log index. Total and deterministic; see the crate's promises.
    pub fn apply(&mut self, revision: Revision, entry: &Entry) -> Applied {
        if revision <= self.revision {
            let problem = format!("{revision} is not after {}", self.revision);
            return refused(Rejection::invalid("revision", problem));
        }
        self.revision = revision;
        match apply::time::at_entry(self, entry) {
            Ok(time) => self.time = time,
            Err(rejection) => return refused(rejection),
        }
        match self.requests.look_up(entry, self.time) {
            Err(rejection) => refused(rejection),
            Ok(Seen::Before(outcome)) => Applied {
                outcome,
                events: Vec::new(),
                door: None,
            },
            Ok(Seen::Never(digest)) => {
                let applied = apply::dispatch(self, entry);
                if !applied.outcome.as_ref().is_err_and(Rejection::is_for_ever) {
                    self.requests
                        .remember(entry.request_id, digest, &applied.outcome, self.time);
                }
                applied
            }
        }
    }
}

fn refused(rejection: Rejection) -> Applied {
    Applied {
        outcome: Err(rejection),
        events: Vec::new(),
        door: None,
    }
}

impl RoleState {
    /// The largest TTL that a lease may have been granted for and not yet have outlived (L8).
    pub(crate) fn outstanding_ttl(&self) -> Duration {
        let former = self.former_ttl.map_or(Duration::ZERO, |former| former.ttl);
        former.max(self.record.timing.lease_ttl)
    }
}
