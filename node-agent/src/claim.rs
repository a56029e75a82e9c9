//! One door, a pointer or a database, brought under an epoch over as many tries as it takes (L14, L15, L17).
//!
//! Absent on purpose: who may claim, and until when ([`crate::roles`], [`crate::raise`]).
//! Invariant: a door that answers is never taken for one that cannot be reached. Who merely lost every race says
//! [`Claim::Contended`], and nobody may act while that stands; a store that says no for a reason of its own is
//! [`Claim::Unusable`], which holds nobody up: a wrong credential must not make failovers impossible.

use std::{future::pending, sync::Arc, time::Duration};

use artifact_store::{
    ArtifactStore, ErrorKind, StoreError,
    pointer::{self, Pointed, PointerError},
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};
use types::{
    DatabaseName, FencingToken, RegionId,
    region::{FencingDoor, StoreBinding},
};

use crate::{
    databases::DatabaseBinding,
    doors::{Binding, DoorKey, Reach},
};

/// One try to claim one pointer: two round trips to a living store, and again two for each write that was faster.
pub(crate) const CLAIM_LIMIT: Duration = Duration::from_millis(2500);
/// Wait before a store is tried again that could not be reached: one that returns is claimed well within a second.
pub(crate) const CLAIM_RETRY: Duration = Duration::from_millis(200);

/// Between two looks at a pointer that is to be claimed soon.
const LOOK_AGAIN: Duration = Duration::from_millis(75);
/// For how long it is looked at so often, and how often then: who holds the role now may need long to stop.
const LOOK_OFTEN: Duration = Duration::from_secs(3);
const LOOK_SELDOM: Duration = Duration::from_secs(1);
/// Looks at one pointer that are under way at once, after the first of them.
const LOOKS: usize = 3;

/// How far the claim of one door is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The first try is under way.
    Pending,
    /// The door stands under the epoch.
    Claimed,
    /// The door answers, and still takes older epochs: other writers were faster so far, or their transactions are open.
    Contended(String),
    /// The last try failed; the next is soon.
    Unreachable(String),
    /// The store answers and does not let us claim: it denies these credentials or the bucket, there are no credentials for
    /// it, or what stands at the key is no pointer; a database likewise. The door is unclaimed; the next try is soon.
    Unusable(String),
    /// The store or the database is no fencing door, or the door said no: a higher epoch rules.
    Refused(String),
}

impl Claim {
    /// Whether somebody may go on although this is all that came of the door.
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Pending | Self::Contended(_))
    }

    /// Whether there is nothing left to try.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Claimed | Self::Refused(_))
    }

    /// Whether the next try has to wait a little: nobody was faster, and only somebody else can mend it.
    pub(crate) fn is_to_wait(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unusable(_))
    }

    /// Why the door does not stand under the epoch; empty if it does.
    pub fn why_not(&self) -> &str {
        match self {
            Self::Claimed => "",
            Self::Pending => "not tried yet",
            Self::Contended(why) | Self::Unreachable(why) | Self::Unusable(why) | Self::Refused(why) => why,
        }
    }
}

/// Tries at one door for one token.
pub(crate) struct Claimer {
    reach: Reach,
    token: FencingToken,
    door: DoorKey,
    binding: Binding,
    /// For how long the store left a call of ours unanswered, since it last told of a race.
    unanswered: Duration,
    /// How much of that makes it unreachable.
    pub(crate) patience: Duration,
    /// What stood there when it was looked at, for the first try.
    known: Option<Pointed>,
    looks: Looks,
}

/// Looks that are under way.
type Looks = FuturesUnordered<BoxFuture<'static, Option<Pointed>>>;

impl Claimer {
    pub(crate) fn new(reach: Reach, token: FencingToken, door: DoorKey, binding: Binding) -> Self {
        Self {
            reach,
            token,
            door,
            binding,
            unanswered: Duration::ZERO,
            patience: CLAIM_LIMIT,
            known: None,
            looks: Looks::new(),
        }
    }

    /// Looks at a pointer that is to be claimed soon, and writes nothing, again and again until it shows that the agent beside the
    /// store has raised it for us. That one hears of the epoch at about the time at which the lease is granted: the look that
    /// was on its way then has the answer when the lease is here, and the claim needs no round trip of its own. Whoever may claim
    /// drops this; the connections are there by then, what to write over is known, and looks that are under way go on in
    /// [`Self::attempt`]. Whatever comes of it, the try itself says what is wrong.
    pub(crate) async fn look(&mut self) {
        let (DoorKey::Pointer(region), Binding::Store(binding)) = (&self.door, &self.binding) else {
            return;
        };
        // A store that denied something is opened anew, so it is asked for with each look.
        let look = || {
            let (stores, region, binding) = (self.reach.stores.clone(), region.clone(), binding.clone());
            let token = self.token.clone();
            async move { look(stores.get(&region, &binding).await.ok()?, token).await }.boxed()
        };
        // As often at once as may be called at once later: HTTP/1.1 takes a connection for each. None waits for the slowest.
        self.looks
            .extend((0..pointer::CLAIM_CALLS + LOOKS).map(|_| look()));
        let began = Instant::now();
        let mut next = began + LOOK_AGAIN;
        let order = |p: &Option<Pointed>| p.as_ref().map(|p| (p.body.epoch, p.body.sequence));
        loop {
            tokio::select! {
                Some(seen) = self.looks.next() => {
                    // A slow answer may be an old one.
                    if order(&seen) >= order(&self.known) {
                        self.known = seen;
                    }
                    if self.known.as_ref().is_some_and(|known| known.body.token() == self.token) {
                        return;
                    }
                }
                () = sleep_until(next) => {
                    let often = began.elapsed() < LOOK_OFTEN;
                    next = Instant::now() + if often { LOOK_AGAIN } else { LOOK_SELDOM };
                    if self.looks.len() < LOOKS {
                        self.looks.push(look());
                    }
                }
            }
        }
    }

    /// What is said of a door before any try: a store that was refused as a door is not claimed (L16). A database is: raising
    /// its epoch guards whatever part of it is guarded, though the door counts as unfenced.
    pub(crate) fn before(binding: &Binding) -> Claim {
        match binding {
            Binding::Store(StoreBinding {
                fencing_door: FencingDoor::Refused { reason },
                ..
            }) => Claim::Refused(format!("the store is no fencing door: {reason}")),
            Binding::Store(_) | Binding::Database(_) => Claim::Pending,
        }
    }

    /// One try of at most `limit`; none if that was too short to say anything new of the door.
    pub(crate) async fn attempt(&mut self, limit: Duration) -> Option<Claim> {
        match (self.door.clone(), self.binding.clone()) {
            (DoorKey::Pointer(region), Binding::Store(binding)) => {
                self.at_store(&region, &binding, limit).await
            }
            (DoorKey::Postgres(name), Binding::Database(binding)) => {
                self.at_database(&name, &binding, limit).await
            }
            (door, _) => Some(Claim::Unusable(format!("{door} is bound to something else"))),
        }
    }

    /// A database tells by itself who holds it up, and ends them. One that is silent is called unreachable as a store is: what
    /// is left of a lease may be too short to hear anything.
    async fn at_database(
        &mut self,
        name: &DatabaseName,
        binding: &DatabaseBinding,
        limit: Duration,
    ) -> Option<Claim> {
        let lineage = self.reach.lineage_of(&self.token);
        let claim = match self
            .reach
            .databases
            .raise(name, &self.token, &lineage, limit)
            .await
        {
            Claim::Unreachable(why) => self.silent(limit, why)?,
            claim => {
                self.unanswered = Duration::ZERO;
                claim
            }
        };
        let (token, door) = (&self.token, &self.door);
        let claim = unless_unfit(claim, binding);
        match &claim {
            Claim::Claimed => tracing::info!(%door, %token, "database claimed"),
            Claim::Refused(why) => tracing::warn!(%door, %token, "database not claimed: {why}"),
            Claim::Pending | Claim::Contended(_) | Claim::Unreachable(_) | Claim::Unusable(_) => {
                tracing::debug!(%door, %token, "database not claimed: {}", claim.why_not());
            }
        }
        Some(claim)
    }

    async fn at_store(
        &mut self,
        region: &RegionId,
        binding: &StoreBinding,
        limit: Duration,
    ) -> Option<Claim> {
        let Ok(store) = timeout(limit, self.reach.stores.get(region, binding)).await else {
            return self.silent(limit, "it could not be opened in time".to_owned());
        };
        let store = match store {
            Ok(store) => store,
            // A handle needs no connection: what is wrong with it is wrong here.
            Err(why) => return Some(Claim::Unusable(why)),
        };
        let token = &self.token;
        let lineage = self.reach.lineage_of(token);
        let claiming = pointer::claim_pointer_for(store.as_ref(), token, &lineage, self.known.take(), limit);
        let claimed = tokio::select! {
            biased;
            claimed = claiming => claimed,
            seen = raised(&mut self.looks, token) => Ok(seen),
        };
        match claimed {
            Ok(claim) => {
                tracing::info!(%region, %token, previous = ?claim.previous, "pointer claimed");
                Some(Claim::Claimed)
            }
            // Until the CA has signed that the token's cluster goes on from that one.
            Err(PointerError::Refused(refusal @ pointer::Refusal::Incomparable(_))) => {
                tracing::debug!(%region, %token, "pointer not claimed: {refusal}");
                Some(Claim::Unusable(refusal.to_string()))
            }
            Err(PointerError::Refused(refusal)) => {
                tracing::warn!(%region, %token, "pointer not claimed: {refusal}");
                Some(Claim::Refused(refusal.to_string()))
            }
            Err(error @ PointerError::Silent { .. }) => self.silent(limit, error.to_string()),
            Err(error @ PointerError::Contended { lost: 0, .. }) => Some(self.unanswered(limit, &error)),
            Err(error @ PointerError::Contended { .. }) => {
                self.unanswered = Duration::ZERO;
                Some(Claim::Contended(error.to_string()))
            }
            Err(error @ PointerError::BadBody { .. }) => Some(Claim::Unusable(error.to_string())),
            Err(PointerError::Store(error) | PointerError::Unknown(error)) => Some(self.failed(&error)),
        }
    }

    /// By who failed: a store that said no is there.
    pub(crate) fn failed(&self, error: &StoreError) -> Claim {
        tracing::debug!(door = %self.door, token = %self.token, %error, "pointer not claimed");
        match error.kind {
            ErrorKind::Deadline { .. } | ErrorKind::Unavailable | ErrorKind::Disk => {
                Claim::Unreachable(error.to_string())
            }
            _ => Claim::Unusable(format!("{error}; {}", error.kind.remedy())),
        }
    }

    /// Nothing was heard: it takes a whole limit of that, in one try or in many, to call a store unreachable.
    fn silent(&mut self, waited: Duration, why: String) -> Option<Claim> {
        self.unanswered = self.unanswered.saturating_add(waited);
        (self.unanswered >= self.patience).then_some(Claim::Unreachable(why))
    }

    /// Reads are answered and a write is not: slow at first, and a store that serves no writes after twice the limit.
    fn unanswered(&mut self, waited: Duration, error: &PointerError) -> Claim {
        self.unanswered = self.unanswered.saturating_add(waited);
        if self.unanswered < self.patience * 2 {
            return Claim::Contended(error.to_string());
        }
        Claim::Unreachable(format!("reads are answered and writes are not: {error}"))
    }
}

/// One look at the pointer of a token's role; none: nothing was seen.
async fn look(store: Arc<dyn ArtifactStore>, token: FencingToken) -> Option<Pointed> {
    let seen = pointer::read_pointer(store.as_ref(), &token.role);
    timeout(CLAIM_LIMIT, seen).await.ok()?.ok()?
}

/// Ends if a look that was under way shows that somebody raised the pointer for us.
async fn raised(looks: &mut Looks, token: &FencingToken) -> pointer::Claim {
    while let Some(seen) = looks.next().await {
        if let Some(Pointed { body, etag }) = seen.filter(|pointed| pointed.body.token() == *token) {
            let previous = Some(body.epoch);
            return pointer::Claim { previous, body, etag };
        }
    }
    pending().await
}

/// A database that was seen to be no door holds nobody up, whatever came of the raise, and is claimed by none. One that was not
/// probed yet may be a door, and is not called claimed. What comes after the next probe is another door.
pub(crate) fn unless_unfit(claim: Claim, binding: &DatabaseBinding) -> Claim {
    let Some(why) = binding.why_no_door() else {
        return claim;
    };
    match claim {
        Claim::Claimed => Claim::Refused(format!("{why}; its epoch is raised all the same")),
        Claim::Contended(said) if binding.probed.is_none() => Claim::Contended(said),
        Claim::Contended(said) | Claim::Unreachable(said) | Claim::Unusable(said) => {
            Claim::Unusable(format!("{why}; {said}"))
        }
        Claim::Refused(_) | Claim::Pending => claim,
    }
}
