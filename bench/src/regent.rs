//! Regent: three coordinators with the defaults, and a client that does what crate `client` does for a change and a read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use client::{
    Callee, Credentials, TlsFiles,
    retry::{self, Next, mint_request_id},
};
use coordinator::listen::ListenFile;
use proto::{
    convert::status::from_status,
    v1::{
        self as pb, cluster_service_client::ClusterServiceClient,
        registry_service_client::RegistryServiceClient,
    },
};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    certs::{Ca, Pair},
    process::Server,
    system::{CLIENTS_PER_PROCESS, Failed, Session, System},
};

/// A cluster must be whole within this time of its start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// One call.
const CALL: Duration = Duration::from_secs(10);
/// Times that an operation is sent before it is given up.
const ATTEMPTS_MAX: u32 = 30;
/// The tag whose value is the measured one.
const TAG: &str = "value";

/// Three coordinators.
pub struct Regent {
    label: &'static str,
    program: PathBuf,
    dir: PathBuf,
    servers: Vec<Server>,
    endpoints: Vec<String>,
    credentials: Credentials,
}

/// How servers are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Asked to.
    InOrder,
    /// Without a word.
    Killed,
}

impl Regent {
    /// Starts them with data in `dir`: the first one founds the cluster, the others join it. `program` runs one with
    /// `coordinator --config FILE`; `label` is its name in messages.
    pub async fn start(
        label: &'static str,
        program: &Path,
        dir: &Path,
        ca: &Ca,
        client: &Pair,
    ) -> anyhow::Result<Self> {
        let files = TlsFiles {
            ca_file: ca.file(),
            cert_file: client.cert.clone(),
            key_file: client.key.clone(),
        };
        let credentials = files.load().map_err(|e| anyhow::anyhow!("{e}"))?;
        let mut cluster = Self {
            label,
            program: program.to_owned(),
            dir: dir.to_owned(),
            servers: Vec::new(),
            endpoints: Vec::new(),
            credentials,
        };
        for member in 0..3 {
            cluster.found_one(member, ca).await?;
        }
        cluster.is_whole().await?;
        Ok(cluster)
    }

    /// Ends all three.
    pub async fn end(&mut self, end: End) -> anyhow::Result<()> {
        for server in std::mem::take(&mut self.servers) {
            match end {
                End::InOrder => server.stop().await?,
                End::Killed => server.kill().await?,
            }
        }
        Ok(())
    }

    /// Starts all three over their data.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        for member in 0..self.endpoints.len() {
            self.spawn(member)?;
        }
        Ok(())
    }

    async fn found_one(&mut self, member: usize, ca: &Ca) -> anyhow::Result<()> {
        let uri = format!("spiffe://regent.local/region/r{member}/coordinator/c{member}");
        let pair = ca.issue(&format!("c{member}"), &uri)?;
        let data = self.dir.join(format!("c{member}"));
        let way_in = match self.endpoints.first() {
            None => "bootstrap = true".to_owned(),
            Some(founder) => format!("join = [{founder:?}]"),
        };
        let config = format!(
            "node = \"c{member}\"\nregion = \"r{member}\"\ndata_dir = {data:?}\nlisten_api = \"127.0.0.1:0\"\n\
             listen_raft = \"127.0.0.1:0\"\n{way_in}\n[tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
            ca.file(),
            pair.cert,
            pair.key,
        );
        std::fs::write(self.config(member), config)?;
        let server = self.spawn(member)?;
        let port = listens(server, &data.join("listen.json")).await?;
        self.endpoints.push(format!("https://127.0.0.1:{port}"));
        Ok(())
    }

    fn config(&self, member: usize) -> PathBuf {
        self.dir.join(format!("c{member}.toml"))
    }

    fn spawn(&mut self, member: usize) -> anyhow::Result<&mut Server> {
        let mut command = Command::new(&self.program);
        command
            .arg("coordinator")
            .arg("--config")
            .arg(self.config(member));
        let log = self.dir.join(format!("c{member}.log"));
        self.servers.push(Server::start(command, &log)?);
        self.servers.last_mut().context("it was just put there")
    }

    /// An error with the end of its log for one that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.servers.iter_mut().try_for_each(Server::check)
    }

    /// API endpoints, in the order of the servers.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Who leads, and what it says of itself.
    pub async fn leader(&self) -> anyhow::Result<(usize, pb::GetStatusResponse)> {
        let said = self.status(0).await?.leader_api_endpoint;
        let at = self.endpoints.iter().position(|e| *e == said);
        let at = at.with_context(|| format!("no leader is known: {said:?}"))?;
        Ok((at, self.status(at).await?))
    }

    /// Waits until all three vote and one leads.
    async fn is_whole(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + STARTS_WITHIN;
        loop {
            let seen = self.status(0).await;
            if seen.as_ref().is_ok_and(whole) {
                return Ok(());
            }
            self.check()?;
            anyhow::ensure!(Instant::now() < until, "the cluster is not whole: {seen:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn status(&self, member: usize) -> anyhow::Result<pb::GetStatusResponse> {
        let mut client = ClusterServiceClient::new(self.connect(member).await?);
        Ok(client.get_status(pb::GetStatusRequest {}).await?.into_inner())
    }

    /// A new connection to a member.
    pub async fn connect(&self, member: usize) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(self.endpoints[member].clone())?;
        let endpoint = endpoint.tcp_nodelay(true).timeout(CALL);
        let endpoint = self.credentials.secure(endpoint, Callee::AnyCoordinator)?;
        Ok(endpoint.connect().await?)
    }
}

fn whole(status: &pb::GetStatusResponse) -> bool {
    status.members.iter().filter(|m| m.voter).count() == 3 && !status.leader_api_endpoint.is_empty()
}

async fn listens(server: &mut Server, file: &PathBuf) -> anyhow::Result<u16> {
    let until = Instant::now() + STARTS_WITHIN;
    loop {
        server.check()?;
        if let Ok(text) = std::fs::read(file) {
            let listens: ListenFile = serde_json::from_slice(&text)?;
            return Ok(listens.api.context("no API port")?.port());
        }
        anyhow::ensure!(Instant::now() < until, "{} does not appear", file.display());
        sleep(Duration::from_millis(20)).await;
    }
}

type Registry = RegistryServiceClient<Channel>;

/// One client. Changes go to the leader, as far as it is known; reads to each member in turn.
pub struct RegentSession {
    /// In the order of `endpoints`.
    members: Vec<Registry>,
    endpoints: Vec<String>,
    leader: usize,
    turn: usize,
}

impl RegentSession {
    /// Sends a call to a member, and after a refusal to whom `client::retry` says, under the same request id. `at` is where
    /// it was sent last.
    async fn call<T, F>(&self, at: &mut usize, send: impl Fn(Registry) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut hints = 0;
        for attempt in 0..ATTEMPTS_MAX {
            let status = match send(self.members[*at].clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let refusal = from_status(&status);
            match retry::next(attempt, hints, &refusal) {
                Next::Stop => return Err(Failed(format!("regent: {refusal}"))),
                Next::AskLeader(leader) => {
                    hints += 1;
                    *at = self.endpoints.iter().position(|e| *e == leader).unwrap_or(*at);
                    continue;
                }
                Next::AskAgain { wait } => sleep(wait).await,
                Next::AskNext { wait } => {
                    *at = (*at + 1) % self.members.len();
                    sleep(wait).await;
                }
            }
            hints = 0;
        }
        Err(Failed("regent refuses for too long".to_owned()))
    }

    async fn change<T, F>(&mut self, send: impl Fn(Registry) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut leader = self.leader;
        let answer = self.call(&mut leader, send).await;
        self.leader = leader;
        answer
    }
}

fn name_of(key: usize) -> String {
    format!("bench.m{key:06}")
}

fn tags(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(TAG.to_owned(), value.to_owned())])
}

fn value_in(model: Option<pb::Model>) -> Result<String, Failed> {
    let value = model.and_then(|mut m| m.tags.remove(TAG));
    value.ok_or_else(|| Failed("regent sent a model without its tag".to_owned()))
}

impl Session for RegentSession {
    async fn create(&mut self, key: usize, value: &str) -> Result<(), Failed> {
        let request = pb::CreateModelRequest {
            request_id: mint_request_id().to_string(),
            name: name_of(key),
            tags: tags(value),
            ..pb::CreateModelRequest::default()
        };
        self.change(|mut leader| {
            let request = request.clone();
            async move { leader.create_model(request).await }
        })
        .await?;
        Ok(())
    }

    async fn put(&mut self, key: usize, value: &str) -> Result<(), Failed> {
        let request = pb::SetModelTagsRequest {
            request_id: mint_request_id().to_string(),
            model: name_of(key),
            set: tags(value),
            ..pb::SetModelTagsRequest::default()
        };
        let answer = self
            .change(|mut leader| {
                let request = request.clone();
                async move { leader.set_model_tags(request).await }
            })
            .await?;
        if value_in(answer.model)? != value {
            return Err(Failed(format!(
                "regent acknowledged another value of {}",
                name_of(key)
            )));
        }
        Ok(())
    }

    async fn get(&mut self, key: usize) -> Result<String, Failed> {
        self.turn += 1;
        let mut member = self.turn % self.members.len();
        let request = pb::GetModelRequest {
            read: None,
            name: name_of(key),
        };
        let answer = self.call(&mut member, |mut member| {
            let request = request.clone();
            async move { member.get_model(request).await }
        });
        value_in(answer.await?.model)
    }
}

impl System for Regent {
    type Session = RegentSession;

    fn name(&self) -> &str {
        self.label
    }

    fn servers(&self) -> &[Server] {
        &self.servers
    }

    async fn sessions(&self, clients: usize) -> anyhow::Result<Vec<RegentSession>> {
        let status = self.status(0).await?;
        let leads = |e: &String| *e == status.leader_api_endpoint;
        let leader = self.endpoints.iter().position(leads).unwrap_or(0);
        let mut sessions = Vec::new();
        while sessions.len() < clients {
            let mut members = Vec::new();
            for member in 0..3 {
                members.push(Registry::new(self.connect(member).await?));
            }
            let own = (clients - sessions.len()).min(CLIENTS_PER_PROCESS);
            let first = sessions.len();
            sessions.extend((first..first + own).map(|turn| RegentSession {
                members: members.clone(),
                endpoints: self.endpoints.clone(),
                leader,
                turn,
            }));
        }
        Ok(sessions)
    }

    async fn stop(self) -> anyhow::Result<()> {
        for server in self.servers {
            server.stop().await?;
        }
        Ok(())
    }

    /// Nothing: what Regent keeps, it bounds by itself.
    async fn tidy_up(&self) -> anyhow::Result<()> {
        Ok(())
    }
}
