//! What changes say besides what they want: etags, epochs, and that they are only to be validated.

use std::collections::BTreeMap;

use client::{Client, calls::ChangeOptions};
use types::{
    Epoch, ModelName, Reason, Revision, RoleName,
    plan::{PlanKind, PlanState, StepState},
    reason::Refusal,
    role::{FailoverMode, TimingPolicy},
};

use crate::{
    failover::Story,
    harness::{Cluster, agent, region, within},
    registry::publish,
};

fn model(name: &str) -> ModelName {
    name.parse().unwrap()
}

/// Options of changes are known from a feature level on, which a new cluster comes to by itself.
async fn level_reached(admin: &Client) {
    within("the feature level", async {
        while admin.feature_level().await.unwrap() < 2 {}
    })
    .await;
}

fn validating(client: &Client) -> Client {
    client.with_change_options(ChangeOptions {
        validate_only: true,
        ..ChangeOptions::default()
    })
}

fn with_etag(client: &Client, etag: Revision) -> Client {
    client.with_change_options(ChangeOptions {
        etag: Some(etag),
        ..ChangeOptions::default()
    })
}

fn at_epoch(client: &Client, epoch: Epoch) -> Client {
    client.with_change_options(ChangeOptions {
        expected_epoch: Some(epoch),
        ..ChangeOptions::default()
    })
}

/// The same refusal, whoever it was told to.
fn same<T: std::fmt::Debug>(validated: Result<T, Refusal>, live: Result<T, Refusal>) {
    assert_eq!(validated.unwrap_err(), live.unwrap_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_validated_is_answered_as_it_would_be_and_not_done() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    level_reached(&admin).await;
    let (noted, name) = (validating(&admin).with_answers_noted(), model("fraud.scorer"));
    let everywhere = Default::default();
    let would_be = noted
        .create_model(&name, "scores", BTreeMap::new(), &everywhere)
        .await
        .unwrap();
    let said = noted.last_answer().unwrap();
    assert!(said.validated_only && would_be.modified > said.revision);
    assert_eq!(
        admin.get_model(&name).await.unwrap_err().reason,
        Reason::ModelNotFound
    );

    // The id of what was only validated is free: the change itself is made under it.
    let id = client::retry::mint_request_id();
    let again = validating(&admin).with_request_id(id);
    again
        .create_model(&name, "scores", BTreeMap::new(), &everywhere)
        .await
        .unwrap();
    let live = admin.with_request_id(id).with_answers_noted();
    let made = live
        .create_model(&name, "scores", BTreeMap::new(), &everywhere)
        .await
        .unwrap();
    assert!(!live.last_answer().unwrap().validated_only);
    assert_eq!(
        (made.description, made.created_by, made.next_version),
        (would_be.description, would_be.created_by, would_be.next_version)
    );

    let agent = cluster.client(&agent("r1", "a1"));
    let key = publish(&admin, &agent, &name, &region("r1")).await;
    let before = admin.list_aliases(&name).await.unwrap();
    let moved = validating(&admin)
        .set_alias(&key, &"candidate".parse().unwrap(), "try", None)
        .await
        .unwrap();
    assert_eq!((moved.version, moved.reason.as_str()), (key.version, "try"));
    validating(&admin)
        .delete_alias(&name, &"champion".parse().unwrap(), None)
        .await
        .unwrap();
    let role = validating(&admin)
        .set_role_mode(&RoleName::global(), FailoverMode::Manual)
        .await
        .unwrap();
    assert_eq!(role.mode, FailoverMode::Manual);
    let timing = validating(&admin)
        .set_timing(&TimingPolicy::conservative())
        .await
        .unwrap();
    assert_eq!(timing.name, "conservative");
    let deprecated = validating(&admin).deprecate_version(&key, "old").await.unwrap();
    assert_eq!(deprecated.state.to_string(), "DEPRECATED");
    assert_eq!(admin.list_aliases(&name).await.unwrap(), before);
    assert_eq!(
        admin.get_role(&RoleName::global()).await.unwrap().0.mode,
        FailoverMode::Automatic
    );
    assert_eq!(admin.get_version(&key).await.unwrap().state.to_string(), "READY");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_validated_fails_where_the_change_would() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    level_reached(&admin).await;
    let (name, everywhere) = (model("m"), Default::default());
    let made = admin
        .create_model(&name, "", BTreeMap::new(), &everywhere)
        .await
        .unwrap();
    let try_it = validating(&admin);
    let create = async |client: &Client| client.create_model(&name, "", BTreeMap::new(), &everywhere).await;
    same(create(&try_it).await, create(&admin).await);
    let stale = Some(Revision(made.modified.0 - 1));
    let tag = async |client: &Client| {
        let set = [("k".to_owned(), "v".to_owned())].into();
        client
            .set_model_tags(&name, set, Vec::new(), stale, None)
            .await
            .map(|(model, _)| model)
    };
    same(tag(&try_it).await, tag(&admin).await);
    let delete = async |client: &Client| client.delete_version(&"m@1".parse().unwrap(), "").await;
    same(delete(&try_it).await, delete(&admin).await);
    let role = async |client: &Client| {
        let pause = FailoverMode::Paused {
            until: types::UnixMillis(1),
        };
        client.set_role_mode(&RoleName::global(), pause).await
    };
    assert_eq!(
        role(&try_it).await.unwrap_err().reason,
        role(&admin).await.unwrap_err().reason
    );
    // An id that was another request's is refused before anything else, and one that was answered is answered as before.
    let id = client::retry::mint_request_id();
    admin
        .with_request_id(id)
        .create_model(&model("n"), "", BTreeMap::new(), &everywhere)
        .await
        .unwrap();
    same(
        create(&try_it.with_request_id(id)).await,
        create(&admin.with_request_id(id)).await,
    );
    let answered = try_it.with_request_id(id);
    answered
        .create_model(&model("n"), "", BTreeMap::new(), &everywhere)
        .await
        .unwrap();
    // Reports are said, and not tried.
    let agent = validating(&cluster.client(&agent("r1", "a1")));
    let copy = types::replica::ReplicaKey {
        version: "m@1".parse().unwrap(),
        region: region("r1"),
    };
    let report = client::calls::ReplicaReport::Started { source: None };
    let refused = agent.report_replica(&copy, &report).await.unwrap_err();
    assert_eq!(
        (refused.reason, refused.operand("field")),
        (Reason::InvalidArgument, Some("validate_only"))
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_roles_move_only_from_the_etag_and_the_epoch_that_the_caller_saw() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    level_reached(&admin).await;
    let name = RoleName::global();
    let (role, _) = admin.get_role(&name).await.unwrap();
    let moved = with_etag(&admin, role.modified)
        .set_role_mode(&name, FailoverMode::Manual)
        .await
        .unwrap();
    let lost = with_etag(&admin, role.modified)
        .set_role_mode(&name, FailoverMode::Automatic)
        .await
        .unwrap_err();
    assert_eq!(lost.reason, Reason::EtagMismatch);
    assert_eq!(
        lost.operand("current"),
        Some(moved.modified.0.to_string().as_str())
    );
    let next = role.epoch.next().unwrap();
    let ahead = at_epoch(&admin, next)
        .set_role_timing(&name, &TimingPolicy::fast())
        .await
        .unwrap_err();
    assert_eq!(ahead.reason, Reason::EpochUnconfirmed);
    at_epoch(&admin, role.epoch)
        .set_role_timing(&name, &TimingPolicy::fast())
        .await
        .unwrap();
    at_epoch(&admin, role.epoch)
        .set_role_candidates(&name, &[region("r1")])
        .await
        .unwrap();

    let agent = cluster.client(&agent("r1", "a1"));
    let key = publish(&admin, &agent, &model("m"), &region("r1")).await;
    let version = admin.get_version(&key).await.unwrap();
    let stale = with_etag(&admin, Revision(version.modified.0 - 1));
    assert_eq!(
        stale.deprecate_version(&key, "").await.unwrap_err().reason,
        Reason::EtagMismatch
    );
    with_etag(&admin, version.modified)
        .deprecate_version(&key, "")
        .await
        .unwrap();
    // What has none to show is refused, and not done without.
    let refused = with_etag(&admin, Revision(1))
        .create_model(&model("n"), "", BTreeMap::new(), &Default::default())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.reason, refused.operand("field")),
        (Reason::InvalidArgument, Some("etag"))
    );
    let refused = at_epoch(&admin, role.epoch)
        .deprecate_version(&key, "")
        .await
        .unwrap_err();
    assert_eq!(refused.operand("field"), Some("expected_epoch"));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_switchover_that_is_only_validated_is_the_plan_as_it_would_start() {
    let story = Story::begin().await;
    let (admin, name) = (&story.admin, RoleName::global());
    level_reached(admin).await;
    let (role, _) = admin.get_role(&name).await.unwrap();
    let plans = admin.list_plans(None, 10).await.unwrap();
    let plan = validating(admin)
        .switchover(&name, &region("r2"), Some(role.epoch))
        .await
        .unwrap();
    assert_eq!(
        (plan.kind, plan.state),
        (PlanKind::Switchover, PlanState::Running)
    );
    assert_eq!(
        (plan.from.as_ref(), plan.from_epoch),
        (role.holder.as_ref(), role.epoch)
    );
    assert_eq!(plan.target.region, region("r2"));
    // From level 7 on the first begins with the plan.
    assert!(
        plan.steps[1..]
            .iter()
            .all(|step| step.state == StepState::Waiting)
    );
    assert!(plan.steps[0].state != StepState::Done, "{plan:?}");
    let refused = validating(admin)
        .switchover(&name, &region("r1"), None)
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::TargetNotQualified, "it holds the role");
    let stale = validating(admin)
        .switchover(&name, &region("r2"), Some(Epoch::new(1, 0)))
        .await
        .unwrap_err();
    assert_eq!(stale.reason, Reason::StaleEpoch);
    let etag = with_etag(admin, Revision(role.modified.0 - 1));
    assert_eq!(
        etag.switchover(&name, &region("r2"), None)
            .await
            .unwrap_err()
            .reason,
        Reason::EtagMismatch
    );
    assert_eq!(admin.list_plans(None, 10).await.unwrap(), plans);
    assert_eq!(admin.get_role(&name).await.unwrap().0, role);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_switchover_is_retried_as_it_was_asked_and_not_as_something_else() {
    let mut story = Story::begin().await;
    let (admin, name) = (&story.admin, RoleName::global());
    level_reached(admin).await;
    let (role, _) = admin.get_role(&name).await.unwrap();
    let to = region("r2");
    // Refused once, it stays so under its id, although nothing is the matter with it any more.
    let lost = admin.with_request_id(client::retry::mint_request_id());
    let elsewhere = lost.switchover(&name, &region("r9"), None).await.unwrap_err();
    assert_eq!(elsewhere.reason, Reason::RegionNotFound);
    let etag = with_etag(&lost, Revision(role.modified.0 - 1));
    let refused = etag.switchover(&name, &to, None).await.unwrap_err();
    assert_eq!(refused.reason, Reason::EtagMismatch);
    assert_eq!(etag.switchover(&name, &to, None).await.unwrap_err(), refused);

    let asked = with_etag(
        &admin.with_request_id(client::retry::mint_request_id()),
        role.modified,
    );
    let plan = asked.switchover(&name, &to, None).await.unwrap().plan;
    story.agents[1].holds().await;
    let others = [
        (None, None, "r2"),
        (Some(Revision(role.modified.0 + 1)), None, "r2"),
        (Some(role.modified), Some(role.epoch), "r2"),
        (Some(role.modified), None, "r1"),
    ];
    for leader_changed in [false, true] {
        if leader_changed {
            admin.transfer_leadership(None, false).await.unwrap();
        }
        let again = asked.switchover(&name, &to, None).await.unwrap();
        assert_eq!(
            again.plan, plan,
            "the role has moved, its etag too, and it is the plan of then"
        );
        for (etag, epoch, to) in others {
            let other = asked.with_change_options(ChangeOptions {
                etag,
                ..ChangeOptions::default()
            });
            let refused = other.switchover(&name, &region(to), epoch).await.unwrap_err();
            assert_eq!(
                refused.reason,
                Reason::RequestReused,
                "{etag:?} {epoch:?} {to}: {refused}"
            );
        }
    }
    assert_eq!(admin.list_plans(None, 10).await.unwrap()[0].plan, plan);
    story.end().await;
}
