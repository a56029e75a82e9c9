//! A witness's own part in Raft: it holds back from elections, hands leadership over, and takes its snapshots from others.
//!
//! Everything else of it is Raft as at any voter: it stores, acknowledges and votes. Absent on purpose: decisions
//! (`policy::witness`, `policy::leader`), and any state ([`super::state_machine`]).
//! Invariants: a witness proposes nothing, answers no reader, and confirms no leadership to anybody; what its log forgets is in
//! the snapshot that it keeps, bytes for bytes as a voter with a state wrote them.

use std::{io, sync::atomic::Ordering, time::Duration};

use openraft::async_runtime::WatchReceiver as _;
use policy::{
    leader::{Voter, relief},
    witness::{may_campaign, patience, snapshot_wanted},
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};
use types::{NodeId, Revision};

use super::{
    Member, RaftNode,
    error::{LeaderHint, ProposeError},
    preference::is_fit,
    snapshot::SnapshotFile,
    types::LogId,
};

/// Between two looks of a witness that leads, at least: what it waits for comes with Raft's own steps.
const PAUSE: Duration = Duration::from_millis(20);
/// How long this node may take to apply what another voter's snapshot has.
const CATCH_UP: Duration = Duration::from_secs(60);

impl RaftNode {
    /// Whether this node votes and stores the log, and has no state.
    pub fn is_witness(&self) -> bool {
        self.config().witness
    }

    /// Why a witness does not do what takes a state; `None` of any other node.
    pub(crate) fn refused_by_witness(&self) -> Option<ProposeError> {
        if !self.is_witness() {
            return None;
        }
        let leadership = self.leadership_sender().borrow();
        let serves = |hint: &&LeaderHint| !hint.witness;
        Some(ProposeError::Witness {
            node: self.own_peer().node.clone(),
            leads: leadership.is_leader,
            leader: leadership.leader.as_ref().filter(serves).cloned(),
        })
    }

    /// Whether elections may run here: not before this node was let in, and at a witness not while another voter may win.
    pub(super) fn may_elect(&self) -> bool {
        self.acts() && (!self.is_witness() || self.campaigns().load(Ordering::Acquire))
    }

    /// Holds this witness's elections back while a leader is heard, and for as long after that as others may need to win one. Until
    /// the node stops.
    pub(crate) async fn hold_elections_back(self) {
        let began = Instant::now();
        let mut led = began;
        loop {
            let now = Instant::now();
            if self.leadership().borrow().is_leader {
                led = now;
            }
            let heard = self.hearing().last().map_or(led, |heard| heard.max(led));
            let silence = now.saturating_duration_since(heard);
            let longest = self.timing().election_max;
            let may = may_campaign(silence, longest);
            if self.campaigns().swap(may, Ordering::AcqRel) != may {
                if may {
                    info!(
                        ?silence,
                        "no other voter has won an election; this witness campaigns"
                    );
                }
                self.steer_elections();
            }
            let rest = patience(longest).saturating_sub(silence);
            sleep(rest.max(self.timing().heartbeat)).await;
        }
    }

    /// While this witness leads: replicates, which Raft does, until a voter that may lead has caught up, and hands over to it.
    /// Until the node stops.
    pub(crate) async fn hand_leadership_over(self) {
        let mut leadership = self.leadership();
        while leadership.wait_for(|l| l.is_leader).await.is_ok() {
            if let Some(to) = self.relief_now() {
                info!(%to, "this witness hands leadership over");
                let deadline = Instant::now() + self.timing().election_max * 2;
                if let Err(error) = self.transfer_leadership(Some(to), deadline).await {
                    debug!(%error, "leadership was not handed over");
                }
            }
            let mut metrics = self.raft().metrics();
            sleep(PAUSE).await;
            let _ = timeout(self.timing().heartbeat, metrics.changed()).await;
        }
    }

    /// Of the voters with a state that answer, have all but the end of the log, have room on their disks and believe their states:
    /// the most caught-up.
    fn relief_now(&self) -> Option<NodeId> {
        let now = Instant::now();
        let status = self.status();
        let (last, lately) = (status.last_log.0, status.timing.election_max);
        let others = status.members.into_iter();
        let others = others.filter(|m| m.voter && m.raft_id != self.own_id() && self.is_well(m, now));
        let voter = |m: Member| {
            let fit = is_fit(&m, last, lately);
            let voter = Voter {
                node: m.peer.node,
                region: m.peer.region,
                fit_for: fit.then_some(Duration::ZERO),
                may_lead: !m.peer.witness,
                // Without a state it knows no other.
                goes_by_timing: true,
            };
            (voter, m.matched.map_or(0, |at| at.0))
        };
        let others: Vec<_> = others.map(voter).collect();
        relief(others.iter().map(|(voter, matched)| (voter, *matched)))
    }

    /// Keeps the snapshot of a voter that has a state, so that the own log can go as far as that one reaches. An error leaves
    /// everything as it was.
    pub(crate) async fn take_anothers_snapshot(&self) -> io::Result<()> {
        let store = self.store();
        let least = snapshot_wanted(store.covered(), store.applied().revision());
        let mut last = io::Error::other("no voter has a state");
        for member in self.with_state() {
            match self.take_snapshot_of(&member, least).await {
                Ok(file) => {
                    debug!(from = %member.peer.node, bytes = file.size(), "snapshot kept");
                    return Ok(());
                }
                Err(error) => last = io::Error::other(format!("{}: {error}", member.peer.node)),
            }
        }
        Err(last)
    }

    /// Voters with a state, the leader last: it has the most to do.
    fn with_state(&self) -> Vec<Member> {
        let mut members = self.members();
        members.retain(|m| m.voter && !m.peer.witness);
        members.sort_by_key(|m| m.leader);
        members
    }

    async fn take_snapshot_of(&self, member: &Member, least: Revision) -> io::Result<SnapshotFile> {
        let file = self.fetch_snapshot(member.raft_id, least).await?;
        let meta = file.meta()?;
        let upto = Revision(meta.last_log_id.as_ref().map_or(0, LogId::index));
        if upto < least {
            return Err(io::Error::other(format!(
                "its snapshot ends at {upto}, and {least} is needed"
            )));
        }
        // Raft counts what a snapshot of its own covers as applied.
        self.wait_applied(upto, Instant::now() + CATCH_UP)
            .await
            .map_err(io::Error::other)?;
        let _turn = self.store().take_turns().await;
        let store = self.store().clone();
        let keeping = tokio::task::spawn_blocking(move || store.keep(&meta, file)).await;
        let kept = keeping.map_err(io::Error::other)??;
        self.tell_of_snapshot().await;
        Ok(kept)
    }
}
