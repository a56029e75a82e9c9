//! One role under one epoch: its phase, its lease, and how far its doors are claimed.
//!
//! Invariant: what [`Holding::held`] calls active is so under every one of its conditions at once: the role was not asked
//! back, the lease holds, and no door is still fought for: each is claimed, unreachable, unusable to us, or refused.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use client::guard::RoleGuard;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{FencingToken, plan::DoorClaim};

use super::{Held, RENEW_RETRY};
use crate::{
    claim::{Claim, Claimer},
    desired::{RolePhase, RoleWish},
    doors::{Binding, DoorKey, Doors},
};

/// One role under one epoch.
pub(super) struct Holding {
    pub(super) token: FencingToken,
    /// How long a grant is good for; less is left of one that was asked for early.
    pub(super) lease_ttl: Duration,
    pub(super) phase: watch::Sender<RolePhase>,
    pub(super) guard: Mutex<Option<RoleGuard>>,
    doors: watch::Sender<BTreeMap<DoorKey, Door>>,
    /// Guarded writes that run now.
    pub(super) busy: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// One door, as it is bound now.
#[derive(Clone, Debug)]
pub(super) struct Door {
    binding: Binding,
    pub(super) claim: Claim,
    stop: CancellationToken,
}

/// A claim to be carried out until it is over, or `stop`.
pub(super) struct Task {
    pub(super) door: DoorKey,
    pub(super) binding: Binding,
    pub(super) stop: CancellationToken,
}

impl Holding {
    pub(super) fn new(wish: &RoleWish) -> Self {
        Self {
            token: wish.token.clone(),
            lease_ttl: wish.timing.lease_ttl,
            phase: watch::Sender::new(RolePhase::Reserved),
            guard: Mutex::default(),
            doors: watch::Sender::default(),
            busy: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Follows the role's doors: what is to be claimed now. A door is one binding; a store that moved or may guard since, or a
    /// database that another one took the place of, is another door, and claims of what is gone end.
    pub(super) fn bind(&self, bound: &Doors) -> Vec<Task> {
        let mut tasks = Vec::new();
        self.doors.send_if_modified(|doors| {
            let before = doors.len();
            doors.retain(|key, door| {
                let kept = bound.get(key) == Some(&door.binding);
                if !kept {
                    door.stop.cancel();
                }
                kept
            });
            let mut changed = doors.len() != before;
            for (key, binding) in bound {
                if doors.contains_key(key) {
                    continue;
                }
                changed = true;
                let door = Door::new(binding, &self.stop);
                if door.claim == Claim::Pending {
                    tasks.push(Task {
                        door: key.clone(),
                        binding: binding.clone(),
                        stop: door.stop.clone(),
                    });
                }
                doors.insert(key.clone(), door);
            }
            changed
        });
        tasks
    }

    /// Notes how far a claim is; one of a binding that is gone says nothing.
    pub(super) fn set(&self, task: &Task, claim: Claim) {
        self.doors.send_if_modified(|doors| {
            let door = doors
                .get_mut(&task.door)
                .filter(|door| door.binding == task.binding);
            let Some(door) = door else { return false };
            door.claim = claim;
            true
        });
    }

    /// Waits until nothing is left open at any door, and says what came of each.
    pub(super) async fn settled(&self) -> Option<Vec<DoorClaim>> {
        let mut doors = self.doors.subscribe();
        let settled = doors.wait_for(|doors| doors.values().all(|door| door.claim.is_settled()));
        settled.await.ok().map(|doors| report(&doors))
    }

    /// Why [`Self::settled`] still waits.
    pub(super) fn unsettled(&self) -> String {
        let doors = self.doors.borrow();
        let open = doors.iter().filter(|(_, door)| !door.claim.is_settled());
        let texts: Vec<_> = open
            .map(|(key, door)| format!("{key}: {}", door.claim.why_not()))
            .collect();
        texts.join("; ")
    }

    pub(super) fn lease_left(&self) -> Duration {
        lock(&self.guard).as_ref().map_or(Duration::ZERO, RoleGuard::left)
    }

    pub(super) fn held(&self) -> Held {
        let lease_left = self.lease_left();
        let settled = self.doors.borrow().values().all(|door| door.claim.is_settled());
        Held {
            token: self.token.clone(),
            lease_left,
            active: settled && !lease_left.is_zero() && *self.phase.borrow() == RolePhase::Held,
        }
    }

    /// Waits until claims may be made: under a reserved epoch at once, under a committed one within its lease (L5).
    pub(super) async fn may_claim(&self) -> Option<RoleGuard> {
        let mut phase = self.phase.subscribe();
        loop {
            let now = *phase.borrow_and_update();
            let guard = lock(&self.guard).clone();
            match (now, guard) {
                (RolePhase::Reserved | RolePhase::Promised, _) => return None,
                (RolePhase::Expected, _) => drop(phase.changed().await),
                (RolePhase::Held, Some(guard)) if guard.held().await.is_ok() => return Some(guard),
                (RolePhase::Held, _) => tokio::time::sleep(RENEW_RETRY / 2).await,
                (RolePhase::Yielding, _) => drop(phase.changed().await),
            }
        }
    }

    /// A renewal was answered: the epoch is committed, whether its event is here or not.
    pub(super) fn granted(&self) {
        self.phase.send_if_modified(|phase| {
            let first = matches!(*phase, RolePhase::Expected | RolePhase::Promised);
            if first {
                *phase = RolePhase::Held;
            }
            first
        });
    }

    /// Waits until the holder may act no longer, or not any more: it is asked to stop, or the role is another's.
    pub(super) async fn must_stop(&self) {
        let mut phase = self.phase.subscribe();
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = phase.wait_for(|phase| *phase == RolePhase::Yielding) => {}
        }
    }

    /// Waits until a switchover that asked for the role was given up.
    pub(super) async fn may_go_on(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`.
        let _ = phase.wait_for(|phase| *phase == RolePhase::Held).await;
    }
}

impl Door {
    fn new(binding: &Binding, role: &CancellationToken) -> Self {
        Self {
            binding: binding.clone(),
            claim: Claimer::before(binding),
            stop: role.child_token(),
        }
    }
}

fn report(doors: &BTreeMap<DoorKey, Door>) -> Vec<DoorClaim> {
    let door = |(key, door): (&DoorKey, &Door)| DoorClaim {
        door: key.to_string(),
        claimed: door.claim == Claim::Claimed,
        error: door.claim.why_not().to_owned(),
    };
    doors.iter().map(door).collect()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every guarded section is one assignment or one map operation.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
