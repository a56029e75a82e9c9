//! Shallow probes: can the agents of the other regions be reached from here?
//!
//! Absent on purpose: verdicts; one vantage never condemns a region. An agent that answers that it is not ready was
//! reached; whether it is ready, it says in its own heartbeats. Where another node answers at the endpoint, nothing was
//! seen of the one that was meant: an address such as 127.0.0.1 means this machine on every machine.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{NodeId, RegionId, role::TimingPolicy};

use crate::{
    board::{Board, Probe},
    metrics::Metrics,
};

/// Longest wait for one answer; always less than the interval.
const DEADLINE_MAX: Duration = Duration::from_secs(2);

/// What probes are made with.
///
/// # Errors
/// The system has no use for TLS or no memory; an agent that cannot probe must not start.
pub fn client() -> reqwest::Result<reqwest::Client> {
    // An environment's proxy must not come between two agents.
    reqwest::Client::builder().no_proxy().build()
}

/// Probes all peers on the board, every probe interval, until `stop`.
pub async fn run(
    http: reqwest::Client,
    board: watch::Sender<Board>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut unseen = BTreeSet::new();
    loop {
        let interval = interval(board.borrow().timing.as_ref());
        let peers = board.borrow().peers.clone();
        let deadline = (interval * 4 / 5).min(DEADLINE_MAX);
        let round = join_all(
            peers
                .iter()
                .map(|(node, (region, endpoint))| probe(&http, node, region, endpoint, deadline)),
        );
        let begun = tokio::time::Instant::now();
        tokio::select! {
            () = stop.cancelled() => return,
            results = round => note(&board, &metrics, &mut unseen, results),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(begun + interval) => {}
        }
    }
}

fn interval(timing: Option<&TimingPolicy>) -> Duration {
    timing.map_or_else(|| TimingPolicy::fast().probe_interval, |t| t.probe_interval)
}

/// One probe of one node.
struct Probed {
    node: NodeId,
    region: RegionId,
    seen: Seen,
}

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// The node answered.
    Reached,
    /// It did not, and why.
    Failed(String),
    /// Nothing of it: this node answered in its place.
    Other(String),
}

/// The part of `GET /health` that says who answers.
#[derive(Deserialize)]
struct Health {
    node: String,
}

async fn probe(
    http: &reqwest::Client,
    node: &NodeId,
    region: &RegionId,
    endpoint: &str,
    deadline: Duration,
) -> Probed {
    let url = format!("{endpoint}/health");
    let asked = tokio::time::timeout(deadline, ask(http, node, &url)).await;
    let late = || Seen::Failed(format!("{url}: no answer within {} ms", deadline.as_millis()));
    Probed {
        node: node.clone(),
        region: region.clone(),
        seen: asked.unwrap_or_else(|_| late()),
    }
}

async fn ask(http: &reqwest::Client, node: &NodeId, url: &str) -> Seen {
    let response = match http.get(url).send().await {
        Ok(response) => response,
        Err(error) => return Seen::Failed(with_cause(url, &error)),
    };
    let status = response.status();
    if !status.is_success() && status.as_u16() != 503 {
        return Seen::Failed(format!("{url} answered {status}"));
    }
    match response.json::<Health>().await {
        Ok(health) if health.node == node.as_str() => Seen::Reached,
        Ok(health) => Seen::Other(health.node),
        Err(error) => Seen::Failed(with_cause(url, &error)),
    }
}

fn with_cause(url: &str, error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("{url}: {cause}").chars().take(200).collect()
}

fn note(
    board: &watch::Sender<Board>,
    metrics: &Metrics,
    unseen: &mut BTreeSet<NodeId>,
    results: Vec<Probed>,
) {
    board.send_modify(|board| {
        let mut before = std::mem::take(&mut board.probes);
        for Probed { node, region, seen } in results {
            let error = match seen {
                Seen::Other(other) => {
                    if unseen.insert(node.clone()) {
                        tracing::warn!(%node, %region, other, "another node answers at its endpoint; it is not probed");
                    }
                    continue;
                }
                Seen::Failed(error) => Some(error),
                Seen::Reached => None,
            };
            unseen.remove(&node);
            metrics.probe(&region, error.is_none());
            let failures = before.remove(&node).map_or(0, |p| p.consecutive_failures);
            let probe = Probe {
                region,
                consecutive_failures: match error {
                    None => 0,
                    Some(_) => failures.saturating_add(1),
                },
                error: error.unwrap_or_default(),
            };
            board.probes.insert(node, probe);
        }
    });
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};

    use super::*;

    /// An endpoint whose `/health` answers as given, until the test ends.
    async fn answering(status: StatusCode, body: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/health", get(move || async move { (status, body) }));
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    async fn seen(endpoint: &str) -> Seen {
        let http = client().unwrap();
        let (node, region) = ("b1".parse().unwrap(), "west".parse().unwrap());
        probe(&http, &node, &region, endpoint, Duration::from_secs(10))
            .await
            .seen
    }

    #[tokio::test]
    async fn only_the_node_itself_is_seen() {
        let b1 = r#"{"node": "b1", "region": "west"}"#;
        assert_eq!(seen(&answering(StatusCode::OK, b1).await).await, Seen::Reached);
        let unready = answering(StatusCode::SERVICE_UNAVAILABLE, b1).await;
        assert_eq!(seen(&unready).await, Seen::Reached);
        let other = answering(StatusCode::OK, r#"{"node": "a1", "region": "east"}"#).await;
        assert_eq!(seen(&other).await, Seen::Other("a1".to_owned()));
        for endpoint in [
            answering(StatusCode::INTERNAL_SERVER_ERROR, b1).await,
            answering(StatusCode::OK, "hello").await,
            format!("{}/nothing", answering(StatusCode::OK, b1).await),
        ] {
            let seen = seen(&endpoint).await;
            assert!(matches!(seen, Seen::Failed(_)), "{endpoint}: {seen:?}");
        }
    }
}
