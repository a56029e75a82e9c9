//! Holding a role: steps of a plan, claims, the lease, tokens, and the door.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use node_agent::door_log;
use proto::convert::watch::Resource;
use types::{Epoch, Reason, model::VersionState, plan::StepKind};

use crate::{
    coordinator::global,
    records::{
        appointed, calls, east, holder, last_step, plan, pointer_epoch, reported, reserved, role,
        stores_attached, token, token_of,
    },
    world::{BYTES, World, key, ready},
};

#[tokio::test]
async fn a_failover_to_this_agent_verifies_claims_holds_and_gives_tokens() {
    let world = World::new().await;
    let agent = world.agent().await;
    world
        .put("digits@1", "west", VersionState::Verifying, BYTES)
        .await;
    ready(&agent).await;
    stores_attached(&world).await;
    let me = agent.holder().clone();

    world.coordinator.commit(vec![
        role(1, Some(east()), None),
        plan(&me, StepKind::VerifyTarget),
    ]);
    world
        .coordinator
        .until("VERIFY_TARGET is reported", reported(StepKind::VerifyTarget))
        .await;
    let verified = last_step(&world);
    assert!(
        verified.done && verified.detail.contains("1 versions loaded"),
        "{verified:?}"
    );

    world.coordinator.commit(vec![
        role(2, None, Some(reserved(&me))),
        plan(&me, StepKind::Claim),
    ]);
    world
        .coordinator
        .until("CLAIM is reported", reported(StepKind::Claim))
        .await;
    let claimed = last_step(&world);
    assert_eq!(
        claimed.doors.iter().filter(|d| d.claimed).count(),
        2,
        "{claimed:?}"
    );
    assert_eq!(pointer_epoch(&world, "west").await, Some(Epoch::new(1, 3)));
    assert_eq!(pointer_epoch(&world, "east").await, Some(Epoch::new(1, 3)));
    let own = calls(&world, &agent, "region/west/node/a1");
    assert_eq!(own.token(&global()).await.unwrap_err().reason, Reason::LeaseLost);

    world.coordinator.commit(vec![role(3, Some(me.clone()), None)]);
    assert_eq!(token_of(&own).await, token(3, &me));
    // Other regions get no token; operators and own processes do.
    let foreign = calls(&world, &agent, "region/east/node/b1");
    assert_eq!(
        foreign.token(&global()).await.unwrap_err().reason,
        Reason::PermissionDenied
    );
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_target_without_its_models_says_so() {
    let world = World::new().await;
    // The copy is to be had: somebody lives beside it.
    let beside_it = world.agent_in_east().await;
    let agent = world.agent().await;
    stores_attached(&world).await;
    world.put("digits@1", "east", VersionState::Ready, BYTES).await;
    world.stores.east_up.store(false, Ordering::SeqCst);
    world.coordinator.commit(vec![
        Resource::Alias(crate::coordinator::champion(&key("digits@1"))),
        role(1, None, None),
        plan(agent.holder(), StepKind::VerifyTarget),
    ]);
    world
        .coordinator
        .until("VERIFY_TARGET is reported", reported(StepKind::VerifyTarget))
        .await;
    let verified = last_step(&world);
    assert!(
        !verified.done && verified.detail.contains("digits@1"),
        "{verified:?}"
    );
    beside_it.shutdown().await.unwrap();
    agent.shutdown().await.unwrap();
}

/// One push must not hold every failover.
#[tokio::test]
async fn a_target_that_lacks_only_what_nobody_can_load_is_fit_and_says_so() {
    let world = World::new().await;
    let agent = world.agent().await;
    stores_attached(&world).await;
    world.put_champion("digits@1", b"broken").await;
    let mut board = agent.board();
    let failed = board.wait_for(|b| !b.load_errors.is_empty());
    tokio::time::timeout(Duration::from_secs(20), failed)
        .await
        .unwrap()
        .unwrap();
    world.coordinator.commit(vec![
        role(1, None, None),
        plan(agent.holder(), StepKind::VerifyTarget),
    ]);
    world
        .coordinator
        .until("VERIFY_TARGET is reported", reported(StepKind::VerifyTarget))
        .await;
    let verified = last_step(&world);
    assert!(verified.done, "{verified:?}");
    assert!(
        verified.detail.contains("not loaded here: digits@1 (") && verified.detail.contains("it is broken"),
        "{verified:?}"
    );
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_store_that_returns_is_claimed_within_a_second() {
    let world = World::new().await;
    world.stores.east_up.store(false, Ordering::SeqCst);
    let agent = world.agent().await;
    stores_attached(&world).await;
    let me = agent.holder().clone();
    world.coordinator.commit(vec![
        role(2, None, Some(reserved(&me))),
        plan(&me, StepKind::Claim),
    ]);
    world
        .coordinator
        .until("CLAIM is reported", reported(StepKind::Claim))
        .await;
    let claimed = last_step(&world);
    let doors: Vec<_> = claimed
        .doors
        .iter()
        .map(|d| (d.door.as_str(), d.claimed))
        .collect();
    assert!(claimed.done);
    assert_eq!(doors, [("pointer/east", false), ("pointer/west", true)]);

    world.coordinator.commit(vec![role(3, Some(me.clone()), None)]);
    token_of(&calls(&world, &agent, "region/west/node/a1")).await;
    world.stores.east_up.store(true, Ordering::SeqCst);
    let returned = Instant::now();
    while pointer_epoch(&world, "east").await != Some(Epoch::new(1, 3)) {
        assert!(returned.elapsed() < Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_lost_role_stops_acting_and_its_token_is_stale_at_the_door() {
    let world = World::new().await;
    let agent = world.agent().await;
    world
        .put("digits@1", "west", VersionState::Verifying, BYTES)
        .await;
    ready(&agent).await;
    stores_attached(&world).await;
    let me = agent.holder().clone();
    world.coordinator.commit(vec![role(1, Some(me.clone()), None)]);
    let own = calls(&world, &agent, "region/west/node/a1");
    let mine = token_of(&own).await;
    assert_eq!(
        own.serve_version(&mine, &key("digits@1")).await.unwrap(),
        mine.epoch
    );
    // Another's certificate does not get in with it.
    let other = calls(&world, &agent, "region/east/node/b1");
    let refusal = other.serve_version(&mine, &key("digits@1")).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::PermissionDenied);

    world.coordinator.commit(vec![role(2, Some(east()), None)]);
    let stale = async {
        loop {
            match own.serve_version(&mine, &key("digits@1")).await {
                // Until the event is here the door knows no better; the registry's own door does.
                Ok(_) => tokio::task::yield_now().await,
                Err(refusal) => return refusal,
            }
        }
    };
    let refusal = tokio::time::timeout(Duration::from_secs(5), stale).await.unwrap();
    assert_eq!(refusal.reason, Reason::StaleEpoch);
    assert_eq!(refusal.operand("current"), Some("g1.e2"));
    assert_eq!(own.token(&global()).await.unwrap_err().reason, Reason::LeaseLost);
    // The new holder comes in, though this door never saw it before.
    assert_eq!(
        other
            .serve_version(&token(2, &east()), &key("digits@1"))
            .await
            .unwrap(),
        Epoch::new(1, 2)
    );

    let records = door_log::read(&door_log::path_in(&world.config.data_dir)).unwrap();
    let stale: Vec<_> = records
        .iter()
        .filter(|r| r.reason == Some(Reason::StaleEpoch))
        .collect();
    assert_eq!(stale.len(), 1);
    assert_eq!(
        (stale[0].shown, stale[0].floor_before),
        (Epoch::new(1, 1), Some(Epoch::new(1, 2)))
    );
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn without_a_quorum_the_lease_lapses_and_comes_back_under_the_same_epoch() {
    let world = World::new().await;
    let agent = appointed(&world, 1).await;
    let me = agent.holder().clone();
    let own = calls(&world, &agent, "region/west/node/a1");
    token_of(&own).await;

    world.coordinator.lock().quorum = false;
    let lapsed = async {
        while own.token(&global()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), lapsed)
        .await
        .unwrap();
    // A token above the floor that nobody can confirm is refused.
    let other = calls(&world, &agent, "region/east/node/b1");
    let refusal = other
        .serve_version(&token(2, &east()), &key("digits@1"))
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::EpochUnconfirmed);

    world.coordinator.lock().quorum = true;
    assert_eq!(token_of(&own).await, token(1, &me));
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_holder_that_stops_releases_its_lease() {
    let world = World::new().await;
    let agent = holder(&world).await;
    agent.shutdown().await.unwrap();
    assert_eq!(world.coordinator.lock().released, [Epoch::new(1, 1).as_u64()]);
}
