//! Bad input ends with a text that names the value and the remedy, the right code, and no panic (issue 2).

use std::net::TcpListener;

use crate::harness::{Ran, StoreDir, regent, run, turn};

#[test]
fn an_unknown_key_in_a_config() {
    let store = StoreDir::new("127.0.0.1:0");
    store.write(&format!("{}burket = \"x\"\n", store.text("127.0.0.1:0")));
    store.run().failed_with(
        2,
        &[
            "s3.toml",
            "unknown field `burket`, expected one of",
            "deploy/config/dev-s3.toml",
        ],
    );
}

#[test]
fn a_bad_port_in_a_config() {
    let store = StoreDir::new("127.0.0.1:70000");
    store.run().failed_with(
        2,
        &[
            "s3.toml",
            "listen = \"127.0.0.1:70000\"",
            "an address is written IP:PORT, with a port up to 65535",
        ],
    );
}

#[test]
fn an_address_that_others_could_reach() {
    let store = StoreDir::new("0.0.0.0:0");
    store.run().failed_with(1, &["0.0.0.0:0", "loopback"]);
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let store = StoreDir::new(&address);
    store.run().failed_with(
        1,
        &[
            &taken.local_addr().unwrap().port().to_string(),
            "in use",
            "another port",
        ],
    );
}

#[test]
fn a_kept_port_that_somebody_took_is_named_with_its_file() {
    let _turn = turn();
    let store = StoreDir::new("127.0.0.1:0");
    let mut running = store.start();
    let port = store.port();
    running.kill();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let file = store.listen_file();
    store
        .run()
        .failed_with(1, &[&port.to_string(), file.to_str().unwrap(), "remove the file"]);
}

#[test]
fn a_port_is_kept_from_run_to_run() {
    let _turn = turn();
    let store = StoreDir::new("127.0.0.1:0");
    let mut first = store.start();
    let port = store.port();
    first.kill();
    let _second = store.start();
    let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    crate::harness::until("the port of the first run answers", answers);
    assert_eq!(store.port(), port);
}

#[test]
fn a_data_directory_that_cannot_be_used() {
    let store = StoreDir::new("127.0.0.1:0");
    std::fs::write(
        store.dir.path().join("data"),
        "a file, where a directory should be",
    )
    .unwrap();
    let path = store.dir.path().join("data");
    store.run().failed_with(1, &[path.to_str().unwrap()]);
}

#[test]
fn a_secret_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let store = StoreDir::new("127.0.0.1:0");
    let key = store.dir.path().join("secret-key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    store
        .run()
        .failed_with(1, &[key.to_str().unwrap(), "644", "chmod 600"]);
}

#[test]
fn a_config_that_is_not_there() {
    for server in ["dev-s3", "coordinator", "agent"] {
        run(&[server, "--config", "/no/such/file.toml"]).failed_with(2, &["/no/such/file.toml"]);
    }
}

#[test]
fn a_dev_directory_below_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let dir = file.path().join("cluster");
    run(&["dev", "--dir", dir.to_str().unwrap()]).failed_with(1, &[dir.to_str().unwrap(), "--dir"]);
}

#[test]
fn a_timing_policy_that_nobody_knows() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(&["dev", "--dir", dir.path().to_str().unwrap(), "--timing", "slow"]);
    ran.failed_with(2, &["slow", "fast, default or conservative"]);
}

#[test]
fn a_model_directory_that_is_none() {
    let ran = run(&["model", "push", "/no/such/model", "--name", "fraud.scorer"]);
    ran.failed_with(3, &["/no/such/model"]);
}

#[test]
fn a_bug_that_this_build_cannot_have() {
    for name in ["stale-reads", "none"] {
        let mut command = regent();
        command.args(["model", "list"]).env("REGENT_PLANT", name);
        Ran::of(command.output().unwrap()).failed_with(2, &["REGENT_PLANT", "feature `planted`"]);
    }
}
