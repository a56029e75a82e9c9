//! The pointers of the own region's store, raised for whoever shall act under a role (L15).
//!
//! A holder far away may lose every race at a store against a writer beside it, or may not reach the store at all; the
//! region's own agents sit beside it too. They write what the holder's own claim would write, so that it then finds its
//! claim made. That only ever raises an epoch, to one that the log gave out; several agents doing it do no harm.
//! Absent on purpose: whose epoch; [`crate::desired`] says that. Invariant: one task for each (role, token, binding), and
//! none outlives [`Raiser::shutdown`].

use std::collections::BTreeMap;

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{
    FencingToken, RegionId, RoleName,
    region::{FencingDoor, StoreBinding},
};

use crate::{
    claim::{CLAIM_LIMIT, CLAIM_RETRY, Claimer},
    stores::Stores,
};

/// The raises of the own region.
pub struct Raiser {
    region: RegionId,
    stores: Stores,
    raises: BTreeMap<RoleName, Raise>,
    tasks: TaskTracker,
}

/// One raise, under way or done.
struct Raise {
    token: FencingToken,
    binding: StoreBinding,
    stop: CancellationToken,
}

impl Raiser {
    /// Raises nothing yet.
    pub fn new(region: RegionId, stores: Stores) -> Self {
        Self {
            region,
            stores,
            raises: BTreeMap::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Begins what is wanted and was not begun at this store, and ends what is no longer wanted.
    pub fn update(
        &mut self,
        wishes: &BTreeMap<RoleName, FencingToken>,
        stores: &BTreeMap<RegionId, StoreBinding>,
    ) {
        let binding = stores
            .get(&self.region)
            .filter(|binding| binding.fencing_door == FencingDoor::Qualified);
        self.raises.retain(|role, raise| {
            let kept = wishes.get(role) == Some(&raise.token) && binding == Some(&raise.binding);
            if !kept {
                raise.stop.cancel();
            }
            kept
        });
        let Some(binding) = binding else { return };
        for (role, token) in wishes {
            if self.raises.contains_key(role) {
                continue;
            }
            let raise = Raise {
                token: token.clone(),
                binding: binding.clone(),
                stop: CancellationToken::new(),
            };
            let (stores, region) = (self.stores.clone(), self.region.clone());
            let claimer = Claimer::new(stores, token.clone(), region, binding.clone());
            let work = until_over(claimer);
            self.tasks
                .spawn(raise.stop.clone().run_until_cancelled_owned(work));
            self.raises.insert(role.clone(), raise);
        }
    }

    /// Ends all raises and waits for their tasks.
    pub async fn shutdown(&mut self) {
        self.update(&BTreeMap::new(), &BTreeMap::new());
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// At once, again at once while others are faster, and again and again while the store cannot be reached or used.
async fn until_over(mut claimer: Claimer) {
    loop {
        match claimer.attempt(CLAIM_LIMIT).await {
            Some(claim) if claim.is_over() => return,
            Some(claim) if claim.is_to_wait() => tokio::time::sleep(CLAIM_RETRY).await,
            Some(_) | None => {}
        }
    }
}
