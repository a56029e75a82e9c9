//! Writers at the object stores' pointers: the hidden `regent zombie-writer`, one per region, as processes.
//!
//! Each speaks as its region's agent with the last token that the agent gave it, blind to the lease, and writes
//! If-Match with the ETag of its own last accepted write, so that only the epoch of a claim can shut it out. No client
//! here speaks S3; what came of the writes is read from the stores' own records.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context as _;
use chaos::ProcessRef;
use tokio::{process::Child, time::timeout};
use types::{ModelName, ModelVersion, RegionId, RoleName, VersionKey};

use super::primary::MODEL;
use crate::{
    check::pointers,
    world::World,
    zombie::{Config, Store},
};

/// How long a writer may take to end its last write.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writers at work. Dropping them kills them.
#[derive(Debug)]
pub(crate) struct Writers(Vec<Child>);

/// Starts one per region.
pub(crate) async fn start(world: &World) -> anyhow::Result<Writers> {
    let context = world.context()?;
    let keys = context.store.context("the context has no keys for the stores")?;
    let agents = world.agents()?;
    let mut stores = BTreeMap::new();
    for region in world.admin()?.list_regions().await? {
        let store = region.store.context("a region has no store")?;
        let (endpoint, bucket) = (store.endpoint, store.bucket);
        stores.insert(region.region, Store { endpoint, bucket });
    }
    let version = VersionKey {
        model: ModelName::new(MODEL)?,
        version: ModelVersion(1),
    };
    let mut writers = Vec::new();
    for region in agents.keys() {
        let dir = world.dir().join("writers").join(region.as_str());
        std::fs::create_dir_all(&dir)?;
        let config = Config {
            region: region.clone(),
            role: RoleName::global(),
            version: version.clone(),
            coordinators: context.endpoints.clone(),
            token_millis: None,
            log: dir.join("log.jsonl"),
            hold: dir.join("hold"),
            tls: world.agent_identity(region),
            keys: keys.clone(),
            agents: agents.clone(),
            stores: stores.clone(),
        };
        let command = config.command(world.regent(), &dir)?;
        let (_, child) = world.spawn_in(command, region).await?;
        writers.push(child);
    }
    Ok(Writers(writers))
}

impl Writers {
    /// SIGTERM: each ends the write that it has in hand. One that ended before has proved nothing.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for child in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("a writer at the pointers ended by itself: {status}");
            }
            let pid = child.id().context("a writer without a pid")?;
            ProcessRef::of(pid)?.terminate()?;
        }
        for child in &mut self.0 {
            let ended = timeout(PATIENCE, child.wait()).await;
            ended.context("a writer at the pointers does not end")??;
        }
        Ok(())
    }
}

/// Judges every store's own record. Stale writes that were refused are counted, because none would prove nothing.
pub(crate) fn judge(records: &BTreeMap<RegionId, PathBuf>) -> anyhow::Result<pointers::Judged> {
    let key = format!(
        "regent/pointers/{}",
        RoleName::global().as_str().replacen('/', ".", 1)
    );
    let mut all = pointers::Judged::default();
    for (region, path) in records {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let lines = pointers::read(&text).with_context(|| path.display().to_string())?;
        let judged = pointers::check(&format!("pointer/{region}"), &key, &lines);
        all.anomalies.extend(judged.anomalies);
        all.stale_refused += judged.stale_refused;
    }
    Ok(all)
}
