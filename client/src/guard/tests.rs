//! The guard over a clock that the test moves and renewals that the test answers. No test waits for a time to pass: real
//! timers only pace the loop.

use std::{cell::Cell, future::pending, time::Duration};

use proto::convert::status::UNKNOWN_REASON;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use types::{
    ClusterId, Epoch, FencingToken, Holder, NodeIncarnation, RoleName,
    reason::{Category, Reason, Refusal},
};

use super::{
    BootInstant, GuardError, Lease, Renewals, RoleGuard, Standing,
    course::{Course, Due, is_final},
    keeper::{First, Renew},
};
use crate::calls::Renewal;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// The test's clock; every test runs on a thread of its own.
fn clock() -> BootInstant {
    at(NOW.get())
}

fn at(millis: u64) -> BootInstant {
    BootInstant::from_boot(Duration::from_millis(millis))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A TTL of 2 s, of which the holder counts on 1.8 s and works for 1.6 s.
const RENEWAL: Renewal = Renewal {
    ttl: Duration::from_secs(2),
    renew_interval: Duration::from_millis(500),
    drain_margin: Duration::from_millis(200),
};

const LONG_RENEWAL: Renewal = Renewal {
    ttl: Duration::from_secs(15),
    renew_interval: Duration::from_secs(5),
    drain_margin: Duration::from_secs(2),
};

fn token() -> FencingToken {
    FencingToken {
        cluster_id: ClusterId::from_u128(1),
        role: RoleName::global(),
        epoch: Epoch::new(1, 2),
        holder: Holder {
            region: "eu".parse().unwrap(),
            node: "a1".parse().unwrap(),
            incarnation: NodeIncarnation::from_u128(1),
        },
    }
}

/// A renewal that waits for the test's answer.
struct Asked {
    limit: Duration,
    answer: oneshot::Sender<Result<Renewal, Refusal>>,
}

struct Script {
    asked: mpsc::Sender<Asked>,
    longest_attempt: Duration,
}

impl Script {
    fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (sender, asked) = mpsc::channel(1);
        let script = Self {
            asked: sender,
            longest_attempt: Duration::MAX,
        };
        (script, asked)
    }
}

impl Renew for Script {
    async fn renew(&self, asked: &FencingToken, limit: Duration, each: Duration) -> Result<Renewal, Refusal> {
        assert_eq!(*asked, token());
        assert!(each <= limit, "{each:?} of {limit:?}");
        let (answer, answered) = oneshot::channel();
        self.asked
            .send(Asked { limit, answer })
            .await
            .expect("the test listens");
        answered.await.unwrap_or_else(|_| Err(refusal(Reason::NoQuorum)))
    }

    fn longest_attempt(&self) -> Duration {
        self.longest_attempt
    }
}

fn refusal(reason: Reason) -> Refusal {
    Refusal::new(reason, "as the test says")
}

fn hold() -> (RoleGuard, Renewals, mpsc::Receiver<Asked>) {
    let (script, asked) = Script::new();
    let (guard, renewals) = RoleGuard::hold_by(
        script,
        clock,
        token(),
        Course::new(ms(10), ms(3_000)),
        First::Alone,
    );
    (guard, renewals, asked)
}

/// As for a role that is about to be given to the holder.
fn hold_early(limit: u64) -> (RoleGuard, Renewals, mpsc::Receiver<Asked>) {
    let (script, asked) = Script::new();
    let course = Course::new(ms(10), ms(limit));
    let (guard, renewals) = RoleGuard::hold_by(script, clock, token(), course, First::Relayed);
    (guard, renewals, asked)
}

/// A guard without a loop behind it, and what makes it stand as the test says.
fn standing(standing: Standing) -> (RoleGuard, watch::Sender<Standing>) {
    let (sender, receiver) = watch::channel(standing);
    let guard = RoleGuard {
        token: token(),
        standing: receiver,
        lost: CancellationToken::new(),
        clock,
    };
    (guard, sender)
}

fn held_from(sent: u64) -> Standing {
    Standing::Held(Lease::granted(at(sent), RENEWAL))
}

#[test]
fn a_lease_counts_from_its_sending_and_keeps_a_tenth_and_a_margin_back() {
    let lease = Lease::granted(at(1_000), RENEWAL);
    for (now, left, for_work) in [
        (1_000, 1_800, 1_600),
        (2_000, 800, 600),
        (2_600, 200, 0),
        (2_601, 199, 0),
        (2_800, 0, 0),
        (9_000, 0, 0),
    ] {
        assert_eq!(
            (lease.left(at(now)), lease.left_for_work(at(now))),
            (ms(left), ms(for_work)),
            "{now}"
        );
    }
    assert_eq!(at(5).since(at(7)), Duration::ZERO);
}

/// CLOCK_BOOTTIME is what the kernel says of the time since boot, sleep included.
#[test]
fn the_clock_counts_from_boot() {
    let uptime = || {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
        Duration::from_secs_f64(seconds).saturating_sub(ms(20))
    };
    let (before, now, after) = (uptime(), BootInstant::now().since(at(0)), uptime());
    assert!(
        before <= now && now <= after + ms(40),
        "{before:?} {now:?} {after:?}"
    );
}

/// The standing at a time, and what is left then.
#[test]
fn a_guard_stands_as_its_lease_does() {
    let lost = Standing::Lost(refusal(Reason::StaleEpoch));
    for (is, now, stands, left) in [
        (held_from(0), 0, held_from(0), 1_800),
        (held_from(0), 1_799, held_from(0), 1),
        (held_from(0), 1_800, Standing::NotHeld, 0),
        (Standing::NotHeld, 0, Standing::NotHeld, 0),
        (lost.clone(), 0, lost.clone(), 0),
    ] {
        NOW.set(now);
        let (guard, _sender) = standing(is);
        assert_eq!((guard.standing(), guard.left()), (stands, ms(left)));
        assert_eq!(*guard.token(), token());
    }
}

#[tokio::test]
async fn held_waits_for_a_lease_with_time_for_work_or_for_the_end() {
    let (guard, sender) = standing(held_from(0));
    assert_eq!(guard.held().await, Ok(()));
    // In its drain margin nothing new begins.
    NOW.set(1_600);
    let waits = tokio::spawn({
        let guard = guard.clone();
        async move { guard.held().await }
    });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    sender.send_replace(held_from(1_500));
    assert_eq!(waits.await.unwrap(), Ok(()));
    sender.send_replace(Standing::Lost(refusal(Reason::WrongHolder)));
    assert_eq!(guard.held().await.unwrap_err().reason, Reason::WrongHolder);
    sender.send_replace(Standing::NotHeld);
    drop(sender);
    assert_eq!(guard.held().await.unwrap_err().reason, Reason::LeaseLost);
}

#[tokio::test]
async fn work_runs_within_the_rest_of_the_lease_or_not_at_all() {
    let (guard, sender) = standing(held_from(0));
    NOW.set(600);
    let budget = guard.run(ms(60_000), |budget| async move { budget }).await;
    assert_eq!(budget, Ok(ms(1_000)), "the margin is kept back");
    assert_eq!(
        guard.run(ms(40), |budget| async move { budget }).await,
        Ok(ms(40))
    );
    // Not begun: in the margin, after the end, without a lease, and without any time.
    let none = Err(GuardError::NotHeld {
        role: "primaries/global".to_owned(),
    });
    for now in [1_600, 1_800, 5_000] {
        NOW.set(now);
        assert_eq!(guard.run(ms(60_000), never_begun).await, none);
    }
    NOW.set(0);
    assert_eq!(guard.run(Duration::ZERO, never_begun).await, none);
    sender.send_replace(Standing::NotHeld);
    assert_eq!(guard.run(ms(60_000), never_begun).await, none);
}

async fn never_begun(_: Duration) {
    panic!("the work was begun");
}

#[tokio::test]
async fn work_is_dropped_at_its_deadline() {
    let (guard, _sender) = standing(held_from(0));
    let dropped = guard.run(ms(1), |_| pending::<()>()).await.unwrap_err();
    assert!(matches!(dropped, GuardError::Stopped { .. }), "{dropped}");
}

/// No timer of an hour is waited for where the clock has moved on by as much.
#[tokio::test]
async fn work_is_dropped_when_its_time_is_over_by_the_clock() {
    let hours = Renewal {
        ttl: Duration::from_secs(7_200),
        ..RENEWAL
    };
    let (guard, _sender) = standing(Standing::Held(Lease::granted(at(0), hours)));
    let slept = guard.run(ms(3_600_000), |_| async {
        NOW.set(3_700_000);
        pending::<()>().await;
    });
    let dropped = GuardError::Stopped {
        role: "primaries/global".to_owned(),
        after: ms(3_700_000),
    };
    assert_eq!(slept.await, Err(dropped));
}

/// Timers stand still in a suspend; CLOCK_BOOTTIME, moved here from within the work, does not.
#[tokio::test]
async fn a_result_that_comes_after_the_lease_does_not_count() {
    let (guard, sender) = standing(held_from(0));
    let late = |now: u64| async move { NOW.set(now) };
    assert_eq!(
        guard.run(ms(100), |_| late(100)).await,
        Ok(()),
        "at its deadline to the dot"
    );
    NOW.set(0);
    assert_eq!(
        guard.run(ms(100), |_| late(101)).await,
        Ok(()),
        "late, and the lease still holds"
    );
    NOW.set(0);
    let slept = guard.run(ms(1_600), |_| late(1_800)).await.unwrap_err();
    assert_eq!(
        slept,
        GuardError::Stopped {
            role: "primaries/global".to_owned(),
            after: ms(1_800)
        }
    );
    // The lease was renewed meanwhile.
    NOW.set(0);
    let renewed = guard.run(ms(1_600), |_| async {
        NOW.set(1_800);
        sender.send_replace(held_from(1_500));
    });
    assert_eq!(renewed.await, Ok(()));
}

/// What is due after a renewal sent at 1 s under a lease sent at `lease`, with an interval of 500 ms.
#[test]
fn the_loop_renews_at_its_interval_and_ends_with_the_lease() {
    let course = |lease: Option<u64>| Course {
        lease: lease.map(|sent| Lease::granted(at(sent), RENEWAL)),
        sent: at(1_000),
        ..Course::new(ms(500), ms(3_000))
    };
    for (lease, now, due) in [
        (Some(1_000), 1_000, Due::Nothing(ms(50))),
        (Some(1_000), 1_480, Due::Nothing(ms(20))),
        (Some(1_000), 1_500, Due::Renewal),
        (Some(0), 1_599, Due::Renewal),
        (Some(0), 1_600, Due::End),
        (Some(1_000), 60_000, Due::End),
        (None, 1_100, Due::Nothing(ms(50))),
        (None, 60_000, Due::Renewal),
    ] {
        assert_eq!(course(lease).due(at(now)), due, "{lease:?} {now}");
    }
    for (lease, now, limit) in [
        (None, 0, 3_000),
        (Some(0), 0, 1_000),
        (Some(0), 1_000, 600),
        (Some(0), 1_550, 50),
        (Some(0), 9_000, 0),
    ] {
        assert_eq!(course(lease).attempt_limit(at(now)), ms(limit), "{lease:?} {now}");
    }
    let hasty = Course {
        interval: ms(10),
        ..course(Some(0))
    };
    assert_eq!(hasty.attempt_limit(at(0)), ms(100), "a call takes its time");
    let mut renewed = course(Some(1_000));
    let short = Renewal {
        renew_interval: ms(70),
        ..RENEWAL
    };
    assert_eq!(
        {
            renewed.send(at(400));
            renewed.granted(short)
        },
        Lease::granted(at(1_000), RENEWAL),
        "never shortened"
    );
    assert_eq!(
        (renewed.interval, renewed.lease),
        (ms(70), Some(Lease::granted(at(1_000), RENEWAL)))
    );
}

#[test]
fn a_renewal_that_failed_is_sent_again_soon_and_one_that_was_answered_at_its_interval() {
    let mut course = Course {
        lease: Some(Lease::granted(at(0), LONG_RENEWAL)),
        ..Course::new(ms(5_000), ms(3_000))
    };
    assert_eq!(course.due(at(600)), Due::Nothing(ms(50)));
    course.failed(&refusal(Reason::Unreachable));
    assert_eq!(course.due(at(499)), Due::Nothing(ms(1)));
    assert_eq!(course.due(at(500)), Due::Renewal);
    course.send(at(500));
    course.granted(LONG_RENEWAL);
    assert_eq!(course.due(at(1_100)), Due::Nothing(ms(50)));
    // An interval that is shorter stays.
    let mut course = Course::new(ms(70), ms(3_000));
    course.failed(&refusal(Reason::Unreachable));
    assert_eq!(course.due(at(70)), Due::Renewal);
}

#[test]
fn a_first_renewal_that_nobody_answered_has_more_time_the_next_time() {
    let mut course = Course::new(ms(10), ms(1_000));
    for (reason, limit) in [
        (Reason::RoleChanging, 1_000),
        (Reason::OutcomeUnknown, 2_000),
        (Reason::RoleChanging, 2_000),
        (Reason::Unreachable, 3_000),
        (Reason::Unreachable, 3_000),
    ] {
        course.failed(&refusal(reason));
        assert_eq!(course.attempt_limit(at(0)), ms(limit), "{reason:?}");
    }
    let mut course = Course::new(ms(10), ms(7_500));
    course.failed(&refusal(Reason::Unreachable));
    assert_eq!(course.attempt_limit(at(0)), ms(7_500));
}

#[test]
fn a_silent_coordinator_leaves_time_for_two_others_unless_the_first_renewal_needs_it() {
    let first = Course::new(ms(10), ms(3_000));
    let renewing = Course {
        lease: Some(Lease::granted(at(0), RENEWAL)),
        ..first
    };
    for (limit, while_new, later) in [
        (3_000, 1_000, 1_000),
        (1_000, 1_000, 333),
        (600, 600, 200),
        (7_500, 2_500, 2_500),
    ] {
        let each = |course: &Course| course.coordinator_limit(ms(limit)).as_millis();
        assert_eq!((each(&first), each(&renewing)), (while_new, later), "{limit}");
    }
}

/// Over a continent a renewal takes two round trips; a third of the time for one would never be enough.
#[test]
fn a_leader_that_is_far_away_is_not_taken_for_a_silent_one() {
    for (answered, limit, each) in [
        (5, 1_000, 333),
        (160, 1_000, 333),
        (400, 1_000, 800),
        (700, 1_000, 1_000),
        (400, 600, 600),
    ] {
        let mut course = Course::new(ms(10), ms(3_000));
        course.send(at(100));
        course.answered(at(100 + answered));
        course.granted(RENEWAL);
        let found = course.coordinator_limit(ms(limit)).as_millis();
        assert_eq!(found, each, "{answered} of {limit}");
    }
}

#[test]
fn only_a_refusal_that_no_retry_changes_is_final() {
    let finals: Vec<_> = Reason::ALL
        .iter()
        .copied()
        .filter(|r| is_final(&refusal(*r)))
        .collect();
    for reason in [
        Reason::StaleEpoch,
        Reason::WrongHolder,
        Reason::WrongCluster,
        Reason::RoleNotFound,
        Reason::PermissionDenied,
    ] {
        assert!(finals.contains(&reason), "{reason}");
    }
    assert_eq!(finals.len(), 5);
    for reason in finals {
        // A later version may mean anything by it.
        let unknown = refusal(reason).with(UNKNOWN_REASON, "CLOCK_STRUCK");
        assert!(!is_final(&unknown), "{reason}");
        assert!(
            !matches!(reason.category(), Category::Unavailable | Category::Unknown),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn holding_begins_with_the_first_answer_and_counts_from_its_sending() {
    let (guard, renewals, mut asked) = hold();
    assert_eq!(guard.standing(), Standing::NotHeld);
    let first = asked.recv().await.unwrap();
    assert_eq!(
        first.limit,
        ms(3_000),
        "a far leader may take longer than attempts are spaced by"
    );
    NOW.set(700);
    first.answer.send(Ok(RENEWAL)).unwrap();
    guard.held().await.unwrap();
    assert_eq!(guard.standing(), held_from(0));
    // Due by the clock that the test moved; a failed one is asked again and takes nothing away.
    let second = asked.recv().await.unwrap();
    assert_eq!(second.limit, ms(900));
    second.answer.send(Err(refusal(Reason::NoQuorum))).unwrap();
    NOW.set(1_300);
    let third = asked.recv().await.unwrap();
    assert_eq!((guard.standing(), third.limit), (held_from(0), ms(300)));
    third.answer.send(Ok(RENEWAL)).unwrap();
    let mut standing = guard.standing.clone();
    standing.wait_for(|s| *s == held_from(1_300)).await.unwrap();
    assert!(!guard.on_lost().is_cancelled());
    renewals.release().await;
    assert!(guard.on_lost().is_cancelled());
    assert_eq!(
        guard.standing(),
        held_from(1_300),
        "what was promised is not taken back by not renewing"
    );
    // It is for whoever is still at work; nobody begins.
    assert_eq!(guard.held().await.unwrap_err().reason, Reason::LeaseLost);
    let begun = guard.run(ms(60_000), never_begun).await;
    assert!(matches!(begun, Err(GuardError::NotHeld { .. })), "{begun:?}");
    assert!(asked.recv().await.is_none(), "nobody renews any more");
}

#[tokio::test]
async fn a_role_that_was_taken_away_is_lost_for_good() {
    let (guard, renewals, mut asked) = hold();
    asked
        .recv()
        .await
        .unwrap()
        .answer
        .send(Err(refusal(Reason::StaleEpoch)))
        .unwrap();
    guard.on_lost().cancelled().await;
    assert_eq!(guard.standing(), Standing::Lost(refusal(Reason::StaleEpoch)));
    assert_eq!(guard.held().await.unwrap_err().reason, Reason::StaleEpoch);
    assert!(asked.recv().await.is_none());
    renewals.release().await;
}

#[tokio::test]
async fn a_lease_that_was_not_renewed_in_time_is_lost_a_margin_before_its_end() {
    let (guard, renewals, mut asked) = hold();
    asked.recv().await.unwrap().answer.send(Ok(RENEWAL)).unwrap();
    guard.held().await.unwrap();
    NOW.set(1_600);
    guard.on_lost().cancelled().await;
    assert_eq!(guard.standing.borrow().clone(), Standing::NotHeld);
    assert!(asked.recv().await.is_none());
    renewals.release().await;
}

/// A machine that slept through the rest of its lease hears of it at once, and not when the call gives up.
#[tokio::test]
async fn a_lease_ends_also_while_a_renewal_is_under_way() {
    let (guard, renewals, mut asked) = hold();
    asked.recv().await.unwrap().answer.send(Ok(RENEWAL)).unwrap();
    guard.held().await.unwrap();
    NOW.set(600);
    let under_way = asked.recv().await.unwrap();
    NOW.set(1_600);
    guard.on_lost().cancelled().await;
    assert_eq!(guard.standing.borrow().clone(), Standing::NotHeld);
    assert!(under_way.answer.is_closed(), "the call under way is dropped");
    renewals.release().await;
}

#[tokio::test]
async fn renewals_end_with_their_owner() {
    let (guard, renewals, mut asked) = hold();
    let under_way = asked.recv().await.unwrap();
    drop(renewals);
    guard.on_lost().cancelled().await;
    assert!(under_way.answer.is_closed(), "the call under way is dropped");
}

/// Whoever gives the role away may do so just when a request has run out; another one waits there by then.
#[tokio::test]
async fn an_early_request_is_followed_by_the_next_before_it_ends_and_the_lease_counts_from_the_one_that_was_granted()
 {
    NOW.set(1_000);
    let (guard, renewals, mut asked) = hold_early(40);
    let first = asked.recv().await.unwrap();
    NOW.set(1_300);
    let second = asked.recv().await.unwrap();
    assert_eq!((first.limit, second.limit), (ms(40), ms(40)));
    // No more than two at once; the first ran out, and the second is not given up for that.
    first.answer.send(Err(refusal(Reason::RoleChanging))).unwrap();
    NOW.set(1_500);
    let third = asked.recv().await.unwrap();
    assert_eq!(guard.standing(), Standing::NotHeld);
    second.answer.send(Ok(RENEWAL)).unwrap();
    guard.held().await.unwrap();
    assert_eq!(guard.left(), ms(1_600), "of 1.8 s from the sending of the second");
    // What else was under way is dropped, and renewals go on one by one.
    assert!(third.answer.is_closed());
    renewals.release().await;
}

/// A leader keeps one attempt and no longer; the next request is there by its end, however long either goes on asking.
#[tokio::test]
async fn the_next_early_request_is_sent_at_half_of_an_attempt() {
    let (script, mut asked) = Script::new();
    let script = Script {
        longest_attempt: ms(40),
        ..script
    };
    let course = Course::new(ms(10), ms(600_000));
    let (_guard, renewals) = RoleGuard::hold_by(script, clock, token(), course, First::Relayed);
    let first = asked.recv().await.unwrap();
    let second = tokio::time::timeout(ms(60_000), asked.recv()).await;
    let second = second.expect("before half of ten minutes").unwrap();
    assert_eq!((first.limit, second.limit), (ms(600_000), ms(600_000)));
    renewals.release().await;
}

#[tokio::test]
async fn an_early_request_that_is_refused_for_good_ends_the_others() {
    let (guard, renewals, mut asked) = hold_early(40);
    let first = asked.recv().await.unwrap();
    let second = asked.recv().await.unwrap();
    first.answer.send(Err(refusal(Reason::StaleEpoch))).unwrap();
    assert_eq!(guard.held().await.unwrap_err().reason, Reason::StaleEpoch);
    guard.on_lost().cancelled().await;
    assert!(second.answer.is_closed());
    renewals.release().await;
}
