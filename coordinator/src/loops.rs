//! The loops that run beside the servers: who they are, and that none of them fails unnoticed.
//!
//! Invariant: a loop that panics ends the process with its name. Without that, watches would stand still at one revision,
//! or no failover would begin, in a coordinator that looks well from outside.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

use crate::error::RunError;

/// Loops by name.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Loops {
    /// Starts one.
    pub(crate) fn spawn(&mut self, name: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(run).id();
        self.names.insert(id, name);
    }

    /// Completes once a loop has failed; one that ended has done its work. Cancel safe.
    pub(crate) async fn failed(&mut self) -> RunError {
        while let Some(ended) = self.set.join_next().await {
            if let Err(error) = ended {
                return RunError::Loop {
                    name: self.names.get(&error.id()).copied().unwrap_or("a loop"),
                    problem: error.to_string(),
                };
            }
        }
        std::future::pending().await
    }

    /// Completes once all have ended.
    pub(crate) async fn ended(&mut self) {
        while self.set.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_panics_is_named_and_one_that_ends_is_not() {
        let mut loops = Loops::default();
        loops.spawn("one that ends", async {});
        loops.spawn("one that goes on", std::future::pending());
        loops.spawn("the watch hub", async { panic!("out of order") });
        let failed = loops.failed().await.to_string();
        assert!(
            failed.starts_with("the watch hub failed: ") && failed.contains("out of order"),
            "{failed}"
        );
    }

    #[tokio::test]
    async fn a_coordinator_ends_with_the_loop_that_failed() {
        let mut loops = Loops::default();
        loops.spawn("failovers", async { panic!("no such role") });
        let mut parts = tokio::task::JoinSet::new();
        parts.spawn(std::future::pending());
        let stopped = std::future::pending();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let ended = crate::wait(stopped, &mut parts, &mut loops, &shutdown).await;
        assert!(
            matches!(
                ended,
                Err(RunError::Loop {
                    name: "failovers",
                    ..
                })
            ),
            "{ended:?}"
        );
    }
}
