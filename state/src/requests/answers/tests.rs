//! Against a plain ordered map, with ids that come late, early and twice.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::reply::Reply;

fn answered(id: u128) -> Answered {
    let modified = types::Revision(u64::try_from(id).unwrap());
    Answered {
        id: RequestId::from_u128(id),
        digest: Digest::of(&id.to_be_bytes()),
        at: UnixMillis(modified.0),
        outcome: Kept::of(&Ok(Reply::Done { modified })),
    }
}

/// What is there, as a map would hold it, and what the map itself must keep to.
fn check(answers: &Answers, expected: &BTreeMap<u128, Answered>) {
    assert!(answers.iter().eq(expected.values()));
    assert_eq!(answers.len(), expected.len() as u64);
    assert_eq!(answers.first(), expected.values().next());
    assert_eq!(answers.sum(), answers.sum_from_scratch());
    for (key, chunk) in &answers.chunks {
        assert!(chunk.len() < CHUNK_MAX && chunk.front().is_some_and(|first| *key <= first.id));
    }
}

#[test]
fn an_answer_takes_80_bytes_and_the_ordinary_one_no_more() {
    assert_eq!(size_of::<Answered>(), 80);
    let ordinary = Kept::of(&Ok(Reply::Done {
        modified: types::Revision(1 << 40),
    }));
    assert!(matches!(ordinary, Kept::Inline(..)), "{:?}", ordinary.bytes());
}

#[test]
fn answers_that_differ_in_anything_are_not_equal() {
    let with = |last: Answered| {
        let mut answers = Answers::default();
        for answered in [answered(1), answered(2), last] {
            assert!(answers.insert(answered));
        }
        answers
    };
    let three = with(answered(3));
    assert_eq!(three, with(answered(3)));
    let (other, outcome) = (answered(4), answered(4).outcome);
    assert_ne!(outcome, answered(3).outcome);
    assert_ne!(three, with(other));
    assert_ne!(
        three,
        with(Answered {
            outcome,
            ..answered(3)
        })
    );
    let mut fewer = three.clone();
    assert_eq!(fewer.pop_first(), Some(answered(1)));
    assert_ne!(three, fewer);
    let told = format!("{three:?}");
    assert!(told.contains("Done { modified: r3 }"), "{told}");
}

/// Ids of requests that ran side by side: nearly in order. What is left of the room is little.
#[test]
fn chunks_of_ids_that_come_nearly_in_order_are_nearly_full() {
    let mut answers = Answers::default();
    for n in 0..20_000_u128 {
        // Each group of 64 comes backwards.
        assert!(answers.insert(answered(n ^ 63)));
    }
    let room: usize = answers.chunks.values().map(|chunk| chunk.capacity()).sum();
    assert!(room < 20_000 * 3 / 2, "room for {room}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_are_an_ordered_map(
        steps in prop::collection::vec((0..3_000_u128, 0..10_u8), 1..3_000),
        cut: prop::sample::Index,
    ) {
        let cut = cut.index(steps.len());
        let (mut answers, mut expected) = (Answers::default(), BTreeMap::new());
        let mut shared = None;
        for (n, (id, dice)) in steps.into_iter().enumerate() {
            if dice == 0 {
                prop_assert_eq!(answers.pop_first(), expected.pop_first().map(|(_, first)| first));
            } else {
                let new = !expected.contains_key(&id);
                expected.entry(id).or_insert_with(|| answered(id));
                prop_assert_eq!(answers.insert(answered(id)), new);
            }
            prop_assert_eq!(answers.get(RequestId::from_u128(id)), expected.get(&id));
            if n == cut {
                shared = Some((answers.clone(), expected.clone()));
            }
        }
        check(&answers, &expected);
        // What came later did not reach the clone.
        let (answers, expected) = shared.unwrap();
        check(&answers, &expected);
        let again: Vec<_> = expected.values().rev().cloned().collect();
        let mut other = Answers::default();
        again.into_iter().for_each(|one| assert!(other.insert(one)));
        prop_assert_eq!(other, answers);
    }
}
