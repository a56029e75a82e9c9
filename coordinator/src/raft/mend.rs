//! Replaces a state that is wrong: by a snapshot of somebody who is right, and the own log after it.
//!
//! Absent on purpose: who is wrong ([`super::integrity`]).
//! Invariant: the right state is on disk before it takes the place of the wrong one in memory, so that no restart brings
//! the wrong one back; and it stands at the very revision that was applied here, so that Raft notices nothing.

use std::{io, time::Duration};

use openraft::{RaftLogReader as _, async_runtime::WatchReceiver as _};
use proto::raft_v1 as pb;
use state::StateHash;
use tokio::time::{Instant, timeout};
use tracing::info;
use types::{NodeId, Revision};

use super::{RaftNode, network::Lane, service::collect, snapshot::SnapshotFile, state_machine::AppliedState};

/// How long another voter may take to begin its snapshot: it may have to write one.
const FETCH: Duration = Duration::from_secs(30);
/// How long all of it may take to come.
const TRANSFER: Duration = Duration::from_secs(600);
/// How long this replica may take to apply what the snapshot has.
const CATCH_UP: Duration = Duration::from_secs(60);
/// Entries that are read from the log at once.
const READ_AT_ONCE: u64 = 512;

/// Why a state was not replaced.
#[derive(Debug, thiserror::Error)]
pub(super) enum MendError {
    /// Another attempt may do better.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The majority's own state and the log, applied here, give something else than there.
    #[error(
        "the log, applied here to the state of {node}, gives another state at revision {revision} than there"
    )]
    ComputesWrongly {
        /// Whose state it began with.
        node: NodeId,
        /// Where they differ.
        revision: Revision,
    },
}

impl MendError {
    /// Whether no state of anybody's would help.
    pub(super) fn is_of_this_replica(&self) -> bool {
        matches!(self, Self::ComputesWrongly { .. })
    }
}

impl RaftNode {
    /// Takes the state of one of `majority`, whose hash at `revision` is `right`.
    pub(super) async fn replace_state(
        &self,
        revision: Revision,
        right: Option<StateHash>,
        majority: &[NodeId],
    ) -> Result<(), MendError> {
        let members = self.members();
        let mut last = io::Error::other("none of those who agree is a member any more");
        for node in majority {
            let Some(member) = members.iter().find(|m| m.peer.node == *node) else {
                continue;
            };
            match self.replace_from(node, member.raft_id, revision, right).await {
                Err(MendError::Io(error)) => last = io::Error::other(format!("{node}: {error}")),
                done => return done,
            }
        }
        Err(last.into())
    }

    async fn replace_from(
        &self,
        node: &NodeId,
        id: u64,
        revision: Revision,
        right: Option<StateHash>,
    ) -> Result<(), MendError> {
        let mut file = self.fetch_snapshot(id, self.purged()).await?;
        let store = self.store().clone();
        let loading = tokio::task::spawn_blocking(move || store.load(&mut file)).await;
        let mut state = loading.map_err(io::Error::other)??;
        let from = state.revision();
        self.wait_applied(from, Instant::now() + CATCH_UP)
            .await
            .map_err(io::Error::other)?;
        let _still = self.store().hold_apply().await;
        let expected = right.map(|right| (revision, right));
        if !self.replay(&mut state, expected).await? {
            let node = node.clone();
            return Err(MendError::ComputesWrongly { node, revision });
        }
        let (store, upto) = (self.store().clone(), state.revision());
        let replacing = tokio::task::spawn_blocking(move || store.replace(state)).await;
        replacing.map_err(io::Error::other)??;
        // Apply is held back meanwhile, and Raft looks only after it.
        self.spawn(|node| async move {
            let _turn = node.store().take_turns().await;
            node.tell_of_snapshot().await;
        });
        info!(%node, %from, %upto, "this replica's state was replaced by that of another and the log after it");
        Ok(())
    }

    /// Applies to `state` what was applied here since. Whether it is what it is expected to be on the way.
    async fn replay(
        &self,
        state: &mut AppliedState,
        expected: Option<(Revision, StateHash)>,
    ) -> io::Result<bool> {
        let applied = self.store().applied().revision();
        let is_right = |state: &AppliedState| {
            expected.is_none_or(|(at, right)| state.revision() != at || state.state.state_hash() == right)
        };
        while state.revision() < applied {
            let from = state.revision().0 + 1;
            let log = self.engine().log();
            let mut log = log.ok_or_else(|| io::Error::other("the node is stopping"))?;
            let entries = log
                .try_get_log_entries(from..(from + READ_AT_ONCE).min(applied.0 + 1))
                .await?;
            let begins_there = entries.first().is_some_and(|entry| entry.log_id.index() == from);
            if !begins_there {
                return Err(io::Error::other(format!("the log has no entry {from} any more")));
            }
            for entry in entries {
                let command = self.store().command_of(&entry)?;
                state.take(&entry, command.as_ref());
                if !is_right(state) {
                    return Ok(false);
                }
            }
        }
        Ok(is_right(state))
    }

    /// How far the own log is gone.
    fn purged(&self) -> Revision {
        let metrics = self.raft().metrics();
        let now = metrics.borrow_watched();
        Revision(now.purged.map_or(0, |id| id.index()))
    }

    /// A snapshot of another voter, no older than `least` where that one has applied as much.
    pub(super) async fn fetch_snapshot(&self, voter: u64, least: Revision) -> io::Result<SnapshotFile> {
        let fetched = timeout(TRANSFER, self.fetch(voter, least)).await;
        fetched.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn fetch(&self, voter: u64, least: Revision) -> io::Result<SnapshotFile> {
        let request = pb::FetchSnapshotRequest {
            route: Some(self.connections().route(voter)),
            at_least_index: least.0,
        };
        let client = self.connections().client(voter, Lane::Snapshot);
        let mut client = client.map_err(io::Error::other)?;
        let asked = timeout(FETCH, client.fetch_snapshot(request)).await;
        let answer = asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let mut parts = answer.map_err(io::Error::other)?.into_inner();
        let (_, file) = collect(self.store(), &mut parts, |_| Ok(()))
            .await
            .map_err(io::Error::other)?;
        Ok(file)
    }
}
