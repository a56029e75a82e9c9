//! The texts in refusals: how long they may be, and that no build's wording is in the integrity hash.

use types::{RequestId, UnixMillis};

use super::{
    bytes::frozen,
    samples,
    world::{START, World, same_records},
};
use crate::{
    Command, Feature, Rejection, Reply,
    codec::{decode_reply, decode_snapshot, encode_snapshot},
    requests::{Answered, Answers, Kept},
};

/// What is kept under one id.
fn sum_of(outcome: Kept) -> crate::hash::Sum {
    let mut answers = Answers::default();
    answers.insert(Answered {
        id: RequestId::v7_from_parts(START, 1),
        digest: types::Digest::of(b"asked"),
        at: UnixMillis(START),
        outcome,
    });
    answers.sum()
}

/// One refusal as two builds word it, and another one.
fn worded() -> Vec<[Rejection; 3]> {
    let text = str::to_owned;
    let stale = |what: &str, current| Rejection::StaleAttempt {
        what: text(what),
        shown: 1,
        current,
    };
    let limit = |what: &str, limit| Rejection::LimitExceeded {
        what: text(what),
        shown: 9,
        limit,
    };
    let denied = |needs: &str, name: &str| Rejection::PermissionDenied {
        actor: super::world::actor(name),
        needs: text(needs),
    };
    let target = |unmet: &[&str]| Rejection::TargetNotQualified {
        target: super::language::holder("eu/a1#1"),
        unmet: unmet.iter().copied().map(text).collect(),
    };
    let exists = |what: &str, name: &str| Rejection::AlreadyExists {
        what: text(what),
        name: text(name),
    };
    vec![
        [stale("the copy", 2), stale("a copy", 2), stale("the copy", 3)],
        [limit("bytes", 5), limit("size in bytes", 5), limit("bytes", 6)],
        [
            denied("a user", "eve"),
            denied("people", "eve"),
            denied("a user", "bob"),
        ],
        [
            target(&["it is down"]),
            target(&["is DOWN"]),
            target(&["it is down", "and far"]),
        ],
        [
            exists("model", "m"),
            exists("the model", "m"),
            exists("model", "n"),
        ],
        [
            Rejection::invalid("split", "is empty"),
            Rejection::invalid("the split", "has no arm"),
            Rejection::NotBootstrapped,
        ],
    ]
}

#[test]
fn how_a_build_words_a_refusal_is_not_in_the_hash_and_what_it_says_is() {
    for [first, reworded, other] in worded() {
        let sum = |refused: &Rejection| sum_of(Kept::settled(&Err(refused.clone())));
        assert_eq!(sum(&first), sum(&reworded), "{first} / {reworded}");
        assert_ne!(sum(&first), sum(&other), "{first} / {other}");
        // As it was kept below the level, all of it counts.
        let whole = |refused: &Rejection| sum_of(Kept::of(&Err(refused.clone())));
        assert_ne!(whole(&first), whole(&reworded), "{first} / {reworded}");
        assert_ne!(whole(&first), sum(&first));
        // Whoever asks again is told what was said first.
        assert_eq!(Kept::settled(&Err(first.clone())).outcome(), Err(first));
    }
    let done = Ok(Reply::Done {
        modified: types::Revision(7),
    });
    assert_eq!(Kept::settled(&done), Kept::of(&done));
}

/// The level rises in between: what was kept before stays as it was kept.
#[test]
fn refusals_of_before_and_of_the_level_come_through_a_snapshot_with_the_same_hash() {
    let mut world = World::standing();
    let level = Feature::SettledRefusals.level();
    let refused = |world: &mut World| world.line("SetAlias model=fraud.scorer alias=champion version=9");
    assert!(refused(&mut world).unwrap().outcome.is_err());
    let kept = |world: &World| {
        let answers = world.state.requests.answered.iter();
        answers.map(|a| a.outcome.clone()).collect::<Vec<_>>()
    };
    let before = kept(&world);
    world.lines(&format!("SetFeatureLevel level={level}"));
    assert!(refused(&mut world).unwrap().outcome.is_err());
    let after = kept(&world);
    assert_eq!(after.get(..before.len()), Some(before.as_slice()));
    let formats = |kept: &[Kept]| kept.iter().filter(|k| k.bytes().starts_with(&[8, 2])).count();
    assert_eq!((formats(&before), formats(&after)), (0, 1));
    let read = decode_snapshot(&encode_snapshot(&world.state)).unwrap();
    assert_eq!(read.state_hash(), world.state.state_hash());
    assert_eq!(read, world.state);
}

/// What a refusal of the level is kept as, and what of that is hashed, stay as they were decided: every build reads the first, and
/// comes to the second.
#[test]
fn the_bytes_of_refusals_of_the_level_are_still_read_and_hashed_alike() {
    let kept: Vec<_> = samples::rejections()
        .into_iter()
        .map(|refused| Kept::settled(&Err(refused)))
        .collect();
    let bytes: Vec<_> = kept.iter().map(|k| k.bytes().to_vec()).collect();
    let hashed: Vec<_> = kept.iter().map(|k| k.hashed().into_owned()).collect();
    assert_eq!(frozen("../v2/refusals.hashed.hex", &hashed), hashed);
    let read = frozen("../v2/refusals.hex", &bytes);
    assert_eq!(read.len(), bytes.len());
    for (bytes, refused) in read.iter().zip(samples::rejections()) {
        assert_eq!(decode_reply(bytes).unwrap(), Err(refused));
    }
}

/// Half a megabyte that somebody names twice is told and kept nowhere.
#[test]
fn a_refusal_quotes_no_more_than_a_little_of_its_request() {
    let level = Feature::SettledRefusals.level();
    let mut world = World::standing();
    world.lines(&format!("SetFeatureLevel level={level}\nactor eve"));
    let key = "k".repeat(500_000);
    let before = world.state.clone();
    let first = world.entry(Command::SetPreferences {
        principal: super::world::actor("eve"),
        set: [(key.clone(), "v".to_owned())].into(),
        remove: [key].into(),
    });
    let refused = world.apply(&first).outcome.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "bytes of a key of preferences may be 128 at most, not 500000"
    );
    assert!(same_records(&before, &world.state));
    assert_eq!(world.apply(&first).outcome, Err(refused));
    let last = world.state.requests.answered.iter().next_back().unwrap();
    assert!(last.outcome.bytes().len() < 200);
}

#[test]
fn a_long_text_is_cut_between_two_characters() {
    for (long, left) in [("a".repeat(2_000), 1_024), ("\u{20ac}".repeat(1_000), 1_023)] {
        let cut = Rejection::invalid("field", long.clone()).bounded();
        let Rejection::InvalidArgument { field, problem } = cut else {
            panic!("{cut}");
        };
        assert_eq!((field.as_str(), problem.len()), ("field", left));
        assert!(long.starts_with(&problem));
    }
}
