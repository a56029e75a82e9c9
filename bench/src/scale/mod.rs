//! `scale`: a registry of 100,000 versions with five copies each, and what it costs to list, to hold and to start with.
//!
//! Most of it is as a cluster that was restored goes on from it ([`made`]); the last of it is made through the API, at once.

pub mod made;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use client::{Client, calls::ReplicaReport};
use coordinator::offline::{NewCluster, restore_state};
use futures::future::try_join_all;
use proto::v1::{self as pb, registry_service_client::RegistryServiceClient};
use state::ControlState;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::transport::Channel;
use types::{
    ModelName, NodeId, UnixMillis, VersionKey,
    model::Placement,
    reason::Refusal,
    replica::ReplicaKey,
    time::{Clock as _, SystemClock},
};

use self::made::{EACH, FILES_EACH, Made, VERSIONS_EACH, artifacts, model, region, store};
use crate::{
    agents::{Agents, REGIONS, client_as, client_of},
    certs::Ca,
    limits::{at_most, informs},
    machine::Machine,
    process::Server,
    regent::{End, Regent},
    report::Report,
    rows::Row,
    stats::percentile,
    system::System as _,
};

/// Of all models, the last one of so many is made through the API.
const THROUGH_API: usize = 10;
/// How long the last of the restored ones has been there.
const SINCE: Duration = Duration::from_secs(3600);
/// Models that are made at once.
const WORKERS: usize = 32;
/// Pages of each list that are asked for.
const PAGES: usize = 300;
/// From the start of the processes to the first answer.
const RESTART_MAX: f64 = 10.0;
/// The largest of the three processes.
const RESIDENT_MIB_MAX: f64 = 1024.0;
/// A page of a list as users get it, of the default size.
const PAGE_MILLIS_MAX: f64 = 10.0;
/// Nobody waits for a restart for ever.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// How `regent` is run; it takes `coordinator --config FILE`.
    pub regent: PathBuf,
    /// What the table calls it.
    pub regent_name: String,
    /// Where data goes; removed afterwards.
    pub dir: PathBuf,
    /// How many; rounded up to whole models.
    pub versions: usize,
}

/// Measures, and says what was measured.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&options.dir)
        .with_context(|| format!("cannot make {}", options.dir.display()))?;
    let machine = Machine::look(&options.dir, options.regent_name.clone(), "limits".to_owned())?;
    let dir = tempfile::Builder::new()
        .prefix("scale-")
        .tempdir_in(&options.dir)?;
    Ok(Report {
        machine,
        rows: Box::pin(rows(options, dir.path())).await?,
        notes: notes(options),
    })
}

fn notes(options: &Options) -> Vec<String> {
    vec![
        format!(
            "{} versions of {FILES_EACH} files in models of {VERSIONS_EACH}, each with {REGIONS} verified copies: nine tenths restored \
             as entries of a version each {EACH:?} have made them, the last tenth made through the API",
            options.versions
        ),
        "a restart ends all three coordinators, and is over at the first linearizable read of the last model"
            .to_owned(),
        "memory is of the largest of the three".to_owned(),
    ]
}

async fn rows(options: &Options, dir: &Path) -> anyhow::Result<Vec<Row>> {
    let ca = Ca::create(&dir.join("certs"))?;
    let user = ca.issue("client", "spiffe://regent.local/user/bench")?;
    let data = dir.join("data");
    std::fs::create_dir(&data)?;
    let models = options.versions.div_ceil(VERSIONS_EACH);
    let restored = models - models.div_ceil(THROUGH_API);
    let began = Instant::now();
    restore(&data.join("c0"), restored).await?;
    let mut rows = vec![informs("scale_restored", "s", began.elapsed().as_secs_f64())];
    let mut cluster = Regent::start("regent", &options.regent, &data, &ca, &user).await?;
    let agents = Agents::start(&ca, cluster.endpoints(), REGIONS)?;
    agents.are_there().await?;
    let maker = Arc::new(Maker::new(&ca, cluster.endpoints(), restored..models).await?);
    let began = Instant::now();
    maker.make_all().await?;
    rows.push(informs("scale_made", "s", began.elapsed().as_secs_f64()));
    agents.stop().await?;
    rows.extend(lists(&cluster, &maker).await?);
    rows.push(at_most(
        "scale_resident",
        "MiB",
        largest(&cluster, Server::resident_mib)?,
        RESIDENT_MIB_MAX,
    ));
    rows.push(informs(
        "scale_resident_peak",
        "MiB",
        largest(&cluster, Server::peak_mib)?,
    ));
    for (name, end) in [
        ("scale_restart", End::InOrder),
        ("scale_restart_killed", End::Killed),
    ] {
        let took = restart(&mut cluster, &maker, end).await?;
        rows.push(at_most(name, "s", took.as_secs_f64(), RESTART_MAX));
    }
    rows.push(at_most(
        "scale_resident_restarted",
        "MiB",
        largest(&cluster, Server::peak_mib)?,
        RESIDENT_MIB_MAX,
    ));
    cluster.stop().await?;
    Ok(rows)
}

/// A data directory of the founder, with the first models in it.
async fn restore(data_dir: &Path, models: usize) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let took = EACH * u32::try_from(models * VERSIONS_EACH)? + SINCE;
    let began = UnixMillis(now.0.saturating_sub(u64::try_from(took.as_millis())?));
    let mut made = Made::new(ControlState::new(), REGIONS, began)?;
    made.models(models)?;
    let new = NewCluster {
        node: NodeId::new("c0")?,
        region: region(0)?,
        api_endpoint: "https://127.0.0.1:1".to_owned(),
        raft_endpoint: "https://127.0.0.1:1".to_owned(),
        generation: None,
        outstanding_ttl: Duration::ZERO,
        supersedes: Vec::new(),
        ca_key: None,
        at: now,
        reason: "a benchmark begins".to_owned(),
    };
    Ok(restore_state(&made.state, data_dir, &new).await?)
}

fn largest(cluster: &Regent, of: fn(&Server) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let each: Vec<f64> = cluster.servers().iter().map(of).collect::<Result<_, _>>()?;
    Ok(each.into_iter().fold(0.0, f64::max))
}

/// Makes the registry.
struct Maker {
    user: Client,
    agents: Vec<Client>,
    models: Range<usize>,
    next: AtomicUsize,
}

fn refused(e: impl std::fmt::Display) -> Refusal {
    Refusal::new(types::Reason::Internal, e.to_string())
}

impl Maker {
    async fn new(ca: &Ca, endpoints: &[String], models: Range<usize>) -> anyhow::Result<Self> {
        let user = client_as(ca, "maker", "spiffe://regent.local/user/bench", endpoints, 0)?;
        let agents = (0..REGIONS)
            .map(|n| client_of(ca, n, endpoints))
            .collect::<Result<Vec<_>, _>>()?;
        for (n, agent) in agents.iter().enumerate() {
            agent.attach_store(&region(n)?, &store(n)).await?;
        }
        Ok(Self {
            user,
            agents,
            next: AtomicUsize::new(models.start),
            models,
        })
    }

    async fn make_all(self: &Arc<Self>) -> anyhow::Result<()> {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(Arc::clone(self).work());
        }
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn work(self: Arc<Self>) -> Result<(), Refusal> {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.models.end {
                return Ok(());
            }
            if n.is_multiple_of(200) {
                eprintln!("{n} of {} models", self.models.end);
            }
            let name = model(n).map_err(refused)?;
            let tags = BTreeMap::from([("team".to_owned(), "scale".to_owned())]);
            self.user
                .create_model(&name, "a model of this size", tags, &Placement::Everywhere)
                .await?;
            try_join_all((0..VERSIONS_EACH).map(|version| self.publish(&name, n, version))).await?;
        }
    }

    async fn publish(&self, name: &ModelName, n: usize, version: usize) -> Result<(), Refusal> {
        let metadata = BTreeMap::from([("run".to_owned(), format!("run-{n}-{version}"))]);
        let files = artifacts(n, version).map_err(refused)?;
        let made = self
            .user
            .create_version(name, &region(0).map_err(refused)?, &files, "bert", metadata, &[])
            .await?;
        self.user.complete_upload(&made.key).await?;
        self.copy(&made.key, 0).await?;
        try_join_all((1..REGIONS).map(|at| self.copy(&made.key, at))).await?;
        Ok(())
    }

    async fn copy(&self, version: &VersionKey, at: usize) -> Result<(), Refusal> {
        let key = ReplicaKey {
            version: version.clone(),
            region: region(at).map_err(refused)?,
        };
        let source = (at > 0).then(|| region(0)).transpose().map_err(refused)?;
        let begun = self.agents[at]
            .report_replica(&key, &ReplicaReport::Started { source })
            .await?;
        let report = ReplicaReport::Verified {
            attempt: begun.attempts,
            bytes: 1_000 * FILES_EACH as u64,
        };
        self.agents[at].report_replica(&key, &report).await?;
        Ok(())
    }
}

/// Pages of three lists from the leader, each a linearizable read of its own.
async fn lists(cluster: &Regent, maker: &Maker) -> anyhow::Result<Vec<Row>> {
    let (leader, _) = cluster.leader().await?;
    let mut registry = RegistryServiceClient::new(cluster.connect(leader).await?);
    let models = pages(&mut registry, async |registry, token| {
        let request = pb::ListModelsRequest {
            page_token: token,
            ..pb::ListModelsRequest::default()
        };
        let answer = registry.list_models(request).await?.into_inner();
        Ok((answer.models.len(), answer.next_page_token))
    })
    .await?;
    let replicas = pages(&mut registry, async |registry, token| {
        let request = pb::ListReplicasRequest {
            page_token: token,
            ..pb::ListReplicasRequest::default()
        };
        let answer = registry.list_replicas(request).await?.into_inner();
        Ok((answer.replicas.len(), answer.next_page_token))
    })
    .await?;
    let versions = versions(&mut registry, maker).await?;
    let mut rows = Vec::new();
    for (name, mut times) in [("models", models), ("versions", versions), ("replicas", replicas)] {
        times.sort_unstable();
        let millis = |per_cent| percentile(&times, per_cent).unwrap_or_default().as_secs_f64() * 1e3;
        rows.push(at_most(
            &format!("scale_page_{name}_p99"),
            "ms",
            millis(99),
            PAGE_MILLIS_MAX,
        ));
        rows.push(informs(&format!("scale_page_{name}_p50"), "ms", millis(50)));
    }
    Ok(rows)
}

async fn pages(
    registry: &mut RegistryServiceClient<Channel>,
    mut page: impl AsyncFnMut(
        &mut RegistryServiceClient<Channel>,
        String,
    ) -> Result<(usize, String), tonic::Status>,
) -> anyhow::Result<Vec<Duration>> {
    let (mut times, mut token) = (Vec::new(), String::new());
    while times.len() < PAGES {
        let asked = Instant::now();
        let (found, next) = page(registry, std::mem::take(&mut token)).await?;
        times.push(asked.elapsed());
        ensure!(found > 0, "page {} of a list is empty", times.len());
        token = next;
    }
    Ok(times)
}

/// Each model's versions are one page.
async fn versions(
    registry: &mut RegistryServiceClient<Channel>,
    maker: &Maker,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for n in 0..PAGES {
        let request = pb::ListVersionsRequest {
            model: model(n * maker.models.end / PAGES)?.to_string(),
            ..pb::ListVersionsRequest::default()
        };
        let asked = Instant::now();
        let answer = registry.list_versions(request).await?.into_inner();
        times.push(asked.elapsed());
        ensure!(
            answer.versions.len() == VERSIONS_EACH,
            "{} versions",
            answer.versions.len()
        );
    }
    Ok(times)
}

/// How long it takes until the last model is read again.
async fn restart(cluster: &mut Regent, maker: &Maker, end: End) -> anyhow::Result<Duration> {
    let last = model(maker.models.end - 1)?;
    cluster.end(end).await?;
    let began = Instant::now();
    cluster.start_again()?;
    let asker = maker.user.with_deadline(Duration::from_secs(1));
    loop {
        match asker.list_versions(&last).await {
            Ok(found) => {
                ensure!(
                    found.len() == VERSIONS_EACH,
                    "{} versions after a restart",
                    found.len()
                );
                return Ok(began.elapsed());
            }
            Err(refusal) => ensure!(began.elapsed() < STARTS_WITHIN, "after a restart: {refusal}"),
        }
        cluster.check()?;
        sleep(Duration::from_millis(20)).await;
    }
}
