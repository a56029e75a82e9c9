//! Reads, and pages of reads.
//!
//! Absent on purpose: any decision about freshness; the caller knows which revision it must have applied first.

mod answered;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ops::{
        Bound,
        Bound::{Excluded, Included, Unbounded},
    },
    time::Duration,
};

use policy::{
    failover::{AgentView, FailoverView, NodeStanding, TargetView, is_silent, qualified, target_failed},
    placement,
    readiness::{Coverage, Loads, ServedVersion},
};
use types::{
    AliasName, DatasetName, DiskId, ExperimentName, Holder, ModelName, ModelVersion, NodeId, PlanId,
    Principal, RegionId, Revision, RoleName, ServiceName, UnixMillis, VersionKey,
    experiment::ExperimentRecord,
    history::{DeploymentRecord, HealthChange, HealthSubject},
    model::{AliasRecord, ModelRecord, VersionRecord},
    plan::{PlanRecord, PlanState},
    preferences::PreferencesRecord,
    region::{Health, NodeKind, NodeRecord, NodeStatus, RegionRecord},
    replica::{ReplicaKey, ReplicaRecord, ReplicaState},
    role::RoleRecord,
    service::{ServiceKey, ServiceRecord},
};

use crate::{
    hash::Record,
    state::{ClusterRecord, ControlState, FormerTtl, RemovedCoordinator, RoleState},
    table::Table,
};

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<'a, K, R> {
    /// The records, in key order.
    pub items: Vec<&'a R>,
    /// The key to go on after; none at the end. A page may be short, or empty, and have one.
    pub next: Option<K>,
}

/// A list looks at this many records for one page: whoever reads holds up whoever applies.
pub(crate) const LOOKED_AT_MAX: usize = 10_000;

/// The first `limit` records that are wanted, of the first [`LOOKED_AT_MAX`], or `limit` where that is more.
pub(crate) fn page<'a, K: Ord + Clone + 'a, R: 'a>(
    records: impl Iterator<Item = (&'a K, &'a R)>,
    limit: usize,
    is_wanted: impl Fn(&R) -> bool,
) -> Page<'a, K, R> {
    let mut records = records.peekable();
    let (mut items, mut last) = (Vec::new(), None);
    let mut left = limit.max(LOOKED_AT_MAX);
    while items.len() < limit
        && left > 0
        && let Some((key, record)) = records.next()
    {
        if is_wanted(record) {
            items.push(record);
        }
        last = Some(key);
        left -= 1;
    }
    let next = records.peek().and(last).cloned();
    Page { items, next }
}

fn after<K: Ord + Clone, R: PartialEq + Record<K>>(
    table: &Table<K, R>,
    key: Option<K>,
) -> impl Iterator<Item = (&K, &R)> {
    table.range((key.map_or(Unbounded, Excluded), Unbounded))
}

/// A page of a table, or of those of its records whose keys `group` calls equal where there is one ([`Table::group`]).
fn page_of<'a, K: Ord + Clone, R: PartialEq + Record<K>>(
    table: &'a Table<K, R>,
    group: Option<impl Fn(&K) -> Ordering + Clone + 'a>,
    start: Option<K>,
    limit: usize,
    is_wanted: impl Fn(&R) -> bool,
) -> Page<'a, K, R> {
    let Some(place) = group else {
        return page(after(table, start), limit, is_wanted);
    };
    // A place before the group's first record is none to go on from.
    match start.filter(|key| place(key) != Ordering::Less) {
        None => page(table.group(place), limit, is_wanted),
        Some(start) => {
            let rest = after(table, Some(start));
            page(
                rest.take_while(|(key, _)| place(key) == Ordering::Equal),
                limit,
                is_wanted,
            )
        }
    }
}

/// How many records of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named by what it counts")]
pub struct Counts {
    pub regions: usize,
    pub nodes: usize,
    pub models: usize,
    pub versions: usize,
    pub aliases: usize,
    pub replicas: usize,
    pub roles: usize,
    pub plans: usize,
    pub experiments: usize,
    pub services: usize,
    /// Requests whose first answer is remembered.
    pub answered: u64,
}

impl ControlState {
    /// How much there is; costs the same whatever it is.
    pub fn counts(&self) -> Counts {
        Counts {
            regions: self.regions.len(),
            nodes: self.nodes.len(),
            models: self.models.len(),
            versions: self.versions.len(),
            aliases: self.aliases.len(),
            replicas: self.replicas.len(),
            roles: self.roles.len(),
            plans: self.plans.len(),
            experiments: self.experiments.len(),
            services: self.services.len(),
            answered: self.requests.answered.len(),
        }
    }
    /// State time.
    pub fn time(&self) -> UnixMillis {
        self.time
    }
    /// Revision of the last applied entry.
    pub fn revision(&self) -> Revision {
        self.revision
    }
    /// The cluster; none before the first entry.
    pub fn cluster(&self) -> Option<&ClusterRecord> {
        self.cluster.as_deref()
    }
    /// Coordinators that were taken out, the last one last.
    pub fn removed_coordinators(&self) -> &[RemovedCoordinator] {
        self.cluster.as_ref().map_or(&[], |cluster| &cluster.removed)
    }
    /// Whether a coordinator with this disk was taken out.
    pub fn is_barred(&self, disk: DiskId) -> bool {
        let mut removed = self.removed_coordinators().iter();
        removed.any(|r| r.disk == Some(disk))
    }

    /// One region.
    pub fn region(&self, region: &RegionId) -> Option<&RegionRecord> {
        self.regions.get(region)
    }
    /// All regions, in the order in which they joined.
    pub fn regions(&self) -> impl Iterator<Item = &RegionRecord> {
        self.join_order.iter().filter_map(|r| self.regions.get(r))
    }
    /// As [`Self::regions`], those that joined after one of them.
    pub fn regions_after(&self, after: Option<&RegionId>) -> impl Iterator<Item = &RegionRecord> {
        let known = after.and_then(|after| self.join_order.iter().position(|r| r == after));
        let behind = self.join_order.iter().skip(known.map_or(0, |at| at + 1));
        behind.filter_map(|r| self.regions.get(r))
    }
    /// One node.
    pub fn node(&self, node: &NodeId) -> Option<&NodeRecord> {
        self.nodes.get(node)
    }
    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values()
    }

    /// Nodes by name, after one of them.
    pub fn nodes_after(&self, start: Option<NodeId>) -> impl Iterator<Item = &NodeRecord> {
        after(&self.nodes, start).map(|(_, node)| node)
    }

    /// One model.
    pub fn model(&self, model: &ModelName) -> Option<&ModelRecord> {
        self.models.get(model)
    }
    /// Models by name, after one of them.
    pub fn models(&self, start: Option<ModelName>, limit: usize) -> Page<'_, ModelName, ModelRecord> {
        self.models_where(start, limit, |_| true)
    }
    /// As [`Self::models`], of those alone that `is_wanted` takes.
    pub fn models_where(
        &self,
        start: Option<ModelName>,
        limit: usize,
        is_wanted: impl Fn(&ModelRecord) -> bool,
    ) -> Page<'_, ModelName, ModelRecord> {
        page(after(&self.models, start), limit, is_wanted)
    }
    /// One version.
    pub fn version(&self, version: &VersionKey) -> Option<&VersionRecord> {
        self.versions.get(version)
    }
    /// Versions of a model by number, also deleted ones, after one of them; those alone that `is_wanted` takes.
    pub fn versions_where(
        &self,
        model: &ModelName,
        start: Option<ModelVersion>,
        limit: usize,
        is_wanted: impl Fn(&VersionRecord) -> bool,
    ) -> Page<'_, VersionKey, VersionRecord> {
        let key = |version| VersionKey {
            model: model.clone(),
            version,
        };
        let first = start.map_or_else(|| Included(key(ModelVersion(0))), |v| Excluded(key(v)));
        let all = self
            .versions
            .range((first, Included(key(ModelVersion(u64::MAX)))));
        page(all, limit, is_wanted)
    }
    /// The versions of all models, by model and number, after one of them.
    pub fn versions_after(&self, start: Option<VersionKey>) -> impl Iterator<Item = &VersionRecord> {
        after(&self.versions, start).map(|(_, version)| version)
    }
    /// The versions of all models that were trained from a data set, also deleted ones, by model and number, after one of them:
    /// those alone that `is_wanted` takes.
    pub fn dependents_where<'a>(
        &'a self,
        dataset: &DatasetName,
        start: Option<VersionKey>,
        limit: usize,
        is_wanted: impl Fn(&VersionRecord) -> bool,
    ) -> Page<'a, VersionKey, VersionRecord> {
        let first = start.map_or(Unbounded, Excluded);
        let keys = self.dependents.get(dataset).into_iter();
        let keys = keys.flat_map(move |keys| keys.range((first.clone(), Unbounded)));
        let versions = keys.filter_map(|key| Some((key, self.versions.get(key)?)));
        page(versions, limit, is_wanted)
    }
    /// One alias.
    pub fn alias(&self, model: &ModelName, alias: &AliasName) -> Option<&AliasRecord> {
        self.aliases.get(&(model.clone(), alias.clone()))
    }
    /// The aliases of a model, by name.
    pub fn aliases<'a>(&'a self, model: &'a ModelName) -> impl Iterator<Item = &'a AliasRecord> {
        let of_model = self.aliases.group(move |(of, _)| of.cmp(model));
        of_model.map(|(_, alias)| alias)
    }
    /// The aliases of all models, by model and name, after one of them.
    pub fn aliases_after(&self, start: Option<(ModelName, AliasName)>) -> impl Iterator<Item = &AliasRecord> {
        after(&self.aliases, start).map(|(_, alias)| alias)
    }

    /// One experiment.
    pub fn experiment(&self, model: &ModelName, name: &ExperimentName) -> Option<&ExperimentRecord> {
        self.experiments.get(&(model.clone(), name.clone()))
    }
    /// The experiments of a model, by name, also those that ended.
    pub fn experiments_of<'a>(&'a self, model: &'a ModelName) -> impl Iterator<Item = &'a ExperimentRecord> {
        let of_model = self.experiments.group(move |(of, _)| of.cmp(model));
        of_model.map(|(_, experiment)| experiment)
    }
    /// The experiments of all models, by model and name, after one of them.
    pub fn experiments_after(
        &self,
        start: Option<(ModelName, ExperimentName)>,
    ) -> impl Iterator<Item = &ExperimentRecord> {
        after(&self.experiments, start).map(|(_, experiment)| experiment)
    }
    /// As [`Self::experiments_after`], of those alone that `is_wanted` takes, and of one model where one is named.
    pub fn experiments_where<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        start: Option<(ModelName, ExperimentName)>,
        limit: usize,
        is_wanted: impl Fn(&ExperimentRecord) -> bool,
    ) -> Page<'a, (ModelName, ExperimentName), ExperimentRecord> {
        let in_model = |model: &'a ModelName| move |(of, _): &(ModelName, ExperimentName)| of.cmp(model);
        page_of(&self.experiments, model.map(in_model), start, limit, is_wanted)
    }

    /// One instance of a service.
    pub fn service(&self, key: &ServiceKey) -> Option<&ServiceRecord> {
        self.services.get(key)
    }
    /// The instances that a node hosts.
    pub fn services_on(&self, node: &NodeId) -> impl Iterator<Item = &ServiceRecord> {
        let hosted = self.hosted.get(node).into_iter().flatten();
        hosted.filter_map(|key| self.services.get(key))
    }
    /// The instances of all services, by service, node and port, after one of them.
    pub fn services_after(&self, start: Option<ServiceKey>) -> impl Iterator<Item = &ServiceRecord> {
        after(&self.services, start).map(|(_, service)| service)
    }
    /// As [`Self::services_after`], of those alone that `is_wanted` takes, and of one service where one is named.
    pub fn services_where<'a>(
        &'a self,
        service: Option<&'a ServiceName>,
        start: Option<ServiceKey>,
        limit: usize,
        is_wanted: impl Fn(&ServiceRecord) -> bool,
    ) -> Page<'a, ServiceKey, ServiceRecord> {
        let of_service = |service: &'a ServiceName| move |key: &ServiceKey| key.service.cmp(service);
        page_of(&self.services, service.map(of_service), start, limit, is_wanted)
    }

    /// A user's preferences; none of who has none.
    pub fn preferences(&self, principal: &Principal) -> Option<&PreferencesRecord> {
        self.preferences.get(principal)
    }
    /// Moves of aliases that are remembered, of one model where one is named, oldest first within a model, after one of them: those
    /// alone that `is_wanted` takes.
    pub fn deployments_where<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        start: Option<(ModelName, Revision)>,
        limit: usize,
        is_wanted: impl Fn(&DeploymentRecord) -> bool,
    ) -> Page<'a, (ModelName, Revision), DeploymentRecord> {
        let of_model = |model: &'a ModelName| move |(of, _): &(ModelName, Revision)| of.cmp(model);
        page_of(&self.deployments, model.map(of_model), start, limit, is_wanted)
    }
    /// As [`Self::deployments_where`], changes of health.
    pub fn health_changes_where<'a>(
        &'a self,
        subject: Option<&'a HealthSubject>,
        start: Option<(HealthSubject, Revision)>,
        limit: usize,
        is_wanted: impl Fn(&HealthChange) -> bool,
    ) -> Page<'a, (HealthSubject, Revision), HealthChange> {
        let of_subject =
            |subject: &'a HealthSubject| move |(of, _): &(HealthSubject, Revision)| of.cmp(subject);
        page_of(
            &self.health_changes,
            subject.map(of_subject),
            start,
            limit,
            is_wanted,
        )
    }

    /// One replication record.
    pub fn replica(&self, key: &ReplicaKey) -> Option<&ReplicaRecord> {
        self.replicas.get(key)
    }
    /// All replication records, by version, then region, after one of them.
    pub fn replicas(&self, start: Option<ReplicaKey>, limit: usize) -> Page<'_, ReplicaKey, ReplicaRecord> {
        page(after(&self.replicas, start), limit, |_| true)
    }
    /// The replication records of a version.
    pub fn replicas_of<'a>(&'a self, version: &'a VersionKey) -> impl Iterator<Item = &'a ReplicaRecord> {
        let of_version = self.replicas.group(move |key| key.version.cmp(version));
        of_version.map(|(_, replica)| replica)
    }
    /// As [`Self::replicas`], of those alone that `is_wanted` takes, and of one model where one is named.
    pub fn replicas_where<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        start: Option<ReplicaKey>,
        limit: usize,
        is_wanted: impl Fn(&ReplicaRecord) -> bool,
    ) -> Page<'a, ReplicaKey, ReplicaRecord> {
        let of_model = |model: &'a ModelName| move |key: &ReplicaKey| key.version.model.cmp(model);
        page_of(&self.replicas, model.map(of_model), start, limit, is_wanted)
    }

    /// One role.
    pub fn role(&self, role: &RoleName) -> Option<&RoleRecord> {
        self.roles.get(role).map(|r| &r.record)
    }
    /// All roles, by name.
    pub fn roles(&self) -> impl Iterator<Item = &RoleRecord> {
        self.roles.values().map(|r| &r.record)
    }
    /// Roles by name, after one of them.
    pub fn roles_after(&self, start: Option<RoleName>) -> impl Iterator<Item = &RoleRecord> {
        after(&self.roles, start).map(|(_, role)| &role.record)
    }
    /// Who may hold a role, most wanted first: its list, or all regions in the order in which they joined.
    pub fn candidates<'a>(&'a self, role: &'a RoleRecord) -> &'a [RegionId] {
        if role.candidates.is_empty() {
            &self.join_order
        } else {
            &role.candidates
        }
    }
    /// The largest TTL that may be outstanding under a role (L8).
    pub fn outstanding_ttl(&self, role: &RoleName) -> Option<Duration> {
        self.roles.get(role).map(RoleState::outstanding_ttl)
    }
    /// The TTL that a role's leases had before it was shortened, until a leader has waited it out.
    pub fn former_ttl(&self, role: &RoleName) -> Option<FormerTtl> {
        self.roles.get(role)?.former_ttl
    }

    /// One plan.
    pub fn plan(&self, plan: PlanId) -> Option<&PlanRecord> {
        self.plans.get(&plan)
    }
    /// All plans that are remembered, oldest first, after one of them.
    pub fn plans(&self, start: Option<PlanId>, limit: usize) -> Page<'_, PlanId, PlanRecord> {
        page(after(&self.plans, start), limit, |_| true)
    }
    /// The plan that moves a role now.
    pub fn running_plan(&self, role: &RoleName) -> Option<&PlanRecord> {
        self.plans_of(role)
            .next_back()
            .filter(|p| p.state == PlanState::Running)
    }
    /// The plans of a role that are remembered, oldest first. The running one is the last: none begins while another runs.
    pub(crate) fn plans_of(&self, role: &RoleName) -> impl DoubleEndedIterator<Item = &PlanRecord> {
        self.plans_up_to(role, Included(PlanId(u64::MAX)))
    }
    fn plans_up_to(
        &self,
        role: &RoleName,
        last: Bound<PlanId>,
    ) -> impl DoubleEndedIterator<Item = &PlanRecord> {
        let first = Included((role.clone(), PlanId(0)));
        let plans = self
            .plans_of
            .range((first, last.map(|plan| (role.clone(), plan))));
        plans.filter_map(|(_, plan)| self.plans.get(plan))
    }
    /// Up to `limit` plans, newest first: those that began before one of them, and of one role where one is named.
    pub fn newest_plans(
        &self,
        role: Option<&RoleName>,
        before: Option<PlanId>,
        limit: usize,
    ) -> Vec<&PlanRecord> {
        let last = before.map_or(Unbounded, Excluded);
        match role {
            Some(role) => {
                let last = before.map_or(Included(PlanId(u64::MAX)), Excluded);
                self.plans_up_to(role, last).rev().take(limit).collect()
            }
            None => {
                let plans = self.plans.range((Unbounded, last)).rev();
                plans.map(|(_, plan)| plan).take(limit).collect()
            }
        }
    }

    /// The versions that aliases point at.
    fn served(&self) -> BTreeSet<VersionKey> {
        let key = |alias: &AliasRecord| VersionKey {
            model: alias.model.clone(),
            version: alias.version,
        };
        self.aliases.values().map(key).collect()
    }

    /// Which served versions a region must have copies of, and has (I8).
    pub fn coverage(&self, region: &RegionId) -> Coverage {
        self.coverage_of(&self.served(), &self.reachable(), region)
    }

    fn coverage_of(
        &self,
        served: &BTreeSet<VersionKey>,
        reachable: &BTreeSet<&RegionId>,
        region: &RegionId,
    ) -> Coverage {
        let versions = served.iter();
        Coverage::of(versions.map(|version| self.served_version(version, reachable, region)))
    }

    /// The regions that copies can be fetched from.
    fn reachable(&self) -> BTreeSet<&RegionId> {
        let is_up = |n: &&NodeRecord| n.kind == NodeKind::Agent && n.status == NodeStatus::Up;
        // Too few vantages may be left to condemn a region whose agents are all gone.
        let lives = |r: &&RegionId| {
            self.regions
                .get(*r)
                .is_some_and(|r| r.health != Health::Unhealthy)
        };
        let regions = self.nodes.values().filter(is_up).map(|n| &n.region);
        regions.filter(lives).collect()
    }

    fn is_placed(&self, version: &VersionKey, region: &RegionId) -> bool {
        let model = self.models.get(&version.model);
        model.is_some_and(|m| placement::wants(&m.placement, region))
    }

    fn served_version(
        &self,
        version: &VersionKey,
        reachable: &BTreeSet<&RegionId>,
        region: &RegionId,
    ) -> ServedVersion {
        let verified = |r: &&ReplicaRecord| r.state == ReplicaState::Verified;
        ServedVersion {
            placed: self.is_placed(version, region),
            verified_here: self
                .replicas_of(version)
                .filter(verified)
                .any(|r| &r.key.region == region),
            verified_elsewhere: self
                .replicas_of(version)
                .filter(verified)
                .any(|r| &r.key.region != region && reachable.contains(&r.key.region)),
        }
    }

    /// What the registry says of somebody who might take a role; [`policy::failover::qualified`] judges it.
    pub fn target_view(&self, role: &RoleRecord, target: &Holder) -> TargetView {
        self.target_with(role, target, self.coverage(&target.region))
    }

    fn target_with(&self, role: &RoleRecord, target: &Holder, coverage: Coverage) -> TargetView {
        let standing = |n: &NodeRecord| NodeStanding {
            region: n.region.clone(),
            kind: n.kind,
            incarnation: n.incarnation,
            status: n.status,
        };
        TargetView {
            target: target.clone(),
            is_candidate: self.candidates(role).contains(&target.region),
            health: self.regions.get(&target.region).map(|r| r.health),
            node: self.nodes.get(&target.node).map(standing),
            coverage,
        }
    }

    /// The plans of a role that a decision looks at: the running one, and those that failed since one succeeded.
    pub fn unsettled_plans<'a>(&'a self, role: &'a RoleName) -> impl Iterator<Item = &'a PlanRecord> {
        let newest_first = self.plans_of(role).rev();
        newest_first.take_while(|p| p.state != PlanState::Succeeded)
    }

    /// The committed half of what [`policy::failover::decide`] looks at; the driver adds what it saw, its leases, and how
    /// long it has seen a plan as it stands. The times in the records are no part of it: they follow wall clocks.
    pub fn failover_view(
        &self,
        role: &RoleName,
        seen: impl Fn(&NodeRecord) -> Seen,
        lease: LeaseView,
        stood: impl Fn(&PlanRecord) -> Duration,
    ) -> Option<FailoverView> {
        let role = self.role(role)?;
        let agents: Vec<_> = (self.nodes.values())
            .filter(|node| node.kind == NodeKind::Agent)
            .map(|node| (node, seen(node)))
            .collect();
        let served = self.served();
        let is_heard = |seen: &&Seen| seen.heard && !is_silent(role, seen.silent_for);
        let heard: Vec<_> = agents.iter().map(|(_, seen)| seen).filter(is_heard).collect();
        let loaded = heard.iter().flat_map(|seen| &seen.loads.loaded);
        let loaded: BTreeSet<_> = loaded.cloned().collect();
        let held = agents
            .iter()
            .find(|(n, _)| role.holder.as_ref() == Some(&holder_of(n)));
        let held = held
            .map(|(_, seen)| seen.loads.loaded.clone())
            .unwrap_or_default();
        // Once for each region: there are many more agents, and each coverage looks at every alias.
        let reachable = self.reachable();
        let mut coverages: BTreeMap<&RegionId, Coverage> = BTreeMap::new();
        let agents: Vec<_> = agents
            .iter()
            .map(|(n, seen)| {
                let of_region = coverages.entry(&n.region);
                let coverage = of_region.or_insert_with(|| self.coverage_of(&served, &reachable, &n.region));
                (n, seen, self.target_with(role, &holder_of(n), *coverage))
            })
            .collect();
        // What nobody fails at who could be chosen moves nobody.
        let could_be = agents
            .iter()
            .filter(|(_, seen, as_target)| is_heard(seen) && qualified(as_target).is_ok());
        let contested = could_be.map(|(_, seen, _)| seen.loads.cannot_serve(&served, &loaded));
        let contested: BTreeSet<_> = contested.flatten().collect();
        let agents = agents.into_iter().map(|(n, seen, as_target)| AgentView {
            node: n.node.clone(),
            as_target,
            silent_for: seen.silent_for,
            heard: seen.heard,
            ready: seen.ready,
            cannot_serve: seen.loads.cannot_serve(&served, &held),
            lacks: seen
                .loads
                .lacking(&contested, &loaded, |key| self.is_placed(key, &n.region)),
        });
        let plan = self.running_plan(&role.role);
        let failed = self.unsettled_plans(&role.role).filter(|p| target_failed(p));
        Some(FailoverView {
            role: role.clone(),
            plan: plan.cloned(),
            candidates: self.candidates(role).to_vec(),
            agents: agents.collect(),
            step_age: plan.map(&stood).unwrap_or_default(),
            failed: failed.map(|p| (p.target.clone(), stood(p))).collect(),
            holder_renewed: lease.renewed,
            lease_lapsed: lease.lapsed,
            released: lease.released,
        })
    }
}

/// The current run of a node, as it would hold a role.
fn holder_of(node: &NodeRecord) -> Holder {
    Holder {
        region: node.region.clone(),
        node: node.node.clone(),
        incarnation: node.incarnation,
    }
}

/// What the leader saw of an agent's current run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Time since it was last heard, counted from the election at the earliest.
    pub silent_for: Duration,
    /// It was heard since the election.
    pub heard: bool,
    /// It said with its last heartbeat that it is fit to serve.
    pub ready: bool,
    /// How its loads came out, as it said with its last heartbeat.
    pub loads: Loads,
}

/// What the leader knows of a role's leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// None can be outstanding, by the leader's monotonic deadline, also counting earlier leaders' grants (L8).
    pub lapsed: bool,
    /// The holder said that it has stopped acting (L11).
    pub released: bool,
    /// Time since this leader last granted the present holder a renewal.
    pub renewed: Option<Duration>,
}
