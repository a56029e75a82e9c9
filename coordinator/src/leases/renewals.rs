//! The loops that answer renewals: one ReadIndex round for all that were waiting when it began, and for a renewal of the
//! epoch that a promotion is about to commit, the wait for that entry (L11).
//!
//! Absent on purpose: the decision ([`Leases::decide`]), and a second round after the wait. L7 asks for a round that began
//! after the receipt: whoever leads next was elected after that, and waits a whole TTL from there (L8); the lease counts
//! from the sending, which was before.
//! Invariant: what is granted was decided after such a round, by the leadership that it confirmed. Of each role one
//! renewal waits at most, and none longer than its caller.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use types::{FencingToken, Reason, Revision, RoleName, reason::Refusal};

use super::{Grant, Leases};
use crate::raft::ProposeError;

/// Renewals that wait for the next round; each holder has one role to renew a few times a second, so more than this
/// means that rounds have stopped.
pub(super) const QUEUE: usize = 1_024;
/// Renewals that share one round.
const BATCH: usize = 256;
/// A round that takes longer than this has lost its quorum for as long as a renewal is of use.
const ROUND: Duration = Duration::from_secs(1);
/// Time left for a "not yet" to be with its caller before that one's deadline.
const ANSWER: Duration = Duration::from_millis(50);
/// When one is to ask again whose place another took: two callers of one token must not chase each other out at once.
const CROWDED: Duration = Duration::from_millis(20);
/// Renewals on their way from the rounds to [`Waiting`], which is never busy for long.
const EARLY: usize = 64;

/// One renewal and its caller.
pub(super) struct Renewal {
    pub(super) token: FencingToken,
    pub(super) received: Instant,
    /// Until when an answer is of use.
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<(Revision, Grant), Refusal>>,
}

impl Renewal {
    fn end(self, result: Result<(Revision, Grant), Refusal>) {
        crate::metrics::observe_renewal(&result);
        // An error says that the caller has gone; a lease then stands a while for nobody.
        let _ = self.answer.send(result);
    }
}

/// The loops; [`Renewals::run`] is owned by the coordinator's `run`.
pub struct Renewals {
    rounds: Rounds,
    waiting: Waiting,
}

impl Renewals {
    pub(super) fn new(leases: Leases, queue: mpsc::Receiver<Renewal>) -> Self {
        let (early, queue_early) = mpsc::channel(EARLY);
        Self {
            waiting: Waiting {
                leases: leases.clone(),
                queue: queue_early,
                kept: BTreeMap::new(),
            },
            rounds: Rounds { leases, queue, early },
        }
    }

    /// Answers renewals until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::join!(self.rounds.run(shutdown.clone()), self.waiting.run(shutdown));
    }
}

/// Confirms the leadership, and then decides.
struct Rounds {
    leases: Leases,
    queue: mpsc::Receiver<Renewal>,
    early: mpsc::Sender<Early>,
}

impl Rounds {
    async fn run(mut self, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                received = self.queue.recv_many(&mut batch, BATCH) => if received == 0 { return },
            }
            let since = self.leases.raft.leadership().borrow().since;
            let confirmed = self.leases.raft.confirm_leadership(Instant::now() + ROUND).await;
            for renewal in batch.drain(..) {
                match &confirmed {
                    Ok(_) => self.decide(renewal, since),
                    Err(error) => renewal.end(Err(error.to_refusal())),
                }
            }
        }
    }

    fn decide(&self, renewal: Renewal, since: Option<Instant>) {
        match self.leases.decide(&renewal.token, renewal.received) {
            Ok(Some(granted)) => renewal.end(Ok(granted)),
            Err(refusal) => renewal.end(Err(refusal)),
            Ok(None) => {
                if let Err(full) = self.early.try_send(Early { renewal, since }) {
                    let renewal = full.into_inner().renewal;
                    let refusal = not_yet(&renewal.token, CROWDED);
                    renewal.end(Err(refusal));
                }
            }
        }
    }
}

/// A renewal that came before the entry that makes its sender the holder.
struct Early {
    renewal: Renewal,
    /// The leadership that its round confirmed.
    since: Option<Instant>,
}

/// Those that came early, by role: a later one takes the place of an earlier one.
struct Waiting {
    leases: Leases,
    queue: mpsc::Receiver<Early>,
    kept: BTreeMap<RoleName, Early>,
}

impl Waiting {
    async fn run(mut self, shutdown: CancellationToken) {
        let mut applied = self.leases.raft.store().progress();
        let mut leadership = self.leases.raft.leadership();
        loop {
            let some = !self.kept.is_empty();
            let wake = self.wake(Instant::now());
            tokio::select! {
                () = shutdown.cancelled() => return,
                early = self.queue.recv() => match early {
                    Some(early) => self.keep(early),
                    None => return,
                },
                _ = applied.changed(), if some => {}
                _ = leadership.changed(), if some => {}
                () = sleep_until(wake), if some => {}
            }
            self.look();
        }
    }

    fn keep(&mut self, early: Early) {
        let role = early.renewal.token.role.clone();
        if let Some(Early { renewal, .. }) = self.kept.insert(role, early) {
            let refusal = not_yet(&renewal.token, CROWDED);
            renewal.end(Err(refusal));
        }
    }

    /// When somebody has waited long enough; far away while nobody waits.
    fn wake(&self, now: Instant) -> Instant {
        let ends = self.kept.values().map(|early| self.end_of(early));
        // One that is over and still here is taken away by the next look.
        ends.min().unwrap_or(now + ROUND)
    }

    fn end_of(&self, early: &Early) -> Instant {
        let Renewal {
            token,
            received,
            deadline,
            ..
        } = &early.renewal;
        patience(*received, *deadline, self.leases.is_changing(&token.role))
    }

    fn look(&mut self) {
        for (role, early) in std::mem::take(&mut self.kept) {
            if let Some(early) = self.judge(early) {
                self.kept.insert(role, early);
            }
        }
    }

    /// Answers, or gives back what is to wait on.
    fn judge(&self, early: Early) -> Option<Early> {
        if early.renewal.answer.is_closed() {
            return None;
        }
        let leadership = self.leases.raft.leadership().borrow().clone();
        let decided = if leadership.since == early.since {
            self.leases.decide(&early.renewal.token, early.renewal.received)
        } else {
            let leader = leadership.leader;
            Err(ProposeError::NotLeader { leader }.to_refusal())
        };
        let result = match decided {
            Ok(None) if Instant::now() < self.end_of(&early) => return Some(early),
            Ok(None) => Err(not_yet(&early.renewal.token, Duration::ZERO)),
            Ok(Some(granted)) => Ok(granted),
            Err(refusal) => Err(refusal),
        };
        early.renewal.end(result);
        None
    }
}

/// Until when an early renewal waits. Half of its caller's time, so that the next one is here long before the caller gives
/// this one up; nearly all of it once the change is proposed: the answer is a round away, and the next one would come after
/// it. A caller that hears nothing until its deadline would take the leader for hung.
pub(super) fn patience(received: Instant, deadline: Instant, proposed: bool) -> Instant {
    let time = deadline.saturating_duration_since(received);
    received
        + if proposed {
            time - (time / 8).min(ANSWER)
        } else {
            time / 2
        }
}

/// The caller asks again after this long at most.
fn not_yet(token: &FencingToken, retry_after: Duration) -> Refusal {
    let text = format!("{} {} is not given out yet", token.role, token.epoch);
    Refusal::new(Reason::RoleChanging, text)
        .with("role", &token.role)
        .with("shown", token.epoch)
        .with("retry_after_ms", retry_after.as_millis())
}
