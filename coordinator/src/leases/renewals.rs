//! The loops that answer renewals: one ReadIndex round for all that were waiting when it began, and for a renewal of the
//! epoch that a promotion is about to commit, the wait for that entry (L11).
//!
//! Absent on purpose: the decisions ([`super::rules`]), and a second round after the wait. L7 asks for a round that began
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
use types::{
    FencingToken, Revision, RoleName,
    planted::{self, Bug},
    reason::Refusal,
};

use super::{
    Grant, Leases,
    rules::{self, Early, Round, not_yet},
};

/// Renewals that wait for the next round; each holder has one role to renew a few times a second, so more than this
/// means that rounds have stopped.
pub(super) const QUEUE: usize = 1_024;
/// Renewals that share one round.
const BATCH: usize = 256;
/// A round that takes longer than this has lost its quorum for as long as a renewal is of use.
const ROUND: Duration = Duration::from_secs(1);
/// When one is to ask again for which there is no room.
const CROWDED: Duration = Duration::from_millis(20);
/// Renewals on their way from the rounds to [`Waiting`], which is never busy for long.
const EARLY: usize = 64;

/// One renewal and its caller.
pub(super) struct Renewal {
    pub(super) token: FencingToken,
    pub(super) received: Instant,
    /// Until when an answer is of use.
    pub(super) deadline: Instant,
    pub(super) answer: Answer,
}

type Answer = oneshot::Sender<Result<(Revision, Grant), Refusal>>;

/// Answers a renewal.
fn end(answer: Answer, result: Result<(Revision, Grant), Refusal>) {
    crate::metrics::observe_renewal(&result);
    // An error says that the caller has gone; a lease then stands a while for nobody.
    let _ = answer.send(result);
}

impl Renewal {
    fn end(self, result: Result<(Revision, Grant), Refusal>) {
        end(self.answer, result);
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
    early: mpsc::Sender<Kept>,
}

impl Rounds {
    async fn run(mut self, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                received = self.queue.recv_many(&mut batch, BATCH) => if received == 0 { return },
            }
            let round = Round {
                began: Instant::now(),
                since: match planted::has(Bug::LeasesWithoutQuorum) {
                    true => self.leases.table().since(),
                    false => self.leases.raft.leadership().borrow().since,
                },
            };
            let confirmed = match planted::has(Bug::LeasesWithoutQuorum) {
                true => Ok(self.leases.raft.applied()),
                false => self.leases.raft.confirm_leadership(Instant::now() + ROUND).await,
            };
            for renewal in batch.drain(..) {
                match &confirmed {
                    Ok(_) => self.decide(renewal, round),
                    Err(error) => renewal.end(Err(error.to_refusal())),
                }
            }
        }
    }

    fn decide(&self, renewal: Renewal, round: Round) {
        match self.leases.decide(&renewal, &round) {
            Ok(Some(granted)) => renewal.end(Ok(granted)),
            Err(refusal) => renewal.end(Err(refusal)),
            Ok(None) => {
                if let Err(full) = self.early.try_send(Kept::new(renewal, round)) {
                    let kept = full.into_inner();
                    let refusal = not_yet(&kept.early.token, CROWDED);
                    end(kept.answer, Err(refusal));
                }
            }
        }
    }
}

/// An early renewal and its caller.
struct Kept {
    early: Early,
    answer: Answer,
}

impl Kept {
    fn new(renewal: Renewal, round: Round) -> Self {
        let Renewal {
            token,
            received,
            deadline,
            answer,
        } = renewal;
        let early = Early {
            token,
            received,
            deadline,
            round,
        };
        Self { early, answer }
    }
}

/// Those that came early, one of each role.
struct Waiting {
    leases: Leases,
    queue: mpsc::Receiver<Kept>,
    kept: BTreeMap<RoleName, Kept>,
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
                    Some(early) => {
                        // Whose wait is over leaves its place first.
                        self.look();
                        self.keep(early);
                    }
                    None => return,
                },
                _ = applied.changed(), if some => {}
                _ = leadership.changed(), if some => {}
                () = sleep_until(wake), if some => {}
            }
            self.look();
        }
    }

    /// One of each role waits, and the other caller asks again.
    fn keep(&mut self, kept: Kept) {
        let role = kept.early.token.role.clone();
        let waits = self.kept.remove(&role).filter(|waits| !waits.answer.is_closed());
        let (waits, out) = match waits {
            None => (kept, None),
            Some(waits) if rules::takes_the_place(&kept.early, &waits.early) => (kept, Some(waits)),
            Some(waits) => (waits, Some(kept)),
        };
        if let Some(Kept { early, answer }) = out {
            let refusal = rules::crowded(&early.token, &waits.early, Instant::now());
            end(answer, Err(refusal));
        }
        self.kept.insert(role, waits);
    }

    /// When somebody has waited long enough; far away while nobody waits.
    fn wake(&self, now: Instant) -> Instant {
        let ends = self.kept.values().map(|kept| rules::end_of_wait(&kept.early));
        // One that is over and still here is taken away by the next look.
        ends.min().unwrap_or(now + ROUND)
    }

    fn look(&mut self) {
        for (role, kept) in std::mem::take(&mut self.kept) {
            if let Some(kept) = self.judge(kept) {
                self.kept.insert(role, kept);
            }
        }
    }

    /// Answers, or gives back what is to wait on.
    fn judge(&self, kept: Kept) -> Option<Kept> {
        if kept.answer.is_closed() {
            return None;
        }
        match self.leases.judge(&kept.early) {
            None => Some(kept),
            Some(result) => {
                let Early { token, received, .. } = &kept.early;
                let (waited, granted) = (received.elapsed(), result.is_ok());
                tracing::debug!(%token, ?waited, granted, "an early renewal's wait is over");
                end(kept.answer, result);
                None
            }
        }
    }
}
