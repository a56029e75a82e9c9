//! What agents say of their loads decides whom a switchover may name.

use std::time::Duration;

use policy::readiness::Loads;
use proto::convert::watch::Resource;
use types::{
    Reason, RoleName, VersionKey,
    model::{ModelRecord, Placement},
    plan::PlanKind,
    role::{FailoverMode, TimingPolicy},
};

use crate::{
    failover::{Story, until},
    harness::region,
    registry::publish,
};

fn loads(loaded: &[&VersionKey], failed: &[&VersionKey]) -> Loads {
    let set = |keys: &[&VersionKey]| keys.iter().copied().cloned().collect();
    Loads {
        loaded: set(loaded),
        failed: set(failed),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_holder_hands_over_to_nobody_who_cannot_serve_what_others_serve() {
    let mut story = Story::begin().await;
    let first = story.agents[0].holds().await;
    let (admin, role) = (story.admin.clone(), RoleName::global());
    let model = "demo.canary".parse().unwrap();
    let here = Placement::Regions(vec![region("r1")]);
    let _: ModelRecord = admin
        .create_model(&model, "", Default::default(), &here)
        .await
        .unwrap();
    let canary = publish(&admin, &story.agents[0].client, &model, &region("r1")).await;

    story.agents[0].tells(loads(&[&canary], &[])).await;
    story.agents[1].tells(loads(&[], &[&canary])).await;
    let asked = admin.switchover(&role, &region("r2"), Some(first.epoch)).await;
    let refused = asked.unwrap_err();
    assert_eq!(refused.reason, Reason::TargetNotQualified);
    assert!(
        refused
            .message
            .contains("it cannot load demo.canary@1, and the holder answers for what it cannot"),
        "{refused}"
    );

    // By now the holder does not serve it: that r2 does not either makes nothing worse.
    story.agents[0].tells(loads(&[], &[&canary])).await;
    story.agents[2].tells(loads(&[&canary], &[])).await;
    let asked = admin.switchover(&role, &region("r2"), Some(first.epoch)).await;
    let started = asked.unwrap();
    assert_eq!(
        (started.kind, started.target),
        (PlanKind::Switchover, story.agents[1].holder.clone())
    );
    assert!(story.agents[1].holds().await.epoch > first.epoch);
    story.end().await;
}

/// It would keep its plan waiting until it has loaded what the other has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_said_that_it_is_not_fit_is_chosen_after_who_is() {
    let mut story = Story::begin().await;
    story.agents[1].is_unfit().await;
    // Nobody is silent for as long.
    let timing = TimingPolicy {
        heartbeat_interval: Duration::from_secs(60),
        promotion_absence: Duration::from_secs(600),
        ..TimingPolicy::fast()
    };
    let role: RoleName = "primaries/other".parse().unwrap();
    let candidates = ["r2", "r3"].map(region);
    let made = story
        .admin
        .create_role(&role, &candidates, FailoverMode::Automatic, &timing);
    made.await.unwrap();
    let target = until(
        &story.admin,
        "somebody is to hold it",
        |resource| match resource {
            Resource::Plan(plan) if plan.role == role => Some(plan.target.clone()),
            _ => None,
        },
    );
    assert_eq!(target.await, story.agents[2].holder);
    story.end().await;
}
