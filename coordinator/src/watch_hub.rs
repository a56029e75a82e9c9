//! The last revisions, in order, for whoever watches.
//!
//! Absent on purpose: queues per watcher. A watcher has a position and pulls; one that is too slow finds its position
//! compacted away, and lists again. So no watcher costs memory, however slow it is.
//! Invariant: the kept revisions are contiguous: everything after [`Kept::floor`], events of one revision together (I7).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use state::Event;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{
    Reason, Revision,
    planted::{self, Bug},
    reason::Refusal,
};

use crate::raft::{Published, Subscription};

/// Revisions with events that are kept; a watcher that was away longer lists again.
pub const REVISIONS: usize = 10_000;
/// Bytes of events that are kept, as estimated; well below what a coordinator may use.
pub const BYTES: usize = 16 << 20;

/// All events of one revision.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The revision.
    pub revision: Revision,
    /// Its events, in order; never empty.
    pub events: Arc<[Event]>,
}

/// What a watcher gets next.
#[derive(Clone, Debug)]
pub enum Next {
    /// The events of the next revision that has any.
    Batch(Batch),
    /// Nothing happened between the position and this revision.
    UpTo(Revision),
}

#[derive(Debug)]
struct Kept {
    /// Everything after this revision is kept.
    floor: Revision,
    /// The last applied revision.
    last: Revision,
    batches: VecDeque<(Batch, usize)>,
    bytes: usize,
}

/// The hub. A cheap handle.
#[derive(Clone, Debug)]
pub struct WatchHub {
    kept: Arc<Mutex<Kept>>,
    last: watch::Sender<Revision>,
    limits: (usize, usize),
}

impl WatchHub {
    /// A hub that has seen everything up to `after`.
    pub fn new(after: Revision) -> Self {
        Self::with_limits(after, REVISIONS, BYTES)
    }

    /// A hub with other bounds, for tests that must reach them.
    pub fn with_limits(after: Revision, revisions: usize, bytes: usize) -> Self {
        let kept = Kept {
            floor: after,
            last: after,
            batches: VecDeque::new(),
            bytes: 0,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
            last: watch::Sender::new(after),
            limits: (revisions, bytes),
        }
    }

    /// Takes in the applied stream until it ends or `shutdown`.
    pub async fn run(self, mut applied: Subscription, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                step = applied.next() => match step {
                    Some(step) => self.record(step),
                    None => return,
                },
            }
        }
    }

    /// Takes in one step of the applied stream.
    pub fn record(&self, step: Published) {
        let mut kept = self.lock();
        let revision = match step {
            Published::Applied { revision, events } => {
                if revision != kept.last.next() {
                    kept.forget(Revision(revision.0.saturating_sub(1)));
                }
                let is_lost = planted::has(Bug::DroppedEvents) && revision.0 % 50 == 0;
                if !events.is_empty() && !is_lost {
                    crate::metrics::observe_events(&events);
                    kept.push(Batch { revision, events }, self.limits);
                }
                revision
            }
            Published::Reset { revision } => {
                kept.forget(revision);
                revision
            }
        };
        kept.last = revision;
        drop(kept);
        self.last.send_replace(revision);
    }

    /// The last revision that watchers can see, as it grows.
    pub fn last(&self) -> watch::Receiver<Revision> {
        self.last.subscribe()
    }

    /// What comes after `position`. COMPACTED if that is not kept; FUTURE_REVISION if it lies ahead.
    pub fn next(&self, position: Revision) -> Result<Next, Refusal> {
        let kept = self.lock();
        if position < kept.floor {
            let message = format!(
                "events after {position} are no longer kept, only those after {}",
                kept.floor
            );
            return Err(Refusal::new(Reason::Compacted, message)
                .with("shown", position.0)
                .with("oldest", kept.floor.0));
        }
        if position > kept.last {
            let message = format!(
                "{position} is ahead of this coordinator, which is at {}",
                kept.last
            );
            return Err(Refusal::new(Reason::FutureRevision, message)
                .with("shown", position.0)
                .with("current", kept.last.0));
        }
        let index = kept
            .batches
            .partition_point(|(batch, _)| batch.revision <= position);
        Ok(match kept.batches.get(index) {
            Some((batch, _)) => Next::Batch(batch.clone()),
            None => Next::UpTo(kept.last),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, up_to: Revision) {
        self.batches.clear();
        self.bytes = 0;
        self.floor = up_to;
    }

    fn push(&mut self, batch: Batch, (revisions, bytes): (usize, usize)) {
        let size = batch.events.iter().map(estimate).sum();
        self.bytes += size;
        self.batches.push_back((batch, size));
        while (self.batches.len() > revisions || self.bytes > bytes)
            && let Some((oldest, size)) = self.batches.pop_front()
        {
            self.bytes -= size;
            self.floor = oldest.revision;
        }
    }
}

/// Bytes that an event holds, roughly: its record and the texts and lists in it.
fn estimate(event: &Event) -> usize {
    size_of::<Event>()
        + match event {
            Event::Version(v) => 512 + v.artifacts.len() * 256 + v.metadata.len() * 128,
            Event::Model(m) => 256 + m.description.len() + m.tags.len() * 128,
            Event::Plan(p) => 1024 + p.trigger.len() + p.steps.len() * 256 + p.doors.len() * 128,
            Event::Role(r) => 1024 + r.candidates.len() * 32,
            Event::Region(r) => 512 + r.health_evidence.len() + r.labels.cost_tags.len() * 256,
            Event::Experiment(e) => {
                let metrics: usize = e.arms.iter().map(|arm| arm.metrics.len()).sum();
                512 + e.description.len() + e.reason.len() + e.arms.len() * 64 + metrics * 128
            }
            Event::Service(s) => {
                let labels: usize = s.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
                512 + s.address.len() + s.labels.len() * 64 + labels
            }
            Event::Cluster(_)
            | Event::RegionDeleted { .. }
            | Event::Node(_)
            | Event::NodeDeleted { .. }
            | Event::Alias(_)
            | Event::AliasDeleted { .. }
            | Event::Replica(_)
            | Event::ReplicaDeleted(_)
            | Event::PlanDeleted { .. }
            | Event::ExperimentDeleted { .. }
            | Event::ServiceDeleted { .. } => 512,
        }
}

#[cfg(test)]
mod tests {
    use types::{PlanId, RoleName};

    use super::*;

    fn applied(revision: u64, events: usize) -> Published {
        let events: Vec<_> = (0..events)
            .map(|n| Event::PlanDeleted {
                plan: PlanId(n as u64),
                role: RoleName::global(),
            })
            .collect();
        Published::Applied {
            revision: Revision(revision),
            events: events.into(),
        }
    }

    /// Everything after a position: revisions with events, then the revision up to which nothing more happened.
    fn after(hub: &WatchHub, mut position: Revision) -> Result<(Vec<u64>, u64), Reason> {
        let mut seen = Vec::new();
        loop {
            match hub.next(position).map_err(|e| e.reason)? {
                Next::Batch(batch) => {
                    seen.push(batch.revision.0);
                    position = batch.revision;
                }
                Next::UpTo(revision) => return Ok((seen, revision.0)),
            }
        }
    }

    #[test]
    fn every_event_comes_once_in_order_and_empty_revisions_only_move_the_position() {
        let hub = WatchHub::new(Revision(10));
        for (revision, events) in [(11, 1), (12, 0), (13, 2), (14, 0)] {
            hub.record(applied(revision, events));
        }
        assert_eq!(after(&hub, Revision(10)), Ok((vec![11, 13], 14)));
        assert_eq!(after(&hub, Revision(12)), Ok((vec![13], 14)));
        assert_eq!(after(&hub, Revision(14)), Ok((vec![], 14)));
        assert_eq!(after(&hub, Revision(9)), Err(Reason::Compacted));
        assert_eq!(after(&hub, Revision(15)), Err(Reason::FutureRevision));
    }

    #[test]
    fn the_oldest_go_first_and_their_loss_is_said() {
        let hub = WatchHub::with_limits(Revision(0), 3, usize::MAX);
        (1..=5).for_each(|revision| hub.record(applied(revision, 1)));
        assert_eq!(after(&hub, Revision(1)), Err(Reason::Compacted));
        assert_eq!(after(&hub, Revision(2)), Ok((vec![3, 4, 5], 5)));
        let small = WatchHub::with_limits(Revision(0), 100, 1);
        small.record(applied(1, 1));
        assert_eq!(after(&small, Revision(0)), Err(Reason::Compacted));
        assert_eq!(after(&small, Revision(1)), Ok((vec![], 1)));
    }

    #[test]
    fn a_snapshot_forgets_what_it_replaced() {
        let hub = WatchHub::new(Revision(0));
        hub.record(applied(1, 1));
        hub.record(Published::Reset {
            revision: Revision(50),
        });
        assert_eq!(after(&hub, Revision(1)), Err(Reason::Compacted));
        hub.record(applied(51, 1));
        assert_eq!(after(&hub, Revision(50)), Ok((vec![51], 51)));
    }
}
