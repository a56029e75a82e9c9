//! What died starts again, after a wait that grows while it keeps dying. `dev` does this; the demo does not, because
//! it kills on purpose.

use std::time::Duration;

use chaos::ProcessName;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    dev::cluster::DevCluster,
    error::Failure,
    exit::Exit,
    output::note,
    serve::{LOST_DISK, TOO_OLD},
};

/// First wait before a restart; doubles.
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
/// Longest wait, and that of what keeps ending in the same way.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// A run of this length was a good one: the next wait is short again.
const STEADY: Duration = Duration::from_secs(60);
/// Ends in a row, all alike, after which somebody is told to mend what it names. It is tried further, seldom and in silence: the
/// trouble may pass, as a full disk or a port in use does.
const HOPELESS: u32 = 4;
/// Only a run that ends so soon counts among them.
const SOON: Duration = Duration::from_secs(10);

/// Ends in a row that look alike.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    code: Option<i32>,
    count: u32,
}

impl Ends {
    /// Takes in an end; says whether there were enough of them. A config that cannot be used and files that are damaged or gone end a process
    /// by itself, with a code, and soon; who was killed or ran for a while may well run again.
    pub(crate) fn are_enough(&mut self, code: Option<i32>, ran: Duration) -> bool {
        let tells = [Exit::Error, Exit::Usage, Exit::NotFound].map(|exit| exit as i32);
        let code = code.filter(|code| tells.contains(code) && ran < SOON);
        self.count = match code {
            Some(_) if code == self.code => self.count + 1,
            Some(_) => 1,
            None => 0,
        };
        self.code = code;
        self.count >= HOPELESS
    }

    /// Whether the last one was the first that was enough: it is told once.
    fn are_just_enough(&self) -> bool {
        self.count == HOPELESS
    }
}

/// The wait before the restart after a run of this length, when the last wait was `previous`.
pub(crate) fn back_off(previous: Duration, ran: Duration) -> Duration {
    if ran >= STEADY || previous.is_zero() {
        BACK_OFF_MIN
    } else {
        (previous * 2).min(BACK_OFF_MAX)
    }
}

/// Watches every process of the cluster until `stop`. That none is left to watch before that is a failure.
pub(crate) async fn supervise(cluster: &DevCluster, stop: &CancellationToken) -> Result<(), Failure> {
    let mut watchers = JoinSet::new();
    for name in cluster.names() {
        watchers.spawn(watch(cluster.clone(), name, stop.clone()));
    }
    while watchers.join_next().await.is_some() {}
    if stop.is_cancelled() {
        return Ok(());
    }
    Err(
        Failure::other("no process of the cluster is started again: there is nothing left to run")
            .remedy("what each of them met is said above, and in the logs below regions/"),
    )
}

async fn watch(cluster: DevCluster, name: ProcessName, stop: CancellationToken) {
    let mut wait = Duration::ZERO;
    let mut ends = Ends::default();
    let mut began = Instant::now();
    let mut runs = true;
    loop {
        let hopeless;
        tokio::select! {
            () = stop.cancelled() => return,
            status = cluster.ended(&name) => {
                let ran = began.elapsed();
                if let Err(failure) = cluster.write_roster().await {
                    note(&format!("error: {failure}"));
                }
                if let Some(good) = status.and_then(|s| ForGood::of(s.code())) {
                    good.report(&cluster, &name);
                    return;
                }
                hopeless = ends.are_enough(status.and_then(|s| s.code()), ran);
                wait = if hopeless { BACK_OFF_MAX } else { back_off(wait, ran) };
                if ends.are_just_enough() {
                    report_hopeless(&cluster, &name, &ends);
                } else if runs || !hopeless {
                    let how = status.map_or_else(|| "ended".to_owned(), |s| format!("ended with {s}"));
                    report(&cluster, &name, &how, wait);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
        // Before the start, which waits until it listens: a run that ends in that time was as long as it was.
        began = Instant::now();
        tokio::select! {
            () = stop.cancelled() => return,
            started = cluster.start(&name) => {
                runs = cluster.run_of(&name).is_some();
                match started {
                    Ok(run) => note(&format!("{name} runs again as {run}")),
                    Err(failure) if runs || !hopeless => note(&format!("error: {failure}")),
                    // It is told already.
                    Err(_) => {}
                }
            },
        }
    }
}

/// Why another start would end in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForGood {
    LostDisk,
    TooOld,
}

impl ForGood {
    /// By the code with which a run ended; none where it is started again.
    pub(crate) fn of(code: Option<i32>) -> Option<Self> {
        let is = |exit: Exit| code == Some(exit as i32);
        match () {
            () if is(LOST_DISK) => Some(Self::LostDisk),
            () if is(TOO_OLD) => Some(Self::TooOld),
            () => None,
        }
    }

    fn report(self, cluster: &DevCluster, name: &ProcessName) {
        match self {
            Self::LostDisk => report_lost(cluster, name),
            Self::TooOld => report_too_old(cluster, name),
        }
    }
}

/// Its disk is as good as ever: it must not be taken for lost.
fn report_too_old(cluster: &DevCluster, name: &ProcessName) {
    note(&format!(
        "{name} is not started again, and the others go on; the end of its log:\n    {}\n  stop `dev`, and start it again with the newer \
         build; leave {} as it is",
        tail(cluster, name),
        cluster.layout().data(name).display(),
    ));
}

/// What helps under `dev`, with the data directory that the log speaks of by its path.
fn report_lost(cluster: &DevCluster, name: &ProcessName) {
    let data = cluster.layout().data(name);
    note(&format!(
        "{name} is not started again, and the others go on; the end of its log:\n    {}\n  put {} back as it was and start \
         `dev` again; or, if that is lost, `regent cluster replace NODE --no-wait` with the node that the log names takes it out \
         while the others run: then stop `dev`, remove {}, and start `dev` again",
        tail(cluster, name),
        data.display(),
        data.display()
    ));
}

fn report_hopeless(cluster: &DevCluster, name: &ProcessName, ends: &Ends) {
    let (config, data) = (cluster.layout().config(name), cluster.layout().data(name));
    note(&format!(
        "{name} ended {} times in a row with exit code {}; the others go on, and it is tried again every {BACK_OFF_MAX:?}, which is not \
         reported any more until it runs; the end of its log:\n    {}\n  mend what it names (its config is {}, its data {})",
        ends.count,
        ends.code.unwrap_or_default(),
        tail(cluster, name),
        config.display(),
        data.display(),
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
