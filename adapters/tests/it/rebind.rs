//! A database that goes over from a cluster to the one that goes on from it (L19).

use std::{collections::BTreeSet, time::Duration};

use adapters::postgres::{RaiseError, Raised, Refusal, Trouble};
use types::{ClusterId, Epoch, FencingToken, Lineage};

use crate::server::{SOON, Server, role, shown, token, write};

const INSERT: &str = "INSERT INTO shop.orders VALUES (1, 10)";
const MORE: &str = "INSERT INTO shop.orders VALUES (2, 20)";

/// The new cluster's token, under the next generation.
fn new_token(counter: u32) -> FencingToken {
    FencingToken {
        cluster_id: ClusterId::from_u128(0xbeef),
        epoch: Epoch::new(2, counter),
        ..token(1, "b1")
    }
}

/// That it goes on from the cluster of [`token`].
fn lineage() -> Lineage {
    Lineage {
        cluster: new_token(1).cluster_id,
        closed: BTreeSet::from([token(1, "a1").cluster_id]),
    }
}

async fn rebind(server: &Server) -> Result<Raised, RaiseError> {
    server.regent().raise_for(&new_token(1), &lineage(), SOON).await
}

/// The code with which a write under this token is refused; none if it was taken.
async fn code(server: &Server, token: &FencingToken, sql: &str) -> Option<String> {
    let app = server.connect("app").await;
    write(&app, token, sql).await.err()
}

#[tokio::test]
async fn a_database_follows_by_the_statement_alone_and_never_goes_back() {
    let Some(server) = Server::guarded(900).await else {
        return;
    };
    let without = server.raise(&new_token(1)).await.unwrap_err();
    assert!(
        matches!(without, RaiseError::Refused(Refusal::OtherCluster { .. })),
        "{without:?}"
    );
    assert_eq!(code(&server, &token(900, "a1"), INSERT).await, None);
    let done = rebind(&server).await.unwrap();
    assert_eq!(done.previous, Some(Epoch::new(1, 900)));
    assert_eq!(rebind(&server).await.unwrap().previous, None);
    // By cluster, and by epoch should it name the new one.
    let old = token(900, "a1");
    let renamed = FencingToken {
        cluster_id: new_token(1).cluster_id,
        ..old.clone()
    };
    assert_eq!(code(&server, &old, MORE).await.as_deref(), Some("RG004"));
    assert_eq!(code(&server, &renamed, MORE).await.as_deref(), Some("RG001"));
    assert_eq!(code(&server, &new_token(1), MORE).await, None);
    assert_eq!(server.orders().await, (2, 30));
    // The old cluster is revived: it raises, and even claims to go on from the new one.
    let mut back = token(901, "a1");
    back.epoch = Epoch::new(3, 1);
    let backwards = Lineage {
        cluster: back.cluster_id,
        closed: BTreeSet::from([new_token(1).cluster_id]),
    };
    for (raise, lineage) in [
        (&token(901, "a1"), &Lineage::first(old.cluster_id)),
        (&back, &backwards),
    ] {
        let refused = server.regent().raise_for(raise, lineage, SOON).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let standing = server.regent().read(&role(), SOON).await.unwrap().unwrap();
    assert_eq!(standing.fence.cluster_id, new_token(1).cluster_id.to_string());
    assert_eq!(standing.fence.epoch, Epoch::new(2, 1));
    // Also where somebody removed the row: what is over is over.
    let admin = server.connect("postgres").await;
    admin
        .batch_execute("DELETE FROM regent.fence; DELETE FROM regent.announced")
        .await
        .unwrap();
    let refused = server.raise(&token(902, "a1")).await.unwrap_err();
    assert!(
        matches!(&refused, RaiseError::Trouble(Trouble::Unusable(why)) if why.contains("is over")),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_the_old_cluster_that_is_committed_after_it_is_refused_or_was_before() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    // One has written and holds the row; one has shown its token and has not written yet; one has an older snapshot.
    let (holds, began, snapshot) = (
        server.connect("app").await,
        server.connect("app").await,
        server.connect("app").await,
    );
    let begin = format!("BEGIN; {}", shown(&token(3, "a1")));
    holds.batch_execute(&format!("{begin}; {INSERT}")).await.unwrap();
    began.batch_execute(&begin).await.unwrap();
    let serializable = format!(
        "BEGIN ISOLATION LEVEL SERIALIZABLE; {}; SELECT count(*) FROM shop.orders",
        shown(&token(3, "a1"))
    );
    snapshot.batch_execute(&serializable).await.unwrap();
    let regent = server.regent_with(SOON);
    let (new, lineage) = (new_token(1), lineage());
    let raising = tokio::spawn(async move { regent.raise_for(&new, &lineage, SOON).await });
    server.raise_waits().await;
    // It is announced: a write of the old cluster that begins now does not hold it up any longer.
    assert_eq!(
        code(&server, &token(3, "a1"), MORE).await.as_deref(),
        Some("RG004")
    );
    holds.batch_execute("COMMIT").await.unwrap();
    raising.await.unwrap().unwrap();
    assert_eq!(server.orders().await, (1, 10));
    let refused = began.batch_execute(MORE).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "RG004");
    let refused = snapshot.batch_execute(MORE).await.unwrap_err();
    let refused = refused.code().unwrap().code().to_owned();
    assert!(["RG004", "40001"].contains(&refused.as_str()), "{refused}");
    assert_eq!(server.orders().await, (1, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_of_the_old_cluster_holds_out_is_ended_and_nothing_of_it_is_committed() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    let holds = server.connect("app").await;
    let sql = format!("BEGIN; {}; {INSERT}", shown(&token(3, "a1")));
    holds.batch_execute(&sql).await.unwrap();
    let regent = server.regent_with(Duration::from_millis(50));
    let done = regent.raise_for(&new_token(1), &lineage(), SOON).await.unwrap();
    assert_eq!(done.ended, 1);
    holds.batch_execute("COMMIT").await.unwrap_err();
    assert_eq!(server.orders().await, (0, 0));
}

/// It died after it had noted that the old cluster is over, or after it had announced itself: the next one goes on.
#[tokio::test]
async fn a_rebind_that_was_cut_short_is_gone_on_with_and_the_old_cluster_raises_nothing_meanwhile() {
    let Some(server) = Server::guarded(3).await else {
        return;
    };
    let admin = server.connect("postgres").await;
    let (old, new) = (token(3, "a1").cluster_id, new_token(1).cluster_id);
    let noted = format!("INSERT INTO regent.superseded (cluster_id, by) VALUES ('{old}', '{new}')");
    admin.batch_execute(&noted).await.unwrap();
    server.raise(&token(4, "a1")).await.unwrap_err();
    assert_eq!(
        code(&server, &token(4, "a1"), INSERT).await.as_deref(),
        Some("RG006")
    );
    let announced = format!(
        "UPDATE regent.announced SET cluster_id = '{new}', epoch = {}, holder = 'x'; \
         INSERT INTO regent.announced SELECT role, '{new}', {}, 'x' FROM regent.fence WHERE role LIKE 'primaries/%' \
         ON CONFLICT DO NOTHING",
        Epoch::new(2, 0).as_u64(),
        Epoch::new(2, 0).as_u64()
    );
    admin.batch_execute(&announced).await.unwrap();
    assert_eq!(
        code(&server, &token(3, "a1"), INSERT).await.as_deref(),
        Some("RG004")
    );
    rebind(&server).await.unwrap();
    assert_eq!(code(&server, &new_token(1), INSERT).await, None);
}
