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
fn every_rule_is_known_at_the_highest_level_and_none_at_level_0() {
    let mut world = World::standing();
    let rules = [
        Feature::MendWithoutSource,
        Feature::TimeMarks,
        Feature::CoordinatorsLeave,
        Feature::ElectionSettings,
        Feature::FramedSnapshots,
        Feature::Expectations,
    ];
    let on = |world: &World| rules.map(|rule| world.state.features().has(rule));
    assert_eq!(on(&world), [false; 6]);
    world.lines(&format!("SetFeatureLevel level={SUPPORTED}"));
    assert_eq!(on(&world), [true; 6]);
}

#[test]
fn a_level_above_the_builds_own_is_refused_with_both() {
    let mut world = World::standing();
    for (level, known) in [(SUPPORTED, true), (SUPPORTED + 1, false), (u32::MAX, false)] {
        let entry = world.entry(Command::SetFeatureLevel { level });
        let mut state = world.state.clone();
        assert!(state.check_features().is_ok());
        state.apply(state.revision().next(), &entry).outcome.unwrap();
        for said in [entry.check_features(), state.check_features()] {
            assert_eq!(said.is_ok(), known, "{level}");
            assert_eq!(said.err(), (!known).then_some(TooNew { level }));
        }
    }
    let text = TooNew { level: 7 }.to_string();
    let words =
        format!("feature level 7, and this build knows levels up to {SUPPORTED}: upgrade this coordinator");
    assert!(text.ends_with(&words), "{text}");
}
