//! Which regions are well.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use types::{RegionId, VersionKey, region::Health, role::TimingPolicy};

use super::{region, seconds};
use crate::{
    health::{Probe, RegionView, Transition, detection_window, session_window, verdicts},
    readiness::{Coverage, Loads, ServedVersion},
};

fn view(name: &str, health: Health, silent_for: Option<u64>) -> RegionView {
    RegionView {
        region: region(name),
        health,
        silent_for: silent_for.map(Duration::from_millis),
        ready: true,
        coverage: Coverage::default(),
    }
}

fn well(name: &str) -> RegionView {
    view(name, Health::Healthy, Some(100))
}

fn probe(from: &str, to: &str, failures: u32) -> Probe {
    Probe {
        from: region(from),
        to: region(to),
        failures,
        age: seconds(1),
    }
}

/// The verdicts as `region: FROM -> TO`.
fn check(regions: &[RegionView], probes: &[Probe], since_election: u64, expected: &[&str]) {
    let due = verdicts(regions, probes, seconds(since_election), &TimingPolicy::fast());
    let text = |t: &Transition| format!("{}: {} -> {}", t.region, t.from, t.to);
    let shown: Vec<_> = due.iter().map(text).collect();
    assert_eq!(shown, expected, "{regions:?} {probes:?}");
}

#[test]
fn a_region_is_condemned_by_silence_and_a_majority_of_at_least_two_vantages() {
    let gone = view("eu", Health::Healthy, Some(60_000));
    let three = [gone.clone(), well("us"), well("ap")];
    let both = [probe("us", "eu", 3), probe("ap", "eu", 4)];
    check(&three, &both, 100, &["eu: HEALTHY -> UNHEALTHY"]);
    // One vantage alone, also if it reports twice or if the others say nothing.
    check(&three, &both[..1], 100, &[]);
    check(&three, &[probe("us", "eu", 3), probe("us", "eu", 9)], 100, &[]);
    check(&three, &[probe("us", "eu", 3), probe("ap", "eu", 0)], 100, &[]);
    // Too few failures in a row.
    check(&three, &[probe("us", "eu", 3), probe("ap", "eu", 2)], 100, &[]);
    // Its own agent's word does not count.
    check(&three, &[probe("us", "eu", 3), probe("eu", "eu", 3)], 100, &[]);
    // Two of four is no majority.
    let four = [gone, well("us"), well("ap"), well("sa"), well("af")];
    let mut split = vec![probe("us", "eu", 3), probe("ap", "eu", 3)];
    split.extend([probe("sa", "eu", 0), probe("af", "eu", 0)]);
    check(&four, &split, 100, &[]);
}

#[test]
fn a_session_or_a_young_leader_condemns_nobody() {
    let both = [probe("us", "eu", 9), probe("ap", "eu", 9)];
    let speaking = [view("eu", Health::Healthy, Some(900)), well("us"), well("ap")];
    check(&speaking, &both, 100, &[]);
    let never_heard = [view("eu", Health::Healthy, None), well("us"), well("ap")];
    check(&never_heard, &both, 2, &[]);
    check(&never_heard, &both, 3, &["eu: HEALTHY -> UNHEALTHY"]);
    // A silence cannot be older than the leader that hears it.
    let long = [view("eu", Health::Healthy, Some(60_000)), well("us"), well("ap")];
    check(&long, &both, 2, &[]);
}

#[test]
fn a_vantage_that_is_cut_off_or_stale_has_no_vote() {
    let gone = view("eu", Health::Healthy, Some(60_000));
    let both = [probe("us", "eu", 9), probe("ap", "eu", 9)];
    let cut_off = [
        gone.clone(),
        view("us", Health::Healthy, Some(30_000)),
        well("ap"),
    ];
    check(&cut_off, &both, 100, &[]);
    let mut stale = both.clone();
    stale[0].age = seconds(4);
    check(&[gone, well("us"), well("ap")], &stale, 100, &[]);
}

/// A report counts for two probes' time and as long as a session does, and not a moment longer.
#[test]
fn a_report_counts_until_the_next_but_one_is_overdue() {
    let timing = TimingPolicy::fast();
    let regions = [view("eu", Health::Healthy, Some(60_000)), well("us"), well("ap")];
    let longest = timing.probe_interval + timing.probe_interval + session_window(&timing);
    let of_age = |age| {
        ["us", "ap"].map(|from| Probe {
            age,
            ..probe(from, "eu", 9)
        })
    };
    check(&regions, &of_age(longest), 100, &["eu: HEALTHY -> UNHEALTHY"]);
    check(&regions, &of_age(longest + Duration::from_millis(1)), 100, &[]);
}

/// It is the vantage's own session that counts, and not that there is one somewhere.
#[test]
fn a_vantage_without_a_session_has_no_vote_while_others_have_theirs() {
    let regions = [
        view("eu", Health::Healthy, Some(60_000)),
        view("us", Health::Healthy, Some(30_000)),
        well("ap"),
        well("sa"),
    ];
    check(&regions, &[probe("us", "eu", 9), probe("ap", "eu", 9)], 100, &[]);
}

#[test]
fn a_region_comes_back_through_recovering_and_only_when_it_can_serve() {
    let back = view("eu", Health::Unhealthy, Some(100));
    check(&[back], &[], 0, &["eu: UNHEALTHY -> RECOVERING"]);
    check(&[view("eu", Health::Unhealthy, Some(5_000))], &[], 100, &[]);
    let able = view("eu", Health::Recovering, Some(100));
    check(
        std::slice::from_ref(&able),
        &[],
        0,
        &["eu: RECOVERING -> HEALTHY"],
    );
    let not_ready = RegionView {
        ready: false,
        ..able.clone()
    };
    check(&[not_ready], &[], 0, &[]);
    let incomplete = RegionView {
        coverage: Coverage {
            wanted: 2,
            verified: 1,
        },
        ..able.clone()
    };
    check(&[incomplete], &[], 0, &[]);
    check(&[able.clone(), well("us")], &[probe("us", "eu", 3)], 0, &[]);
    let again_gone = view("eu", Health::Recovering, Some(60_000));
    let both = [probe("us", "eu", 9), probe("ap", "eu", 9)];
    check(
        &[again_gone, well("us"), well("ap")],
        &both,
        100,
        &["eu: RECOVERING -> UNHEALTHY"],
    );
}

#[test]
fn the_evidence_says_who_cannot_reach_it() {
    let regions = [view("eu", Health::Healthy, Some(60_000)), well("us"), well("ap")];
    let both = [probe("us", "eu", 3), probe("ap", "eu", 4)];
    let due = verdicts(&regions, &both, seconds(100), &TimingPolicy::fast());
    assert_eq!(
        due[0].evidence,
        "no session for 1m; 2 of 2 vantages could not reach it: us, ap"
    );
}

/// It is kept with the verdict and read long after, when other versions are served.
#[test]
fn the_evidence_of_health_reads_as_of_its_time() {
    let evidence = |wanted, verified| {
        let region = RegionView {
            coverage: Coverage { wanted, verified },
            ..view("eu", Health::Recovering, Some(100))
        };
        let due = verdicts(&[region], &[], seconds(100), &TimingPolicy::fast());
        due[0].evidence.clone()
    };
    assert_eq!(
        evidence(0, 0),
        "an agent reported ready; no version was served then"
    );
    assert_eq!(
        evidence(2, 2),
        "an agent reported ready; 2 of 2 served versions were verified then"
    );
}

#[test]
fn coverage_counts_what_is_placed_and_can_be_had() {
    let served = |placed, verified_here, verified_elsewhere| ServedVersion {
        placed,
        verified_here,
        verified_elsewhere,
    };
    let coverage = |list: &[ServedVersion]| Coverage::of(list.iter().copied());
    assert!(coverage(&[]).is_complete());
    assert!(coverage(&[served(false, false, true), served(true, true, false)]).is_complete());
    assert!(!coverage(&[served(true, false, true)]).is_complete());
    // It stands nowhere that could be reached: waiting for it would keep every region out.
    assert!(coverage(&[served(true, false, false)]).is_complete());
}

fn set(keys: &str) -> BTreeSet<VersionKey> {
    keys.split_whitespace().map(|k| k.parse().unwrap()).collect()
}

fn loads(loaded: &str, failed: &str) -> Loads {
    Loads {
        loaded: set(loaded),
        failed: set(failed),
    }
}

#[test]
fn nobody_is_less_fit_for_what_nobody_serves() {
    let served = set("a@1 b@1 c@1");
    for (loaded, failed, by_others, cannot) in [
        ("a@1 b@1", "", "a@1 b@1", ""),
        ("a@1", "b@1", "a@1 b@1", "b@1"),
        ("", "a@1 b@1 c@1", "a@1 b@1", "a@1 b@1"),
        // On its way, or not meant to be here.
        ("", "", "a@1 b@1", ""),
        // Nobody can load c@1; no alias names d@1.
        ("a@1 b@1", "c@1 d@1", "a@1 b@1 d@1", ""),
        // It is tried again, and what it had answers.
        ("a@1", "a@1", "a@1", ""),
        // Nobody can load a@1, and elsewhere another of its versions answers: here nothing of the model does, or that one too.
        ("", "a@1", "a@7", "a@1"),
        ("a@7", "a@1", "a@7", ""),
        ("", "a@1", "b@7", ""),
    ] {
        let found = loads(loaded, failed).cannot_serve(&served, &set(by_others));
        assert_eq!(found, set(cannot), "{loaded} / {failed} / {by_others}");
    }
}

#[test]
fn who_fails_to_load_and_who_is_not_meant_to_lack_the_same() {
    let contested = set("a@1 b@1");
    let lacking = |loaded, failed, placed: &str| {
        let placed = set(placed);
        loads(loaded, failed).lacking(&contested, &contested, |key| placed.contains(key))
    };
    assert_eq!(lacking("a@1 b@1", "", "a@1 b@1"), 0);
    assert_eq!(lacking("a@1", "b@1", "a@1 b@1"), 1);
    assert_eq!(lacking("a@1", "", "a@1"), 1);
    // On its way.
    assert_eq!(lacking("a@1", "", "a@1 b@1"), 0);
    // Placed elsewhere, and loaded all the same.
    assert_eq!(lacking("a@1 b@1", "", ""), 0);
    assert_eq!(lacking("", "", ""), 2);
}

#[test]
fn of_what_nobody_could_load_another_version_stands_in() {
    let (contested, loaded) = (set("a@2"), set("a@1 b@1"));
    let lacking = |own, failed| loads(own, failed).lacking(&contested, &loaded, |_| true);
    assert_eq!(lacking("a@1", "a@2"), 0);
    assert_eq!(lacking("a@1", ""), 0);
    assert_eq!(lacking("", "a@2"), 1);
    // Not tried yet, and nobody could.
    assert_eq!(lacking("", ""), 1);
    assert_eq!(lacking("b@1", "a@2"), 1);
}

#[test]
fn the_windows_follow_the_timing() {
    let (fast, standard) = (TimingPolicy::fast(), TimingPolicy::standard());
    assert_eq!(
        (session_window(&fast), detection_window(&fast)),
        (seconds(1), seconds(3))
    );
    assert_eq!(
        (session_window(&standard), detection_window(&standard)),
        (seconds(15), seconds(15))
    );
}

const NAMES: [&str; 4] = ["eu", "us", "ap", "sa"];

fn any_region(name: &'static str) -> impl Strategy<Value = RegionView> {
    let health = prop::sample::select(vec![Health::Healthy, Health::Unhealthy, Health::Recovering]);
    let silent = prop::option::of(prop::sample::select(vec![0, 900, 1_000, 1_001, 3_000, 90_000]));
    (health, silent, any::<bool>(), 0..2_u64).prop_map(move |(health, silent, ready, verified)| RegionView {
        ready,
        coverage: Coverage { wanted: 1, verified },
        ..view(name, health, silent)
    })
}

fn any_probe() -> impl Strategy<Value = Probe> {
    let name = || prop::sample::select(NAMES.to_vec());
    (name(), name(), 0..6_u32, 0..6_u64).prop_map(|(from, to, failures, age)| Probe {
        age: seconds(age),
        ..probe(from, to, failures)
    })
}

fn any_regions() -> impl Strategy<Value = Vec<RegionView>> {
    NAMES.map(any_region).prop_map(Vec::from)
}

fn distinct(probes: &[Probe], to: &RegionId) -> usize {
    let failing = probes
        .iter()
        .filter(|p| &p.to == to && &p.from != to && p.failures >= 3);
    failing
        .map(|p| &p.from)
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

proptest! {
    #[test]
    fn one_vantage_alone_never_condemns_a_region(
        regions in any_regions(), probes in prop::collection::vec(any_probe(), 0..12), since in 0..10_u64,
    ) {
        let timing = TimingPolicy::fast();
        let due = verdicts(&regions, &probes, seconds(since), &timing);
        for transition in due.iter().filter(|t| t.to == Health::Unhealthy) {
            prop_assert!(distinct(&probes, &transition.region) >= 2);
            prop_assert!(seconds(since) >= detection_window(&timing));
            let view = regions.iter().find(|r| r.region == transition.region).unwrap();
            prop_assert!(view.silent_for.is_none_or(|s| s > session_window(&timing)));
        }
    }

    #[test]
    fn a_verdict_starts_from_the_committed_one_and_takes_an_allowed_way(
        regions in any_regions(), probes in prop::collection::vec(any_probe(), 0..12), since in 0..10_u64,
    ) {
        let due = verdicts(&regions, &probes, seconds(since), &TimingPolicy::fast());
        for t in &due {
            let view = regions.iter().find(|r| r.region == t.region).unwrap();
            prop_assert_eq!(view.health, t.from);
            prop_assert!(t.from != t.to && (t.from, t.to) != (Health::Unhealthy, Health::Healthy));
            let able = view.ready && view.coverage.is_complete();
            prop_assert!(t.to != Health::Healthy || able);
            prop_assert!(!t.evidence.is_empty());
        }
    }
}
