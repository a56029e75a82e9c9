//! Reading a role's pointer: what it says counts only under an epoch that is not over (I5).
//!
//! Absent on purpose: writing ([`crate::roles`], [`crate::raise`]).
//! Invariant: a pointer is given out only if its epoch was not below the committed one after it had been read.

use std::{sync::Arc, time::Duration};

use artifact_store::pointer::{self, PointerBody, Unusable};
use tokio::{sync::watch, time::timeout};
use types::{
    Reason, RegionId, RoleName,
    reason::Refusal,
    region::{FencingDoor, StoreBinding},
};

use crate::{stores::Stores, view::View};

/// Time for one read.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Readers of pointers; clones share the stores.
#[derive(Clone)]
pub struct Pointers {
    view: watch::Receiver<Arc<View>>,
    stores: Stores,
}

impl Pointers {
    /// Reads by this view of the committed epochs.
    pub fn new(view: watch::Receiver<Arc<View>>, stores: Stores) -> Self {
        Self { view, stores }
    }

    /// What a role's pointer in a region's store says; none where there is no pointer yet.
    ///
    /// # Errors
    /// STALE_EPOCH with both epochs while the pointer stands below the committed one: wait for the holder's claim. No such
    /// role or region, a store that guards nothing, or one that failed.
    pub async fn read(&self, role: &RoleName, region: &RegionId) -> Result<Option<PointerBody>, Refusal> {
        let binding = self.binding(role, region)?;
        let store = self.stores.get(region, &binding).await;
        let store = store.map_err(|why| unavailable(region, &why))?;
        let read = timeout(READ_LIMIT, pointer::read_pointer(store.as_ref(), role)).await;
        let read = read.map_err(|_| unavailable(region, &format!("no answer within {READ_LIMIT:?}")))?;
        let Some(pointed) = read.map_err(|error| unavailable(region, &error.to_string()))? else {
            return Ok(None);
        };
        self.check(role, &pointed.body)?;
        Ok(Some(pointed.body))
    }

    fn binding(&self, role: &RoleName, region: &RegionId) -> Result<StoreBinding, Refusal> {
        let view = self.view.borrow();
        if !view.roles.contains_key(role) {
            return Err(unknown(role));
        }
        let record = view.regions.get(region).ok_or_else(|| {
            Refusal::new(Reason::RegionNotFound, format!("no region {region}")).with("region", region)
        })?;
        let guards = |binding: &&StoreBinding| binding.fencing_door == FencingDoor::Qualified;
        record.store.as_ref().filter(guards).cloned().ok_or_else(|| {
            let text = format!("{region} has no store that guards pointers");
            Refusal::new(Reason::StoreNotQualified, text).with("region", region)
        })
    }

    /// By the epoch that is committed now: what rose during the read counts.
    fn check(&self, role: &RoleName, body: &PointerBody) -> Result<(), Refusal> {
        let view = self.view.borrow();
        let record = view.roles.get(role).ok_or_else(|| unknown(role))?;
        let cluster_id = view.cluster_id.ok_or_else(|| unknown(role))?;
        body.usable(cluster_id, record.epoch).map_err(|unusable| {
            let text = unusable.to_string();
            match unusable {
                Unusable::OldEpoch { found, committed, .. } => Refusal::new(Reason::StaleEpoch, text)
                    .with("role", role)
                    .with("shown", found)
                    .with("current", committed),
                Unusable::OtherCluster { found, expected, .. } => Refusal::new(Reason::WrongCluster, text)
                    .with("shown", found)
                    .with("current", expected),
            }
        })
    }
}

fn unknown(role: &RoleName) -> Refusal {
    Refusal::new(Reason::RoleNotFound, format!("no role {role} is known here")).with("role", role)
}

fn unavailable(region: &RegionId, why: &str) -> Refusal {
    let text = format!("the pointer in the store of {region} cannot be read: {why}");
    Refusal::new(Reason::Unreachable, text).with("region", region)
}
