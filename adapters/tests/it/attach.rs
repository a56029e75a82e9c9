//! When a database is a fencing door, and what is said where it is none.

use adapters::postgres::{Postgres, PostgresConfig, Trouble};

use crate::server::{SOON, Server, role, token, write};

/// What keeps the shop's database from being a door.
async fn unfit(server: &Server) -> Vec<String> {
    server.regent().attach(&[role()], SOON).await.unwrap().unfit
}

#[tokio::test]
async fn a_database_that_is_set_up_as_it_should_is_a_door_whoever_comes_first() {
    let Some(server) = Server::start("").await else {
        return;
    };
    // Several agents at once, in an empty database.
    let regents = [(); 4].map(|()| server.regent());
    let attached = futures::future::join_all(regents.iter().map(|regent| regent.attach(&[], SOON))).await;
    let first = attached[0].clone().unwrap();
    assert_eq!(
        (first.unfit.as_slice(), first.remarks.as_slice(), first.tables),
        (&[][..], &[][..], 0)
    );
    assert!(first.incarnation.system != 0 && first.incarnation.timeline == 1);
    assert!(attached.into_iter().all(|attached| attached.unwrap() == first));
    // Nothing is guarded yet.
    let found = unfit(&server).await;
    assert!(
        found.len() == 1 && found[0].contains("no table is guarded by primaries/orders"),
        "{found:?}"
    );
    server.guard().await;
    let attached = server.regent().attach(&[role()], SOON).await.unwrap();
    assert_eq!((attached.unfit.clone(), attached.tables), (Vec::new(), 3));
    // Its own fence, and that of no role yet.
    assert_eq!(
        attached.epochs,
        [("regent/probe".to_owned(), types::Epoch::from_u64(2))].into()
    );
    // The probe left nothing.
    let admin = server.connect("postgres").await;
    let row = admin
        .query_one("SELECT count(*) FROM regent.probe", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

/// Each mistake, what is said of it, and what mends it.
#[tokio::test]
async fn whatever_keeps_the_guard_from_holding_is_named_and_makes_no_door() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    assert_eq!(unfit(&server).await, [""; 0]);
    let admin = server.connect("postgres").await;
    let attach = "SELECT regent.attach('shop.orders', 'primaries/orders')";
    for (mistake, said, mended) in [
        (
            "ALTER TABLE shop.orders DISABLE TRIGGER regent_guard",
            "shop.orders: its guard of its rows does not always fire",
            attach,
        ),
        (
            "ALTER TABLE shop.orders ENABLE TRIGGER regent_guard",
            "does not always fire",
            attach,
        ),
        (
            "DROP TRIGGER regent_guard ON shop.orders",
            "it has no guard of its rows",
            attach,
        ),
        (
            "DROP TRIGGER regent_guard_truncate ON shop.orders",
            "it has no guard against TRUNCATE",
            attach,
        ),
        (
            "CREATE OR REPLACE TRIGGER regent_guard BEFORE INSERT OR UPDATE OR DELETE ON shop.orders FOR EACH ROW \
             WHEN (pg_trigger_depth() > 9) EXECUTE FUNCTION regent.guard('primaries/orders')",
            "it has no guard of its rows",
            attach,
        ),
        (
            "GRANT shop_owner TO app",
            "app writes it and may act as its owner shop_owner",
            "REVOKE shop_owner FROM app",
        ),
        (
            "ALTER TABLE shop.log OWNER TO app; ALTER TABLE shop.orders OWNER TO app",
            "may act as its owner app",
            "ALTER TABLE shop.orders OWNER TO shop_owner",
        ),
        (
            "ALTER SCHEMA shop OWNER TO app",
            "the owner app of its schema",
            "ALTER SCHEMA shop OWNER TO shop_owner",
        ),
        (
            "GRANT regent_fence TO app",
            "is a member of regent_fence",
            "REVOKE regent_fence FROM app",
        ),
        (
            "ALTER ROLE app CREATEROLE",
            "has CREATEROLE",
            "ALTER ROLE app NOCREATEROLE",
        ),
        (
            "GRANT pg_execute_server_program TO app",
            "pg_execute_server_program",
            "REVOKE pg_execute_server_program FROM app",
        ),
        (
            "GRANT pg_write_all_data TO app",
            "regent.fence: app may write to it itself",
            "REVOKE pg_write_all_data FROM app",
        ),
        (
            "GRANT UPDATE (epoch) ON regent.fence TO app",
            "regent.fence: app may write to it itself",
            "REVOKE UPDATE (epoch) ON regent.fence FROM app",
        ),
        (
            "CREATE ROLE root SUPERUSER LOGIN; GRANT INSERT ON shop.orders TO root",
            "the superuser root was given the right",
            "DROP OWNED BY root; DROP ROLE root",
        ),
        (
            "CREATE TABLE shop.more () INHERITS (shop.orders)",
            "shop.more: it inherits from shop.orders",
            "DROP TABLE shop.more",
        ),
        (
            "DROP TABLE shop.lines; CREATE TABLE shop.lines (id integer)",
            "shop.lines: the guarded table was dropped",
            "DELETE FROM regent.guarded WHERE name = 'shop.lines'",
        ),
        (
            "ALTER TABLE regent.fence OWNER TO postgres",
            "regent.fence: it belongs to postgres",
            "ALTER TABLE regent.fence OWNER TO regent_fence",
        ),
        (
            "CREATE TABLE shop.events_26 PARTITION OF shop.events FOR VALUES IN (2026); GRANT TRUNCATE ON shop.events_26 TO app",
            "shop.events_26: it has no guard against TRUNCATE",
            "SELECT regent.attach('shop.events', 'primaries/orders')",
        ),
        (
            "CREATE OR REPLACE FUNCTION regent.guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "was let through",
            "UPDATE regent.version SET version = 0",
        ),
    ] {
        admin.batch_execute(mistake).await.unwrap();
        let found = unfit(&server).await;
        assert!(
            found.iter().any(|text| text.contains(said)),
            "{mistake}: {found:?}"
        );
        admin.batch_execute(mended).await.unwrap();
        assert_eq!(unfit(&server).await, [""; 0], "{mistake}, then {mended}");
    }
    let insert = "INSERT INTO shop.orders VALUES (1, 1)";
    assert_eq!(
        write(&admin, &token(2, "a1"), insert).await,
        Err("RG001".to_owned())
    );
}

#[tokio::test]
async fn a_server_that_forgets_what_it_was_told_is_no_door() {
    let Some(server) = Server::guarded_with(3, "fsync = off").await else {
        return;
    };
    let found = unfit(&server).await;
    assert!(found.len() == 1 && found[0].contains("fsync is off"), "{found:?}");
}

#[tokio::test]
async fn what_people_have_to_judge_is_a_remark() {
    let Some(server) = Server::guarded_with(3, "max_prepared_transactions = 1").await else {
        return;
    };
    let admin = server.connect("postgres").await;
    admin
        .batch_execute("REVOKE pg_signal_backend FROM regent_fence; ALTER TABLE shop.lines OWNER TO postgres")
        .await
        .unwrap();
    let attached = server.regent().attach(&[role()], SOON).await.unwrap();
    assert_eq!(attached.unfit, [""; 0]);
    let remarks = attached.remarks.join("\n");
    for said in [
        "its owner postgres is a superuser",
        "GRANT pg_signal_backend",
        "prepared transaction",
    ] {
        assert!(remarks.contains(said), "{remarks}");
    }
}

/// What is wrong with the way in is said, with the next step, and without the password.
#[tokio::test]
async fn a_way_in_that_is_denied_is_unusable_and_says_what_to_do() {
    let Some(server) = Server::start("").await else {
        return;
    };
    let admin = server.connect("postgres").await;
    admin
        .batch_execute("REVOKE CREATE ON DATABASE shop FROM regent_fence")
        .await
        .unwrap();
    let why = server.regent().attach(&[], SOON).await.unwrap_err();
    assert!(
        matches!(&why, Trouble::Unusable(why) if why.contains("GRANT CREATE ON DATABASE")),
        "{why:?}"
    );
    let elsewhere = Postgres::new(PostgresConfig::new(server.url("nowhere"))).unwrap();
    let why = elsewhere.attach(&[], SOON).await.unwrap_err();
    assert!(
        matches!(&why, Trouble::Unusable(why) if why.contains("\"nowhere\" does not exist")),
        "{why:?}"
    );
    let missing = PostgresConfig {
        password_file: Some("/nowhere/password".into()),
        ..PostgresConfig::new(server.url("shop"))
    };
    let why = Postgres::new(missing)
        .unwrap()
        .attach(&[], SOON)
        .await
        .unwrap_err();
    assert!(
        matches!(&why, Trouble::Unusable(why) if why.contains("/nowhere/password")),
        "{why:?}"
    );
    // Where another made the schema first, nothing of it is trusted.
    admin
        .batch_execute(
            "GRANT CREATE ON DATABASE shop TO app, regent_fence; SET ROLE app; CREATE SCHEMA regent",
        )
        .await
        .unwrap();
    let why = server.regent().attach(&[], SOON).await.unwrap_err();
    assert!(matches!(&why, Trouble::Unusable(_)), "{why:?}");
}
