//! Config, library, catalog, pins, metrics.

use artifact_store::{
    ArtifactStore as _, MemStore,
    cache::LocalCache,
    keys,
    transfer::{self, Artifact, TransferLimits},
};
use types::{ByteCount, Digest, model::VersionState, replica::ReplicaState};

use super::records::*;
use crate::{
    catalog::{Catalog, CatalogRow},
    config::AgentConfig,
    library::Library,
    metrics::Metrics,
    pins::{Pin, Pins},
    stores::{ConfiguredStores, OpenStore as _},
};

const CONFIG: &str = r#"
node = "a1"
region = "west"
data_dir = "/tmp/a1"
coordinators = ["https://127.0.0.1:7460"]

[tls]
ca_file = "ca.pem"
cert_file = "a1.pem"
key_file = "a1.key"

[store]
endpoint = "http://127.0.0.1:7465"
bucket = "models"
access_key_file = "access"
secret_key_file = "secret"
"#;

fn parse(text: &str) -> Result<AgentConfig, String> {
    let config: AgentConfig = toml::from_str(text).map_err(|e| e.to_string())?;
    config.validate().map(|()| config)
}

#[test]
fn a_short_config_has_the_ports_and_limits_of_the_table() {
    let config = parse(CONFIG).unwrap();
    assert_eq!(config.listen_inference.port(), 7462);
    assert_eq!(config.listen_agent.port(), 7463);
    assert_eq!(config.listen_metrics.port(), 7464);
    assert_eq!(config.limits.body_max.0, ByteCount(8 << 20));
    let text = toml::to_string(&config).unwrap();
    assert_eq!(parse(&text).unwrap(), config);
}

#[test]
fn a_bad_value_is_named_with_what_would_be_right() {
    let check = |from: &str, to: &str, expected: &str| {
        let error = parse(&CONFIG.replace(from, to)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check("node =", "nod =", "unknown field `nod`");
    check("\"west\"", "\"West\"", "invalid region id \"West\"");
    check("[\"https://127.0.0.1:7460\"]", "[]", "coordinators is empty");
    check(
        "https://127.0.0.1:7460",
        "127.0.0.1:7460",
        "each must be https://host:port",
    );
    check(
        "http://127.0.0.1:7465",
        "ftp://x",
        "write http(s)://host:port or file:///path",
    );
    check(
        "access_key_file = \"access\"\n",
        "",
        "access_key_file and store.secret_key_file must be set",
    );
    let with = |line: &str| format!("{line}\n{CONFIG}");
    let error = parse(&with("listen_inference = \"10.0.0.1:7462\"")).unwrap_err();
    assert!(error.contains("loopback address only"), "{error}");
    let error = parse(&with("listen_agent = \"127.0.0.1:99999\"")).unwrap_err();
    assert!(error.contains("listen_agent"), "{error}");
    let error = parse(&with("listen_agent = \"0.0.0.0:1\"")).unwrap_err();
    assert!(error.contains("advertise_host"), "{error}");
    let error = parse(&format!("{CONFIG}\n[limits]\nparallel_loads = 0")).unwrap_err();
    assert!(error.contains("limits.parallel_loads is 0"), "{error}");
    let error = parse(&format!("{CONFIG}\n[limits]\nrequest_timeout = \"70s\"")).unwrap_err();
    assert_eq!(
        error,
        "limits.request_timeout is 70s, and must be above zero and at most limits.request_timeout_max, which is 60s"
    );
}

#[test]
fn a_bad_value_of_a_file_is_named_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, CONFIG.replace("[\"https://127.0.0.1:7460\"]", "[]")).unwrap();
    let error = AgentConfig::load(&path).unwrap_err().to_string();
    let expected = format!(
        "config {}: coordinators is empty; name at least one",
        path.display()
    );
    assert!(error.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn credentials_that_are_not_there_are_named_by_their_key() {
    let config = parse(CONFIG).unwrap();
    let bound = types::region::StoreBinding {
        endpoint: "http://127.0.0.1:1".to_owned(),
        ..binding("west")
    };
    let opened = ConfiguredStores::new(&config).open(&region("west"), &bound).await;
    let error = opened.err().unwrap();
    assert!(
        error.starts_with("store.access_key_file is access: No such file"),
        "{error}"
    );
    assert!(
        error.ends_with("name a file that is there and that this user can read"),
        "{error}"
    );
}

#[tokio::test]
async fn a_version_directory_is_assembled_whole_from_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = LocalCache::open(&dir.path().join("cache")).unwrap();
    let library = Library::open(&dir.path().join("models"), cache.clone()).unwrap();
    let files: &[(&str, &[u8])] = &[("config.json", b"{}"), ("deep/weights", b"1234")];
    let record = version("m@1", VersionState::Ready, files);

    let error = library.assemble(&record).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
    assert!(!library.path_of(&record.key).exists());

    let store = MemStore::new("west");
    for (_, bytes) in files {
        let artifact = Artifact {
            digest: Digest::of(bytes),
            size: ByteCount(bytes.len() as u64),
        };
        store
            .put(&keys::artifact(&artifact.digest), bytes.to_vec().into())
            .await
            .unwrap();
        let limits = TransferLimits::default();
        transfer::fetch(&store, &artifact, &cache, limits, &|_| ())
            .await
            .unwrap();
    }
    let path = library.assemble(&record).unwrap();
    assert_eq!(std::fs::read(path.join("deep/weights")).unwrap(), b"1234");
    assert_eq!(library.assemble(&record).unwrap(), path);
    assert!(library.scrub(&record).unwrap());

    // A damaged file takes its directory with it, and is fetched again.
    std::fs::write(path.join("deep/weights"), b"12x4").unwrap();
    assert!(!library.scrub(&record).unwrap());
    assert!(!path.exists());
    assert!(library.assemble(&record).is_err());
}

#[test]
fn the_catalog_remembers_rows_and_forgets_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let row = |name: &str| CatalogRow {
        cached: true,
        replica: Some(ReplicaState::Verified),
        ..CatalogRow::new(version(name, VersionState::Ready, &[("f", b"x")]))
    };
    let catalog = Catalog::open(&dir.path().join("catalog")).unwrap();
    catalog.replace(&[row("a@1"), row("b@1")]).unwrap();
    catalog.replace(&[row("b@1")]).unwrap();
    drop(catalog);
    let catalog = Catalog::open(&dir.path().join("catalog")).unwrap();
    assert_eq!(catalog.rows(), [row("b@1")]);
}

/// Losing the quorum stops no inference (I10), nor does an upgrade in the middle of that.
#[test]
fn rows_of_the_catalog_of_every_version_are_read() {
    let row = CatalogRow {
        cached: true,
        replica: Some(ReplicaState::Verified),
        load: true,
        active: true,
        ..CatalogRow::new(version("a@1", VersionState::Ready, &[("f", b"x")]))
    };
    let old: CatalogRow = serde_json::from_slice(include_bytes!("../../testdata/catalog-v1-a.json")).unwrap();
    assert_eq!(old, row, "times are numbers");
    let new: CatalogRow = serde_json::from_slice(include_bytes!("../../testdata/catalog-v1-b.json")).unwrap();
    assert_eq!(new, row, "times are text");
    let newer: CatalogRow =
        serde_json::from_slice(include_bytes!("../../testdata/catalog-v1-c.json")).unwrap();
    assert_eq!(newer, row, "versions have data sets and metrics");
    let written: serde_json::Value = serde_json::to_value(&row).unwrap();
    let frozen: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../testdata/catalog-v1-c.json")).unwrap();
    assert_eq!(written, frozen);
}

#[test]
fn a_pin_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pins.json");
    let model = "m".parse().unwrap();
    let pin = Pin {
        version: v(3),
        after: Some(types::Revision(7)),
    };
    Pins::open(&path).unwrap().set(&model, pin).unwrap();
    assert_eq!(Pins::open(&path).unwrap().all().get(&model), Some(&pin));
    // One that was replaced meanwhile is not the one that ends.
    let old = Pin { version: v(2), ..pin };
    Pins::open(&path).unwrap().swap(&model, old, None).unwrap();
    assert_eq!(Pins::open(&path).unwrap().all().get(&model), Some(&pin));
    Pins::open(&path).unwrap().swap(&model, pin, None).unwrap();
    assert!(Pins::open(&path).unwrap().all().is_empty());
    for (text, words) in [
        ("{", "remove it"),
        (r#"{"version":1,"pins":{"m":{}}}"#, "remove it"),
        (r#"{"version":3,"pins":{}}"#, "upgrade this process"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Pins::open(&path).unwrap_err().to_string();
        assert!(error.contains("pins.json") && error.contains(words), "{error}");
    }
}

/// Files as earlier releases wrote them.
#[test]
fn pins_of_every_version_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pins.json");
    let pins = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let read = Pins::open(&path).unwrap();
        let rows = read.all().iter();
        rows.map(|(model, pin)| (model.to_string(), pin.version, pin.after.map(|r| r.0)))
            .collect::<Vec<_>>()
    };
    let expected = |scorer, digits| {
        vec![
            ("fraud.scorer".to_owned(), v(2), scorer),
            ("samples.digits".to_owned(), v(1), digits),
        ]
    };
    let v1 = pins(include_bytes!("../../testdata/pins-v1.json"));
    assert_eq!(v1, expected(None, None));
    let v2 = pins(include_bytes!("../../testdata/pins-v2.json"));
    assert_eq!(v2, expected(Some(41), Some(0)));
}

#[test]
fn every_metric_of_this_crate_is_a_row_of_the_table() {
    let metrics = Metrics::default();
    let model = "m".parse().unwrap();
    metrics.request(&model, "ok", std::time::Duration::from_millis(3));
    metrics.pulled(&region("west"), 5);
    metrics.replicated("verified");
    metrics.fenced(types::Reason::StaleEpoch);
    metrics.loaded(1);
    metrics.floor(&types::RoleName::global(), epoch(4));
    metrics.lease(&types::RoleName::global(), true);
    metrics.probe(&region("east"), false);
    let text = metrics.render();
    let names = text
        .lines()
        .filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names {
        let known = types::metrics::ALL
            .iter()
            .any(|def| def.name.trim_end_matches("_total") == name);
        assert!(known, "{name}");
    }
    assert!(
        text.contains(&format!(
            "{}{{door=\"agent\"}} 1",
            types::metrics::FENCED_REJECTIONS.name
        )),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}
