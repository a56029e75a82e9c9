//! What the story plays on: the cluster, those who talk to it, and the record of what was seen.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chaos::Installed;
use client::Client;
use tokio::time::Instant;
use types::{RegionId, RoleName, VersionKey};

use super::{
    ask::{self, Endpoint},
    cast::{Cast, HalfPut},
    checker,
    load::Load,
    micros::Micros,
    narrator::Narrator,
    record::{RecordedRun, Standing, StepName, StepTaken},
    report::Report,
    s3::{Bucket, Keys},
    samples::Fixtures,
    wait::until,
};
use crate::{
    dev::{
        cluster::{DevCluster, Options},
        spec::ClusterSpec,
    },
    error::Failure,
};

/// The timing policy of the demo's cluster.
const TIMING: &str = "fast";
/// How long one question to the cluster may take; asked again until something is seen.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// How long a question may take that is asked once.
const ONCE_LIMIT: Duration = Duration::from_secs(15);
/// How often the cluster is asked.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// The stage.
pub(super) struct Stage {
    pub(super) cluster: DevCluster,
    /// Set once the coordinators listen.
    pub(super) client: Option<Client>,
    pub(super) http: reqwest::Client,
    pub(super) fixtures: Arc<Fixtures>,
    pub(super) narrator: Narrator,
    pub(super) run: RecordedRun,
    pub(super) cast: Option<Cast>,
    pub(super) load: Option<Load>,
    /// Those that act 2 has paused.
    pub(super) paused: Option<(Installed, HalfPut)>,
    pub(super) role: RoleName,
    /// The user's own model directory.
    pub(super) own_model: Option<PathBuf>,
    /// Every pushed version, by model name.
    pub(super) versions: BTreeMap<String, VersionKey>,
    began: Instant,
}

/// A step could not be finished; the record says which and why.
#[derive(Debug)]
pub(super) struct Cut;

impl Stage {
    /// A fresh cluster in `dir`; nothing runs yet.
    pub(super) async fn set(
        dir: &Path,
        regions: usize,
        own_model: Option<PathBuf>,
        narrator: Narrator,
    ) -> Result<Self, Failure> {
        let spec = ClusterSpec::new(regions, TIMING)?;
        let cluster = DevCluster::create(dir, spec, Options::current()?).await?;
        let run = RecordedRun {
            regions: cluster.regions().to_vec(),
            ..RecordedRun::default()
        };
        Ok(Self {
            cluster,
            client: None,
            http: ask::client()?,
            fixtures: Arc::new(Fixtures::load()?),
            narrator,
            run,
            cast: None,
            load: None,
            paused: None,
            role: RoleName::global(),
            own_model,
            versions: BTreeMap::new(),
            began: Instant::now(),
        })
    }

    /// Takes one step, writes down that it was taken, and says how it stands.
    pub(super) async fn step(
        &mut self,
        name: StepName,
        action: impl AsyncFnOnce(&mut Stage) -> Result<(), Failure>,
    ) -> Result<(), Cut> {
        let (began, at) = (Instant::now(), Micros::now());
        let outcome = action(self).await.and_then(|()| self.look_around());
        let error = outcome.err().map(|failure| failure.to_string());
        let cut = error.is_some();
        self.run.steps.push(StepTaken {
            name,
            at,
            seconds: began.elapsed().as_secs_f64(),
            error,
        });
        self.narrator.verdict(&checker::step(&self.run, name));
        if cut { Err(Cut) } else { Ok(()) }
    }

    /// Brings the record up to date with the writers and the load.
    fn look_around(&mut self) -> Result<(), Failure> {
        if let Some(cast) = &mut self.cast {
            cast.refresh()?;
            self.run.writers = cast.logs();
        }
        if let Some(load) = &self.load {
            self.run.load = load.so_far();
        }
        Ok(())
    }

    /// Stops everything and judges. Never fails: what could not be stopped is killed with this process.
    pub(super) async fn finish(mut self) -> (RecordedRun, Report, Narrator) {
        if let Some(load) = self.load.take() {
            self.run.load = load.finish().await;
        }
        if let Some(mut cast) = self.cast.take() {
            if let Err(failure) = cast.stop().await {
                self.narrator.say(&failure.to_string());
            }
            self.run.writers = cast.logs();
        }
        if let Err(failure) = self.cluster.stop_all().await {
            self.narrator.say(&failure.to_string());
        }
        self.run.seconds = self.began.elapsed().as_secs_f64();
        let report = checker::check(&self.run);
        (self.run, report, self.narrator)
    }

    /// Whom to ask.
    pub(super) fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let mut config = self.cluster.context()?.client_config();
        config.deadline = CALL_LIMIT;
        config.attempt_timeout = CALL_LIMIT / 2;
        let client = Client::new(config)?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// The same for questions that are asked once: a busy machine may be slow, and being fast is promised of other things.
    pub(super) fn patient_client(&mut self) -> Result<Client, Failure> {
        Ok(self.client()?.with_deadline(ONCE_LIMIT))
    }

    /// Those who write.
    pub(super) fn cast(&mut self) -> Result<&mut Cast, Failure> {
        self.cast
            .as_mut()
            .ok_or_else(|| Failure::other("no writers were started"))
    }

    /// The inference endpoint of a region.
    pub(super) fn endpoint(&self, region: &RegionId) -> Result<Endpoint, Failure> {
        let url = self.cluster.region(region)?.agent.listen.inference_url();
        let url = url.ok_or_else(|| Failure::other(format!("the agent of {region} does not listen")))?;
        Ok(Endpoint::new(&self.http, &url))
    }

    /// A region's object store, reached without the code under test.
    pub(super) async fn bucket(&mut self, region: &RegionId) -> Result<Bucket, Failure> {
        let store = self.patient_client()?.get_region(region).await?.store;
        let store = store.ok_or_else(|| Failure::other(format!("{region} has no object store")))?;
        let keys = self.cluster.store_credentials();
        let keys = Keys::load(&keys.access_key_file, &keys.secret_key_file)?;
        Bucket::new(&store.endpoint, &store.bucket, keys, CALL_LIMIT)
    }

    /// Waits until somebody holds the role, under an epoch above that of `before` and in another region.
    pub(super) async fn next_primary(
        &mut self,
        before: Option<&Standing>,
        limit: Duration,
    ) -> Result<Standing, Failure> {
        let (client, role) = (self.client()?, self.role.clone());
        until("another primary", limit, LOOK, async || {
            // While nobody leads there is no answer; what counts is the limit.
            let Ok((record, _)) = client.get_role(&role).await else {
                return Ok(None);
            };
            let found = record.holder.map(|holder| Standing {
                epoch: record.epoch,
                holder,
            });
            Ok(found.filter(|now| {
                before.is_none_or(|b| now.epoch > b.epoch && now.holder.region != b.holder.region)
            }))
        })
        .await
    }
}
