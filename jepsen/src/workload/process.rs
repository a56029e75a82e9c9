//! One client of a workload: it does one thing at a time, and writes down what it asked and what it was told.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use types::reason::Refusal;

use crate::{
    history::{Action, Answer, History, Told, What},
    outcome,
};

/// After an operation whose outcome is unknown its process goes on under another number: that operation never ends, and a process has one at
/// a time (as in Jepsen, whose checkers rely on it).
const NEXT_LIFE: u32 = 1_000;

/// Which client an operation's process is a life of.
pub(crate) const fn client_of(process: u32) -> u32 {
    process % NEXT_LIFE
}

/// The clients of a run.
#[derive(Debug)]
pub(crate) struct Processes {
    next: u32,
    history: History,
    stop: CancellationToken,
}

impl Processes {
    /// Of a run that ends with `stop`.
    pub(crate) fn new(history: &History, stop: &CancellationToken) -> Self {
        Self {
            next: 0,
            history: history.clone(),
            stop: stop.clone(),
        }
    }

    /// The next client, whose operations begin so far apart, if they do not take longer.
    pub(crate) fn next(&mut self, apart: Duration) -> Process {
        let number = self.next;
        self.next += 1;
        let mut ticks = interval(apart);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Process {
            number,
            op: 0,
            ticks,
            history: self.history.clone(),
            stop: self.stop.clone(),
        }
    }
}

/// A client.
#[derive(Debug)]
pub(crate) struct Process {
    number: u32,
    op: u64,
    ticks: Interval,
    history: History,
    stop: CancellationToken,
}

impl Process {
    /// Waits for its next turn; false: the run is over.
    pub(crate) async fn next(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            _ = self.ticks.tick() => true,
        }
    }

    /// The number of its operation, from 1.
    pub(crate) fn op(&self) -> u64 {
        self.op
    }

    /// A number for its next operation that no other operation of the run has.
    pub(crate) fn unique(&self) -> u64 {
        // Of the lives of a client the first number is the same modulo NEXT_LIFE, and `op` goes on.
        u64::from(client_of(self.number)) * 1_000_000 + self.op + 1
    }

    /// Writes down what a watch gave out.
    pub(crate) fn tell(&self, told: Told) {
        self.history.record(self.number, 0, What::Told { told });
    }

    /// Writes down that an operation begins.
    pub(crate) fn begin(&mut self, action: Action) {
        self.op += 1;
        self.history.record(self.number, self.op, What::Invoke { action });
    }

    /// Writes down how it ended, and gives its answer.
    pub(crate) fn end(&mut self, answer: Result<Answer, Refusal>) -> Option<Answer> {
        let what = outcome::of(answer);
        let (is_unknown, answer) = match &what {
            What::Ok { answer } => (false, Some(answer.clone())),
            What::Info { .. } => (true, None),
            What::Fail { .. }
            | What::Invoke { .. }
            | What::Told { .. }
            | What::Nemesis { .. }
            | What::Seen { .. } => (false, None),
        };
        self.history.record(self.number, self.op, what);
        if is_unknown {
            self.number = self.number.saturating_add(NEXT_LIFE);
        }
        answer
    }
}
