//! Certificates, clusters, clients.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use client::{Client, ClientConfig};
use coordinator::{Config, Coordinator, RunError};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use types::{Principal, RegionId, ZoneName};

/// The longest that any event may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The longest election of these clusters.
pub(crate) const ELECTION_MAX: Duration = Duration::from_millis(600);

/// Waits for `f`, and says what did not happen.
pub(crate) async fn within<T>(what: &str, f: impl Future<Output = T>) -> T {
    timeout(PATIENCE, f)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen within {PATIENCE:?}"))
}

/// A CA and the certificates that it signed, as files.
pub(crate) struct Certs {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    serial: AtomicU64,
}

impl Certs {
    pub(crate) fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            dir: dir.to_owned(),
            issuer: Issuer::new(params, key),
            serial: AtomicU64::new(0),
        }
    }

    /// A certificate whose only URI is `uri`.
    pub(crate) fn issue(&self, uri: &str) -> client::TlsFiles {
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let name = self.serial.fetch_add(1, Ordering::Relaxed);
        let (cert_file, key_file) = (
            self.dir.join(format!("{name}.pem")),
            self.dir.join(format!("{name}.key")),
        );
        std::fs::write(&cert_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        client::TlsFiles {
            ca_file: self.dir.join("ca.pem"),
            cert_file,
            key_file,
        }
    }
}

/// What a client of the generated code needs to connect as `files` say.
pub(crate) fn tls(files: &client::TlsFiles) -> ClientTlsConfig {
    let read = |path: &Path| std::fs::read(path).unwrap();
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&files.ca_file)))
        .identity(Identity::from_pem(read(&files.cert_file), read(&files.key_file)))
}

/// One coordinator, running or not.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) endpoint: String,
    running: Option<(CancellationToken, JoinHandle<Result<(), RunError>>)>,
}

impl Node {
    async fn start(&mut self) {
        let coordinator = Coordinator::start(self.config.clone()).await.unwrap();
        self.endpoint = coordinator.api_endpoint().to_owned();
        let stop = CancellationToken::new();
        let task = tokio::spawn(coordinator.run(stop.clone()));
        self.running = Some((stop, task));
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().expect("it runs");
        stop.cancel();
        within("a coordinator's stop", task).await.unwrap().unwrap();
    }
}

/// A cluster of `r1`, `r2`, … with one coordinator each.
pub(crate) struct Cluster {
    pub(crate) certs: Certs,
    pub(crate) nodes: Vec<Node>,
    _dir: TempDir,
}

impl Cluster {
    /// Starts `n` coordinators, one after the other is a voter and registered: regions join in the order of their names.
    pub(crate) async fn start(n: usize) -> Self {
        Self::start_with(n, |_| {}).await
    }

    /// As [`Self::start`], with what `set` makes of each one's settings.
    pub(crate) async fn start_with(n: usize, set: impl Fn(&mut Config)) -> Self {
        Self::start_each(&vec![None; n], set).await
    }

    /// As [`Self::start`], with a coordinator in each of these zones.
    pub(crate) async fn in_zones(zones: &[&str]) -> Self {
        let zones: Vec<_> = zones.iter().map(|zone| zone.parse().ok()).collect();
        Self::start_each(&zones, |_| {}).await
    }

    async fn start_each(zones: &[Option<ZoneName>], set: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self::new();
        for (i, zone) in (1..).zip(zones) {
            let mut node = cluster.node(i);
            node.config.zone.clone_from(zone);
            set(&mut node.config);
            node.start().await;
            cluster.nodes.push(node);
            within("a coordinator's registration", cluster.registered(i)).await;
        }
        cluster
    }

    /// Starts a witness beside those that run; it is a voter, and no region is made of where it stands.
    pub(crate) async fn add_witness(&mut self) {
        self.add_witness_of(None).await;
    }

    /// As [`Self::add_witness`], in a zone.
    pub(crate) async fn add_witness_in(&mut self, zone: &str) {
        self.add_witness_of(Some(zone.parse().unwrap())).await;
    }

    async fn add_witness_of(&mut self, zone: Option<ZoneName>) {
        let i = self.nodes.len() + 1;
        let mut node = self.node(i);
        node.config.zone = zone;
        node.config.witness = true;
        node.start().await;
        self.nodes.push(node);
        within("a witness's registration", self.registered(i)).await;
    }

    /// Another cluster of one coordinator, under the same CA; where it stands among the nodes.
    pub(crate) async fn add_other_cluster(&mut self) -> usize {
        let mut node = self.node(self.nodes.len() + 1);
        node.config.bootstrap = true;
        node.config.join = Vec::new();
        node.start().await;
        self.nodes.push(node);
        let at = self.nodes.len() - 1;
        within("the other cluster's leader", self.leads(at)).await;
        at
    }

    /// Waits until that coordinator knows a leader with a quorum.
    pub(crate) async fn leads(&self, i: usize) {
        let files = self.certs.issue("spiffe://regent.local/user/probe");
        let one = self.client_of(&files, vec![self.nodes[i].endpoint.clone()]);
        while !Box::pin(one.status()).await.is_ok_and(|s| s.has_quorum) {}
    }

    /// `n` coordinators that do not run yet and know of nobody; the first one is to found, the others
    /// need somebody to ask.
    pub(crate) fn blank(n: usize) -> Self {
        let mut cluster = Self::new();
        for i in 1..=n {
            let node = cluster.node(i);
            cluster.nodes.push(node);
        }
        cluster
    }

    fn new() -> Self {
        // The story of a failure; an error says that another test of this process has set it.
        let _ = tracing_subscriber::fmt()
            .with_env_filter("info,openraft=error")
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().unwrap();
        let certs = Certs::new(&dir.path().join("certs"));
        Self {
            certs,
            nodes: Vec::new(),
            _dir: dir,
        }
    }

    pub(crate) async fn registered(&self, n: usize) {
        let admin = self.admin();
        let mut watch = client::watch::StateWatch::new(admin.clone(), PATIENCE);
        loop {
            watch.next().await;
            let nodes = admin.list_nodes(None).await.unwrap();
            let status = admin.status().await.unwrap();
            if nodes.len() == n && status.members.iter().filter(|m| m.voter).count() == n {
                return;
            }
        }
    }

    fn node(&self, i: usize) -> Node {
        let dir = self._dir.path();
        let (region, node) = (format!("r{i}"), format!("c{i}"));
        let files = self.certs.issue(&format!(
            "spiffe://regent.local/region/{region}/coordinator/{node}"
        ));
        let (boot, join) = match self.nodes.first() {
            None => (true, String::new()),
            Some(first) if first.endpoint.is_empty() => (false, String::new()),
            Some(first) => (false, format!("{:?}", first.endpoint)),
        };
        let text = format!(
            "node = {node:?}\nregion = {region:?}\ndata_dir = {:?}\nlisten_api = \"127.0.0.1:0\"\n\
             listen_raft = \"127.0.0.1:0\"\nbootstrap = {boot}\njoin = [{join}]\ntiming = \"fast\"\n\
             [raft]\nheartbeat_millis = 60\nelection_min_millis = 300\nelection_max_millis = {}\n\
             [tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
            dir.join(&node),
            ELECTION_MAX.as_millis(),
            files.ca_file,
            files.cert_file,
            files.key_file,
        );
        Node {
            config: Config::parse(&text).unwrap(),
            endpoint: String::new(),
            running: None,
        }
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.endpoint.clone()).collect()
    }

    /// A client with a certificate of this identity.
    pub(crate) fn client(&self, principal: &Principal) -> Client {
        self.client_of(&self.certs.issue(&principal.to_string()), self.endpoints())
    }

    pub(crate) fn client_of(&self, files: &client::TlsFiles, endpoints: Vec<String>) -> Client {
        let mut config = ClientConfig::new(endpoints, files.clone());
        config.deadline = PATIENCE;
        Client::new(config).unwrap()
    }

    pub(crate) fn admin(&self) -> Client {
        self.client(&Principal::User {
            name: "admin".parse().unwrap(),
        })
    }

    /// A raw channel to the `i`-th coordinator, from 0.
    pub(crate) async fn channel(&self, i: usize, principal: &Principal) -> Channel {
        let files = self.certs.issue(&principal.to_string());
        let endpoint = Endpoint::from_shared(self.nodes[i].endpoint.clone()).unwrap();
        endpoint.tls_config(tls(&files)).unwrap().connect().await.unwrap()
    }

    /// Which coordinator leads, as the coordinators that run say; waits until one does.
    pub(crate) async fn leader(&self) -> usize {
        within("a leader", async {
            loop {
                for (i, node) in self.nodes.iter().enumerate().filter(|(_, n)| n.running.is_some()) {
                    let one = self.client_of(
                        &self.certs.issue("spiffe://regent.local/user/probe"),
                        vec![node.endpoint.clone()],
                    );
                    if Box::pin(one.status())
                        .await
                        .is_ok_and(|s| s.raft_state == "LEADER" && s.has_quorum)
                    {
                        return i;
                    }
                }
            }
        })
        .await
    }

    pub(crate) async fn stop(&mut self, i: usize) {
        self.nodes[i].stop().await;
    }

    /// Removes all that the `i`-th coordinator, which is stopped, has on its disk.
    pub(crate) fn wipe(&self, i: usize) {
        std::fs::remove_dir_all(&self.nodes[i].config.data_dir).unwrap();
    }

    /// What the `i`-th coordinator ends with by itself.
    pub(crate) async fn end(&mut self, i: usize) -> Result<(), RunError> {
        let (_, task) = self.nodes[i].running.take().expect("it runs");
        within("a coordinator's end", task).await.unwrap()
    }

    /// Whether the `i`-th coordinator still runs after that long.
    pub(crate) async fn goes_on_for(&mut self, i: usize, time: Duration) -> bool {
        let (_, task) = self.nodes[i].running.as_mut().expect("it runs");
        timeout(time, task).await.is_err()
    }

    pub(crate) async fn restart(&mut self, i: usize) {
        self.nodes[i].start().await;
    }

    pub(crate) async fn shutdown(mut self) {
        for node in self.nodes.iter_mut().filter(|n| n.running.is_some()) {
            node.stop().await;
        }
    }
}

/// An endpoint where nobody listens.
pub(crate) async fn closed_port() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("https://{}", listener.local_addr().unwrap())
}

pub(crate) fn region(name: &str) -> RegionId {
    name.parse().unwrap()
}

pub(crate) fn agent(region: &str, node: &str) -> Principal {
    Principal::Agent {
        region: region.parse().unwrap(),
        node: node.parse().unwrap(),
    }
}

pub(crate) fn user(name: &str) -> Principal {
    Principal::User {
        name: name.parse().unwrap(),
    }
}
