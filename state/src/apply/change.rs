//! The only writer of records: each write stamps the etag and makes the event, so a fold of events equals the state.

use std::{collections::BTreeSet, sync::Arc};

use policy::{failover, placement};
use types::{
    AliasName, ExperimentName, Holder, ModelName, ModelVersion, NodeId, NodeIncarnation, PlanId, Principal,
    RegionId, Revision, RoleName, UnixMillis, VersionKey,
    experiment::ExperimentRecord,
    history::{DeploymentRecord, HealthChange, HealthSubject, Standing},
    model::{AliasRecord, ModelRecord, VersionRecord},
    plan::PlanRecord,
    preferences::PreferencesRecord,
    region::{NodeRecord, RegionRecord},
    replica::{ReplicaKey, ReplicaRecord},
    role::RoleRecord,
    service::ServiceRecord,
};

use super::services;
use crate::{
    command::Entry,
    event::Event,
    features::{Feature, Features},
    rejection::Rejection,
    reply::Reply,
    state::{ClusterRecord, ControlState, EVIDENCE_CHARS_MAX, RoleState, WasPublished},
};

/// One entry being applied.
pub(crate) struct Change<'a> {
    /// To be read; written by the methods below.
    pub(crate) state: &'a mut ControlState,
    entry: &'a Entry,
    events: Vec<Event>,
}

impl<'a> Change<'a> {
    pub(crate) fn new(state: &'a mut ControlState, entry: &'a Entry) -> Self {
        Self {
            state,
            entry,
            events: Vec::new(),
        }
    }
    pub(crate) fn into_events(self) -> Vec<Event> {
        self.events
    }
    /// The log index of this entry.
    pub(crate) fn revision(&self) -> Revision {
        self.state.revision
    }
    /// State time.
    pub(crate) fn now(&self) -> UnixMillis {
        self.state.time
    }
    /// The rules that are on at this entry.
    pub(crate) fn features(&self) -> Features {
        self.state.features()
    }
    /// That a rule is on.
    pub(crate) fn enabled(&self, feature: Feature) -> Result<(), Rejection> {
        if self.features().has(feature) {
            return Ok(());
        }
        let (level, needed) = (self.features().level(), feature.level());
        let problem = format!("is {level}, and this takes {needed}: upgrade every coordinator first");
        Err(Rejection::invalid("the cluster's feature level", problem))
    }
    /// The etag that the caller named; what it is compared with was checked already.
    pub(crate) fn expected_etag(&self) -> Option<Revision> {
        self.entry.expects.etag
    }
    pub(crate) fn actor(&self) -> &'a Principal {
        &self.entry.actor
    }
    /// The reply of a change that has nothing more to say.
    pub(crate) fn done(&self) -> Reply {
        Reply::Done {
            modified: self.state.revision,
        }
    }

    pub(crate) fn put_cluster(&mut self, mut record: ClusterRecord) {
        record.modified = self.state.revision;
        self.state.cluster = Some(Arc::new(record.clone()));
        self.events.push(Event::Cluster(record));
    }
    pub(crate) fn put_region(&mut self, mut record: RegionRecord) {
        record.modified = self.state.revision;
        let before = self.state.regions.get(&record.region).map(|r| r.health.into());
        let subject = HealthSubject::Region(record.region.clone());
        self.note_health(subject, before, record.health.into(), &record.health_evidence);
        self.state.regions.insert(record.region.clone(), record.clone());
        self.events.push(Event::Region(record));
    }
    /// Forgets a region and how it has stood.
    pub(crate) fn delete_region(&mut self, region: &RegionId) {
        let subject = HealthSubject::Region(region.clone());
        self.state.remove_health_changes(&subject);
        self.state.regions.remove(region);
        self.events.push(Event::RegionDeleted {
            region: region.clone(),
        });
    }
    /// Forgets a node, its earlier runs, how it has stood, and what it hosts.
    pub(crate) fn delete_node(&mut self, node: &NodeId, region: &RegionId) {
        let hosted: Vec<_> = self.state.services_on(node).cloned().collect();
        for instance in hosted {
            self.delete_service(&instance);
        }
        let subject = HealthSubject::Node(node.clone());
        self.state.remove_health_changes(&subject);
        self.state.superseded.remove(node);
        self.state.nodes.remove(node);
        let (node, region) = (node.clone(), region.clone());
        self.events.push(Event::NodeDeleted { node, region });
    }
    pub(crate) fn put_node(&mut self, mut record: NodeRecord) {
        record.modified = self.state.revision;
        let before = self.state.nodes.get(&record.node).map(|n| n.status.into());
        let subject = HealthSubject::Node(record.node.clone());
        self.note_health(subject, before, record.status.into(), "");
        self.state.nodes.insert(record.node.clone(), record.clone());
        self.events.push(Event::Node(record.clone()));
        self.follow_node(&record);
    }
    /// What a node hosts ends with the run that it was registered for, and is as healthy as the node.
    fn follow_node(&mut self, node: &NodeRecord) {
        let hosted: Vec<_> = self.state.services_on(&node.node).cloned().collect();
        for instance in hosted {
            match services::standing(&instance, node) {
                None => self.delete_service(&instance),
                Some(health) if health == instance.health => {}
                Some(health) => self.put_service(ServiceRecord { health, ..instance }),
            }
        }
    }
    pub(crate) fn put_service(&mut self, mut record: ServiceRecord) {
        record.modified = self.state.revision;
        self.state.add_service(record.clone());
        self.events.push(Event::Service(Box::new(record)));
    }
    pub(crate) fn delete_service(&mut self, record: &ServiceRecord) {
        self.state.remove_service(&record.key);
        self.events.push(Event::ServiceDeleted {
            key: record.key.clone(),
            region: record.region.clone(),
        });
    }
    /// Remembers that another run of a node has followed this one; the oldest of more than `kept` is forgotten.
    pub(crate) fn supersede(&mut self, node: &NodeId, run: NodeIncarnation, kept: usize) {
        let mut runs = self.state.superseded.get(node).cloned().unwrap_or_default();
        runs.push(run);
        let surplus = runs.len().saturating_sub(kept);
        runs.drain(..surplus);
        self.state.superseded.insert(node.clone(), runs);
    }
    /// Remembers that a version of the model was ready once; whether this is the first.
    pub(crate) fn publish(&mut self, model: &ModelName) -> bool {
        !self.state.published.insert(model.clone(), WasPublished)
    }
    pub(crate) fn put_model(&mut self, mut record: ModelRecord) {
        record.modified = self.state.revision;
        self.state.models.insert(record.name.clone(), record.clone());
        self.events.push(Event::Model(record));
    }
    pub(crate) fn put_version(&mut self, mut record: VersionRecord) {
        record.modified = self.state.revision;
        self.state.add_version(record.clone());
        self.events.push(Event::Version(record));
    }
    pub(crate) fn put_alias(&mut self, mut record: AliasRecord) {
        record.modified = self.state.revision;
        self.note_deployment(&record.model, &record.alias, Some(record.version), &record.reason);
        self.state.add_alias(record.clone());
        self.events.push(Event::Alias(record));
    }
    pub(crate) fn delete_alias(&mut self, model: &ModelName, alias: &AliasName) {
        self.note_deployment(model, alias, None, "");
        let (model, alias) = (model.clone(), alias.clone());
        self.state.aliases.remove(&(model.clone(), alias.clone()));
        self.events.push(Event::AliasDeleted { model, alias });
    }
    /// Remembers how something stands from now on, if it stood otherwise. No event: those of the region or node say it.
    fn note_health(&mut self, subject: HealthSubject, from: Option<Standing>, to: Standing, evidence: &str) {
        if from == Some(to) || !self.features().has(Feature::Histories) {
            return;
        }
        self.state.add_health_change(HealthChange {
            subject,
            revision: self.state.revision,
            from,
            to,
            evidence: evidence.chars().take(EVIDENCE_CHARS_MAX).collect(),
            at: self.now(),
            by: self.actor().clone(),
        });
    }
    /// Remembers a move of an alias. No event: that of the alias says it.
    fn note_deployment(
        &mut self,
        model: &ModelName,
        alias: &AliasName,
        to: Option<ModelVersion>,
        reason: &str,
    ) {
        if !self.features().has(Feature::Histories) {
            return;
        }
        self.state.add_deployment(DeploymentRecord {
            model: model.clone(),
            revision: self.state.revision,
            alias: alias.clone(),
            from: self.state.alias(model, alias).map(|a| a.version),
            to,
            reason: reason.to_owned(),
            at: self.now(),
            by: self.actor().clone(),
        });
    }
    /// No event: preferences are for nobody but their owner. Who has none left has no record.
    pub(crate) fn put_preferences(&mut self, mut record: PreferencesRecord) {
        record.modified = self.state.revision;
        if record.values.is_empty() {
            self.state.preferences.remove(&record.principal);
        } else {
            self.state.preferences.insert(record.principal.clone(), record);
        }
    }
    pub(crate) fn put_experiment(&mut self, mut record: ExperimentRecord) {
        record.modified = self.state.revision;
        self.state.add_experiment(record.clone());
        self.events.push(Event::Experiment(Box::new(record)));
    }
    pub(crate) fn delete_experiment(&mut self, model: &ModelName, name: &ExperimentName) {
        let (model, name) = (model.clone(), name.clone());
        self.state.experiments.remove(&(model.clone(), name.clone()));
        self.events.push(Event::ExperimentDeleted { model, name });
    }
    pub(crate) fn put_replica(&mut self, mut record: ReplicaRecord) {
        record.modified = self.state.revision;
        self.state.add_replica(record.clone());
        self.events.push(Event::Replica(record));
    }
    pub(crate) fn delete_replica(&mut self, key: &ReplicaKey) {
        self.state.replicas.remove(key);
        self.events.push(Event::ReplicaDeleted(key.clone()));
    }
    pub(crate) fn put_role(&mut self, mut role: RoleState) {
        role.record.modified = self.state.revision;
        role.record.outstanding_ttl = role.outstanding_ttl();
        self.events.push(Event::Role(Box::new(role.record.clone())));
        self.state.roles.insert(role.record.role.clone(), role);
    }
    pub(crate) fn put_plan(&mut self, mut record: PlanRecord) {
        record.modified = self.state.revision;
        self.state.add_plan(record.clone());
        self.events.push(Event::Plan(Box::new(record)));
    }
    pub(crate) fn delete_plan(&mut self, plan: PlanId) {
        if let Some(PlanRecord { role, .. }) = self.state.plan(plan).cloned() {
            self.state.remove_plan(plan);
            self.events.push(Event::PlanDeleted { plan, role });
        }
    }

    pub(crate) fn region(&self, region: &RegionId) -> Result<RegionRecord, Rejection> {
        let record = self.state.regions.get(region).cloned();
        record.ok_or_else(|| Rejection::RegionNotFound {
            region: region.clone(),
        })
    }
    pub(crate) fn model(&self, model: &ModelName) -> Result<ModelRecord, Rejection> {
        let record = self.state.models.get(model).cloned();
        record.ok_or_else(|| Rejection::ModelNotFound { model: model.clone() })
    }
    pub(crate) fn version(&self, version: &VersionKey) -> Result<VersionRecord, Rejection> {
        let record = self.state.versions.get(version).cloned();
        record.ok_or_else(|| Rejection::VersionNotFound {
            version: version.clone(),
        })
    }
    pub(crate) fn experiment(
        &self,
        model: &ModelName,
        name: &ExperimentName,
    ) -> Result<ExperimentRecord, Rejection> {
        let record = self.state.experiment(model, name).cloned();
        record.ok_or_else(|| Rejection::ExperimentNotFound {
            model: model.clone(),
            experiment: name.clone(),
        })
    }
    pub(crate) fn role(&self, role: &RoleName) -> Result<RoleState, Rejection> {
        let record = self.state.roles.get(role).cloned();
        record.ok_or_else(|| Rejection::RoleNotFound { role: role.clone() })
    }
    pub(crate) fn plan(&self, plan: PlanId) -> Result<PlanRecord, Rejection> {
        let record = self.state.plans.get(&plan).cloned();
        record.ok_or(Rejection::PlanNotFound { plan })
    }
    /// The cluster's record; there is one, since nothing but `InitCluster` is handled before it.
    pub(crate) fn cluster(&self) -> Result<ClusterRecord, Rejection> {
        self.state.cluster().cloned().ok_or(Rejection::NotBootstrapped)
    }

    /// The regions that a model's placement wants copies in, in the order in which they joined.
    pub(crate) fn placed_regions(&self, model: &ModelName) -> Vec<RegionId> {
        match self.state.models.get(model) {
            Some(record) => placement::regions_for(&record.placement, self.state.join_order.iter())
                .cloned()
                .collect(),
            None => Vec::new(),
        }
    }

    /// That a list names regions that exist, each once.
    pub(crate) fn check_region_list(&self, field: &str, regions: &[RegionId]) -> Result<(), Rejection> {
        let mut seen = BTreeSet::new();
        for region in regions {
            self.region(region)?;
            if !seen.insert(region) {
                return Err(Rejection::invalid(field, format!("{region} is named twice")));
            }
        }
        Ok(())
    }

    /// That a target is known able to serve (I8).
    pub(crate) fn check_qualified(&self, role: &RoleRecord, target: &Holder) -> Result<(), Rejection> {
        failover::qualified(&self.state.target_view(role, target)).map_err(|unmet| {
            let unmet = unmet.iter().map(ToString::to_string).collect();
            Rejection::TargetNotQualified {
                target: target.clone(),
                unmet,
            }
        })
    }
}
