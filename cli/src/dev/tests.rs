//! What `dev` writes is what the processes read, and what stands in `deploy/config`.

mod sets;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use client::{Context, TlsFiles, context::StoreCredentials};
use types::RegionId;

use crate::{
    dev::{
        banner, certs,
        cluster::{DevCluster, Options},
        files::{self, Access},
        layout::Layout,
        listen::Listen,
        lock::DirLock,
        sockets,
        spec::ClusterSpec,
        supervise::{Ends, ForGood, back_off},
        templates::{AgentConfig, ContextConfig, CoordinatorConfig, StoreConfig},
    },
    serve::DevS3Config,
};

fn region() -> RegionId {
    "eu-west-1".parse().unwrap()
}

fn example_tls(name: &str) -> TlsFiles {
    TlsFiles {
        ca_file: "/etc/regent/ca.pem".into(),
        cert_file: format!("/etc/regent/{name}.pem").into(),
        key_file: format!("/etc/regent/{name}.key").into(),
    }
}

fn example_keys() -> StoreCredentials {
    StoreCredentials {
        access_key_file: "/etc/regent/store/access-key".into(),
        secret_key_file: "/etc/regent/store/secret-key".into(),
    }
}

fn coordinator_example() -> String {
    CoordinatorConfig {
        node: "eu-west-1-c1".parse().unwrap(),
        region: &region(),
        data_dir: Path::new("/var/lib/regent/coordinator"),
        tls: &example_tls("coordinator"),
        bootstrap: false,
        join: &["https://us-west-2.example.com:7460".to_owned()],
        timing: "default",
        fixes_elections: false,
    }
    .render()
}

fn agent_example() -> String {
    AgentConfig {
        node: "eu-west-1-a1".parse().unwrap(),
        region: &region(),
        data_dir: Path::new("/var/lib/regent/agent"),
        coordinators: &[
            "https://eu-west-1.example.com:7460".to_owned(),
            "https://us-west-2.example.com:7460".to_owned(),
        ],
        tls: &example_tls("agent"),
        store_endpoint: "https://s3.eu-west-1.amazonaws.com",
        keys: &example_keys(),
    }
    .render()
}

fn store_example() -> String {
    StoreConfig {
        data_dir: Path::new("/var/lib/regent/s3"),
        keys: &example_keys(),
    }
    .render()
}

fn context_example() -> String {
    ContextConfig {
        endpoints: &["https://eu-west-1.example.com:7460".to_owned()],
        tls: &example_tls("admin"),
        keys: &example_keys(),
    }
    .render()
}

/// The file in `deploy/config` is this text; `REGENT_UPDATE=1` writes it anew, to be reviewed as a diff.
fn check_example(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/config")
        .join(name);
    if std::env::var_os("REGENT_UPDATE").is_some() {
        fs::write(&path, text).unwrap();
    }
    let stands = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stands == text,
        "deploy/config/{name} is not what `dev` writes; run the test with REGENT_UPDATE=1"
    );
}

#[test]
fn examples_are_what_dev_writes() {
    check_example("coordinator.toml", &coordinator_example());
    check_example("agent.toml", &agent_example());
    check_example("dev-s3.toml", &store_example());
    check_example("context.toml", &context_example());
}

#[test]
fn a_store_reads_the_example() {
    DevS3Config::parse(&store_example(), Path::new("dev-s3.toml")).unwrap();
}

#[test]
fn a_coordinator_reads_the_example() {
    let config = coordinator::Config::parse(&coordinator_example()).unwrap();
    assert_eq!(config.region, region());
    assert_eq!(config.join, ["https://us-west-2.example.com:7460"]);
    config.raft_timing().unwrap();
}

#[test]
fn an_agent_reads_the_example() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, agent_example()).unwrap();
    let config = node_agent::AgentConfig::load(&path).unwrap();
    assert_eq!(config.tls, example_tls("agent"));
    assert_eq!(config.region, region());
}

/// With the keys that an example only mentions.
fn uncommented(example: &str) -> String {
    let lines = example.lines().map(|line| match line.strip_prefix("# ") {
        Some(key) if key.starts_with('[') || key.split_once(" = ").is_some_and(|(k, _)| !k.contains(' ')) => {
            key
        }
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Which keys there are, by the word of the parser that refuses another one.
fn keys(refusal: &str) -> Vec<String> {
    let (_, known) = refusal.split_once("expected").unwrap();
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_examples_explain_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    let agent = |text: &str| {
        fs::write(&path, text).unwrap();
        node_agent::AgentConfig::load(&path).map_err(|e| e.to_string())
    };
    let full = uncommented(&agent_example());
    agent(&full).unwrap();
    for (section, at) in [("node = ", 12), ("[limits]", 7)] {
        let known = keys(&agent(&full.replacen(section, &odd_key(section), 1)).unwrap_err());
        assert!(known.len() >= at, "{known:?}");
        assert!(known.iter().all(|key| is_in(&full, key)), "{known:?}");
    }
    let full = uncommented(&coordinator_example());
    coordinator::Config::parse(&full).unwrap();
    for (section, at) in [("node = ", 12), ("[raft]", 5)] {
        let refused = coordinator::Config::parse(&full.replacen(section, &odd_key(section), 1));
        let known = keys(&refused.unwrap_err().to_string());
        assert!(known.len() >= at, "{known:?}");
        assert!(known.iter().all(|key| is_in(&full, key)), "{known:?}");
    }
}

fn odd_key(section: &str) -> String {
    if section.starts_with('[') {
        format!("{section}\nodd = 1\n")
    } else {
        format!("odd = 1\n{section}")
    }
}

fn is_in(text: &str, key: &str) -> bool {
    let is_key = |line: &str| line.starts_with(&format!("{key} = "));
    let is_section = |line: &str| line.trim_start_matches('[').starts_with(key) && line.starts_with('[');
    text.lines().any(|line| is_key(line) || is_section(line))
}

#[test]
fn an_unknown_key_is_named() {
    let text = format!("{}\nburket = 1\n", store_example());
    let failure = DevS3Config::parse(&text, Path::new("dev-s3.toml")).unwrap_err();
    assert!(
        failure.message.contains("burket") && failure.message.contains("dev-s3.toml"),
        "{failure}"
    );
    assert_eq!(failure.exit as u8, 2);
}

#[test]
fn the_command_line_reads_the_example() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("context.toml");
    fs::write(&path, context_example()).unwrap();
    let context = Context::load(&path).unwrap();
    assert_eq!(context.tls, example_tls("admin"));
    assert_eq!(context.store, Some(example_keys()));
}

#[test]
fn paths_with_odd_characters_are_quoted() {
    let text = StoreConfig {
        data_dir: Path::new("/tmp/a \"b\" \\ c"),
        keys: &example_keys(),
    }
    .render();
    assert_eq!(
        toml::from_str::<toml::Table>(&text).unwrap()["data_dir"].as_str(),
        Some("/tmp/a \"b\" \\ c")
    );
}

fn layout() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path()).unwrap();
    (dir, layout)
}

#[test]
fn certificates_are_made_once_and_keys_are_secret() {
    let (_dir, layout) = layout();
    let certs = certs::issue(&layout, &[region()]).unwrap();
    let read_all = || {
        let of = |files: TlsFiles| [files.ca_file, files.cert_file, files.key_file];
        let all = [
            certs.admin(),
            certs.coordinator(&region()),
            certs.agent(&region()),
        ];
        all.into_iter()
            .flat_map(of)
            .map(|path| fs::read(path).unwrap())
            .collect::<Vec<_>>()
    };
    let first = read_all();
    // A region that is added later gets its certificate from the same CA; nothing that is there changes.
    certs::issue(&layout, &[region(), "sa-east-1".parse().unwrap()]).unwrap();
    assert_eq!(read_all(), first);
    let modes = fs::read_dir(layout.certs()).unwrap().map(|e| e.unwrap().path());
    for path in modes.filter(|path: &PathBuf| path.extension().is_some_and(|e| e == "key")) {
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            path.display()
        );
    }
}

#[tokio::test]
async fn two_clusters_never_share_a_directory() {
    let (_dir, layout) = layout();
    let held = DirLock::take(&layout).await.unwrap();
    let refused = DirLock::take(&layout).await.unwrap_err();
    assert!(
        refused.to_string().contains("in use by another regent"),
        "{refused}"
    );
    drop(held);
    DirLock::take(&layout).await.unwrap();
}

#[test]
fn a_spec_is_kept_and_a_damaged_one_named() {
    let (_dir, layout) = layout();
    assert_eq!(ClusterSpec::read(&layout).unwrap(), None);
    let spec = ClusterSpec::new(3, "fast").unwrap();
    spec.write(&layout).unwrap();
    assert_eq!(ClusterSpec::read(&layout).unwrap(), Some(spec));
    files::write(
        &layout.spec(),
        b"regions = [\"Mars!\"]\ntiming = \"fast\"\n",
        Access::Public,
    )
    .unwrap();
    let failure = ClusterSpec::read(&layout).unwrap_err();
    assert!(
        failure.message.contains("Mars!") && failure.message.contains("cluster.toml"),
        "{failure}"
    );
    assert!(
        ClusterSpec::new(3, "slow")
            .unwrap_err()
            .to_string()
            .contains("slow")
    );
    assert!(ClusterSpec::new(8, "fast").is_err());
}

#[test]
fn a_damaged_listen_file_is_named_with_the_remedy() {
    let (dir, _layout) = layout();
    let path = dir.path().join("listen.json");
    assert_eq!(Listen::read(&path).unwrap(), None);
    fs::write(&path, "{\"api\": \"127.0.0.1:99999\"}").unwrap();
    let failure = Listen::read(&path).unwrap_err().to_string();
    assert!(
        failure.contains("listen.json") && failure.contains("delete the file"),
        "{failure}"
    );
    fs::write(
        &path,
        "{\"api\": \"127.0.0.1:7460\", \"raft\": \"127.0.0.1:7461\"}",
    )
    .unwrap();
    let listen = Listen::read(&path).unwrap().unwrap();
    assert_eq!(listen.api_url().unwrap(), "https://127.0.0.1:7460");
}

#[test]
fn waits_before_restarts_double_up_to_a_bound_and_start_anew_after_a_good_run() {
    let second = Duration::from_secs(1);
    let mut wait = Duration::ZERO;
    let mut waits = Vec::new();
    for _ in 0..8 {
        wait = back_off(wait, second);
        waits.push(wait.as_millis());
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    assert_eq!(back_off(wait, second * 60).as_millis(), 500);
}

#[test]
fn ends_that_look_alike_are_enough_after_some_of_them_in_a_row() {
    let (short, long) = (Duration::from_secs(1), Duration::from_secs(10));
    // The answers to these ends, one after the other.
    let check = |ends: &[(Option<i32>, Duration)], expected: &str| {
        let mut seen = Ends::default();
        let answers = ends.iter().map(|(code, ran)| match seen.are_enough(*code, *ran) {
            true => 'y',
            false => '-',
        });
        assert_eq!(answers.collect::<String>(), expected, "{ends:?}");
    };
    let (error, usage, gone, killed, lost) = (Some(1), Some(2), Some(3), None, Some(5));
    check(&[(error, short); 5], "---yy");
    check(&[(usage, short); 4], "---y");
    check(&[(gone, short); 4], "---y");
    check(&[(killed, short); 6], "------");
    check(&[(lost, short); 6], "------");
    check(&[(error, long); 6], "------");
    let mixed = [
        error, error, error, usage, error, killed, error, error, error, error,
    ];
    let mixed = mixed.map(|code| (code, short));
    check(&mixed, "---------y");
}

/// The numbers are what scripts see.
#[test]
fn a_lost_disk_and_a_build_that_is_too_old_are_not_started_again() {
    for (code, expected) in [
        (Some(5), Some(ForGood::LostDisk)),
        (Some(4), Some(ForGood::TooOld)),
        (Some(1), None),
        (Some(2), None),
        (Some(0), None),
        (None, None),
    ] {
        assert_eq!(ForGood::of(code), expected, "{code:?}");
    }
}

#[test]
fn the_tail_of_a_log_is_its_last_lines() {
    let (dir, _layout) = layout();
    let path = dir.path().join("log");
    assert_eq!(files::tail(&path, 3), "");
    let lines: Vec<String> = (0..10_000).map(|n| format!("line {n}")).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    assert_eq!(files::tail(&path, 2), "line 9998\nline 9999");
}

#[test]
fn only_the_process_that_listens_is_taken_for_it() {
    let own = std::process::id();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(sockets::listens(own, port));
    assert!(
        !sockets::listens(1, port),
        "another process does not listen there"
    );
    drop(listener);
    assert!(!sockets::listens(own, port));
}

/// Who reads README and who reads what `dev` prints are told the same.
#[test]
fn the_tour_of_the_readme_is_that_of_the_banner() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, after) = readme
        .split_once("then, in another terminal in the same directory:\n\n```sh\n")
        .unwrap();
    let (block, _) = after.split_once("```").unwrap();
    let lines = block.lines().filter(|line| line.starts_with("regent "));
    let typed: Vec<&str> = lines
        .map(|line| line.split(" #").next().unwrap().trim_end())
        .collect();
    let spec = ClusterSpec::new(3, "fast").unwrap();
    assert_eq!(typed, banner::tour(&spec.regions));
    assert!(readme.contains(&banner::curl("http://127.0.0.1:PORT")));
}

#[test]
fn a_lost_key_of_the_ca_makes_no_other_ca() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path()).unwrap();
    let regions = ["eu".parse::<RegionId>().unwrap(), "us".parse().unwrap()];
    let certs = certs::issue(&layout, &regions).unwrap();
    let ca_file = certs.admin().ca_file;
    let before = std::fs::read(&ca_file).unwrap();
    std::fs::remove_file(layout.certs().join("ca.key")).unwrap();
    // What is there needs none.
    certs::issue(&layout, &regions).unwrap();
    std::fs::remove_file(certs.agent(&regions[1]).cert_file).unwrap();
    let refused = certs::issue(&layout, &regions).unwrap_err();
    let said = format!("{refused}");
    assert!(
        said.contains("ca.key is gone") && said.contains("us-agent.pem"),
        "{said}"
    );
    assert!(
        refused.remedy.contains("put the CA's key back"),
        "{}",
        refused.remedy
    );
    assert_eq!(std::fs::read(&ca_file).unwrap(), before);
    // Nor does it where the certificate is gone too.
    std::fs::remove_file(&ca_file).unwrap();
    certs::issue(&layout, &regions).unwrap_err();
    assert!(!ca_file.exists() && !layout.certs().join("ca.key").exists());
}

#[test]
fn a_lost_certificate_of_the_ca_is_made_again_from_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path()).unwrap();
    let regions = ["eu".parse::<RegionId>().unwrap()];
    let certs = certs::issue(&layout, &regions).unwrap();
    let key = std::fs::read(layout.certs().join("ca.key")).unwrap();
    std::fs::remove_file(certs.admin().ca_file).unwrap();
    certs::issue(&layout, &regions).unwrap();
    assert_eq!(std::fs::read(layout.certs().join("ca.key")).unwrap(), key);
    let own = certs.agent(&regions[0]).load().unwrap();
    assert_eq!(own.distrust(), None, "what it signed before is trusted");
}

/// Each through the same temporary file, if not one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watchers_write_the_roster_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ClusterSpec::new(1, "fast").unwrap();
    let cluster = DevCluster::create(dir.path(), spec, Options::current().unwrap());
    let cluster = cluster.await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let cluster = cluster.clone();
        writers.spawn(async move {
            for _ in 0..50 {
                cluster.write_roster().await.unwrap();
            }
        });
    }
    writers.join_all().await;
}
