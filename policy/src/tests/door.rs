//! What an agent's door does by floor and by age (L13).

use std::time::Duration;

use super::{CLUSTER, role, token};
use crate::{
    door::{Admission, CONFIRMED_FOR, TRUSTED_FOR, at_answer, at_effect, at_entrance},
    fence::{Floor, check, floor_of},
};

fn floor(epoch: u32, held_by: Option<&str>) -> Floor {
    floor_of(&role(epoch, held_by), CLUSTER)
}

/// PASS, ASK, or the reason of the refusal.
fn said(admission: &Admission) -> &'static str {
    match admission {
        Admission::Pass => "PASS",
        Admission::Ask => "ASK",
        Admission::Refuse(refused) => refused.reason().as_str(),
    }
}

#[test]
fn a_call_passes_by_its_floor_and_by_a_confirmation_that_is_young_enough() {
    let floor = floor(7, Some("eu/a1#1"));
    let just = |age: Duration| Some(age - Duration::from_millis(1));
    let own = || token(7, "eu/a1#1");
    // (token, confirmed so long ago, at the entrance, at the effect)
    let table = [
        (own(), None, "ASK", "ASK"),
        (own(), just(CONFIRMED_FOR), "PASS", "PASS"),
        (own(), Some(CONFIRMED_FOR), "ASK", "PASS"),
        (own(), just(TRUSTED_FOR), "ASK", "PASS"),
        (own(), Some(TRUSTED_FOR), "ASK", "ASK"),
        // Whatever was confirmed: below the floor, or another's.
        (
            token(6, "eu/a1#1"),
            Some(Duration::ZERO),
            "STALE_EPOCH",
            "STALE_EPOCH",
        ),
        (
            token(7, "us/b1#1"),
            Some(Duration::ZERO),
            "WRONG_HOLDER",
            "WRONG_HOLDER",
        ),
        (token(8, "eu/a1#1"), Some(Duration::ZERO), "ASK", "ASK"),
    ];
    for (token, confirmed, entrance, effect) in table {
        let verdict = || check(Some(&floor), &token, CLUSTER);
        assert_eq!(
            said(&at_entrance(verdict(), confirmed)),
            entrance,
            "{token} {confirmed:?}"
        );
        assert_eq!(
            said(&at_effect(verdict(), confirmed)),
            effect,
            "{token} {confirmed:?}"
        );
    }
}

#[test]
fn an_answer_confirms_the_committed_token_alone() {
    let committed = floor(7, Some("eu/a1#1"));
    let fenced = floor(8, None);
    let table = [
        (&committed, true, token(7, "eu/a1#1"), "PASS"),
        // Reserved, or of an answer that does not say it: not for effects.
        (&committed, false, token(7, "eu/a1#1"), "ASK"),
        (&committed, true, token(8, "eu/a1#1"), "ASK"),
        (&committed, true, token(6, "eu/a1#1"), "STALE_EPOCH"),
        (&committed, true, token(7, "us/b1#1"), "WRONG_HOLDER"),
        (&fenced, false, token(7, "eu/a1#1"), "STALE_EPOCH"),
        (&fenced, true, token(8, "eu/a1#1"), "WRONG_HOLDER"),
    ];
    for (committed, current, token, expected) in table {
        let admission = at_answer(committed, current, &token);
        assert_eq!(said(&admission), expected, "{token} at {committed:?}");
    }
}
