//! Holding primary roles: the lease, and the claim of every guarded door that can be reached (L4, L5, L15).
//!
//! Absent on purpose: who ought to hold a role; committed state says that. Desired state grants nothing: acting begins
//! with an answered renewal. Invariant: a token is handed out only while the lease holds and every door that could be
//! reached stands under its epoch.

mod claims;
mod holding;
mod lease;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use artifact_store::pointer::{self, PointerChange, PointerError, Written};
use client::{Client, guard::BootInstant};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{
    Epoch, FencingToken, Reason, RegionId, RoleName,
    plan::DoorClaim,
    reason::Refusal,
    region::{FencingDoor, StoreBinding},
};

use crate::{
    desired::{RolePhase, RoleWish},
    doors::{AllDoors, Reach},
    metrics::Metrics,
};
use holding::{Holding, lock};
use lease::Past;

/// Spaces the renewals until the first is answered, and a new guard after a lapse.
const RENEW_RETRY: Duration = Duration::from_millis(100);

/// All roles of this run; clones share them.
#[derive(Clone)]
pub struct Roles {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    reach: Reach,
    metrics: Metrics,
    holdings: Mutex<BTreeMap<RoleName, Arc<Holding>>>,
    pasts: Mutex<BTreeMap<RoleName, Past>>,
    tasks: TaskTracker,
    /// The agent ends: leases are released. A role that is merely gone from the state is not: the state may be an old one.
    closing: CancellationToken,
}

/// A role as this run holds it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The token.
    pub token: FencingToken,
    /// What is left of the lease; zero while it is not held.
    pub lease_left: Duration,
    /// Guarded writes may begin.
    pub active: bool,
}

/// Why a guarded pointer was not written.
#[derive(Debug, thiserror::Error)]
pub enum GuardedError {
    /// The role is not held here, or not active yet; nothing was written.
    #[error(transparent)]
    NotHeld(#[from] Refusal),
    /// The lease ended first; the epoch judges what became of the write.
    #[error(transparent)]
    Guard(#[from] client::guard::GuardError),
    /// The door said no, or the store failed.
    #[error(transparent)]
    Pointer(#[from] PointerError),
    /// The store cannot be used, in words.
    #[error("{0}")]
    Store(String),
    /// The store's door was refused when it was attached: a conditional write there guards nothing (L16). Nothing was written.
    #[error("the store of {region} guards no pointers: {why}; attach one that keeps conditional writes")]
    NotQualified {
        /// The store's region.
        region: RegionId,
        /// What the probe of its door saw.
        why: String,
    },
}

impl Roles {
    /// Holds nothing yet.
    pub fn new(client: Client, reach: Reach, metrics: Metrics) -> Self {
        let shared = Shared {
            client,
            reach,
            metrics,
            holdings: Mutex::default(),
            pasts: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Brings the holdings in line with committed state: begins, goes on, hands over, or stops acting at once.
    pub fn update(&self, wishes: &BTreeMap<RoleName, RoleWish>, doors: AllDoors<'_>) {
        let mut holdings = self.shared.lock();
        holdings.retain(|role, holding| {
            let kept = wishes.get(role).is_some_and(|wish| wish.token == holding.token);
            if !kept {
                tracing::info!(%role, epoch = %holding.token.epoch, "role is no longer ours");
                holding.stop.cancel();
            }
            kept
        });
        for (role, wish) in wishes {
            let holding = holdings.entry(role.clone()).or_insert_with(|| {
                tracing::info!(token = %wish.token, phase = ?wish.phase, "taking a role");
                Arc::new(Holding::new(wish))
            });
            // Before the phase: a role is never held with a door that was not looked at.
            let tasks = holding.bind(&doors.of(role));
            self.follow(holding, wish.phase);
            // After it: nobody claims under an epoch that is only expected.
            for task in tasks {
                let claimer = Arc::clone(&self.shared).claim(Arc::clone(holding), task);
                self.shared.tasks.spawn(claimer);
            }
        }
    }

    /// Takes over the phase; a role that is ours or is about to be gets its keeper.
    fn follow(&self, holding: &Arc<Holding>, phase: RolePhase) {
        let mut before = phase;
        let moved = holding.phase.send_if_modified(|now| {
            before = *now;
            let on = moves_on(before, phase);
            if on {
                *now = phase;
            }
            on
        });
        if moved && before == RolePhase::Reserved {
            let keeper = Arc::clone(&self.shared).keep_lease(Arc::clone(holding));
            self.shared.tasks.spawn(keeper);
        }
    }

    /// Waits until every door of a role that can be reached stands under its epoch, and says what came of each; those
    /// that cannot are tried again for as long as the role is ours.
    ///
    /// # Errors
    /// The role is not taken under this epoch, or was lost meanwhile, or a door was not settled within `limit`: it was
    /// not tried to the end, or it can be reached and others go on writing it under an older epoch.
    pub async fn first_claims(
        &self,
        role: &RoleName,
        epoch: Epoch,
        limit: Duration,
    ) -> Result<Vec<DoorClaim>, Refusal> {
        let holding = self.find(role).filter(|h| h.token.epoch == epoch);
        let holding = holding.ok_or_else(|| not_held(role))?;
        let settled = async {
            tokio::select! {
                doors = holding.settled() => doors.ok_or_else(|| not_held(role)),
                () = holding.stop.cancelled() => Err(not_held(role)),
            }
        };
        timeout(limit, settled).await.unwrap_or_else(|_| {
            let text = format!("not claimed within {limit:?}: {}", holding.unsettled());
            Err(Refusal::new(Reason::RoleChanging, text).with("role", role))
        })
    }

    /// The roles of this run, those it holds and those it waits for.
    pub fn held(&self) -> Vec<Held> {
        let holdings: Vec<_> = self.shared.lock().values().cloned().collect();
        holdings.iter().map(|h| h.held()).collect()
    }

    /// The token of an active role, for a process of this region that acts through this holder (L2), and until when it may
    /// act under it. A moment, not what is left of the lease: that would be counted from wherever the caller got to.
    /// A switchover waits for that moment; see [`Self::token_for`].
    ///
    /// # Errors
    /// LEASE_LOST while the role is not held or not active here.
    pub fn token(&self, role: &RoleName) -> Result<(FencingToken, BootInstant), Refusal> {
        self.token_for(role, Duration::MAX)
    }

    /// As [`Self::token`], for no longer than `at_most`: a switchover waits for everybody who was given the token, and not for
    /// longer than they asked for.
    ///
    /// # Errors
    /// LEASE_LOST while the role is not held or not active here.
    pub fn token_for(
        &self,
        role: &RoleName,
        at_most: Duration,
    ) -> Result<(FencingToken, BootInstant), Refusal> {
        let holding = self.find(role).ok_or_else(|| not_held(role))?;
        // Looked at and noted in one step: a release looks at the note after it forbade further ones.
        self.shared.past(&holding.token, |past| {
            // Before the lease is looked at: what is left of it is less by then, never more.
            let now = BootInstant::now();
            let held = self.active(role, &holding)?;
            let valid_until = now.plus(held.lease_left.min(at_most));
            past.hand_out(valid_until);
            Ok((held.token, valid_until))
        })
    }

    /// Writes a role's pointer in one region's store, within the rest of the lease.
    ///
    /// # Errors
    /// The role is not active here, the lease ended, or the door or the store said no.
    pub async fn write_pointer(
        &self,
        role: &RoleName,
        region: &RegionId,
        binding: &StoreBinding,
        change: PointerChange,
        limit: Duration,
    ) -> Result<Written, GuardedError> {
        if let FencingDoor::Refused { reason } = &binding.fencing_door {
            let (region, why) = (region.clone(), reason.clone());
            return Err(GuardedError::NotQualified { region, why });
        }
        let store = self.shared.reach.stores.get(region, binding).await;
        let store = store.map_err(GuardedError::Store)?;
        let holding = self.find(role).ok_or_else(|| not_held(role))?;
        // A release waits for who is busy, and was not yet said while the role is active.
        let _busy = holding.busy.token();
        let token = self.active(role, &holding)?.token;
        let guard = lock(&holding.guard).clone().ok_or_else(|| not_held(role))?;
        let write = |_| async { pointer::write_pointer(store.as_ref(), &token, &change).await };
        Ok(guard.run(limit, write).await??)
    }

    /// Stops acting under every role, releases the leases, and waits for the tasks.
    pub async fn shutdown(&self) {
        self.shared.closing.cancel();
        self.update(&BTreeMap::new(), AllDoors::NONE);
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn active(&self, role: &RoleName, holding: &Holding) -> Result<Held, Refusal> {
        let held = holding.held();
        if held.active {
            Ok(held)
        } else {
            Err(not_active(role, &held, holding))
        }
    }

    fn find(&self, role: &RoleName) -> Option<Arc<Holding>> {
        self.shared.lock().get(role).cloned()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<RoleName, Arc<Holding>>> {
        lock(&self.holdings)
    }
}

/// Whether a phase that is wished for is taken over. What is held is never only expected again, or reserved: its grant may
/// be here before the event.
fn moves_on(before: RolePhase, wished: RolePhase) -> bool {
    match wished {
        RolePhase::Reserved => false,
        RolePhase::Promised | RolePhase::Expected => before == RolePhase::Reserved,
        RolePhase::Held | RolePhase::Yielding => before != wished,
    }
}

fn not_held(role: &RoleName) -> Refusal {
    Refusal::new(Reason::LeaseLost, format!("this agent does not hold {role} now")).with("role", role)
}

/// Why a role that is taken may not be acted under now.
fn not_active(role: &RoleName, held: &Held, holding: &Holding) -> Refusal {
    let text = if held.lease_left.is_zero() {
        format!("the lease of {role} is not held by this agent now")
    } else if *holding.phase.borrow() == RolePhase::Yielding {
        format!("{role} is being handed over; ask its next holder")
    } else {
        format!(
            "{role} is held under {} and its doors are being claimed; try again ({})",
            held.token.epoch,
            holding.unsettled()
        )
    };
    Refusal::new(Reason::LeaseLost, text).with("role", role)
}
