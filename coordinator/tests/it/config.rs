//! What a coordinator says before it serves: bad configs, bad certificates, ports in use.

use coordinator::{Config, ConfigFault, Coordinator, RunError};

use crate::harness::{Certs, within};

fn text(dir: &std::path::Path, files: &client::TlsFiles, more: &str) -> String {
    format!(
        "node = \"c1\"\nregion = \"r1\"\ndata_dir = {:?}\nlisten_api = \"127.0.0.1:0\"\nlisten_raft = \"127.0.0.1:0\"\n{more}\n\
         [tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
        dir.join("data"),
        files.ca_file,
        files.cert_file,
        files.key_file
    )
}

#[test]
fn a_bad_config_names_the_value_and_what_to_write_instead() {
    let dir = tempfile::tempdir().unwrap();
    let files = Certs::new(dir.path()).issue("spiffe://regent.local/region/r1/coordinator/c1");
    let cases = [
        (
            "timing = \"quick\"",
            "timing is \"quick\"",
            "write fast, default or conservative",
        ),
        ("join = [\"a:1\"]", "join holds \"a:1\"", "https://host:port"),
        (
            "listen_metrics = \"10.0.0.1:7464\"",
            "listen_metrics is 10.0.0.1:7464",
            "write 127.0.0.1:7464",
        ),
        (
            "[raft]\nheartbeat_millis = 9",
            "raft.heartbeat_millis is 9",
            "from 10 to 10000",
        ),
        (
            "[raft]\nelection_min_millis = 149",
            "raft.election_min_millis is 149, and three raft.heartbeat_millis of 50 are 150",
            "set raft.election_min_millis to 150 or more",
        ),
        (
            "[raft]\nelection_max_millis = 250",
            "raft.election_max_millis is 250, and raft.election_min_millis is 250",
            "set raft.election_max_millis above 250",
        ),
    ];
    for (line, problem, remedy) in cases {
        match Config::parse(&text(dir.path(), &files, line)).unwrap_err() {
            ConfigFault::Invalid(bad) => {
                assert!(
                    bad.problem.contains(problem) && bad.remedy.contains(remedy),
                    "{line}: {bad:?}"
                );
            }
            ConfigFault::Malformed(error) => panic!("{line}: {error}"),
        }
    }
    for (line, expected) in [
        ("colour = 3", "unknown field `colour`"),
        ("listen_metrics = \"127.0.0.1:99999\"", "invalid socket address"),
    ] {
        let error = Config::parse(&text(dir.path(), &files, line)).unwrap_err();
        assert!(matches!(error, ConfigFault::Malformed(_)), "{line}: {error}");
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
}

#[test]
fn a_witness_founds_nothing_and_its_example_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let files = Certs::new(dir.path()).issue("spiffe://regent.local/region/r1/coordinator/c1");
    let both = text(dir.path(), &files, "witness = true\nbootstrap = true");
    match Config::parse(&both).unwrap_err() {
        ConfigFault::Invalid(bad) => {
            assert!(
                bad.problem.contains("witness and bootstrap are both true"),
                "{bad:?}"
            );
            assert!(bad.remedy.contains("name that one in join"), "{bad:?}");
        }
        ConfigFault::Malformed(error) => panic!("{error}"),
    }
    let example = Config::parse(include_str!("../../../deploy/config/witness.toml")).unwrap();
    assert!(example.witness && !example.bootstrap && example.join.len() == 2);
}

#[test]
fn an_address_that_nobody_can_call_needs_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let files = Certs::new(dir.path()).issue("spiffe://regent.local/region/r1/coordinator/c1");
    let everywhere = text(dir.path(), &files, "").replacen("127.0.0.1:0", "0.0.0.0:7460", 1);
    match Config::parse(&everywhere).unwrap_err() {
        ConfigFault::Invalid(bad) => {
            assert!(bad.problem.contains("listen_api is 0.0.0.0:7460"), "{bad:?}");
            assert!(bad.remedy.contains("set advertise_host"), "{bad:?}");
        }
        ConfigFault::Malformed(error) => panic!("{error}"),
    }
    Config::parse(&format!("advertise_host = \"c1\"\n{everywhere}")).unwrap();
}

#[tokio::test]
async fn a_certificate_of_somebody_else_and_a_missing_file_are_said_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::new(dir.path());
    let files = certs.issue("spiffe://regent.local/region/r1/coordinator/c9");
    let config = Config::parse(&text(dir.path(), &files, "bootstrap = true")).unwrap();
    let error = Coordinator::start(config).await.unwrap_err().to_string();
    assert!(
        error.contains("coordinator/c9") && error.contains("coordinator/c1"),
        "{error}"
    );
    let missing = client::TlsFiles {
        key_file: dir.path().join("nowhere.key"),
        ..files
    };
    let config = Config::parse(&text(dir.path(), &missing, "bootstrap = true")).unwrap();
    let error = Coordinator::start(config).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("tls.key_file") && text.contains("nowhere.key"),
        "{text}"
    );
    assert!(error.remedy().contains("private key"), "{}", error.remedy());
}

/// Each of the three files with what another one holds: its key, its path, and what it should be.
#[tokio::test]
async fn a_tls_file_that_holds_something_else_is_named_with_what_it_should_hold() {
    let dir = tempfile::tempdir().unwrap();
    let files = Certs::new(dir.path()).issue("spiffe://regent.local/region/r1/coordinator/c1");
    let (ca, cert, key) = (&files.ca_file, &files.cert_file, &files.key_file);
    for (name, [ca, cert, key], path, remedy) in [
        (
            "tls.ca_file",
            [key, cert, key],
            key,
            "certificate of the cluster's CA",
        ),
        (
            "tls.cert_file",
            [ca, key, key],
            key,
            "coordinator's PEM certificate",
        ),
        ("tls.cert_file", [ca, ca, key], ca, "as its SAN URI"),
        (
            "tls.key_file",
            [ca, cert, cert],
            cert,
            "private key of tls.cert_file",
        ),
    ] {
        let files = client::TlsFiles {
            ca_file: ca.clone(),
            cert_file: cert.clone(),
            key_file: key.clone(),
        };
        let config = Config::parse(&text(dir.path(), &files, "bootstrap = true")).unwrap();
        let error = Coordinator::start(config).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("{name} is {}: ", path.display())),
            "{text}"
        );
        assert!(error.remedy().contains(remedy), "{}", error.remedy());
    }
}

/// Founding would go half its way, and end in words that name no file.
#[tokio::test]
async fn a_key_of_another_certificate_is_said_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::new(dir.path());
    let files = certs.issue("spiffe://regent.local/region/r1/coordinator/c1");
    let other = certs.issue("spiffe://regent.local/region/r1/coordinator/c1");
    let mixed = client::TlsFiles {
        key_file: other.key_file.clone(),
        ..files.clone()
    };
    let config = Config::parse(&text(dir.path(), &mixed, "bootstrap = true")).unwrap();
    let error = Coordinator::start(config).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "tls.key_file is {}: is not the key of tls.cert_file, {}",
            other.key_file.display(),
            files.cert_file.display()
        )
    );
    for setting in ["tls.cert_file", "tls.key_file"] {
        assert!(error.remedy().contains(setting), "{}", error.remedy());
    }
    assert!(!dir.path().join("data").exists());
}

/// It would wait for ever, and look as if it served.
#[tokio::test]
async fn who_neither_founds_nor_joins_nor_knows_a_cluster_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let files = Certs::new(dir.path()).issue("spiffe://regent.local/region/r1/coordinator/c1");
    let lost = Config::parse(&text(dir.path(), &files, "")).unwrap();
    let error = Coordinator::start(lost.clone()).await.unwrap_err();
    let data = dir.path().join("data");
    assert_eq!(
        error.to_string(),
        format!(
            "config: bootstrap is false, join is empty, and data directory {} was never taken into a cluster",
            data.display()
        )
    );
    for way in ["set join to", "bootstrap = true in exactly one config"] {
        assert!(error.remedy().contains(way), "{}", error.remedy());
    }
    assert!(!data.exists());

    // Nor does one that a leader called new, and that was not taken in: nobody will speak to it.
    let welcomed = dir.path().join("welcomed");
    std::fs::create_dir(&welcomed).unwrap();
    let known = r#"{"format":1,"node":"c1","raft_id":1,"cluster_id":"01920000-0000-7000-8000-000000000005","log_begun":false,"boots":1}"#;
    std::fs::write(welcomed.join("node.json"), known).unwrap();
    let config = Config {
        data_dir: welcomed,
        ..lost.clone()
    };
    let error = Coordinator::start(config).await.unwrap_err().to_string();
    assert!(error.ends_with("was never taken into a cluster"), "{error}");

    // Who knows of one finds the others by its log.
    let founder = Config::parse(&text(dir.path(), &files, "bootstrap = true")).unwrap();
    let first = Coordinator::start(founder).await.unwrap();
    let admin = client::Client::new(client::ClientConfig::new(
        vec![first.api_endpoint().to_owned()],
        files.clone(),
    ))
    .unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(first.run(stop.clone()));
    within("a cluster", async { while admin.timing().await.is_err() {} }).await;
    stop.cancel();
    within("its end", running).await.unwrap().unwrap();
    Coordinator::start(lost).await.unwrap();
}

#[tokio::test]
async fn ports_are_kept_and_one_that_is_taken_since_is_an_error_with_port_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let files = Certs::new(dir.path()).issue("spiffe://regent.local/region/r1/coordinator/c1");
    let config = Config::parse(&text(dir.path(), &files, "bootstrap = true")).unwrap();
    let first = Coordinator::start(config.clone()).await.unwrap();
    let bound = first.listens().clone();
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    first.run(stop.clone()).await.unwrap();

    let again = Coordinator::start(config.clone()).await.unwrap();
    assert_eq!(again.listens(), &bound);
    again.run(stop).await.unwrap();

    let taken = std::net::TcpListener::bind(bound.api.unwrap()).unwrap();
    let error = Coordinator::start(config).await.unwrap_err();
    assert!(matches!(error, RunError::Listen { .. }), "{error}");
    let (port, text) = (bound.api.unwrap().port().to_string(), error.to_string());
    assert!(text.contains(&port) && text.contains("listen.json"), "{text}");
    drop(taken);
}
