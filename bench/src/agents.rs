//! `agents`: what a thousand agents cost the coordinators while nothing changes. Each simulated agent has an identity, a
//! connection, a session with heartbeats and a watch of its own, as crate `node-agent` keeps them.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use client::{Client, ClientConfig, TlsFiles, session::Session, watch::StateWatch};
use proto::v1 as pb;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use types::{NodeIncarnation, RoleName, reason::Refusal, role::FailoverMode};

use crate::{
    certs::Ca,
    events::Events,
    limits::{at_most, informs},
    machine::Machine,
    process::Server,
    regent::Regent,
    report::Report,
    stats::percentile,
    system::System as _,
};

/// Regions of the agents.
pub const REGIONS: usize = 5;
/// CPU of the leader, in cores.
const LEADER_CORES_MAX: f64 = 0.25;
/// All agents must be there within this time.
const SETTLES_WITHIN: Duration = Duration::from_secs(300);
/// Two heartbeats of each agent.
const QUIET: Duration = Duration::from_secs(10);
/// One call.
const CALL: Duration = Duration::from_secs(20);
/// Makes incarnations.
const RUN: u64 = 0x0bec_0000_0000_0000;
/// What an agent has loaded, as its heartbeats say.
const LOADED: u64 = 3;

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// How `regent` is run; it takes `coordinator --config FILE`.
    pub regent: PathBuf,
    /// What the table calls it.
    pub regent_name: String,
    /// Where data goes; removed afterwards.
    pub dir: PathBuf,
    /// How many.
    pub agents: usize,
    /// For how long they are measured.
    pub time: Duration,
}

/// Measures, and says what was measured.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&options.dir)
        .with_context(|| format!("cannot make {}", options.dir.display()))?;
    let machine = Machine::look(&options.dir, options.regent_name.clone(), "limits".to_owned())?;
    let dir = tempfile::Builder::new()
        .prefix("agents-")
        .tempdir_in(&options.dir)?;
    let ca = Ca::create(&dir.path().join("certs"))?;
    let user = ca.issue("client", "spiffe://regent.local/user/bench")?;
    let data = dir.path().join("data");
    std::fs::create_dir(&data)?;
    let cluster = Regent::start("regent", &options.regent, &data, &ca, &user).await?;
    // Nobody here carries a plan out: one that gave the role to a simulated agent would try again and again, and write it down.
    let admin = client_as(
        &ca,
        "admin",
        "spiffe://regent.local/user/admin",
        cluster.endpoints(),
        0,
    )?;
    admin
        .set_role_mode(&RoleName::global(), FailoverMode::Manual)
        .await
        .context("cannot leave the role to people")?;
    let agents = Agents::start(&ca, cluster.endpoints(), options.agents)?;
    agents.are_there().await?;
    agents.are_quiet(&cluster).await?;
    let observer = client_as(
        &ca,
        "observer",
        "spiffe://regent.local/user/observer",
        cluster.endpoints(),
        0,
    )?;
    let events = Events::follow(observer, CALL).await;
    let measured = measure(&cluster, &agents, options.time).await?;
    let happened = events.told();
    agents.stop().await?;
    cluster.stop().await?;
    Ok(Report {
        machine,
        rows: measured.rows(),
        notes: notes(options).into_iter().chain(happened).collect(),
    })
}

fn notes(options: &Options) -> Vec<String> {
    vec![
        format!(
            "{} agents in {REGIONS} regions, each with a certificate, a session and a watch; heartbeats as the default policy says",
            options.agents
        ),
        format!("measured for {:?}, while nothing changes", options.time),
        "the role is left to people and held by nobody: simulated agents carry no plan out".to_owned(),
        "agents run in the benchmark's process: they cost the coordinators nothing but what they send"
            .to_owned(),
    ]
}

/// What a while of quiet cost.
struct Measured {
    leader_cores: f64,
    others_cores: f64,
    leader_mib: f64,
    entries: u64,
    heartbeats: Vec<Duration>,
}

impl Measured {
    fn rows(&self) -> Vec<crate::rows::Row> {
        #[expect(clippy::cast_precision_loss, reason = "few")]
        let (entries, heartbeats) = (self.entries as f64, self.heartbeats.len() as f64);
        let p99 = percentile(&self.heartbeats, 99).unwrap_or_default();
        vec![
            at_most("agents_leader_cpu", "cores", self.leader_cores, LEADER_CORES_MAX),
            at_most("agents_log_entries", "count", entries, 0.0),
            informs("agents_others_cpu", "cores", self.others_cores),
            informs("agents_leader_resident", "MiB", self.leader_mib),
            informs("agents_heartbeats", "count", heartbeats),
            informs("agents_heartbeat_p99", "ms", p99.as_secs_f64() * 1e3),
        ]
    }
}

async fn measure(cluster: &Regent, agents: &Agents, time: Duration) -> anyhow::Result<Measured> {
    let (leader, before) = cluster.leader().await?;
    let cpu = |servers: &[Server]| -> anyhow::Result<Vec<f64>> {
        servers.iter().map(Server::cpu_seconds).collect()
    };
    let (began, cpu_before) = (Instant::now(), cpu(cluster.servers())?);
    let lost = agents.lost.load(Ordering::Relaxed);
    agents.forget_heartbeats();
    sleep(time).await;
    let (took, cpu_after) = (began.elapsed().as_secs_f64(), cpu(cluster.servers())?);
    let (still, after) = cluster.leader().await?;
    ensure!(
        still == leader && after.term == before.term,
        "the leader changed; run it again"
    );
    agents.check()?;
    ensure!(
        agents.lost.load(Ordering::Relaxed) == lost,
        "agents lost their sessions; run it again"
    );
    let cores: Vec<f64> = cpu_before
        .iter()
        .zip(&cpu_after)
        .map(|(b, a)| (a - b) / took)
        .collect();
    let all: f64 = cores.iter().sum();
    Ok(Measured {
        leader_cores: cores[leader],
        others_cores: all - cores[leader],
        leader_mib: cluster.servers()[leader].resident_mib()?,
        entries: after.last_log_index - before.last_log_index,
        heartbeats: agents.heartbeats(),
    })
}

/// Simulated agents; they end when dropped. One that loses its session opens another, as real ones do.
pub struct Agents {
    count: usize,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// What went wrong first; an agent that fails fails the run.
    failed: watch::Sender<Option<String>>,
    /// How many have a session and have seen the state.
    ready: watch::Sender<usize>,
    /// Sessions that ended by themselves.
    lost: Arc<AtomicUsize>,
    answers: Arc<Mutex<Vec<Duration>>>,
}

/// Identity of agent `n`: its name, its region.
pub fn identity(n: usize) -> (String, String) {
    (format!("a{n}"), format!("r{}", n % REGIONS))
}

/// A client that speaks as this user or agent; the endpoints begin with another one for each `turn`.
pub fn client_as(
    ca: &Ca,
    name: &str,
    uri: &str,
    endpoints: &[String],
    turn: usize,
) -> anyhow::Result<Client> {
    let pair = ca.issue(name, uri)?;
    let tls = TlsFiles {
        ca_file: ca.file(),
        cert_file: pair.cert,
        key_file: pair.key,
    };
    let mut endpoints = endpoints.to_vec();
    let first = turn % endpoints.len().max(1);
    endpoints.rotate_left(first);
    let config = ClientConfig {
        deadline: CALL,
        attempt_timeout: CALL,
        ..ClientConfig::new(endpoints, tls)
    };
    Client::new(config).map_err(|e| anyhow::anyhow!("{e}"))
}

/// A client that speaks as agent `n`.
pub fn client_of(ca: &Ca, n: usize, endpoints: &[String]) -> anyhow::Result<Client> {
    let (name, region) = identity(n);
    let uri = format!("spiffe://regent.local/region/{region}/node/{name}");
    client_as(ca, &name, &uri, endpoints, n)
}

impl Agents {
    /// Starts them; [`Agents::are_there`] waits for them.
    pub fn start(ca: &Ca, endpoints: &[String], count: usize) -> anyhow::Result<Self> {
        let mut agents = Self {
            count,
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            failed: watch::Sender::new(None),
            ready: watch::Sender::new(0),
            lost: Arc::default(),
            answers: Arc::default(),
        };
        for n in 0..count {
            let client = client_of(ca, n, endpoints)?;
            agents.start_one(n, client);
        }
        Ok(agents)
    }

    fn start_one(&mut self, n: usize, client: Client) {
        let agent = Agent {
            n,
            count: self.count,
            client,
            ready: self.ready.clone(),
            lost: Arc::clone(&self.lost),
            answers: Arc::clone(&self.answers),
        };
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        self.tasks.spawn(async move {
            let why = tokio::select! {
                () = stop.cancelled() => return,
                why = agent.live() => why,
            };
            failed.send_if_modified(|failed| failed.replace(format!("agent a{n}: {why}")).is_none());
        });
    }

    /// Waits until every agent has its session and its watch.
    pub async fn are_there(&self) -> anyhow::Result<()> {
        let until = Instant::now() + SETTLES_WITHIN;
        loop {
            self.check()?;
            let ready = *self.ready.borrow();
            if ready == self.count {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "{ready} of {} agents are there",
                self.count
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the log has been still for [`QUIET`]: everybody is known, and in good health.
    async fn are_quiet(&self, cluster: &Regent) -> anyhow::Result<()> {
        let until = Instant::now() + SETTLES_WITHIN;
        let (mut last, mut since) = (0, Instant::now());
        while since.elapsed() < QUIET {
            self.check()?;
            // During an election nobody leads.
            let found = cluster.leader().await.map(|(_, status)| status.last_log_index);
            if found.as_ref().ok() != Some(&last) {
                (last, since) = (found.unwrap_or(last), Instant::now());
            }
            ensure!(
                Instant::now() < until,
                "the log grows on and on, and stands at {last}"
            );
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// An error once an agent found nobody who opens a session for it.
    pub fn check(&self) -> anyhow::Result<()> {
        self.failed
            .borrow()
            .clone()
            .map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
    }

    fn forget_heartbeats(&self) {
        self.lock().clear();
    }

    fn heartbeats(&self) -> Vec<Duration> {
        let mut found = std::mem::take(&mut *self.lock());
        found.sort_unstable();
        found
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends them.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        self.check()
    }
}

/// One of them.
struct Agent {
    n: usize,
    count: usize,
    client: Client,
    ready: watch::Sender<usize>,
    /// Sessions that ended by themselves.
    lost: Arc<AtomicUsize>,
    answers: Arc<Mutex<Vec<Duration>>>,
}

impl Agent {
    /// Lives until nobody opens a session for it any more; why.
    async fn live(self) -> Refusal {
        // Processes of a fleet do not start in one moment.
        sleep(Duration::from_millis(5).saturating_mul(u32::try_from(self.n).unwrap_or(u32::MAX))).await;
        let mut session = match self.open().await {
            Ok(session) => session,
            Err(refusal) => return refusal,
        };
        let mut state = StateWatch::new(self.client.clone(), CALL);
        // The first change is the whole state.
        state.next().await;
        self.ready.send_modify(|ready| *ready += 1);
        let follow = async {
            loop {
                state.next().await;
            }
        };
        let speak = async {
            loop {
                self.heartbeats(&mut session).await;
                self.lost.fetch_add(1, Ordering::Relaxed);
                match self.open().await {
                    Ok(again) => session = again,
                    Err(refusal) => break refusal,
                }
            }
        };
        tokio::select! {
            refusal = speak => refusal,
            never = follow => never,
        }
    }

    /// Opens a session, with whoever leads within [`CALL`].
    async fn open(&self) -> Result<Session, Refusal> {
        let (node, region) = identity(self.n);
        let hello = pb::Hello {
            region,
            node,
            incarnation: NodeIncarnation::from_u128(u128::from(RUN) + self.n as u128).to_string(),
            endpoints: Some(pb::Endpoints::default()),
            zone: format!("z{}", self.n % 3),
        };
        let patience = Instant::now() + CALL;
        loop {
            match Session::open(&self.client, &hello, CALL).await {
                Ok(session) => return Ok(session),
                Err(refusal) if Instant::now() > patience => return Err(refusal),
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Speaks until the session is over.
    async fn heartbeats(&self, session: &mut Session) {
        // Spread over the interval, as processes that started at their own times are.
        sleep(share(session.timing.heartbeat_interval, self.n, self.count)).await;
        loop {
            let sent = Instant::now();
            if session.heartbeat(self.heartbeat(), CALL).await.is_err() {
                return;
            }
            self.note(sent.elapsed());
            sleep(session.timing.heartbeat_interval).await;
        }
    }

    fn note(&self, answered_after: Duration) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(answered_after);
    }

    /// It is ready, has some versions loaded, and sees an agent of every other region alive.
    fn heartbeat(&self) -> pb::Heartbeat {
        let probe = |region: usize| pb::ProbeObservation {
            region: format!("r{region}"),
            node: format!("a{region}"),
            ..pb::ProbeObservation::default()
        };
        let loaded = |version| pb::LoadedVersion {
            model: "bench.loaded".to_owned(),
            version,
        };
        pb::Heartbeat {
            loaded: (1..=LOADED).map(loaded).collect(),
            ready: true,
            probes: (0..REGIONS)
                .filter(|r| *r != self.n % REGIONS)
                .map(probe)
                .collect(),
            ..pb::Heartbeat::default()
        }
    }
}

fn share(of: Duration, n: usize, count: usize) -> Duration {
    let per_mille = u32::try_from(n * 1000 / count.max(1)).unwrap_or(0);
    of / 1000 * per_mille
}
