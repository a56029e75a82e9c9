//! Who shall hold a role (I8); what a plan does next is in `plans`.

mod plans;
mod properties;

use std::{collections::BTreeSet, time::Duration};

use types::{
    Epoch, PlanId, Revision, RoleName, UnixMillis,
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepRecord, StepState},
    region::{Health, NodeKind, NodeStatus},
    role::FailoverMode,
};

use super::{holder, region, role, seconds};
use crate::{
    failover::{
        AgentView, Decision, FailoverView, NodeStanding, TargetView, Unmet, choose_in_region, choose_target,
        decide, holder_gone, is_held, mode_at, qualified,
    },
    readiness::Coverage,
};

const NOW: UnixMillis = UnixMillis(1_000_000);

fn target_view(text: &str) -> TargetView {
    let target = holder(text);
    TargetView {
        is_candidate: true,
        health: Some(Health::Healthy),
        node: Some(NodeStanding {
            region: target.region.clone(),
            kind: NodeKind::Agent,
            incarnation: target.incarnation,
            status: NodeStatus::Up,
        }),
        coverage: Coverage {
            wanted: 1,
            verified: 1,
        },
        target,
    }
}

fn agent(text: &str, silent_ms: u64) -> AgentView {
    let as_target = target_view(text);
    AgentView {
        node: as_target.target.node.clone(),
        as_target,
        silent_for: Duration::from_millis(silent_ms),
        heard: true,
        ready: true,
        cannot_serve: BTreeSet::new(),
        lacks: 0,
    }
}

/// Three regions with an agent each, all well; eu holds the role at e4.
fn view() -> FailoverView {
    FailoverView {
        role: role(4, Some("eu/a1#1")),
        plan: None,
        candidates: ["eu", "us", "ap"].map(region).to_vec(),
        agents: ["eu/a1#1", "us/b1#1", "ap/c1#1"].map(|a| agent(a, 100)).to_vec(),
        step_age: Duration::ZERO,
        failed: Vec::new(),
        holder_renewed: None,
        lease_lapsed: false,
        released: false,
    }
}

fn step(kind: StepKind, state: StepState, attempt: u32) -> StepRecord {
    let ended = matches!(state, StepState::Done | StepState::Failed);
    StepRecord {
        kind,
        state,
        attempt,
        detail: "a detail".to_owned(),
        started_at: (attempt > 0).then_some(NOW),
        finished_at: ended.then_some(NOW),
    }
}

/// A plan for us/b1 whose steps before `current` are done, with `current` as given.
fn plan(kind: PlanKind, current: StepKind, state: StepState, attempt: u32) -> PlanRecord {
    let kinds = StepKind::of(kind);
    let at = kinds.iter().position(|k| *k == current).unwrap();
    let steps = kinds.iter().enumerate().map(|(n, k)| match n.cmp(&at) {
        std::cmp::Ordering::Less => step(*k, StepState::Done, 1),
        std::cmp::Ordering::Equal => step(*k, state, attempt),
        std::cmp::Ordering::Greater => step(*k, StepState::Waiting, 0),
    });
    PlanRecord {
        plan: PlanId(9),
        role: RoleName::global(),
        kind,
        trigger: String::new(),
        from: (kind != PlanKind::Assign).then(|| holder("eu/a1#1")),
        from_epoch: Epoch::new(1, 4),
        target: holder("us/b1#1"),
        target_epoch: None,
        steps: steps.collect(),
        state: PlanState::Running,
        reason: String::new(),
        doors: Vec::new(),
        created_at: NOW,
        created_by: "spiffe://regent.local/region/us/coordinator/m1".parse().unwrap(),
        finished_at: None,
        modified: Revision(9),
    }
}

/// A plan under way: eu is long silent, and fenced if the plan is past its fence.
fn moving(kind: PlanKind, current: StepKind, state: StepState, attempt: u32) -> FailoverView {
    let mut view = view();
    let record = plan(kind, current, state, attempt);
    let done = |kind| {
        let mut steps = record.steps.iter();
        steps.any(|s| s.kind == kind && s.state == StepState::Done)
    };
    if kind != PlanKind::Switchover {
        view.agents[0].silent_for = seconds(60);
    }
    if kind == PlanKind::Assign || done(StepKind::Fence) {
        view.role.holder = None;
    }
    if done(StepKind::Promote) {
        view.role.holder = Some(record.target.clone());
    }
    view.plan = Some(record);
    view
}

fn said(decision: &Decision) -> String {
    match decision {
        Decision::Nothing { why } => format!("nothing: {why}"),
        Decision::StartPlan {
            kind,
            target,
            trigger,
        } => format!("start {kind} to {target}: {trigger}"),
        Decision::StartStep { step, attempt, .. } => format!("step {step} {attempt}"),
        Decision::RetryStep {
            step, attempt, why, ..
        } => format!("retry {step} {attempt}: {why}"),
        Decision::Fence { attempt, .. } => format!("fence {attempt}"),
        Decision::AwaitAgent { step, left, .. } => format!("await agent {step} {left:?}"),
        Decision::AwaitLease { .. } => "await lease".to_owned(),
        Decision::AskRelease { holder, .. } => format!("ask {holder}"),
        Decision::LeaseWaited { attempt, .. } => format!("lease waited {attempt}"),
        Decision::Promote { attempt, .. } => format!("promote {attempt}"),
        Decision::FailPlan { reason, .. } => format!("fail: {reason}"),
    }
}

fn check(view: &FailoverView, expected: &str) {
    assert_eq!(said(&decide(view, NOW)), expected, "{view:?}");
}

type Flaw = fn(&mut TargetView);

#[test]
fn every_unmet_condition_is_named() {
    let with = |change: fn(&mut TargetView)| {
        let mut view = target_view("us/b1#1");
        change(&mut view);
        qualified(&view)
    };
    fn node(view: &mut TargetView) -> &mut NodeStanding {
        view.node.as_mut().unwrap()
    }
    assert_eq!(with(|_| {}), Ok(()));
    let missing = Coverage {
        wanted: 3,
        verified: 2,
    };
    let table: [(Flaw, Unmet); 11] = [
        (|v| v.is_candidate = false, Unmet::NoCandidate),
        (|v| v.health = None, Unmet::UnknownRegion),
        (
            |v| v.health = Some(Health::Unhealthy),
            Unmet::RegionHealth(Health::Unhealthy),
        ),
        (
            |v| v.health = Some(Health::Recovering),
            Unmet::RegionHealth(Health::Recovering),
        ),
        (|v| v.node = None, Unmet::UnknownNode),
        (
            |v| node(v).kind = NodeKind::Coordinator,
            Unmet::NoAgentOfTheRegion,
        ),
        (|v| node(v).region = region("ap"), Unmet::NoAgentOfTheRegion),
        (
            |v| node(v).incarnation = holder("us/b1#2").incarnation,
            Unmet::OtherIncarnation,
        ),
        (|v| node(v).status = NodeStatus::Down, Unmet::NodeDown),
        (
            |v| {
                v.coverage = Coverage {
                    wanted: 3,
                    verified: 2,
                }
            },
            Unmet::CopiesMissing(missing),
        ),
        (
            |v| {
                v.coverage = Coverage {
                    wanted: 1,
                    verified: 0,
                }
            },
            Unmet::CopiesMissing(Coverage {
                wanted: 1,
                verified: 0,
            }),
        ),
    ];
    for (change, unmet) in table {
        assert_eq!(with(change), Err(vec![unmet]));
    }
    let all = with(|v| {
        v.is_candidate = false;
        v.health = None;
        v.node = None;
        v.coverage = Coverage {
            wanted: 1,
            verified: 0,
        };
    });
    assert_eq!(all.unwrap_err().len(), 4);
}

#[test]
fn the_first_qualified_agent_in_candidate_order_is_chosen() {
    let mut view = view();
    assert_eq!(choose_target(&view), Ok(holder("us/b1#1")));
    view.candidates = ["ap", "us"].map(region).to_vec();
    assert_eq!(choose_target(&view), Ok(holder("ap/c1#1")));
    view.agents.push(agent("ap/c0#1", 100));
    assert_eq!(choose_target(&view), Ok(holder("ap/c0#1")));
    view.agents[3].as_target.health = Some(Health::Unhealthy);
    assert_eq!(choose_target(&view), Ok(holder("ap/c1#1")));
    // Another agent of the holder's own region may take over.
    view.candidates = vec![region("eu")];
    view.agents.push(agent("eu/a2#1", 100));
    assert_eq!(choose_target(&view), Ok(holder("eu/a2#1")));
}

#[test]
fn no_choice_says_why_of_each_agent() {
    let mut view = view();
    view.agents[1].as_target.health = Some(Health::Recovering);
    view.agents[2].silent_for = seconds(2);
    assert_eq!(
        choose_target(&view).unwrap_err(),
        "eu/a1#00000001: it holds the role; us/b1#00000001: its region is RECOVERING; ap/c1#00000001: it is silent for 2s"
    );
    view.agents[2] = agent("ap/c1#1", 0);
    view.agents[2].heard = false;
    assert!(choose_target(&view).is_err(), "never heard by this leader");
    view.agents.remove(2);
    assert!(choose_target(&view).unwrap_err().ends_with("ap has no agent"));
    view.candidates.clear();
    assert_eq!(choose_target(&view).unwrap_err(), "there is no candidate region");
}

#[test]
fn an_agent_is_counted_on_until_three_heartbeats_are_missing() {
    let mut view = view();
    let three = view.role.timing.heartbeat_interval + view.role.timing.heartbeat_interval * 2;
    view.agents[1].silent_for = three;
    assert_eq!(choose_target(&view), Ok(holder("us/b1#1")));
    view.agents[1].silent_for = three + Duration::from_millis(1);
    assert_eq!(choose_target(&view), Ok(holder("ap/c1#1")));
}

/// What a person is told who asks for a hand-over from a holder that cannot give it.
#[test]
fn that_a_holder_is_gone_is_told_with_the_evidence() {
    let mut view = view();
    assert_eq!(holder_gone(&view), None);
    view.agents[0].silent_for = seconds(3);
    let evidence = "eu/a1#00000001 is silent for 3s, the limit of fast is 3s";
    assert_eq!(holder_gone(&view).as_deref(), Some(evidence));
    view.role.holder = None;
    assert_eq!(holder_gone(&view), None);
}

#[test]
fn a_target_that_just_failed_is_left_alone_for_a_while() {
    let mut view = view();
    view.failed = vec![(holder("us/b1#1"), Duration::from_millis(4_999))];
    assert_eq!(choose_target(&view), Ok(holder("ap/c1#1")));
    view.failed = vec![(holder("us/b1#1"), seconds(5))];
    assert_eq!(choose_target(&view), Ok(holder("us/b1#1")));
    view.failed = vec![(holder("us/b1#7"), Duration::ZERO)];
    assert_eq!(choose_target(&view), Ok(holder("us/b1#1")), "another run failed");
}

#[test]
fn a_plan_begins_when_the_holder_is_gone_and_not_before() {
    let mut view = view();
    check(
        &view,
        "nothing: eu/a1#00000001 was heard 100ms ago; the limit is 3s",
    );
    view.agents[0].silent_for = Duration::from_millis(2_999);
    check(
        &view,
        "nothing: eu/a1#00000001 was heard 2.9s ago; the limit is 3s",
    );
    view.agents[0].silent_for = seconds(3);
    check(
        &view,
        "start FAILOVER to us/b1#00000001: eu/a1#00000001 is silent for 3s, the limit of fast is 3s",
    );
    view.agents[0] = agent("eu/a1#2", 0);
    check(
        &view,
        "start FAILOVER to eu/a1#00000002: eu/a1#00000001 has restarted as eu/a1#00000002",
    );
    view.agents.remove(0);
    check(
        &view,
        "start FAILOVER to us/b1#00000001: eu/a1#00000001 is not registered",
    );
    view.role.holder = None;
    check(&view, "start ASSIGN to us/b1#00000001: nobody holds the role");
    // A plan that fenced and then failed left it so; and the next one that fails adds nothing.
    let told = "nobody holds the role; fenced by plan p7: eu/a1 is silent for 3s";
    for reason in [
        "fenced by plan p7: eu/a1 is silent for 3s".to_owned(),
        format!("fenced by plan p9: {told}"),
    ] {
        view.role.reason = reason;
        check(&view, &format!("start ASSIGN to us/b1#00000001: {told}"));
    }
}

/// A switchover that failed after its holder stopped: the role must not stay with somebody who cannot renew it.
#[test]
fn a_holder_that_released_its_lease_goes_on_under_a_new_epoch() {
    let mut view = view();
    view.released = true;
    check(
        &view,
        "start FAILOVER to eu/a1#00000001: eu/a1#00000001 released its lease under g1.e4",
    );
    view.candidates = ["us", "eu"].map(region).to_vec();
    check(
        &view,
        "start FAILOVER to us/b1#00000001: eu/a1#00000001 released its lease under g1.e4",
    );
    // The failover that follows does not take it for a holder who is back; the switchover asked for the release.
    let mut moving = moving(PlanKind::Failover, StepKind::Fence, StepState::Running, 1);
    moving.agents[0].silent_for = Duration::ZERO;
    assert!(matches!(decide(&moving, NOW), Decision::FailPlan { .. }));
    moving.released = true;
    assert!(matches!(decide(&moving, NOW), Decision::Fence { .. }));
}

/// I8: its session may be cut while it goes on renewing at the leader.
#[test]
fn a_holder_that_renews_while_its_session_is_mute_is_not_gone() {
    let mut view = view();
    view.agents[0].silent_for = seconds(60);
    view.holder_renewed = Some(Duration::from_millis(400));
    check(
        &view,
        "nothing: eu/a1#00000001 was heard 400ms ago; the limit is 3s",
    );
    view.holder_renewed = Some(Duration::from_millis(2_999));
    check(
        &view,
        "nothing: eu/a1#00000001 was heard 2.9s ago; the limit is 3s",
    );
    view.holder_renewed = Some(seconds(3));
    check(
        &view,
        "start FAILOVER to us/b1#00000001: eu/a1#00000001 is silent for 3s, the limit of fast is 3s",
    );
    // A renewal of the holder says nothing of anybody else.
    view.holder_renewed = Some(Duration::ZERO);
    view.agents[0] = agent("eu/a1#2", 0);
    check(
        &view,
        "start FAILOVER to eu/a1#00000002: eu/a1#00000001 has restarted as eu/a1#00000002",
    );
}

#[test]
fn without_a_qualified_candidate_nothing_is_fenced() {
    let mut view = view();
    view.agents[0].silent_for = seconds(60);
    for agent in &mut view.agents[1..] {
        agent.as_target.coverage = Coverage {
            wanted: 1,
            verified: 0,
        };
    }
    let said = said(&decide(&view, NOW));
    assert!(said.starts_with("nothing: "), "{said}");
    assert!(
        said.contains("nothing is fenced, because no candidate qualifies"),
        "{said}"
    );
    assert!(said.contains("0 of 1 served versions are verified"), "{said}");
}

#[test]
fn a_pause_holds_what_runs_by_itself_until_it_is_over() {
    let mut view = view();
    view.role.holder = None;
    view.role.mode = FailoverMode::Manual;
    check(&view, "nothing: nobody holds the role; failovers are MANUAL");
    view.role.mode = FailoverMode::Paused {
        until: UnixMillis(NOW.0 + 1),
    };
    check(
        &view,
        "nothing: nobody holds the role; failovers are PAUSED until 1970-01-01T00:16:40.001Z",
    );
    view.role.mode = FailoverMode::Paused { until: NOW };
    check(&view, "start ASSIGN to eu/a1#00000001: nobody holds the role");
}

#[test]
fn a_mode_is_told_as_it_is_now() {
    use FailoverMode::{Automatic, Manual, Paused};
    let paused = |at: u64| Paused {
        until: UnixMillis(at),
    };
    for (committed, told) in [
        (Automatic, Automatic),
        (Manual, Manual),
        (paused(NOW.0 + 1), paused(NOW.0 + 1)),
        (paused(NOW.0), Automatic),
        (paused(NOW.0 - 1), Automatic),
    ] {
        assert_eq!(mode_at(committed, NOW), told, "{committed:?}");
        assert_eq!(is_held(committed, NOW), is_held(told, NOW), "{committed:?}");
    }
}

#[test]
fn who_lacks_less_of_what_others_serve_comes_first_and_then_the_order() {
    let chosen = |lacks: [usize; 3]| {
        let mut view = view();
        view.role.holder = None;
        for (agent, lacks) in view.agents.iter_mut().zip(lacks) {
            agent.lacks = lacks;
        }
        choose_target(&view).unwrap().region.to_string()
    };
    assert_eq!(chosen([0, 0, 0]), "eu");
    assert_eq!(chosen([1, 0, 0]), "us");
    assert_eq!(chosen([2, 2, 1]), "ap");
    // Nobody has all: one that lacks something is better than nobody.
    assert_eq!(chosen([3, 3, 3]), "eu");
}

#[test]
fn who_is_not_fit_yet_comes_after_who_is_and_before_nobody() {
    let chosen = |ready: [bool; 3], lacks: [usize; 3]| {
        let mut view = view();
        view.role.holder = None;
        for ((agent, ready), lacks) in view.agents.iter_mut().zip(ready).zip(lacks) {
            (agent.ready, agent.lacks) = (ready, lacks);
        }
        choose_target(&view).unwrap().region.to_string()
    };
    // One that has just restarted would hold its plan up until it has loaded.
    assert_eq!(chosen([false, true, true], [0, 0, 0]), "us");
    assert_eq!(chosen([false, true, true], [0, 2, 1]), "ap");
    assert_eq!(chosen([false, false, false], [0, 0, 0]), "eu");
}

#[test]
fn a_person_gets_the_fittest_of_a_region_and_no_hand_over_to_who_cannot_serve() {
    let mut view = view();
    view.agents.push(agent("us/b2#1", 100));
    let us = region("us");
    let choose = |view: &FailoverView, holder_lives| {
        let chosen = choose_in_region(view, &us, holder_lives);
        chosen.map(|target| target.to_string()).map_err(|refused| {
            let texts = refused.iter().map(|(target, unmet)| {
                let unmet: Vec<_> = unmet.iter().map(ToString::to_string).collect();
                format!("{target}: {}", unmet.join(", "))
            });
            texts.collect::<Vec<_>>().join("; ")
        })
    };
    assert_eq!(choose(&view, true), Ok("us/b1#00000001".to_owned()));
    view.agents[1].lacks = 1;
    view.agents[1].cannot_serve = ["m@2".parse().unwrap()].into();
    assert_eq!(choose(&view, true), Ok("us/b2#00000001".to_owned()));
    // Who is not heard any more, or not fit yet, comes last.
    (view.agents[1].heard, view.agents[3].ready) = (false, false);
    view.agents[1].cannot_serve.clear();
    assert_eq!(choose(&view, true), Ok("us/b2#00000001".to_owned()));
    (view.agents[1].heard, view.agents[1].lacks) = (true, 9);
    assert_eq!(choose(&view, true), Ok("us/b1#00000001".to_owned()));
    view.agents[1].silent_for = seconds(600);
    assert_eq!(choose(&view, true), Ok("us/b2#00000001".to_owned()));

    view.agents[1] = agent("us/b1#1", 100);
    view.agents[1].cannot_serve = ["m@2".parse().unwrap()].into();
    view.agents[3].as_target.node = None;
    let cannot = "us/b1#00000001: it cannot load m@2, and the holder answers for what it cannot";
    let refused = format!("{cannot}; us/b2#00000001: it is not registered");
    assert_eq!(choose(&view, true), Err(refused));
    // With nobody to hand over, who can serve the rest is better than nobody.
    assert_eq!(choose(&view, false), Ok("us/b1#00000001".to_owned()));
    view.agents.clear();
    assert_eq!(choose(&view, true), Err(String::new()));
}
