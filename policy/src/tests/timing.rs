//! How fast elections may be over which distance, and who changes when.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use types::{NodeId, election::ElectionTiming};

use crate::timing::{
    CALM, Choice, HEARTBEAT_MOST, NotYet, Pair, Standing, Turn, admits, asks_who_is_fit, choose, fits,
    for_distance, is_still_due, next_turn, waits,
};

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// `"a-b 80, a-c ?"`: in milliseconds.
fn pairs(text: &str) -> Vec<Pair> {
    let pair = |one: &str| {
        let (names, far) = one.trim().split_once(' ').unwrap();
        let (a, b) = names.split_once('-').unwrap();
        Pair {
            a: node(a),
            b: node(b),
            round_trip: far.parse().ok().map(millis),
        }
    };
    text.split(',')
        .filter(|one| !one.trim().is_empty())
        .map(pair)
        .collect()
}

fn timing(heartbeat: u64) -> ElectionTiming {
    let base = for_distance(Duration::ZERO);
    ElectionTiming {
        heartbeat: millis(heartbeat),
        election_min: (millis(heartbeat) * 3).max(base.election_min),
        election_max: (millis(heartbeat) * 3).max(base.election_min) * 8 / 5,
    }
}

#[test]
fn a_loopback_has_the_defaults_and_a_wan_what_it_needs() {
    for (worst, heartbeat, min, max) in [
        (0, 50, 250, 400),
        (1, 50, 250, 400),
        (22, 50, 250, 400),
        (25, 60, 250, 400),
        (80, 180, 540, 864),
        (150, 330, 990, 1_584),
        (250, 550, 1_650, 2_640),
        (60_000, 2_000, 6_000, 9_600),
    ] {
        let found = for_distance(millis(worst));
        let expected = [heartbeat, min, max].map(millis);
        assert_eq!(
            [found.heartbeat, found.election_min, found.election_max],
            expected,
            "{worst} ms"
        );
    }
    assert_eq!(for_distance(Duration::ZERO), ElectionTiming::default());
}

#[test]
fn a_timing_follows_the_farthest_pair_and_not_its_jitter() {
    let change = |heartbeat| Some(timing(heartbeat));
    for (current, distances, calm_for, expected) in [
        // Nobody to measure.
        (50, "", CALM, None),
        (50, "a-b 1", CALM, None),
        // Longer at once, also while others are unknown.
        (50, "a-b 80", Duration::ZERO, change(180)),
        (50, "a-b 80, a-c ?, b-c ?", Duration::ZERO, change(180)),
        (180, "a-b 80, a-c 250, b-c 200", Duration::ZERO, change(550)),
        // Within the room that was left: nothing, a little nearer: nothing.
        (180, "a-b 90", CALM, None),
        (180, "a-b 60", CALM, None),
        (180, "a-b 91", Duration::ZERO, change(200)),
        // Much nearer: after a while, and only if all are known.
        (550, "a-b 80", Duration::ZERO, None),
        (550, "a-b 80", CALM, change(180)),
        // Seven tenths are much nearer, and more is not.
        (200, "a-b 63", CALM, change(140)),
        (200, "a-b 65", CALM, None),
        (550, "a-b 80, a-c ?, b-c 10", CALM, None),
        // As long as it gets.
        (2_000, "a-b 5000", CALM, None),
    ] {
        let found = match choose(&timing(current), &pairs(distances), calm_for) {
            Choice::Change { timing, .. } => Some(timing),
            Choice::Keep | Choice::Shorter => None,
        };
        assert_eq!(
            found, expected,
            "{current} ms, {distances}, calm for {calm_for:?}"
        );
    }
    let Choice::Change { reason, .. } = choose(&timing(50), &pairs("a-b 80, b-c 250"), CALM) else {
        panic!("it does not fit");
    };
    assert_eq!(reason, "the longest round trip is 250ms, between b and c");
}

#[test]
fn a_plan_holds_up_a_shorter_timing_and_no_longer_one() {
    for (from, to, plan_runs, expected) in [
        (550, 180, true, true),
        (550, 180, false, false),
        (180, 550, true, false),
        (180, 180, true, false),
    ] {
        assert_eq!(
            waits(&timing(from), &timing(to), plan_runs),
            expected,
            "{from} to {to} ms, a plan runs: {plan_runs}"
        );
    }
}

#[test]
fn a_newcomer_votes_once_its_distance_from_every_voter_fits() {
    for (heartbeat, distances, expected) in [
        (50, "a-n 10, b-n 20, a-b 500", Ok(())),
        (50, "a-n 10, b-n ?", Err(NotYet::Unmeasured(node("b")))),
        (50, "n-a 150", Err(NotYet::TooFar(node("a"), millis(150)))),
        (330, "n-a 150, b-n 80", Ok(())),
        (50, "", Ok(())),
    ] {
        let found = admits(&timing(heartbeat), &node("n"), &pairs(distances));
        assert_eq!(found, expected, "{heartbeat} ms, {distances}");
    }
}

/// `"a 50 9, b - 3, l? 50 1"`: heartbeat and last index; `-` is silent, `?` a learner, `!` a witness, `~` a voter that is stuck,
/// and was told so the longer ago the more of them there are, `*` one that could not take over now.
fn members(text: &str) -> BTreeMap<NodeId, Standing> {
    let one = |word: &str| {
        let mut fields = word.split_whitespace();
        let name = fields.next().unwrap();
        let waves = name.matches('~').count() as u64;
        let standing = Standing {
            voter: !name.contains('?'),
            may_lead: !name.contains('!'),
            fit: !name.contains('*'),
            stuck: (waves > 0).then_some(millis(waves)),
            timing: fields.next().unwrap().parse().ok().map(timing),
            matched: fields.next().unwrap().parse().unwrap(),
        };
        (node(name.trim_end_matches(['?', '!', '~', '*'])), standing)
    };
    text.split(',').map(one).collect()
}

#[test]
fn one_changes_at_a_time_and_never_under_a_leader_that_is_too_slow_for_it() {
    let tell = |name: &str| Turn::Tell(node(name));
    let hand_over = |name: &str| Turn::HandOver(node(name));
    for (target, standing, expected) in [
        // Longer: the followers first, learners too.
        (500, "a 50 9, b 50 9, c 50 9", tell("b")),
        (500, "a 50 9, b 500 9, c 50 9", tell("c")),
        (500, "a 50 9, b 500 9, c 500 9, d? 50 1", tell("d")),
        (500, "a 50 9, b 500 8, c 500 9", hand_over("c")),
        (500, "a 500 9, b 500 8, c 500 9", Turn::Nobody),
        (500, "b 50 9, a 500 9, c 500 9", tell("b")),
        // Who is silent holds nobody up.
        (500, "a 50 9, b - 9, c 500 9", hand_over("c")),
        (500, "a 50 9, b - 9, c - 9", Turn::Here),
        (500, "a 50 9", Turn::Here),
        // A learner cannot lead, and a witness would only hand leadership back.
        (500, "a 50 9, b? 500 9", Turn::Here),
        (500, "a 50 9, b! 500 9, c 500 1", hand_over("c")),
        (500, "a 50 9, b! 500 9, c - 1", Turn::Here),
        (50, "a 500 9, b! 500 9, c 500 9", tell("c")),
        (50, "a 500 9, b! 500 9, c - 9", Turn::Here),
        (50, "a 50 9, b! 500 9, c - 9", tell("b")),
        // Shorter: one goes first and leads.
        (50, "a 500 9, b 500 9, c 500 9", tell("b")),
        (50, "a 500 9, b 50 9, c 500 9", hand_over("b")),
        (50, "a 50 9, b 500 9, c 500 9", tell("b")),
        (50, "a 50 9, b 50 9, c 500 9", tell("c")),
        (50, "a 50 9, b 50 9, c 50 9", Turn::Nobody),
        // One that cannot change holds nobody up, and is asked on when all others have changed.
        (500, "a 50 9, b~ 50 9, c 50 9", tell("c")),
        (500, "a 50 9, b~ 50 9, c 500 9", Turn::Here),
        (500, "b~ 50 9, a 500 9, c 500 9", tell("b")),
        (50, "a 500 9, b~ 500 9, c 500 9", tell("c")),
        (50, "a 50 9, b~ 500 9, c 500 9", tell("c")),
        (50, "a 50 9, b~ 500 9, c 50 9", tell("b")),
        // As many as could elect another leader would do so under one that is too slow for them.
        (500, "a 50 9, b~ 50 9, c~ 50 9", tell("b")),
        (500, "a 50 9, b~ 50 9, c~ 50 9, d 500 9, e 500 9", Turn::Here),
        (500, "a 50 9, b~ 50 9, c~ 50 9, d 500 9", tell("b")),
        (500, "a 50 9, b~ 50 9", tell("b")),
        // Less than half, and nobody is left who could lead meanwhile: the leader changes in place.
        (500, "a 50 9, b~ 50 9, c - 9", Turn::Here),
        (500, "a 50 9, b~ 50 9, c! 500 9", Turn::Here),
        (500, "a 50 9, b~ 50 9, c! 50 9", tell("c")),
        (500, "a 500 9, b~ 50 9, c! 500 9", tell("b")),
        (500, "b~ 50 9, a 500 9, c! 500 9", tell("b")),
        // To a shorter timing without any number of them.
        (50, "a 500 9, b~ 500 9, c! 500 9", Turn::Here),
        (50, "a 500 9, b~ 500 9", Turn::Here),
        (50, "a 500 9, b~ 500 9, c~ 500 9", Turn::Here),
        (50, "a 500 9, b~ 500 9, c 50 9", hand_over("c")),
        // Those that are stuck in turn, whoever waits longest: one that never can does not keep it from the others.
        (500, "a 500 9, b~ 50 9, c~~ 50 9", tell("c")),
        (500, "a 500 9, b~~ 50 9, c~ 50 9", tell("b")),
        (500, "a 50 9, b~ 50 9, c~~ 50 9", tell("c")),
        // With a leader that is stuck as well, which may change before them, or be too many with them once another leads.
        (500, "a~ 50 9, b~ 50 9, c! 500 9", tell("b")),
        (500, "a~~ 50 9, b~ 50 9, c! 500 9", Turn::Here),
        (500, "a~ 50 9, b~~ 50 9, c 500 9", tell("b")),
        (500, "a~~ 50 9, b~ 50 9, c 500 9", Turn::Here),
        (500, "a~ 50 9, b~~ 50 9, c 500 9, d 500 9", tell("b")),
        (
            500,
            "a~ 50 9, b~~ 50 9, c 500 9, d 500 9, e 500 9",
            hand_over("e"),
        ),
        (
            500,
            "a~ 50 9, b~~ 50 9, c~ 50 9, d 500 9, e 500 9, f 500 9",
            tell("b"),
        ),
        (500, "a~ 50 9, b~~? 50 9, c 500 9, d 500 9", hand_over("d")),
        (500, "a~ 50 9, b 500 9, c 500 8", hand_over("b")),
        // Who does not vote elects nobody.
        (500, "a~ 50 9, b~~? 50 9, c 500 9", hand_over("c")),
        (500, "a 50 9, b~~? 50 9, c 500 9", hand_over("c")),
        (500, "a~ 50 9, b 50 9, c~~ 50 9", tell("b")),
        (50, "a~ 500 9, b~ 500 9, c~~ 500 9", tell("c")),
        (50, "a~~~ 500 9, b~ 500 9, c~~ 500 9", Turn::Here),
        // Under a leader that beats slowly only one that can lead then.
        (50, "a~ 500 9, b~~! 500 9, c~~? 500 9", Turn::Here),
        (50, "a~ 500 9, b~~! 500 9, c~ 500 9", tell("c")),
        (50, "a~ 500 9, b 500 9, c~~ 500 9", tell("b")),
        (50, "a~ 500 9", Turn::Here),
        // To nobody who could not take over; who could not is told all the same.
        (500, "a 50 9, b* 500 9, c 500 8", hand_over("c")),
        (500, "a 50 9, b* 500 9, c 50 9", tell("c")),
        (500, "a 50 9, b* 500 9, c - 9", Turn::Here),
        (50, "a 500 9, b* 500 9, c - 9", tell("b")),
        (50, "a 500 9, b* 500 9, c 500 8", tell("c")),
        (50, "a 500 9, b~ 500 9, c* 500 8", tell("c")),
        // To a shorter one no second is told beside one that could not take over: that one is waited for, then the leader changes.
        (50, "a 500 9, b* 50 9, c 500 9", tell("b")),
        (50, "a 500 9, b~* 50 9, c 500 9", Turn::Here),
        (50, "a 500 9, b~* 50 9, c* 50 9, d 500 9", tell("c")),
        (50, "a 500 9, b~ 50 9, c 500 9", hand_over("b")),
        (50, "a 500 9, b* 50 9, c 50 1", hand_over("c")),
        (50, "a 500 9, b!* 50 9, c 500 9", tell("c")),
        // Nor beside one that an earlier target made quicker than the leader is: that one goes on first.
        (50, "a 2000 9, b 2000 9, c* 60 9", tell("c")),
        (50, "a 2000 9, b 2000 9, c 60 9", tell("c")),
        (500, "a 2000 9, b 2000 9, c* 60 9", tell("c")),
        (50, "a 2000 9, b 2000 9, c~* 60 9", Turn::Here),
        (50, "a 2000 9, b 2000 9, c 2010 9", tell("b")),
        // Unless it cannot: the second can, and leads.
        (50, "a~ 500 9, b~~* 50 9, c 500 9", tell("c")),
        (50, "a~ 500 9, b~~* 50 9, c - 9", Turn::Here),
    ] {
        let found = next_turn(&timing(target), &node("a"), &members(standing));
        assert_eq!(found, expected, "to {target} ms: {standing}");
    }
}

#[test]
fn what_hangs_on_who_is_fit_waits_for_their_answers() {
    let (here, hand_over, tell) = (Turn::Here, Turn::HandOver(node("b")), Turn::Tell(node("b")));
    for (turn, from, to, expected) in [
        (&here, 50, 500, true),
        (&hand_over, 50, 500, true),
        (&tell, 50, 500, false),
        (&tell, 50, 50, false),
        (&tell, 500, 50, true),
        (&hand_over, 500, 50, true),
        (&Turn::Nobody, 50, 50, false),
    ] {
        let found = asks_who_is_fit(turn, &timing(from), &timing(to));
        assert_eq!(found, expected, "{turn:?} from {from} to {to} ms");
    }
}

#[test]
fn what_was_written_down_counts_only_where_it_is_still_due() {
    let (leader, follower, another) = (true, false, Some(60));
    for (setting, as_leader, leads_now, waits, expected) in [
        (Some(50), leader, leader, false, true),
        (Some(50), leader, leader, true, false),
        (Some(50), follower, follower, false, true),
        (Some(50), follower, follower, true, true),
        (None, follower, follower, false, true),
        (another, leader, leader, false, false),
        (another, follower, follower, false, false),
        (Some(50), leader, follower, false, false),
        (Some(50), follower, leader, false, false),
    ] {
        let found = is_still_due(
            &timing(50),
            setting.map(timing).as_ref(),
            as_leader,
            leads_now,
            waits,
        );
        assert_eq!(
            found, expected,
            "{setting:?}, as leader: {as_leader}, leads now: {leads_now}, waits: {waits}"
        );
    }
}

proptest! {
    #[test]
    fn what_is_called_for_fits_and_is_valid(worst in 0u64..900, current in 5u64..200) {
        let current = timing(current * 10);
        let pairs = pairs(&format!("a-b {worst}, b-c 0, a-c ?"));
        prop_assert!(for_distance(millis(worst)).validate().is_ok());
        prop_assert!(fits(&for_distance(millis(worst)), millis(worst)));
        match choose(&current, &pairs, CALM) {
            Choice::Change { timing, .. } => {
                prop_assert!(fits(&timing, millis(worst)));
                // A round trip is unknown.
                prop_assert!(timing > current);
                let again = choose(&timing, &pairs, CALM);
                prop_assert_eq!(again, Choice::Keep);
            }
            Choice::Keep | Choice::Shorter => prop_assert!(fits(&current, millis(worst)) || current.heartbeat == HEARTBEAT_MOST),
        }
    }

    /// Whoever cannot change, or is silent, all others do, also who could not at first; to a longer timing as long as those that
    /// cannot are less than half.
    #[test]
    fn who_cannot_change_holds_nobody_up(start in 5u64..60, target in 5u64..60, first in prop::sample::select(vec![0u8, 1, 4]), others in prop::collection::vec(0u8..6, 0..5)) {
        let (start, target) = (timing(start * 10), timing(target * 10));
        // Never; a witness; silent; not yet; it changes and cannot take over.
        let [never, witness, silent, later, unfit] = [1, 2, 3, 4, 5];
        let kinds: Vec<u8> = [first].into_iter().chain(others).collect();
        let names = ["a", "b", "c", "d", "e"];
        let kind = |who: &NodeId| kinds[names.iter().position(|name| node(name) == *who).unwrap()];
        let one = |(i, kind): (usize, &u8)| {
            let timing = (*kind != silent).then_some(start);
            let standing = Standing { voter: true, may_lead: *kind != witness, fit: *kind != unfit, timing, stuck: None, matched: 1 };
            (node(names[i]), standing)
        };
        let mut all: BTreeMap<NodeId, Standing> = kinds.iter().enumerate().map(one).collect();
        let mut leader = node("a");
        for step in 0..60 {
            for standing in all.values_mut() {
                standing.stuck = standing.stuck.map(|ago| ago + millis(1));
            }
            let who = match next_turn(&target, &leader, &all) {
                Turn::Nobody => break,
                Turn::Tell(who) => who,
                Turn::HandOver(who) => {
                    prop_assert!(all[&who].fit);
                    // All that are known to be stuck could elect nobody under one that is too slow for them.
                    let stuck = all.values().filter(|m| m.stuck.is_some() && m.timing == Some(start)).count();
                    let is_known = stuck == 0 || all[&leader].stuck.is_some();
                    prop_assert!(target < start || is_known && (stuck < 2 || stuck * 2 < all.len()), "{:?}", all);
                    leader = who;
                    all.values_mut().for_each(|standing| standing.stuck = None);
                    continue;
                }
                Turn::Here => leader.clone(),
            };
            let can = kind(&who) != never && (kind(&who) != later || step > 20);
            let standing = all.get_mut(&who).unwrap();
            match can && standing.timing == Some(start) {
                true => standing.timing = Some(target),
                false => standing.stuck = Some(Duration::ZERO),
            }
        }
        // Where nobody who can lead can change, the leader beats slowly, and whoever does not lead waits for that. To a longer one
        // those that cannot change would elect another.
        let could = |who: &NodeId| all[who].fit || *who == leader;
        let may = |who: &NodeId| all[who].may_lead && could(who) && kind(who) != never && kind(who) != silent;
        let unable = all.keys().filter(|who| kind(who) == never).count();
        if (target < start && !all.keys().any(may)) || (target > start && unable * 2 >= all.len()) {
            return Ok(());
        }
        for (who, standing) in &all {
            let changed = standing.timing.is_none_or(|t| t == target);
            prop_assert!(changed || kind(who) == never, "{} stays behind: {:?}", who, all);
        }
    }

    /// Whoever is told next and whoever can take over when, and also where another target comes in between, the change ends, and each step is
    /// one member's.
    #[test]
    fn a_change_ends(
        start in 5u64..60,
        targets in prop::array::uniform2(5u64..60),
        comes in 0usize..12,
        voters in 1usize..6,
        learners in 0usize..3,
        fit_from in prop::collection::vec(prop::sample::select(vec![0usize, 0, 3, 9, 99]), 8),
    ) {
        let start = timing(start * 10);
        let targets = targets.map(|target| timing(target * 10));
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut all: BTreeMap<NodeId, Standing> = (0..voters + learners).map(|i| {
            let standing = Standing { voter: i < voters, may_lead: true, fit: true, timing: Some(start), stuck: None, matched: 1 };
            (node(names[i]), standing)
        }).collect();
        let mut leader = node("a");
        let mut ended = false;
        for step in 0..60 {
            let target = targets[usize::from(step >= comes)];
            if step == comes {
                all.values_mut().for_each(|standing| standing.stuck = None);
            }
            for (i, standing) in all.values_mut().enumerate() {
                standing.fit = step >= fit_from[i];
            }
            let who = match next_turn(&target, &leader, &all) {
                Turn::Nobody if step < comes => continue,
                Turn::Nobody => {
                    ended = true;
                    break;
                }
                Turn::Tell(who) => who,
                Turn::HandOver(who) => {
                    prop_assert!(all[&who].voter && all[&who].fit);
                    leader = who;
                    continue;
                }
                Turn::Here => {
                    let another = all.iter().any(|(node, m)| *node != leader && m.voter && m.fit && m.timing == Some(target));
                    prop_assert!(!another);
                    leader.clone()
                }
            };
            let standing = all.get_mut(&who).unwrap();
            if standing.timing == Some(target) {
                // Waited for, for a while.
                standing.stuck = (step > comes + 6).then_some(Duration::ZERO);
                continue;
            }
            // Under a leader that is slower than it expects only one that stands alone with that.
            let slower = |t: ElectionTiming| t.election_min < all[&leader].timing.unwrap().heartbeat * 3;
            if who != leader && slower(target) {
                let others = all.iter().filter(|(node, m)| **node != who && m.voter);
                let impatient = others.filter(|(_, m)| slower(m.timing.unwrap())).count();
                prop_assert_eq!(impatient, 0, "{} to {:?} under {}: {:?}", who, target, leader, all);
            }
            all.get_mut(&who).unwrap().timing = Some(target);
        }
        prop_assert!(ended && all.values().all(|m| m.timing == Some(targets[1])), "{:?}", all);
    }
}
