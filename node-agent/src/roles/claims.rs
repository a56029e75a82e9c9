//! Claiming every guarded door that can be reached under a role's epoch (L15).

use std::{sync::Arc, time::Duration};

use super::{
    Shared,
    holding::{Holding, Task},
};
use crate::{
    claim::{CLAIM_LIMIT, CLAIM_RETRY, Claim, Claimer},
    desired::RolePhase,
};

impl Shared {
    /// Claims one door: at once, again at once while others are faster, and again and again while it cannot be reached or
    /// used.
    pub(super) async fn claim(self: Arc<Self>, holding: Arc<Holding>, task: Task) {
        let (door, binding) = (task.door.clone(), task.binding.clone());
        let mut claimer = Claimer::new(self.reach.clone(), holding.token.clone(), door, binding);
        loop {
            let claim = tokio::select! {
                () = task.stop.cancelled() => return,
                claim = attempt(&holding, &mut claimer) => claim,
            };
            let Some(claim) = claim else { continue };
            let (over, wait) = (claim.is_over(), claim.is_to_wait());
            holding.set(&task, claim);
            if over {
                return;
            }
            if wait {
                tokio::select! {
                    () = task.stop.cancelled() => return,
                    () = tokio::time::sleep(CLAIM_RETRY) => {}
                }
            }
        }
    }
}

/// One try, as soon as one may be made, and no longer than the lease has left for work (L5).
async fn attempt(holding: &Holding, claimer: &mut Claimer) -> Option<Claim> {
    if *holding.phase.borrow() == RolePhase::Expected {
        tokio::select! {
            biased;
            _ = holding.may_claim() => {}
            () = claimer.look() => {}
        }
    }
    let Some(guard) = holding.may_claim().await else {
        return claimer.attempt(CLAIM_LIMIT).await;
    };
    let work = guard.run(CLAIM_LIMIT, |budget| claimer.attempt(time_to_say(budget)));
    tokio::select! {
        claim = work => claim.ok().flatten(),
        () = holding.must_stop() => None,
    }
}

/// A tenth less than the guard allows: the try itself says what it saw when its time is over.
pub(super) fn time_to_say(budget: Duration) -> Duration {
    budget - budget / 10
}
