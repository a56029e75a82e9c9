//! Nothing stays behind when the process that started others is killed.

use std::process::{Command, Stdio};

use crate::harness::{Lines, Running, StoreDir, is_alive, turn, until};

/// A shell stands for the parent, because it can be killed while this test goes on.
#[test]
fn a_child_dies_with_its_parent() {
    let _turn = turn();
    let store = StoreDir::new("127.0.0.1:0");
    let script = "\"$0\" dev-s3 --config \"$1\" --die-with $$ & echo $!; wait";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_regent")])
        .arg(&store.config);
    let mut shell = Running(
        shell
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let child: u32 = Lines::of(shell.0.stdout.take().unwrap())
        .wait_for("")
        .parse()
        .unwrap();
    store.port();
    assert!(is_alive(child));
    shell.kill();
    until("the child has ended", || !is_alive(child));
}

#[test]
fn a_child_whose_parent_is_gone_already_ends_at_once() {
    let store = StoreDir::new("127.0.0.1:0");
    let ran = crate::harness::run(&[
        "dev-s3",
        "--config",
        store.config.to_str().unwrap(),
        "--die-with",
        "1",
    ]);
    ran.failed_with(1, &["parent process 1 has ended"]);
}
