//! What `node.json` says of a log that is not there.

use tempfile::TempDir;

use super::*;

/// As the versions wrote it that did not say yet whether the log was begun.
const OLD: &str = include_str!("../../../testdata/node-before-log-begun.json");

/// Its cluster was learned from the log, so there was one.
#[test]
fn an_old_file_that_knows_its_cluster_had_a_log() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.json");
    fs::write(&path, OLD).unwrap();
    let identity = Identity::open(dir.path(), &NodeId::new("c0").unwrap()).unwrap();
    assert!(identity.misses_its_log());
    let written: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        (&written["log_begun"], &written["boots"]),
        (&true.into(), &4.into())
    );
}

#[test]
fn one_that_was_only_welcomed_misses_nothing() {
    let dir = TempDir::new().unwrap();
    let identity = Identity::open(dir.path(), &NodeId::new("c0").unwrap()).unwrap();
    identity.learn_cluster(ClusterId::from_u128(5)).unwrap();
    assert!(!identity.misses_its_log());
    identity.begin_log().unwrap();
    assert!(identity.misses_its_log());
}

/// Without one, another directory under its name that shows an id first would become the member in its place.
#[test]
fn a_directory_of_a_version_without_ids_gets_one_for_ever() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.json");
    fs::write(&path, OLD).unwrap();
    let open = || Identity::open(dir.path(), &NodeId::new("c0").unwrap()).unwrap();
    files::journal::take();
    let first = open();
    let made = first.disk_id().unwrap();
    let folder = dir.path().file_name().unwrap().to_string_lossy();
    assert_eq!(
        files::journal::take(),
        [
            "sync node.json.tmp".to_owned(),
            "rename node.json.tmp".to_owned(),
            format!("sync {folder}")
        ]
    );
    drop(first);
    assert_eq!(open().disk_id(), Some(made));
}
