//! At start: is the own store a fencing door (L16), and does the registry know it? Again whenever the region was made anew: its
//! record knows no store then. Once a day: what killed pushes left in the store goes.
//!
//! Absent on purpose: making the bucket, and removing objects. Tries until the registry knows what the probe said; an agent
//! without a store serves what is on its disk meanwhile.

use std::{sync::Arc, time::Duration};

use artifact_store::{
    ArtifactStore, keys,
    probe::{Unfit, probe_fencing},
};
use client::{Client, Complaint, retry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{
    ClusterId, RegionId, Revision, UnixMillis,
    region::{FencingDoor, RegionRecord, StoreBinding},
    time::{Clock as _, SystemClock},
};

use crate::{config::StoreConfig, stores::Stores, view::View};

/// First wait after a try failed; doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(200);
/// Longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How often an attempt may fail before it is said: both ends may be starting.
const STARTING: u32 = 3;

/// How old an upload is that nobody goes on with. The slowest that its parts' time limits allow takes less than two days, and
/// the rest is for clocks: its age is by the store's clock against this node's.
const LEFT_BEHIND: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often such uploads are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(24 * 3600);

/// As of when the registry knows the own store.
struct Known {
    cluster_id: Option<ClusterId>,
    modified: Revision,
}

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
    /// Tries until it is done, keeps the store tidy, and ends with `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut attached = self.attach(&stop).await;
        let again = async {
            while let Some(known) = attached {
                let anew = made_anew(self.view.clone(), &self.region, &known).await;
                attached = match anew {
                    Ok(()) => self.attach(&stop).await,
                    Err(_) => None,
                };
            }
        };
        let tidied = async {
            loop {
                self.tidy().await;
                tokio::time::sleep(TIDY_EVERY).await;
            }
        };
        let both = Box::pin(async { tokio::join!(again, tidied) });
        stop.run_until_cancelled(both).await;
    }

    /// What the registry knows then; none with `stop`.
    async fn attach(&self, stop: &CancellationToken) -> Option<Known> {
        let mut failures: u32 = 0;
        let mut complaint = Complaint::after(STARTING);
        loop {
            let attempt = tokio::select! {
                () = stop.cancelled() => return None,
                attempt = self.once() => attempt,
            };
            let why = match attempt {
                Ok(known) => return Some(known),
                Err(why) => why,
            };
            if let Some(why) = complaint.news("", &why) {
                tracing::warn!(region = %self.region, "own store not attached yet: {why}");
            }
            failures += 1;
            let wait = WAIT_MIN.saturating_mul(1 << failures.min(5)).min(WAIT_MAX);
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(retry::jittered(wait)) => {}
            }
        }
    }

    async fn once(&self) -> Result<Known, String> {
        let mut binding = self.binding();
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
        let mut view = self.view.clone();
        let registered = view.wait_for(|view| view.regions.contains_key(&region)).await;
        let (cluster_id, known) = registered
            .map(|view| (view.cluster_id, view.regions.get(&region).cloned()))
            .map_err(|_| "the agent is stopping".to_owned())?;
        if let Some(known) = known.filter(|r| r.store.as_ref() == Some(&binding)) {
            let modified = known.modified;
            return Ok(Known { cluster_id, modified });
        }
        let attached = self.client.attach_store(&region, &binding).await;
        let modified = attached.map_err(|refusal| refusal.to_string())?.modified;
        tracing::info!(%region, endpoint = %binding.endpoint, bucket = %binding.bucket, "store attached");
        Ok(Known { cluster_id, modified })
    }

    async fn tidy(&self) {
        match self.stores.get(&self.region, &self.binding()).await {
            Ok(store) => abort_left_behind(&self.region, store.as_ref(), SystemClock.now()).await,
            Err(why) => tracing::warn!(region = %self.region, "own store not looked through: {why}"),
        }
    }

    fn binding(&self) -> StoreBinding {
        StoreBinding {
            endpoint: self.store.endpoint.clone(),
            bucket: self.store.bucket.clone(),
            fencing_door: FencingDoor::Qualified,
        }
    }
}

/// Waits until the region knows no store that knew one as `known` says: no verb takes a store away, so this is another region of the
/// same name, or a cluster that goes on from before.
async fn made_anew(
    mut view: watch::Receiver<Arc<View>>,
    region: &RegionId,
    known: &Known,
) -> Result<(), watch::error::RecvError> {
    let is_later =
        |view: &View, r: &RegionRecord| r.modified > known.modified || view.cluster_id != known.cluster_id;
    let anew = |view: &Arc<View>| {
        let record = view.regions.get(region);
        record.is_some_and(|r| r.store.is_none() && is_later(view, r))
    };
    view.wait_for(anew).await.map(|_| ())
}

/// Takes back uploads of artifacts that nobody goes on with: their parts are paid for, and no list of objects shows them.
pub(crate) async fn abort_left_behind(region: &RegionId, store: &dyn ArtifactStore, now: UnixMillis) {
    let before = UnixMillis::default().plus(now.since(UnixMillis::default().plus(LEFT_BEHIND)));
    match store.abort_uploads(keys::ARTIFACTS, before).await {
        Ok(0) => {}
        Ok(uploads) => tracing::info!(%region, uploads, "uploads that were left behind are aborted"),
        Err(error) => tracing::warn!(
            %region,
            "uploads that were left behind stay in the own store: {error}; allow its key to list and abort them, or give the \
             bucket a lifecycle rule that does"
        ),
    }
}
