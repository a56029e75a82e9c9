//! What a token may do to a fence, and what failures mean.

use types::{ClusterId, Epoch, Lineage};

use super::token;
use crate::postgres::{
    Fence, Refused, Standing, Trouble,
    decide::{Decision, Refusal, decide, trouble_of},
    refused, token_text,
};

fn fence(cluster: u128, counter: u32, node: &str) -> Fence {
    Fence {
        cluster_id: types::ClusterId::from_u128(cluster).to_string(),
        epoch: Epoch::new(1, counter),
        holder: format!("west/{node}/00000000-0000-0000-0000-000000000001"),
    }
}

fn first() -> Lineage {
    Lineage::first(ClusterId::from_u128(7))
}

fn name(decision: &Decision) -> String {
    match decision {
        Decision::Stands => "stands".to_owned(),
        Decision::Create => "create".to_owned(),
        Decision::Raise(previous) => format!("raise from {previous}"),
        Decision::Rebind(previous) => format!("rebind from {previous}"),
        Decision::Refuse(Refusal::StaleEpoch { current, .. }) => format!("stale, {current} rules"),
        Decision::Refuse(Refusal::OtherHolder { epoch, .. }) => format!("{epoch} is another's"),
        Decision::Refuse(Refusal::OtherCluster { .. }) => "another cluster".to_owned(),
        Decision::Refuse(Refusal::TooLarge(_)) => "too large".to_owned(),
    }
}

/// The fence, what was announced, and what becomes of epoch 5 of a1.
#[test]
fn an_epoch_only_rises_and_is_one_holders() {
    let table = [
        (None, None, "create"),
        (Some(fence(7, 4, "b1")), None, "raise from g1.e4"),
        (
            Some(fence(7, 4, "b1")),
            Some(fence(7, 4, "b1")),
            "raise from g1.e4",
        ),
        (
            Some(fence(7, 4, "b1")),
            Some(fence(7, 5, "a1")),
            "raise from g1.e4",
        ),
        (
            Some(fence(7, 4, "b1")),
            Some(fence(7, 5, "b1")),
            "g1.e5 is another's",
        ),
        (
            Some(fence(7, 4, "b1")),
            Some(fence(7, 6, "b1")),
            "stale, g1.e6 rules",
        ),
        (Some(fence(7, 5, "a1")), None, "stands"),
        (Some(fence(7, 5, "a1")), Some(fence(7, 4, "b1")), "stands"),
        (
            Some(fence(7, 5, "a1")),
            Some(fence(7, 6, "a1")),
            "stale, g1.e6 rules",
        ),
        (Some(fence(7, 5, "b1")), None, "g1.e5 is another's"),
        (Some(fence(7, 6, "a1")), None, "stale, g1.e6 rules"),
        (Some(fence(8, 4, "a1")), None, "another cluster"),
        // Of another cluster: one that has begun to take over, and one that was here before.
        (
            Some(fence(7, 4, "a1")),
            Some(fence(8, 9, "a1")),
            "another cluster",
        ),
        (
            Some(fence(7, 4, "a1")),
            Some(fence(8, 3, "a1")),
            "raise from g1.e4",
        ),
    ];
    for (fence, announced, expected) in table {
        let shown = format!("{fence:?} {announced:?}");
        let standing = fence.map(|fence| Standing { fence, announced });
        assert_eq!(
            name(&decide(standing.as_ref(), &token(5, "a1"), &first())),
            expected,
            "{shown}"
        );
    }
}

/// Cluster 7 goes on from 8, and from nothing else.
#[test]
fn the_fence_of_a_cluster_that_ended_is_taken_over_from_below_alone() {
    let lineage = Lineage {
        cluster: ClusterId::from_u128(7),
        closed: [8].map(ClusterId::from_u128).into(),
    };
    let table = [
        (fence(8, 4, "b1"), None, "rebind from g1.e4"),
        (fence(8, 4, "b1"), Some(fence(8, 4, "b1")), "rebind from g1.e4"),
        // Begun, and cut short.
        (fence(8, 4, "b1"), Some(fence(7, 5, "a1")), "rebind from g1.e4"),
        (fence(8, 3, "b1"), Some(fence(7, 4, "b1")), "rebind from g1.e3"),
        (fence(8, 4, "b1"), Some(fence(7, 6, "b1")), "stale, g1.e6 rules"),
        (fence(7, 4, "b1"), Some(fence(8, 9, "b1")), "stale, g1.e9 rules"),
        (fence(7, 5, "a1"), Some(fence(8, 4, "b1")), "stands"),
        (fence(8, 6, "b1"), None, "stale, g1.e6 rules"),
        (fence(9, 4, "b1"), None, "another cluster"),
        (fence(8, 4, "b1"), Some(fence(9, 6, "b1")), "another cluster"),
    ];
    for (fence, announced, expected) in table {
        let shown = format!("{fence:?} {announced:?}");
        let standing = Standing { fence, announced };
        let found = name(&decide(Some(&standing), &token(5, "a1"), &lineage));
        assert_eq!(found, expected, "{shown}");
        // Nobody else takes it over by another's lineage.
        let other = Lineage {
            cluster: ClusterId::from_u128(6),
            ..lineage.clone()
        };
        let found = decide(Some(&standing), &token(5, "a1"), &other);
        assert!(!matches!(found, Decision::Rebind(_)), "{shown}");
    }
}

#[test]
fn an_epoch_that_no_database_holds_is_refused_before_it_is_asked() {
    let mut large = token(5, "a1");
    large.epoch = Epoch::new(u32::MAX, 1);
    assert_eq!(name(&decide(None, &large, &first())), "too large");
    assert_eq!(token_text(&large), None);
}

#[test]
fn a_token_is_four_words() {
    assert_eq!(
        token_text(&token(5, "a1")).unwrap(),
        "00000000-0000-0000-0000-000000000007 primaries/orders 4294967301 west/a1/00000000-0000-0000-0000-000000000001"
    );
}

#[test]
fn failures_are_told_by_who_can_mend_them() {
    let table = [
        (None, true, "unreachable"),
        (None, false, "unusable"),
        (Some("55P03"), false, "contended"),
        (Some("40P01"), false, "contended"),
        (Some("40001"), false, "contended"),
        (Some("57014"), false, "unreachable"),
        (Some("57P01"), false, "unreachable"),
        (Some("57P03"), false, "unreachable"),
        (Some("53300"), false, "unreachable"),
        (Some("25006"), false, "unreachable"),
        (Some("08006"), false, "unreachable"),
        (Some("28P01"), false, "unusable"),
        (Some("3D000"), false, "unusable"),
        (Some("42501"), false, "unusable"),
        (Some("42P01"), true, "unusable"),
    ];
    for (code, io, expected) in table {
        let found = match trouble_of(code, io, "why".to_owned()) {
            Trouble::Unreachable(_) => "unreachable",
            Trouble::Unusable(_) => "unusable",
            Trouble::Contended(_) => "contended",
        };
        assert_eq!(found, expected, "{code:?}");
    }
}

#[test]
fn every_refusal_of_the_guard_has_its_name() {
    let all = ["RG001", "RG002", "RG003", "RG004", "RG005", "RG006", "40001"].map(refused);
    let expected = [
        Some(Refused::StaleEpoch),
        Some(Refused::NoToken),
        Some(Refused::OtherHolder),
        Some(Refused::OtherCluster),
        Some(Refused::OtherRole),
        Some(Refused::NotRaised),
        None,
    ];
    assert_eq!(all, expected);
}
