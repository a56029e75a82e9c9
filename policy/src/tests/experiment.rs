//! The same user gets the same arm for ever; a change of the split moves no more users than it must.

use std::collections::BTreeMap;

use proptest::prelude::*;
use types::{
    ModelVersion, Revision, UnixMillis,
    experiment::{Arm, ExperimentRecord, ExperimentState, Slots},
};

use crate::experiment::{assign, lay_out, slot};

/// Arms with versions 1, 2, … and these percents.
fn experiment(model: &str, name: &str, percents: &[u32]) -> ExperimentRecord {
    let arm = |(version, percent): (u64, &u32)| Arm {
        version: ModelVersion(version),
        percent: *percent,
        metrics: BTreeMap::new(),
    };
    ExperimentRecord {
        model: model.parse().unwrap(),
        name: name.parse().unwrap(),
        description: String::new(),
        state: ExperimentState::Running,
        arms: (1..).zip(percents).map(arm).collect(),
        slots: lay_out(None, percents).unwrap(),
        reason: String::new(),
        created_at: UnixMillis(1),
        created_by: "spiffe://regent.local/user/admin".parse().unwrap(),
        ended_at: None,
        modified: Revision(1),
    }
}

/// Computed by `python3 -c 'import hashlib; …'` from the words of the module's doc, and not by this code.
#[test]
fn slots_are_what_the_doc_says_byte_for_byte_and_never_change() {
    for (model, name, user, expected) in [
        ("fraud.scorer", "march", "user-1", 65),
        ("fraud.scorer", "march", "user-2", 11),
        ("fraud.scorer", "march", "user-3", 13),
        ("fraud.scorer", "april", "user-1", 99),
        ("fraud", "march", "user-1", 83),
        ("fraud.scorer", "march", "", 22),
        ("fraud.scorer", "march", "Zoë", 13),
        (
            "fraud.scorer",
            "march",
            "0190a1b2-0000-7000-8000-000000000001",
            41,
        ),
        ("fraud.scorer", "march", "user-12", 99),
    ] {
        let found = slot(&model.parse().unwrap(), &name.parse().unwrap(), user);
        assert_eq!(found, expected, "{model} {name} {user}");
    }
}

#[test]
fn a_user_gets_the_arm_of_their_slot_and_the_first_one_where_it_cannot_be_served() {
    let of = |servable: &[u64]| {
        let servable = servable.to_vec();
        move |user: &str| {
            let record = experiment("fraud.scorer", "march", &[90, 10]);
            let found = assign(&record, user, |v| servable.contains(&v.0)).unwrap();
            (found.slot, found.arm.0, found.version.map(|v| v.0))
        }
    };
    // Slots of the golden table: one below 90, one not.
    assert_eq!(of(&[1, 2])("user-1"), (65, 1, Some(1)));
    assert_eq!(of(&[1, 2])("user-12"), (99, 2, Some(2)));
    assert_eq!(of(&[1])("user-12"), (99, 2, Some(1)));
    assert_eq!(of(&[2])("user-1"), (65, 1, None));
    assert_eq!(of(&[])("user-12"), (99, 2, None));
}

/// Four standard deviations of a binomial: one run in 15,000 would miss it by chance, and there is one run, for ever.
#[test]
fn a_hundred_thousand_users_are_split_as_was_asked() {
    const USERS: u32 = 100_000;
    for percents in [&[50, 50][..], &[90, 10], &[34, 33, 33], &[1, 99], &[0, 100]] {
        let record = experiment("fraud.scorer", "march", percents);
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for user in 0..USERS {
            let found = assign(&record, &format!("user-{user}"), |_| true).unwrap();
            *counts.entry(found.arm.0).or_default() += 1;
        }
        for (version, percent) in (1..).zip(percents) {
            let count = i64::from(*counts.get(&version).unwrap_or(&0));
            let (users, percent) = (i64::from(USERS), i64::from(*percent));
            // In hundredths of a user, squared: whole numbers, as everywhere in this crate.
            let off = count * 100 - users * percent;
            let variance = users * percent * (100 - percent);
            assert!(
                off * off <= 16 * variance,
                "{percents:?}: version {version} has {count}"
            );
        }
    }
}

#[test]
fn slots_are_laid_out_in_the_order_of_the_arms_and_freed_from_the_top() {
    let first = lay_out(None, &[50, 30, 20]).unwrap();
    let runs = |slots: &Slots| {
        let mut runs: Vec<(u8, usize)> = Vec::new();
        for owner in slots.owners() {
            match runs.last_mut() {
                Some((arm, count)) if arm == owner => *count += 1,
                _ => runs.push((*owner, 1)),
            }
        }
        runs
    };
    assert_eq!(runs(&first), [(0, 50), (1, 30), (2, 20)]);
    // The third arm gives its upper half to the first; nobody of the second moves.
    let grown = lay_out(Some(&first), &[60, 30, 10]).unwrap();
    assert_eq!(runs(&grown), [(0, 50), (1, 30), (2, 10), (0, 10)]);
    let fourth = lay_out(Some(&grown), &[50, 30, 10, 10]).unwrap();
    assert_eq!(runs(&fourth), [(0, 50), (1, 30), (2, 10), (3, 10)]);
}

#[test]
fn what_does_not_add_up_has_no_layout() {
    for percents in [&[][..], &[99], &[101], &[50, 51], &[50, 49], &[u32::MAX, 1]] {
        assert_eq!(lay_out(None, percents), None, "{percents:?}");
    }
    assert_eq!(lay_out(None, &[0; 300]), None);
}

/// Percent of all users.
const HUNDRED: u32 = 100;

/// Percents of a few arms that add up.
fn split() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..=HUNDRED, 0..5).prop_map(|mut cuts| {
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([HUNDRED]);
        let mut last = 0;
        ends.map(|end| end - std::mem::replace(&mut last, end)).collect()
    })
}

proptest! {
    #[test]
    fn users_move_only_from_arms_that_shrank_to_arms_that_grew(splits in prop::collection::vec(split(), 1..8)) {
        let mut percents: Vec<u32> = Vec::new();
        let mut slots: Option<Slots> = None;
        for mut next in splits {
            // Arms are never taken away, only emptied.
            next.resize(next.len().max(percents.len()), 0);
            percents.resize(next.len(), 0);
            let laid = lay_out(slots.as_ref(), &next).unwrap();
            for (arm, percent) in next.iter().enumerate() {
                prop_assert_eq!(laid.count(arm), *percent as usize);
            }
            if let Some(before) = &slots {
                let moved: Vec<_> = before.owners().iter().zip(laid.owners()).filter(|(a, b)| a != b).collect();
                for (from, to) in &moved {
                    prop_assert!(next[usize::from(**from)] < percents[usize::from(**from)]);
                    prop_assert!(next[usize::from(**to)] > percents[usize::from(**to)]);
                }
                let grown: u32 = next.iter().zip(&percents).map(|(a, b)| a.saturating_sub(*b)).sum();
                prop_assert_eq!(moved.len(), grown as usize, "no more move than must");
            }
            (percents, slots) = (next, Some(laid));
        }
    }
}
