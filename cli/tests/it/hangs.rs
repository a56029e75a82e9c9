//! A coordinator whose disk does not answer ends when it is told to.

use std::{
    fs::{self, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
};

use rustix::{
    fs::{CWD, Mode, OFlags, mkfifoat},
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
    // Where nobody reads from it, whoever opens it to write waits.
    let hangs = dir.join("data/peers.json.tmp");
    until("it is not being written", || {
        mkfifoat(CWD, &hangs, Mode::RUSR | Mode::WUSR).is_ok()
    });
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let reader = OpenOptions::new().read(true).custom_flags(flags).open(&hangs);
    // News of the others; what it writes of them fails, because such a file cannot be synced, so that it has to write it again.
    dev.json(&["primary", "pause", "--for", "1h"]);
    let mut reader = reader.unwrap();
    until("it writes news down", || {
        reader.read(&mut [0]).is_ok_and(|bytes| bytes > 0)
    });
    drop(reader);
    dev.signal(pid, Signal::TERM);
    until("it has ended", || !is_alive(pid));
    let log = fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.contains("peers.json was not written"), "{log}");
    dev.signal(dev.parent(), Signal::CONT);
}
