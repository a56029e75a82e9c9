//! Leadership goes where the operator wants it, not in the middle of a plan, and stays there.

use std::{fs, time::Duration};

use coordinator::raft::{RaftLimits, RaftTiming};
use policy::leader::STEADY;
use state::{Command, Reply, features::SUPPORTED};
use tokio::time::Instant;
use types::{
    Epoch, Holder, NodeIncarnation, PlanId, RegionId, RoleName,
    plan::PlanKind,
    region::{Endpoints, Health, NodeKind},
};

use super::harness::{Cluster, request_id, within};

fn region(i: usize) -> RegionId {
    format!("region-{i}").parse().unwrap()
}

async fn apply(cluster: &Cluster, command: Command) -> Reply {
    cluster.propose_as(request_id(), command).await.outcome.unwrap()
}

/// Every region is known, and one has an agent that may hold the role. A plan that gives it the role, and does not end.
async fn plan_that_runs(cluster: &Cluster, target: usize) -> PlanId {
    apply(cluster, Command::SetFeatureLevel { level: SUPPORTED }).await;
    for i in 0..3 {
        let region = region(i);
        apply(cluster, Command::RegisterRegion { region }).await;
    }
    let target = Holder {
        region: region(target),
        node: "agent".parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(1),
    };
    let register = Command::RegisterNode {
        node: target.node.clone(),
        region: target.region.clone(),
        kind: NodeKind::Agent,
        incarnation: target.incarnation,
        endpoints: Endpoints::default(),
        zone: None,
    };
    apply(cluster, register).await;
    let healthy = Command::SetRegionHealth {
        region: target.region.clone(),
        from: Health::Recovering,
        to: Health::Healthy,
        evidence: String::new(),
    };
    apply(cluster, healthy).await;
    let start = Command::StartPlan {
        role: RoleName::global(),
        kind: PlanKind::Assign,
        target,
        trigger: String::new(),
        expected_epoch: Epoch::new(1, 0),
    };
    match apply(cluster, start).await {
        Reply::Plan { plan } => plan,
        other => panic!("{other:?}"),
    }
}

/// Nothing happens in the time in which a preference would have moved leadership, while the leader works.
async fn leads_on(cluster: &Cluster, leader: usize, term: u64) {
    let (began, mut n) = (Instant::now(), 0);
    while began.elapsed() < STEADY + STEADY / 4 {
        cluster.write(&format!("term{term}-{n}")).await;
        n += 1;
        let now = cluster.node(leader).leadership().borrow().clone();
        assert_eq!((now.is_leader, now.term), (true, term));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_to_the_preferred_region_between_plans_and_stays() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let leader = cluster.leader_index().await;
    let wanted = (leader + 1) % 3;
    let plan = plan_that_runs(&cluster, wanted).await;
    let regions = vec![region(wanted)];
    apply(&cluster, Command::SetLeaderPreference { regions }).await;
    let term = cluster.node(leader).leadership().borrow().term;
    leads_on(&cluster, leader, term).await;
    let reason = "the test is over".to_owned();
    apply(&cluster, Command::FailPlan { plan, reason }).await;
    let mut leads = cluster.node(wanted).leadership();
    let leads = within("the region to lead", leads.wait_for(|l| l.since.is_some()));
    let term = leads.await.unwrap().term;
    leads_on(&cluster, wanted, term).await;
    cluster.stop_all().await;
}

/// It would hand leadership over again at once, because the others go by another timing, and so on for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_does_not_come_back_to_one_that_cannot_write_its_timing_down() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.level_up().await;
    let wanted = cluster.leader_index().await;
    for i in 0..3 {
        let region = region(i);
        apply(&cluster, Command::RegisterRegion { region }).await;
    }
    let regions = vec![region(wanted)];
    apply(&cluster, Command::SetLeaderPreference { regions }).await;
    let temp = cluster.sites[wanted].dir().join("node.json.tmp");
    fs::create_dir(&temp).unwrap();
    let timing = RaftTiming {
        heartbeat: Duration::from_millis(300),
        election_min: Duration::from_millis(1_200),
        election_max: Duration::from_millis(2_000),
    };
    let set = Command::SetElectionTiming {
        timing: Some(timing),
        derived: false,
        reason: "for a test".to_owned(),
    };
    apply(&cluster, set).await;
    within("another in the lead", async {
        while cluster.leader_index().await == wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let leader = cluster.leader_index().await;
    let mut leads = cluster.node(leader).leadership();
    let leads = within("its first entry", leads.wait_for(|l| l.since.is_some()));
    let term = leads.await.unwrap().term;
    leads_on(&cluster, leader, term).await;
    fs::remove_dir(&temp).unwrap();
    let mut leads = cluster.node(wanted).leadership();
    let leads = within(
        "the wanted one in the lead",
        leads.wait_for(|l| l.since.is_some()),
    );
    drop(leads.await);
    assert_eq!(cluster.node(wanted).status().timing, timing);
    cluster.stop_all().await;
}
