//! The doors beside this agent, the pointers of its region's store and its databases, raised for whoever shall act under a
//! role (L15, L17).
//!
//! A holder far away may lose every race at a store against a writer beside it, may not reach it at all, or may not know of a
//! database; the agents beside them do. They write what the holder's own claim would write, so that it then finds its
//! claim made. That only ever raises an epoch, to one that the log gave out; several agents doing it do no harm.
//! Absent on purpose: whose epoch; [`crate::desired`] says that. Invariant: one task for each (role, door, token,
//! binding), and none outlives [`Raiser::shutdown`].

use std::collections::BTreeMap;

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{FencingToken, RegionId, RoleName};

use crate::{
    claim::{CLAIM_LIMIT, CLAIM_RETRY, Claim, Claimer},
    doors::{AllDoors, Binding, DoorKey, Reach},
};

/// The raises of what is beside this agent.
pub struct Raiser {
    region: RegionId,
    reach: Reach,
    raises: BTreeMap<(RoleName, DoorKey), Raise>,
    tasks: TaskTracker,
}

/// One raise, under way or done.
struct Raise {
    token: FencingToken,
    binding: Binding,
    stop: CancellationToken,
}

impl Raiser {
    /// Raises nothing yet.
    pub fn new(region: RegionId, reach: Reach) -> Self {
        Self {
            region,
            reach,
            raises: BTreeMap::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Begins what is wanted and was not begun at its door, and ends what is no longer wanted.
    pub fn update(&mut self, wishes: &BTreeMap<RoleName, FencingToken>, doors: AllDoors<'_>) {
        let mut wanted = BTreeMap::new();
        for (role, token) in wishes {
            for (door, binding) in doors.beside(&self.region, role) {
                if Claimer::before(&binding) == Claim::Pending {
                    wanted.insert((role.clone(), door), (token, binding));
                }
            }
        }
        self.raises.retain(|key, raise| {
            let kept = wanted
                .get(key)
                .is_some_and(|(token, binding)| **token == raise.token && *binding == raise.binding);
            if !kept {
                raise.stop.cancel();
            }
            kept
        });
        for (key, (token, binding)) in wanted {
            if !self.raises.contains_key(&key) {
                let raise = self.begin(key.1.clone(), token.clone(), binding);
                self.raises.insert(key, raise);
            }
        }
    }

    fn begin(&self, door: DoorKey, token: FencingToken, binding: Binding) -> Raise {
        let raise = Raise {
            token: token.clone(),
            binding: binding.clone(),
            stop: CancellationToken::new(),
        };
        let claimer = Claimer::new(self.reach.clone(), token, door, binding);
        let work = until_over(claimer);
        self.tasks
            .spawn(raise.stop.clone().run_until_cancelled_owned(work));
        raise
    }

    /// Ends all raises and waits for their tasks.
    pub async fn shutdown(&mut self) {
        for raise in self.raises.values() {
            raise.stop.cancel();
        }
        self.raises.clear();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// At once, again at once while others are faster, and again and again while the door cannot be reached or used.
async fn until_over(mut claimer: Claimer) {
    loop {
        match claimer.attempt(CLAIM_LIMIT).await {
            Some(claim) if claim.is_over() => return,
            Some(claim) if claim.is_to_wait() => tokio::time::sleep(CLAIM_RETRY).await,
            Some(_) | None => {}
        }
    }
}
