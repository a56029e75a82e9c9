//! The example configs of whole clusters in `deploy/config/sets`, read by the code of the processes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The folders, and the regions of each in the order in which their table names them; the first one founds.
const SETS: [(&str, &[&str]); 4] = [
    ("three-continents", &["us-east-1", "eu-west-1", "ap-southeast-1"]),
    ("us-west-first", &["us-west-2", "eu-west-1", "ap-southeast-1"]),
    (
        "primary-secondary-tertiary",
        &["us-west-2", "us-east-1", "eu-west-1"],
    ),
    (
        "active-active",
        &[
            "us-west-2",
            "us-east-1",
            "eu-central-1",
            "ap-southeast-1",
            "eu-west-1",
        ],
    ),
];

fn sets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/sets")
}

fn folders(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    folders
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_set_has_its_regions_and_a_line_for_people() {
    let table = fs::read_to_string(sets().join("README.md")).unwrap();
    let names: BTreeSet<_> = SETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(folders(&sets()), names);
    for (name, regions) in SETS {
        let expected: BTreeSet<_> = regions.iter().map(|region| (*region).to_owned()).collect();
        assert_eq!(folders(&sets().join(name)), expected, "{name}");
        let row = table.lines().find(|line| line.contains(&format!("({name})")));
        let row = row.unwrap_or_else(|| panic!("{name} has no line"));
        assert!(regions.iter().all(|region| row.contains(region)), "{row}");
    }
}

/// One founder, who asks all others whether they know of a cluster; and everybody can reach everybody.
#[test]
fn the_coordinators_of_a_set_make_one_cluster() {
    for (name, regions) in SETS {
        let mut nodes = BTreeSet::new();
        let mut asked = Vec::new();
        let mut apis = BTreeSet::new();
        for region in regions {
            let text = fs::read_to_string(sets().join(name).join(region).join("coordinator.toml")).unwrap();
            let config = coordinator::Config::parse(&text).unwrap_or_else(|e| panic!("{name}/{region}: {e}"));
            assert_eq!(config.region.as_str(), *region, "{name}");
            assert_eq!(config.bootstrap, *region == regions[0], "{name}/{region}");
            assert!(nodes.insert(config.node.clone()), "{name}: {} twice", config.node);
            let own = config.endpoint(config.listen_api.port());
            assert!(!config.join.contains(&own), "{name}/{region} asks itself");
            apis.insert(own);
            asked.push(config.join.into_iter().collect::<BTreeSet<_>>());
        }
        for join in asked {
            assert_eq!(join.len(), regions.len() - 1, "{name}: {join:?}");
            assert!(join.is_subset(&apis), "{name}: {join:?} is not of {apis:?}");
        }
    }
}

#[test]
fn the_agents_of_a_set_know_all_of_its_coordinators() {
    for (name, regions) in SETS {
        let mut nodes = BTreeSet::new();
        for region in regions {
            let path = sets().join(name).join(region).join("agent.toml");
            let config =
                node_agent::AgentConfig::load(&path).unwrap_or_else(|e| panic!("{name}/{region}: {e}"));
            assert_eq!(config.region.as_str(), *region, "{name}");
            assert!(nodes.insert(config.node.clone()), "{name}: {} twice", config.node);
            assert!(
                config.store.endpoint.contains(region),
                "{}",
                config.store.endpoint
            );
            let known: BTreeSet<_> = config.coordinators.iter().cloned().collect();
            let expected = regions.iter().map(|r| format!("https://c1.{r}.example.com:7460"));
            assert_eq!(known, expected.collect(), "{name}/{region}");
            assert!(
                config.coordinators[0].contains(region),
                "its own region's comes first"
            );
        }
    }
}
