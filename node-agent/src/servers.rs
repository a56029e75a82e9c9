//! The listeners: HTTP and the agent's gRPC.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, middleware::AddExtension};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use proto::v1::agent_service_server::AgentServiceServer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::TcpIncoming;
use tower::Service as _;

use crate::{agent::AgentError, grpc::AgentApi};

/// What strangers can take of an HTTP listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections at once; more wait in the system's queue.
    connections_max: usize,
    /// A client sends the head of its next request within this time, or loses the connection. Longer than load balancers keep
    /// a connection that nobody uses: one that closes first breaks their next request.
    head_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            head_max: Duration::from_secs(75),
        }
    }
}

/// How long nothing is accepted after the system refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The routes, for one client.
type Peer = AddExtension<Router, ConnectInfo<SocketAddr>>;

/// Serves HTTP until `close`, and ends when the last request has its answer. Dropped, it ends its connections.
pub(crate) async fn serve_http(
    listener: TcpListener,
    routes: Router,
    bounds: Bounds,
    close: CancellationToken,
) {
    let give_up = CancellationToken::new();
    let _when_dropped = give_up.clone().drop_guard();
    let mut services = routes.into_make_service_with_connect_info::<SocketAddr>();
    let (slots, open) = (
        Arc::new(Semaphore::new(bounds.connections_max)),
        TaskTracker::new(),
    );
    loop {
        let accepted = tokio::select! {
            () = close.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, peer, slot)) = accepted else {
            continue;
        };
        let Ok(service) = services.call(peer).await;
        let (close, give_up) = (close.clone(), give_up.clone());
        open.spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = give_up.cancelled() => {}
                () = connection(stream, service, bounds.head_max, close) => {}
            }
        });
    }
    open.close();
    open.wait().await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            // Out of file descriptors, most likely: give the connections that are open a moment to end.
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, service: Peer, head_max: Duration, close: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    // HTTP/1 alone: its timer runs from the first moment on, also while a client has sent nothing.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_max)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = close.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Serves the agent's gRPC and its health over mTLS until `close`.
pub(crate) async fn serve_grpc(
    listener: TcpListener,
    tls: tonic::transport::ServerTlsConfig,
    api: AgentApi,
    close: CancellationToken,
) -> Result<(), AgentError> {
    let failed = |error: tonic::transport::Error| AgentError::Server {
        name: "agent gRPC",
        error: format!("{error:?}"),
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentServiceServer<AgentApi>>().await;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .tls_config(tls)
        .map_err(failed)?
        .timeout(Duration::from_secs(40))
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .add_service(health_service)
        .add_service(AgentServiceServer::new(api))
        .serve_with_incoming_shutdown(incoming, close.cancelled_owned())
        .await
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn served(listener: TcpListener, bounds: Bounds, close: CancellationToken) -> impl Future<Output = ()> {
        let routes = Router::new().route("/", get(|| async { "here" }));
        serve_http(listener, routes, bounds, close)
    }

    async fn ask(client: &mut TcpStream) {
        client.write_all(ASK).await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"here") {
            assert_ne!(client.read_buf(&mut text).await.unwrap(), 0, "closed");
        }
        assert!(text.starts_with(b"HTTP/1.1 200"));
    }

    /// Until the server closes.
    async fn rest(mut client: TcpStream) -> String {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }

    /// Also who sends nothing at all, or what might become HTTP/2.
    #[tokio::test]
    async fn who_does_not_send_the_whole_head_loses_the_connection_and_the_next_gets_its_place() {
        let bounds = Bounds {
            connections_max: 1,
            head_max: Duration::from_millis(100),
        };
        let (listener, address) = listener().await;
        let server = tokio::spawn(served(listener, bounds, CancellationToken::new()));
        for begun in [&ASK[..ASK.len() - 2], b"PRI * HTTP/2.0\r\n", b"PRI ", b""] {
            let mut slow = TcpStream::connect(address).await.unwrap();
            slow.write_all(begun).await.unwrap();
            let mut next = TcpStream::connect(address).await.unwrap();
            ask(&mut next).await;
            assert!(!rest(slow).await.contains("200"));
        }
        assert!(!server.is_finished());
    }

    #[tokio::test]
    async fn a_connection_that_only_waits_holds_no_end_up() {
        let (listener, address) = listener().await;
        let close = CancellationToken::new();
        let server = tokio::spawn(served(listener, Bounds::default(), close.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        ask(&mut client).await;
        close.cancel();
        server.await.unwrap();
        assert_eq!(rest(client).await, "");
    }

    #[tokio::test]
    async fn an_end_that_was_given_up_leaves_no_connection_behind() {
        let (listener, address) = listener().await;
        let server = served(listener, Bounds::default(), CancellationToken::new());
        let mut client = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            () = server => panic!("it ended"),
            () = ask(&mut client) => {}
        }
        assert_eq!(rest(client).await, "");
    }
}
