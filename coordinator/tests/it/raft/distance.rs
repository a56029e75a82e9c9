//! Nodes that are far from each other: every byte between them takes as long as the test says.

use std::{
    io,
    sync::{
        Arc,
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

/// The one-way delay of every connection, also of those that stand already.
#[derive(Clone, Default)]
pub(super) struct Distance(Arc<AtomicU64>);

impl Distance {
    pub(super) fn set(&self, one_way: Duration) {
        let millis = u64::try_from(one_way.as_millis()).unwrap();
        self.0.store(millis, Ordering::SeqCst);
    }

    pub(super) fn one_way(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    /// Two of them.
    pub(super) fn round_trip(&self) -> Duration {
        self.one_way() * 2
    }

    /// A channel whose messages take the distance, there and back.
    pub(super) fn channel(&self, endpoint: &Endpoint) -> Channel {
        let distance = self.clone();
        endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: http::Uri| {
            let distance = distance.clone();
            async move {
                let address = uri.authority().expect("an address").as_str().to_owned();
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(distance.between(stream)))
            }
        }))
    }

    /// Until what was sent then is there. The test may bring the ends nearer meanwhile.
    async fn passed_since(&self, sent: Instant) {
        while let Some(left) = (sent + self.one_way()).checked_duration_since(Instant::now()) {
            sleep(left.min(Duration::from_millis(50))).await;
        }
    }

    fn between(&self, stream: TcpStream) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (from_peer, to_peer) = stream.into_split();
        let (from_here, to_here) = tokio::io::split(far);
        carry(self.clone(), from_peer, to_here);
        carry(self.clone(), from_here, to_peer);
        near
    }
}

/// Carries bytes one way until either end is closed; many may be on their way at once.
fn carry(
    distance: Distance,
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
            distance.passed_since(sent).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The other end may have closed first.
        let _ = to.shutdown().await;
    });
}
