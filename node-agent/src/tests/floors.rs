//! Floors on disk.

use types::{ClusterId, RoleName};

use super::records::*;
use crate::{
    durable::journal,
    floors::{Floors, FloorsError},
};
use policy::fence::Floor;

fn floor(counter: u32, holder: Option<types::Holder>) -> Floor {
    Floor {
        cluster_id: CLUSTER,
        role: RoleName::global(),
        epoch: epoch(counter),
        holder,
    }
}

#[test]
fn a_raised_floor_survives_a_restart_and_never_sinks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("floors.json");
    let mut floors = Floors::open(&path).unwrap();
    assert!(floors.raise([floor(5, Some(me()))]).unwrap());
    assert!(!floors.raise([floor(4, None)]).unwrap());
    drop(floors);

    let mut floors = Floors::open(&path).unwrap();
    assert_eq!(floors.cluster_id(), Some(CLUSTER));
    assert_eq!(floors.get(&RoleName::global()), Some(&floor(5, Some(me()))));
    // Equal epochs do not change hands.
    assert!(!floors.raise([floor(5, Some(holder("east/a1", 1)))]).unwrap());
    assert!(floors.raise([floor(6, None)]).unwrap());
    assert!(floors.raise([floor(6, Some(me()))]).unwrap());
}

#[test]
fn a_door_follows_one_cluster_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("floors.json");
    Floors::open(&path).unwrap().bind(CLUSTER).unwrap();
    let mut floors = Floors::open(&path).unwrap();
    let other = ClusterId::from_u128(8);
    assert!(
        matches!(floors.bind(other), Err(FloorsError::OtherCluster { bound, shown })
        if bound == CLUSTER && shown == other)
    );
    let foreign = Floor {
        cluster_id: other,
        ..floor(9, None)
    };
    assert!(floors.raise([foreign]).is_err());
    assert_eq!(floors.get(&RoleName::global()), None);
}

#[test]
fn a_file_that_cannot_be_understood_is_an_error_and_not_an_open_door() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("floors.json");
    for text in [
        "",
        "{",
        r#"{"version":3,"cluster_id":null,"floors":[]}"#,
        r#"{"version":2,"cluster_id":null,"floors":[],"closed":[{"cluster_id":"00000000-0000-0000-0000-000000000007","floors":[]}]}"#,
        r#"{"version":1,"floors":[],"x":1}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Floors::open(&path).unwrap_err().to_string();
        assert!(error.contains("floors.json"), "{error}");
    }
}

#[test]
fn a_floor_that_cannot_be_written_is_not_raised() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    let mut floors = Floors::open(&gone.join("floors.json")).unwrap();
    std::fs::remove_dir(&gone).unwrap();
    assert!(matches!(
        floors.raise([floor(5, None)]),
        Err(FloorsError::Io { .. })
    ));
    assert_eq!(floors.get(&RoleName::global()), None);
}

/// L19: what was left is kept for ever, and an older release must not read it as if nothing had been.
#[test]
fn the_cluster_that_was_left_is_kept_apart_and_the_new_one_begins_without_floors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("floors.json");
    let version = || {
        let text = std::fs::read_to_string(&path).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["version"].clone()
    };
    let folder = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let mut floors = Floors::open(&path).unwrap();
    floors.raise([floor(5, Some(me()))]).unwrap();
    assert_eq!(version(), 1);
    let new = ClusterId::from_u128(8);
    let signed = types::SignedRebind {
        statement: types::Rebind {
            cluster: new,
            supersedes: CLUSTER,
            generation: 2,
        },
        signature: vec![7; 70],
    };
    journal::take();
    floors.follow(new, vec![signed.clone()]).unwrap();
    assert_eq!(journal::take().last(), Some(&format!("sync {folder}")));
    assert_eq!(version(), 2);
    for floors in [floors, Floors::open(&path).unwrap()] {
        assert_eq!((floors.cluster_id(), floors.all().count()), (Some(new), 0));
        let left = &floors.lineage().closed[&CLUSTER];
        assert_eq!(left.get(&RoleName::global()), Some(&floor(5, Some(me()))));
        assert_eq!(floors.lineage().statements, std::slice::from_ref(&signed));
    }
}

/// L13: a name on a file whose bytes are not on the disk is a floor that a crash lowers.
#[test]
fn floors_are_on_the_disk_before_they_have_their_name_and_the_name_after() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let mut floors = Floors::open(&dir.path().join("floors.json")).unwrap();
    journal::take();
    assert!(floors.raise([floor(5, Some(me()))]).unwrap());
    let expected = [
        "sync floors.tmp".to_owned(),
        "rename floors.tmp".to_owned(),
        format!("sync {folder}"),
    ];
    assert_eq!(journal::take(), expected);
    assert!(!floors.raise([floor(4, None)]).unwrap());
    assert_eq!(journal::take(), [] as [String; 0]);
}
