//! The example of an agent inside another program, in the place of a region's own agent.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::Signal;

use crate::{
    dev::Dev,
    harness::{Lines, Running, is_alive, turn, until},
    samples::sample,
};

/// Where cargo puts it: beside the folder of the test binaries.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/embedded-agent")
}

#[test]
fn an_agent_in_another_program_serves_and_ends_with_ctrl_c() {
    let _turn = turn();
    let dev = Dev::start(1);
    dev.json(&["model", "push", &sample("tinylm"), "--name", "demo.tinylm"]);
    // `dev` would start its own agent again.
    dev.signal(dev.parent(), Signal::STOP);
    let agent = dev.pid_of("us-west-2", "agent");
    dev.signal(agent, Signal::KILL);
    until("the agent is gone", || !is_alive(agent));

    let mut command = Command::new(example());
    command.arg(dev.path().join("regions/us-west-2/agent/config.toml"));
    let mut program = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let said = Lines::of(program.0.stderr.take().unwrap());
    said.wait_for("us-west-2/us-west-2-a1#");
    let answered = said.wait_for("demo.tinylm@1");
    assert!(answered.contains("active: true): Ok("), "{answered}");
    let ask = ["infer", "demo.tinylm", "--prompt", "Once upon a time"];
    until("the registry knows the new run", || dev.run(&ask).code == Some(0));

    dev.signal(program.pid(), Signal::INT);
    assert!(program.0.wait().unwrap().success());
    dev.signal(dev.parent(), Signal::CONT);
    dev.wait_for("us-west-2/agent runs again");
}

#[test]
fn the_example_says_what_it_needs() {
    let output = Command::new(example()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(example())
        .arg("/no/such/agent.toml")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/agent.toml"));
}
