//! Transactions that were opened before a raise and go on after it, at each isolation level (issue 3, item 7).

use std::time::Duration;

use crate::server::{SOON, Server, code, shown, token, write};

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];
const INSERT: &str = "INSERT INTO shop.orders VALUES (1, 10)";

/// Opened, its snapshot taken, nothing written yet: the raise passes it by, and its first write is refused.
#[tokio::test]
async fn a_transaction_that_has_not_written_before_the_raise_is_refused_after_it() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    let mut counter = 3;
    for (level, expected) in LEVELS.iter().zip(["RG001", "40001", "40001"]) {
        let old = token(counter, if counter == 3 { "a1" } else { "b1" });
        let app = server.connect("app").await;
        let begin = format!(
            "BEGIN ISOLATION LEVEL {level}; {}; SELECT count(*) FROM shop.orders",
            shown(&old)
        );
        app.batch_execute(&begin).await.unwrap();
        counter += 1;
        let raised = server.raise(&token(counter, "b1")).await.unwrap();
        assert_eq!((raised.previous, raised.ended), (Some(old.epoch), 0), "{level}");
        assert_eq!(
            code(&app.batch_execute(INSERT).await.unwrap_err()),
            expected,
            "{level}"
        );
        app.batch_execute("COMMIT").await.unwrap();
        // Whoever tries again, as one does after 40001, hears why.
        assert_eq!(
            write(&app, &old, INSERT).await,
            Err("RG001".to_owned()),
            "{level}"
        );
        assert_eq!(server.orders().await, (0, 0), "{level}");
    }
}

/// It has written under the old epoch, and commits while the raise waits for it: both hold, in that order.
#[tokio::test]
async fn a_transaction_that_commits_in_time_is_kept_and_the_raise_comes_after_it() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    for (n, level) in (0_u32..).zip(LEVELS) {
        let app = server.connect("app").await;
        let old = token(3 + n, "a1");
        let begin = format!(
            "BEGIN ISOLATION LEVEL {level}; {}; INSERT INTO shop.orders VALUES ({n}, 10)",
            shown(&old)
        );
        app.batch_execute(&begin).await.unwrap();
        let (regent, next) = (server.regent_with(SOON), token(4 + n, "a1"));
        let raise = tokio::spawn(async move { regent.raise(&next, SOON).await });
        server.raise_waits().await;
        assert!(!raise.is_finished(), "{level}");
        app.batch_execute("COMMIT").await.unwrap();
        assert_eq!(raise.await.unwrap().unwrap().ended, 0, "{level}");
        assert_eq!(server.orders().await.0, i64::from(n) + 1, "{level}");
    }
}

/// It has written under the old epoch and does not end: the raise ends it, and what it wrote never happened.
#[tokio::test]
async fn a_transaction_that_holds_out_is_ended_and_cannot_commit_after_the_raise() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    for (n, level) in (0_u32..).zip(LEVELS) {
        let app = server.connect("app").await;
        let begin = format!(
            "BEGIN ISOLATION LEVEL {level}; {}; {INSERT}",
            shown(&token(3 + n, "a1"))
        );
        app.batch_execute(&begin).await.unwrap();
        let raised = server.raise(&token(4 + n, "a1")).await.unwrap();
        assert_eq!(raised.ended, 1, "{level}");
        app.batch_execute("COMMIT").await.unwrap_err();
        assert_eq!(server.orders().await, (0, 0), "{level}");
    }
}

/// While a raise waits, who is stale is refused at once, and does not make it wait longer.
#[tokio::test]
async fn a_raise_that_waits_is_announced() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    let holdout = server.connect("app").await;
    let begin = format!("BEGIN; {}; {INSERT}", shown(&token(3, "a1")));
    holdout.batch_execute(&begin).await.unwrap();
    let regent = server.regent_with(SOON);
    let raise = tokio::spawn(async move { regent.raise(&token(4, "b1"), SOON).await });
    server.raise_waits().await;
    let other = server.connect("app").await;
    let insert = "INSERT INTO shop.orders VALUES (2, 10)";
    assert_eq!(
        write(&other, &token(3, "a1"), insert).await,
        Err("RG001".to_owned())
    );
    // Neither may the next holder write yet: the old one may still commit.
    assert_eq!(
        write(&other, &token(4, "b1"), insert).await,
        Err("RG006".to_owned())
    );
    holdout.batch_execute("COMMIT").await.unwrap();
    assert_eq!(raise.await.unwrap().unwrap().ended, 0);
    write(&other, &token(4, "b1"), insert).await.unwrap();
    assert_eq!(server.orders().await, (2, 20));
}

/// Writers whose transactions overlap without end: a row lock in share mode passes a waiting raise by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_overlap_without_end_do_not_hold_a_raise_up() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = Vec::new();
    for n in 0..8 {
        let app = server.connect("app").await;
        let stopped = stopped.clone();
        writers.push(tokio::spawn(async move {
            let mut refused = 0;
            for round in 0.. {
                if *stopped.borrow() {
                    break;
                }
                let insert = format!(
                    "INSERT INTO shop.orders VALUES ({}, 1); SELECT pg_sleep(0.3)",
                    n * 1_000_000 + round
                );
                match write(&app, &token(3, "a1"), &insert).await {
                    Ok(()) => assert_eq!(refused, 0, "let through after a refusal"),
                    Err(code) => {
                        assert_eq!(code, "RG001");
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            refused
        }));
    }
    let admin = server.admin().await;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.3)%' AND state = 'active' AND pid <> pg_backend_pid()";
    while admin.query_one(busy, &[]).await.unwrap().get::<_, i64>(0) < 8 {
        tokio::task::yield_now().await;
    }
    // Nobody is ended: the raise has to win by itself.
    let raised = server
        .regent_with(SOON)
        .raise(&token(4, "b1"), SOON)
        .await
        .unwrap();
    assert_eq!(raised.ended, 0);
    let app = server.connect("app").await;
    write(&app, &token(4, "b1"), "INSERT INTO shop.orders VALUES (-1, 1)")
        .await
        .unwrap();
    stop.send(true).unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
}
