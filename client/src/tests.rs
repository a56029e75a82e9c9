//! Tables and properties of what is pure here; calls over the wire are tested with the coordinator.

use std::time::Duration;

use proptest::prelude::*;
use types::reason::{Reason, Refusal};

use crate::{
    calls::Renewal,
    context::Context,
    guard::{BootInstant, Lease},
    retry::{Next, WAIT_MAX, jittered, mint_request_id, name_request, next, out_of_time},
};

#[test]
fn a_leader_hint_is_followed_but_not_for_ever() {
    let hint = Refusal::new(Reason::NotLeader, "not the leader").with("leader_api", "https://127.0.0.1:1");
    assert_eq!(
        next(0, 0, &hint),
        Next::AskLeader("https://127.0.0.1:1".to_owned())
    );
    assert!(matches!(next(0, 3, &hint), Next::AskNext { .. }));
    let no_hint = Refusal::new(Reason::NotLeader, "not the leader");
    assert!(matches!(next(0, 0, &no_hint), Next::AskNext { .. }));
}

#[test]
fn rules_are_final_and_trouble_is_not() {
    for &reason in Reason::ALL {
        let decision = next(0, 0, &Refusal::new(reason, "x"));
        assert_eq!(decision == Next::Stop, !reason.retryable(), "{reason}");
    }
    let busy = Refusal::new(Reason::Overloaded, "busy").with("retry_after_ms", 40);
    assert_eq!(
        next(9, 0, &busy),
        Next::AskNext {
            wait: Duration::from_millis(40)
        }
    );
}

/// Only who leads says so: another coordinator would point back at it.
#[test]
fn a_leader_that_says_not_yet_is_asked_again() {
    let changing = Refusal::new(Reason::RoleChanging, "not yet").with("retry_after_ms", 0);
    let wait = Duration::ZERO;
    assert_eq!(next(3, 0, &changing), Next::AskAgain { wait });
}

#[test]
fn an_attempt_that_may_have_worked_makes_the_end_unknown() {
    let not_leader = Refusal::new(Reason::NotLeader, "not the leader");
    let sure = out_of_time(Some(not_leader.clone()), false, Duration::from_secs(1));
    assert!(sure.reason.surely_no_effect(), "{sure}");
    let unsure = out_of_time(Some(not_leader), true, Duration::from_secs(1));
    assert!(!unsure.reason.surely_no_effect(), "{unsure}");
}

#[test]
fn only_an_unknown_outcome_names_the_request_to_ask_again_with() {
    let named = |reason| {
        let refusal = name_request(Refusal::new(reason, "because"), "an-id");
        refusal.operand("request_id").map(str::to_owned)
    };
    assert_eq!(named(Reason::OutcomeUnknown).as_deref(), Some("an-id"));
    assert_eq!(named(Reason::NoQuorum), None);
    assert_eq!(named(Reason::EtagMismatch), None);
}

#[test]
fn minted_request_ids_are_v7_and_differ() {
    let (a, b) = (mint_request_id(), mint_request_id());
    assert!(a.is_v7() && b.is_v7() && a != b);
}

#[test]
fn a_context_with_an_unknown_key_is_refused_by_name() {
    let dir = std::env::temp_dir().join(format!("regent-context-{}", mint_request_id()));
    std::fs::create_dir(&dir).unwrap();
    let file = dir.join("context.toml");
    let good = "endpoints = [\"https://127.0.0.1:1\"]\n[tls]\nca_file = \"ca.pem\"\ncert_file = \"c.pem\"\nkey_file = \"k.pem\"\n";
    std::fs::write(&file, good).unwrap();
    assert_eq!(Context::load(&file).unwrap().tls.ca_file, dir.join("ca.pem"));
    std::fs::write(&file, format!("colour = \"red\"\n{good}")).unwrap();
    assert!(Context::load(&file).unwrap_err().message.contains("colour"));
    std::fs::remove_dir_all(&dir).unwrap();
}

proptest! {
    /// The holder's view of its lease ends before the leader's, whenever the renewal was sent, received and answered,
    /// and however the two clocks drift apart within a tenth (L4, L8, I6).
    #[test]
    fn a_holder_stops_before_the_leader_counts_the_lease_as_lapsed(
        ttl_ms in 100u64..60_000, transit_ms in 0u64..10_000, holder_rate in 91u64..=100, leader_rate in 100u64..=109,
    ) {
        let renewal = Renewal {
            ttl: Duration::from_millis(ttl_ms),
            renew_interval: Duration::from_millis(ttl_ms / 4),
            drain_margin: Duration::from_millis(ttl_ms / 10),
        };
        let lease = Lease::granted(BootInstant::from_boot(Duration::ZERO), renewal);
        // True milliseconds after sending at which each side's own clock reaches its deadline.
        let held_ms = lease.left(BootInstant::from_boot(Duration::ZERO)).as_millis();
        let holder_ms = held_ms * 100 / u128::from(holder_rate);
        let leader_ms = u128::from(transit_ms + (ttl_ms * 11 / 10) * 100 / leader_rate);
        prop_assert!(holder_ms <= leader_ms + 1, "holder {holder_ms} leader {leader_ms}");
    }

    #[test]
    fn a_late_answer_never_shortens_a_lease(a in 0u64..10_000, b in 0u64..10_000, now in 0u64..20_000) {
        let renewal = Renewal {
            ttl: Duration::from_secs(5),
            renew_interval: Duration::from_secs(1),
            drain_margin: Duration::from_millis(500),
        };
        let at = |ms| BootInstant::from_boot(Duration::from_millis(ms));
        let (first, second) = (Lease::granted(at(a), renewal), Lease::granted(at(b), renewal));
        let both = second.or_later(Some(first));
        prop_assert_eq!(both.left(at(now)), first.left(at(now)).max(second.left(at(now))));
        prop_assert!(both.left_for_work(at(now)) <= both.left(at(now)));
    }

    #[test]
    fn waits_are_jittered_within_their_bound(millis in 1u64..500) {
        let wait = Duration::from_millis(millis);
        prop_assert!(jittered(wait) <= wait && jittered(wait) * 2 >= wait);
        prop_assert!(wait <= WAIT_MAX);
    }
}
