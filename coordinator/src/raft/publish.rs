//! Hands applied events to the watch hub: every revision, in order, once.
//!
//! Absent on purpose: retention; the hub owns it. Until somebody subscribes, a bounded backlog keeps what was replayed
//! at start, so that a watch may resume over a restart.
//! Invariant: a subscriber sees consecutive revisions, or a [`Published::Reset`] that says they are not.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use state::Event;
use tokio::sync::mpsc;
use types::Revision;

/// Revisions kept for the first subscriber; more than a snapshot interval and the logs behind it.
const BACKLOG: usize = 8_192;
/// Revisions on the way to a subscriber; a hub that is further behind holds apply back.
const IN_FLIGHT: usize = 1_024;

/// One step of the applied state.
#[derive(Clone, Debug)]
pub enum Published {
    /// An entry was applied. Blank and membership entries have no events.
    Applied {
        /// Its revision: that of the message before, plus one.
        revision: Revision,
        /// What changed, in order.
        events: Arc<[Event]>,
    },
    /// The state was replaced by a leader's snapshot; what led to it is not known here.
    Reset {
        /// The snapshot's revision; the next message is that plus one.
        revision: Revision,
    },
}

impl Published {
    fn revision(&self) -> Revision {
        match self {
            Self::Applied { revision, .. } | Self::Reset { revision } => *revision,
        }
    }
}

/// The applied stream of one subscriber.
#[derive(Debug)]
pub struct Subscription {
    after: Revision,
    backlog: VecDeque<Published>,
    live: mpsc::Receiver<Published>,
}

impl Subscription {
    /// The revision before the first message, unless that is a [`Published::Reset`].
    pub fn after(&self) -> Revision {
        self.after
    }

    /// The next step; `None` once the node has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<Published> {
        match self.backlog.pop_front() {
            Some(step) => Some(step),
            None => self.live.recv().await,
        }
    }
}

/// The side of the state machine.
#[derive(Debug)]
pub(crate) struct Publisher(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    last: Revision,
    backlog: Option<VecDeque<Published>>,
    subscribers: Vec<mpsc::Sender<Published>>,
}

impl Publisher {
    pub(crate) fn new(last: Revision) -> Self {
        Self(Mutex::new(Inner {
            last,
            backlog: Some(VecDeque::new()),
            subscribers: Vec::new(),
        }))
    }

    /// The first subscriber gets the backlog; later ones start now.
    pub(crate) fn subscribe(&self) -> Subscription {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, live) = mpsc::channel(IN_FLIGHT);
        inner.subscribers.push(sender);
        let backlog = inner.backlog.take().unwrap_or_default();
        let after = match backlog.front() {
            Some(first) => Revision(first.revision().0.saturating_sub(1)),
            None => inner.last,
        };
        Subscription { after, backlog, live }
    }

    /// Waits while a subscriber is `IN_FLIGHT` behind; one that went away is forgotten.
    pub(crate) async fn publish(&self, step: Published) {
        for subscriber in self.record(&step) {
            // An error says that the receiver is gone; the next record forgets it.
            let _ = subscriber.send(step.clone()).await;
        }
    }

    fn record(&self, step: &Published) -> Vec<mpsc::Sender<Published>> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last = step.revision();
        inner.subscribers.retain(|s| !s.is_closed());
        if let Some(backlog) = &mut inner.backlog {
            if backlog.len() == BACKLOG {
                backlog.pop_front();
            }
            backlog.push_back(step.clone());
        }
        inner.subscribers.clone()
    }
}
