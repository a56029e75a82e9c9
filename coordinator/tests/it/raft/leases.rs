//! Leases on real nodes, by the services that agents call: a leader that is cut off refuses its holders (L6, L7), and no wall clock
//! moves a lease (L8, L9, L10).

use std::{sync::Arc, time::Duration};

use coordinator::{
    api::{Api, primaries::Primaries},
    authz::Caller,
    failover::driver,
    leases::{Leases, RoleChange},
    raft::{RaftLimits, RaftNode, WallClock},
    sessions::{Session, Sessions},
    watch_hub::WatchHub,
};
use proto::v1::{self as pb, primary_service_server::PrimaryService as _};
use state::{Command, ControlState, Reply, StepOutcome, features::SUPPORTED, query::LeaseView};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use types::{
    FencingToken, Holder, NodeIncarnation, PlanId, Principal, Reason, RoleName, UnixMillis,
    plan::{PlanKind, StepKind, StepState},
    reason::Refusal,
    region::{Endpoints, Health, NodeKind},
    role::{FailoverMode, TimingPolicy},
    time::{Clock as _, ManualClock, SystemClock},
};

use super::harness::{Cluster, deadline, request_id, timing, user, within};

const HOUR: Duration = Duration::from_secs(3600);
/// Longer than any of these tests: no lease ends while one runs, and nobody is missed.
const CALM: Duration = Duration::from_secs(600);
/// What nobody can believe in any more ends so long after its receipt, by the leader's clock (L8).
const LEADERS: Duration = Duration::from_secs(660);
/// Two readings of one clock are further apart than this on no machine, and a lease's end is not as near.
const MOMENT: Duration = Duration::from_millis(1);

fn calm() -> TimingPolicy {
    TimingPolicy {
        heartbeat_interval: CALM / 3,
        promotion_absence: CALM,
        lease_ttl: CALM,
        ..TimingPolicy::fast()
    }
}

fn agent(region: &str) -> Holder {
    Holder {
        region: region.parse().unwrap(),
        node: format!("a-{region}").parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(1),
    }
}

fn principal(of: &Holder) -> Principal {
    Principal::Agent {
        region: of.region.clone(),
        node: of.node.clone(),
    }
}

/// What runs beside a coordinator's Raft node: its leases, its loop over roles, and the service that agents call.
struct Seat {
    api: Arc<Api>,
    loops: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    sessions: Vec<Session>,
}

impl Seat {
    fn of(node: &RaftNode) -> Self {
        let stop = CancellationToken::new();
        let (leases, renewals) = Leases::new(node.clone());
        let applied = node.subscribe();
        let hub = WatchHub::new(applied.after());
        let api = Api::new(
            node.clone(),
            hub.clone(),
            Sessions::default(),
            leases,
            stop.clone(),
        );
        let loops = vec![
            tokio::spawn(hub.run(applied, stop.clone())),
            tokio::spawn(renewals.run(stop.clone())),
            tokio::spawn(driver::run(Arc::clone(&api), stop.clone())),
        ];
        Self {
            api,
            loops,
            stop,
            sessions: Vec::new(),
        }
    }

    /// A call of an agent that was received now.
    fn call<T>(&self, from: &Holder, message: T, patience: Duration) -> (Request<T>, Instant) {
        let received = Instant::now();
        let mut request = Request::new(message);
        request.extensions_mut().insert(Caller {
            principal: principal(from),
            received,
            deadline: received + patience,
        });
        (request, received)
    }

    /// Renews; when the renewal was received.
    async fn renew(&self, token: &FencingToken, patience: Duration) -> Result<Instant, Refusal> {
        let message = pb::RenewLeaseRequest {
            token: Some(token.into()),
        };
        let (request, received) = self.call(&token.holder, message, patience);
        let answer = Primaries(Arc::clone(&self.api)).renew_lease(request).await;
        let answer = answer.map_err(refusal)?.into_inner();
        assert_eq!(u128::from(answer.ttl_millis), CALM.as_millis());
        Ok(received)
    }

    async fn release(&self, token: &FencingToken, patience: Duration) -> Result<(), Refusal> {
        let message = pb::ReleaseLeaseRequest {
            token: Some(token.into()),
        };
        let (request, _) = self.call(&token.holder, message, patience);
        let answer = Primaries(Arc::clone(&self.api)).release_lease(request).await;
        answer.map(drop).map_err(refusal)
    }

    async fn check_fence(&self, token: &FencingToken, patience: Duration) -> Result<bool, Refusal> {
        let message = pb::CheckFenceRequest {
            token: Some(token.into()),
            read: None,
        };
        let (request, _) = self.call(&token.holder, message, patience);
        let answer = Primaries(Arc::clone(&self.api)).check_fence(request).await;
        Ok(answer.map_err(refusal)?.into_inner().current)
    }

    /// What its table knows of the role at a moment.
    fn look(&self, at: Instant) -> LeaseView {
        self.api.leases.look(&RoleName::global(), at).unwrap()
    }

    /// Whether its table has the role's leases end exactly so, and so late.
    fn ends_at(&self, end: Instant) -> bool {
        !self.look(end - MOMENT).lapsed && self.look(end + MOMENT).lapsed
    }

    /// Hears its agents from now on, while it leads.
    async fn hear(&mut self) {
        let mut leadership = self.api.raft.leadership();
        let leads = leadership.wait_for(|l| l.since.is_some());
        let since = within("a leadership", leads).await.unwrap().since.unwrap();
        self.api.sessions.lead(since);
        let now = Instant::now();
        self.sessions = ["eu", "us"]
            .map(|name| self.api.sessions.open(since, agent(name), now).unwrap())
            .into();
    }

    /// Since when it leads.
    fn since(&self) -> Instant {
        self.api.raft.leadership().borrow().since.expect("it leads")
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.loops {
            within("the end of a loop", task).await.unwrap();
        }
    }
}

fn refusal(status: Status) -> Refusal {
    proto::convert::status::from_status(&status)
}

/// Three coordinators with all that moves roles; the test is the agents. The holder is `eu`'s.
struct Story {
    cluster: Cluster,
    seats: Vec<Seat>,
    clocks: [Arc<ManualClock>; 3],
    start: UnixMillis,
}

impl Story {
    async fn begin() -> Self {
        let start = SystemClock.now();
        let clocks = [(); 3].map(|()| Arc::new(ManualClock::new(start)));
        let walls = clocks.iter().map(|clock| WallClock(clock.clone())).collect();
        let cluster = Cluster::clocked(3, RaftLimits::default(), timing(), walls).await;
        let seats = (0..3).map(|i| Seat::of(cluster.node(i))).collect();
        let mut story = Self {
            cluster,
            seats,
            clocks,
            start,
        };
        story.apply(Command::SetFeatureLevel { level: SUPPORTED }).await;
        story.apply(Command::SetTiming { timing: calm() }).await;
        story
            .timed(TimingPolicy {
                lease_ttl: Duration::from_secs(2),
                ..calm()
            })
            .await;
        let leader = story.cluster.leader_index().await;
        story.seats[leader].hear().await;
        for name in ["eu", "us"] {
            story.join(&agent(name)).await;
        }
        // The first assignment waits the short TTL out, and is the only one that does.
        story.moved().await;
        story.timed(calm()).await;
        story
    }

    async fn timed(&self, timing: TimingPolicy) {
        let role = RoleName::global();
        self.apply(Command::SetRoleTiming { role, timing }).await;
    }

    async fn join(&self, agent: &Holder) {
        let region = agent.region.clone();
        let register = Command::RegisterRegion {
            region: region.clone(),
        };
        self.apply(register).await;
        let node = Command::RegisterNode {
            node: agent.node.clone(),
            region: region.clone(),
            kind: NodeKind::Agent,
            incarnation: agent.incarnation,
            endpoints: Endpoints::default(),
            zone: None,
        };
        self.apply(node).await;
        let healthy = Command::SetRegionHealth {
            region,
            from: Health::Recovering,
            to: Health::Healthy,
            evidence: String::new(),
        };
        self.apply(healthy).await;
    }

    async fn apply(&self, command: Command) -> Reply {
        let done = self.cluster.propose_as(request_id(), command).await;
        done.outcome.unwrap()
    }

    /// The seat of whoever leads now.
    async fn leading(&self) -> &Seat {
        &self.seats[self.cluster.leader_index().await]
    }

    /// Waits until the state is as `f` says, where `at` is told of it.
    async fn until<T>(&self, what: &str, at: &Seat, f: impl Fn(&ControlState) -> Option<T>) -> T {
        let mut last = at.api.hub.last();
        within(what, async {
            loop {
                last.borrow_and_update();
                if let Some(found) = at.api.raft.read(&f) {
                    return found;
                }
                last.changed().await.unwrap();
            }
        })
        .await
    }

    /// Does what agents have to do until no plan runs.
    async fn moved(&self) -> FencingToken {
        let seat = self.leading().await;
        let next = |s: &ControlState| match s.running_plan(&RoleName::global()) {
            Some(_) => due(s).map(Some),
            None => s.role(&RoleName::global())?.holder.is_some().then_some(None),
        };
        while let Some((plan, target, step, attempt)) = self.until("the end of a plan", seat, next).await {
            self.finish(plan, &target, step, attempt).await;
        }
        token(seat)
    }

    async fn finish(&self, plan: PlanId, by: &Holder, step: StepKind, attempt: u32) {
        let command = Command::FinishStep {
            plan,
            step,
            attempt,
            reporter: Some(by.incarnation),
            outcome: StepOutcome::Done {
                detail: String::new(),
                doors: Vec::new(),
            },
        };
        let leader = self.cluster.leader().await;
        let done = leader
            .propose(principal(by), request_id(), command, deadline())
            .await;
        done.unwrap().outcome.unwrap();
    }

    /// Begins a switchover, up to where the holder is asked to stop.
    async fn promoting(&self, to: &Holder) {
        let seat = self.leading().await;
        let command = Command::StartPlan {
            role: RoleName::global(),
            kind: PlanKind::Switchover,
            target: to.clone(),
            trigger: String::new(),
            expected_epoch: token(seat).epoch,
        };
        let Reply::Plan { plan } = self.apply(command).await else {
            panic!("a plan was begun");
        };
        let (_, target, step, attempt) = self.until("VERIFY_TARGET", seat, due).await;
        self.finish(plan, &target, step, attempt).await;
        self.until("PROMOTE", seat, |s| {
            let step = s.plan(plan)?.current_step()?;
            (step.kind == StepKind::Promote && step.state == StepState::Running).then_some(())
        })
        .await;
    }

    /// How far state time is from the start, where node `at` stands.
    fn state_time(&self, at: &Seat) -> Duration {
        at.api.raft.read(|s| s.time()).since(self.start)
    }

    async fn end(mut self) {
        self.cluster.distance.heal();
        for seat in self.seats {
            seat.end().await;
        }
        self.cluster.assert_converged().await;
        self.cluster.stop_all().await;
    }
}

/// The committed holder's token, as one coordinator has it.
fn token(at: &Seat) -> FencingToken {
    at.api.raft.read(|s| {
        let role = s.role(&RoleName::global()).unwrap();
        FencingToken {
            cluster_id: s.cluster().unwrap().cluster_id,
            role: role.role.clone(),
            epoch: role.epoch,
            holder: role.holder.clone().unwrap(),
        }
    })
}

/// What a coordinator believes of the role: whether its leases are over, whether it was released, and whose it is.
fn belief(at: &Seat) -> (bool, bool, FencingToken) {
    let view = at.look(Instant::now());
    (view.lapsed, view.released, token(at))
}

/// The step that an agent has to do.
fn due(state: &ControlState) -> Option<(PlanId, Holder, StepKind, u32)> {
    let plan = state.running_plan(&RoleName::global())?;
    let step = plan.current_step()?;
    let running = step.state == StepState::Running && step.kind.runs_in_agent();
    running.then(|| (plan.plan, plan.target.clone(), step.kind, step.attempt))
}

fn plans(state: &ControlState) -> usize {
    state.plans(None, usize::MAX).items.len()
}

/// Everything that a holder, or whoever would be the next one, may ask of this seat, a few times over: all of it is refused.
async fn refuses(seat: &Seat, tokens: &[&FencingToken], reasons: &[Reason]) {
    let patience = timing().election_max;
    for token in tokens {
        let renewals = (0..8).map(|_| seat.renew(token, patience));
        for renewed in futures::future::join_all(renewals).await {
            let refused = renewed.expect_err("a lease was extended");
            assert!(reasons.contains(&refused.reason), "{token}: {refused:?}");
        }
        let checked = seat.check_fence(token, patience).await;
        let refused = checked.expect_err("a token was confirmed");
        assert!(reasons.contains(&refused.reason), "{token}: {refused:?}");
    }
}

/// Its clock stands well within the lease that it granted, its table says that the lease runs, and its state that the holder
/// holds: what it lacks is a quorum, and that alone has to be enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_extends_no_lease_and_confirms_no_token_while_the_majority_goes_on() {
    let mut story = Story::begin().await;
    let old = story.cluster.leader_index().await;
    let others = [(old + 1) % 3, (old + 2) % 3];
    let held = token(&story.seats[old]);
    let next = FencingToken {
        epoch: held.epoch.next().unwrap(),
        holder: agent("us"),
        ..held.clone()
    };
    let renewed = story.seats[old].renew(&held, CALM).await.unwrap();
    assert!(story.seats[old].check_fence(&held, CALM).await.unwrap());
    assert!(story.seats[old].ends_at(renewed + LEADERS));

    for other in others {
        story.cluster.distance.cut(old, other);
    }
    // Whether it knows by now that it is cut off or not.
    let alone = [Reason::NoQuorum, Reason::NotLeader, Reason::OutcomeUnknown];
    refuses(&story.seats[old], &[&held, &next], &alone).await;
    assert_eq!(belief(&story.seats[old]), (false, false, held.clone()));

    // The majority elects one of its own, which hears the same holder, and later gives the role to another.
    let elected = others.map(|i| {
        let mut leadership = story.cluster.node(i).leadership();
        Box::pin(async move {
            leadership
                .wait_for(|l| l.since.is_some())
                .await
                .map(|_| i)
                .unwrap()
        })
    });
    let (new, _, _) = within("an election", futures::future::select_all(elected)).await;
    story.seats[new].hear().await;
    let new_seat = &story.seats[new];
    new_seat.renew(&held, CALM).await.unwrap();
    refuses(&story.seats[old], &[&held, &next], &alone).await;
    let node = story.cluster.node(new).clone();
    let plan = Command::StartPlan {
        role: RoleName::global(),
        kind: PlanKind::Switchover,
        target: agent("us"),
        trigger: String::new(),
        expected_epoch: held.epoch,
    };
    let begun = node
        .propose(user(), request_id(), plan, deadline())
        .await
        .unwrap();
    begun.outcome.unwrap();
    new_seat.release(&held, CALM).await.unwrap();
    let promoted = |s: &ControlState| Some(s.role(&RoleName::global())?.epoch == next.epoch);
    while let Some((plan, target, step, attempt)) = story
        .until("a step or the promotion", new_seat, |s| match promoted(s)? {
            true => Some(None),
            false => due(s).map(Some),
        })
        .await
    {
        let command = Command::FinishStep {
            plan,
            step,
            attempt,
            reporter: Some(target.incarnation),
            outcome: StepOutcome::Done {
                detail: String::new(),
                doors: Vec::new(),
            },
        };
        let done = node
            .propose(principal(&target), request_id(), command, deadline())
            .await;
        done.unwrap().outcome.unwrap();
    }
    new_seat.renew(&next, CALM).await.unwrap();
    let over = new_seat.renew(&held, CALM).await.unwrap_err();
    assert_eq!(over.reason, Reason::StaleEpoch, "{over:?}");

    // The old leader knows of none of this, and extends nothing for either of them.
    refuses(&story.seats[old], &[&held, &next], &alone).await;
    assert_eq!(belief(&story.seats[old]), (false, false, held.clone()));
    let said = story.seats[old]
        .release(&held, timing().election_max)
        .await
        .unwrap_err();
    assert!(alone.contains(&said.reason), "{said:?}");
    drop(node);
    story.end().await;
}

/// Leases run by monotonic clocks alone. Each jump is followed by leaderships that take the clocks' readings for the time, and by
/// looks of the loop that fences whoever is silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wall_clocks_that_jump_by_hours_end_no_lease_extend_none_and_make_no_second_holder() {
    let mut story = Story::begin().await;
    let held = token(story.leading().await);
    let next = FencingToken {
        epoch: held.epoch.next().unwrap(),
        holder: agent("us"),
        ..held.clone()
    };
    let begun = story.cluster.leader().await.read(plans);
    let [ahead, now, behind] = [story.start.plus(HOUR * 5), story.start, UnixMillis(0)];
    // The clocks of the three, and how far state time must have gone in the end: back it never goes.
    let jumps = [
        ("the leader's forward", [ahead, now, now], Duration::ZERO),
        ("the leader's back", [behind, now, now], Duration::ZERO),
        ("a follower's forward", [now, ahead, now], Duration::ZERO),
        ("all of them forward", [ahead, ahead, ahead], HOUR * 5),
        ("all of them back", [behind, behind, now], HOUR * 5),
    ];
    for (what, clocks, reached) in jumps {
        let at = story.cluster.leader_index().await;
        let renewed = story.seats[at].renew(&held, CALM).await.unwrap();
        for (clock, time) in story.clocks.iter().zip(clocks) {
            clock.set(time);
        }
        story.cluster.write(&format!("m{}", uuid::Uuid::now_v7())).await;
        // What was granted before the jump ends when it would have ended, and a renewal moves it by as much as ever.
        assert!(story.seats[at].ends_at(renewed + LEADERS), "{what}");
        let again = story.seats[at].renew(&held, CALM).await.unwrap();
        assert!(story.seats[at].ends_at(again + LEADERS), "{what}");
        // Nobody else gets the role while the lease may be believed in.
        let early = story.seats[at].renew(&next, CALM).await.unwrap_err();
        assert_eq!(early.reason, Reason::EpochUnconfirmed, "{what}: {early:?}");

        // The next leader stamps what these clocks say, and waits the whole TTL from its election.
        let to = (at + 1) % 3;
        let leader = story.cluster.node(at);
        let node = story.cluster.node(to).own_peer().node.clone();
        leader.transfer_leadership(Some(node), deadline()).await.unwrap();
        story.seats[to].hear().await;
        let since = story.seats[to].since();
        assert!(story.seats[to].ends_at(since + LEADERS), "{what}");
        story.cluster.write(&format!("m{}", uuid::Uuid::now_v7())).await;
        assert!(story.seats[to].ends_at(since + LEADERS), "{what}");
        let change = RoleChange {
            role: RoleName::global(),
            epoch: held.epoch,
            needs_free: true,
            command: Command::Promote {
                plan: PlanId(1),
                attempt: 1,
            },
        };
        let moved = story.seats[to]
            .api
            .leases
            .change(change, user(), request_id(), deadline());
        assert!(moved.await.is_none(), "{what}: the role was taken for free");
        let again = story.seats[to].renew(&held, CALM).await.unwrap();
        assert!(story.seats[to].ends_at(again + LEADERS), "{what}");
        let time = story.state_time(&story.seats[to]);
        assert!(time >= reached && time < reached + HOUR, "{what}: {time:?}");
        assert_eq!(token(&story.seats[to]), held, "{what}");
        assert_eq!(
            story.cluster.node(to).read(plans),
            begun,
            "{what}: a plan was begun"
        );
    }

    // The role moves when its holder stops, and not before.
    let us = agent("us");
    story.promoting(&us).await;
    let seat = story.leading().await;
    assert!(!seat.look(Instant::now()).lapsed);
    seat.release(&held, CALM).await.unwrap();
    assert_eq!(story.moved().await.holder, us);
    seat.renew(&next, CALM).await.unwrap();
    let over = seat.renew(&held, CALM).await.unwrap_err();
    assert_eq!(over.reason, Reason::StaleEpoch, "{over:?}");
    story.end().await;
}

/// The mode of the role as a coordinator tells it.
async fn mode(seat: &Seat) -> pb::FailoverMode {
    let message = pb::GetRoleRequest {
        role: RoleName::global().to_string(),
        read: None,
    };
    let (request, _) = seat.call(&agent("eu"), message, CALM);
    let answer = Primaries(Arc::clone(&seat.api)).get_role(request).await;
    answer.unwrap().into_inner().role.unwrap().mode()
}

/// A person set its end by the time that the cluster goes by, and one leader's clock is not that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_lasts_as_long_as_a_majority_of_the_clocks_says() {
    let mut story = Story::begin().await;
    let pause = Command::SetRoleMode {
        role: RoleName::global(),
        mode: FailoverMode::Paused {
            until: story.start.plus(HOUR),
        },
    };
    story.apply(pause).await;
    let (ahead, over) = (story.start.plus(HOUR * 5), story.start.plus(HOUR * 2));
    let now = story.start;
    // The clocks of the next leader and of the two that follow it.
    for (clocks, expected) in [
        ([ahead, now, now], pb::FailoverMode::Paused),
        ([now, now, ahead], pb::FailoverMode::Paused),
        ([now, over, over], pb::FailoverMode::Automatic),
    ] {
        let at = story.cluster.leader_index().await;
        let to = (at + 1) % 3;
        for (i, time) in clocks.into_iter().enumerate() {
            story.clocks[(to + i) % 3].set(time);
        }
        let node = story.cluster.node(to).own_peer().node.clone();
        let leader = story.cluster.node(at);
        leader.transfer_leadership(Some(node), deadline()).await.unwrap();
        story.seats[to].hear().await;
        for (i, seat) in story.seats.iter().enumerate() {
            within(&format!("c{i} tells {expected:?} of {clocks:?}"), async {
                while mode(seat).await != expected {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }
    story.end().await;
}
