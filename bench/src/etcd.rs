//! etcd, the peer: three members from the machine's own package, and a client for the three calls that are measured.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    certs::{Ca, Pair},
    process::Server,
    system::{CLIENTS_PER_PROCESS, Failed, Session, System},
};

/// Generated from `bench/etcd.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::or_fun_call,
    clippy::large_futures,
    reason = "generated code"
)]
pub mod pb {
    include!("gen/etcdserverpb.rs");
}
use pb::kv_client::KvClient;

/// A cluster must answer within this time of its start.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// One call.
const CALL: Duration = Duration::from_secs(10);

/// The executable, if the machine has one: the first `etcd` in PATH.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("etcd"))
        .find(|file| file.is_file())
}

/// What to do where [`find`] finds none.
pub const INSTALL: &str =
    "etcd is not in PATH; install it, on Debian by `apt-get install etcd-server`, and run this again";

/// The first line of what it says of itself.
pub async fn version(etcd: &Path) -> anyhow::Result<String> {
    let output = Command::new(etcd).arg("--version").output().await;
    let output = output.with_context(|| format!("cannot run {}", etcd.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().unwrap_or_default();
    Ok(format!("etcd {}", version.trim_start_matches("etcd Version: ")))
}

/// Three members.
pub struct Etcd {
    servers: Vec<Server>,
    endpoints: Vec<Endpoint>,
}

impl Etcd {
    /// Starts them with data in `dir`, TLS for clients and peers, and the defaults in everything else.
    pub async fn start(etcd: &Path, dir: &Path, ca: &Ca, client: &Pair) -> anyhow::Result<Self> {
        let (ports, held): (Vec<u16>, Vec<TcpListener>) = free_ports(6)?.into_iter().unzip();
        // etcd cannot say which ports the system gave it, so they are looked up, and free until it takes them.
        drop(held);
        let mut servers = Vec::new();
        let mut endpoints = Vec::new();
        for member in 0..3 {
            let pair = ca.issue(&format!("etcd{member}"), &format!("spiffe://bench/etcd/{member}"))?;
            let command = command(etcd, dir, member, &ports, &ca.file(), &pair);
            servers.push(Server::start(command, &dir.join(format!("etcd{member}.log")))?);
            endpoints.push(endpoint(ports[member], &ca.file(), client)?);
        }
        let mut cluster = Self { servers, endpoints };
        cluster.answers().await?;
        Ok(cluster)
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + STARTS_WITHIN;
        for member in 0..3 {
            while let Err(error) = self.ask(member).await {
                self.servers.iter_mut().try_for_each(Server::check)?;
                if Instant::now() >= until {
                    return Err(error.context("etcd does not answer"));
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// A linearizable read: there is a leader, and this member knows it.
    async fn ask(&self, member: usize) -> anyhow::Result<i64> {
        let mut client = KvClient::new(self.endpoints[member].connect().await?);
        let answer = client.range(range(key_of(0))).await?.into_inner();
        Ok(answer.header.context("etcd sent no header")?.revision)
    }
}

fn free_ports(count: usize) -> std::io::Result<Vec<(u16, TcpListener)>> {
    let one = |_| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok((listener.local_addr()?.port(), listener))
    };
    (0..count).map(one).collect()
}

/// Client ports first, then peer ports.
fn command(etcd: &Path, dir: &Path, member: usize, ports: &[u16], ca: &Path, pair: &Pair) -> Command {
    let url = |port: u16| format!("https://127.0.0.1:{port}");
    let (client, peer) = (url(ports[member]), url(ports[3 + member]));
    let peers: Vec<_> = (0..3).map(|m| format!("e{m}={}", url(ports[3 + m]))).collect();
    let mut command = Command::new(etcd);
    command
        .env_clear()
        .args(["--name", &format!("e{member}")])
        .arg("--data-dir")
        .arg(dir.join(format!("etcd{member}")))
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args([
            "--initial-cluster",
            &peers.join(","),
            "--initial-cluster-state",
            "new",
        ])
        .args([
            "--client-cert-auth",
            "--peer-client-cert-auth",
            "--logger",
            "zap",
            "--log-level",
            "warn",
        ]);
    for (flag, file) in [
        ("--cert-file", pair.cert.as_path()),
        ("--key-file", &pair.key),
        ("--trusted-ca-file", ca),
        ("--peer-cert-file", &pair.cert),
        ("--peer-key-file", &pair.key),
        ("--peer-trusted-ca-file", ca),
    ] {
        command.arg(flag).arg(file);
    }
    command
}

fn endpoint(port: u16, ca: &Path, client: &Pair) -> anyhow::Result<Endpoint> {
    client::tls13::install();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(std::fs::read(ca)?))
        .identity(Identity::from_pem(
            std::fs::read(&client.cert)?,
            std::fs::read(&client.key)?,
        ));
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?;
    Ok(endpoint.tcp_nodelay(true).timeout(CALL).tls_config(tls)?)
}

fn key_of(key: usize) -> Vec<u8> {
    format!("bench/m{key:06}").into_bytes()
}

fn range(key: Vec<u8>) -> pb::RangeRequest {
    pb::RangeRequest {
        key,
        ..pb::RangeRequest::default()
    }
}

/// One client. It takes the members in turn, as etcd's own client does.
pub struct EtcdSession {
    members: Vec<KvClient<Channel>>,
    turn: usize,
}

impl EtcdSession {
    fn next(&mut self) -> &mut KvClient<Channel> {
        self.turn += 1;
        let member = self.turn % self.members.len();
        &mut self.members[member]
    }
}

/// Times that an operation is sent before it is given up, and the wait in between. All of them may be sent twice: a key is
/// written by one client, and its next value comes after this one.
const ATTEMPTS_MAX: usize = 30;
const AGAIN_AFTER: Duration = Duration::from_millis(100);

impl EtcdSession {
    async fn call<T, F>(&mut self, send: impl Fn(KvClient<Channel>) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            match send(self.next().clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status)
                    if matches!(
                        status.code(),
                        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
                    ) =>
                {
                    last = Some(status);
                    sleep(AGAIN_AFTER).await;
                }
                Err(status) => return Err(Failed(format!("etcd: {status}"))),
            }
        }
        Err(Failed(format!("etcd refuses for too long: {last:?}")))
    }
}

impl Session for EtcdSession {
    async fn create(&mut self, key: usize, value: &str) -> Result<(), Failed> {
        self.put(key, value).await
    }

    async fn put(&mut self, key: usize, value: &str) -> Result<(), Failed> {
        let request = pb::PutRequest {
            key: key_of(key),
            value: value.as_bytes().to_vec(),
        };
        self.call(|mut member| {
            let request = request.clone();
            async move { member.put(request).await }
        })
        .await?;
        Ok(())
    }

    async fn get(&mut self, key: usize) -> Result<String, Failed> {
        let answer = self.call(|mut member| async move { member.range(range(key_of(key))).await });
        let value = answer.await?.kvs.pop().map(|kv| kv.value);
        let value = value.ok_or_else(|| Failed(format!("etcd has no key {key}")))?;
        String::from_utf8(value).map_err(|e| Failed(e.to_string()))
    }
}

impl System for Etcd {
    type Session = EtcdSession;

    fn name(&self) -> &str {
        "etcd"
    }

    fn servers(&self) -> &[Server] {
        &self.servers
    }

    async fn sessions(&self, clients: usize) -> anyhow::Result<Vec<EtcdSession>> {
        let mut sessions = Vec::new();
        while sessions.len() < clients {
            let mut members = Vec::new();
            for endpoint in &self.endpoints {
                members.push(KvClient::new(endpoint.connect().await?));
            }
            let own = (clients - sessions.len()).min(CLIENTS_PER_PROCESS);
            let first = sessions.len();
            sessions.extend((first..first + own).map(|turn| EtcdSession {
                members: members.clone(),
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

    /// Compacts all history: with a long one etcd 3.4 reads several times slower, and nobody runs it so.
    async fn tidy_up(&self) -> anyhow::Result<()> {
        let revision = self.ask(0).await?;
        let mut client = KvClient::new(self.endpoints[0].connect().await?);
        let physical = true;
        match client.compact(pb::CompactionRequest { revision, physical }).await {
            Ok(_) => Ok(()),
            // Nothing was written since the last time.
            Err(status) if status.code() == Code::OutOfRange => Ok(()),
            Err(status) => bail!("etcd does not compact: {status}"),
        }
    }
}
