//! Roles over the wire: assignment, failover, switchover, what becomes of old tokens, and a change of leader in between.

use std::time::Duration;

use client::{
    Client,
    watch::{Change, StateWatch},
};
use proto::convert::watch::Resource;
use types::{
    Epoch, FencingToken, Reason, RoleName,
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepState},
    region::{Health, NodeStatus},
    role::{FailoverMode, RoleRecord, TimingPolicy},
    time::{Clock as _, SystemClock},
};

use crate::{
    agent::{TestAgent, World},
    harness::{Cluster, PATIENCE, region, within},
};

/// Waits until some resource of the state is as `f` says, from the state as it is now on.
pub(crate) async fn until<T>(client: &Client, what: &str, f: impl Fn(&Resource) -> Option<T>) -> T {
    let mut watch = StateWatch::new(client.clone(), PATIENCE);
    within(what, async {
        loop {
            let resources = match watch.next().await {
                Change::Reset { resources, .. } => resources,
                Change::Events { events, .. } => events.into_iter().map(|e| e.resource).collect(),
                Change::Bookmark { .. } => continue,
            };
            if let Some(found) = resources.iter().find_map(&f) {
                return found;
            }
        }
    })
    .await
}

fn role(resource: &Resource) -> Option<&RoleRecord> {
    match resource {
        Resource::Role(role) if role.role == RoleName::global() => Some(role),
        _ => None,
    }
}

fn plan(resource: &Resource) -> Option<&PlanRecord> {
    match resource {
        Resource::Plan(plan) => Some(plan),
        _ => None,
    }
}

fn at_step(plan: &PlanRecord, kind: StepKind, state: StepState) -> bool {
    plan.steps.iter().any(|s| s.kind == kind && s.state == state)
}

async fn healthy(client: &Client, name: &str) {
    let wanted = region(name);
    until(client, &format!("{name} HEALTHY"), |r| match r {
        Resource::Region(r) if r.region == wanted && r.health == Health::Healthy => Some(()),
        _ => None,
    })
    .await;
}

/// A write under the role, at the registry's door.
async fn write(client: &Client, token: &FencingToken) -> Result<(), types::reason::Refusal> {
    let set = [("demo.fence".to_owned(), token.epoch.to_string())].into();
    let model = "fraud.scorer".parse().unwrap();
    client
        .set_model_tags(&model, set, Vec::new(), None, Some(token))
        .await
        .map(|_| ())
}

/// No silence on a busy machine is as long; a test that is about a silence says [`HASTE`] for as long as it wants one.
const CALM: Duration = Duration::from_secs(600);
/// As under `fast`.
const HASTE: Duration = Duration::from_secs(3);

/// Sets how long a holder of the role must be silent, and with it how long an agent has for a step.
async fn promotion_after(admin: &Client, absence: Duration) {
    let timing = TimingPolicy {
        promotion_absence: absence,
        ..TimingPolicy::fast()
    };
    admin.set_role_timing(&RoleName::global(), &timing).await.unwrap();
}

pub(crate) struct Story {
    pub(crate) cluster: Cluster,
    world: World,
    pub(crate) admin: Client,
    pub(crate) agents: Vec<TestAgent>,
}

impl Story {
    /// Coordinators and agents of `r1` to `r3`; the role is assigned.
    pub(crate) async fn begin() -> Self {
        let cluster = Cluster::start(3).await;
        let (world, admin) = (World::default(), cluster.admin());
        promotion_after(&admin, CALM).await;
        let mut agents: Vec<_> = Vec::new();
        for name in ["r1", "r2", "r3"] {
            agents.push(TestAgent::start(&cluster, &world, name));
            healthy(&admin, name).await;
        }
        let model = "fraud.scorer".parse().unwrap();
        admin
            .create_model(&model, "", Default::default(), &Default::default())
            .await
            .unwrap();
        agents[0].holds().await;
        Self {
            cluster,
            world,
            admin,
            agents,
        }
    }

    /// Waits until one of the agents holds the role under an epoch above this one, whichever it is: on a busy machine the
    /// first candidate may look silent just then.
    async fn held_above(&mut self, epoch: Epoch) -> (usize, FencingToken) {
        within("a lease under a higher epoch", async {
            loop {
                for (at, agent) in self.agents.iter_mut().enumerate() {
                    let held = agent.held.borrow_and_update().clone();
                    if let Some(token) = held.filter(|t| t.epoch > epoch) {
                        return (at, token);
                    }
                }
                let changes = self.agents.iter_mut().map(|a| Box::pin(a.held.changed()));
                let _ = futures::future::select_all(changes).await;
            }
        })
        .await
    }

    pub(crate) async fn end(self) {
        for agent in self.agents {
            agent.die().await;
        }
        self.cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_silent_holder_is_fenced_and_replaced_and_its_token_writes_nothing() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    write(&story.agents[0].client, &first).await.unwrap();

    let dead = story.agents.remove(0).die().await;
    promotion_after(&story.admin, HASTE).await;
    story.held_above(first.epoch).await;
    // From here on nobody is missed any more; in between the role may have moved once more, or be about to.
    promotion_after(&story.admin, CALM).await;
    let settled = until(&story.admin, "a holder that no plan moves", |r| {
        role(r)
            .filter(|r| r.holder.is_some() && r.timing.promotion_absence == CALM)
            .cloned()
    })
    .await;
    let at = story
        .agents
        .iter()
        .position(|a| Some(&a.holder) == settled.holder.as_ref());
    let at = at.expect("the holder is one of the living");
    let held = story.agents[at]
        .held
        .wait_for(|t| t.as_ref().is_some_and(|t| t.epoch == settled.epoch));
    let second = within("its lease", held).await.unwrap().clone().unwrap();
    assert!(second.epoch > first.epoch);
    let other = 1 - at;
    write(&story.agents[at].client, &second).await.unwrap();

    // Authenticated as before, under its old token: only the epoch can refuse it.
    let refused = write(&dead, &first).await.unwrap_err();
    assert_eq!(refused.reason, Reason::StaleEpoch);
    assert_eq!(refused.operand("shown"), Some(first.epoch.to_string().as_str()));
    assert_eq!(
        refused.operand("current"),
        Some(second.epoch.to_string().as_str())
    );
    assert_eq!(
        dead.renew_lease(&first).await.unwrap_err().reason,
        Reason::StaleEpoch
    );
    let standing = dead.check_fence(&first).await.unwrap();
    assert!(!standing.current && standing.current_epoch == second.epoch);

    // Somebody else's token is not shown for them.
    let refused = story.agents[other].client.renew_lease(&second).await.unwrap_err();
    assert_eq!(refused.reason, Reason::PermissionDenied);

    // The region comes back as another run: healthy again, and without the role.
    let back = TestAgent::start(&story.cluster, &story.world, "r1");
    healthy(&story.admin, "r1").await;
    assert!(back.held.borrow().is_none());
    story.agents.push(back);
    let plans = story.admin.list_plans(None, 10).await.unwrap();
    let done = |p: &PlanRecord| p.kind == PlanKind::Failover && p.state == PlanState::Succeeded;
    assert!(plans.iter().any(done), "{plans:?}");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plan_goes_on_under_a_new_leader_from_its_last_committed_step() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    for agent in &story.agents {
        agent.claims.send_replace(false);
    }
    let dead = story.agents.remove(0).die().await;
    promotion_after(&story.admin, HASTE).await;

    let claiming = until(&story.admin, "the plan at CLAIM", |r| {
        plan(r)
            .filter(|p| p.kind == PlanKind::Failover && at_step(p, StepKind::Claim, StepState::Running))
            .cloned()
    })
    .await;
    // However long the change of leader takes: no step of the plan runs out of time, and no node counts as lost.
    promotion_after(&story.admin, CALM).await;
    let patient = TimingPolicy {
        probe_interval: Duration::from_secs(60),
        probe_failures: 10,
        ..TimingPolicy::fast()
    };
    story.admin.set_timing(&patient).await.unwrap();
    let claimer = story.agents.iter().position(|a| a.holder == claiming.target);
    let claimer = claimer.expect("the target is one of the living");
    // Fenced, and nobody promoted: the old epoch renews nothing, the reserved one claims and writes nothing yet.
    assert_eq!(
        dead.renew_lease(&first).await.unwrap_err().reason,
        Reason::StaleEpoch
    );
    let reserved = FencingToken {
        epoch: claiming.target_epoch.unwrap(),
        holder: claiming.target.clone(),
        ..first.clone()
    };
    let client = story.agents[claimer].client.clone();
    let standing = client.check_fence(&reserved).await.unwrap();
    assert!(standing.reserved && !standing.current);
    assert!(client.renew_lease(&reserved).await.is_err());
    assert!(write(&client, &reserved).await.is_err());

    let leader = story.cluster.leader().await;
    story.cluster.stop(leader).await;
    for agent in &story.agents {
        agent.claims.send_replace(true);
    }
    let second = story.agents[claimer].holds().await;
    assert_eq!(second.epoch, reserved.epoch);
    let ended = until(&story.admin, "the plan's end", |r| {
        plan(r)
            .filter(|p| p.plan == claiming.plan && p.state != PlanState::Running)
            .cloned()
    })
    .await;
    assert_eq!(ended.state, PlanState::Succeeded, "{}", ended.reason);
    story.cluster.restart(leader).await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_switchover_moves_a_living_holder_and_an_unfit_region_is_refused_with_the_reason() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    let role_name = RoleName::global();

    let refused = story
        .admin
        .switchover(&role_name, &region("r9"), None)
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::RegionNotFound);
    let refused = story
        .admin
        .switchover(&role_name, &region("r1"), None)
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::TargetNotQualified);

    let started = story
        .admin
        .switchover(&role_name, &region("r3"), Some(first.epoch))
        .await
        .unwrap();
    assert_eq!(
        (started.kind, started.target.clone()),
        (PlanKind::Switchover, story.agents[2].holder.clone())
    );
    let second = story.agents[2].holds().await;
    assert!(second.epoch > first.epoch);
    write(&story.agents[2].client, &second).await.unwrap();
    assert_eq!(
        write(&story.agents[0].client, &first).await.unwrap_err().reason,
        Reason::StaleEpoch
    );
    let now = until(&story.admin, "the role in r3", |r| {
        role(r).filter(|r| r.holder.is_some()).cloned()
    })
    .await;
    assert_eq!(now.holder.as_ref(), Some(&story.agents[2].holder));
    until(&story.admin, "the plan's success", |r| {
        plan(r)
            .filter(|p| p.plan == started.plan && p.state == PlanState::Succeeded)
            .map(|_| ())
    })
    .await;
    story.end().await;
}

/// Nobody has to end a pause, and no entry says that it is over: whoever asks is told so, people and programs alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pause_that_is_over_is_told_as_automatic() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let role = RoleName::global();
    let paused = |by: Duration| {
        let until = SystemClock.now().plus(by);
        admin.set_role_mode(&role, FailoverMode::Paused { until })
    };
    let long = paused(CALM).await.unwrap().mode;
    assert!(matches!(long, FailoverMode::Paused { .. }), "{long}");
    assert_eq!(admin.get_role(&role).await.unwrap().0.mode, long);
    let endless = paused(FailoverMode::PAUSE_MAX * 2).await.unwrap_err();
    assert_eq!(endless.reason, Reason::InvalidArgument, "{endless}");
    paused(Duration::from_secs(1)).await.unwrap();
    within("the end of the pause", async {
        while admin.get_role(&role).await.unwrap().0.mode != FailoverMode::Automatic {}
    })
    .await;
    let listed = admin.list_roles().await.unwrap();
    assert_eq!(listed[0].mode, FailoverMode::Automatic);
    cluster.shutdown().await;
}

/// The mode holds what runs by itself. A person moves the role all the same, and needs no holder to hand it over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_person_moves_a_role_whose_holder_is_dead_and_asks_again_without_harm() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    let role_name = RoleName::global();
    story
        .admin
        .set_role_mode(&role_name, FailoverMode::Manual)
        .await
        .unwrap();
    // Its node runs again, as somebody else: the run that holds the role cannot come back.
    story.agents.remove(0).die().await;
    let new_run = TestAgent::start(&story.cluster, &story.world, "r1");
    story.world.revive(&new_run.holder.region);
    let run = new_run.holder.incarnation;
    until(&story.admin, "the new run", |r| match r {
        Resource::Node(n) if n.incarnation == run => Some(()),
        _ => None,
    })
    .await;
    let asked = story.admin.with_request_id(client::retry::mint_request_id());
    let started = asked.switchover(&role_name, &region("r2"), None).await.unwrap();
    assert_eq!(started.kind, PlanKind::Failover, "{}", started.trigger);
    let moved = until(&story.admin, "the end of the plan", |r| {
        plan(r)
            .filter(|p| p.plan == started.plan && p.state != PlanState::Running)
            .cloned()
    })
    .await;
    assert_eq!(moved.state, PlanState::Succeeded, "{}", moved.reason);
    let second = story.agents[0].holds().await;
    assert!(second.epoch > first.epoch);
    // Asked again, it is the plan that it was, although r2 holds the role by now.
    let again = asked.switchover(&role_name, &region("r2"), None).await.unwrap();
    assert_eq!(again, moved);
    story.agents.push(new_run);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_holder_keeps_its_epoch_when_the_leader_changes() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    let before = story.cluster.leader().await;
    story.admin.transfer_leadership(None, false).await.unwrap();
    within("a renewal by the new leader", async {
        while story.agents[0].client.renew_lease(&first).await.is_err() {}
    })
    .await;
    assert_ne!(story.cluster.leader().await, before);
    let (now, _) = story.admin.get_role(&RoleName::global()).await.unwrap();
    assert_eq!((now.epoch, now.holder), (first.epoch, Some(first.holder)));
    story.end().await;
}

/// I8: its session is one sign of life, and its renewals are another.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_holder_whose_session_is_mute_keeps_the_role_while_it_renews() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    let standing = async |status: NodeStatus| {
        let node = &first.holder.node;
        until(&story.admin, &format!("{node} {status}"), |r| match r {
            Resource::Node(n) if n.node == *node && n.status == status => Some(()),
            _ => None,
        })
        .await;
    };
    promotion_after(&story.admin, HASTE).await;
    story.agents[0].speaks.send_replace(false);
    // As long a silence as a failover waits for; the loop that starts one looks several times until the node is back.
    standing(NodeStatus::Down).await;
    story.agents[0].speaks.send_replace(true);
    standing(NodeStatus::Up).await;
    // A plan that was begun would have been given up by now, because the holder is back: it must not have been begun.
    let plans = story.admin.list_plans(None, 10).await.unwrap();
    let failovers: Vec<_> = plans.iter().filter(|p| p.kind == PlanKind::Failover).collect();
    assert!(failovers.is_empty(), "{failovers:?}");
    let (now, _) = story.admin.get_role(&RoleName::global()).await.unwrap();
    assert_eq!(
        (now.epoch, now.holder.as_ref()),
        (first.epoch, Some(&first.holder)),
        "{}",
        now.reason
    );
    story.end().await;
}

/// L8: a leader has waited the old TTL out, by its own clock, before anybody counts by the shorter one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortened_ttl_counts_only_after_the_leader_waited_out_the_old_one() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let name = RoleName::global();
    let fast = TimingPolicy::fast();
    let shorter = TimingPolicy {
        lease_ttl: fast.lease_ttl * 3 / 4,
        renew_interval: fast.renew_interval / 2,
        ..fast.clone()
    };
    let begun = std::time::Instant::now();
    let set = admin.set_role_timing(&name, &shorter).await.unwrap();
    assert_eq!(set.outstanding_ttl, fast.lease_ttl);
    let counted = until(&admin, "the shorter TTL", |r| {
        role(r)
            .filter(|r| r.outstanding_ttl == shorter.lease_ttl)
            .cloned()
    })
    .await;
    assert_eq!(counted.timing.lease_ttl, shorter.lease_ttl);
    assert!(
        begun.elapsed() >= fast.lease_ttl + fast.lease_ttl / 10,
        "{:?}",
        begun.elapsed()
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restarted_holder_is_a_new_holder_and_the_role_moves() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    let old = story.agents.remove(0);
    // The same node in the same region, as another run; the first one was killed so fast that nobody missed it.
    let again = TestAgent::start(&story.cluster, &story.world, "r1");
    let client = old.die().await;
    story.world.revive(&again.holder.region);
    story.agents.push(again);
    let moved = until(&story.admin, "another epoch", |r| {
        role(r)
            .filter(|r| r.epoch > first.epoch && r.holder.is_some())
            .cloned()
    })
    .await;
    assert_ne!(moved.holder, Some(first.holder.clone()));
    assert!(client.renew_lease(&first).await.is_err());
    story.end().await;
}

/// L11: who is asked to stop gets no renewal, so that one who does not listen is waited out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_switchover_waits_out_a_holder_that_goes_on_asking() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    story.agents[0].yields.send_replace(false);
    let (name, to) = (RoleName::global(), region("r3"));
    story
        .admin
        .switchover(&name, &to, Some(first.epoch))
        .await
        .unwrap();
    let second = story.agents[2].holds().await;
    assert!(second.epoch > first.epoch);
    story.end().await;
}

/// L11: nothing was released, so the same epoch goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_switchover_that_failed_lets_its_holder_renew_again() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    story.agents[0].yields.send_replace(false);
    // The holder's lease outlasts the test: it cannot be waited out.
    let timing = TimingPolicy {
        lease_ttl: CALM,
        promotion_absence: CALM * 2,
        ..TimingPolicy::fast()
    };
    let name = RoleName::global();
    story.admin.set_role_timing(&name, &timing).await.unwrap();
    let client = story.agents[0].client.clone();
    client.renew_lease(&first).await.unwrap();
    let started = story
        .admin
        .switchover(&name, &region("r3"), Some(first.epoch))
        .await
        .unwrap();
    let impatient = client.with_deadline(Duration::from_millis(500));
    within("a refused renewal", async {
        loop {
            let answer = impatient.renew_lease(&first).await;
            if answer.is_err_and(|refusal| refusal.reason == Reason::RoleChanging) {
                return;
            }
        }
    })
    .await;
    // Its target runs anew: the plan was for another run.
    let again = TestAgent::start(&story.cluster, &story.world, "r3");
    story.agents.remove(2).die().await;
    story.world.revive(&again.holder.region);
    story.agents.push(again);
    let ended = until(&story.admin, "the plan's end", |r| {
        plan(r)
            .filter(|p| p.plan == started.plan && p.state != PlanState::Running)
            .cloned()
    })
    .await;
    assert_eq!(ended.state, PlanState::Failed, "{}", ended.reason);
    within("a renewal", async {
        while impatient.renew_lease(&first).await.is_err() {}
    })
    .await;
    let (now, _) = story.admin.get_role(&name).await.unwrap();
    assert_eq!((now.epoch, now.holder), (first.epoch, Some(first.holder)));
    story.end().await;
}

/// L11: a holder that ended and said so is not missed for as long as one that fell silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_holder_that_released_at_its_end_is_replaced_before_its_absence_would_say_so() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    story.agents.remove(0).end(&first).await;
    let (_, second) = story.held_above(first.epoch).await;
    assert!(second.epoch > first.epoch);
    story.end().await;
}
