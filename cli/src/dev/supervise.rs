//! What died starts again, after a wait that grows while it keeps dying. `dev` does this; the demo does not, because
//! it kills on purpose.

use std::{process::ExitStatus, time::Duration};

use chaos::ProcessName;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{dev::cluster::DevCluster, output::note, serve::LOST_DISK};

/// First wait before a restart; doubles.
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
/// Longest wait.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// A run of this length was a good one: the next wait is short again.
const STEADY: Duration = Duration::from_secs(60);

/// The wait before the restart after a run of this length, when the last wait was `previous`.
pub(crate) fn back_off(previous: Duration, ran: Duration) -> Duration {
    if ran >= STEADY || previous.is_zero() {
        BACK_OFF_MIN
    } else {
        (previous * 2).min(BACK_OFF_MAX)
    }
}

/// Watches every process of the cluster until `stop`.
pub(crate) async fn supervise(cluster: &DevCluster, stop: &CancellationToken) {
    let mut watchers = JoinSet::new();
    for name in cluster.names() {
        watchers.spawn(watch(cluster.clone(), name, stop.clone()));
    }
    while watchers.join_next().await.is_some() {}
}

async fn watch(cluster: DevCluster, name: ProcessName, stop: CancellationToken) {
    let mut wait = Duration::ZERO;
    loop {
        let began = Instant::now();
        tokio::select! {
            () = stop.cancelled() => return,
            status = cluster.ended(&name) => {
                if status.is_some_and(is_for_good) {
                    report_lost(&cluster, &name);
                    return;
                }
                wait = back_off(wait, began.elapsed());
                let how = status.map_or_else(|| "ended".to_owned(), |s| format!("ended with {s}"));
                report(&cluster, &name, &how, wait);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            started = cluster.start(&name) => match started {
                Ok(run) => note(&format!("{name} runs again as {run}")),
                Err(failure) => note(&format!("error: {failure}")),
            },
        }
    }
}

/// Whether another start would end in the same way.
fn is_for_good(status: ExitStatus) -> bool {
    status.code() == Some(LOST_DISK as i32)
}

/// What helps under `dev`, where a new node name, which the log speaks of, cannot be had.
fn report_lost(cluster: &DevCluster, name: &ProcessName) {
    let (root, data) = (cluster.layout().root(), cluster.layout().data(name));
    note(&format!(
        "{name} is not started again, and the others go on; the end of its log:\n    {}\n  put {} back as it was and start \
         `dev` again; or, if that is lost, stop `dev` and remove {}: what was registered is lost then, too",
        tail(cluster, name),
        data.display(),
        root.display()
    ));
}

fn tail(cluster: &DevCluster, name: &ProcessName) -> String {
    cluster.log_tail(name).replace('\n', "\n    ")
}

fn report(cluster: &DevCluster, name: &ProcessName, how: &str, wait: Duration) {
    let tail = tail(cluster, name);
    note(&format!(
        "{name} {how}; the end of its log:\n    {tail}\n  it starts again in {wait:?}"
    ));
}
