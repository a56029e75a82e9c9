//! Child processes: started by one thread that lives as long as the cluster, waited for by one task each.
//!
//! The kernel sends a child its death signal when the *thread* that started it ends, not the process. So every child
//! is started by this one thread; when the [`Spawner`] is dropped, or the whole process dies, no child stays.

use std::{
    fs::OpenOptions,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    thread::JoinHandle,
};

use chaos::{ProcessName, ProcessRef};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, oneshot, watch},
};

use crate::error::Failure;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// The executable: this one.
    pub(crate) exe: PathBuf,
    /// The subcommand: `coordinator`, `agent`, `dev-s3`.
    pub(crate) subcommand: &'static str,
    /// Its config.
    pub(crate) config: PathBuf,
    /// stdout and stderr are appended here.
    pub(crate) log: PathBuf,
}

/// A child and its end.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// Its run: what signals go to.
    pub(crate) process: ProcessRef,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Running {
    /// Waits until the child has ended and was reaped.
    pub(crate) async fn ended(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        // The waiter ends without a value only together with the runtime.
        let status = exit.wait_for(Option::is_some).await.ok()?;
        *status
    }
    /// How it ended; none while it runs.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }
}

type Request = (Launch, oneshot::Sender<std::io::Result<Child>>);

/// The thread that starts children.
#[derive(Debug)]
pub(crate) struct Spawner {
    // Both are options only for `drop`: the sender goes first, so that the thread ends and can be joined.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Spawner {
    /// Starts the thread. Needs a running tokio runtime.
    pub(crate) fn new() -> Result<Self, Failure> {
        // One start is under way at a time; callers wait for their answer.
        let (requests, mut inbox) = mpsc::channel::<Request>(1);
        let runtime = tokio::runtime::Handle::current();
        let serve = move || {
            while let Some((launch, answer)) = inbox.blocking_recv() {
                let _entered = runtime.enter();
                // A caller that went away leaves a child that `kill_on_drop` ends.
                let _ = answer.send(spawn(&launch));
            }
        };
        let thread = std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(serve)
            .map_err(|e| Failure::other(format!("could not start a thread: {e}")))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    /// Starts a child.
    pub(crate) async fn start(&self, name: &ProcessName, launch: Launch) -> Result<Running, Failure> {
        let failed = |why: String| Failure::other(format!("could not start {name}: {why}"));
        let (answer, reply) = oneshot::channel();
        let requests = self
            .requests
            .as_ref()
            .ok_or_else(|| failed("stopping".to_owned()))?;
        requests
            .send((launch, answer))
            .await
            .map_err(|_| failed("stopping".to_owned()))?;
        let child = reply
            .await
            .map_err(|_| failed("stopping".to_owned()))?
            .map_err(|e| failed(e.to_string()))?;
        follow(child).map_err(|e| failed(e.to_string()))
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported already.
            let _ = thread.join();
        }
    }
}

fn spawn(launch: &Launch) -> std::io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&launch.log)?;
    let parent = std::process::id().to_string();
    Command::new(&launch.exe)
        .arg(launch.subcommand)
        .arg("--config")
        .arg(&launch.config)
        .args(["--die-with", &parent])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-c on the terminal goes to the parent alone, which stops the children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Takes the child's identity before anything can reap it, then hands it to the task that waits for it.
fn follow(mut child: Child) -> std::io::Result<Running> {
    let ended_already = || std::io::Error::other("it ended at once");
    let process = ProcessRef::of(child.id().ok_or_else(ended_already)?)?;
    let (report, exit) = watch::channel(None);
    // Ends with the child, which ends with the spawner; nothing else is left to wait for.
    tokio::spawn(async move {
        let status = child.wait().await;
        report.send_replace(status.ok());
    });
    Ok(Running { process, exit })
}
