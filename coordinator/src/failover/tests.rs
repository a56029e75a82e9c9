//! Looks, decisions and entries in turn, without a cluster: the loop of the driver over a state machine, by a clock that
//! the test moves.

mod simulation;

use std::time::Duration;

use policy::{
    failover::{Decision, decide},
    readiness::Loads,
};
use state::{
    Command, ControlState, Entry, FormerTtl, Reply, StepOutcome,
    query::{LeaseView, Seen},
};
use tokio::time::Instant;
use types::{
    ClusterId, Holder, NodeIncarnation, Principal, RequestId, RoleName, UnixMillis,
    plan::{PlanKind, PlanState, StepKind},
    region::{Endpoints, Health, NodeKind, NodeRecord},
    role::{FailoverMode, TimingPolicy},
};

use super::{
    memory::Memory,
    rules::{Due, command, due},
};

const WALL: UnixMillis = UnixMillis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const LOOK: Duration = Duration::from_millis(100);
const REGIONS: [&str; 3] = ["eu", "us", "ap"];

fn agent(region: &str) -> Holder {
    Holder {
        region: region.parse().unwrap(),
        node: format!("a-{region}").parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(1),
    }
}

fn leader() -> Principal {
    "spiffe://regent.local/region/us/coordinator/c1".parse().unwrap()
}

/// A cluster in which time can be moved: wall clock and monotonic clock of the leader apart.
struct Sim {
    state: ControlState,
    memory: Memory,
    elected: Instant,
    now: Instant,
    wall: UnixMillis,
    entries: u128,
    /// The agents that answer nothing.
    mute: Vec<Holder>,
    /// Decisions by name, each once in a row.
    said: Vec<String>,
}

impl Sim {
    /// Three healthy regions with an agent each; nobody holds the role.
    fn new() -> Self {
        let now = Instant::now();
        let mut sim = Self {
            state: ControlState::new(),
            memory: Memory::default(),
            elected: now,
            now,
            wall: WALL,
            entries: 0,
            mute: Vec::new(),
            said: Vec::new(),
        };
        sim.apply(Command::InitCluster {
            cluster_id: ClusterId::from_u128(1),
            generation: 1,
            timing: TimingPolicy::fast(),
        });
        for region in REGIONS {
            let Holder {
                region,
                node,
                incarnation,
            } = agent(region);
            sim.apply(Command::RegisterRegion {
                region: region.clone(),
            });
            sim.apply(Command::RegisterNode {
                node,
                region: region.clone(),
                kind: NodeKind::Agent,
                incarnation,
                endpoints: Endpoints::default(),
                zone: None,
            });
            sim.apply(Command::SetRegionHealth {
                region,
                from: Health::Recovering,
                to: Health::Healthy,
                evidence: String::new(),
            });
        }
        sim
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.apply_as(leader(), command)
    }

    fn apply_as(&mut self, actor: Principal, command: Command) -> Reply {
        self.entries += 1;
        let entry = Entry {
            proposed_at: self.wall,
            request_id: RequestId::v7_from_parts(WALL.0, self.entries),
            actor,
            command,
            expects: state::Expects::default(),
        };
        let applied = self.state.apply(self.state.revision().next(), &entry);
        applied
            .outcome
            .unwrap_or_else(|rejection| panic!("{rejection}: {entry:?}"))
    }

    fn decide(&mut self) -> (policy::failover::FailoverView, Decision) {
        let (role, now, elected) = (RoleName::global(), self.now, self.elected);
        let mute = self.mute.clone();
        let seen = |node: &NodeRecord| {
            let is_mute = mute.iter().any(|m| m.node == node.node);
            Seen {
                silent_for: if is_mute { now - elected } else { Duration::ZERO },
                heard: !is_mute,
                ready: true,
                loads: Loads::default(),
            }
        };
        let lease = LeaseView {
            lapsed: true,
            released: false,
            renewed: None,
        };
        self.memory.look(&role, self.state.unsettled_plans(&role), now);
        let view = self
            .state
            .failover_view(&role, seen, lease, |plan| self.memory.age(plan, now))
            .unwrap();
        let decision = decide(&view, self.wall);
        (view, decision)
    }

    /// One look of the leader; the agents for whom `answers` is true do what they are asked.
    fn look(&mut self, answers: impl Fn(&Holder) -> bool) {
        self.now += LOOK;
        self.wall = self.wall.plus(LOOK);
        let (view, decision) = self.decide();
        let name = format!("{decision:?}");
        let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
        if self.said.last() != Some(&name) {
            self.said.push(name);
        }
        if let Decision::AwaitAgent {
            plan, step, attempt, ..
        } = &decision
            && let Some(target) = view.plan.as_ref().map(|p| p.target.clone())
            && answers(&target)
        {
            self.report(&target, *plan, *step, *attempt);
        }
        if let Some(command) = command(&view, decision) {
            self.apply(command);
        }
    }

    fn report(&mut self, by: &Holder, plan: types::PlanId, step: StepKind, attempt: u32) {
        let actor = Principal::Agent {
            region: by.region.clone(),
            node: by.node.clone(),
        };
        let outcome = StepOutcome::Done {
            detail: String::new(),
            doors: Vec::new(),
        };
        let command = Command::FinishStep {
            plan,
            step,
            attempt,
            reporter: Some(by.incarnation),
            outcome,
        };
        self.apply_as(actor, command);
    }

    /// Looks until the role is held by somebody else than `before`; how long that took.
    fn until_held_anew(
        &mut self,
        before: Option<&Holder>,
        answers: impl Fn(&Holder) -> bool,
    ) -> (Holder, Duration) {
        let start = self.now;
        while self.now - start < HOUR {
            self.look(&answers);
            let holder = self.state.role(&RoleName::global()).unwrap().holder.clone();
            if let Some(holder) = holder
                && before != Some(&holder)
            {
                return (holder, self.now - start);
            }
        }
        panic!("nobody was promoted within an hour: {:?}", self.said);
    }

    /// Some leader's clock ran an hour ahead, and it proposed one entry.
    fn state_time_jumps(&mut self) {
        let honest = self.wall;
        self.wall = honest.plus(HOUR);
        let role = RoleName::global();
        self.apply(Command::SetRoleMode {
            role,
            mode: FailoverMode::Automatic,
        });
        self.wall = honest;
        assert!(self.state.time() >= honest.plus(HOUR));
    }
}

#[test]
fn a_failover_goes_on_though_state_time_is_an_hour_ahead_of_the_leader() {
    let mut sim = Sim::new();
    let (holder, _) = sim.until_held_anew(None, |_| true);
    assert_eq!(holder, agent("eu"));
    sim.state_time_jumps();
    sim.mute = vec![agent("eu")];
    sim.elected = sim.now;
    // The first target keeps its session and never does its step: time-outs, a failed plan, a cool-down, the next one.
    let (holder, took) = sim.until_held_anew(Some(&agent("eu")), |target| *target == agent("ap"));
    assert_eq!(holder, agent("ap"));
    assert!(took < Duration::from_secs(30), "{took:?}: {:?}", sim.said);
    let failed = sim
        .state
        .plans(None, 10)
        .items
        .iter()
        .filter(|p| p.state == PlanState::Failed)
        .count();
    assert_eq!(failed, 1);
}

#[test]
fn a_target_that_failed_is_asked_again_after_its_cool_down_and_not_before() {
    let mut sim = Sim::new();
    sim.mute = vec![agent("us"), agent("ap")];
    sim.state_time_jumps();
    // Nobody else is there: the plan for the only one fails, and it is asked again.
    let plans = |sim: &Sim| sim.state.plans(None, 10).items.len();
    while plans(&sim) < 1 || sim.state.running_plan(&RoleName::global()).is_some() {
        sim.look(|_| false);
    }
    let failed_at = sim.now;
    while plans(&sim) < 2 {
        sim.look(|_| false);
    }
    let pause = sim.now - failed_at;
    assert!(
        pause >= Duration::from_secs(5) && pause < Duration::from_secs(6),
        "{pause:?}"
    );
}

/// The operator's switchover ends where the holder dies; that is no failure of the region that it was to go to.
#[test]
fn a_target_is_chosen_at_once_after_a_switchover_that_ended_for_the_holders_sake() {
    let mut sim = Sim::new();
    let (holder, _) = sim.until_held_anew(None, |_| true);
    assert_eq!(holder, agent("eu"));
    let person = "spiffe://regent.local/user/admin".parse().unwrap();
    let expected_epoch = sim.state.role(&RoleName::global()).unwrap().epoch;
    sim.apply_as(
        person,
        Command::StartPlan {
            role: RoleName::global(),
            kind: PlanKind::Switchover,
            target: agent("us"),
            trigger: "a drill".to_owned(),
            expected_epoch,
        },
    );
    sim.mute = vec![agent("eu")];
    sim.elected = sim.now;
    // The target has not answered when the holder is gone: the plan fails, and a failover begins.
    let failed = |sim: &Sim| {
        sim.state
            .plans(None, 10)
            .items
            .iter()
            .any(|p| p.state == PlanState::Failed)
    };
    while !failed(&sim) {
        sim.look(|_| false);
    }
    let (holder, took) = sim.until_held_anew(Some(&agent("eu")), |_| true);
    assert_eq!(holder, agent("us"), "{:?}", sim.said);
    assert!(took < Duration::from_secs(2), "{took:?}: {:?}", sim.said);
}

#[test]
fn a_former_ttl_is_waited_out_with_its_drift_from_its_last_change_and_anew_by_each_leader() {
    let (start, role) = (Instant::now(), RoleName::global());
    let former = |since| {
        let ttl = Duration::from_secs(10);
        Some(FormerTtl {
            ttl,
            since: types::Revision(since),
        })
    };
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut memory = Memory::default();
    assert!(!memory.waited_out(&role, former(5), at(0)));
    assert!(!memory.waited_out(&role, former(5), at(10)));
    assert!(memory.waited_out(&role, former(5), at(11)));
    assert!(
        !memory.waited_out(&role, former(6), at(11)),
        "shortened once more"
    );
    assert!(!memory.waited_out(&role, former(6), at(21)));
    assert!(memory.waited_out(&role, former(6), at(22)));
    assert!(!memory.waited_out(&role, None, at(23)));
    assert!(!memory.waited_out(&role, former(6), at(24)));
    assert!(
        !Memory::default().waited_out(&role, former(6), at(40)),
        "another leader"
    );
}

#[test]
fn a_new_leader_counts_anew() {
    let mut sim = Sim::new();
    sim.mute = vec![agent("us"), agent("ap")];
    sim.look(|_| false);
    sim.look(|_| false);
    let (view, decision) = sim.decide();
    assert!(matches!(decision, Decision::AwaitAgent { .. }), "{decision:?}");
    let plan = view.plan.unwrap();
    assert_eq!(sim.memory.age(&plan, sim.now + LOOK), LOOK);
    let mut next = Memory::default();
    let later = sim.now + HOUR;
    next.look(
        &RoleName::global(),
        sim.state.unsettled_plans(&RoleName::global()),
        later,
    );
    assert_eq!(next.age(&plan, later + LOOK), LOOK);
}

/// What changes an epoch goes by the leases; of those, only the hand-over in one entry needs the role to be free.
#[test]
fn what_is_due_goes_by_the_leases_where_it_changes_an_epoch() {
    let mut sim = Sim::new();
    let (mut view, _) = sim.decide();
    let (plan, attempt) = (types::PlanId(7), 1);
    let holder = agent("eu");
    view.plan = {
        sim.look(|_| false);
        sim.decide().0.plan
    };
    let mut of = |kind, decision| {
        view.plan.as_mut().unwrap().kind = kind;
        due(&view, decision)
    };
    let epoch = sim.state.role(&RoleName::global()).unwrap().epoch;
    let change = |command, needs_free| Due::Change { command, needs_free };
    let promote = || Command::Promote { plan, attempt };
    assert_eq!(
        of(PlanKind::Failover, Decision::Fence { plan, attempt }),
        change(Command::Fence { plan, attempt }, false)
    );
    for (kind, needs_free) in [
        (PlanKind::Assign, false),
        (PlanKind::Failover, false),
        (PlanKind::Switchover, true),
    ] {
        assert_eq!(
            of(kind, Decision::Promote { plan, attempt }),
            change(promote(), needs_free)
        );
    }
    let ask = Decision::AskRelease { plan, holder };
    assert_eq!(of(PlanKind::Switchover, ask), Due::Hold { epoch, plan });
    assert_eq!(of(PlanKind::Failover, Decision::AwaitLease { plan }), Due::Wait);
    let waited = of(PlanKind::Failover, Decision::LeaseWaited { plan, attempt });
    assert!(
        matches!(waited, Due::Propose(Command::FinishStep { .. })),
        "{waited:?}"
    );
}
