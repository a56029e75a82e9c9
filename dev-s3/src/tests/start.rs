//! Configurations that cannot be served.

use tokio_util::sync::CancellationToken;

use super::{Endpoint, config};
use crate::{Config, run};

async fn check(config: Config, expected: &[&str]) {
    let error = run(config, CancellationToken::new(), |_| panic!("must not start"))
        .await
        .unwrap_err()
        .to_string();
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[tokio::test]
async fn bad_configurations_are_refused_with_value_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let good = || config(&dir);
    check(
        Config {
            listen: "0.0.0.0:0".parse().unwrap(),
            ..good()
        },
        &["0.0.0.0:0", "loopback"],
    )
    .await;
    check(
        Config {
            buckets: vec!["A_B".into()],
            ..good()
        },
        &["A_B", "3 to 63"],
    )
    .await;
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let path = file.display().to_string();
    check(
        Config {
            data_dir: file,
            ..good()
        },
        &[&path, "check that it exists"],
    )
    .await;
    let mut empty = good();
    empty.credentials.secret_key.clear();
    check(empty, &["secret key"]).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let endpoint = Endpoint::start().await;
    let dir = tempfile::tempdir().unwrap();
    let port = endpoint.address.port().to_string();
    check(
        Config {
            listen: endpoint.address,
            ..config(&dir)
        },
        &[&port, "in use", "0 picks"],
    )
    .await;
    endpoint.stop().await;
}
