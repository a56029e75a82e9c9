//! Holding primary roles: the lease, and the claim of every guarded pointer that can be reached (L4, L5, L15).
//!
//! Absent on purpose: who ought to hold a role; committed state says that. Desired state grants nothing: acting begins
//! with an answered renewal. Invariant: a token is handed out only while the lease holds and every pointer that could be
//! reached stands under its epoch.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use artifact_store::pointer::{self, PointerChange, PointerError, Written};
use client::{
    Client,
    guard::{BootInstant, RoleGuard, Standing},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{
    Epoch, FencingToken, Reason, RegionId, RoleName,
    plan::DoorClaim,
    reason::Refusal,
    region::{FencingDoor, StoreBinding},
};

use crate::{desired::RoleWish, metrics::Metrics, stores::Stores};

/// One try to claim one pointer: two round trips to a living store, and again two for each write of the old holder that
/// was faster. A store that answers must not pass for one that cannot be reached, so this leaves time for many.
const CLAIM_LIMIT: Duration = Duration::from_millis(2500);
/// Wait between two tries: a store that returns is claimed well within a second (L15).
const CLAIM_RETRY: Duration = Duration::from_millis(200);
/// Spaces the renewals until the first is answered, and a new guard after a lapse.
const RENEW_RETRY: Duration = Duration::from_millis(100);
/// Longest wait for a release that only saves others a wait.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);

/// All roles of this run; clones share them.
#[derive(Clone)]
pub struct Roles {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    stores: Stores,
    metrics: Metrics,
    holdings: Mutex<BTreeMap<RoleName, Arc<Holding>>>,
    tasks: TaskTracker,
}

/// One role under one epoch.
struct Holding {
    token: FencingToken,
    /// The epoch is committed; before that it is reserved, and good for claims only.
    committed: watch::Sender<bool>,
    guard: Mutex<Option<RoleGuard>>,
    claims: watch::Sender<BTreeMap<RegionId, Claim>>,
    /// Until when somebody who asked for the token may act under it.
    handed_out_until: Mutex<Option<BootInstant>>,
    stop: CancellationToken,
}

/// How far the claim of one region's pointer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The first try is under way.
    Pending,
    /// The pointer stands under the epoch.
    Claimed,
    /// The last try failed; the next is soon.
    Unreachable(String),
    /// The pointer's store is no fencing door, or the door said no: a higher epoch rules.
    Refused(String),
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
}

impl Roles {
    /// Holds nothing yet.
    pub fn new(client: Client, stores: Stores, metrics: Metrics) -> Self {
        let shared = Shared {
            client,
            stores,
            metrics,
            holdings: Mutex::default(),
            tasks: TaskTracker::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Brings the holdings in line with committed state: begins, goes on, or stops acting at once.
    pub fn update(&self, wishes: &BTreeMap<RoleName, RoleWish>, stores: &BTreeMap<RegionId, StoreBinding>) {
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
            let holding = holdings.entry(role.clone()).or_insert_with(|| self.begin(wish));
            if wish.committed && !*holding.committed.borrow() {
                holding.committed.send_replace(true);
                let keeper = Arc::clone(&self.shared).keep_lease(Arc::clone(holding));
                self.shared.tasks.spawn(keeper);
            }
            self.claim_new_stores(holding, stores);
        }
    }

    fn begin(&self, wish: &RoleWish) -> Arc<Holding> {
        tracing::info!(token = %wish.token, committed = wish.committed, "taking a role");
        Arc::new(Holding {
            token: wish.token.clone(),
            committed: watch::Sender::new(false),
            guard: Mutex::default(),
            claims: watch::Sender::default(),
            handed_out_until: Mutex::default(),
            stop: CancellationToken::new(),
        })
    }

    fn claim_new_stores(&self, holding: &Arc<Holding>, stores: &BTreeMap<RegionId, StoreBinding>) {
        for (region, binding) in stores {
            if holding.claims.borrow().contains_key(region) {
                continue;
            }
            if let FencingDoor::Refused { reason } = &binding.fencing_door {
                holding.set(
                    region,
                    Claim::Refused(format!("the store is no fencing door: {reason}")),
                );
                continue;
            }
            holding.set(region, Claim::Pending);
            let claimer =
                Arc::clone(&self.shared).claim(Arc::clone(holding), region.clone(), binding.clone());
            self.shared.tasks.spawn(claimer);
        }
    }

    /// Waits until the first try at every pointer of a role ended, and says what came of each.
    ///
    /// # Errors
    /// The role is not taken under this epoch, or was lost meanwhile.
    pub async fn first_claims(&self, role: &RoleName, epoch: Epoch) -> Result<Vec<DoorClaim>, Refusal> {
        let holding = self.find(role).filter(|h| h.token.epoch == epoch);
        let holding = holding.ok_or_else(|| not_held(role))?;
        let mut claims = holding.claims.subscribe();
        let tried = |claims: &BTreeMap<RegionId, Claim>| !claims.values().any(|c| *c == Claim::Pending);
        let settled = async { claims.wait_for(tried).await.map(|c| doors(&c)) };
        tokio::select! {
            doors = settled => doors.map_err(|_| not_held(role)),
            () = holding.stop.cancelled() => Err(not_held(role)),
        }
    }

    /// The roles of this run, those it holds and those it waits for.
    pub fn held(&self) -> Vec<Held> {
        let holdings: Vec<_> = self.shared.lock().values().cloned().collect();
        holdings.iter().map(|h| h.held()).collect()
    }

    /// The token of an active role, for a process of this region that acts through this holder (L2).
    ///
    /// # Errors
    /// LEASE_LOST while the role is not held or not active here.
    pub fn token(&self, role: &RoleName) -> Result<(FencingToken, Duration), Refusal> {
        let holding = self.find(role).ok_or_else(|| not_held(role))?;
        let held = holding.held();
        if !held.active {
            let text = if held.lease_left.is_zero() {
                format!("the lease of {role} is not held by this agent now")
            } else {
                format!(
                    "{role} is held under {} and its pointers are being claimed; try again",
                    held.token.epoch
                )
            };
            return Err(Refusal::new(Reason::LeaseLost, text).with("role", role));
        }
        let until = BootInstant::now().plus(held.lease_left);
        *lock(&holding.handed_out_until) = Some(until);
        Ok((held.token, held.lease_left))
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
        let (token, _) = self.token(role)?;
        let holding = self.find(role).ok_or_else(|| not_held(role))?;
        let guard = lock(&holding.guard).clone().ok_or_else(|| not_held(role))?;
        let store = self
            .shared
            .stores
            .get(region, binding)
            .await
            .map_err(GuardedError::Store)?;
        let write = |_| async { pointer::write_pointer(store.as_ref(), &token, &change).await };
        Ok(guard.run(limit, write).await??)
    }

    /// Stops acting under every role, releases the leases, and waits for the tasks.
    pub async fn shutdown(&self) {
        self.update(&BTreeMap::new(), &BTreeMap::new());
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn find(&self, role: &RoleName) -> Option<Arc<Holding>> {
        self.shared.lock().get(role).cloned()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<RoleName, Arc<Holding>>> {
        lock(&self.holdings)
    }

    /// Renews the lease until the role is no longer ours. A lease that merely lapsed is taken up again (L9).
    async fn keep_lease(self: Arc<Self>, holding: Arc<Holding>) {
        let role = &holding.token.role;
        while !holding.stop.is_cancelled() {
            let (guard, renewals) = RoleGuard::hold(self.client.clone(), holding.token.clone(), RENEW_RETRY);
            *lock(&holding.guard) = Some(guard.clone());
            let watched = tokio::select! {
                held = guard.held() => held.is_ok(),
                () = holding.stop.cancelled() => false,
                () = guard.on_lost().cancelled() => false,
            };
            if watched {
                self.metrics.lease(role, true);
                tracing::info!(token = %holding.token, "lease held");
                tokio::select! {
                    () = holding.stop.cancelled() => {}
                    () = guard.on_lost().cancelled() => {}
                }
            }
            self.metrics.lease(role, false);
            *lock(&holding.guard) = None;
            renewals.release().await;
            if let Standing::Lost(refusal) = guard.standing() {
                tracing::info!(token = %holding.token, "role lost: {refusal}");
                holding.stop.cancelled().await;
            }
            tokio::select! {
                () = holding.stop.cancelled() => {}
                () = tokio::time::sleep(RENEW_RETRY) => {}
            }
        }
        self.release(&holding).await;
    }

    /// Tells the leader that nobody acts under the epoch any more, so that nobody waits the lease out. Said only if it
    /// is true: whoever was given the token may act until its lease ended.
    async fn release(&self, holding: &Holding) {
        let now = BootInstant::now();
        if lock(&holding.handed_out_until).is_some_and(|until| until > now) {
            return;
        }
        let client = self.client.with_deadline(RELEASE_LIMIT);
        if let Err(refusal) = client.release_lease(&holding.token).await {
            tracing::debug!(token = %holding.token, "lease not released, it will lapse: {refusal}");
        }
    }

    /// Claims one pointer: at once, and again and again while its store cannot be reached.
    async fn claim(self: Arc<Self>, holding: Arc<Holding>, region: RegionId, binding: StoreBinding) {
        loop {
            tokio::select! {
                () = holding.stop.cancelled() => return,
                () = holding.may_claim() => {}
            }
            let attempt = timeout(CLAIM_LIMIT, self.claim_once(&holding.token, &region, &binding));
            let attempt = tokio::select! {
                () = holding.stop.cancelled() => return,
                attempt = attempt => attempt,
            };
            let claim = attempt.unwrap_or_else(|_| {
                Claim::Unreachable(format!("no answer within {} ms", CLAIM_LIMIT.as_millis()))
            });
            let over = matches!(claim, Claim::Claimed | Claim::Refused(_));
            holding.set(&region, claim);
            if over {
                return;
            }
            tokio::select! {
                () = holding.stop.cancelled() => return,
                () = tokio::time::sleep(CLAIM_RETRY) => {}
            }
        }
    }

    async fn claim_once(&self, token: &FencingToken, region: &RegionId, binding: &StoreBinding) -> Claim {
        let store = match self.stores.get(region, binding).await {
            Ok(store) => store,
            Err(error) => return Claim::Unreachable(error),
        };
        match pointer::claim_pointer(store.as_ref(), token).await {
            Ok(claim) => {
                tracing::info!(%region, token = %token, previous = ?claim.previous, "pointer claimed");
                Claim::Claimed
            }
            Err(PointerError::Refused(refusal)) => {
                tracing::warn!(%region, token = %token, "pointer not claimed: {refusal}");
                Claim::Refused(refusal.to_string())
            }
            Err(error) => Claim::Unreachable(error.to_string()),
        }
    }
}

impl Holding {
    fn set(&self, region: &RegionId, claim: Claim) {
        self.claims
            .send_modify(|claims| drop(claims.insert(region.clone(), claim)));
    }

    fn lease_left(&self) -> Duration {
        lock(&self.guard).as_ref().map_or(Duration::ZERO, RoleGuard::left)
    }

    fn held(&self) -> Held {
        let lease_left = self.lease_left();
        let claims = self.claims.borrow();
        let tried = !claims.values().any(|c| *c == Claim::Pending);
        Held {
            token: self.token.clone(),
            lease_left,
            active: !lease_left.is_zero() && tried,
        }
    }

    /// A reserved epoch may claim at once; a committed one only while its lease holds (L5).
    async fn may_claim(&self) {
        while *self.committed.borrow() && self.lease_left().is_zero() {
            let guard = lock(&self.guard).clone();
            let held = async {
                match guard {
                    Some(guard) => drop(guard.held().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = held => {}
                () = tokio::time::sleep(RENEW_RETRY / 2) => {}
            }
        }
    }
}

fn doors(claims: &BTreeMap<RegionId, Claim>) -> Vec<DoorClaim> {
    let door = |(region, claim): (&RegionId, &Claim)| DoorClaim {
        door: format!("pointer/{region}"),
        claimed: *claim == Claim::Claimed,
        error: match claim {
            Claim::Claimed => String::new(),
            Claim::Pending => "not tried yet".to_owned(),
            Claim::Unreachable(why) | Claim::Refused(why) => why.clone(),
        },
    };
    claims.iter().map(door).collect()
}

fn not_held(role: &RoleName) -> Refusal {
    Refusal::new(Reason::LeaseLost, format!("this agent does not hold {role} now")).with("role", role)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every guarded section is one assignment or one map operation.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
