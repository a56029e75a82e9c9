//! What was acknowledged is on disk (I1): everybody killed under load on disks that forget, and a trace of system calls.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use client::Client;
use jepsen::crash;
use types::{ModelName, model::Placement};

use crate::{
    dev::Dev,
    harness::{Running, regent, turn},
};

/// `jepsen trials crash` does it a hundred times, with a thousand writes each.
#[test]
fn what_was_acknowledged_survives_a_kill_of_everybody_on_disks_that_forget() {
    let _turn = turn();
    let plan = crash::Plan {
        regent: env!("CARGO_BIN_EXE_regent").into(),
        crashes: 4,
        writes: 150,
        seed: rand::random(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(crash::run(&plan)).unwrap();
    assert!(found.holds(), "{}", found.table());
    assert_eq!(
        (found.crashes_unsynced_lost, found.crashes_that_lost_bytes),
        (2, 2),
        "{}",
        found.table()
    );
    assert!(
        found.acknowledged >= 4 * 150 && found.asked_again > 0,
        "{}",
        found.table()
    );
}

/// Writes that are traced.
const WRITES: usize = 5;
/// Each fdatasync takes so much longer, so that an answer that did not wait for it would be seen.
const SLOWER: Duration = Duration::from_millis(100);

#[test]
fn an_answer_waits_for_the_fdatasync_of_its_entry() {
    let _turn = turn();
    if !there_is_strace() {
        return;
    }
    answers_wait_for_every_disk(1, &["us-west-2"]);
}

/// The third is down, so that the quorum is the leader and the one that follows it: an answer waits for both their disks.
#[test]
fn an_answer_waits_for_the_fdatasync_of_a_follower() {
    let _turn = turn();
    if !there_is_strace() {
        return;
    }
    answers_wait_for_every_disk(3, &["us-west-2", "eu-west-1"]);
}

/// Of `regions` coordinators those of `running` are started, which are as many as a quorum takes.
fn answers_wait_for_every_disk(regions: u8, running: &[&str]) {
    let mut dev = Dev::start(regions);
    assert_eq!(dev.stop(), Some(0));
    let place = |region: &&str| dev.path().join("regions").join(region).join("coordinator");
    let mut all: Vec<_> = running
        .iter()
        .map(place)
        .map(|dir| {
            let trace = dir.join("trace");
            (traced(&dir.join("config.toml"), &trace), trace)
        })
        .collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answered = runtime.block_on(answered(&dev));
    for (traced, _) in &mut all {
        traced.kill();
    }
    for (_, trace) in all {
        let calls = calls(&trace);
        for (n, answered) in answered.iter().enumerate() {
            assert_synced(&calls, &marker(n), *answered);
        }
    }
}

/// When each write was answered, in seconds since 1970.
async fn answered(dev: &Dev) -> Vec<f64> {
    let client = Client::new(dev.context().client_config()).unwrap();
    let client = client.with_deadline(Duration::from_secs(100));
    let mut answered = Vec::new();
    for n in 0..WRITES {
        let name = ModelName::new(marker(n)).unwrap();
        let created = client.create_model(&name, "", [].into(), &Placement::Everywhere);
        created.await.unwrap();
        answered.push(now());
    }
    answered
}

/// The entry that holds `marker` went to a segment of the log, which was synced before the answer.
fn assert_synced(calls: &[Call], marker: &str, answered: f64) {
    let written = calls
        .iter()
        .position(|c| c.name == "pwrite64" && c.text.contains(marker))
        .unwrap_or_else(|| panic!("{marker} was written nowhere"));
    let written = &calls[written..];
    assert!(written[0].file().ends_with(".seg"), "{:?}", written[0]);
    let synced = written
        .iter()
        .find(|c| c.name == "fdatasync" && c.file() == written[0].file());
    let synced = synced.unwrap_or_else(|| panic!("{} was not synced", written[0].file()));
    let earliest = synced.begun + SLOWER.as_secs_f64();
    assert!(
        written[0].begun <= synced.begun && earliest <= answered,
        "{synced:?}, answered at {answered}"
    );
}

/// In no other file, and in no other entry.
fn marker(n: usize) -> String {
    format!("durable.traced-{n}-end")
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

#[expect(clippy::print_stdout, reason = "a test that did nothing says so")]
fn there_is_strace() -> bool {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    let why = "no strace here; on Debian: apt-get install strace";
    assert!(
        std::env::var("REGENT_REQUIRE_TOOLS").as_deref() != Ok("1"),
        "{why}"
    );
    println!("skipped: {why}");
    false
}

/// A coordinator under strace, which goes with it.
fn traced(config: &Path, trace: &Path) -> Running {
    let delay = format!("inject=fdatasync:delay_exit={}", SLOWER.as_micros());
    let exe = regent().get_program().to_owned();
    let mut command = Command::new("sh");
    // The shell's pid becomes that of strace, the parent of what it traces.
    command.args(["-c", "exec strace \"$@\" --die-with $$", "sh"]);
    command.args([
        "-f",
        "-qq",
        "-y",
        "-ttt",
        "-s",
        "4096",
        "-e",
        "trace=pwrite64,fdatasync",
        "-e",
        &delay,
        "-o",
    ]);
    command
        .arg(trace)
        .arg(exe)
        .arg("coordinator")
        .arg("--config")
        .arg(config);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// One system call that has begun.
#[derive(Debug)]
struct Call {
    /// Seconds since 1970.
    begun: f64,
    name: String,
    /// Its arguments.
    text: String,
}

impl Call {
    /// The path of its first argument, a descriptor.
    fn file(&self) -> &str {
        let path = self
            .text
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'));
        path.map_or("", |(path, _)| path)
    }
}

/// Lines as `PID SECONDS NAME(ARGUMENTS…`; those that say how a call ended are left out.
fn calls(trace: &Path) -> Vec<Call> {
    let text = String::from_utf8_lossy(&std::fs::read(trace).unwrap()).into_owned();
    let call = |line: &str| {
        // A short process id is filled up with blanks.
        let (_, rest) = line.split_once(' ')?;
        let (begun, call) = rest.trim_start().split_once(' ')?;
        let (name, text) = call.split_once('(')?;
        Some(Call {
            begun: begun.parse().ok()?,
            name: name.to_owned(),
            text: text.to_owned(),
        })
    };
    text.lines().filter_map(call).collect()
}
