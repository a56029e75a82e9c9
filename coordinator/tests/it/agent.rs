//! An agent as a coordinator sees one: a session, renewals, answers to the steps of plans. It holds no models.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use client::{
    Client,
    session::Session,
    watch::{Change, StateWatch},
};
use policy::readiness::Loads;
use proto::{convert::watch::Resource, v1 as pb};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use types::{
    ClusterId, FencingToken, Holder, NodeIncarnation, RegionId, RoleName, VersionKey,
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepState},
    role::RoleRecord,
};

use crate::harness::{Cluster, agent};

/// What all agents of a test share: which regions nobody can reach.
#[derive(Clone, Default)]
pub(crate) struct World {
    dead: Arc<Mutex<BTreeSet<RegionId>>>,
    regions: Arc<Mutex<BTreeSet<RegionId>>>,
    loads: Arc<Mutex<BTreeMap<RegionId, Loads>>>,
    unfit: Arc<Mutex<BTreeSet<RegionId>>>,
}

impl World {
    /// The region can be reached again.
    pub(crate) fn revive(&self, region: &RegionId) {
        self.dead.lock().unwrap().remove(region);
    }
}

/// One run of an agent.
pub(crate) struct TestAgent {
    pub(crate) client: Client,
    pub(crate) holder: Holder,
    /// The token under which a renewal was answered last; none before, and once one was refused for good.
    pub(crate) held: watch::Receiver<Option<FencingToken>>,
    /// Heartbeats that the leader answered.
    beats: watch::Receiver<u64>,
    /// Whether it answers CLAIM; a step that is withheld is answered later.
    pub(crate) claims: watch::Sender<bool>,
    /// Whether its session speaks; it renews all the same.
    pub(crate) speaks: watch::Sender<bool>,
    /// Whether it stops when a switchover asks it to; otherwise it goes on renewing.
    pub(crate) yields: watch::Sender<bool>,
    world: World,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl TestAgent {
    pub(crate) fn start(cluster: &Cluster, world: &World, region: &str) -> Self {
        Self::start_in_zone(cluster, world, region, "")
    }

    /// As [`Self::start`], of an agent whose config names a zone; none where it is empty.
    pub(crate) fn start_in_zone(cluster: &Cluster, world: &World, region: &str, zone: &str) -> Self {
        let node = format!("a-{region}");
        let client = cluster.client(&agent(region, &node));
        let holder = Holder {
            region: region.parse().unwrap(),
            node: node.parse().unwrap(),
            incarnation: NodeIncarnation::from_u128(uuid::Uuid::now_v7().as_u128()),
        };
        world.regions.lock().unwrap().insert(holder.region.clone());
        world.dead.lock().unwrap().remove(&holder.region);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (held, held_out) = watch::channel(None);
        let (wanted, wanted_out) = watch::channel(None);
        let (claims, claims_out) = watch::channel(true);
        let (speaks, speaks_out) = watch::channel(true);
        let (yields, yields_out) = watch::channel(true);
        let (beat, beats) = watch::channel(0);
        let hello = hello(&holder, zone);
        let session = session(
            client.clone(),
            hello,
            holder.clone(),
            world.clone(),
            speaks_out,
            beat,
        );
        let follow = follow(client.clone(), holder.clone(), wanted, claims_out, yields_out);
        let renew = renew(client.clone(), wanted_out, held);
        for task in [boxed(session), boxed(follow), boxed(renew)] {
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task => {}
                }
            });
        }
        Self {
            client,
            holder,
            held: held_out,
            beats,
            claims,
            speaks,
            yields,
            world: world.clone(),
            stop,
            tasks,
        }
    }

    /// Says from now on that its loads came out so; waits until the leader has heard it.
    pub(crate) async fn tells(&mut self, loads: Loads) {
        let region = self.holder.region.clone();
        self.world.loads.lock().unwrap().insert(region, loads);
        self.is_heard().await;
    }

    /// Says from now on that it is not fit to serve; waits until the leader has heard it.
    pub(crate) async fn is_unfit(&mut self) {
        let region = self.holder.region.clone();
        self.world.unfit.lock().unwrap().insert(region);
        self.is_heard().await;
    }

    /// Waits until the leader has answered two more heartbeats.
    pub(crate) async fn is_heard(&mut self) {
        // The one that is under way may have been made before.
        let heard = *self.beats.borrow_and_update() + 2;
        let told = self.beats.wait_for(|beats| *beats >= heard);
        crate::harness::within("the leader hears of it", told)
            .await
            .unwrap();
    }

    /// Waits until it holds the role.
    pub(crate) async fn holds(&mut self) -> FencingToken {
        let what = format!("a lease of {}", self.holder);
        let held = crate::harness::within(&what, self.held.wait_for(Option::is_some)).await;
        held.unwrap().clone().unwrap()
    }

    /// Ends as an agent does that is told to: it stops, and says so (L11).
    pub(crate) async fn end(mut self, token: &FencingToken) -> Client {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.client.release_lease(token).await.unwrap();
        self.client.clone()
    }

    /// Dies with its region: says nothing any more, and nobody reaches it.
    pub(crate) async fn die(mut self) -> Client {
        self.world.dead.lock().unwrap().insert(self.holder.region.clone());
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.client.clone()
    }
}

fn boxed(f: impl Future<Output = ()> + Send + 'static) -> futures::future::BoxFuture<'static, ()> {
    Box::pin(f)
}

fn hello(holder: &Holder, zone: &str) -> pb::Hello {
    pb::Hello {
        region: holder.region.to_string(),
        node: holder.node.to_string(),
        incarnation: holder.incarnation.to_string(),
        endpoints: Some(pb::Endpoints {
            agent: "https://127.0.0.1:1".to_owned(),
            ..pb::Endpoints::default()
        }),
        zone: zone.to_owned(),
    }
}

async fn session(
    client: Client,
    hello: pb::Hello,
    holder: Holder,
    world: World,
    mut speaks: watch::Receiver<bool>,
    beat: watch::Sender<u64>,
) {
    let patience = Duration::from_secs(2);
    let mut beats = tokio::time::interval(Duration::from_millis(100));
    loop {
        beats.tick().await;
        if speaks.wait_for(|speaks| *speaks).await.is_err() {
            return;
        }
        let Ok(mut session) = Session::open(&client, &hello, patience).await else {
            continue;
        };
        while *speaks.borrow()
            && session
                .heartbeat(heartbeat(&holder, &world), patience)
                .await
                .is_ok()
        {
            beat.send_modify(|count| *count += 1);
            beats.tick().await;
        }
    }
}

fn heartbeat(own: &Holder, world: &World) -> pb::Heartbeat {
    let dead = world.dead.lock().unwrap();
    let regions = world.regions.lock().unwrap();
    let probe = |region: &RegionId| pb::ProbeObservation {
        region: region.to_string(),
        node: format!("a-{region}"),
        consecutive_failures: if dead.contains(region) { 5 } else { 0 },
        error: String::new(),
    };
    let loads = world.loads.lock().unwrap();
    let loads = loads.get(&own.region).cloned().unwrap_or_default();
    let versions = |keys: &BTreeSet<VersionKey>| {
        let version = |key: &VersionKey| pb::LoadedVersion {
            model: key.model.to_string(),
            version: key.version.0,
        };
        keys.iter().map(version).collect()
    };
    pb::Heartbeat {
        sequence: 0,
        loaded: versions(&loads.loaded),
        failed: versions(&loads.failed),
        ready: !world.unfit.lock().unwrap().contains(&own.region),
        not_ready_reason: String::new(),
        probes: regions.iter().filter(|r| *r != &own.region).map(probe).collect(),
    }
}

/// Follows the state: which token is wanted, and which steps are to be answered.
async fn follow(
    client: Client,
    own: Holder,
    wanted: watch::Sender<Option<FencingToken>>,
    mut claims: watch::Receiver<bool>,
    yields: watch::Receiver<bool>,
) {
    let mut watch = StateWatch::new(client.clone(), Duration::from_secs(3));
    let mut cluster_id = None;
    let mut plans: Vec<PlanRecord> = Vec::new();
    loop {
        let resources = tokio::select! {
            change = watch.next() => match change {
                Change::Reset { cluster_id: id, resources, .. } => {
                    cluster_id = Some(id);
                    resources
                }
                Change::Events { events, .. } => events.into_iter().map(|e| e.resource).collect(),
                Change::Bookmark { .. } => Vec::new(),
            },
            _ = claims.changed() => Vec::new(),
        };
        for resource in resources {
            match resource {
                Resource::Role(role) if role.role == RoleName::global() => {
                    want(&wanted, &own, &role, cluster_id.unwrap());
                }
                Resource::Plan(plan) => {
                    plans.retain(|p| p.plan != plan.plan);
                    if plan.state == PlanState::Running {
                        plans.push(*plan);
                    }
                }
                _ => {}
            }
        }
        for plan in &plans {
            let may_claim = *claims.borrow();
            answer(&client, &own, plan, may_claim).await;
            if *yields.borrow() {
                release_if_asked(&client, &own, plan, &wanted).await;
            }
        }
    }
}

fn want(
    wanted: &watch::Sender<Option<FencingToken>>,
    own: &Holder,
    role: &RoleRecord,
    cluster_id: ClusterId,
) {
    let token = (role.holder.as_ref() == Some(own)).then(|| FencingToken {
        cluster_id,
        role: role.role.clone(),
        epoch: role.epoch,
        holder: own.clone(),
    });
    wanted.send_if_modified(|old| {
        let other = *old != token;
        *old = token;
        other
    });
}

async fn answer(client: &Client, own: &Holder, plan: &PlanRecord, may_claim: bool) {
    let Some(step) = plan.current_step().filter(|s| s.state == StepState::Running) else {
        return;
    };
    let mine = match step.kind {
        StepKind::VerifyTarget => true,
        StepKind::Claim => may_claim,
        _ => false,
    };
    if mine && &plan.target == own {
        // A refusal says that the step is over, or that there will be another attempt.
        let _ = client
            .report_step(
                plan.plan,
                step.kind,
                step.attempt,
                Ok("done"),
                &[],
                own.incarnation,
            )
            .await;
    }
}

/// A switchover is about to promote somebody else: stop, and say so (L11).
async fn release_if_asked(
    client: &Client,
    own: &Holder,
    plan: &PlanRecord,
    wanted: &watch::Sender<Option<FencingToken>>,
) {
    let due = plan.current_step();
    let asked = plan.kind == PlanKind::Switchover
        && plan.from.as_ref() == Some(own)
        && due.is_some_and(|s| s.kind == StepKind::Promote && s.state == StepState::Running);
    let token = wanted.borrow().clone();
    if let Some(token) = token.filter(|_| asked) {
        wanted.send_replace(None);
        let _ = client.release_lease(&token).await;
    }
}

/// Renews the wanted token, every 200 ms.
async fn renew(
    client: Client,
    mut wanted: watch::Receiver<Option<FencingToken>>,
    held: watch::Sender<Option<FencingToken>>,
) {
    let client = client.with_deadline(Duration::from_secs(1));
    let mut beats = tokio::time::interval(Duration::from_millis(200));
    loop {
        let token = wanted.borrow_and_update().clone();
        let renewed = match &token {
            Some(token) => client.renew_lease(token).await.is_ok(),
            None => false,
        };
        if renewed || token.is_none() {
            held.send_if_modified(|old| {
                let other = *old != token;
                old.clone_from(&token);
                other
            });
        }
        tokio::select! {
            _ = beats.tick() => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}
