//! How far in time each member is behind this node's log, while it leads ([`policy::lag`]).

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use openraft::{ServerState, async_runtime::WatchReceiver as _};
use policy::lag::LogEnds;
use tokio::time::{Instant, MissedTickBehavior, interval};
use types::Revision;

use super::{
    RaftNode,
    view::{Member, Metrics},
};

/// Between two looks at the end of the log.
const LOOK: Duration = Duration::from_millis(500);

/// Where the log ended while this node leads.
#[derive(Debug, Default)]
pub(super) struct Lags(Mutex<Option<Leading>>);

/// Of one leadership.
#[derive(Debug)]
struct Leading {
    term: u64,
    began: Instant,
    ends: LogEnds,
}

impl Lags {
    /// Notes the end of the log now. Whoever does not lead knows nothing of others.
    fn note(&self, now: &Metrics) {
        let mut leading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.state != ServerState::Leader {
            *leading = None;
            return;
        }
        let term = now.current_term;
        let of_it = leading.take().filter(|leading| leading.term == term);
        let Leading { began, ends, .. } = leading.insert(of_it.unwrap_or_else(|| Leading {
            term,
            began: Instant::now(),
            ends: LogEnds::default(),
        }));
        ends.note(began.elapsed(), Revision(now.last_log_index.unwrap_or(0)));
    }

    /// The lag of a member of those metrics; none where this node does not lead.
    pub(super) fn of(&self, now: &Metrics, member: &Member) -> Option<Duration> {
        if now.state != ServerState::Leader {
            return None;
        }
        if member.raft_id == now.id {
            return Some(Duration::ZERO);
        }
        let leading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Leading { began, ends, .. } = leading.as_ref().filter(|l| l.term == now.current_term)?;
        let silent = member.silent_millis.map(Duration::from_millis);
        Some(ends.lag(began.elapsed(), member.matched, silent))
    }
}

impl RaftNode {
    /// Follows the end of the log, while this node leads.
    pub(super) async fn follow_lags(self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            looks.tick().await;
            self.inner.lags.note(&self.raft().metrics().borrow_watched());
        }
    }
}
