//! Shallow probes: can the agents of the other regions be reached from here?
//!
//! Absent on purpose: verdicts; one vantage never condemns a region. An agent that answers that it is not ready was
//! reached; whether it is ready, it says in its own heartbeats.

use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{NodeId, RegionId, role::TimingPolicy};

use crate::{
    board::{Board, Probe},
    metrics::Metrics,
};

/// Longest wait for one answer; always less than the interval.
const DEADLINE_MAX: Duration = Duration::from_secs(2);

/// Probes all peers on the board, every probe interval, until `stop`.
pub async fn run(board: watch::Sender<Board>, metrics: Metrics, stop: CancellationToken) {
    // An environment's proxy must not come between two agents.
    let http = match reqwest::Client::builder().no_proxy().build() {
        Ok(http) => http,
        Err(error) => return tracing::error!(%error, "probes cannot run"),
    };
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
            results = round => note(&board, &metrics, results),
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

type Result = (NodeId, RegionId, std::result::Result<(), String>);

async fn probe(
    http: &reqwest::Client,
    node: &NodeId,
    region: &RegionId,
    endpoint: &str,
    deadline: Duration,
) -> Result {
    let url = format!("{endpoint}/health");
    let answer = http.get(&url).timeout(deadline).send().await;
    let result = match answer {
        Ok(response) if response.status().is_success() || response.status().as_u16() == 503 => Ok(()),
        Ok(response) => Err(format!("{url} answered {}", response.status())),
        Err(error) => Err(with_cause(&url, &error)),
    };
    (node.clone(), region.clone(), result)
}

fn with_cause(url: &str, error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("{url}: {cause}").chars().take(200).collect()
}

fn note(board: &watch::Sender<Board>, metrics: &Metrics, results: Vec<Result>) {
    for (_, region, result) in &results {
        metrics.probe(region, result.is_ok());
    }
    board.send_modify(|board| {
        let mut before = std::mem::take(&mut board.probes);
        for (node, region, result) in results {
            let failures = before.remove(&node).map_or(0, |p| p.consecutive_failures);
            let probe = Probe {
                region,
                consecutive_failures: if result.is_ok() {
                    0
                } else {
                    failures.saturating_add(1)
                },
                error: result.err().unwrap_or_default(),
            };
            board.probes.insert(node, probe);
        }
    });
}
