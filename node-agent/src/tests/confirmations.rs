//! Questions that readers of pointers share.

use std::sync::{Arc, atomic::Ordering};

use artifact_store::Gate;
use futures::{future::join_all, poll};
use types::{Epoch, Reason};

use super::{
    door::{Bench, bench, east, west},
    records::*,
};
use crate::{confirmations::Confirmations, door::TRUSTED_FOR};

/// A bench at which `west` holds epoch 5.
async fn held() -> (Bench, Confirmations) {
    let bench = bench();
    bench.coordinators.commit(5, Some(west()));
    bench.learn(5, Some(west())).await;
    let confirmations = Confirmations::new(bench.door.clone());
    (bench, confirmations)
}

async fn committed(confirmations: &Confirmations) -> Result<Epoch, Reason> {
    let answer = confirmations.committed(&token(5, &west())).await;
    answer.map(|floor| floor.epoch).map_err(|refusal| refusal.reason)
}

/// Holds the next answer back until it is let go.
fn hold(bench: &Bench) -> Arc<Gate> {
    let gate = Gate::new();
    *bench.coordinators.gate.lock().unwrap() = Some(Arc::clone(&gate));
    gate
}

#[tokio::test]
async fn what_is_committed_is_asked_for_each_time_and_an_answer_from_before_a_pause_is_none() {
    let (bench, confirmations) = held().await;
    assert_eq!(committed(&confirmations).await, Ok(epoch(5)));
    bench.coordinators.commit(7, Some(east()));
    assert_eq!(committed(&confirmations).await, Ok(epoch(7)));
    assert_eq!(bench.floor().await, Some((epoch(7), Some(east()))));
    *bench.coordinators.takes.lock().unwrap() = TRUSTED_FOR;
    assert_eq!(committed(&confirmations).await, Err(Reason::NoQuorum));
}

/// The first question may have been answered from before the role moved; who came after that must hear of the move.
#[tokio::test]
async fn readers_that_come_while_a_question_is_under_way_share_the_next_one() {
    let (bench, confirmations) = held().await;
    let gate = hold(&bench);
    let mut first = Box::pin(committed(&confirmations));
    assert!(poll!(&mut first).is_pending());
    gate.arrived().await;
    bench.coordinators.commit(7, Some(east()));
    let mut later: Vec<_> = (0..50).map(|_| Box::pin(committed(&confirmations))).collect();
    for reader in &mut later {
        assert!(poll!(reader).is_pending());
    }
    gate.release();
    assert_eq!(first.await, Ok(epoch(5)));
    let later = join_all(later).await;
    assert!(later.iter().all(|seen| *seen == Ok(epoch(7))), "{later:?}");
    assert_eq!(bench.coordinators.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_question_that_its_reader_gave_up_is_asked_by_the_next() {
    let (bench, confirmations) = held().await;
    let gate = hold(&bench);
    let mut first = Box::pin(committed(&confirmations));
    assert!(poll!(&mut first).is_pending());
    gate.arrived().await;
    let mut second = Box::pin(committed(&confirmations));
    assert!(poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(second.await, Ok(epoch(5)));
    assert_eq!(bench.coordinators.asked.load(Ordering::SeqCst), 2);
}
