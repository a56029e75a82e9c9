//! Histories of which is known whether they are right, by hand and by making them so; small ones against every order there is.

use proptest::prelude::*;
use rand::seq::SliceRandom as _;

use super::*;

const fn call(began: u64, ended: u64, op: Op) -> Call {
    Call {
        began,
        ended: Some(ended),
        op,
    }
}

const fn unknown(began: u64, op: Op) -> Call {
    Call {
        began,
        ended: None,
        op,
    }
}

use Op::{Read, Refused, Swap, Write};

#[test]
fn histories_that_are_known() {
    let (one, two, none) = (Some(1), Some(2), None);
    for (calls, expected) in [
        (vec![], true),
        (vec![call(0, 1, Read(none))], true),
        (vec![call(0, 1, Read(one))], false),
        (vec![call(0, 1, Write(1)), call(2, 3, Read(one))], true),
        // A stale read: after the answer.
        (vec![call(0, 1, Write(1)), call(2, 3, Read(none))], false),
        // Beside it: either.
        (vec![call(0, 3, Write(1)), call(1, 2, Read(none))], true),
        (vec![call(0, 3, Write(1)), call(1, 2, Read(one))], true),
        // In the same microsecond they may have overlapped.
        (vec![call(0, 1, Write(1)), call(1, 2, Read(none))], true),
        // Two readers that saw two writes in two orders.
        (
            vec![
                call(0, 9, Write(1)),
                call(0, 9, Write(2)),
                call(1, 2, Read(one)),
                call(3, 4, Read(two)),
                call(5, 6, Read(one)),
            ],
            false,
        ),
        // A lost update: both swaps from the same value.
        (
            vec![
                call(0, 1, Write(1)),
                call(2, 5, Swap(one, 2)),
                call(2, 5, Swap(one, 3)),
            ],
            false,
        ),
        (
            vec![
                call(0, 1, Write(1)),
                call(2, 5, Swap(one, 2)),
                call(2, 5, Refused(one)),
            ],
            true,
        ),
        // Refused although nothing else could have been there.
        (vec![call(0, 1, Write(1)), call(2, 5, Refused(one))], false),
        // What nobody answered may have happened, late or never.
        (
            vec![
                unknown(0, Write(1)),
                call(2, 3, Read(none)),
                call(4, 5, Read(one)),
            ],
            true,
        ),
        (
            vec![
                unknown(0, Write(1)),
                call(2, 3, Read(one)),
                call(4, 5, Read(none)),
            ],
            false,
        ),
        (vec![call(2, 3, Read(one)), unknown(4, Write(1))], false),
        (vec![unknown(0, Swap(two, 1)), call(2, 3, Read(one))], false),
        (vec![unknown(0, Write(1))], true),
        // It came to pass between two others that began long after it.
        (
            vec![
                unknown(0, Swap(two, 1)),
                call(5, 6, Write(2)),
                call(7, 8, Read(two)),
                call(9, 10, Refused(two)),
            ],
            true,
        ),
    ] {
        let found = check(&calls);
        assert_eq!(found == Found::Linearizable, expected, "{calls:?}: {found:?}");
    }
}

#[test]
fn what_no_order_gets_beyond_is_named_with_what_may_be_there() {
    let calls = [
        call(0, 1, Write(1)),
        call(2, 5, Write(2)),
        call(2, 5, Write(3)),
        call(6, 7, Read(Some(1))),
    ];
    let Found::Impossible { call, mut held } = check(&calls) else {
        panic!("it is not linearizable");
    };
    held.sort_unstable();
    assert_eq!((call, held), (3, vec![Some(2), Some(3)]));
}

#[test]
fn a_search_that_takes_too_long_is_given_up() {
    let calls = [
        call(0, 1, Write(1)),
        call(0, 1, Write(2)),
        call(2, 3, Read(Some(3))),
    ];
    assert_eq!(Search::new(&calls).run(3), Found::GivenUp(3));
}

/// A history that is right: each call takes effect at one instant between its beginning and its end.
fn made(seed: u64, processes: u64, calls: usize, unknown_of_1000: u32) -> Vec<Call> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut held: Value = None;
    // Each process does one thing at a time: the instants in order, and around each a span that reaches into those of others.
    let mut free = vec![0u64; usize::try_from(processes).unwrap()];
    let mut next = 0;
    let mut all = Vec::with_capacity(calls);
    for instant in (1..=calls as u64).map(|n| n * 10) {
        let able: Vec<usize> = (0..free.len()).filter(|p| free[*p] < instant).collect();
        let Some(process) = able.get(random.random_range(0..able.len().max(1))).copied() else {
            continue;
        };
        let began = random.random_range(free[process].max(instant.saturating_sub(10 * processes))..instant);
        let ended = instant + random.random_range(1..10 * processes);
        next += 1;
        let op = match random.random_range(0..10) {
            0..4 => Read(held),
            4..7 => Write(next),
            7..9 => Swap(held, next),
            _ => Refused(Some(u64::MAX)),
        };
        held = op.apply(held).unwrap();
        // Of a call with an unknown outcome the process goes on under another name.
        let is_unknown = !op.changes_nothing() && random.random_range(0..1000) < unknown_of_1000;
        free[process] = ended;
        all.push(Call {
            began,
            ended: (!is_unknown).then_some(ended),
            op,
        });
    }
    all.sort_by_key(|call| call.began);
    all
}

/// Every order there is: for histories so small that this ends.
fn by_trying_all(calls: &[Call], left: &mut Vec<usize>, held: Value) -> bool {
    if left.iter().all(|n| calls[*n].ended.is_none()) {
        return true;
    }
    let first_end = left.iter().filter_map(|n| calls[*n].ended).min();
    for i in 0..left.len() {
        let n = left[i];
        let may_come_next = first_end.is_none_or(|end| calls[n].began <= end);
        let Some(then) = calls[n].op.apply(held).filter(|_| may_come_next) else {
            continue;
        };
        left.remove(i);
        let found = by_trying_all(calls, left, then);
        left.insert(i, n);
        if found {
            return true;
        }
    }
    false
}

#[test]
fn ten_thousand_operations_of_ten_clients_are_judged_either_way() {
    let good = made(1, 10, 10_000, 2);
    assert!(good.len() > 9_000, "{}", good.len());
    assert_eq!(check(&good), Found::Linearizable);
    // One answer, far behind, that cannot be.
    let mut bad = good;
    let read = bad
        .iter()
        .rposition(|call| matches!(call.op, Read(Some(_))))
        .unwrap();
    bad[read].op = Read(Some(u64::MAX - 1));
    let Found::Impossible { .. } = check(&bad) else {
        panic!("a value that nobody wrote was read");
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_was_made_right_is_found_right(seed in any::<u64>(), processes in 1u64..8, calls in 0usize..300) {
        let mut calls = made(seed, processes, calls, 20);
        prop_assert_eq!(check(&calls), Found::Linearizable);
        // In whatever order the calls are listed.
        calls.shuffle(&mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(check(&calls), Found::Linearizable);
    }

    /// Right or wrong, the search says what trying every order says.
    #[test]
    fn small_histories_are_judged_as_by_trying_every_order(
        spans in prop::collection::vec((0u64..12, 1u64..8, prop::bool::weighted(0.15), 0u8..4, 0u64..3, 0u64..3), 0..8),
    ) {
        let calls: Vec<Call> = spans.into_iter().map(|(began, length, is_unknown, kind, a, b)| {
            let held = (a > 0).then_some(a);
            let op = match kind {
                0 => Read(held),
                1 => Write(b + 1),
                2 => Swap(held, b + 1),
                _ => Refused(held),
            };
            Call { began, ended: (!is_unknown).then_some(began + length), op }
        }).collect();
        let expected = by_trying_all(&calls, &mut (0..calls.len()).collect(), None);
        prop_assert_eq!(check(&calls) == Found::Linearizable, expected);
    }
}
