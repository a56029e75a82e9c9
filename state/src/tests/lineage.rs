//! Who depends on a data set, and what was measured of a version.

use types::{DatasetName, MetricName, VersionKey};

use super::{
    language::Line,
    world::{World, actor},
};
use crate::{
    Feature,
    codec::{decode_snapshot, encode_snapshot},
};

fn dependents(world: &World, dataset: &str, limit: usize) -> Vec<Vec<String>> {
    let dataset: DatasetName = dataset.parse().unwrap();
    let (mut pages, mut start) = (Vec::new(), None);
    loop {
        let page = world.state.dependents_where(&dataset, start, limit, |_| true);
        pages.push(page.items.iter().map(|v| v.key.to_string()).collect());
        start = page.next;
        if start.is_none() {
            return pages;
        }
    }
}

#[test]
fn the_versions_that_were_trained_from_a_data_set_are_found_in_pages_also_after_a_snapshot() {
    let mut world = World::standing();
    world.lines(
        "SetFeatureLevel level=6
        CreateVersion model=a source=eu datasets=clicks
        CreateVersion model=z source=eu datasets=clicks,people
        CreateVersion model=fraud.scorer source=eu datasets=click
        CreateVersion model=a source=eu datasets=people,clicks
        AbortVersion version=a@1",
    );
    let restored = World::with(decode_snapshot(&encode_snapshot(&world.state)).unwrap());
    for world in [&world, &restored] {
        assert_eq!(dependents(world, "clicks", 2), [vec!["a@1", "a@2"], vec!["z@1"]]);
        assert_eq!(dependents(world, "people", 9), [vec!["a@2", "z@1"]]);
        assert_eq!(dependents(world, "click", 1), [["fraud.scorer@2"]]);
        assert_eq!(dependents(world, "clicks/2026", 1), [[""; 0]]);
    }
    let wanted = |state: &str| {
        let page = (world.state).dependents_where(&"clicks".parse().unwrap(), None, 9, |v| {
            v.state.to_string() == state
        });
        page.items.iter().map(|v| v.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (wanted("DELETED"), wanted("PENDING_UPLOAD")),
        (vec!["a@1".to_owned()], vec!["a@2".to_owned(), "z@1".to_owned()])
    );
}

#[test]
fn a_measured_value_says_who_measured_it_last_and_when() {
    let mut world = World::standing();
    world.lines(
        "SetFeatureLevel level=6\nSetVersionMetrics version=fraud.scorer@1 set=accuracy:0.9,loss:0.25",
    );
    let key: VersionKey = "fraud.scorer@1".parse().unwrap();
    let began = world.state.time();
    let said = |world: &World, name: &str| {
        let m = &world.state.version(&key).unwrap().metrics[&name.parse::<MetricName>().unwrap()];
        (m.value.to_string(), m.at, m.by.clone())
    };
    let version = |world: &World| world.state.version(&key).unwrap().modified;
    let first = version(&world);
    world.lines("wait 5s\nactor eve\nSetVersionMetrics version=fraud.scorer@1 set=accuracy:0.9");
    assert_eq!(version(&world), first, "the same value again is no change");
    world.lines("SetVersionMetrics version=fraud.scorer@1 set=accuracy:0.9,loss:0.5");
    assert!(version(&world) > first);
    assert_eq!(
        said(&world, "accuracy"),
        ("0.9".to_owned(), began, actor("admin"))
    );
    assert_eq!(
        said(&world, "loss"),
        ("0.5".to_owned(), world.state.time(), actor("eve"))
    );
    world.lines("SetVersionMetrics version=fraud.scorer@1 remove=accuracy,unknown");
    let left: Vec<_> = world
        .state
        .version(&key)
        .unwrap()
        .metrics
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(left, ["loss"]);
}

/// A build from before data sets would read the entry, and leave them out.
#[test]
fn a_version_that_names_data_sets_reaches_no_log_below_their_level() {
    let needs = |line: &str| Line::parse(line).command().needs();
    let plain = "CreateVersion model=a source=eu";
    assert_eq!(needs(plain), None);
    assert_eq!(
        needs(&format!("{plain} datasets=clicks")),
        Some(Feature::Datasets)
    );
}
