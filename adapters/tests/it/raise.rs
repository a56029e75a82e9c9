//! Raising: monotone, idempotent, raced, cut short, and over those who cannot be ended.

use std::time::Duration;

use adapters::postgres::{RaiseError, Refusal, Trouble};
use futures::future::join_all;
use types::Epoch;

use crate::server::{SOON, Server, role, shown, token, write};

const INSERT: &str = "INSERT INTO shop.orders VALUES (1, 10)";

#[tokio::test]
async fn an_epoch_only_rises_is_one_holders_and_may_be_raised_twice() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    // Again, by whoever was not sure that it was done; also while a write holds the row.
    let app = server.connect("app").await;
    app.batch_execute(&format!("BEGIN; {}; {INSERT}", shown(&token(3, "a1"))))
        .await
        .unwrap();
    let again = server.raise(&token(3, "a1")).await.unwrap();
    assert_eq!((again.previous, again.ended), (None, 0));
    app.batch_execute("COMMIT").await.unwrap();

    let lower = server.raise(&token(2, "b1")).await.unwrap_err();
    assert!(
        matches!(&lower, RaiseError::Refused(Refusal::StaleEpoch { shown, current, .. })
            if (*shown, *current) == (Epoch::new(1, 2), Epoch::new(1, 3))),
        "{lower:?}"
    );
    let equal = server.raise(&token(3, "b1")).await.unwrap_err();
    assert!(
        matches!(&equal, RaiseError::Refused(Refusal::OtherHolder { .. })),
        "{equal:?}"
    );
    let mut foreign = token(9, "a1");
    foreign.cluster_id = types::ClusterId::from_u128(8);
    let cluster = server.raise(&foreign).await.unwrap_err();
    assert!(
        matches!(&cluster, RaiseError::Refused(Refusal::OtherCluster { .. })),
        "{cluster:?}"
    );
    let standing = server.regent().read(&role(), SOON).await.unwrap().unwrap();
    assert_eq!(standing.fence.epoch, Epoch::new(1, 3));
    // A generation is above every epoch of the one before.
    let mut restored = token(1, "b1");
    restored.epoch = Epoch::new(2, 1);
    assert_eq!(
        server.raise(&restored).await.unwrap().previous,
        Some(Epoch::new(1, 3))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raisers_that_race_end_with_the_highest_epoch_and_nobody_is_told_a_lie() {
    let Some(server) = Server::start("").await else {
        return;
    };
    server.guard().await;
    let regent = server.regent();
    let raises = (1..=8).flat_map(|n| [token(n, "a1"), token(n, "a1"), token(n, "b1")]);
    let raises = raises.map(|token| {
        let regent = regent.clone();
        tokio::spawn(async move { (token.clone(), regent.raise(&token, SOON).await) })
    });
    let mut winners = std::collections::BTreeMap::new();
    for ended in join_all(raises).await {
        let (token, raised) = ended.unwrap();
        match raised {
            Ok(_) => {
                let holder = winners.entry(token.epoch).or_insert_with(|| token.holder.clone());
                assert_eq!(*holder, token.holder, "two holders of {}", token.epoch);
            }
            Err(RaiseError::Refused(_)) => {}
            Err(error) => panic!("{token}: {error}"),
        }
    }
    let standing = regent.read(&role(), SOON).await.unwrap().unwrap();
    assert_eq!(standing.fence.epoch, Epoch::new(1, 8));
    let holder = &winners[&Epoch::new(1, 8)];
    assert!(
        standing
            .fence
            .holder
            .starts_with(&format!("west/{}/", holder.node))
    );
}

/// Whoever raises dies between the announcement and the raise; another finishes it.
#[tokio::test]
async fn a_raise_that_is_cut_short_has_ended_the_older_epoch_already() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    let holdout = server.connect("app").await;
    holdout
        .batch_execute(&format!("BEGIN; {}; {INSERT}", shown(&token(3, "a1"))))
        .await
        .unwrap();
    let (regent, next) = (server.regent_with(SOON), token(4, "b1"));
    tokio::select! {
        raised = regent.raise(&next, SOON) => panic!("{raised:?}"),
        () = server.raise_waits() => {}
    }

    let app = server.connect("app").await;
    let insert = "INSERT INTO shop.orders VALUES (2, 10)";
    assert_eq!(
        write(&app, &token(3, "a1"), insert).await,
        Err("RG001".to_owned())
    );
    let standing = server.regent().read(&role(), SOON).await.unwrap().unwrap();
    let announced = standing.announced.unwrap().epoch;
    assert_eq!(
        (standing.fence.epoch, announced),
        (Epoch::new(1, 3), Epoch::new(1, 4))
    );
    // Nobody takes what was announced away from its holder.
    let other = server.raise(&token(4, "c1")).await.unwrap_err();
    assert!(
        matches!(other, RaiseError::Refused(Refusal::OtherHolder { .. })),
        "{other:?}"
    );
    assert_eq!(server.raise(&token(4, "b1")).await.unwrap().ended, 1);
    write(&app, &token(4, "b1"), insert).await.unwrap();
    assert_eq!(server.orders().await, (1, 10));
}

#[tokio::test]
async fn a_raise_that_was_told_as_done_survives_the_servers_crash() {
    let Some(mut server) = Server::guarded_with(3, "synchronous_commit = off\nwal_writer_delay = 10s").await
    else {
        return;
    };
    server.raise(&token(4, "b1")).await.unwrap();
    server.crash().await;
    let app = server.connect("app").await;
    assert_eq!(
        write(&app, &token(3, "a1"), INSERT).await,
        Err("RG001".to_owned())
    );
    write(&app, &token(4, "b1"), INSERT).await.unwrap();
}

/// What cannot be ended is named, and the door is contended: nobody acts over it.
#[tokio::test]
async fn whoever_holds_out_and_cannot_be_ended_is_named() {
    let Some(server) = Server::guarded_with(3, "max_prepared_transactions = 5").await else {
        return;
    };
    let attempt = |counter| {
        let regent = server.regent_with(Duration::from_millis(50));
        async move {
            match regent.raise(&token(counter, "b1"), Duration::from_secs(2)).await {
                Err(RaiseError::Trouble(Trouble::Contended(why))) => why,
                other => panic!("{other:?}"),
            }
        }
    };
    let superuser = server.connect("postgres").await;
    superuser
        .batch_execute(&format!("BEGIN; {}; {INSERT}", shown(&token(3, "a1"))))
        .await
        .unwrap();
    let why = attempt(4).await;
    assert!(
        why.contains("of postgres") && why.contains("cannot be ended"),
        "{why}"
    );
    superuser.batch_execute("ROLLBACK").await.unwrap();
    server.raise(&token(4, "b1")).await.unwrap();

    let app = server.connect("app").await;
    let prepare = format!(
        "BEGIN; {}; {INSERT}; PREPARE TRANSACTION 'left'",
        shown(&token(4, "b1"))
    );
    app.batch_execute(&prepare).await.unwrap();
    let why = attempt(5).await;
    assert!(why.contains("prepared transaction"), "{why}");
    app.batch_execute("COMMIT PREPARED 'left'").await.unwrap();
    server.raise(&token(5, "b1")).await.unwrap();
    assert_eq!(server.orders().await, (1, 10));
}

/// Two roles in one database: who holds out under one is not ended for the other.
#[tokio::test]
async fn a_raise_ends_nobody_who_writes_under_another_role() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    let admin = server.connect("postgres").await;
    admin
        .batch_execute("SET ROLE shop_owner; SELECT regent.attach('shop.log', 'primaries/log')")
        .await
        .unwrap();
    let mut log = token(1, "a1");
    log.role = "primaries/log".parse().unwrap();
    server.raise(&log).await.unwrap();
    let bystander = server.connect("app").await;
    let line = format!("BEGIN; {}; INSERT INTO shop.log VALUES ('x')", shown(&log));
    bystander.batch_execute(&line).await.unwrap();
    let holdout = server.connect("app").await;
    holdout
        .batch_execute(&format!("BEGIN; {}; {INSERT}", shown(&token(3, "a1"))))
        .await
        .unwrap();
    assert_eq!(server.raise(&token(4, "b1")).await.unwrap().ended, 1);
    bystander.batch_execute("COMMIT").await.unwrap();
    let row = admin
        .query_one("SELECT count(*) FROM shop.log", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_server_that_is_gone_is_unreachable() {
    let Some(mut server) = Server::guarded(3).await else {
        return;
    };
    server.stop();
    let error = server.raise(&token(4, "b1")).await.unwrap_err();
    assert!(
        matches!(error, RaiseError::Trouble(Trouble::Unreachable(_))),
        "{error:?}"
    );
}
