//! Nodes that are far from each other: every byte between them takes as long as the test says, each direction of each link
//! by itself. A cut is a distance that nothing passes; what was on its way arrives once it is healed, as TCP has it.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep},
};
use tonic::transport::{Channel, Endpoint};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(600);

/// The one-way delay of every connection, also of those that stand already.
#[derive(Clone, Default)]
pub(super) struct Distance(Arc<Distances>);

#[derive(Default)]
struct Distances {
    /// Where nothing else is said of a link.
    all: AtomicU64,
    /// From a node to another, by their names.
    links: Mutex<HashMap<(String, String), Duration>>,
    /// Connections that were ever made from a node to another.
    made: Mutex<HashMap<(String, String), u32>>,
}

/// One direction between two nodes.
#[derive(Clone)]
struct Way {
    distance: Distance,
    from: String,
    to: String,
}

impl Way {
    fn one_way(&self) -> Duration {
        let links = self.distance.0.links.lock().unwrap();
        let own = links.get(&(self.from.clone(), self.to.clone())).copied();
        own.unwrap_or_else(|| self.distance.one_way())
    }

    /// Until what was sent then is there. The test may bring the ends nearer meanwhile.
    async fn passed_since(&self, sent: Instant) {
        while let Some(left) = (sent + self.one_way()).checked_duration_since(Instant::now()) {
            sleep(left.min(Duration::from_millis(50))).await;
        }
    }
}

fn name(node: usize) -> String {
    format!("c{node}")
}

impl Distance {
    pub(super) fn set(&self, one_way: Duration) {
        let millis = u64::try_from(one_way.as_millis()).unwrap();
        self.0.all.store(millis, Ordering::SeqCst);
    }

    pub(super) fn one_way(&self) -> Duration {
        Duration::from_millis(self.0.all.load(Ordering::SeqCst))
    }

    /// How long a byte takes from one node to another.
    pub(super) fn set_way(&self, from: usize, to: usize, one_way: Duration) {
        let mut links = self.0.links.lock().unwrap();
        links.insert((name(from), name(to)), one_way);
    }

    /// Nothing passes from one node to another.
    pub(super) fn cut_way(&self, from: usize, to: usize) {
        self.set_way(from, to, NEVER);
    }

    /// Nothing passes between two nodes.
    pub(super) fn cut(&self, a: usize, b: usize) {
        self.cut_way(a, b);
        self.cut_way(b, a);
    }

    /// Every link is as long as [`Self::set`] says.
    pub(super) fn heal(&self) {
        self.0.links.lock().unwrap().clear();
    }

    /// How many connections one node has made to another.
    pub(super) fn connections(&self, from: usize, to: usize) -> u32 {
        let made = self.0.made.lock().unwrap();
        made.get(&(name(from), name(to))).copied().unwrap_or_default()
    }

    /// Two of them.
    pub(super) fn round_trip(&self) -> Duration {
        self.one_way() * 2
    }

    /// A channel whose messages take the distance, there and back.
    pub(super) fn channel(&self, from: &str, to: &str, endpoint: &Endpoint) -> Channel {
        let there = Way {
            distance: self.clone(),
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let back = Way {
            from: there.to.clone(),
            to: there.from.clone(),
            ..there.clone()
        };
        endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: http::Uri| {
            let (there, back) = (there.clone(), back.clone());
            async move {
                let link = (there.from.clone(), there.to.clone());
                *there.distance.0.made.lock().unwrap().entry(link).or_default() += 1;
                let address = uri.authority().expect("an address").as_str().to_owned();
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(between(there, back, stream)))
            }
        }))
    }
}

fn between(there: Way, back: Way, stream: TcpStream) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (from_peer, to_peer) = stream.into_split();
    let (from_here, to_here) = tokio::io::split(far);
    carry(back, from_peer, to_here);
    carry(there, from_here, to_peer);
    near
}

/// Carries bytes one way until either end is closed; many may be on their way at once.
fn carry(
    way: Way,
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
) {
    let (sender, mut on_the_way) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n) = from.read(&mut buffer).await {
            if n == 0 || sender.send((Instant::now(), buffer[..n].to_vec())).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((sent, bytes)) = on_the_way.recv().await {
            way.passed_since(sent).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The other end may have closed first.
        let _ = to.shutdown().await;
    });
}
