//! Reading a role's pointer: what it says counts only under an epoch that is not over (I5).
//!
//! Absent on purpose: writing ([`crate::roles`], [`crate::raise`]); trust in what this node was told before. One that is cut
//! off is told nothing, and beside it a writer whose epoch is over may go on at a store that nobody could claim.
//! Invariant: a pointer is given out only if a quorum confirmed, in an answer to a question that was asked after the bytes
//! had been read, that its epoch was not below the committed one, at most [`crate::door::TRUSTED_FOR`] ago.
//! Why after: committed epochs only grow, so one that is not over when the answer is made was not over when the bytes were
//! read, nor when they were written. An answer that was asked for earlier proves nothing, however young it is: the epoch may
//! have ended since, and the bytes may have been written after that.

use std::{sync::Arc, time::Duration};

use artifact_store::pointer::{self, PointerBody, Unusable};
use policy::fence::{Floor, floor_of};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use types::{
    Holder, Reason, RegionId, RoleName,
    reason::Refusal,
    region::{FencingDoor, StoreBinding},
};

use crate::{confirmations::Confirmations, stores::Stores, view::View};

/// Time for one read, with everything that it waits for.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Readers of pointers; clones share the stores and the questions.
#[derive(Clone)]
pub struct Pointers {
    view: watch::Receiver<Arc<View>>,
    stores: Stores,
    confirmations: Confirmations,
    limit: Duration,
}

impl Pointers {
    /// Reads the stores of this view, and has the epochs that are found there confirmed.
    pub fn new(view: watch::Receiver<Arc<View>>, stores: Stores, confirmations: Confirmations) -> Self {
        Self {
            view,
            stores,
            confirmations,
            limit: READ_LIMIT,
        }
    }

    /// With another time for one read.
    #[cfg(test)]
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// What a role's pointer in a region's store says; none where there is no pointer yet. The coordinators are asked after it
    /// was read, once for all who wait for their answer. Answers within 5 s.
    ///
    /// # Errors
    /// STALE_EPOCH with both epochs while the pointer stands below the committed one: wait for the holder's claim. WRONG_HOLDER
    /// where it stands under the committed one and names somebody who does not hold that. NO_QUORUM while no coordinator with a
    /// quorum confirms its epoch: try again once one does. No such role or region, a store that guards nothing, or one that
    /// failed.
    pub async fn read(&self, role: &RoleName, region: &RegionId) -> Result<Option<PointerBody>, Refusal> {
        let deadline = Instant::now() + self.limit;
        let binding = self.binding(role, region)?;
        let fetched = timeout_at(deadline, self.fetch(role, region, &binding)).await;
        let fetched =
            fetched.map_err(|_| unavailable(region, &format!("no answer within {:?}", self.limit)))?;
        let Some(body) = fetched? else { return Ok(None) };
        // What is known to be over needs no question.
        self.check(region, &body, None)?;
        let token = body.token();
        let confirmed = timeout_at(deadline, self.confirmations.committed(&token)).await;
        let confirmed = confirmed.unwrap_or_else(|_| {
            let text = format!("the pointer and an answer took more than {:?}", self.limit);
            Err(Refusal::new(Reason::NoQuorum, text))
        });
        let confirmed = confirmed.map_err(|refusal| unconfirmed(region, &body, refusal))?;
        self.check(region, &body, Some(&confirmed))?;
        Ok(Some(body))
    }

    async fn fetch(
        &self,
        role: &RoleName,
        region: &RegionId,
        binding: &StoreBinding,
    ) -> Result<Option<PointerBody>, Refusal> {
        let store = self.stores.get(region, binding).await;
        let store = store.map_err(|why| unavailable(region, &why))?;
        let read = pointer::read_pointer(store.as_ref(), role).await;
        let pointed = read.map_err(|error| unavailable(region, &error.to_string()))?;
        Ok(pointed.map(|pointed| pointed.body))
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

    /// By the higher of what was confirmed and what this node was told meanwhile.
    fn check(&self, region: &RegionId, body: &PointerBody, confirmed: Option<&Floor>) -> Result<(), Refusal> {
        let (role, view) = (&body.role, self.view.borrow());
        let record = view.roles.get(role).ok_or_else(|| unknown(role))?;
        let cluster_id = view.cluster_id.ok_or_else(|| unknown(role))?;
        let told = floor_of(record, cluster_id);
        let committed = confirmed.filter(|c| c.epoch >= told.epoch).unwrap_or(&told);
        body.usable(cluster_id, committed.epoch).map_err(refused)?;
        // A committed epoch has one holder, or none, for ever (I4). Of one that is ahead nothing is known here.
        if body.epoch == committed.epoch && committed.holder.as_ref() != Some(&body.holder) {
            return Err(forged(region, body, committed.holder.as_ref()));
        }
        Ok(())
    }
}

fn refused(unusable: Unusable) -> Refusal {
    let text = unusable.to_string();
    match unusable {
        Unusable::OldEpoch {
            role,
            found,
            committed,
        } => Refusal::new(Reason::StaleEpoch, text)
            .with("role", role)
            .with("shown", found)
            .with("current", committed),
        Unusable::OtherCluster { found, expected, .. } => Refusal::new(Reason::WrongCluster, text)
            .with("shown", found)
            .with("current", expected),
    }
}

/// Whoever wrote this never held the role under that epoch, in this cluster's history.
fn forged(region: &RegionId, body: &PointerBody, holder: Option<&Holder>) -> Refusal {
    let held_by = holder.map_or_else(|| "nobody".to_owned(), ToString::to_string);
    let text = format!(
        "the pointer of {} in the store of {region} stands under {} and names {}, and that epoch is held by {held_by}: it was \
         not written under the role; check who has the store's keys, and switch the role over: the next epoch's claim \
         replaces it",
        body.role, body.epoch, body.holder
    );
    Refusal::new(Reason::WrongHolder, text)
        .with("region", region)
        .with("role", &body.role)
        .with("shown", body.epoch)
        .with("current", body.epoch)
        .with("shown_holder", &body.holder)
        .with("holder", held_by)
}

fn unknown(role: &RoleName) -> Refusal {
    Refusal::new(Reason::RoleNotFound, format!("no role {role} is known here")).with("role", role)
}

/// Nobody said whether the epoch is over: nobody with a quorum was reached, or the refusal says more.
fn unconfirmed(region: &RegionId, body: &PointerBody, refusal: Refusal) -> Refusal {
    if !refusal.reason.retryable() {
        return refusal;
    }
    let text = format!(
        "the pointer of {} in the store of {region} stands under {}, and no quorum of coordinators confirms that this epoch is \
         not over: {}; try again once one can be reached",
        body.role, body.epoch, refusal.message
    );
    Refusal::new(Reason::NoQuorum, text)
        .with("region", region)
        .with("role", &body.role)
        .with("shown", body.epoch)
        .with("cause", refusal.reason)
}

fn unavailable(region: &RegionId, why: &str) -> Refusal {
    let text = format!("the pointer in the store of {region} cannot be read: {why}");
    Refusal::new(Reason::Unreachable, text).with("region", region)
}
