//! The cluster itself: its coordinators and its settings.

use std::time::Duration;

use proto::{
    convert::{primaries, rebinds},
    v1::{self as pb, cluster_service_client::ClusterServiceClient},
};
use types::{
    NodeId, RegionId, SignedRebind,
    election::ElectionTiming,
    reason::{Reason, Refusal},
    role::TimingPolicy,
};

use super::{Client, Header, options::Kind};

/// The feature level from which on every coordinator can say who would lead without handing over, and hands over only where the one
/// leads that was meant.
const KNOWS_WHO_HANDS_OVER: u32 = 11;
/// What takes that level.
const LOOK: &str = "to see who would lead, and do nothing, takes";

/// Which coordinator is to leave, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveMember {
    /// Its name.
    pub node: NodeId,
    /// Only this disk of that name, as the members name it; empty: whichever it is.
    pub disk_id: String,
    /// Only say what would be done.
    pub validate_only: bool,
    /// Also where region survival is lost by it.
    pub accept_region_loss: bool,
}

/// Who led, and who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadershipTransfer {
    /// Who led when it was asked; empty where a coordinator of an older version handed over and did not say.
    pub from: String,
    /// Who leads now, or would. The same as `from` where that one was to lead, and does. Who was named, unless another one won.
    pub leader: String,
    /// Whoever led when it was asked was elected again before it was asked to hand over, and leads: nobody handed over since.
    pub elected_again: bool,
}

impl LeadershipTransfer {
    /// By who led when it was looked at, and what came of asking that one, in that term, to hand over.
    fn of(seen: pb::TransferLeadershipResponse, done: pb::TransferLeadershipResponse) -> Self {
        Self {
            elected_again: done.leader_node == seen.from_node && done.from_term != seen.from_term,
            from: seen.from_node,
            leader: done.leader_node,
        }
    }
}

impl From<pb::TransferLeadershipResponse> for LeadershipTransfer {
    fn from(answer: pb::TransferLeadershipResponse) -> Self {
        Self {
            from: answer.from_node,
            leader: answer.leader_node,
            elected_again: false,
        }
    }
}

impl Client {
    /// The own view of whichever coordinator answers first; works without a quorum.
    pub async fn status(&self) -> Result<pb::GetStatusResponse, Refusal> {
        // It is no read of the state: how fresh those must be says nothing of it.
        send!(
            self,
            To Anyone,
            ClusterServiceClient::get_status,
            pb::GetStatusRequest {}
        )
        .inspect(|answer| self.note(answer.header.as_ref()))
    }

    /// What each known coordinator says of itself, whichever cluster it belongs to; whoever does not answer within `limit` is left out.
    pub async fn every_status(&self, limit: Duration) -> Vec<(String, pb::GetStatusResponse)> {
        crate::reach::everybody(self.channels(), limit).await
    }

    /// A coordinator asks to be taken in.
    pub async fn join(&self, request: pb::JoinRequest) -> Result<pb::JoinResponse, Refusal> {
        send!(self, Leader, ClusterServiceClient::join, request)
    }

    /// Hands Raft leadership to another voter, the most caught-up one where none is named, or says who that would be. It hands over
    /// once, however often an answer is lost: it looks first who leads, and then asks that one alone. Who leads in the end is in the
    /// answer, and may be somebody else than was named: whoever wins the election.
    ///
    /// Below feature level 11 a coordinator may know neither the look nor whom it was meant for. There `validate_only` is
    /// FEATURE_LEVEL, and the rest is sent once: OUTCOME_UNKNOWN where the answer is lost.
    pub async fn transfer_leadership(
        &self,
        to: Option<&NodeId>,
        validate_only: bool,
    ) -> Result<LeadershipTransfer, Refusal> {
        let plain = pb::TransferLeadershipRequest {
            to_node: to.map(ToString::to_string).unwrap_or_default(),
            ..pb::TransferLeadershipRequest::default()
        };
        match self.check_level(KNOWS_WHO_HANDS_OVER, LOOK).await {
            Ok(()) => self.look_and_transfer(plain, validate_only).await,
            Err(refusal) if refusal.reason == Reason::FeatureLevel && !validate_only => {
                self.transfer_unseen(plain).await
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn look_and_transfer(
        &self,
        plain: pb::TransferLeadershipRequest,
        validate_only: bool,
    ) -> Result<LeadershipTransfer, Refusal> {
        let look = pb::TransferLeadershipRequest {
            validate_only: true,
            ..plain.clone()
        };
        let seen = send!(self, Leader, ClusterServiceClient::transfer_leadership, look)?;
        if validate_only {
            return Ok(seen.into());
        }
        let act = pb::TransferLeadershipRequest {
            from_node: seen.from_node.clone(),
            from_term: seen.from_term,
            ..plain
        };
        let done = send!(self, Leader, ClusterServiceClient::transfer_leadership, act)?;
        Ok(LeadershipTransfer::of(seen, done))
    }

    /// Asks a coordinator that may not know whom it was meant for: the next leader would hand over once more.
    async fn transfer_unseen(
        &self,
        plain: pb::TransferLeadershipRequest,
    ) -> Result<LeadershipTransfer, Refusal> {
        // There is no second attempt that could hear what the first one did.
        let client = self.with_attempt_timeout(self.deadline);
        let done = send!(
            client,
            To LeaderOnce,
            ClusterServiceClient::transfer_leadership,
            plain
        )?;
        Ok(done.into())
    }

    /// Takes a coordinator out of the cluster, or says what that would be.
    pub async fn remove_member(&self, request: &RemoveMember) -> Result<pb::RemoveMemberResponse, Refusal> {
        // The leader hears every voter anew, confirms, and waits for two changes of the log: between far regions that is longer than
        // an attempt takes as a rule. Half leaves time for the next one where a coordinator hangs.
        let mut client = self.with_attempt_timeout(self.attempt_timeout.max(self.deadline / 2));
        client.options.validate_only |= request.validate_only;
        let said = client.said(Kind::CREATE).await?;
        let message = pb::RemoveMemberRequest {
            request_id: said.request_id,
            node: request.node.to_string(),
            validate_only: said.validate_only,
            accept_region_loss: request.accept_region_loss,
            disk_id: request.disk_id.clone(),
        };
        send!(client, Change, ClusterServiceClient::remove_member, message)
    }

    /// The cluster's timing policy, and where it was read.
    pub async fn timing(&self) -> Result<(TimingPolicy, Header), Refusal> {
        let message = pb::GetSettingsRequest {
            read: self.read_options(),
        };
        let answer = send!(self, Anyone, ClusterServiceClient::get_settings, message)?;
        Ok((primaries::timing(answer.timing)?, Header::read(answer.header)?))
    }

    /// The cluster's settings, and where they were read.
    pub async fn settings(&self) -> Result<(pb::Settings, Header), Refusal> {
        let message = pb::GetSettingsRequest {
            read: self.read_options(),
        };
        let mut answer = send!(self, Anyone, ClusterServiceClient::get_settings, message)?;
        let header = Header::read(answer.header.take())?;
        Ok((answer, header))
    }

    /// Fixes how fast the coordinators' elections are, or, with `None`, has it derived from round trips again.
    pub async fn set_election_timing(&self, fixed: Option<&ElectionTiming>) -> Result<pb::Settings, Refusal> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let said = self.said(Kind::RECORD).await?;
        let message = pb::SetElectionTimingRequest {
            request_id: said.request_id,
            etag: said.etag,
            validate_only: said.validate_only,
            timing: fixed.map(|timing| pb::ElectionTiming {
                heartbeat_millis: millis(timing.heartbeat),
                election_min_millis: millis(timing.election_min),
                election_max_millis: millis(timing.election_max),
            }),
            derived: fixed.is_none(),
        };
        send!(self, Change, ClusterServiceClient::set_election_timing, message)
    }

    /// Names the regions whose coordinators should lead, most wanted first; none: whoever is elected leads on.
    pub async fn set_leader_preference(&self, regions: &[RegionId]) -> Result<pb::Settings, Refusal> {
        let said = self.said(Kind::RECORD).await?;
        let message = pb::SetLeaderPreferenceRequest {
            request_id: said.request_id,
            etag: said.etag,
            validate_only: said.validate_only,
            regions: regions.iter().map(ToString::to_string).collect(),
        };
        send!(self, Change, ClusterServiceClient::set_leader_preference, message)
    }

    /// Has the CA's signature of a statement kept, that this cluster goes on from another one; all statements then.
    pub async fn record_rebind(&self, rebind: &SignedRebind) -> Result<Vec<SignedRebind>, Refusal> {
        let said = self.said(Kind::RECORD).await?;
        let message = pb::RecordRebindRequest {
            request_id: said.request_id,
            rebind: Some(rebind.into()),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        let answer = send!(self, Change, ClusterServiceClient::record_rebind, message)?;
        Ok(rebinds::understood(answer.rebinds))
    }

    /// Up to which feature level the cluster's rules are on.
    pub async fn feature_level(&self) -> Result<u32, Refusal> {
        Ok(self.settings().await?.0.feature_level)
    }

    /// Changes the cluster's timing policy.
    pub async fn set_timing(&self, timing: &TimingPolicy) -> Result<TimingPolicy, Refusal> {
        let said = self.said(Kind::RECORD).await?;
        let message = pb::SetTimingRequest {
            request_id: said.request_id,
            timing: Some(timing.into()),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        primaries::timing(send!(self, Change, ClusterServiceClient::set_timing, message)?.timing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who answered, in which term, and who leads; whether whoever led before was elected again.
    #[test]
    fn whoever_leads_in_another_term_was_elected_again() {
        let answer = |from: &str, from_term, leader: &str| pb::TransferLeadershipResponse {
            from_node: from.to_owned(),
            from_term,
            leader_node: leader.to_owned(),
            ..pb::TransferLeadershipResponse::default()
        };
        let again = |done| LeadershipTransfer::of(answer("a", 5, "b"), done).elected_again;
        assert!(again(answer("a", 6, "a")));
        assert!(!again(answer("a", 5, "b")) && !again(answer("a", 5, "a")) && !again(answer("c", 6, "c")));
    }
}
