//! A `regent dev` of a test's own, in a directory that goes with it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use chaos::Roster;
use client::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Lines, Ran, Running, is_alive, regent, until};

/// What `dev` answers once everything is up.
const UP: &str = "The cluster is up";

/// A cluster and the process that runs it.
pub(crate) struct Dev {
    dir: TempDir,
    regions: u8,
    running: Running,
    said: Lines,
}

impl Dev {
    /// A new cluster, up and healthy.
    pub(crate) fn start(regions: u8) -> Self {
        let dev = Self::begin(regions);
        dev.wait_for(UP);
        dev
    }
    /// A new cluster that has only just begun to start.
    pub(crate) fn begin(regions: u8) -> Self {
        Self::begin_with(regions, &[])
    }
    /// A new cluster, up and healthy, whose processes have these variables.
    pub(crate) fn start_with(regions: u8, variables: &[(&str, &str)]) -> Self {
        let dev = Self::begin_with(regions, variables);
        dev.wait_for(UP);
        dev
    }
    fn begin_with(regions: u8, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (running, said) = launch(&dir, regions, variables);
        Self {
            dir,
            regions,
            running,
            said,
        }
    }
    /// The same directory again.
    pub(crate) fn start_again(&mut self) {
        self.begin_again();
        self.wait_for(UP);
    }
    /// The same directory, of which nothing is up yet.
    pub(crate) fn begin_again(&mut self) {
        (self.running, self.said) = launch(&self.dir, self.regions, &[]);
    }
    /// Waits until this many of its children run; they start one after the other.
    pub(crate) fn wait_running(&self, count: usize) {
        until("so many children run", || self.pids().len() >= count);
    }
    /// A second one on the same directory, to its end.
    pub(crate) fn run_to_its_end(&self) -> Ran {
        Ran::of(command(&self.dir, self.regions).output().unwrap())
    }
    /// SIGTERM, and its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(self.running.pid(), Signal::TERM);
        self.running.0.wait().unwrap().code()
    }
    /// The process that runs the others.
    pub(crate) fn parent(&self) -> u32 {
        self.running.pid()
    }
    pub(crate) fn kill_parent(&mut self) {
        self.running.kill();
    }
    /// SIGKILL to every process at once, the parent included.
    pub(crate) fn kill_everything(&mut self) {
        let pids = self.pids();
        for pid in &pids {
            self.signal(*pid, Signal::KILL);
        }
        self.running.kill();
        until("all are gone", || pids.iter().all(|pid| !is_alive(*pid)));
    }
    /// Only for processes of this cluster.
    pub(crate) fn signal(&self, pid: u32, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        // One that has just ended needs no signal.
        let _ = kill_process(pid, signal);
    }
    /// The children that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.roster().alive().iter().map(|run| run.process.pid).collect()
    }
    pub(crate) fn pid_of(&self, region: &str, part: &str) -> u32 {
        let name = format!("{region}/{part}");
        let alive = self.roster().alive();
        let run = alive.iter().find(|run| run.name.to_string() == name);
        run.unwrap_or_else(|| panic!("{name} does not run")).process.pid
    }
    fn roster(&self) -> Roster {
        Roster::read(&self.dir.path().join("processes.json")).unwrap()
    }
    /// Waits for words of `dev`: its answer on stdout, or what it reports on stderr.
    pub(crate) fn wait_for(&self, words: &str) -> String {
        self.said.wait_for(words)
    }
    pub(crate) fn context_file(&self) -> PathBuf {
        self.dir.path().join("context.toml")
    }
    pub(crate) fn context(&self) -> Context {
        Context::load(&self.context_file()).unwrap()
    }
    /// A verb against this cluster.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = regent();
        command.env("REGENT_CONTEXT", self.context_file()).args(args);
        Ran::of(command.output().unwrap())
    }
    /// The document of a verb that may fail.
    pub(crate) fn json_of(&self, args: &[&str]) -> Option<Value> {
        let ran = self.run(&[args, &["--output", "json"]].concat());
        (ran.code == Some(0)).then(|| ran.json())
    }
    /// Where everything of the cluster stands.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
    /// A verb that succeeds, and its document.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--output", "json"]].concat());
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran.json()
    }
}

fn command(dir: &TempDir, regions: u8) -> Command {
    let mut command = regent();
    command
        .args(["dev", "--regions", &regions.to_string(), "--dir"])
        .arg(dir.path());
    command
}

fn launch(dir: &TempDir, regions: u8, variables: &[(&str, &str)]) -> (Running, Lines) {
    let mut command = command(dir, regions);
    command.envs(variables.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().unwrap());
    let said = Lines::of_both(&mut running.0);
    (running, said)
}
