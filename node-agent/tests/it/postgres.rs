//! A real PostgreSQL as one more door of a role (L17): claimed with the pointers, unfenced while it cannot be, and a door that
//! holds a promotion up where somebody holds it up.

use std::time::Duration;

use node_agent::{Agent, config::PostgresSection};
use types::{
    Epoch, FencingToken, RoleName,
    plan::{DoorClaim, StepKind},
};

use crate::{
    coordinator::global,
    records::{active, east, last_step, plan, reported, reserved, role, stores_attached, token},
    world::World,
};

#[path = "../../../adapters/tests/it/server.rs"]
#[expect(dead_code, reason = "the adapter's own tests use the rest")]
mod server;

use server::{SOON, Server, code, shown, write};

const INSERT: &str = "INSERT INTO shop.orders VALUES (1, 10)";

/// A shop whose tables `primaries/global` guards, and an agent that has seen that it is a door.
async fn world() -> Option<(World, Agent, Server)> {
    let server = Server::start("").await?;
    server.guard_by("primaries/global").await;
    let (world, agent) = agent_of(&server).await;
    stands(&agent, |said| {
        said.is_ok_and(|text| text.contains("a fencing door"))
    })
    .await;
    Some((world, agent, server))
}

async fn agent_of(server: &Server) -> (World, Agent) {
    let mut world = World::new().await;
    world.config.postgres = vec![PostgresSection {
        name: "orders".parse().unwrap(),
        url: server.url("shop"),
        password_file: None,
        ca_file: None,
        roles: [global()].into(),
        patience: Duration::from_millis(300),
    }];
    let agent = world.agent().await;
    stores_attached(&world).await;
    (world, agent)
}

/// Waits until the agent says that of its database.
async fn stands(agent: &Agent, as_expected: impl Fn(Result<&str, &str>) -> bool) {
    let mut board = agent.board();
    let seen = board.wait_for(|board| {
        let said = board.databases.values().next();
        said.is_some_and(|said| as_expected(said.as_deref().map_err(String::as_str)))
    });
    let waited = tokio::time::timeout(SOON, seen).await.is_ok();
    assert!(waited, "{:?}", agent.board().borrow().databases);
}

/// Waits until the database's fence stands under this token.
async fn fenced(server: &Server, wanted: &FencingToken) {
    let regent = server.regent();
    let raised = async {
        loop {
            let standing = regent.read(&RoleName::global(), SOON).await.unwrap();
            if standing.is_some_and(|s| s.fence.epoch == wanted.epoch) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, raised).await.unwrap();
}

/// Has the agent claim its doors for epoch 3; what it says of the database's.
async fn claim(world: &World, agent: &Agent) -> (bool, Option<DoorClaim>) {
    world.coordinator.commit(vec![
        role(2, None, Some(reserved(agent.holder()))),
        plan(agent.holder(), StepKind::Claim),
    ]);
    world
        .coordinator
        .until("CLAIM is reported", reported(StepKind::Claim))
        .await;
    let step = last_step(world);
    let door = step.doors.iter().find(|d| d.door == "postgres/orders");
    let door = door.map(|d| DoorClaim {
        door: d.door.clone(),
        claimed: d.claimed,
        error: d.error.clone(),
    });
    if !step.done {
        assert!(step.detail.contains("postgres/orders"), "{}", step.detail);
    }
    (step.done, door)
}

#[tokio::test]
async fn a_failover_raises_the_database_and_ends_the_old_holders_open_transaction() {
    let Some((world, agent, server)) = world().await else {
        return;
    };
    // The holder is elsewhere, and its epoch is raised for it by whoever sits beside the database.
    let old = token(1, &east());
    world.coordinator.commit(vec![role(1, Some(east()), None)]);
    fenced(&server, &old).await;
    let app = server.connect("app").await;
    app.batch_execute(&format!("BEGIN; {}; {INSERT}", shown(&old)))
        .await
        .unwrap();

    let (done, door) = claim(&world, &agent).await;
    assert!(done && door.clone().is_some_and(|door| door.claimed), "{door:?}");
    // Whatever it wrote before the raise and did not commit never happened.
    app.batch_execute("COMMIT").await.unwrap_err();
    let app = server.connect("app").await;
    assert_eq!(write(&app, &old, INSERT).await, Err("RG001".to_owned()));
    assert_eq!(server.orders().await, (0, 0));

    world
        .coordinator
        .commit(vec![role(3, Some(agent.holder().clone()), None)]);
    active(&agent).await;
    let (new, _) = agent.token(&global()).unwrap();
    assert_eq!(new.epoch, Epoch::new(1, 3));
    write(&app, &new, INSERT).await.unwrap();
    assert_eq!(server.orders().await, (1, 10));
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_down_is_an_unfenced_door_and_is_claimed_when_it_returns() {
    let Some((world, agent, mut server)) = world().await else {
        return;
    };
    server.stop();
    let (done, door) = claim(&world, &agent).await;
    let door = door.unwrap();
    assert!(done && !door.claimed && !door.error.is_empty(), "{door:?}");
    world
        .coordinator
        .commit(vec![role(3, Some(agent.holder().clone()), None)]);
    active(&agent).await;
    server.start_again().await;
    fenced(&server, &token(3, agent.holder())).await;
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_cannot_be_ended_holds_the_promotion_up() {
    let Some((world, agent, server)) = world().await else {
        return;
    };
    let old = token(1, &east());
    world.coordinator.commit(vec![role(1, Some(east()), None)]);
    fenced(&server, &old).await;
    let superuser = server.connect("postgres").await;
    superuser
        .batch_execute(&format!("BEGIN; {}; {INSERT}", shown(&old)))
        .await
        .unwrap();
    let (done, _) = claim(&world, &agent).await;
    assert!(!done);
    let refused = agent.token(&global()).unwrap_err();
    assert!(!refused.message.is_empty());
    // New writes under the old epoch are refused meanwhile.
    let app = server.connect("app").await;
    assert_eq!(
        write(&app, &old, "INSERT INTO shop.orders VALUES (2, 1)").await,
        Err("RG001".to_owned())
    );
    superuser.batch_execute("COMMIT").await.unwrap();
    fenced(&server, &token(3, agent.holder())).await;
    assert_eq!(server.orders().await, (1, 10));
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_database_whose_guard_does_not_hold_is_no_door_and_is_raised_all_the_same() {
    let Some(server) = Server::start("").await else {
        return;
    };
    server.guard_by("primaries/global").await;
    let admin = server.connect("postgres").await;
    admin.batch_execute("GRANT shop_owner TO app").await.unwrap();
    let (world, agent) = agent_of(&server).await;
    stands(&agent, |said| {
        said.is_err_and(|why| why.contains("app writes it and may act as its owner"))
    })
    .await;
    let health = format!("http://{}/health", agent.addresses().metrics);
    let health: serde_json::Value = reqwest::get(health).await.unwrap().json().await.unwrap();
    assert_eq!(health["checks"]["postgres/orders"]["ok"], false, "{health}");

    let (done, door) = claim(&world, &agent).await;
    let door = door.unwrap();
    assert!(
        done && !door.claimed && door.error.contains("no fencing door"),
        "{door:?}"
    );
    fenced(&server, &token(3, agent.holder())).await;
    let app = server.connect("app").await;
    let stale = format!("BEGIN; {}; {INSERT}", shown(&token(1, &east())));
    assert_eq!(code(&app.batch_execute(&stale).await.unwrap_err()), "RG001");
    agent.shutdown().await.unwrap();
}
