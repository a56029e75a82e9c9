//! What doors say to tokens (L3, L12, L13, I5).

use proptest::prelude::*;
use types::{ClusterId, Epoch, FencingToken, ModelName, PlanId, Reason, RoleName, role::Reservation};

use super::{CLUSTER, holder, role, token};
use crate::fence::{
    Confirmation, Floor, Refused, Verdict, at_registry, check, check_guarded, confirm, floor_of, guard_of,
    raise,
};

fn floor(epoch: u32, held_by: Option<&str>) -> Floor {
    floor_of(&role(epoch, held_by), CLUSTER)
}

/// ACCEPT, RAISE, or the reason of the refusal.
fn said(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "ACCEPT",
        Verdict::Raise => "RAISE",
        Verdict::Refuse(refused) => refused.reason().as_str(),
    }
}

#[test]
fn a_door_accepts_its_own_token_and_refuses_lower_and_foreign_ones() {
    let held = floor(7, Some("eu/a1#1"));
    let fenced = floor(7, None);
    let table = [
        (Some(&held), token(7, "eu/a1#1"), "ACCEPT"),
        (Some(&held), token(6, "eu/a1#1"), "STALE_EPOCH"),
        (Some(&held), token(6, "us/b1#1"), "STALE_EPOCH"),
        (Some(&held), token(7, "us/b1#1"), "WRONG_HOLDER"),
        (Some(&held), token(7, "eu/a1#2"), "WRONG_HOLDER"),
        (Some(&held), token(8, "eu/a1#1"), "RAISE"),
        (Some(&fenced), token(7, "eu/a1#1"), "WRONG_HOLDER"),
        (Some(&fenced), token(6, "eu/a1#1"), "STALE_EPOCH"),
        (Some(&fenced), token(8, "us/b1#1"), "RAISE"),
        (None, token(1, "eu/a1#1"), "RAISE"),
    ];
    for (floor, token, expected) in table {
        assert_eq!(
            said(&check(floor, &token, CLUSTER)),
            expected,
            "{token} at {floor:?}"
        );
    }
}

#[test]
fn a_generation_counts_more_than_a_counter() {
    let next_generation = FencingToken {
        epoch: Epoch::new(2, 0),
        ..token(0, "eu/a1#1")
    };
    let at = floor(u32::MAX, Some("us/b1#1"));
    assert_eq!(said(&check(Some(&at), &next_generation, CLUSTER)), "RAISE");
    let at = Floor {
        epoch: Epoch::new(2, 1),
        ..at
    };
    assert_eq!(
        said(&check(Some(&at), &token(u32::MAX, "us/b1#1"), CLUSTER)),
        "STALE_EPOCH"
    );
}

#[test]
fn a_token_of_another_cluster_or_role_is_refused_even_without_a_floor() {
    let held = floor(7, Some("eu/a1#1"));
    let foreign = FencingToken {
        cluster_id: ClusterId::from_u128(2),
        ..token(9, "eu/a1#1")
    };
    assert_eq!(said(&check(None, &foreign, CLUSTER)), "WRONG_CLUSTER");
    assert_eq!(said(&check(Some(&held), &foreign, CLUSTER)), "WRONG_CLUSTER");
    let other_role = FencingToken {
        role: "primaries/db".parse().unwrap(),
        ..token(7, "eu/a1#1")
    };
    assert_eq!(said(&check(Some(&held), &other_role, CLUSTER)), "WRONG_ROLE");
}

/// Epochs of two roles count different things, and so do those of two clusters (L3): neither raises the other's floor.
#[test]
fn an_epoch_of_another_role_or_cluster_raises_no_floor_however_high_it_is() {
    let held = floor(7, Some("eu/a1#1"));
    let of_another_role = Floor {
        role: "primaries/db".parse().unwrap(),
        ..floor(9, Some("us/b1#1"))
    };
    let of_another_cluster = Floor {
        cluster_id: ClusterId::from_u128(2),
        ..floor(9, Some("us/b1#1"))
    };
    for other in [of_another_role, of_another_cluster] {
        assert_eq!(raise(Some(held.clone()), other), held);
    }
    let own = floor(9, Some("us/b1#1"));
    assert_eq!(raise(Some(held), own.clone()), own);
}

#[test]
fn a_model_is_guarded_by_the_nearest_role_that_is_named_after_it() {
    let roles = ["global", "fraud", "fraud.scorer.eu", "db"];
    for (model, guard) in [
        ("fraud.scorer.eu", "fraud.scorer.eu"),
        ("fraud.scorer.eu.small", "fraud.scorer.eu"),
        ("fraud.scorer", "fraud"),
        ("fraud", "fraud"),
        ("fraudulent.scorer", "global"),
        ("demo.fraud", "global"),
        ("global.scorer", "global"),
        ("a.".repeat(99).trim_end_matches('.'), "global"),
    ] {
        let model: ModelName = model.parse().unwrap();
        let found = guard_of(&model, |role| roles.contains(&role.family()));
        assert_eq!(found.family(), guard, "{model}");
    }
    let before_the_first = guard_of(&"fraud.scorer".parse().unwrap(), |_| false);
    assert_eq!(before_the_first, RoleName::global());
}

#[test]
fn a_guarded_door_takes_no_token_of_another_role_however_current_it_is() {
    let own = floor(7, Some("eu/a1#1"));
    let other = "primaries/db".parse().unwrap();
    let foreign = FencingToken {
        cluster_id: ClusterId::from_u128(2),
        ..token(7, "eu/a1#1")
    };
    for (guard, shown, expected) in [
        (own.role.clone(), token(7, "eu/a1#1"), "ACCEPT"),
        (own.role.clone(), token(8, "us/b1#1"), "RAISE"),
        (own.role.clone(), token(6, "us/b1#1"), "STALE_EPOCH"),
        (other, token(7, "eu/a1#1"), "WRONG_ROLE"),
        ("primaries/db".parse().unwrap(), foreign, "WRONG_CLUSTER"),
    ] {
        let verdict = check_guarded(&guard, Some(&own), &shown, CLUSTER);
        assert_eq!(said(&verdict), expected, "{shown} at {guard}");
    }
}

#[test]
fn a_refusal_says_what_was_shown_what_is_current_and_who_holds_it() {
    let Verdict::Refuse(refused) = check(Some(&floor(7, Some("eu/a1#1"))), &token(6, "us/b1#1"), CLUSTER)
    else {
        panic!("accepted a stale token");
    };
    let refusal = refused.to_refusal();
    assert_eq!(refusal.reason, Reason::StaleEpoch);
    assert_eq!(refusal.operand("shown"), Some("g1.e6"));
    assert_eq!(refusal.operand("current"), Some("g1.e7"));
    assert_eq!(refusal.operand("holder"), Some("eu/a1#00000001"));
    assert_eq!(refusal.operand("role"), Some("primaries/global"));
    assert_eq!(
        refusal.message,
        "epoch g1.e6 of primaries/global is over: g1.e7 is held by eu/a1#00000001"
    );
    let Verdict::Refuse(refused) = check(Some(&floor(7, None)), &token(7, "us/b1#1"), CLUSTER) else {
        panic!("accepted a token at a fenced role");
    };
    let refusal = refused.to_refusal();
    assert_eq!(refusal.operand("holder"), Some("nobody"));
    assert_eq!(refusal.operand("shown_holder"), Some("us/b1#00000001"));
}

#[test]
fn a_reserved_epoch_is_confirmed_as_reserved_and_writes_nothing() {
    let mut fenced = role(8, None);
    fenced.reservation = Some(Reservation {
        plan: PlanId(5),
        target: holder("us/b1#1"),
        epoch: Epoch::new(1, 9),
    });
    let reserved = token(9, "us/b1#1");
    assert_eq!(confirm(&fenced, CLUSTER, &reserved), Confirmation::Reserved);
    assert_eq!(
        at_registry(&fenced, CLUSTER, &reserved).unwrap_err().reason(),
        Reason::EpochUnconfirmed
    );
    for other in [token(9, "us/b1#2"), token(9, "eu/a1#1"), token(10, "us/b1#1")] {
        let Confirmation::Refused(refused) = confirm(&fenced, CLUSTER, &other) else {
            panic!("{other} is confirmed");
        };
        assert_eq!(refused.reason(), Reason::EpochUnconfirmed);
    }
    let foreign = FencingToken {
        cluster_id: ClusterId::from_u128(2),
        ..reserved
    };
    assert!(matches!(
        confirm(&fenced, CLUSTER, &foreign),
        Confirmation::Refused(Refused::WrongCluster { .. })
    ));
}

#[test]
fn the_current_token_is_confirmed_and_an_older_one_is_not() {
    let held = role(9, Some("us/b1#1"));
    let current = token(9, "us/b1#1");
    assert_eq!(confirm(&held, CLUSTER, &current), Confirmation::Current);
    let Confirmation::Refused(refused) = confirm(&held, CLUSTER, &token(8, "eu/a1#1")) else {
        panic!("an old token is confirmed");
    };
    assert_eq!(refused.reason(), Reason::StaleEpoch);
}

/// Of two floors the higher one stays; of two equal ones the one with a holder.
#[test]
fn a_floor_rises_and_learns_its_holder() {
    let (free, held, other) = (
        floor(7, None),
        floor(7, Some("eu/a1#1")),
        floor(7, Some("us/b1#1")),
    );
    let (low, high) = (floor(6, Some("us/b1#1")), floor(8, None));
    for (floor, confirmed, stays) in [
        (None, &free, &free),
        (Some(&free), &held, &held),
        (Some(&held), &free, &held),
        (Some(&held), &other, &held),
        (Some(&held), &low, &held),
        (Some(&free), &low, &free),
        (Some(&held), &high, &high),
    ] {
        assert_eq!(
            raise(floor.cloned(), confirmed.clone()),
            *stays,
            "{floor:?} {confirmed:?}"
        );
    }
}

fn any_holder() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["eu/a1#1", "eu/a1#2", "us/b1#1", "ap/c1#1"])
}

fn any_floor() -> impl Strategy<Value = Floor> {
    (0..6_u32, prop::option::of(any_holder())).prop_map(|(epoch, by)| floor(epoch, by))
}

proptest! {
    #[test]
    fn below_a_floor_or_equal_from_another_holder_is_always_refused(
        floor in any_floor(), epoch in 0..6_u32, by in any_holder(), same_cluster: bool, same_role: bool,
    ) {
        let mut shown = token(epoch, by);
        if !same_cluster {
            shown.cluster_id = ClusterId::from_u128(2);
        }
        if !same_role {
            shown.role = "primaries/db".parse::<RoleName>().unwrap();
        }
        let refused = matches!(check(Some(&floor), &shown, CLUSTER), Verdict::Refuse(_));
        let below = shown.epoch < floor.epoch;
        let anothers = shown.epoch == floor.epoch && floor.holder.as_ref() != Some(&shown.holder);
        prop_assert_eq!(refused, below || anothers || !same_cluster || !same_role);
    }

    #[test]
    fn what_a_raised_floor_refuses_stays_refused(
        first in any_floor(), second in any_floor(), epoch in 0..6_u32, by in any_holder(),
    ) {
        let raised = raise(Some(first.clone()), second.clone());
        prop_assert!(raised.epoch == first.epoch.max(second.epoch));
        let shown = token(epoch, by);
        let stale = |floor: &Floor| shown.epoch < floor.epoch;
        if stale(&first) || stale(&second) {
            prop_assert!(matches!(check(Some(&raised), &shown, CLUSTER), Verdict::Refuse(_)));
        }
        // An epoch is never taken from its holder but by a higher one.
        if raised.epoch == first.epoch && first.holder.is_some() {
            prop_assert_eq!(raised, first);
        }
    }

    #[test]
    fn the_registry_accepts_the_committed_token_alone(
        current in 0..6_u32, held_by in prop::option::of(any_holder()), epoch in 0..6_u32, by in any_holder(),
    ) {
        let record = role(current, held_by);
        let accepted = at_registry(&record, CLUSTER, &token(epoch, by)).is_ok();
        prop_assert_eq!(accepted, epoch == current && held_by == Some(by));
    }
}
