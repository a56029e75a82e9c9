//! Faults on real processes: `sleep` stands for a cluster's process, the kernel is the witness.

use std::{
    collections::BTreeMap,
    process::{Child, Command},
    sync::Mutex,
    time::Duration,
};

use crate::{
    error::ChaosError,
    execute::{Injector, Processes, Run},
    fault::{Fault, Part, ProcessName, Target},
    process::{ProcessRef, ProcessState, parse_stat},
};

const LIMIT: Duration = Duration::from_secs(10);

/// Sleepers by name; what was started is reaped when the test ends.
struct Sleepers(Mutex<BTreeMap<ProcessName, (ProcessRef, Child)>>);

impl Sleepers {
    fn new(regions: &[&str]) -> Self {
        let sleepers = Self(Mutex::default());
        for region in regions {
            for part in Part::ALL {
                sleepers.spawn(&name(region, part));
            }
        }
        sleepers
    }
    fn spawn(&self, name: &ProcessName) -> ProcessRef {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = ProcessRef::of(child.id()).unwrap();
        self.0.lock().unwrap().insert(name.clone(), (process, child));
        process
    }
    fn run_of(&self, region: &str, part: Part) -> ProcessRef {
        self.0.lock().unwrap()[&name(region, part)].0
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for (_, child) in self.0.lock().unwrap().values_mut() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Processes for &Sleepers {
    fn running(&self) -> Vec<Run> {
        let all = self.0.lock().unwrap();
        let alive = all.iter().filter(|(_, (process, _))| process.is_alive());
        let run = |(name, (process, _)): (&ProcessName, &(ProcessRef, Child))| Run {
            name: name.clone(),
            process: *process,
        };
        alive.map(run).collect()
    }
    async fn start(&self, name: &ProcessName) -> Result<ProcessRef, ChaosError> {
        Ok(self.spawn(name))
    }
}

fn name(region: &str, part: Part) -> ProcessName {
    ProcessName {
        region: region.parse().unwrap(),
        part,
    }
}

fn region(region: &str) -> Target {
    Target::Region {
        region: region.parse().unwrap(),
    }
}

#[tokio::test]
async fn a_killed_region_is_gone_and_comes_back_as_new_runs() {
    let sleepers = Sleepers::new(&["eu", "us"]);
    let injector = Injector::new(&sleepers);
    let untouched = sleepers.run_of("us", Part::Agent);
    let old = sleepers.run_of("eu", Part::Agent);

    let installed = injector
        .install(&Fault::Kill { target: region("eu") })
        .await
        .unwrap();
    let proofs = injector.prove(&installed).await.unwrap();
    assert_eq!(proofs.len(), 3);
    assert!(proofs.iter().all(|p| p.seen == "gone"), "{proofs:?}");
    assert_eq!(untouched.state(), ProcessState::Running);

    let healed = injector.heal(installed).await.unwrap();
    assert!(healed.iter().all(|p| p.seen == "running"), "{healed:?}");
    assert_ne!(sleepers.run_of("eu", Part::Agent), old);
}

#[tokio::test]
async fn a_paused_process_stops_and_goes_on_as_the_same_run() {
    let sleepers = Sleepers::new(&["eu"]);
    let injector = Injector::new(&sleepers);
    let target = Target::Process {
        region: "eu".parse().unwrap(),
        part: Part::Agent,
    };
    let installed = injector.install(&Fault::Pause { target }).await.unwrap();
    let proofs = injector.prove(&installed).await.unwrap();
    assert_eq!(
        proofs[0].to_string(),
        format!("eu/agent ({}) is stopped", installed.hit[0].process)
    );
    assert_eq!(sleepers.run_of("eu", Part::Store).state(), ProcessState::Running);

    let paused = installed.hit[0].process;
    let healed = injector.heal(installed).await.unwrap();
    assert_eq!((healed[0].process, healed[0].seen.as_str()), (paused, "running"));
}

#[tokio::test]
async fn a_restart_hits_the_old_runs_and_leaves_new_ones() {
    let sleepers = Sleepers::new(&["eu"]);
    let injector = Injector::new(&sleepers);
    let installed = injector
        .install(&Fault::Restart {
            target: Target::Everything,
        })
        .await
        .unwrap();
    injector.prove(&installed).await.unwrap();
    let after = injector.heal(installed.clone()).await.unwrap();
    assert_eq!(after.len(), 3);
    assert!(
        after
            .iter()
            .zip(&installed.hit)
            .all(|(new, old)| new.process != old.process)
    );
}

#[tokio::test]
async fn a_target_that_is_not_there_is_named_with_what_is() {
    let sleepers = Sleepers::new(&["eu"]);
    let error = Injector::new(&sleepers)
        .install(&Fault::Pause {
            target: region("mars"),
        })
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("mars") && error.contains("eu/agent"), "{error}");
}

#[tokio::test]
async fn a_pid_that_another_run_has_now_is_never_signalled() {
    let sleepers = Sleepers::new(&["eu"]);
    let real = sleepers.run_of("eu", Part::Agent);
    let earlier = ProcessRef {
        start_ticks: real.start_ticks - 1,
        ..real
    };
    assert!(matches!(earlier.kill(), Err(ChaosError::Signal { .. })));
    earlier.wait_gone(LIMIT).await.unwrap();
    assert_eq!(real.state(), ProcessState::Running);
}

#[tokio::test]
async fn waiting_for_a_process_that_lives_ends_with_what_was_seen() {
    let sleepers = Sleepers::new(&["eu"]);
    let waited = sleepers
        .run_of("eu", Part::Agent)
        .wait_gone(Duration::from_millis(1))
        .await;
    assert!(waited.unwrap_err().to_string().contains("is running"));
}

#[test]
fn faults_read_as_they_are_written() {
    let faults = [
        Fault::Kill { target: region("eu") },
        Fault::Pause {
            target: Target::Process {
                region: "us".parse().unwrap(),
                part: Part::Agent,
            },
        },
        Fault::Restart {
            target: Target::Everything,
        },
    ];
    for fault in faults {
        let text = serde_json::to_string(&fault).unwrap();
        assert_eq!(serde_json::from_str::<Fault>(&text).unwrap(), fault, "{text}");
    }
}

fn check_stat(state: char, threads: u32, expected: ProcessState) {
    let zeros = ["0"; 16].join(" ");
    let text = format!("42 (a) name) {state} {zeros} {threads} 0 777 0 0");
    let stat = parse_stat(&text).unwrap();
    assert_eq!((stat.state, stat.start_ticks), (expected, 777), "{text}");
}

#[test]
fn a_process_is_gone_when_its_last_thread_is() {
    check_stat('S', 9, ProcessState::Running);
    check_stat('T', 9, ProcessState::Stopped);
    check_stat('Z', 2, ProcessState::Running);
    check_stat('Z', 1, ProcessState::Gone);
    check_stat('X', 0, ProcessState::Gone);
    assert!(parse_stat("").is_none() && parse_stat("42 (x) S 1").is_none());
}
