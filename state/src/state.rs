//! The state, and the one way to change it.
//!
//! Absent on purpose: rules; each family of commands has its file under `apply/`.
//! Invariant: fields change only in `apply`, and only together with the events that say so.

use std::{cmp::Ordering, sync::Arc, time::Duration};

use imbl::{OrdMap, OrdSet};
use types::{
    AliasName, ClusterId, DatasetName, Digest, DiskId, Epoch, ExperimentName, ModelName, NodeId,
    NodeIncarnation, PlanId, Principal, RegionId, Revision, RoleName, SignedRebind, UnixMillis, VersionKey,
    election::ElectionSettings,
    experiment::ExperimentRecord,
    history::{DeploymentRecord, HealthChange, HealthSubject},
    model::{AliasRecord, ModelRecord, VersionRecord},
    plan::PlanRecord,
    preferences::PreferencesRecord,
    region::{NodeRecord, RegionRecord},
    replica::{ReplicaKey, ReplicaRecord},
    role::{RoleRecord, TimingPolicy},
    service::{ServiceKey, ServiceRecord},
};

use crate::{
    apply,
    codec::{self, ReadEntry},
    command::Entry,
    features::Feature,
    hash::{Record, StateHash},
    rejection::Rejection,
    reply::Applied,
    requests::{Kept, RequestTable, Seen},
    table::Table,
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
    /// Clusters that this one goes on from, the last one last; signed by the CA, or still to be signed (L19).
    pub rebinds: Vec<SignedRebind>,
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

/// A model of which a version was READY once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WasPublished;

/// Everything that the log has said so far. A clone costs next to nothing and shares its records ([`Table`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlState {
    pub(crate) time: UnixMillis,
    pub(crate) revision: Revision,
    pub(crate) cluster: Option<Arc<ClusterRecord>>,
    pub(crate) regions: Table<RegionId, RegionRecord>,
    /// Every region once, in the order in which they were registered.
    pub(crate) join_order: Arc<Vec<RegionId>>,
    pub(crate) nodes: Table<NodeId, NodeRecord>,
    /// Runs of each node that another one has followed, oldest first: they register nothing any more (L2).
    pub(crate) superseded: Table<NodeId, Vec<NodeIncarnation>>,
    pub(crate) models: Table<ModelName, ModelRecord>,
    pub(crate) published: Table<ModelName, WasPublished>,
    pub(crate) versions: Table<VersionKey, VersionRecord>,
    /// Which versions were trained from each data set; follows from `versions`.
    pub(crate) dependents: OrdMap<DatasetName, OrdSet<VersionKey>>,
    pub(crate) aliases: Table<(ModelName, AliasName), AliasRecord>,
    pub(crate) replicas: Table<ReplicaKey, ReplicaRecord>,
    pub(crate) roles: Table<RoleName, RoleState>,
    pub(crate) plans: Table<PlanId, PlanRecord>,
    /// Which plans each role has; follows from `plans`.
    pub(crate) plans_of: OrdSet<(RoleName, PlanId)>,
    pub(crate) experiments: Table<(ModelName, ExperimentName), ExperimentRecord>,
    pub(crate) services: Table<ServiceKey, ServiceRecord>,
    /// Which instances each node hosts, no node without any; follows from `services`.
    pub(crate) hosted: OrdMap<NodeId, OrdSet<ServiceKey>>,
    pub(crate) preferences: Table<Principal, PreferencesRecord>,
    pub(crate) deployments: Table<(ModelName, Revision), DeploymentRecord>,
    pub(crate) health_changes: Table<(HealthSubject, Revision), HealthChange>,
    pub(crate) requests: RequestTable,
    /// Finished plans that are kept per role.
    pub(crate) finished_plans_kept: u64,
}

/// Moves of aliases that are remembered of a model.
pub(crate) const DEPLOYMENTS_KEPT: usize = 100;
/// Changes of health that are remembered of a region or a node.
pub(crate) const HEALTH_CHANGES_KEPT: usize = 32;

/// Characters that are kept of what led to a change of health.
pub(crate) const EVIDENCE_CHARS_MAX: usize = 500;

/// Keeps that many of the records whose keys `place` calls equal, those with the highest keys ([`Table::group`]).
fn forget_oldest<K: Ord + Clone, R: PartialEq + Record<K>>(
    table: &mut Table<K, R>,
    kept: usize,
    place: impl Fn(&K) -> Ordering + Clone,
) {
    let surplus = table.group(place.clone()).count().saturating_sub(kept);
    let oldest: Vec<K> = table
        .group(place)
        .take(surplus)
        .map(|(key, _)| key.clone())
        .collect();
    for key in oldest {
        table.remove(&key);
    }
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
            regions: Table::default(),
            join_order: Arc::default(),
            nodes: Table::default(),
            superseded: Table::default(),
            models: Table::default(),
            published: Table::default(),
            versions: Table::default(),
            dependents: OrdMap::new(),
            aliases: Table::default(),
            replicas: Table::default(),
            roles: Table::default(),
            plans: Table::default(),
            plans_of: OrdSet::new(),
            experiments: Table::default(),
            services: Table::default(),
            hosted: OrdMap::new(),
            preferences: Table::default(),
            deployments: Table::default(),
            health_changes: Table::default(),
            requests,
            finished_plans_kept,
        }
    }

    /// The integrity hash of everything that is in here: equal on all replicas that applied the same entries. Costs no
    /// more than a few records' hashes, however many there are.
    pub fn state_hash(&self) -> StateHash {
        // A field that is added does not compile until somebody has said here whether a table's sum covers it, or
        // `hash_of_scalars`, or nothing because it follows from the others.
        let Self {
            time: _,
            revision: _,
            cluster: _,
            regions,
            join_order: _,
            nodes,
            superseded,
            models,
            published,
            versions,
            dependents: _,
            aliases,
            replicas,
            roles,
            plans,
            plans_of: _,
            experiments,
            services,
            hosted: _,
            preferences,
            deployments,
            health_changes,
            requests,
            finished_plans_kept: _,
        } = self;
        let mut sum = codec::hash_of_scalars(self);
        sum.add(regions.sum());
        sum.add(nodes.sum());
        sum.add(superseded.sum());
        sum.add(models.sum());
        sum.add(published.sum());
        sum.add(versions.sum());
        sum.add(aliases.sum());
        sum.add(replicas.sum());
        sum.add(roles.sum());
        sum.add(plans.sum());
        sum.add(experiments.sum());
        sum.add(services.sum());
        sum.add(preferences.sum());
        sum.add(deployments.sum());
        sum.add(health_changes.sum());
        sum.add(requests.answered.sum());
        sum.into()
    }

    /// The same, of every record anew.
    #[cfg(test)]
    pub(crate) fn hash_from_scratch(&self) -> StateHash {
        let mut sum = codec::hash_of_scalars(self);
        sum.add(self.regions.sum_from_scratch());
        sum.add(self.nodes.sum_from_scratch());
        sum.add(self.superseded.sum_from_scratch());
        sum.add(self.models.sum_from_scratch());
        sum.add(self.published.sum_from_scratch());
        sum.add(self.versions.sum_from_scratch());
        sum.add(self.aliases.sum_from_scratch());
        sum.add(self.replicas.sum_from_scratch());
        sum.add(self.roles.sum_from_scratch());
        sum.add(self.plans.sum_from_scratch());
        sum.add(self.experiments.sum_from_scratch());
        sum.add(self.services.sum_from_scratch());
        sum.add(self.preferences.sum_from_scratch());
        sum.add(self.deployments.sum_from_scratch());
        sum.add(self.health_changes.sum_from_scratch());
        sum.add(self.requests.answered.sum_from_scratch());
        sum.into()
    }

    /// The name as the registry keeps it, so that the many records that have it share one text.
    fn own_region(&self, region: RegionId) -> RegionId {
        self.regions.key(&region).cloned().unwrap_or(region)
    }

    /// As [`Self::own_region`].
    fn own_model(&self, model: ModelName) -> ModelName {
        self.models.key(&model).cloned().unwrap_or(model)
    }

    /// Adds a version, or replaces the one of its key, which has the same data sets; whether there was one.
    pub(crate) fn add_version(&mut self, mut version: VersionRecord) -> bool {
        version.key.model = self.own_model(version.key.model);
        version.source_region = self.own_region(version.source_region);
        version.datasets = std::mem::take(&mut version.datasets)
            .into_iter()
            .map(|dataset| self.add_dependent(dataset, &version.key))
            .collect();
        self.versions.insert(version.key.clone(), version)
    }

    /// Adds an edge; the name as the index keeps it, so that the many versions that have it share one text.
    fn add_dependent(&mut self, dataset: DatasetName, version: &VersionKey) -> DatasetName {
        let own = self
            .dependents
            .get_key_value(&dataset)
            .map(|(name, _)| name.clone());
        let own = own.unwrap_or(dataset);
        self.dependents
            .entry(own.clone())
            .or_default()
            .insert(version.clone());
        own
    }

    /// Adds an alias, or replaces the one of its key; whether there was one.
    pub(crate) fn add_alias(&mut self, mut alias: AliasRecord) -> bool {
        alias.model = self.own_model(alias.model);
        self.aliases
            .insert((alias.model.clone(), alias.alias.clone()), alias)
    }

    /// Adds an experiment, or replaces the one of its key; whether there was one.
    pub(crate) fn add_experiment(&mut self, mut record: ExperimentRecord) -> bool {
        record.model = self.own_model(record.model);
        self.experiments
            .insert((record.model.clone(), record.name.clone()), record)
    }

    /// Adds an instance of a service, or replaces the one of its key; whether there was one.
    pub(crate) fn add_service(&mut self, mut record: ServiceRecord) -> bool {
        record.region = self.own_region(record.region);
        let hosted = self.hosted.entry(record.key.node.clone()).or_default();
        hosted.insert(record.key.clone());
        self.services.insert(record.key.clone(), record)
    }

    /// Forgets an instance of a service.
    pub(crate) fn remove_service(&mut self, key: &ServiceKey) {
        self.services.remove(key);
        if let Some(hosted) = self.hosted.get_mut(&key.node) {
            hosted.remove(key);
            if hosted.is_empty() {
                self.hosted.remove(&key.node);
            }
        }
    }

    /// Adds a move of an alias, or replaces the one of its key; whether there was one. Of more than [`DEPLOYMENTS_KEPT`] of a
    /// model the oldest is forgotten.
    pub(crate) fn add_deployment(&mut self, mut record: DeploymentRecord) -> bool {
        record.model = self.own_model(record.model);
        let model = record.model.clone();
        let known = self.deployments.insert((model.clone(), record.revision), record);
        forget_oldest(&mut self.deployments, DEPLOYMENTS_KEPT, |(of, _)| of.cmp(&model));
        known
    }

    /// Adds a change of health, or replaces the one of its key; whether there was one. Of more than [`HEALTH_CHANGES_KEPT`] of a
    /// subject the oldest is forgotten.
    pub(crate) fn add_health_change(&mut self, record: HealthChange) -> bool {
        let subject = record.subject.clone();
        let known = self
            .health_changes
            .insert((subject.clone(), record.revision), record);
        forget_oldest(&mut self.health_changes, HEALTH_CHANGES_KEPT, |(of, _)| {
            of.cmp(&subject)
        });
        known
    }

    /// Forgets how a region or a node has stood: it is gone.
    pub(crate) fn remove_health_changes(&mut self, subject: &HealthSubject) {
        let of = self.health_changes.group(|(of, _)| of.cmp(subject));
        let keys: Vec<_> = of.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.health_changes.remove(&key);
        }
    }

    /// Adds a replication record, or replaces the one of its key; whether there was one.
    pub(crate) fn add_replica(&mut self, mut replica: ReplicaRecord) -> bool {
        replica.key.version.model = self.own_model(replica.key.version.model);
        replica.key.region = self.own_region(replica.key.region);
        replica.source = replica.source.map(|region| self.own_region(region));
        self.replicas.insert(replica.key.clone(), replica)
    }

    /// Adds a plan, or replaces the one of its number; whether there was one.
    pub(crate) fn add_plan(&mut self, plan: PlanRecord) -> bool {
        self.plans_of.insert((plan.role.clone(), plan.plan));
        self.plans.insert(plan.plan, plan)
    }

    /// Forgets a plan.
    pub(crate) fn remove_plan(&mut self, plan: PlanId) {
        if let Some(record) = self.plans.get(&plan) {
            self.plans_of.remove(&(record.role.clone(), plan));
        }
        self.plans.remove(&plan);
    }

    /// Applies one entry at its log index. Total and deterministic; see the crate's promises.
    pub fn apply(&mut self, revision: Revision, entry: &Entry) -> Applied {
        self.apply_digested(revision, entry, codec::request_digest(entry))
    }

    /// As [`Self::apply`], of an entry that was read from bytes: it need not be encoded again.
    pub fn apply_read(&mut self, revision: Revision, read: &ReadEntry) -> Applied {
        self.apply_digested(revision, read.entry(), read.digest())
    }

    fn apply_digested(&mut self, revision: Revision, entry: &Entry, digest: Digest) -> Applied {
        if revision <= self.revision {
            let problem = format!("{revision} is not after {}", self.revision);
            return refused(Rejection::invalid("revision", problem));
        }
        self.revision = revision;
        match apply::time::at_entry(self, entry) {
            Ok(time) => self.time = time,
            Err(rejection) => return refused(rejection),
        }
        let digest = apply::expects::digest(self, entry, digest);
        let features = self.features();
        match self.requests.look_up(entry, digest, features, self.time) {
            Err(rejection) => refused(rejection),
            Ok(Seen::Before(outcome)) => Applied {
                outcome,
                events: Vec::new(),
                door: None,
            },
            Ok(Seen::Never) => {
                let settled = features.has(Feature::SettledRefusals);
                let mut applied = apply::dispatch(self, entry);
                if settled {
                    applied.outcome = applied.outcome.map_err(Rejection::bounded);
                }
                if !applied.outcome.as_ref().is_err_and(Rejection::is_for_ever) {
                    let kept = match settled {
                        true => Kept::settled(&applied.outcome),
                        false => Kept::of(&applied.outcome),
                    };
                    self.requests.remember(entry.request_id, digest, kept, self.time);
                }
                applied
            }
        }
    }
}

/// What an entry would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// What it would be answered, and what would change.
    pub applied: Applied,
    /// The state as it would be.
    pub state: ControlState,
}

impl Preview {
    /// What another entry would do after this one.
    #[must_use]
    pub fn then(self, revision: Revision, entry: &Entry) -> Self {
        let mut state = self.state;
        let applied = state.apply(revision, entry);
        Self { applied, state }
    }
}

impl ControlState {
    /// What [`Self::apply`] would do, and nothing done: no request id is remembered. It is the same code on a copy, so that
    /// it refuses exactly where the entry itself would. The copy shares with the state what the entry does not touch.
    pub fn preview(&self, revision: Revision, entry: &Entry) -> Preview {
        let mut state = self.clone();
        let applied = state.apply(revision, entry);
        Preview { applied, state }
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
