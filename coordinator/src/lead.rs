//! What the leader's loops share: they run while this node leads, and sleep on events in between.
//!
//! Absent on purpose: decisions. A loop says what to do each time it is woken, and until when it may sleep.

use std::{sync::Arc, time::Duration};

use state::{Command, Rejection, Reply};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use types::Revision;

use crate::{
    api::Api,
    raft::{Leadership, ProposeError, Proposed},
};

/// Shortest time between two looks, so that a burst of writes does not make a loop look at each of them.
const PAUSE: Duration = Duration::from_millis(10);
/// How long what a leader proposes by itself may take.
pub(crate) const PROPOSAL: Duration = Duration::from_secs(5);

/// One leadership of this node, and what wakes its loops.
pub(crate) struct Term {
    pub(crate) api: Arc<Api>,
    /// When it began.
    pub(crate) since: Instant,
    number: u64,
    leadership: watch::Receiver<Leadership>,
    revision: watch::Receiver<Revision>,
    sessions: watch::Receiver<u64>,
    releases: watch::Receiver<()>,
    shutdown: CancellationToken,
}

impl Term {
    /// Waits until this node leads; none at shutdown. Whichever loop looks first, what an earlier leadership heard is
    /// forgotten by then: silence counts from the election.
    pub(crate) async fn begin(api: &Arc<Api>, shutdown: &CancellationToken) -> Option<Self> {
        let mut leadership = api.raft.leadership();
        let (since, number) = tokio::select! {
            () = shutdown.cancelled() => return None,
            leads = leadership.wait_for(|l| l.since.is_some()) => {
                let leads = leads.ok()?;
                (leads.since?, leads.term)
            }
        };
        api.sessions.lead(since);
        Some(Self {
            api: Arc::clone(api),
            since,
            number,
            leadership,
            revision: api.hub.last(),
            sessions: api.sessions.changes(),
            releases: api.leases.releases(),
            shutdown: shutdown.clone(),
        })
    }

    /// Waits for something to look at, at most until `wake`. False once this leadership is over.
    pub(crate) async fn next(&mut self, wake: Instant) -> bool {
        let since = self.since;
        let over = self.leadership.wait_for(|l| l.since != Some(since));
        let stir = async {
            tokio::select! {
                // Whoever follows waits for it, and nobody can act meanwhile (L11).
                _ = self.releases.changed() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
            tokio::select! {
                _ = self.revision.changed() => {}
                _ = self.sessions.changed() => {}
                _ = self.releases.changed() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        };
        tokio::select! {
            () = self.shutdown.cancelled() => false,
            _ = over => false,
            () = stir => true,
        }
    }

    /// Waits until `wake`, whatever stirs meanwhile. False once this leadership is over.
    pub(crate) async fn rest(&mut self, wake: Instant) -> bool {
        let since = self.since;
        tokio::select! {
            () = self.shutdown.cancelled() => false,
            _ = self.leadership.wait_for(|l| l.since != Some(since)) => false,
            () = tokio::time::sleep_until(wake) => true,
        }
    }

    /// Proposes for this coordinator, in this term alone, and says in the log what became of it. None: nothing was applied.
    pub(crate) async fn propose(&self, command: Command) -> Option<Reply> {
        let what = describe(&command);
        let actor = self.api.own_principal();
        let deadline = Instant::now() + PROPOSAL;
        let raft = &self.api.raft;
        let request_id = raft.own_request_id(deadline).await;
        let result = raft
            .propose_in(Some(self.number), actor, request_id, command, deadline)
            .await;
        settle(&what, result)
    }
}

/// The reply of what a leader proposed by itself; a refusal or an error is logged, and the next look decides anew.
pub(crate) fn settle(what: &str, result: Result<Proposed, ProposeError>) -> Option<Reply> {
    match result {
        Ok(Proposed {
            outcome: Ok(reply), ..
        }) => Some(reply),
        Ok(Proposed {
            outcome: Err(rejection),
            ..
        }) => {
            refused(what, &rejection);
            None
        }
        Err(error) => {
            debug!(what, %error, "not proposed");
            None
        }
    }
}

/// A rule said no: the state has moved on between the look and the entry.
fn refused(what: &str, rejection: &Rejection) {
    warn!(what, %rejection, "refused by rule");
}

fn describe(command: &Command) -> String {
    let text = format!("{command:?}");
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use state::features::SUPPORTED;
    use tempfile::TempDir;

    use super::*;
    use crate::{leases::Leases, raft::tests::alone::leading, sessions::Sessions, watch_hub::WatchHub};

    /// What a loop decided by what its term knew.
    #[tokio::test]
    async fn what_an_earlier_leadership_proposes_is_no_entry_of_a_later_one() {
        let dir = TempDir::new().unwrap();
        let node = leading(dir.path()).await;
        let (leases, _renewals) = Leases::new(node.clone());
        let shutdown = CancellationToken::new();
        let hub = WatchHub::new(Revision(0));
        let api = Api::new(node.clone(), hub, Sessions::default(), leases, shutdown.clone());
        let now = Term::begin(&api, &shutdown).await.unwrap();
        let command = || Command::SetFeatureLevel { level: SUPPORTED };
        let earlier = Term {
            number: now.number - 1,
            ..Term::begin(&api, &shutdown).await.unwrap()
        };
        assert_eq!(earlier.propose(command()).await, None);
        assert!(now.propose(command()).await.is_some());
        node.shutdown().await;
    }
}
