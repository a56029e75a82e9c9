//! The rules over a state machine: what an early renewal comes to, and what a release or a plan's end does.

use policy::failover::next_holder;
use state::{Command, ControlState, Entry, Expects, StepOutcome};
use types::{
    PlanId, Principal, RequestId,
    plan::{PlanKind, StepKind},
    region::{Endpoints, Health, NodeKind},
};

use super::*;
use crate::{
    leases::rules::{self, Early, Round, Waited},
    raft::ProposeError,
};

struct Log(ControlState);

impl Log {
    /// Two regions with an agent each, holders 1 and 2; nobody holds the role.
    fn new() -> Self {
        let mut log = Self(ControlState::new());
        log.apply(Command::InitCluster {
            cluster_id: ClusterId::from_u128(1),
            generation: 1,
            timing: TimingPolicy::fast(),
        });
        for Holder {
            region,
            node,
            incarnation,
        } in [holder(1), holder(2)]
        {
            log.apply(Command::RegisterRegion {
                region: region.clone(),
            });
            log.apply(Command::RegisterNode {
                node,
                region: region.clone(),
                kind: NodeKind::Agent,
                incarnation,
                endpoints: Endpoints::default(),
                zone: None,
            });
            log.apply(Command::SetRegionHealth {
                region,
                from: Health::Recovering,
                to: Health::Healthy,
                evidence: String::new(),
            });
        }
        log
    }

    fn apply(&mut self, command: Command) {
        let revision = self.0.revision().next();
        let actor: Principal = "spiffe://regent.local/region/r1/coordinator/c1".parse().unwrap();
        let entry = Entry {
            proposed_at: UnixMillis(1_700_000_000_000),
            request_id: RequestId::v7_from_parts(1_700_000_000_000, revision.0.into()),
            actor,
            command,
            expects: Expects::default(),
        };
        self.0.apply(revision, &entry).outcome.unwrap();
    }

    fn epoch(&self) -> Epoch {
        self.0.role(&RoleName::global()).unwrap().epoch
    }

    /// A plan that gives the role to `target` runs, and its PROMOTE is the step that runs in it.
    fn promoting(&mut self, kind: PlanKind, target: u128) -> PlanId {
        self.apply(Command::StartPlan {
            role: RoleName::global(),
            kind,
            target: holder(target),
            trigger: "a test".to_owned(),
            expected_epoch: self.epoch(),
        });
        let plan = PlanId(self.0.revision().0);
        let steps = StepKind::of(kind).iter().skip_while(|s| **s == StepKind::Detect);
        for step in steps.copied() {
            let attempt = 1;
            self.apply(Command::StartStep { plan, step, attempt });
            match step {
                StepKind::Promote => break,
                StepKind::Fence => self.apply(Command::Fence { plan, attempt }),
                _ => self.apply(Command::FinishStep {
                    plan,
                    step,
                    attempt,
                    reporter: None,
                    outcome: StepOutcome::Done {
                        detail: String::new(),
                        doors: Vec::new(),
                    },
                }),
            }
        }
        plan
    }

    fn promote(&mut self, plan: PlanId) {
        self.apply(Command::Promote { plan, attempt: 1 });
    }

    /// The token that a running plan commits next.
    fn next(&self, plan: PlanId) -> FencingToken {
        let role = self.0.role(&RoleName::global()).unwrap();
        let (epoch, next) = next_holder(role, self.0.plan(plan).unwrap()).unwrap();
        FencingToken {
            epoch,
            ..token(0, next.clone())
        }
    }
}

/// A round of the leadership that began at `start`, at once.
fn round(start: Instant) -> Round {
    Round {
        began: start,
        since: Some(start),
    }
}

#[test]
fn a_renewal_is_answered_by_a_round_of_this_leadership_that_began_after_its_receipt() {
    let start = Instant::now();
    let mut log = Log::new();
    let plan = log.promoting(PlanKind::Assign, 1);
    let token = log.next(plan);
    log.promote(plan);
    let received = start + ms(10);
    // (when the round began, of which leadership, whether it answers)
    let cases = [
        (received, Some(start), true),
        (received + ms(1), Some(start), true),
        (received - ms(1), Some(start), false),
        (received, Some(start - ms(1)), false),
        (received, None, false),
    ];
    for (began, since, answers) in cases {
        let mut table = leading(start);
        let round = Round { began, since };
        let decided = rules::renew(&mut table, &log.0, &token, received, &round, received + ms(5));
        assert_eq!(decided.is_ok(), answers, "{round:?}");
        let renewed = table.renewed_at(&token.role, token.epoch).is_some();
        assert_eq!(renewed, answers, "{round:?}");
        let reason = decided.err().map(|refusal| refusal.reason);
        assert_eq!(reason, (!answers).then_some(Reason::NotLeader));
    }
    let round = Round {
        began: received,
        since: None,
    };
    let mut follower = LeaseTable::default();
    let decided = rules::renew(&mut follower, &log.0, &token, received, &round, received);
    assert!(decided.is_err());
}

#[test]
fn an_early_renewal_waits_for_its_entry_and_no_longer_than_its_caller_or_its_leader() {
    let start = Instant::now();
    let mut log = Log::new();
    let plan = log.promoting(PlanKind::Assign, 1);
    let early = Early {
        token: log.next(plan),
        received: start,
        deadline: start + ms(800),
        round: round(start),
    };
    let judge = |log: &Log, since, at| {
        let mut table = LeaseTable::default();
        table.lead(since);
        rules::judge(&mut table, &log.0, &early, at)
    };
    assert_eq!(rules::end_of_wait(&early), start + ms(700));
    assert_eq!(judge(&log, Some(start), start + ms(699)), Waited::On);
    let over = judge(&log, Some(start), start + ms(700));
    assert!(
        matches!(&over, Waited::Over(Err(r)) if r.reason == Reason::RoleChanging),
        "{over:?}"
    );
    assert_eq!(judge(&log, Some(start + ms(1)), start + ms(2)), Waited::Deposed);
    assert_eq!(judge(&log, None, start + ms(2)), Waited::Deposed);
    log.promote(plan);
    let granted = judge(&log, Some(start), start + ms(400));
    assert!(matches!(granted, Waited::Over(Ok(_))), "{granted:?}");
    assert_eq!(judge(&log, Some(start + ms(1)), start + ms(400)), Waited::Deposed);
}

/// A caller sends its next request before the one before is over, and either asks again when it is told to.
#[test]
fn of_two_early_renewals_of_one_token_the_one_waits_that_can_wait_longer() {
    let start = Instant::now();
    let early = |received: u64, deadline: u64, of: u128| Early {
        token: token(0, holder(of)),
        received: start + ms(received),
        deadline: start + ms(deadline),
        round: round(start),
    };
    for (what, later, earlier, takes) in [
        ("the next one", early(500, 1_500, 1), early(0, 1_000, 1), true),
        (
            "an older one that asks again",
            early(700, 1_000, 1),
            early(500, 1_500, 1),
            false,
        ),
        ("alike", early(500, 1_500, 1), early(500, 1_500, 1), true),
        ("another one's", early(700, 1_000, 2), early(500, 1_500, 1), true),
        (
            "over before it began",
            early(900, 800, 1),
            early(500, 1_500, 1),
            false,
        ),
    ] {
        assert_eq!(rules::takes_the_place(&later, &earlier), takes, "{what}");
    }
    // Whose place was taken asks again at half of what the other still waits, here until 1.375 s.
    let after = |now| rules::crowded(&token(0, holder(1)), &early(500, 1_500, 1), start + ms(now));
    for (now, retry_after) in [(575, "400"), (1_375, "0"), (2_000, "0")] {
        let refusal = after(now);
        assert_eq!(
            (refusal.reason, refusal.operand("retry_after_ms")),
            (Reason::RoleChanging, Some(retry_after)),
            "{now}"
        );
    }
}

#[test]
fn only_the_token_that_a_plan_is_about_to_commit_may_wait() {
    let start = Instant::now();
    let mut log = Log::new();
    let plan = log.promoting(PlanKind::Assign, 1);
    log.promote(plan);
    let held = log.0.role(&RoleName::global()).unwrap().epoch;
    let plan = log.promoting(PlanKind::Switchover, 2);
    let next = log.next(plan);
    assert_eq!(next.epoch, held.next().unwrap());
    let mut table = leading(start);
    let renew = |table: &mut LeaseTable, token: &FencingToken| {
        rules::renew(table, &log.0, token, start, &round(start), start)
    };
    assert_eq!(renew(&mut table, &next), Ok(None));
    let other = FencingToken {
        holder: holder(3),
        ..next.clone()
    };
    assert_eq!(
        renew(&mut table, &other).unwrap_err().reason,
        Reason::EpochUnconfirmed
    );
    let later = FencingToken {
        epoch: next.epoch.next().unwrap(),
        ..next
    };
    assert_eq!(
        renew(&mut table, &later).unwrap_err().reason,
        Reason::EpochUnconfirmed
    );
}

#[test]
fn a_role_is_settled_once_the_plan_is_over_that_asked_whether_or_not_another_runs() {
    let start = Instant::now();
    let name = RoleName::global();
    let mut log = Log::new();
    let plan = log.promoting(PlanKind::Assign, 1);
    log.promote(plan);
    let epoch = log.epoch();
    let token = FencingToken {
        epoch,
        ..token(0, holder(1))
    };
    let mut table = leading(start);
    let plan = log.promoting(PlanKind::Switchover, 2);
    table.hold(&name, epoch, plan);
    let renews = |table: &mut LeaseTable, log: &Log| {
        rules::renew(table, &log.0, &token, start, &round(start), start).is_ok()
    };
    rules::settle(&mut table, &log.0, &name);
    assert!(!renews(&mut table, &log), "the plan runs");
    log.apply(Command::FailPlan {
        plan,
        reason: "a test".to_owned(),
    });
    // The next plan is there before anybody looks, and asks nobody to stop until its target is verified.
    let target = holder(2);
    log.apply(Command::StartPlan {
        role: name.clone(),
        kind: PlanKind::Switchover,
        target,
        trigger: "a test".to_owned(),
        expected_epoch: epoch,
    });
    rules::settle(&mut table, &log.0, &name);
    assert!(renews(&mut table, &log));
    assert_eq!(rules::release(&mut table, &log.0, &token, start), Ok(true));
    assert_eq!(
        rules::release(&mut table, &log.0, &token, start),
        Ok(false),
        "said again"
    );
    let lease = rules::lease_view(&table, &log.0, &name, start).unwrap();
    assert!(
        lease.released && lease.lapsed && lease.renewed.is_none(),
        "{lease:?}"
    );
    let nowhere: RoleName = "primaries/nowhere".parse().unwrap();
    assert_eq!(rules::lease_view(&table, &log.0, &nowhere, start), None);
    assert_eq!(
        rules::begin(&mut table, &log.0, &nowhere, epoch, false, start),
        None
    );
}

#[test]
fn what_may_still_be_applied_counts_as_changed() {
    let detail = || String::new();
    let cases = [
        (Ok(()), ChangeOutcome::Applied),
        (
            Err(ProposeError::OutcomeUnknown { detail: detail() }),
            ChangeOutcome::Unknown,
        ),
        (
            Err(ProposeError::NotLeader { leader: None }),
            ChangeOutcome::NotProposed,
        ),
        (
            Err(ProposeError::NoQuorum { detail: detail() }),
            ChangeOutcome::NotProposed,
        ),
    ];
    for (result, outcome) in cases {
        assert_eq!(rules::outcome_of(&result), outcome, "{result:?}");
    }
}
