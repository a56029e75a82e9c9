//! What a level switches on, and that no build goes on above the one that it knows.

use super::world::World;
use crate::{
    Command, Feature,
    features::{SUPPORTED, TooNew},
};

/// Replicas whose builds differ compute the same state, because what they do is in the log.
#[test]
fn the_same_entry_has_the_outcome_of_the_level_that_the_log_has_reached() {
    for (level, accepted) in [("", false), ("SetFeatureLevel level=1", true)] {
        let mut world = World::standing();
        world.lines(level);
        world
            .lines("actor us/b1\nReportReplica version=fraud.scorer@1 region=us report=failed error=damaged");
        let outcome = world
            .line("ReportReplica version=fraud.scorer@1 region=us report=started")
            .unwrap()
            .outcome;
        assert_eq!(outcome.is_ok(), accepted, "{level:?}: {outcome:?}");
        if let Err(rejection) = outcome {
            let words = "source: is missing: fraud.scorer@1 was uploaded in eu";
            assert!(rejection.to_string().contains(words), "{rejection}");
        }
    }
}

#[test]
fn each_level_switches_its_own_rules_on_and_none_of_a_later_one() {
    let mut world = World::standing();
    for level in 0..=SUPPORTED {
        if level > 0 {
            world.lines(&format!("SetFeatureLevel level={level}"));
        }
        for rule in Feature::ALL {
            let on = world.state.features().has(*rule);
            assert_eq!(on, rule.level() <= level, "{rule:?} at {level}");
        }
        let own = Feature::ALL.iter().filter(|rule| rule.level() == level).count();
        assert_eq!(own == 0, level == 0, "{level}");
    }
    assert!(Feature::ALL.iter().all(|rule| rule.level() <= SUPPORTED));
}

#[test]
fn a_level_above_the_builds_own_is_refused_with_both() {
    let mut world = World::standing();
    for (level, build) in [
        (SUPPORTED, SUPPORTED),
        (SUPPORTED, SUPPORTED - 1),
        (SUPPORTED + 1, SUPPORTED),
        (u32::MAX, SUPPORTED),
    ] {
        let known = level <= build;
        let entry = world.entry(Command::SetFeatureLevel { level });
        let mut state = world.state.clone();
        assert!(state.check_features(0).is_ok());
        state.apply(state.revision().next(), &entry).outcome.unwrap();
        for said in [entry.check_features(build), state.check_features(build)] {
            assert_eq!(said.is_ok(), known, "{level} {build}");
            assert_eq!(said.err(), (!known).then_some(TooNew { level, known: build }));
        }
    }
    // Where the command itself is newer than the build.
    let newer = world.entry(Command::SetLeaderPreference { regions: Vec::new() });
    assert_eq!(newer.check_features(1), Err(TooNew { level: 2, known: 1 }));
    assert_eq!(newer.check_features(2), Ok(()));
    let text = TooNew { level: 7, known: 6 }.to_string();
    let words = "feature level 7, and this build knows levels up to 6: upgrade this coordinator; a newer build goes on with the same data_dir";
    assert!(text.contains(words), "{text}");
}
