//! What waits for company: items that come while something is under way go together when it ends.
//!
//! Absent on purpose: what is done with them (the caller hands it in), and any wait of an item that comes alone: it goes at
//! once. So an idle node answers as fast as it can, and a busy one does its work in larger parts: the more comes, the more goes
//! together.
//! Invariant: a part begins after each of its items had come; none is added to a part that has begun.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::raft::ProposeError;

/// Parts that may be under way at once: one every [`SPACING`] for longer than the slowest may take.
const RUNNING_MAX: usize = 512;
/// A part that takes longer than this, because peers are far or one hangs, is not waited for by the next.
const SPACING: Duration = Duration::from_millis(5);

/// Items that wait for the next part.
#[derive(Debug)]
pub(crate) struct Gather<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Notify,
    limit: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    items: Vec<T>,
    /// Nobody takes them any more.
    over: bool,
}

impl<T> Gather<T> {
    /// Room for `limit` that wait; one more is refused.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                items: Vec::new(),
                over: false,
            }),
            arrived: Notify::new(),
            limit,
        }
    }

    /// Puts an item into the next part. It is dropped where the node stops before that.
    pub(crate) fn add(&self, item: T) -> Result<(), ProposeError> {
        let mut waiting = self.lock();
        if waiting.over {
            return Err(stopping());
        }
        if waiting.items.len() >= self.limit {
            return Err(ProposeError::Overloaded {
                in_flight: self.limit,
            });
        }
        waiting.items.push(item);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes what waits, part by part; ends when it is dropped.
    pub(crate) async fn serve<F>(&self, act: impl Fn(Vec<T>) -> F)
    where
        F: Future<Output = ()>,
    {
        let _end = End(self);
        let mut running = FuturesUnordered::new();
        let mut next_at = Instant::now();
        loop {
            tokio::select! {
                () = self.arrived.notified(), if running.len() < RUNNING_MAX => {}
                Some(()) = running.next() => continue,
            }
            // Company comes while the part before is under way; on a busy node most of it does.
            while !running.is_empty() && Instant::now() < next_at {
                tokio::select! {
                    _ = running.next() => {}
                    () = sleep_until(next_at) => {}
                }
            }
            next_at = Instant::now() + SPACING;
            let items = mem::take(&mut self.lock().items);
            if !items.is_empty() {
                running.push(act(items));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // Both fields are whole after each statement.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }
}

/// Whoever waits learns of the end by the end of its item.
struct End<'a, T>(&'a Gather<T>);

impl<T> Drop for End<'_, T> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.over = true;
        waiting.items.clear();
    }
}

/// The node does not serve any more.
pub(crate) fn stopping() -> ProposeError {
    ProposeError::NotServing {
        detail: "stopping".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    /// A gather of numbers whose parts are shown as they begin, and end when they are let.
    fn held(
        limit: usize,
    ) -> (
        Arc<Gather<u32>>,
        mpsc::UnboundedReceiver<Vec<u32>>,
        Arc<Semaphore>,
    ) {
        let gather = Arc::new(Gather::new(limit));
        let let_end = Arc::new(Semaphore::new(0));
        let (begun, parts) = mpsc::unbounded_channel();
        let (own, own_end) = (gather.clone(), let_end.clone());
        tokio::spawn(async move {
            own.serve(|part| {
                begun.send(part).unwrap();
                let let_end = own_end.clone();
                async move { let_end.acquire().await.unwrap().forget() }
            })
            .await;
        });
        (gather, parts, let_end)
    }

    #[tokio::test]
    async fn what_comes_alone_goes_at_once_and_what_comes_meanwhile_goes_together() {
        let (gather, mut parts, let_end) = held(100);
        gather.add(1).unwrap();
        assert_eq!(parts.recv().await, Some(vec![1]));
        for item in 2..12 {
            gather.add(item).unwrap();
        }
        let_end.add_permits(1);
        assert_eq!(parts.recv().await, Some((2..12).collect()));
        let_end.add_permits(1);
        gather.add(12).unwrap();
        assert_eq!(parts.recv().await, Some(vec![12]));
    }

    #[tokio::test]
    async fn a_part_that_hangs_does_not_hold_the_next_one_up() {
        let (gather, mut parts, _let_end) = held(100);
        for item in 1..5 {
            gather.add(item).unwrap();
            assert_eq!(parts.recv().await, Some(vec![item]));
        }
    }

    #[tokio::test]
    async fn the_queue_has_a_bound_and_an_end() {
        let gather = Gather::new(2);
        gather.add(1).unwrap();
        gather.add(2).unwrap();
        assert_eq!(gather.add(3), Err(ProposeError::Overloaded { in_flight: 2 }));
        let stuck = gather.serve(|_| std::future::pending());
        assert!(
            tokio::time::timeout(Duration::from_millis(10), stuck)
                .await
                .is_err()
        );
        assert_eq!(gather.add(4), Err(stopping()));
        assert_eq!(gather.len(), 0);
    }
}
