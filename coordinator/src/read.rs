//! Linearizable reads: a ReadIndex round, then wait until this node has applied that far. Readers share rounds
//! ([`crate::rounds`]), at the leader and, in one call to it, at a follower.
//!
//! Absent on purpose: lease reads. They trust clock rates, and what is decided on them cannot be taken back (L7).
//! Invariant: the round that confirms a read began after the read was asked for.

use std::{collections::BTreeSet, time::Duration};

use openraft::{
    ReadPolicy,
    errors::{LinearizableReadError, RaftError},
};
use proto::{convert::status::from_status, raft_v1 as pb};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use types::{
    ClusterId, Revision, UnixMillis,
    planted::{self, Bug},
    reason::Reason,
};

use crate::{
    raft::{
        Member, ProposeError, RaftNode,
        network::{CallError, Lane},
        types::TypeConfig,
    },
    rounds::Confirmed,
};

/// Pause between two attempts of a read while nobody leads.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

impl RaftNode {
    /// After `Ok`, [`Self::read`] sees everything that was acknowledged anywhere before this call. From any node: a
    /// follower asks the leader by one call. The revision is the applied one, at least that of the read.
    ///
    /// An election in between is waited for, no longer than three times the longest election timeout.
    pub async fn linearize(&self, deadline: Instant) -> Result<Revision, ProposeError> {
        let patience = Instant::now() + self.timing().election_max * 3;
        if planted::has(Bug::StaleReads) {
            return Ok(self.applied());
        }
        loop {
            let error = match self.read_index(deadline).await {
                Ok(index) => return self.wait_believed(Revision(index), deadline).await,
                Err(error) => error,
            };
            let may_pass = matches!(
                error,
                ProposeError::NotLeader { .. } | ProposeError::NoQuorum { .. }
            );
            if !may_pass || Instant::now() + RETRY_PAUSE >= patience.min(deadline) {
                return Err(error);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Leader only: a quorum acknowledged this leadership in a round that began after this call, and everything
    /// committed before it is applied here (L7). Never a lease read.
    pub async fn confirm_leadership(&self, deadline: Instant) -> Result<Revision, ProposeError> {
        let index = self.own_read_index(deadline).await?;
        self.wait_believed(Revision(index), deadline).await
    }

    /// Waits until `revision` is applied here, and refuses if the state is not believed by then.
    async fn wait_believed(&self, revision: Revision, deadline: Instant) -> Result<Revision, ProposeError> {
        let at = self.wait_applied(revision, deadline).await?;
        self.check_serving()?;
        Ok(at)
    }

    /// Waits until `revision` is applied here.
    pub async fn wait_applied(
        &self,
        revision: Revision,
        deadline: Instant,
    ) -> Result<Revision, ProposeError> {
        let mut progress = self.store().progress();
        let reached = timeout_at(deadline, progress.wait_for(|at| *at >= revision)).await;
        match reached {
            Ok(Ok(at)) => Ok(*at),
            Ok(Err(_)) | Err(_) => Err(ProposeError::NotServing {
                detail: format!("this coordinator has not applied {revision} yet"),
            }),
        }
    }

    /// Waits until this node knows which cluster it belongs to: it founded one, or was taken in and has caught up so far.
    pub async fn founded(&self, deadline: Instant) -> Result<ClusterId, ProposeError> {
        let mut progress = self.store().progress();
        let known = progress.wait_for(|_| self.cluster_id().is_some());
        let waited = timeout_at(deadline, known).await;
        self.cluster_id()
            .filter(|_| waited.is_ok())
            .ok_or_else(|| ProposeError::NotServing {
                detail: "this coordinator belongs to no cluster yet".to_owned(),
            })
    }

    async fn read_index(&self, deadline: Instant) -> Confirmed {
        if self.another_leads().is_none() {
            match self.own_read_index(deadline).await {
                Err(ProposeError::NotLeader { leader: Some(leader) }) if leader.raft_id != self.own_id() => {}
                answer => return answer,
            }
        }
        self.check_serving()?;
        self.asked_rounds().join(deadline).await
    }

    /// Leader only: the next round that begins here.
    pub(crate) async fn own_read_index(&self, deadline: Instant) -> Confirmed {
        self.check_serving()?;
        self.own_rounds().join(deadline).await
    }

    /// Who leads, as far as this node knows, if it is not this one.
    fn another_leads(&self) -> Option<u64> {
        let leadership = self.leadership_sender().borrow();
        let leader = leadership.leader.as_ref().map(|leader| leader.raft_id);
        leader.filter(|leader| *leader != self.own_id())
    }

    /// Holds the rounds that this node's readers share; ends with the node.
    pub(crate) async fn serve_rounds(self) {
        tokio::join!(
            self.own_rounds().serve(|| self.own_round()),
            self.asked_rounds().serve(|| self.asked_round()),
        );
    }

    /// How long a round may take: the leader itself waits one lease for its quorum, and what takes longer is lost.
    fn round_time(&self) -> Duration {
        self.timing().election_max * 3
    }

    async fn own_round(&self) -> Confirmed {
        let raft = self.raft();
        let round = raft.get_read_linearizer(ReadPolicy::ReadIndex);
        match timeout(self.round_time(), round).await {
            Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
            Ok(Err(error)) => Err(self.classify_read(&error)),
            Err(_) => Err(ProposeError::NoQuorum {
                detail: "no round was confirmed in time".to_owned(),
            }),
        }
    }

    async fn asked_round(&self) -> Confirmed {
        match self.another_leads() {
            Some(leader) => self.ask_leader(leader).await,
            None => Err(ProposeError::NotLeader { leader: None }),
        }
    }

    async fn ask_leader(&self, leader: u64) -> Confirmed {
        let connections = self.connections();
        let request = pb::ReadIndexRequest {
            route: Some(connections.route(leader)),
        };
        let ttl = self.round_time();
        let send = async |mut client: proto::raft_v1::raft_service_client::RaftServiceClient<_>| {
            client.read_index(request).await
        };
        let term = self.leadership_sender().borrow().term;
        match connections.call(leader, Lane::Read, ttl, send).await {
            Ok(response) => {
                self.note_time(term, UnixMillis(response.time));
                Ok(response.index)
            }
            Err(error) => Err(no_answer(&error)),
        }
    }

    /// What a failed round means. A read has no effect, so every error is sure.
    pub(crate) fn classify_read(
        &self,
        error: &RaftError<TypeConfig, LinearizableReadError<TypeConfig>>,
    ) -> ProposeError {
        match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => self.forwarded(forward),
            RaftError::APIError(LinearizableReadError::QuorumNotEnough(missing)) => ProposeError::NoQuorum {
                detail: who_answered(&self.members(), self.own_id(), &missing.got),
            },
            RaftError::Fatal(fatal) => ProposeError::NotServing {
                detail: fatal.to_string(),
            },
        }
    }
}

/// How many voters took part in a round, and who of them did not. The leader itself did.
fn who_answered(members: &[Member], own: u64, got: &BTreeSet<u64>) -> String {
    let voters = || members.iter().filter(|m| m.voter);
    let silent: Vec<&str> = voters()
        .filter(|m| m.raft_id != own && !got.contains(&m.raft_id))
        .map(|m| m.peer.node.as_str())
        .collect();
    let all = voters().count();
    if silent.is_empty() {
        // The round asked for more than the voters of now.
        return format!(
            "all {all} voters answered, but not a majority of those that there were when they were asked"
        );
    }
    let silent_names = silent.join(", ");
    format!(
        "{} of {all} voters answered; {silent_names} did not",
        all - silent.len()
    )
}

fn no_answer(error: &CallError) -> ProposeError {
    let detail = match error {
        CallError::Unreachable(text) => text.clone(),
        CallError::TimedOut => "the leader did not answer".to_owned(),
        CallError::Status(status) => {
            let refusal = from_status(status);
            if refusal.reason == Reason::NotLeader {
                return ProposeError::NotLeader { leader: None };
            }
            refusal.message
        }
    };
    ProposeError::NoQuorum { detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Peer;

    #[test]
    fn a_lost_quorum_is_told_by_the_names_of_those_who_are_missing() {
        let member = |raft_id, voter| Member {
            raft_id,
            peer: Peer {
                node: format!("c{raft_id}").parse().unwrap(),
                ..Peer::default()
            },
            voter,
            leader: raft_id == 1,
            matched: None,
            silent_millis: None,
            lag: None,
        };
        let members = [
            member(1, true),
            member(2, true),
            member(3, true),
            member(4, false),
        ];
        let none = "1 of 3 voters answered; c2, c3 did not";
        let all = "all 3 voters answered, but not a majority of those that there were when they were asked";
        for (got, expected) in [
            (BTreeSet::new(), none),
            (BTreeSet::from([1]), none),
            (BTreeSet::from([4]), none),
            (BTreeSet::from([2, 4]), "2 of 3 voters answered; c3 did not"),
            (BTreeSet::from([2, 3]), all),
            (BTreeSet::from([1, 2, 3, 4]), all),
        ] {
            assert_eq!(who_answered(&members, 1, &got), expected, "{got:?}");
        }
    }
}
