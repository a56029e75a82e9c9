//! Connections to the coordinators: made when first needed, kept, shared; who is believed to lead, and who is asked last.
//!
//! A coordinator that hangs takes a whole attempt from everybody who asks it, so it goes to the end of the list for a
//! while. One that refuses connections costs nothing and keeps its place.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use proto::convert::CLUSTER_HEADER;
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};
use tonic::{
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use types::{
    ClusterId,
    reason::{Reason, Refusal},
};

use crate::credentials::{Callee, Credentials};

/// The files of a process's identity; the key is never shown or logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM of the CA that signs every process of the cluster.
    pub ca_file: PathBuf,
    /// PEM of the own certificate.
    pub cert_file: PathBuf,
    /// PEM of the own private key, mode 0600.
    pub key_file: PathBuf,
}

impl TlsFiles {
    /// Reads the three files; the error names the one at fault. From here on the process speaks TLS 1.3 only.
    pub fn load(&self) -> Result<Credentials, Refusal> {
        Credentials::load(self)
    }
}

/// What a [`crate::Client`] needs to know.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// API endpoints of coordinators, `https://host:port`, the nearest first. Others are learnt from leader hints.
    pub endpoints: Vec<String>,
    /// The caller's identity.
    pub tls: TlsFiles,
    /// Time for one call with all its retries. Default 10 s.
    pub deadline: Duration,
    /// Time for one attempt at one coordinator before the next is asked. Default 2 s.
    pub attempt_timeout: Duration,
}

impl ClientConfig {
    /// With the default times.
    pub fn new(endpoints: Vec<String>, tls: TlsFiles) -> Self {
        Self {
            endpoints,
            tls,
            deadline: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(2),
        }
    }
}

/// A channel to `callee` at `endpoint` that connects when first used. Errors name the endpoint.
pub fn lazy_channel(endpoint: &str, tls: &Credentials, callee: Callee) -> Result<Channel, Refusal> {
    let invalid = |e: &dyn std::fmt::Display| {
        let message = format!("endpoint {endpoint:?} cannot be used: {e}; write https://host:port");
        Refusal::new(Reason::InvalidArgument, message).with("endpoint", endpoint)
    };
    if !endpoint.starts_with("https://") {
        return Err(invalid(&"it does not start with https://"));
    }
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).map_err(|e| invalid(&e))?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3));
    let endpoint = tls.secure(endpoint, callee).map_err(|e| invalid(&e))?;
    Ok(endpoint.connect_lazy())
}

/// How long a silent coordinator is asked last. Then it gets its place back, and loses it again if it still hangs.
pub(crate) const LAST_FOR: Duration = Duration::from_secs(30);

/// Every known coordinator, and the one that is believed to lead.
#[derive(Debug)]
pub(crate) struct Channels {
    tls: Credentials,
    inner: Mutex<Inner>,
    /// Told when a coordinator of another cluster than the own one answered.
    pub(crate) met_stranger: Notify,
}

#[derive(Debug)]
struct Inner {
    /// As configured, then as learnt.
    endpoints: Vec<String>,
    /// Those that are asked last, and since when.
    last: Vec<(String, Instant)>,
    leader: Option<String>,
    open: BTreeMap<String, Channel>,
    /// Whether anybody was asked anything yet.
    used: bool,
    /// The only cluster whose coordinators may answer; none: whichever it is.
    cluster: Option<ClusterId>,
}

impl Inner {
    fn order(&mut self, now: Instant) -> Vec<String> {
        self.last
            .retain(|(_, since)| now.duration_since(*since) < LAST_FOR);
        let is_last = |e: &String| self.last.iter().any(|(last, _)| last == e);
        let first = self.endpoints.iter().filter(|e| !is_last(e)).cloned();
        first.chain(self.last.iter().map(|(e, _)| e.clone())).collect()
    }
}

impl Channels {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, Refusal> {
        if config.endpoints.is_empty() {
            let message = "no coordinator endpoint is configured; give at least one https://host:port";
            return Err(Refusal::new(Reason::InvalidArgument, message));
        }
        let tls = config.tls.load()?;
        let mut open = BTreeMap::new();
        for endpoint in &config.endpoints {
            open.insert(
                endpoint.clone(),
                lazy_channel(endpoint, &tls, Callee::AnyCoordinator)?,
            );
        }
        let inner = Inner {
            endpoints: config.endpoints.clone(),
            last: Vec::new(),
            leader: None,
            open,
            used: false,
            cluster: None,
        };
        Ok(Self {
            tls,
            inner: Mutex::new(inner),
            met_stranger: Notify::new(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A poisoned lock only means that another thread panicked; the maps are whole after each statement.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint for the `turn`-th attempt: the believed leader first (if the call wants it), then each in order.
    pub(crate) fn pick(&self, turn: usize, want_leader: bool) -> Result<(String, Channel), Refusal> {
        let leader = self.leader().filter(|_| want_leader);
        let skip = usize::from(leader.is_some());
        let endpoint = match leader {
            Some(leader) if turn == 0 => leader,
            _ => {
                let order = self.order();
                order[(turn - skip.min(turn)) % order.len()].clone()
            }
        };
        let channel = self.open(&endpoint)?;
        Ok((endpoint, channel))
    }

    /// The channel to a coordinator.
    pub(crate) fn open(&self, endpoint: &str) -> Result<Channel, Refusal> {
        let mut inner = self.lock();
        if let Some(channel) = inner.open.get(endpoint) {
            return Ok(channel.clone());
        }
        let channel = lazy_channel(endpoint, &self.tls, Callee::AnyCoordinator)?;
        inner.open.insert(endpoint.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Every known coordinator, in the order in which they are asked; never empty.
    pub(crate) fn order(&self) -> Vec<String> {
        self.order_at(Instant::now())
    }

    /// The nearest one that is nearer than this one, unless it is asked last now.
    pub(crate) fn nearer_than(&self, endpoint: &str) -> Option<String> {
        let mut inner = self.lock();
        let first = inner.order(Instant::now()).into_iter().next()?;
        let place = |of: &str| inner.endpoints.iter().position(|e| e == of);
        (place(&first)? < place(endpoint)?).then_some(first)
    }

    pub(crate) fn order_at(&self, now: Instant) -> Vec<String> {
        self.lock().order(now)
    }

    /// From now on only coordinators of this cluster are to answer; whoever was believed to lead the one before is forgotten.
    pub(crate) fn belong_to(&self, cluster: ClusterId) {
        let mut inner = self.lock();
        if inner.cluster.replace(cluster) != Some(cluster) {
            inner.leader = None;
            inner.last.clear();
        }
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.lock().cluster
    }

    /// Names the own cluster in a request: a coordinator of another one refuses it, whatever it asks for.
    pub(crate) fn name_cluster(&self, metadata: &mut MetadataMap) {
        let named = self.cluster().and_then(|id| id.to_string().parse().ok());
        if let Some(id) = named {
            metadata.insert(CLUSTER_HEADER, id);
        }
    }

    /// This one is of another cluster: others may be of the own one.
    pub(crate) fn stranger(&self, endpoint: &str) {
        self.forget_leader(endpoint);
        self.ask_last(endpoint);
        self.met_stranger.notify_one();
    }

    /// From now on this one is asked last, for a while.
    pub(crate) fn ask_last(&self, endpoint: &str) {
        let mut inner = self.lock();
        inner.last.retain(|(last, _)| last != endpoint);
        if inner.endpoints.iter().any(|e| e == endpoint) {
            inner.last.push((endpoint.to_owned(), Instant::now()));
        }
    }

    /// This one answers: it has its place again.
    pub(crate) fn ask_in_turn(&self, endpoint: &str) {
        self.lock().last.retain(|(last, _)| last != endpoint);
    }

    /// Whether nobody was asked anything before; true once.
    pub(crate) fn is_first_use(&self) -> bool {
        !std::mem::replace(&mut self.lock().used, true)
    }

    pub(crate) fn set_leader(&self, endpoint: &str) {
        let mut inner = self.lock();
        if inner.leader.as_deref() != Some(endpoint) && endpoint.starts_with("https://") {
            inner.leader = Some(endpoint.to_owned());
            // Learnt coordinators are kept, so that a client configured with one endpoint survives its loss.
            if !inner.endpoints.iter().any(|e| e == endpoint) && inner.endpoints.len() < 64 {
                inner.endpoints.push(endpoint.to_owned());
            }
        }
    }

    pub(crate) fn forget_leader(&self, endpoint: &str) {
        let mut inner = self.lock();
        if inner.leader.as_deref() == Some(endpoint) {
            inner.leader = None;
        }
    }

    pub(crate) fn leader(&self) -> Option<String> {
        self.lock().leader.clone()
    }

    /// How many coordinators are known.
    pub(crate) fn count(&self) -> usize {
        self.lock().endpoints.len()
    }
}
