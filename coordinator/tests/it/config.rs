//! What a coordinator says before it serves: bad configs, bad certificates, ports in use.

use coordinator::{Config, Coordinator, RunError};

use crate::harness::Certs;

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
        ("colour = 3", "unknown field `colour`"),
        ("timing = \"quick\"", "fast, default or conservative"),
        ("bootstrap = true\njoin = [\"https://a:1\"]", "exclude each other"),
        ("join = [\"a:1\"]", "\"a:1\" must be https://host:port"),
        ("listen_metrics = \"10.0.0.1:7464\"", "loopback"),
        ("listen_metrics = \"127.0.0.1:99999\"", "invalid socket address"),
        (
            "[raft]\nheartbeat_millis = 50\nelection_min_millis = 60",
            "three heartbeat_millis",
        ),
    ];
    for (line, expected) in cases {
        let error = Config::parse(&text(dir.path(), &files, line)).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
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
    let error = Coordinator::start(config).await.unwrap_err().to_string();
    assert!(error.contains("nowhere.key"), "{error}");
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
