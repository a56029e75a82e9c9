//! A coordinator whose disk does not answer ends when it is told to.

use std::fs;

use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::Signal,
};

use crate::{
    dev::Dev,
    harness::{is_alive, turn, until},
    older_disk::follower,
    recovery::process,
};

/// The thread that writes waits for ever; whoever runs the process would have to kill it.
#[test]
fn a_process_whose_disk_hangs_ends_all_the_same_and_says_what_was_left_undone() {
    let _turn = turn();
    let dev = Dev::start(3);
    // It would start again whatever ends.
    dev.signal(dev.parent(), Signal::STOP);
    let region = follower(&dev);
    let (dir, pid) = (
        process(&dev, &region, "coordinator"),
        dev.pid_of(&region, "coordinator"),
    );
    // Nobody reads from it, so that whoever opens it to write waits.
    let hangs = dir.join("data/peers.json.tmp");
    until("it is not being written", || {
        mkfifoat(CWD, &hangs, Mode::RUSR | Mode::WUSR).is_ok()
    });
    // News of the others, which it would write down.
    dev.json(&["primary", "pause", "--for", "1h"]);
    dev.json(&["primary", "resume"]);
    dev.signal(pid, Signal::TERM);
    until("it has ended", || !is_alive(pid));
    let log = fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.contains("peers.json was not written"), "{log}");
    dev.signal(dev.parent(), Signal::CONT);
}
