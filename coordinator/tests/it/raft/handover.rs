//! A switchover over a distance: how long nobody holds the role; and what becomes of a renewal that came early, also in a
//! failover (L11).

use std::{sync::Arc, time::Duration};

use coordinator::{
    api::Api,
    failover::driver,
    leases::{Grant, Leases},
    raft::{RaftLimits, RaftTiming},
    sessions::{Session, Sessions},
    watch_hub::WatchHub,
};
use state::{Command, ControlState, Reply, StepOutcome};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use types::{
    FencingToken, Holder, NodeIncarnation, PlanId, Principal, Reason, Revision, RoleName,
    plan::{PlanKind, StepKind, StepState},
    reason::Refusal,
    region::{Endpoints, Health, NodeKind},
    role::TimingPolicy,
};

use super::harness::{Cluster, deadline, request_id, user, within};

/// Longer than any of these tests: no lease is waited out, and nobody is missed.
const CALM: Duration = Duration::from_secs(600);
/// One way. A round trip stays well below what a round of renewals may take, and far above what the machine adds.
const FAR: Duration = Duration::from_millis(300);
/// A round trip is shorter than a heartbeat.
const TIMING: RaftTiming = RaftTiming {
    heartbeat: Duration::from_millis(1_000),
    election_min: Duration::from_millis(4_000),
    election_max: Duration::from_millis(6_000),
};

/// The test's agents speak once: on a machine that is busy they were silent for too long to be given a role.
fn patient() -> TimingPolicy {
    TimingPolicy {
        heartbeat_interval: CALM / 3,
        promotion_absence: CALM,
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

/// Three coordinators of which the leader moves roles; the test is the agents.
struct Story {
    cluster: Cluster,
    api: Arc<Api>,
    loops: Vec<JoinHandle<()>>,
    driver: Option<JoinHandle<()>>,
    stop: CancellationToken,
    stop_driver: CancellationToken,
    _sessions: Vec<Session>,
}

impl Story {
    /// `eu` and `us` have an agent each, and `eu`'s holds the role.
    async fn begin() -> Self {
        let cluster = Cluster::timed(3, RaftLimits::default(), TIMING).await;
        let raft = cluster.leader().await.clone();
        let since = raft.leadership().borrow().since.unwrap();
        let stop = CancellationToken::new();
        let (leases, renewals) = Leases::new(raft.clone());
        let applied = raft.subscribe();
        let hub = WatchHub::new(applied.after());
        let api = Api::new(raft, hub.clone(), Sessions::default(), leases, stop.clone());
        let loops = vec![
            tokio::spawn(hub.run(applied, stop.clone())),
            tokio::spawn(renewals.run(stop.clone())),
        ];
        let stop_driver = stop.child_token();
        let driver = Some(tokio::spawn(driver::run(Arc::clone(&api), stop_driver.clone())));
        api.sessions.lead(since);
        let sessions =
            ["eu", "us"].map(|name| api.sessions.open(since, agent(name), Instant::now()).unwrap());
        let story = Self {
            cluster,
            api,
            loops,
            driver,
            stop,
            stop_driver,
            _sessions: sessions.into(),
        };
        story
            .apply(user(), Command::SetTiming { timing: patient() })
            .await;
        let (role, timing) = (RoleName::global(), patient());
        story.apply(user(), Command::SetRoleTiming { role, timing }).await;
        for name in ["eu", "us"] {
            story.join(&agent(name)).await;
        }
        story.moved(1).await;
        let timing = TimingPolicy {
            lease_ttl: CALM,
            ..patient()
        };
        let role = RoleName::global();
        story.apply(user(), Command::SetRoleTiming { role, timing }).await;
        story
    }

    async fn join(&self, agent: &Holder) {
        let Holder {
            region,
            node,
            incarnation,
        } = agent.clone();
        self.apply(
            user(),
            Command::RegisterRegion {
                region: region.clone(),
            },
        )
        .await;
        let register = Command::RegisterNode {
            node,
            region: region.clone(),
            kind: NodeKind::Agent,
            incarnation,
            endpoints: Endpoints::default(),
            zone: None,
        };
        self.apply(user(), register).await;
        let healthy = Command::SetRegionHealth {
            region,
            from: Health::Recovering,
            to: Health::Healthy,
            evidence: String::new(),
        };
        self.apply(user(), healthy).await;
    }

    async fn apply(&self, actor: Principal, command: Command) -> Reply {
        let proposed = self
            .api
            .raft
            .propose(actor, request_id(), command, deadline())
            .await;
        proposed.unwrap().outcome.unwrap()
    }

    /// Waits until the leader's state is as `f` says.
    async fn until<T>(&self, what: &str, f: impl Fn(&ControlState) -> Option<T>) -> T {
        let mut last = self.api.hub.last();
        within(what, async {
            loop {
                last.borrow_and_update();
                if let Some(found) = self.api.raft.read(&f) {
                    return found;
                }
                last.changed().await.unwrap();
            }
        })
        .await
    }

    /// Answers the steps of agents until `n` plans have succeeded; the holder's token then.
    async fn moved(&self, n: usize) -> FencingToken {
        let next = |s: &ControlState| match due(s) {
            Some(step) => Some(Some(step)),
            None => (settled(s) == n).then_some(None),
        };
        while let Some((plan, target, step, attempt)) = self.until("the end of a plan", next).await {
            self.finish(plan, &target, step, attempt).await;
        }
        self.token(None)
    }

    async fn finish(&self, plan: PlanId, by: &Holder, step: StepKind, attempt: u32) {
        let actor = Principal::Agent {
            region: by.region.clone(),
            node: by.node.clone(),
        };
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
        self.apply(actor, command).await;
    }

    /// The holder's token; or what that of the next one will be.
    fn token(&self, next: Option<&Holder>) -> FencingToken {
        self.api.raft.read(|s| {
            let role = s.role(&RoleName::global()).unwrap();
            FencingToken {
                cluster_id: s.cluster().unwrap().cluster_id,
                role: role.role.clone(),
                epoch: next.map_or(role.epoch, |_| role.epoch.next().unwrap()),
                holder: next.or(role.holder.as_ref()).unwrap().clone(),
            }
        })
    }

    /// Begins a switchover, up to where the holder is asked to stop.
    async fn promoting(&self, to: &Holder) -> PlanId {
        let command = Command::StartPlan {
            role: RoleName::global(),
            kind: PlanKind::Switchover,
            target: to.clone(),
            trigger: String::new(),
            expected_epoch: self.token(None).epoch,
        };
        let Reply::Plan { plan } = self.apply(user(), command).await else {
            panic!("a plan was begun");
        };
        let (_, target, step, attempt) = self.until("VERIFY_TARGET", due).await;
        self.finish(plan, &target, step, attempt).await;
        self.until("PROMOTE", |s| {
            let step = s.plan(plan)?.current_step()?;
            (step.kind == StepKind::Promote && step.state == StepState::Running).then_some(())
        })
        .await;
        plan
    }

    /// A renewal as the leader gets it and as its sender gets the answer, each a distance later.
    async fn renew(&self, token: &FencingToken, patience: Duration) -> Result<(Revision, Grant), Refusal> {
        sleep(self.cluster.distance.one_way()).await;
        let received = Instant::now();
        let answer = self
            .api
            .leases
            .renew(token.clone(), received, received + patience)
            .await;
        sleep(self.cluster.distance.one_way()).await;
        answer
    }

    async fn release(&self, token: FencingToken) {
        sleep(self.cluster.distance.one_way()).await;
        self.api.leases.release(token, deadline()).await.unwrap();
    }

    /// From the moment at which the holder stops to that at which the next one holds. Both hear of it at once.
    async fn gap(&self, old: FencingToken, next: &FencingToken) -> Duration {
        let begun = Instant::now();
        let held = async {
            while self.renew(next, Duration::from_secs(10)).await.is_err() {}
            begun.elapsed()
        };
        let (gap, ()) = within("the hand-over", futures::future::join(held, self.release(old))).await;
        gap
    }

    /// From here on nobody moves roles but the test.
    async fn end_driver(&mut self) {
        self.stop_driver.cancel();
        if let Some(driver) = self.driver.take() {
            driver.await.unwrap();
        }
    }

    async fn end(mut self) {
        self.cluster.distance.set(Duration::ZERO);
        self.stop.cancel();
        self.end_driver().await;
        for task in self.loops {
            task.await.unwrap();
        }
        drop(self.api);
        self.cluster.stop_all().await;
    }
}

/// The step that an agent has to do.
fn due(state: &ControlState) -> Option<(PlanId, Holder, StepKind, u32)> {
    let plan = state.running_plan(&RoleName::global())?;
    let step = plan.current_step()?;
    let running = step.state == StepState::Running && step.kind.runs_in_agent();
    running.then(|| (plan.plan, plan.target.clone(), step.kind, step.attempt))
}

/// How many plans have succeeded, while none runs.
fn settled(state: &ControlState) -> usize {
    let plans = state.plans(None, usize::MAX).items;
    let succeeded = |p: &&&types::plan::PlanRecord| p.state == types::plan::PlanState::Succeeded;
    let running = state.running_plan(&RoleName::global()).is_some();
    if running {
        0
    } else {
        plans.iter().filter(succeeded).count()
    }
}

/// The distance is the same in every try, and what a busy machine adds is not: the least gap is that of the protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_switchover_leaves_the_role_to_nobody_for_three_round_trips_at_most() {
    let story = Story::begin().await;
    let mut gaps = Vec::new();
    for (n, name) in ["us", "eu", "us", "eu"].into_iter().enumerate() {
        let to = agent(name);
        let old = story.token(None);
        story.renew(&old, Duration::from_secs(10)).await.unwrap();
        story.promoting(&to).await;
        story.cluster.distance.set(FAR);
        let gap = story.gap(old, &story.token(Some(&to))).await;
        let round_trip = story.cluster.distance.round_trip();
        story.cluster.distance.set(Duration::ZERO);
        let now = story.moved(n + 2).await;
        assert_eq!(now.holder, to);
        gaps.push(gap.as_secs_f64() / round_trip.as_secs_f64());
        if gap <= round_trip * 3 {
            break;
        }
    }
    eprintln!("gaps in round trips: {gaps:?}");
    assert!(gaps.iter().any(|gap| *gap <= 3.0), "in round trips: {gaps:?}");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_early_renewal_is_granted_with_the_entry_and_refused_when_the_plan_ends() {
    let story = Story::begin().await;
    let us = agent("us");
    // Nobody promotes it yet: it is refused, and does not wait.
    let early = story.token(Some(&us));
    let refused = within("a refusal", story.renew(&early, CALM)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::EpochUnconfirmed);
    let plan = story.promoting(&us).await;
    // Only the target's, and only under the very next epoch.
    let others = [
        FencingToken {
            holder: Holder {
                incarnation: NodeIncarnation::from_u128(2),
                ..us.clone()
            },
            ..early.clone()
        },
        FencingToken {
            epoch: early.epoch.next().unwrap(),
            ..early.clone()
        },
    ];
    for other in others {
        let refused = within("a refusal", story.renew(&other, CALM)).await.unwrap_err();
        assert_eq!(refused.reason, Reason::EpochUnconfirmed, "{other}");
    }
    // It is answered before its caller gives it up, and the next try comes at once.
    let patience = Duration::from_millis(500);
    within("an answer in time", async {
        loop {
            let begun = Instant::now();
            let refusal = story.renew(&early, patience).await.unwrap_err();
            if refusal.reason == Reason::RoleChanging && begun.elapsed() < patience {
                assert!(begun.elapsed() >= patience * 7 / 8, "{:?}", begun.elapsed());
                assert_eq!(refusal.operand("retry_after_ms"), Some("0"));
                return;
            }
        }
    })
    .await;
    // One that waits makes place for one that can wait longer, and not for one that cannot.
    let longer = async { while story.renew(&early, CALM * 2).await.is_err() {} };
    let first = within("the end of the first", async {
        tokio::select! {
            first = story.renew(&early, CALM) => first,
            () = longer => panic!("nobody was promoted"),
        }
    });
    assert_eq!(first.await.unwrap_err().reason, Reason::RoleChanging);
    let shorter = async {
        loop {
            let refusal = story.renew(&early, patience).await.unwrap_err();
            let after: u64 = refusal.operand("retry_after_ms").unwrap_or("0").parse().unwrap();
            if Duration::from_millis(after) > patience {
                return refusal.reason;
            }
        }
    };
    let turned_away = within("the end of the shorter", async {
        tokio::select! {
            waits = story.renew(&early, CALM) => panic!("it was to wait: {waits:?}"),
            reason = shorter => reason,
        }
    });
    assert_eq!(turned_away.await, Reason::RoleChanging);

    // The plan is given up while one waits.
    let fail = Command::FailPlan {
        plan,
        reason: "the test says so".to_owned(),
    };
    let (waited, _) = within(
        "an end without a grant",
        futures::future::join(story.renew(&early, CALM), async {
            story.apply(user(), fail).await
        }),
    )
    .await;
    assert_eq!(waited.unwrap_err().reason, Reason::EpochUnconfirmed);

    // The same epoch, promoted in the end.
    story.promoting(&us).await;
    let waiting = story.renew(&early, CALM);
    let old = story.token(None);
    let (granted, ()) = within(
        "a grant",
        futures::future::join(waiting, story.release(old.clone())),
    )
    .await;
    granted.unwrap();
    assert_eq!(story.token(None), early);
    // What is said late of an epoch that is over is no news, and what is said of another's is refused.
    story.release(old.clone()).await;
    let strange = FencingToken {
        holder: agent("eu"),
        ..early.clone()
    };
    let refused = story.api.leases.release(strange, deadline()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::WrongHolder);
    within("a renewal", story.renew(&early, CALM)).await.unwrap();
    story.end().await;
}

/// Its target is armed as that of a switchover is. The steps are the test's here: a leader that promotes gives nobody time
/// to look.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_early_renewal_of_a_failovers_target_is_granted_with_the_entry() {
    let mut story = Story::begin().await;
    story.end_driver().await;
    let (us, old) = (agent("us"), story.token(None));
    let leader = story.api.raft.own_peer().clone();
    let coordinator = Principal::Coordinator {
        region: leader.region,
        node: leader.node,
    };
    let by_leader = |command| story.apply(coordinator.clone(), command);
    let plan = Command::StartPlan {
        role: RoleName::global(),
        kind: PlanKind::Failover,
        target: us.clone(),
        trigger: "the test says so".to_owned(),
        expected_epoch: old.epoch,
    };
    let Reply::Plan { plan } = story.apply(user(), plan).await else {
        panic!("a plan was begun");
    };
    let start = |step| Command::StartStep {
        plan,
        step,
        attempt: 1,
    };
    by_leader(start(StepKind::VerifyTarget)).await;
    story.finish(plan, &us, StepKind::VerifyTarget, 1).await;
    by_leader(start(StepKind::Fence)).await;
    by_leader(Command::Fence { plan, attempt: 1 }).await;
    let reserved = story
        .api
        .raft
        .read(|s| s.role(&RoleName::global()).unwrap().reservation.clone());
    let early = FencingToken {
        epoch: reserved.unwrap().epoch,
        holder: us.clone(),
        ..old.clone()
    };
    by_leader(start(StepKind::Claim)).await;
    story.finish(plan, &us, StepKind::Claim, 1).await;
    by_leader(start(StepKind::WaitLease)).await;
    // Somebody may still believe in the old lease: it is refused, and does not wait.
    let refused = within("a refusal", story.renew(&early, CALM)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::EpochUnconfirmed);
    by_leader(Command::FinishStep {
        plan,
        step: StepKind::WaitLease,
        attempt: 1,
        reporter: None,
        outcome: StepOutcome::Done {
            detail: String::new(),
            doors: Vec::new(),
        },
    })
    .await;
    by_leader(start(StepKind::Promote)).await;

    let leases = story.api.leases.clone();
    let now = Instant::now();
    let mut first = Box::pin(leases.renew(early.clone(), now, now + CALM));
    let mut second = Box::pin(leases.renew(early.clone(), now, now + CALM));
    // In this order, so that the end of the first says that the second waits.
    assert!(futures::poll!(&mut first).is_pending());
    assert!(futures::poll!(&mut second).is_pending());
    let crowded = within("the end of the first", first).await.unwrap_err();
    assert_eq!(crowded.reason, Reason::RoleChanging, "{crowded:?}");
    by_leader(Command::Promote { plan, attempt: 1 }).await;
    within("a grant", second).await.unwrap();
    assert_eq!(story.token(None), early);
    drop(leases);
    story.end().await;
}

/// The answer is a round away then, and another try would come after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_early_renewal_waits_on_while_the_promotion_is_proposed() {
    let story = Story::begin().await;
    let us = agent("us");
    let (old, early) = (story.token(None), story.token(Some(&us)));
    story.promoting(&us).await;
    let leases = story.api.leases.clone();
    let patience = Duration::from_secs(4);
    let (begun, waiting) = within("one that waits", async {
        loop {
            let begun = Instant::now();
            let mut first = Box::pin(leases.renew(early.clone(), begun, begun + patience / 2));
            let mut second = Box::pin(leases.renew(early.clone(), begun, begun + patience));
            // In this order, so that the end of the first says that the second waits.
            assert!(futures::poll!(&mut first).is_pending());
            assert!(futures::poll!(&mut second).is_pending());
            assert_eq!(first.await.unwrap_err().reason, Reason::RoleChanging);
            if begun.elapsed() < patience / 4 {
                return (begun, second);
            }
        }
    })
    .await;
    // Proposed, and not committed until the test ends.
    story.cluster.distance.set(CALM);
    let released = leases.release(old, deadline());
    let ended = within("the end of its patience", async {
        tokio::select! {
            ended = waiting => ended,
            released = released => panic!("no quorum is near: {released:?}"),
        }
    });
    // A little before its caller's, or by its caller on a machine that is late.
    let reason = ended.await.unwrap_err().reason;
    assert!(
        matches!(reason, Reason::OutcomeUnknown | Reason::RoleChanging),
        "{reason}"
    );
    let waited = begun.elapsed();
    assert!(waited >= patience * 7 / 8, "{waited:?}");
    drop(leases);
    story.end().await;
}

/// It needs no quorum to be true, and its sender is told when nobody who leads may have heard it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_release_counts_at_once_and_is_answered_by_who_leads() {
    let mut story = Story::begin().await;
    let old = story.token(None);
    let leases = story.api.leases.clone();
    let leader = story.cluster.leader_index().await;
    for (i, site) in story.cluster.sites.iter_mut().enumerate() {
        if i != leader {
            site.stop().await;
        }
    }
    let mut news = leases.releases();
    // Said again, it is no news: whoever follows was told.
    for is_news in [true, false] {
        let answer = leases
            .release(old.clone(), Instant::now() + Duration::from_secs(1))
            .await;
        assert_eq!(answer.unwrap_err().reason, Reason::NoQuorum);
        assert!(leases.look(&old.role, Instant::now()).unwrap().released);
        assert_eq!(news.has_changed().unwrap(), is_news);
        news.mark_unchanged();
    }
    drop(leases);
    story.end().await;
}

/// The loop over roles may look before the one over health does: a node that died before would have been heard just now,
/// and could be a target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_leadership_heard_is_forgotten_before_the_first_look_at_roles() {
    let mut story = Story::begin().await;
    story.end_driver().await;
    let sessions = Sessions::default();
    let before = story.api.raft.leadership().borrow().since.unwrap() - Duration::from_secs(1);
    let _heard = sessions.open(before, agent("eu"), Instant::now()).unwrap();
    let mut changes = sessions.changes();
    let (leases, _renewals) = Leases::new(story.api.raft.clone());
    let stop = CancellationToken::new();
    let (raft, hub) = (story.api.raft.clone(), story.api.hub.clone());
    let api = Api::new(raft, hub, sessions.clone(), leases, stop.clone());
    let driver = tokio::spawn(driver::run(api, stop.clone()));
    within("the earlier leadership to be forgotten", async {
        while !sessions.all().is_empty() {
            changes.changed().await.unwrap();
        }
    })
    .await;
    stop.cancel();
    within("the driver to stop", driver).await.unwrap();
    story.end().await;
}
