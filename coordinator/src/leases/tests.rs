//! The lease table by tables.

mod interleavings;
mod rules;
mod terms;

use std::time::Duration;

use tokio::time::Instant;
use types::{
    ClusterId, Epoch, FencingToken, Holder, NodeIncarnation, PlanId, Reason, Revision, RoleName, UnixMillis,
    role::{FailoverMode, RoleRecord, TimingPolicy},
};

use super::table::{ChangeMark, ChangeOutcome, LeaseTable, RoleView, leader_ttl};

const TTL: Duration = Duration::from_secs(2);
/// The plan that moves the role.
const PLAN: PlanId = PlanId(7);

fn holder(n: u128) -> Holder {
    Holder {
        region: format!("r{n}").parse().unwrap(),
        node: format!("a{n}").parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(n),
    }
}

fn role(epoch: u32, holder: Option<Holder>) -> RoleRecord {
    RoleRecord {
        role: RoleName::global(),
        epoch: Epoch::new(1, epoch),
        holder,
        reservation: None,
        candidates: Vec::new(),
        mode: FailoverMode::Automatic,
        timing: TimingPolicy::fast(),
        outstanding_ttl: TTL,
        changed_at: UnixMillis::default(),
        reason: String::new(),
        modified: Revision(1),
    }
}

fn view(role: &RoleRecord) -> RoleView<'_> {
    RoleView {
        role,
        outstanding_ttl: TTL,
        cluster_id: ClusterId::from_u128(1),
        holder_replaced: false,
        moved_by: Some(PLAN),
    }
}

fn token(epoch: u32, holder: Holder) -> FencingToken {
    FencingToken {
        cluster_id: ClusterId::from_u128(1),
        role: RoleName::global(),
        epoch: Epoch::new(1, epoch),
        holder,
    }
}

fn leading(since: Instant) -> LeaseTable {
    let mut table = LeaseTable::default();
    table.lead(Some(since));
    table
}

/// A change that may be proposed whoever believes what.
fn begin(table: &mut LeaseTable, role: &RoleRecord) -> ChangeMark {
    let mark = table.begin_change(&view(role), role.epoch, false, Instant::now());
    mark.expect("nothing to wait for")
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_renewal_extends_from_its_receipt_and_never_shortens() {
    let start = Instant::now();
    let mut table = leading(start);
    let role = role(2, Some(holder(1)));
    let late = start + ms(5_000);
    table
        .renew(&view(&role), &token(2, holder(1)), late, late + ms(10))
        .unwrap();
    assert_eq!(table.free_at(&view(&role)), Some(late + leader_ttl(TTL)));
    // An older receipt that was decided later takes nothing back.
    table
        .renew(&view(&role), &token(2, holder(1)), late - ms(900), late + ms(20))
        .unwrap();
    assert_eq!(table.free_at(&view(&role)), Some(late + leader_ttl(TTL)));
}

#[test]
fn a_new_leader_waits_the_outstanding_ttl_from_its_election() {
    let start = Instant::now();
    let mut table = leading(start);
    let role = role(2, None);
    let mut long = view(&role);
    long.outstanding_ttl = ms(15_000);
    assert_eq!(table.free_at(&long), Some(start + ms(16_500)));
    table.lead(Some(start + ms(100)));
    assert_eq!(table.free_at(&long), Some(start + ms(16_600)));
    table.lead(None);
    assert_eq!(table.free_at(&long), None);
}

/// In between somebody else may have led and granted what this table knows nothing of.
#[test]
fn what_an_earlier_leadership_knew_is_forgotten() {
    let start = Instant::now();
    let held = role(2, Some(holder(1)));
    for release in [true, false] {
        let mut table = leading(start);
        table
            .renew(&view(&held), &token(2, holder(1)), start, start)
            .unwrap();
        if release {
            table.release(&view(&held), &token(2, holder(1)), start).unwrap();
        }
        table.hold(&held.role, held.epoch, PLAN);
        let again = start + ms(60_000);
        table.lead(None);
        table.lead(Some(again));
        assert_eq!(table.free_at(&view(&held)), Some(again + leader_ttl(TTL)));
        assert!(!table.was_released(&held.role, held.epoch));
        assert_eq!(table.renewed_at(&held.role, held.epoch), None);
        table
            .renew(&view(&held), &token(2, holder(1)), again, again)
            .unwrap();
    }
}

/// A grant of this leadership may be older than what a former leader granted last; a release is the word of them all.
#[test]
fn the_later_of_the_own_and_the_inherited_deadline_counts_until_the_release() {
    let start = Instant::now();
    let held = role(2, Some(holder(1)));
    let mut long = view(&held);
    long.outstanding_ttl = ms(15_000);
    let mut table = leading(start);
    table.renew(&long, &token(2, holder(1)), start, start).unwrap();
    assert_eq!(table.free_at(&long), Some(start + ms(16_500)));
    assert!(!table.was_released(&held.role, held.epoch));
    table.release(&long, &token(2, holder(1)), start + ms(5)).unwrap();
    assert_eq!(table.free_at(&long), Some(start + ms(5)));
    assert!(table.was_released(&held.role, held.epoch));
    assert!(!table.was_released(&held.role, Epoch::new(1, 1)));
    assert!(!table.was_released(&held.role, Epoch::new(1, 3)));
}

/// Who asks under which epoch, in a state of epoch 2 held by 1, and what the answer is.
#[test]
fn only_the_committed_holder_under_the_committed_epoch_renews() {
    let start = Instant::now();
    let committed = role(2, Some(holder(1)));
    let fenced = role(3, None);
    let mut other_cluster = token(2, holder(1));
    other_cluster.cluster_id = ClusterId::from_u128(9);
    let cases = [
        (&committed, token(1, holder(1)), Reason::StaleEpoch),
        (&committed, token(2, holder(2)), Reason::WrongHolder),
        (&committed, token(3, holder(1)), Reason::EpochUnconfirmed),
        (&committed, other_cluster, Reason::WrongCluster),
        (&fenced, token(2, holder(1)), Reason::StaleEpoch),
        (&fenced, token(3, holder(1)), Reason::WrongHolder),
    ];
    for (role, token, reason) in cases {
        let mut table = leading(start);
        let refused = table.renew(&view(role), &token, start, start).unwrap_err();
        assert_eq!(refused.reason, reason, "{token}");
        assert_eq!(table.renewed_at(&role.role, token.epoch), None);
    }
}

#[test]
fn the_last_renewal_of_an_epoch_is_remembered_until_its_holder_releases_it() {
    let start = Instant::now();
    let mut table = leading(start);
    let role = role(2, Some(holder(1)));
    let (name, epoch) = (RoleName::global(), role.epoch);
    assert_eq!(table.renewed_at(&name, epoch), None);
    let renew = |table: &mut LeaseTable, at| {
        let token = token(2, holder(1));
        table
            .renew(&view(&role), &token, start + ms(at), start + ms(9_000))
            .unwrap();
    };
    renew(&mut table, 5_000);
    renew(&mut table, 4_000);
    assert_eq!(table.renewed_at(&name, epoch), Some(start + ms(5_000)));
    assert_eq!(table.renewed_at(&name, Epoch::new(1, 1)), None);
    table
        .release(&view(&role), &token(2, holder(1)), start + ms(9_000))
        .unwrap();
    assert_eq!(table.renewed_at(&name, epoch), None);
    table.lead(Some(start + ms(10_000)));
    assert_eq!(table.renewed_at(&name, epoch), None, "of another leadership");
}

#[test]
fn a_follower_grants_nothing() {
    let start = Instant::now();
    let role = role(2, Some(holder(1)));
    let refused = LeaseTable::default().renew(&view(&role), &token(2, holder(1)), start, start);
    assert_eq!(refused.unwrap_err().reason, Reason::NotLeader);
}

#[test]
fn a_restarted_node_renews_nothing_of_its_former_run() {
    let start = Instant::now();
    let role = role(2, Some(holder(1)));
    let mut replaced = view(&role);
    replaced.holder_replaced = true;
    let refused = leading(start).renew(&replaced, &token(2, holder(1)), start, start);
    assert_eq!(refused.unwrap_err().reason, Reason::LeaseLost);
}

#[test]
fn renewals_are_refused_while_a_change_is_proposed_and_after_an_unknown_outcome() {
    let start = Instant::now();
    let mut table = leading(start);
    let role = role(2, Some(holder(1)));
    let renew = |table: &mut LeaseTable| table.renew(&view(&role), &token(2, holder(1)), start, start);
    renew(&mut table).unwrap();
    let mut change = |outcome, renews: bool| {
        let mark = begin(&mut table, &role);
        assert_eq!(renew(&mut table).unwrap_err().reason, Reason::RoleChanging);
        table.end_change(mark, outcome);
        assert_eq!(renew(&mut table).is_ok(), renews, "after {outcome:?}");
    };
    change(ChangeOutcome::NotProposed, true);
    change(ChangeOutcome::Unknown, false);
    // That a later one was not proposed says nothing of the former; that a later one was applied does.
    change(ChangeOutcome::NotProposed, false);
    change(ChangeOutcome::Applied, true);
    change(ChangeOutcome::Unknown, false);
    table.settle(&role.role, Some(PLAN));
    assert_eq!(renew(&mut table).unwrap_err().reason, Reason::RoleChanging);
    // Whatever plan comes next: an entry of one that has ended is refused by rule.
    table.settle(&role.role, Some(PlanId(8)));
    renew(&mut table).unwrap();
}

/// The second look, under the lock that orders renewals: a renewal may have come in since the promotion was decided.
#[test]
fn a_hand_over_is_begun_only_once_the_role_is_free_and_a_fence_at_any_time() {
    let start = Instant::now();
    let role = role(2, Some(holder(1)));
    let at = start + ms(10_000);
    let over = at + leader_ttl(TTL);
    // (whether the change needs the role free, when it is tried, whether it is begun)
    let cases = [
        (true, at, false),
        (true, over - ms(1), false),
        (true, over, true),
        (false, at, true),
    ];
    for (needs_free, tried, begun) in cases {
        let mut table = leading(start);
        let renew = |table: &mut LeaseTable| table.renew(&view(&role), &token(2, holder(1)), at, at);
        renew(&mut table).unwrap();
        let mark = table.begin_change(&view(&role), role.epoch, needs_free, tried);
        assert_eq!(mark.is_some(), begun, "{needs_free} {:?}", tried - at);
        // What was not begun is not marked either: the holder goes on.
        assert_eq!(renew(&mut table).is_ok(), !begun, "{needs_free} {:?}", tried - at);
    }
    let follower = LeaseTable::default().begin_change(&view(&role), role.epoch, true, over);
    assert_eq!(follower, None, "who does not lead knows of no time");
}

#[test]
fn a_change_of_a_former_leadership_ends_nothing_of_this_one() {
    let start = Instant::now();
    let mut table = leading(start);
    let role = role(2, Some(holder(1)));
    let former = begin(&mut table, &role);
    table.lead(Some(start + ms(1)));
    let own = begin(&mut table, &role);
    table.end_change(former, ChangeOutcome::Applied);
    let refused = table.renew(&view(&role), &token(2, holder(1)), start, start);
    assert_eq!(refused.unwrap_err().reason, Reason::RoleChanging);
    table.end_change(own, ChangeOutcome::Applied);
    table
        .renew(&view(&role), &token(2, holder(1)), start, start)
        .unwrap();
}

#[test]
fn who_is_asked_to_stop_gets_no_renewal_until_the_plan_has_ended() {
    let start = Instant::now();
    let mut table = leading(start);
    let role = role(2, Some(holder(1)));
    for next in [None, Some(PlanId(8))] {
        table.hold(&role.role, role.epoch, PLAN);
        table.settle(&role.role, Some(PLAN));
        let refused = table.renew(&view(&role), &token(2, holder(1)), start, start);
        assert_eq!(refused.unwrap_err().reason, Reason::RoleChanging);
        table.settle(&role.role, next);
        table
            .renew(&view(&role), &token(2, holder(1)), start, start)
            .unwrap();
    }
}

#[test]
fn after_a_switchover_the_new_holder_waits_for_the_release_or_the_lapse() {
    let start = Instant::now();
    let old = role(2, Some(holder(1)));
    let new = role(3, Some(holder(2)));
    let at = start + ms(10_000);
    for release in [false, true] {
        let mut table = leading(start);
        table.renew(&view(&old), &token(2, holder(1)), at, at).unwrap();
        let then = if release {
            table
                .release(&view(&old), &token(2, holder(1)), at + ms(5))
                .unwrap();
            at + ms(6)
        } else {
            let refused = table
                .renew(&view(&new), &token(3, holder(2)), at, at + ms(1))
                .unwrap_err();
            assert_eq!(refused.reason, Reason::RoleChanging);
            assert!(refused.operand("retry_after_ms").is_some());
            at + leader_ttl(TTL)
        };
        table
            .renew(&view(&new), &token(3, holder(2)), then, then)
            .unwrap();
        // A release that arrives late for an older epoch changes nothing.
        assert!(table.release(&view(&new), &token(2, holder(1)), then).is_err());
        assert!(table.renewed_at(&new.role, new.epoch).is_some());
    }
}

#[test]
fn a_holder_goes_on_at_once_under_a_new_leader() {
    let start = Instant::now();
    let role = role(3, Some(holder(2)));
    leading(start)
        .renew(&view(&role), &token(3, holder(2)), start, start)
        .unwrap();
}

#[test]
fn who_released_an_epoch_does_not_get_it_again() {
    let start = Instant::now();
    let mut table = leading(start);
    let role = role(2, Some(holder(1)));
    table
        .renew(&view(&role), &token(2, holder(1)), start, start)
        .unwrap();
    table
        .release(&view(&role), &token(2, holder(1)), start + ms(1))
        .unwrap();
    assert_eq!(table.free_at(&view(&role)), Some(start + ms(1)));
    let refused = table.renew(&view(&role), &token(2, holder(1)), start + ms(2), start + ms(2));
    assert_eq!(refused.unwrap_err().reason, Reason::LeaseLost);
}

/// A release counts from its first receipt by a leader, and is believed by nobody else.
#[test]
fn a_release_said_again_moves_nothing_and_a_follower_takes_none() {
    let start = Instant::now();
    let role = role(2, Some(holder(1)));
    let mut table = leading(start);
    for at in [start + ms(1), start + ms(500)] {
        table.release(&view(&role), &token(2, holder(1)), at).unwrap();
        assert_eq!(table.free_at(&view(&role)), Some(start + ms(1)));
    }
    let mut follower = LeaseTable::default();
    let refused = follower.release(&view(&role), &token(2, holder(1)), start);
    assert_eq!(refused.unwrap_err().reason, Reason::NotLeader);
    assert!(!follower.was_released(&role.role, role.epoch));
}

#[test]
fn a_change_is_under_way_until_its_outcome_is_known() {
    let start = Instant::now();
    let role = role(2, Some(holder(1)));
    let mut table = leading(start);
    assert!(!table.is_changing(&role.role));
    for (outcome, still) in [
        (ChangeOutcome::Applied, false),
        (ChangeOutcome::NotProposed, false),
        (ChangeOutcome::Unknown, true),
    ] {
        let mark = begin(&mut table, &role);
        assert!(table.is_changing(&role.role));
        table.end_change(mark, outcome);
        assert_eq!(table.is_changing(&role.role), still, "{outcome:?}");
    }
}
