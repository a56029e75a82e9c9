//! The end of processes: SIGTERM, a bounded wait, SIGKILL to what is left.

use std::time::Duration;

use chaos::ProcessName;
use tokio::time::{Instant, timeout_at};

use crate::{dev::spawn::Running, output::note};

/// How long all processes of a cluster may take together to drain.
const LIMIT: Duration = Duration::from_secs(5);
/// How long those of one kind may take at least, however long the others took before them: a coordinator that leads waits
/// 2 s for another leader.
const SHARE: Duration = Duration::from_secs(3);

/// When those whose turn is now must have ended, of a cluster that was told to stop when it `began`.
pub(super) fn deadline(began: Instant, now: Instant) -> Instant {
    (began + LIMIT).max(now + SHARE)
}

/// Ends these. What did not end by itself until `deadline` is killed, and named.
pub(super) async fn drain(runs: &[(ProcessName, Running)], deadline: Instant) -> Vec<ProcessName> {
    for (_, run) in runs.iter().filter(|(_, run)| run.process.is_alive()) {
        // One that was paused would not see SIGTERM. Errors mean that it has just ended.
        let _ = run.process.terminate().and_then(|()| run.process.resume());
    }
    let mut killed = Vec::new();
    for (name, run) in runs {
        if timeout_at(deadline, run.ended()).await.is_err() {
            let _ = run.process.kill();
            run.ended().await;
            killed.push(name.clone());
        }
    }
    killed
}

/// Ends these as a part of a cluster's end, and says so of those that had to be killed: nothing is lost by it, because
/// what was acknowledged is on disk.
pub(super) async fn stop(runs: &[(ProcessName, Running)], began: Instant) {
    for name in drain(runs, deadline(began, Instant::now())).await {
        note(&format!(
            "{name} did not end in time after SIGTERM, and was killed"
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::process::ExitStatusExt as _, path::Path};

    use super::*;
    use crate::dev::{
        cluster::name,
        spawn::{Launch, Spawner},
    };

    /// A child that does this once it runs, and says when it does.
    async fn child(dir: &Path, spawner: &Spawner, script: &str) -> (ProcessName, Running) {
        // The shell reads it: a file that was just written is not always free to be executed.
        let (file, is_ready) = (dir.join("child"), dir.join("ready"));
        let loops = format!(
            "{script}\ntouch {}\nwhile :; do sleep 0.01; done\n",
            is_ready.display()
        );
        fs::write(&file, loops).unwrap();
        let name = name(&"us-west-2".parse().unwrap(), chaos::Part::Agent);
        let launch = Launch {
            exe: "/bin/sh".into(),
            subcommand: file.display().to_string().leak(),
            config: dir.join("config"),
            log: dir.join("log"),
        };
        let running = spawner.start(&name, launch).await.unwrap();
        while !is_ready.exists() {
            assert_eq!(running.exit_status(), None, "the child ended");
            tokio::task::yield_now().await;
        }
        (name, running)
    }

    #[tokio::test]
    async fn a_child_that_takes_no_notice_is_killed_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let spawner = Spawner::new().unwrap();
        let (name, running) = child(dir.path(), &spawner, "trap '' TERM").await;
        let killed = drain(&[(name.clone(), running.clone())], Instant::now()).await;
        assert_eq!(killed, [name]);
        assert_eq!(running.exit_status().unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn a_child_that_ends_by_itself_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let spawner = Spawner::new().unwrap();
        let (name, running) = child(dir.path(), &spawner, "trap 'exit 7' TERM").await;
        let long = Instant::now() + Duration::from_secs(600);
        assert_eq!(drain(&[(name, running.clone())], long).await, []);
        assert_eq!(running.exit_status().unwrap().code(), Some(7));
    }

    #[test]
    fn all_have_one_limit_and_each_kind_some_of_it() {
        let began = Instant::now();
        let after = |passed: u64| {
            let now = began + Duration::from_secs(passed);
            deadline(began, now).duration_since(began).as_secs()
        };
        assert_eq!([0, 3, 4, 5, 6].map(after), [5, 6, 7, 8, 9]);
    }
}
