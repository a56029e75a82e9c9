//! Configs of coordinators and agents that cannot be: the process ends at once, names the value and the remedy, and
//! leaves its data directory as it was.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    dev::Dev,
    harness::{Ran, run, turn},
};

/// The configs that a `dev` wrote; nothing runs any more.
struct Configs {
    dev: Dev,
    dir: TempDir,
}

impl Configs {
    fn new() -> Self {
        let mut dev = Dev::start(1);
        assert_eq!(dev.stop(), Some(0));
        Self {
            dev,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// The config of a process with a data directory of its own.
    fn text(&self, part: &str) -> String {
        let file = self
            .dev
            .path()
            .join("regions/us-west-2")
            .join(part)
            .join("config.toml");
        let text = fs::read_to_string(file).unwrap();
        set(&text, "data_dir", &self.data(part).display().to_string())
    }

    fn data(&self, part: &str) -> PathBuf {
        self.dir.path().join(format!("{part}-data"))
    }

    fn run(&self, part: &str, text: &str) -> Ran {
        let file = self.dir.path().join(format!("{part}.toml"));
        fs::write(&file, text).unwrap();
        run(&[part, "--config", file.to_str().unwrap()])
    }

    /// Refused, in words that name the file.
    fn check(&self, part: &str, text: &str, code: i32, said: &[&str]) {
        self.run(part, text).failed_with(code, said);
    }
}

/// The text with another value under a key.
fn set(text: &str, key: &str, value: &str) -> String {
    set_raw(text, key, &format!("{value:?}"))
}

/// As [`set`], for what is no string.
fn set_raw(text: &str, key: &str, value: &str) -> String {
    let prefix = format!("{key} = ");
    assert!(
        text.lines().any(|l| l.starts_with(&prefix)),
        "{key} is not in:\n{text}"
    );
    let lines = text.lines().map(|line| match line.starts_with(&prefix) {
        true => format!("{key} = {value}\n"),
        false => format!("{line}\n"),
    });
    lines.collect()
}

/// Where the way out of a bad config is.
fn explained(part: &str) -> String {
    format!("\n  deploy/config/{part}.toml explains every key")
}

/// And out of a bad address.
fn address(part: &str) -> String {
    format!(
        "\n  an address is written IP:PORT, with a port up to 65535; deploy/config/{part}.toml explains every key"
    )
}

/// The listeners of a process.
fn listeners(part: &str) -> &'static [&'static str] {
    match part {
        "coordinator" => &["listen_api", "listen_raft"],
        _ => &["listen_agent", "listen_inference", "listen_metrics"],
    }
}

#[test]
fn configs_that_cannot_be() {
    let _turn = turn();
    let configs = Configs::new();
    for part in ["coordinator", "agent"] {
        no_file(part);
        unknown_keys(&configs, part);
        bad_ports(&configs, part);
        key_of_another(&configs, part);
        assert!(
            !configs.data(part).exists(),
            "a refused config has made a data directory"
        );
        ports_in_use(&configs, part);
        data_directories(&configs, part);
    }
    inference_for_everybody(&configs);
    bad_timing(&configs);
    no_certificate(&configs);
    context_with_the_key_of_another(&configs);
    context_with_the_ca_of_another(&configs);
}

fn no_file(part: &str) {
    run(&[part, "--config", "/nowhere/x.toml"]).failed_with(
        2,
        &[
            "config /nowhere/x.toml: No such file",
            &format!("\n  --config names a file that is there and that this user can read; deploy/config/{part}.toml is an example"),
        ],
    );
}

/// The remedy is that of this error, and of no other.
fn bad_timing(configs: &Configs) {
    let text = set_raw(&configs.text("coordinator"), "election_min_millis", "60");
    let ran = configs.run("coordinator", &text);
    ran.failed_with(
        2,
        &[
            "coordinator.toml: raft.election_min_millis is 60, and three raft.heartbeat_millis of ",
            "\n  set raft.election_min_millis to ",
        ],
    );
    assert!(!ran.stderr.contains("IP:PORT"), "{ran:?}");
}

fn no_certificate(configs: &Configs) {
    let text = set(&configs.text("coordinator"), "ca_file", "/nowhere/ca.pem");
    let said = [
        "tls.ca_file is /nowhere/ca.pem: No such file",
        "\n  name a file that is there and that this user can read: it holds the PEM certificate of the cluster's CA",
    ];
    configs.check("coordinator", &text, 1, &said);
}

/// The key that some other process's certificate was made for, in the config's place.
fn other_key(configs: &Configs, text: &str) -> (String, [String; 3]) {
    let other = configs.dev.path().join("certs/ca.key");
    let said = [
        format!("tls.key_file is {}", other.display()),
        "is not the key of tls.cert_file, ".to_owned(),
        "name a certificate and the key that it was made for, in tls.cert_file and tls.key_file".to_owned(),
    ];
    (set(text, "key_file", &other.display().to_string()), said)
}

fn key_of_another(configs: &Configs, part: &str) {
    let (text, said) = other_key(configs, &configs.text(part));
    configs.check(part, &text, 1, &said.each_ref().map(String::as_str));
}

/// Nothing is said of the endpoint, which is right.
fn context_with_the_key_of_another(configs: &Configs) {
    let good = fs::read_to_string(configs.dev.context_file()).unwrap();
    let (text, said) = other_key(configs, &good);
    let file = configs.dir.path().join("context.toml");
    fs::write(&file, text).unwrap();
    let ran = run(&["cluster", "status", "--context", file.to_str().unwrap()]);
    ran.failed_with(2, &said.each_ref().map(String::as_str));
    assert!(!ran.stderr.contains("endpoint"), "{ran:?}");
}

/// The warning stands once, however many coordinators are asked.
fn context_with_the_ca_of_another(configs: &Configs) {
    let good = fs::read_to_string(configs.dev.context_file()).unwrap();
    let other = configs.dev.path().join("certs/us-west-2-agent.pem");
    let text = set(&good, "ca_file", &other.display().to_string());
    let file = configs.dir.path().join("context.toml");
    fs::write(&file, text).unwrap();
    let ran = run(&["cluster", "status", "--context", file.to_str().unwrap()]);
    assert_eq!(ran.stderr.matches("warning: ").count(), 1, "{ran:?}");
}

fn unknown_keys(configs: &Configs, part: &str) {
    let file = format!("{part}.toml");
    let text = format!("nodee = \"x\"\n{}", configs.text(part));
    configs.check(
        part,
        &text,
        2,
        &[
            &file,
            "unknown field `nodee`, expected one of `node`",
            &explained(part),
        ],
    );
    let text = format!("{}cert = \"x\"\n", configs.text(part));
    configs.check(
        part,
        &text,
        2,
        &[&file, "unknown field `cert`, expected one of", &explained(part)],
    );
    let text = configs.text(part).replace("region = ", "# region = ");
    configs.check(part, &text, 2, &[&file, "region"]);
}

fn bad_ports(configs: &Configs, part: &str) {
    for key in listeners(part) {
        for bad in ["127.0.0.1:70000", "127.0.0.1", "localhost:http"] {
            let text = set(&configs.text(part), key, bad);
            let said: [&str; 4] = [
                &format!("{part}.toml"),
                &format!("{key} = {bad:?}"),
                "invalid socket address syntax",
                &address(part),
            ];
            configs.check(part, &text, 2, &said);
        }
    }
}

fn ports_in_use(configs: &Configs, part: &str) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in listeners(part) {
        let text = set(&configs.text(part), key, &address);
        configs.check(part, &text, 1, &[&address, "in use", key]);
        fs::remove_dir_all(configs.data(part)).unwrap();
    }
}

/// A file in the directory's place, and a directory below a file: both hold for root too.
fn data_directories(configs: &Configs, part: &str) {
    let file = configs.dir.path().join("file");
    fs::write(&file, "a file, where a directory should be").unwrap();
    for dir in [file.clone(), file.join("below")] {
        check_data_dir(configs, part, &dir);
    }
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "a file, where a directory should be"
    );
}

fn check_data_dir(configs: &Configs, part: &str, dir: &Path) {
    let dir = dir.to_str().unwrap();
    let text = set(&configs.text(part), "data_dir", dir);
    let said = match part {
        "coordinator" => [
            dir,
            "make it readable and writable for this user, or name another",
        ],
        _ => [
            dir,
            "check that it is writable by this user and on a healthy disk",
        ],
    };
    configs.check(part, &text, 1, &said);
}

fn inference_for_everybody(configs: &Configs) {
    let text = set(&configs.text("agent"), "listen_inference", "0.0.0.0:0");
    let ran = configs.run("agent", &text);
    ran.failed_with(ran.code.unwrap_or_default(), &["0.0.0.0:0", "loopback"]);
    assert_ne!(ran.code, Some(0));
}
