//! What a guarded table takes, and what it says when it refuses.

use crate::server::{Server, shown, token, write};

const INSERT: &str = "INSERT INTO shop.orders VALUES (1, 10)";

#[tokio::test]
async fn a_write_under_an_old_epoch_is_refused_by_the_database_and_told_who_holds_the_role() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    server.raise(&token(4, "b1")).await.unwrap();
    let app = server.connect("app").await;
    let sql = format!("BEGIN; {}; {INSERT}; COMMIT", shown(&token(3, "a1")));
    let error = app.batch_execute(&sql).await.unwrap_err();
    let refusal = error.as_db_error().unwrap();
    assert_eq!(refusal.code().code(), "RG001");
    assert_eq!(
        refusal.message(),
        "epoch g1.e3 of primaries/orders is over: g1.e4 is held by west/b1/00000000-0000-0000-0000-000000000062"
    );
    assert_eq!(
        refusal.detail(),
        Some(
            "role=primaries/orders shown=g1.e3 current=g1.e4 holder=west/b1/00000000-0000-0000-0000-000000000062"
        )
    );
    assert_eq!(server.orders().await, (0, 0));
    app.batch_execute("ROLLBACK").await.unwrap();
    write(&app, &token(4, "b1"), INSERT).await.unwrap();
    assert_eq!(server.orders().await, (1, 10));
}

#[tokio::test]
async fn every_wrong_token_has_a_code_of_its_own() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    let app = server.connect("app").await;
    let mut cluster = token(3, "a1");
    cluster.cluster_id = types::ClusterId::from_u128(8);
    let mut role = token(3, "a1");
    role.role = "primaries/other".parse().unwrap();
    for (token, expected) in [
        (token(2, "a1"), "RG001"),
        (token(3, "b1"), "RG003"),
        (cluster, "RG004"),
        (role, "RG005"),
        (token(4, "a1"), "RG006"),
    ] {
        assert_eq!(
            write(&app, &token, INSERT).await,
            Err(expected.to_owned()),
            "{token}"
        );
    }
    for nothing in [
        "",
        "x",
        "a b c d",
        "a primaries/orders 1e3 d",
        "a primaries/orders -3 d",
    ] {
        let sql = format!("BEGIN; SET LOCAL regent.token = '{nothing}'; {INSERT}; COMMIT");
        let error = app.batch_execute(&sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "RG002", "{nothing:?}");
        app.batch_execute("ROLLBACK").await.unwrap();
    }
    // Outside of a transaction that shows one there is none, also after one that did.
    write(&app, &token(3, "a1"), "SELECT 1").await.unwrap();
    let error = app.batch_execute(INSERT).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "RG002");
    assert_eq!(server.orders().await, (0, 0));
}

#[tokio::test]
async fn a_table_whose_role_was_never_raised_takes_nothing() {
    let Some(server) = Server::start("").await else {
        return;
    };
    server.guard().await;
    let app = server.connect("app").await;
    assert_eq!(
        write(&app, &token(1, "a1"), INSERT).await,
        Err("RG006".to_owned())
    );
}

/// Each statement once under the epoch that is over, which changes nothing, and once under the one that rules.
#[tokio::test]
async fn every_kind_of_write_is_guarded_wherever_its_rows_land() {
    let Some(server) = Server::guarded(4).await else {
        return;
    };
    let admin = server.connect("postgres").await;
    // One that is made after its parent was guarded.
    admin
        .batch_execute(
            "SET ROLE shop_owner; CREATE TABLE shop.events_26 PARTITION OF shop.events FOR VALUES IN (2026); \
             GRANT INSERT ON shop.events_26 TO app",
        )
        .await
        .unwrap();
    let app = server.connect("app").await;
    for sql in [
        "INSERT INTO shop.orders VALUES (1, 10), (2, 200)",
        "INSERT INTO shop.orders VALUES (1, 11) ON CONFLICT (id) DO UPDATE SET amount = 11",
        "INSERT INTO shop.orders VALUES (1, 11) ON CONFLICT DO NOTHING",
        "INSERT INTO shop.orders SELECT n, n FROM generate_series(10, 20) n",
        "UPDATE shop.orders SET amount = amount + 1 WHERE id = 1",
        "UPDATE shop.large SET amount = 201 WHERE id = 2",
        "MERGE INTO shop.orders o USING (VALUES (1)) AS s (id) ON o.id = s.id WHEN MATCHED THEN UPDATE SET amount = 12",
        "WITH gone AS (DELETE FROM shop.orders WHERE id = 10 RETURNING id) SELECT * FROM gone",
        "INSERT INTO shop.lines VALUES (1, 1)",
        // Its lines go with it.
        "DELETE FROM shop.orders WHERE id = 1",
        "INSERT INTO shop.events VALUES (1, 2025), (2, 2026)",
        "INSERT INTO shop.events_25 VALUES (3, 2025)",
        "INSERT INTO shop.events_26 VALUES (3, 2026)",
        "UPDATE shop.events SET year = 2026 WHERE id = 1",
        "DELETE FROM shop.events_25",
        "TRUNCATE shop.events_25",
        "TRUNCATE shop.events",
        "TRUNCATE shop.orders CASCADE",
        "DO $$BEGIN INSERT INTO shop.orders VALUES (7, 7); END$$",
    ] {
        assert_eq!(
            write(&app, &token(3, "a1"), sql).await,
            Err("RG001".to_owned()),
            "{sql}"
        );
        assert_eq!(write(&app, &token(4, "a1"), sql).await, Ok(()), "{sql}");
    }
    // What is not guarded asks for nothing.
    app.batch_execute("INSERT INTO shop.log VALUES ('x')")
        .await
        .unwrap();
}

/// COPY is no statement that can be sent with others.
#[tokio::test]
async fn a_copy_is_guarded_too() {
    use futures::SinkExt as _;
    let Some(server) = Server::guarded(4).await else {
        return;
    };
    for (counter, expected) in [(3, (0, 0)), (4, (2, 30))] {
        let mut app = server.connect("app").await;
        let transaction = app.transaction().await.unwrap();
        adapters::postgres::show(&transaction, &token(counter, "a1"))
            .await
            .unwrap();
        let sink = transaction.copy_in("COPY shop.orders FROM STDIN").await.unwrap();
        let mut sink = Box::pin(sink);
        sink.send(&b"1\t10\n2\t20\n"[..]).await.unwrap();
        let copied = sink.as_mut().finish().await;
        assert_eq!(copied.is_ok(), counter == 4);
        if copied.is_ok() {
            transaction.commit().await.unwrap();
        }
        assert_eq!(server.orders().await, expected);
    }
}

/// A write that was taken back to a savepoint, its lock with it, is judged anew.
#[tokio::test]
async fn a_savepoint_gives_back_the_lock_and_the_next_write_is_judged_again() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    let app = server.connect("app").await;
    let begin = format!(
        "BEGIN; {}; SAVEPOINT s; {INSERT}; ROLLBACK TO SAVEPOINT s",
        shown(&token(3, "a1"))
    );
    app.batch_execute(&begin).await.unwrap();
    let raised = server.raise(&token(4, "b1")).await.unwrap();
    assert_eq!(raised.ended, 0);
    let error = app.batch_execute(INSERT).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "RG001");
}
