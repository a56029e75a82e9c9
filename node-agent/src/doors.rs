//! The guarded doors outside of Regent: object-store pointers and databases, under one name each (L14, L17).
//!
//! Absent on purpose: trying them ([`crate::claim`]), and who may. Invariant: a door is one binding; what was said of a store
//! that moved, or of a database that another one took the place of, says nothing of its successor.

use std::{collections::BTreeMap, fmt};

use tokio::sync::watch;
use types::{DatabaseName, FencingToken, Lineage, RegionId, RoleName, region::StoreBinding};

use crate::{
    databases::{DatabaseBinding, Databases},
    stores::Stores,
};

/// What a door is called in plans, logs and messages: `pointer/<region>`, `postgres/<database>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoorKey {
    /// The pointer in a region's store.
    Pointer(RegionId),
    /// A database whose tables the role guards.
    Postgres(DatabaseName),
}

impl fmt::Display for DoorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(region) => write!(f, "pointer/{region}"),
            Self::Postgres(database) => write!(f, "postgres/{database}"),
        }
    }
}

/// What stands behind a door now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A store, as the registry knows it.
    Store(StoreBinding),
    /// A database, as this agent's config names it and its probe saw it.
    Database(DatabaseBinding),
}

/// Every door of one role, or of an agent.
pub type Doors = BTreeMap<DoorKey, Binding>;

/// All doors that this agent knows of, whoever sits beside them.
#[derive(Clone, Copy)]
pub struct AllDoors<'a> {
    /// Every region's store.
    pub stores: &'a BTreeMap<RegionId, StoreBinding>,
    /// The databases of this agent's config.
    pub databases: &'a BTreeMap<DatabaseName, DatabaseBinding>,
}

/// No database.
static NO_DATABASES: BTreeMap<DatabaseName, DatabaseBinding> = BTreeMap::new();
/// No store.
static NO_STORES: BTreeMap<RegionId, StoreBinding> = BTreeMap::new();

impl<'a> AllDoors<'a> {
    /// There is none.
    pub const NONE: AllDoors<'static> = AllDoors {
        stores: &NO_STORES,
        databases: &NO_DATABASES,
    };

    /// Stores alone.
    pub fn of_stores(stores: &'a BTreeMap<RegionId, StoreBinding>) -> Self {
        Self {
            stores,
            ..AllDoors::NONE
        }
    }

    /// Those that a role guards: a pointer in every store, and the databases that say so.
    pub fn of(&self, role: &RoleName) -> Doors {
        let stores = self
            .stores
            .iter()
            .map(|(region, binding)| pointer(region, binding));
        stores.chain(self.databases_of(role)).collect()
    }

    /// Those of them that are beside an agent of this region: its own store, and its databases.
    pub fn beside(&self, region: &RegionId, role: &RoleName) -> Doors {
        let own = self.stores.get_key_value(region);
        let own = own.map(|(region, binding)| pointer(region, binding));
        own.into_iter().chain(self.databases_of(role)).collect()
    }

    fn databases_of(&self, role: &RoleName) -> impl Iterator<Item = (DoorKey, Binding)> {
        let guarded = self
            .databases
            .iter()
            .filter(|(_, binding)| binding.roles.contains(role));
        guarded.map(|(name, binding)| {
            (
                DoorKey::Postgres(name.clone()),
                Binding::Database(binding.clone()),
            )
        })
    }
}

fn pointer(region: &RegionId, binding: &StoreBinding) -> (DoorKey, Binding) {
    (DoorKey::Pointer(region.clone()), Binding::Store(binding.clone()))
}

/// How doors are reached; clones share the handles.
#[derive(Clone)]
pub struct Reach {
    /// Object stores.
    pub stores: Stores,
    /// Databases.
    pub databases: Databases,
    /// The cluster that this agent belongs to, with those whose doors are its own to take over.
    pub lineage: watch::Receiver<Option<Lineage>>,
}

impl Reach {
    /// What a token's cluster goes on from, as far as statements say that were verified here.
    pub(crate) fn lineage_of(&self, token: &FencingToken) -> Lineage {
        let known = self.lineage.borrow().clone();
        let own = known.filter(|lineage| lineage.cluster == token.cluster_id);
        own.unwrap_or_else(|| Lineage::first(token.cluster_id))
    }
}
