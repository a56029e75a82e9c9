//! At start: is the own store a fencing door (L16), and does the registry know it?
//!
//! Absent on purpose: making the bucket. Runs until the registry knows what the probe said; an agent without a store
//! serves what is on its disk meanwhile.

use std::{sync::Arc, time::Duration};

use artifact_store::probe::{Unfit, probe_fencing};
use client::{Client, Complaint, retry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{
    RegionId,
    region::{FencingDoor, StoreBinding},
};

use crate::{config::StoreConfig, stores::Stores, view::View};

/// First wait after a try failed; doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(200);
/// Longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How often an attempt may fail before it is said: both ends may be starting.
const STARTING: u32 = 3;

/// What is needed to attach.
pub struct Attach {
    /// The own region.
    pub region: RegionId,
    /// The own store, as configured.
    pub store: StoreConfig,
    /// Opens it.
    pub stores: Stores,
    /// The cluster.
    pub client: Client,
    /// What the registry knows.
    pub view: watch::Receiver<Arc<View>>,
}

impl Attach {
    /// Tries until it is done, or until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures: u32 = 0;
        let mut complaint = Complaint::after(STARTING);
        loop {
            let attempt = tokio::select! {
                () = stop.cancelled() => return,
                attempt = self.once() => attempt,
            };
            let Err(why) = attempt else { return };
            if complaint.is_news("", &why) {
                tracing::warn!(region = %self.region, "own store not attached yet: {why}");
            }
            failures += 1;
            let wait = WAIT_MIN.saturating_mul(1 << failures.min(5)).min(WAIT_MAX);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(retry::jittered(wait)) => {}
            }
        }
    }

    async fn once(&mut self) -> Result<(), String> {
        let mut binding = StoreBinding {
            endpoint: self.store.endpoint.clone(),
            bucket: self.store.bucket.clone(),
            fencing_door: FencingDoor::Qualified,
        };
        let store = self.stores.get(&self.region, &binding).await?;
        match probe_fencing(store.as_ref()).await {
            Ok(()) => {}
            Err(error @ Unfit::Inconclusive { .. }) => return Err(error.to_string()),
            Err(unfit) => {
                tracing::warn!(region = %self.region, "own store guards nothing: {unfit}");
                binding.fencing_door = FencingDoor::Refused {
                    reason: unfit.to_string(),
                };
            }
        }
        let region = self.region.clone();
        let registered = self
            .view
            .wait_for(|view| view.regions.contains_key(&region))
            .await;
        let known = registered
            .map_err(|_| "the agent is stopping".to_owned())?
            .regions
            .get(&region)
            .and_then(|r| r.store.clone());
        if known.as_ref() == Some(&binding) {
            return Ok(());
        }
        let attached = self.client.attach_store(&region, &binding).await;
        attached.map_err(|refusal| refusal.to_string())?;
        tracing::info!(%region, endpoint = %binding.endpoint, bucket = %binding.bucket, "store attached");
        Ok(())
    }
}
