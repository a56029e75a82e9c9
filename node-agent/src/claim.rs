//! One door, a pointer or a database, brought under an epoch over as many tries as it takes (L14, L15, L17).
//!
//! Absent on purpose: who may claim, and until when ([`crate::roles`], [`crate::raise`]).
//! Invariant: a door that answers is never taken for one that cannot be reached. Who merely lost every race says
//! [`Claim::Contended`], and nobody may act while that stands; a store that says no for a reason of its own is
//! [`Claim::Unusable`], which holds nobody up: a wrong credential must not make failovers impossible.

use std::time::Duration;

use artifact_store::{
    ErrorKind, StoreError,
    pointer::{self, Pointed, PointerError},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::timeout;
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
}

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
        }
    }

    /// Looks at a pointer that is to be claimed soon, and writes nothing: the connection is there by then, and what to write over
    /// is known. Whatever comes of it, the try itself says what is wrong.
    pub(crate) async fn look(&mut self, limit: Duration) {
        let (DoorKey::Pointer(region), Binding::Store(binding)) = (&self.door, &self.binding) else {
            return;
        };
        let (known, role) = (&mut self.known, &self.token.role);
        let looking = async {
            let Ok(store) = self.reach.stores.get(region, binding).await else {
                return;
            };
            // As often at once as the claim calls it at once: HTTP/1.1 takes a connection for each. None waits for the slowest.
            let look = |_| pointer::read_pointer(store.as_ref(), role);
            let order = |p: &Option<Pointed>| p.as_ref().map(|p| (p.body.epoch, p.body.sequence));
            let mut looks: FuturesUnordered<_> = (0..pointer::CLAIM_CALLS).map(look).collect();
            while let Some(looked) = looks.next().await {
                // A slow answer may be an old one.
                if let Ok(pointed) = looked
                    && order(&pointed) >= order(known)
                {
                    *known = pointed;
                }
            }
        };
        // What was not seen by then, the claim sees.
        let _ = timeout(limit, looking).await;
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
        match pointer::claim_pointer_for(store.as_ref(), token, &lineage, self.known.take(), limit).await {
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
