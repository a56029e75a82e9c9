//! What should be true of this node, from the cluster's state. Pure.
//!
//! Absent on purpose: what is true ([`crate::observed`]) and how to get there ([`crate::reconcile`]).
//! Invariant: equal views give equal answers; nothing in here grants a right to act (L4).

mod roles;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use artifact_store::transfer;
use types::{
    Digest, FencingToken, Holder, ModelName, ModelVersion, NodeId, RegionId, Revision, RoleName, VersionKey,
    model::{VersionRecord, VersionState},
    region::{Health, NodeKind, NodeStatus, StoreBinding},
    replica::{ReplicaKey, ReplicaRecord, ReplicaState},
};

pub use roles::{RolePhase, RoleWish, StepId, StepWish};

use crate::{observed::Memory, pins::Pin, view::View};

/// The alias that decides which version of a model answers requests that name none.
pub const CHAMPION: &str = "champion";

/// What operators of this node decided, beside the cluster's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalWishes {
    /// Versions that a fenced `ServeVersion` made the active ones of their models.
    pub pins: BTreeMap<ModelName, Pin>,
    /// Versions to have in memory although no alias points at them.
    pub load: BTreeSet<VersionKey>,
    /// Versions to keep out of memory although an alias points at them.
    pub unload: BTreeSet<VersionKey>,
    /// Versions that running privileged calls need in memory, whatever else is wished, and how many of them.
    pub called: BTreeMap<VersionKey, usize>,
}

/// What should be true of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Uploads into this region that this node re-reads and hashes.
    pub verify: BTreeMap<VersionKey, Arc<VersionRecord>>,
    /// Copies that this node brings into its region's store.
    pub copy: BTreeMap<VersionKey, Copy>,
    /// Versions that this node has on its own disk: verified in its region, or once verified and being repaired.
    pub cache: BTreeMap<VersionKey, Copy>,
    /// Versions in memory.
    pub load: BTreeSet<VersionKey>,
    /// Those of them that only an operator or a running call asked for: the node is fit without them.
    pub asked: BTreeSet<VersionKey>,
    /// Versions that an alias, a pin, an operator or a running call names, whether they can be in memory yet or not.
    pub named: BTreeSet<VersionKey>,
    /// The version of each model that answers requests that name none.
    pub active: BTreeMap<ModelName, ModelVersion>,
    /// Deleted versions, with those of their files that no other version has.
    pub gone: BTreeMap<VersionKey, Vec<Digest>>,
    /// Served versions that belong here, could be had from a living region, and are not verified here.
    pub missing: BTreeSet<VersionKey>,
    /// What the last try said of versions whose copies in the own region are FAILED.
    pub troubled: BTreeMap<VersionKey, String>,
    /// What the alias `champion` points at.
    pub champions: BTreeMap<ModelName, ModelVersion>,
    /// What answers for a model whose version that shall answer does not load: the one that answered last.
    pub stand_ins: BTreeMap<ModelName, ModelVersion>,
    /// Versions that would answer here, but for an operator who unloaded them.
    pub put_aside: BTreeSet<VersionKey>,
    /// At which revision it was moved last.
    pub moved: BTreeMap<ModelName, Revision>,
    /// Pins to be replaced: by none where it was moved after them, and one that does not say which move it overruled by one
    /// that names the last.
    pub repinned: BTreeMap<ModelName, (Pin, Option<Pin>)>,
    /// Roles that this run of this node holds, or is about to.
    pub roles: BTreeMap<RoleName, RoleWish>,
    /// Steps of plans that this run of this node carries out now.
    pub steps: BTreeMap<StepId, StepWish>,
    /// Tokens of others under whose epoch the pointers of the own region's store shall stand.
    pub raises: BTreeMap<RoleName, FencingToken>,
    /// Every region's store.
    pub stores: BTreeMap<RegionId, StoreBinding>,
    /// Whether the own region is among them: work on its copies waits until it is.
    pub has_own_store: bool,
    /// Agents of other regions to probe: node, region, inference endpoint.
    pub peers: BTreeMap<NodeId, (RegionId, String)>,
}

/// The files of a version, as transfers take them; one entry for each digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(pub Vec<transfer::Artifact>);

impl Files {
    /// The files of a record; equal bytes under two paths are moved once.
    pub fn of(record: &VersionRecord) -> Self {
        let mut seen = BTreeSet::new();
        let files = record.artifacts.iter().filter(|a| seen.insert(a.digest));
        Self(
            files
                .map(|a| transfer::Artifact {
                    digest: a.digest,
                    size: a.size,
                })
                .collect(),
        )
    }
}

/// A version that is wanted somewhere, and where its bytes can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The version.
    pub record: Arc<VersionRecord>,
    /// Regions whose stores hold verified copies, the own one first, then healthy ones, then by name.
    pub sources: Vec<RegionId>,
    /// The attempt that verified the own region's copy; none while it is not verified.
    pub verified: Option<u32>,
}

impl Desired {
    /// Folds the view into what `me` should do and be.
    pub fn of(view: &View, me: &Holder, wishes: &LocalWishes) -> Self {
        let mut desired = Self {
            stores: stores(view),
            peers: peers(view, me),
            ..Self::default()
        };
        desired.has_own_store = desired.stores.contains_key(&me.region);
        if let Some(cluster_id) = view.cluster_id {
            desired.roles = roles::roles(view, me, cluster_id);
            desired.raises = roles::raises(view, me, cluster_id);
            desired.steps = roles::steps(view, me, cluster_id);
        }
        for record in view.versions.values() {
            desired.add_version(view, me, record);
        }
        desired.gone = gone(view);
        desired.add_serving(view, me, wishes);
        desired
    }

    fn add_version(&mut self, view: &View, me: &Holder, record: &Arc<VersionRecord>) {
        let key = &record.key;
        if record.state == VersionState::Verifying && record.source_region == me.region {
            if is_owner(view, me, key) {
                self.verify.insert(key.clone(), Arc::clone(record));
            }
            return;
        }
        let Some(replica) = replica(view, key, &me.region) else {
            return;
        };
        if !record.is_replicated() {
            return;
        }
        let is_verified = replica.state == ReplicaState::Verified;
        let copy = Copy {
            record: Arc::clone(record),
            sources: sources(view, key, &me.region),
            verified: is_verified.then_some(replica.attempts),
        };
        // A copy that was found damaged is brought anew; what this node has on its disk serves meanwhile.
        if is_verified || replica.completed_at.is_some() {
            self.cache.insert(key.clone(), copy.clone());
        }
        if replica.state == ReplicaState::Failed {
            self.troubled.insert(key.clone(), replica.error.clone());
        }
        if !is_verified && is_owner(view, me, key) {
            self.copy.insert(key.clone(), copy);
        }
    }

    /// Versions that an alias points at, a pin names or an operator asked for, as far as their bytes are verified here.
    /// The active version is named as soon as a copy of it is wanted here, so that its predecessor stays until then.
    fn add_serving(&mut self, view: &View, me: &Holder, wishes: &LocalWishes) {
        for alias in view.aliases.values() {
            let key = key_of(&alias.model, alias.version);
            if alias.alias.as_str() == CHAMPION {
                self.champions.insert(key.model.clone(), key.version);
                self.moved.insert(key.model.clone(), alias.modified);
                if wants(view, &key, &me.region) {
                    self.active.insert(key.model.clone(), key.version);
                }
            }
            self.named.insert(key.clone());
            if self.cache.contains_key(&key) {
                self.load.insert(key);
            } else if wants(view, &key, &me.region) && is_to_be_had(view, &key, &me.region) {
                self.missing.insert(key);
            }
        }
        for (model, pin) in &wishes.pins {
            let moved = self.moved.get(model).copied().unwrap_or_default();
            match pin.after {
                Some(after) if moved > after => {
                    self.repinned.insert(model.clone(), (*pin, None));
                    continue;
                }
                Some(_) => {}
                None => {
                    let dated = Pin {
                        after: Some(moved),
                        ..*pin
                    };
                    self.repinned.insert(model.clone(), (*pin, Some(dated)));
                }
            }
            let key = key_of(model, pin.version);
            self.named.insert(key.clone());
            if self.cache.contains_key(&key) {
                self.active.insert(model.clone(), pin.version);
                self.load.insert(key);
            }
        }
        for key in &wishes.unload {
            self.load.remove(key);
            if self.named.remove(key) {
                self.put_aside.insert(key.clone());
            }
            if self.active.get(&key.model) == Some(&key.version) {
                self.active.remove(&key.model);
            }
        }
        let asked = wishes.load.difference(&wishes.unload).chain(wishes.called.keys());
        for key in asked {
            self.put_aside.remove(key);
            self.named.insert(key.clone());
            if self.cache.contains_key(key) && self.load.insert(key.clone()) {
                self.asked.insert(key.clone());
            }
        }
    }
}

impl Desired {
    /// While the version that shall answer is not loaded, for whatever reason, the one that answered last goes on, also after
    /// a restart: else a push that hurt nobody when it came is an outage at the next one. Nobody is unready for want of it.
    pub fn add_stand_ins(
        &mut self,
        memory: &BTreeMap<VersionKey, Memory>,
        answered: &BTreeMap<ModelName, ModelVersion>,
        wishes: &LocalWishes,
    ) {
        let is_loaded = |key: &VersionKey| memory.get(key) == Some(&Memory::Loaded);
        for (model, version) in &self.active {
            let last = answered.get(model).filter(|last| *last != version);
            let Some(last) = last.filter(|_| !is_loaded(&key_of(model, *version))) else {
                continue;
            };
            let key = key_of(model, *last);
            if wishes.unload.contains(&key) {
                self.put_aside.insert(key);
            } else if self.cache.contains_key(&key) {
                self.stand_ins.insert(model.clone(), *last);
                if self.load.insert(key.clone()) {
                    self.asked.insert(key);
                }
            }
        }
    }
}

fn gone(view: &View) -> BTreeMap<VersionKey, Vec<Digest>> {
    let is_gone = |record: &&Arc<VersionRecord>| record.state == VersionState::Deleted;
    let living = view.versions.values().filter(|r| !is_gone(r));
    let kept: BTreeSet<_> = living.flat_map(|r| &r.artifacts).map(|a| a.digest).collect();
    let files = |record: &Arc<VersionRecord>| {
        let digests = record.artifacts.iter().map(|a| a.digest);
        let own = digests.filter(|digest| !kept.contains(digest)).collect();
        (record.key.clone(), own)
    };
    view.versions.values().filter(is_gone).map(files).collect()
}

fn key_of(model: &ModelName, version: ModelVersion) -> VersionKey {
    VersionKey {
        model: model.clone(),
        version,
    }
}

fn stores(view: &View) -> BTreeMap<RegionId, StoreBinding> {
    let stores = view.regions.values();
    stores
        .filter_map(|r| Some((r.region.clone(), r.store.clone()?)))
        .collect()
}

fn peers(view: &View, me: &Holder) -> BTreeMap<NodeId, (RegionId, String)> {
    let others = view
        .nodes
        .values()
        .filter(|n| n.kind == NodeKind::Agent && n.region != me.region && !n.endpoints.inference.is_empty());
    others
        .map(|n| (n.node.clone(), (n.region.clone(), n.endpoints.inference.clone())))
        .collect()
}

fn replica<'a>(view: &'a View, key: &VersionKey, region: &RegionId) -> Option<&'a ReplicaRecord> {
    view.replicas.get(&ReplicaKey {
        version: key.clone(),
        region: region.clone(),
    })
}

fn replica_state(view: &View, key: &VersionKey, region: &RegionId) -> Option<ReplicaState> {
    replica(view, key, region).map(|r| r.state)
}

/// Whether a copy is or shall be in `region`.
fn wants(view: &View, key: &VersionKey, region: &RegionId) -> bool {
    let replicated = view.versions.get(key).is_some_and(|r| r.is_replicated());
    replicated && replica_state(view, key, region).is_some()
}

/// Whether another region that is not UNHEALTHY, and has a living agent, has a verified copy; nobody waits for what cannot
/// come.
fn is_to_be_had(view: &View, key: &VersionKey, own: &RegionId) -> bool {
    let mut others = view
        .regions
        .values()
        .filter(|r| r.region != *own && r.health != Health::Unhealthy && has_living_agent(view, &r.region));
    others.any(|r| replica_state(view, key, &r.region) == Some(ReplicaState::Verified))
}

fn has_living_agent(view: &View, region: &RegionId) -> bool {
    let mut nodes = view.nodes.values();
    nodes.any(|n| n.kind == NodeKind::Agent && n.status == NodeStatus::Up && n.region == *region)
}

/// Regions with a store and a verified copy: own first, then healthy ones, then by name.
fn sources(view: &View, key: &VersionKey, own: &RegionId) -> Vec<RegionId> {
    let verified = view
        .regions
        .values()
        .filter(|r| r.store.is_some())
        .filter(|r| replica_state(view, key, &r.region) == Some(ReplicaState::Verified));
    let mut found: Vec<_> = verified
        .map(|r| (r.region != *own, r.health != Health::Healthy, r.region.clone()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, _, region)| region).collect()
}

/// Whether this node does its region's work on a version: one of the region's living agents does, chosen by a hash, so
/// that two of them do not move the same bytes. A node that the view does not show yet works as if it were alone.
fn is_owner(view: &View, me: &Holder, key: &VersionKey) -> bool {
    let agents = view
        .nodes
        .values()
        .filter(|n| n.kind == NodeKind::Agent && n.region == me.region && n.status == NodeStatus::Up);
    let chosen = agents.max_by_key(|n| weight(&n.node, key)).map(|n| &n.node);
    chosen.is_none_or(|node| *node == me.node)
}

fn weight(node: &NodeId, key: &VersionKey) -> [u8; 32] {
    *types::Digest::of(format!("{node} {key}").as_bytes()).as_bytes()
}
