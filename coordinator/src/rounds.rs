//! Rounds that many readers share: whoever asks before a round begins is answered by it.
//!
//! Absent on purpose: what a round is (the caller hands it in), and retries.
//! Invariant: a round begins after each of those that it answers had asked (L7); see [`Gather`].

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    gather::{Gather, stopping},
    raft::ProposeError,
};

/// Readers that may wait; one more is refused. Calls in flight are bounded below that, so only a fault gets here.
const WAITING_MAX: usize = 8_192;

/// The log index that a round confirmed, or why there is none.
pub(crate) type Confirmed = Result<u64, ProposeError>;

/// Who waits for the next round.
#[derive(Debug)]
pub(crate) struct Rounds(Gather<oneshot::Sender<Confirmed>>);

impl Default for Rounds {
    fn default() -> Self {
        Self(Gather::new(WAITING_MAX))
    }
}

impl Rounds {
    /// Takes part in the next round that begins.
    pub(crate) async fn join(&self, deadline: Instant) -> Confirmed {
        let (reader, answer) = oneshot::channel();
        self.0.add(reader)?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(confirmed)) => confirmed,
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(ProposeError::NoQuorum {
                detail: "no round was confirmed before the deadline".to_owned(),
            }),
        }
    }

    /// Begins a round whenever somebody waits; ends when it is dropped.
    pub(crate) async fn serve<F>(&self, round: impl Fn() -> F)
    where
        F: Future<Output = Confirmed>,
    {
        self.0
            .serve(|readers| {
                let round = round();
                async move {
                    let confirmed = round.await;
                    for reader in readers {
                        // One that gave up is not there to be told.
                        let _ = reader.send(confirmed.clone());
                    }
                }
            })
            .await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use tokio::sync::Semaphore;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn reader(rounds: &Arc<Rounds>) -> tokio::task::JoinHandle<Confirmed> {
        let rounds = rounds.clone();
        tokio::spawn(async move { rounds.join(soon()).await })
    }

    /// Without this a reader could be answered from before a write that it knows of.
    #[tokio::test]
    async fn a_reader_that_asks_while_a_round_runs_is_answered_by_the_next() {
        let rounds: Arc<Rounds> = Arc::default();
        let begun = Arc::new(AtomicU64::new(0));
        let let_end = Arc::new(Semaphore::new(0));
        let (own, count, end) = (rounds.clone(), begun.clone(), let_end.clone());
        tokio::spawn(async move {
            own.serve(|| {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let end = end.clone();
                async move {
                    end.acquire().await.unwrap().forget();
                    Ok(number)
                }
            })
            .await;
        });
        let first = reader(&rounds);
        while begun.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        let late = reader(&rounds);
        let_end.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(late.await.unwrap(), Ok(2));
    }

    #[tokio::test]
    async fn a_reader_waits_no_longer_than_its_deadline() {
        let rounds = Rounds::default();
        let over = Instant::now() + Duration::from_millis(10);
        assert!(matches!(
            rounds.join(over).await,
            Err(ProposeError::NoQuorum { .. })
        ));
    }

    #[tokio::test]
    async fn whoever_waits_when_the_node_stops_is_told_so() {
        let rounds: Arc<Rounds> = Arc::default();
        let reader = reader(&rounds);
        while rounds.0.len() == 0 {
            tokio::task::yield_now().await;
        }
        let never = rounds.serve(|| async { std::future::pending().await });
        assert!(
            tokio::time::timeout(Duration::from_millis(10), never)
                .await
                .is_err()
        );
        assert_eq!(reader.await.unwrap(), Err(stopping()));
        assert_eq!(rounds.join(soon()).await, Err(stopping()));
    }
}
