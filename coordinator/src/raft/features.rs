//! What the voters' builds know: asked on the Raft port, where who answers is the one node that was meant.
//!
//! Absent on purpose: what is made of it (`policy::features`), and any memory: a node may have been started with another
//! build since.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use tonic::{Code, transport::Channel};
use types::NodeId;

use super::{
    RaftNode,
    network::{CallError, Lane},
};

impl RaftNode {
    /// Up to which level this node's build knows the rules.
    pub(crate) fn supported_level(&self) -> u32 {
        self.config().supported_level
    }

    /// Every voter, also of a change of membership that is under way, by name and Raft id.
    pub(crate) fn voters(&self) -> BTreeMap<NodeId, u64> {
        let membership = self.membership();
        let voter = |id: u64| Some((membership.get_node(&id)?.node.clone(), id));
        membership.voter_ids().filter_map(voter).collect()
    }

    /// Up to which level each voter's build knows the rules, as it says now; `None` of one that gives no answer within `ttl`.
    pub(crate) async fn supported_by_voters(&self, ttl: Duration) -> BTreeMap<NodeId, Option<u32>> {
        let voters = self.voters().into_iter();
        let asked = voters.map(|(node, id)| async move { (node, self.supported_by(id, ttl).await) });
        join_all(asked).await.into_iter().collect()
    }

    async fn supported_by(&self, voter: u64, ttl: Duration) -> Option<u32> {
        if voter == self.own_id() {
            return Some(self.supported_level());
        }
        let request = pb::FeaturesRequest {
            route: Some(self.connections().route(voter)),
        };
        let send = async |mut client: RaftServiceClient<Channel>| client.features(request).await;
        let answer = self.connections().call(voter, Lane::Read, ttl, send).await;
        level_in(&answer.map(|response| response.supported_level))
    }
}

/// A build that does not know the question is of level 0; any other failure says nothing about the build.
fn level_in(answer: &Result<u32, CallError>) -> Option<u32> {
    match answer {
        Ok(level) => Some(*level),
        Err(CallError::Status(status)) if status.code() == Code::Unimplemented => Some(0),
        Err(CallError::Status(_) | CallError::Unreachable(_) | CallError::TimedOut) => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn only_a_build_that_does_not_know_the_question_is_taken_for_an_old_one() {
        let status = |status: Status| Err(CallError::Status(Box::new(status)));
        for (answer, expected) in [
            (Ok(3), Some(3)),
            (Ok(0), Some(0)),
            (status(Status::unimplemented("")), Some(0)),
            (status(Status::failed_precondition("another disk")), None),
            (status(Status::unavailable("")), None),
            (Err(CallError::Unreachable(String::new())), None),
            (Err(CallError::TimedOut), None),
        ] {
            assert_eq!(level_in(&answer), expected, "{answer:?}");
        }
    }
}
