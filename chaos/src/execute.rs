//! Faults carried out: install, prove that it took hold, heal, prove that it is over.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    error::ChaosError,
    fault::{Fault, ProcessName, Target},
    process::ProcessRef,
};

/// How long a proof may take before the harness calls it a failure of its own.
const PROOF_LIMIT: Duration = Duration::from_secs(10);

/// A process and its current run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Which process.
    pub name: ProcessName,
    /// Its run.
    #[serde(flatten)]
    pub process: ProcessRef,
}

/// The processes of a cluster, as whoever started them knows them.
pub trait Processes: Send + Sync {
    /// The processes that run now.
    fn running(&self) -> Vec<Run>;
    /// Starts a process that has ended; returns its new run once it exists.
    fn start(&self, name: &ProcessName) -> impl Future<Output = Result<ProcessRef, ChaosError>> + Send;
}

/// A fault that is in force, and the runs that it hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// What was done.
    pub fault: Fault,
    /// The runs that it was done to.
    pub hit: Vec<Run>,
}

/// What was seen, for the record of a test run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Which process.
    pub name: ProcessName,
    /// The run that was looked at.
    pub process: ProcessRef,
    /// What the kernel said: `gone`, `stopped`, `running`.
    pub seen: String,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) is {}", self.name, self.process, self.seen)
    }
}

/// Carries faults out on one cluster.
#[derive(Debug)]
pub struct Injector<P> {
    processes: P,
}

impl<P: Processes> Injector<P> {
    /// An injector for the cluster whose processes these are.
    pub fn new(processes: P) -> Self {
        Self { processes }
    }

    /// Does it. Every process that it covers and that runs is hit at once, before anything is awaited; with none, it
    /// is an error. Prove it before you rely on it.
    pub async fn install(&self, fault: &Fault) -> Result<Installed, ChaosError> {
        let hit = self.covered(fault.target())?;
        for run in &hit {
            match fault {
                Fault::Kill { .. } | Fault::Restart { .. } => run.process.kill()?,
                Fault::Pause { .. } => run.process.pause()?,
            }
        }
        tracing::info!(%fault, processes = hit.len(), "fault installed");
        if let Fault::Restart { .. } = fault {
            prove(&hit, Expect::Gone).await?;
            self.start_all(&hit).await?;
        }
        Ok(Installed {
            fault: fault.clone(),
            hit,
        })
    }

    /// That it took hold: the killed runs are gone, the paused ones stopped.
    pub async fn prove(&self, installed: &Installed) -> Result<Vec<Proof>, ChaosError> {
        let expect = match installed.fault {
            Fault::Kill { .. } | Fault::Restart { .. } => Expect::Gone,
            Fault::Pause { .. } => Expect::Stopped,
        };
        prove(&installed.hit, expect).await
    }

    /// Ends it and proves that: what was killed runs again as a new run, what was paused goes on as the old one.
    pub async fn heal(&self, installed: Installed) -> Result<Vec<Proof>, ChaosError> {
        let now = match &installed.fault {
            Fault::Kill { .. } => self.start_all(&installed.hit).await?,
            Fault::Restart { .. } => self.covered(installed.fault.target())?,
            Fault::Pause { .. } => {
                for run in &installed.hit {
                    run.process.resume()?;
                }
                installed.hit
            }
        };
        tracing::info!(fault = %installed.fault, "fault healed");
        prove(&now, Expect::Running).await
    }

    async fn start_all(&self, ended: &[Run]) -> Result<Vec<Run>, ChaosError> {
        let mut started = Vec::with_capacity(ended.len());
        for run in ended {
            let process = self.processes.start(&run.name).await?;
            started.push(Run {
                name: run.name.clone(),
                process,
            });
        }
        Ok(started)
    }

    fn covered(&self, target: &Target) -> Result<Vec<Run>, ChaosError> {
        let running = self.processes.running();
        let known: Vec<String> = running.iter().map(|r| r.name.to_string()).collect();
        let hit: Vec<Run> = running.into_iter().filter(|r| target.covers(&r.name)).collect();
        if hit.is_empty() {
            return Err(ChaosError::NoSuchTarget {
                target: target.to_string(),
                known: known.join(", "),
            });
        }
        Ok(hit)
    }
}

#[derive(Clone, Copy)]
enum Expect {
    Gone,
    Stopped,
    Running,
}

async fn prove(runs: &[Run], expect: Expect) -> Result<Vec<Proof>, ChaosError> {
    let mut proofs = Vec::with_capacity(runs.len());
    for run in runs {
        match expect {
            Expect::Gone => run.process.wait_gone(PROOF_LIMIT).await?,
            Expect::Stopped => run.process.wait_stopped(PROOF_LIMIT).await?,
            Expect::Running => run.process.wait_running(PROOF_LIMIT).await?,
        }
        proofs.push(Proof {
            name: run.name.clone(),
            process: run.process,
            seen: run.process.state().to_string(),
        });
    }
    Ok(proofs)
}
