//! Metrics and health as plain HTTP, for the machine itself: loopback only (`Config::validate`).

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{metrics, raft::RaftNode, sessions::Sessions};

/// Connections at once; a scraper has one.
const CONNECTIONS: usize = 16;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(5);

/// Metrics are looked at and told in one: whoever came between would miss some.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Wait after a connection that could not be taken.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What is looked at for each answer.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) raft: RaftNode,
    /// A witness never has any.
    pub(crate) sessions: Sessions,
}

/// Serves `/metrics` and `/health` until `shutdown`.
pub(crate) async fn serve(seen: Seen, listener: std::net::TcpListener, shutdown: CancellationToken) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return debug!(%error, "metrics are not served"),
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, say, which lasts: without a wait this would spin.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let (seen, shutdown) = (seen.clone(), shutdown.clone());
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&seen, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = shutdown.cancelled() => {}
                ended = connection => if let Err(error) = ended {
                    debug!(%error, "a metrics connection ended");
                },
            }
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}

fn answer(seen: &Seen, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, kind, body) = match request.uri().path() {
        "/metrics" => {
            let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            refresh(seen);
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, kind, metrics::exposition())
        }
        "/health" => match seen.raft.why_unserving() {
            None => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{why}\n")),
        },
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "/metrics or /health\n".to_owned(),
        ),
    };
    let response = Response::builder().status(status).header(CONTENT_TYPE, kind);
    response.body(Full::new(Bytes::from(body))).unwrap_or_default()
}

fn refresh(Seen { raft, sessions }: &Seen) {
    let status = raft.status();
    let leads = raft.leadership().borrow().is_leader;
    metrics::set_raft(
        status.leader.is_some(),
        status.has_quorum,
        leads,
        status.term,
        status.applied.0,
    );
    let lags = (status.members.iter()).filter_map(|m| Some((&m.peer.node, m.lag?)));
    metrics::set_replication_lags(lags);
    metrics::set_witness(raft.is_witness());
    metrics::set_log(raft.room(), raft.refuses_entries());
    metrics::set_sessions(sessions.open_count());
}
