//! What those who write, and those who own a table, cannot do about the guard.

use crate::server::{Server, code, shown, token, write};

const INSERT: &str = "INSERT INTO shop.orders VALUES (1, 10)";

/// Each is denied, and leaves the fence as it was.
#[tokio::test]
async fn a_writer_has_no_way_round_the_guard() {
    let Some(server) = Server::guarded(4).await else {
        return;
    };
    let app = server.connect("app").await;
    for sql in [
        "UPDATE regent.fence SET epoch = 1",
        "DELETE FROM regent.fence",
        "TRUNCATE regent.fence",
        "SELECT * FROM regent.fence FOR UPDATE",
        "SELECT * FROM regent.fence",
        "DROP TABLE regent.fence",
        "INSERT INTO regent.announced VALUES ('primaries/orders', '00000000-0000-0000-0000-000000000007', 99, 'x')",
        "DELETE FROM regent.guarded",
        "ALTER TABLE shop.orders DISABLE TRIGGER regent_guard",
        "ALTER TABLE shop.orders DISABLE TRIGGER ALL",
        "DROP TRIGGER regent_guard ON shop.orders",
        "DROP TABLE shop.orders CASCADE",
        "ALTER TABLE shop.orders RENAME TO other",
        "ALTER TABLE shop.events DETACH PARTITION shop.events_25",
        "CREATE RULE r AS ON INSERT TO shop.orders DO INSTEAD NOTHING",
        "SET session_replication_role = replica",
        "SET ROLE regent_fence",
        "SET ROLE shop_owner",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE OR REPLACE FUNCTION regent.guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "ALTER FUNCTION regent.guard() SECURITY INVOKER",
        "DROP SCHEMA regent CASCADE",
        "SELECT regent.attach('shop.orders', 'primaries/other')",
        "SELECT regent.detach('shop.orders')",
        "SELECT regent.forget('shop.orders')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    ] {
        let error = app.batch_execute(sql).await.unwrap_err();
        assert_eq!(code(&error), "42501", "{sql}: {error:?}");
    }
    assert_eq!(
        write(&app, &token(3, "a1"), INSERT).await,
        Err("RG001".to_owned())
    );
}

/// Names that come first in a writer's search path, or in its temporary schema, are not what the guard looks at.
#[tokio::test]
async fn a_writer_cannot_put_another_fence_before_the_guards_eyes() {
    let Some(server) = Server::guarded(4).await else {
        return;
    };
    let admin = server.connect("postgres").await;
    admin
        .batch_execute("CREATE SCHEMA mine AUTHORIZATION app; GRANT USAGE ON SCHEMA mine TO PUBLIC")
        .await
        .unwrap();
    let app = server.connect("app").await;
    app.batch_execute(
        "CREATE TEMP TABLE fence (role text, cluster_id uuid, epoch bigint, holder text); \
         CREATE TABLE mine.fence (role text); CREATE TABLE mine.announced (role text); \
         CREATE FUNCTION mine.current_setting(text, boolean) RETURNS text LANGUAGE sql RETURN 'x'; \
         CREATE FUNCTION mine.string_to_array(text, text) RETURNS text[] LANGUAGE sql RETURN ARRAY['a', 'b', '9', 'd']; \
         CREATE FUNCTION mine.lt(bigint, bigint) RETURNS boolean LANGUAGE sql RETURN false; \
         CREATE OPERATOR mine.< (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = mine.lt); \
         SET search_path = mine, pg_temp, pg_catalog",
    )
    .await
    .unwrap();
    assert_eq!(
        write(&app, &token(3, "a1"), INSERT).await,
        Err("RG001".to_owned())
    );
}

/// The trigger fires always, so not even who may set that switches it off.
#[tokio::test]
async fn the_guard_fires_also_for_a_session_that_replays() {
    let Some(server) = Server::guarded(4).await else {
        return;
    };
    let admin = server.connect("postgres").await;
    admin
        .batch_execute("SET session_replication_role = replica")
        .await
        .unwrap();
    assert_eq!(
        write(&admin, &token(3, "a1"), INSERT).await,
        Err("RG001".to_owned())
    );
    write(&admin, &token(4, "a1"), INSERT).await.unwrap();
}

/// The owner of guarded tables may take the guard off, and no more: it does not raise, and rewrites no fence.
#[tokio::test]
async fn an_owner_of_tables_does_not_raise() {
    let Some(server) = Server::guarded(4).await else {
        return;
    };
    let owner = server.connect("postgres").await;
    owner
        .batch_execute("SET SESSION AUTHORIZATION shop_owner")
        .await
        .unwrap();
    for sql in [
        "UPDATE regent.fence SET epoch = 1",
        "INSERT INTO regent.announced VALUES ('primaries/orders', '00000000-0000-0000-0000-000000000007', 99, 'x')",
        "DELETE FROM regent.guarded",
        "CREATE OR REPLACE FUNCTION regent.guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    ] {
        assert_eq!(
            code(&owner.batch_execute(sql).await.unwrap_err()),
            "42501",
            "{sql}"
        );
    }
    // What is guarded is not forgotten, and what is not is not remembered.
    for sql in [
        "SELECT regent.forget('shop.orders')",
        "SELECT regent.remember('shop.log', 'primaries/orders')",
    ] {
        assert_eq!(
            code(&owner.batch_execute(sql).await.unwrap_err()),
            "55000",
            "{sql}"
        );
    }
    // The guard is no function that can be called.
    assert_eq!(
        code(&owner.batch_execute("SELECT regent.guard()").await.unwrap_err()),
        "0A000"
    );
    owner
        .batch_execute("SELECT regent.detach('shop.log')")
        .await
        .unwrap();
    owner
        .batch_execute("SELECT regent.detach('shop.events')")
        .await
        .unwrap();
    let app = server.connect("app").await;
    app.batch_execute("INSERT INTO shop.events VALUES (1, 2025); TRUNCATE shop.events_25")
        .await
        .unwrap();
    let late = format!("BEGIN; {}; {INSERT}; COMMIT", shown(&token(3, "a1")));
    assert_eq!(code(&app.batch_execute(&late).await.unwrap_err()), "RG001");
}
