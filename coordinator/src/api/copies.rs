//! Copies of the state for readers of lists: a few at a time, each shared by everybody whom it is fresh enough for.
//!
//! Absent on purpose: a copy for each reader. A list says one revision (I7), so its pages come from one look at the state;
//! a reader that does not read on must not keep that look in memory for ever, or a thousand of them would each keep one.
//! Invariant: no more than the bound are alive. Where it is reached, new readers wait, and one copy serves all who waited;
//! a copy of which nobody read on during the patience is taken from its readers, who list again.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout_at},
};
use types::{Reason, Revision, reason::Refusal};

/// What one look at the state saw.
struct Look<T> {
    value: Arc<T>,
    _slot: OwnedSemaphorePermit,
}

/// A reader's hold on a copy; the last one lets it go.
pub(super) struct Copied<T> {
    revision: Revision,
    look: Mutex<Option<Look<T>>>,
    /// When a reader came, or read on.
    last_used: Mutex<Instant>,
}

impl<T> Copied<T> {
    /// The revision that was looked at.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// What was seen, for a reader that reads on; refused once it had to make room.
    pub(super) fn read(&self) -> Result<Arc<T>, Refusal> {
        self.used(Instant::now());
        self.value()
    }

    /// What was seen; refused once it had to make room.
    fn value(&self) -> Result<Arc<T>, Refusal> {
        let look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let value = look.as_ref().map(|look| Arc::clone(&look.value));
        value.ok_or_else(|| {
            let why = "the list was not read in time, and others wait; list again";
            Refusal::new(Reason::Overloaded, why).with("retry_after_ms", 100)
        })
    }

    fn last_used(&self) -> Instant {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self, now: Instant) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn make_room(&self) {
        self.look.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// All copies that are alive.
pub(super) struct Copies<T> {
    slots: Arc<Semaphore>,
    patience: Duration,
    /// Its lock is the queue of those who wait for room.
    alive: AsyncMutex<Vec<Weak<Copied<T>>>>,
    /// The one that was made last, for whoever it is fresh enough for: they wait for nobody.
    newest: Mutex<Weak<Copied<T>>>,
}

impl<T> Copies<T> {
    /// With room for `slots` at once. Once others want a copy of their own, readers of one must read on within `patience`.
    pub(super) fn new(slots: usize, patience: Duration) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            patience,
            alive: AsyncMutex::default(),
            newest: Mutex::new(Weak::new()),
        }
    }

    /// A copy that saw `at_least`: the newest, or one that `look` makes. Refused where none is to be had until `deadline`.
    pub(super) async fn get(
        &self,
        at_least: Revision,
        deadline: Instant,
        look: impl FnOnce() -> (Revision, T),
    ) -> Result<Arc<Copied<T>>, Refusal> {
        let got = timeout_at(deadline, async {
            if let Some(newest) = self.newest(at_least) {
                return newest;
            }
            let mut alive = self.alive.lock().await;
            // Whoever waited before may have made it.
            if let Some(newest) = self.newest(at_least) {
                return newest;
            }
            let slot = self.slot(&mut alive).await;
            let (revision, value) = look();
            let copied = Arc::new(Copied {
                revision,
                look: Mutex::new(Some(Look {
                    value: Arc::new(value),
                    _slot: slot,
                })),
                last_used: Mutex::new(Instant::now()),
            });
            alive.push(Arc::downgrade(&copied));
            *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&copied);
            copied
        });
        got.await.map_err(|_| {
            let why = "too many lists are being read";
            Refusal::new(Reason::Overloaded, why).with("retry_after_ms", 1_000)
        })
    }

    /// The newest one, if it can be read and saw `at_least`.
    fn newest(&self, at_least: Revision) -> Option<Arc<Copied<T>>> {
        let newest = self
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade();
        let newest = newest.filter(|c| c.revision >= at_least && c.value().is_ok());
        newest.inspect(|c| c.used(Instant::now()))
    }

    /// Room for one more: as soon as there is some, or nobody has read on in the oldest for long enough.
    async fn slot(&self, alive: &mut Vec<Weak<Copied<T>>>) -> OwnedSemaphorePermit {
        loop {
            alive.retain(|copied| copied.strong_count() > 0);
            let held = alive
                .iter()
                .filter_map(Weak::upgrade)
                .filter(|c| c.value().is_ok());
            let oldest = held.min_by_key(|c| c.last_used());
            let since = oldest.as_ref().map_or_else(Instant::now, |c| c.last_used());
            // Held here, it would keep its room.
            let oldest = oldest.map(|c| Arc::downgrade(&c));
            tokio::select! {
                biased;
                slot = Arc::clone(&self.slots).acquire_owned() => {
                    return slot.expect("the semaphore is never closed");
                }
                () = sleep_until(since + self.patience) => {
                    let oldest = oldest.as_ref().and_then(Weak::upgrade);
                    // Its reader may have read on meanwhile.
                    if let Some(oldest) = oldest.filter(|c| c.last_used() <= since) {
                        oldest.make_room();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SLOTS: usize = 2;
    /// Longer than any test.
    const LONG: Duration = Duration::from_secs(600);

    /// Copies of a state that is its revision, and how many were made.
    struct World {
        copies: Copies<u64>,
        at: Cell<u64>,
        made: Cell<usize>,
    }

    impl World {
        fn new(patience: Duration) -> Self {
            Self {
                copies: Copies::new(SLOTS, patience),
                at: Cell::new(1),
                made: Cell::new(0),
            }
        }

        /// A list of what is there now.
        async fn list(&self, within: Duration) -> Result<Arc<Copied<u64>>, Reason> {
            let look = || {
                self.made.set(self.made.get() + 1);
                (Revision(self.at.get()), self.at.get())
            };
            let deadline = Instant::now() + within;
            let got = self.copies.get(Revision(self.at.get()), deadline, look).await;
            got.map_err(|refusal| refusal.reason)
        }

        /// A list after a change.
        async fn next(&self) -> Arc<Copied<u64>> {
            self.at.set(self.at.get() + 1);
            self.list(Duration::from_secs(20)).await.unwrap()
        }
    }

    fn value(copied: &Copied<u64>) -> Result<u64, Reason> {
        copied.value().map(|v| *v).map_err(|refusal| refusal.reason)
    }

    #[tokio::test]
    async fn readers_of_one_revision_share_one_copy_and_the_last_one_frees_it() {
        let world = World::new(LONG);
        let mut readers = Vec::new();
        for _ in 0..100 {
            readers.push(world.list(LONG).await.unwrap());
        }
        assert_eq!(world.made.get(), 1);
        let later = world.next().await;
        assert_eq!((value(&later), later.revision()), (Ok(2), Revision(2)));
        assert!(readers.iter().all(|r| value(r) == Ok(1)));
        drop(readers);
        let last = world.next().await;
        assert_eq!((value(&later), value(&last)), (Ok(2), Ok(3)));
    }

    #[tokio::test]
    async fn a_thousand_readers_that_stall_keep_no_more_than_the_bound() {
        let world = World::new(Duration::ZERO);
        let mut stalled = Vec::new();
        for _ in 0..1_000 {
            stalled.push(world.next().await);
            let alive = stalled.iter().filter(|r| r.value().is_ok()).count();
            assert!(alive <= SLOTS, "{alive}");
        }
        // The oldest made room for the newest.
        let values: Vec<_> = stalled.iter().rev().take(3).map(|r| value(r)).collect();
        assert_eq!(values, [Ok(1_001), Ok(1_000), Err(Reason::Overloaded)]);
        drop(stalled);
        let _last = world.next().await;
        assert_eq!(
            world.copies.alive.lock().await.len(),
            1,
            "nothing is left of the others"
        );
    }

    #[tokio::test]
    async fn a_copy_is_taken_from_its_readers_when_its_time_is_over_and_not_before() {
        let patience = Duration::from_millis(200);
        let world = World::new(patience);
        let begun = Instant::now();
        let (first, second) = (world.next().await, world.next().await);
        let third = world.next().await;
        assert!(begun.elapsed() >= patience);
        let values = (value(&first), value(&second), value(&third));
        assert_eq!(values, (Err(Reason::Overloaded), Ok(3), Ok(4)));
        drop((second, third));
        // Whoever asks for one now has as long as anybody.
        let (one, two) = (world.next().await, world.next().await);
        tokio::time::sleep(patience).await;
        let begun = Instant::now();
        let joined = world.list(LONG).await.unwrap();
        assert!(Arc::ptr_eq(&two, &joined));
        let three = world.next().await;
        assert_eq!((value(&one), value(&joined)), (Err(Reason::Overloaded), Ok(6)));
        let four = world.next().await;
        assert!(begun.elapsed() >= patience);
        let values = (value(&joined), value(&three), value(&four));
        assert_eq!(values, (Err(Reason::Overloaded), Ok(7), Ok(8)));
    }

    #[tokio::test]
    async fn those_who_wait_share_the_copy_that_is_made_when_there_is_room() {
        let world = World::new(LONG);
        let (first, _second) = (world.next().await, world.next().await);
        world.at.set(9);
        let wait = futures::future::join_all((0..50).map(|_| world.list(LONG)));
        // Polled after all of them have begun to wait.
        let free = async { drop(first) };
        let (got, ()) = futures::future::join(wait, free).await;
        assert!(got.into_iter().all(|copy| value(&copy.unwrap()) == Ok(9)));
        assert_eq!(world.made.get(), 3);
    }

    #[tokio::test]
    async fn whom_an_older_copy_is_fresh_enough_for_does_not_wait_for_room() {
        let world = World::new(LONG);
        let (_first, second) = (world.next().await, world.next().await);
        let mut newer = Box::pin(world.next());
        assert!(futures::poll!(&mut newer).is_pending());
        let deadline = Instant::now() + LONG;
        let look = || unreachable!("the copy that is there is fresh enough");
        let older = world.copies.get(Revision(2), deadline, look).await.unwrap();
        assert!(Arc::ptr_eq(&older, &second));
    }

    #[tokio::test]
    async fn a_reader_that_reads_on_keeps_its_copy_and_one_that_stalls_does_not() {
        let patience = Duration::from_millis(200);
        let world = World::new(patience);
        let (slow, stalled) = (world.next().await, world.next().await);
        let mut newer = Box::pin(world.next());
        let newer = loop {
            tokio::select! {
                newer = &mut newer => break newer,
                () = tokio::time::sleep(patience / 10) => assert_eq!(slow.read().map(|v| *v).ok(), Some(2)),
            }
        };
        let values = (value(&slow), value(&stalled), value(&newer));
        assert_eq!(values, (Ok(2), Err(Reason::Overloaded), Ok(4)));
    }

    #[tokio::test]
    async fn nobody_waits_past_the_deadline_and_nobody_loses_a_copy_to_it() {
        let world = World::new(LONG);
        let (first, second) = (world.next().await, world.next().await);
        world.at.set(9);
        let refused = world.list(Duration::from_millis(10)).await.map(|_| ());
        assert_eq!(refused, Err(Reason::Overloaded));
        assert_eq!((value(&first), value(&second)), (Ok(2), Ok(3)));
    }
}
