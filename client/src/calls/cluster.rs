//! The cluster itself: its coordinators and its settings.

use proto::{
    convert::primaries,
    v1::{self as pb, cluster_service_client::ClusterServiceClient},
};
use types::{reason::Refusal, role::TimingPolicy};

use super::{Client, Header};

impl Client {
    /// The own view of whichever coordinator answers first; works without a quorum.
    pub async fn status(&self) -> Result<pb::GetStatusResponse, Refusal> {
        send!(
            self,
            Anyone,
            ClusterServiceClient::get_status,
            pb::GetStatusRequest {}
        )
    }

    /// A coordinator asks to be taken in.
    pub async fn join(&self, request: pb::JoinRequest) -> Result<pb::JoinResponse, Refusal> {
        send!(self, Leader, ClusterServiceClient::join, request)
    }

    /// Hands Raft leadership to another voter; an empty name means the most caught-up one.
    pub async fn transfer_leadership(&self, to_node: &str) -> Result<String, Refusal> {
        let message = pb::TransferLeadershipRequest {
            to_node: to_node.to_owned(),
        };
        Ok(send!(self, Leader, ClusterServiceClient::transfer_leadership, message)?.leader_node)
    }

    /// The cluster's timing policy, and where it was read.
    pub async fn timing(&self) -> Result<(TimingPolicy, Header), Refusal> {
        let message = pb::GetSettingsRequest {
            read: self.read_options(),
        };
        let answer = send!(self, Anyone, ClusterServiceClient::get_settings, message)?;
        Ok((primaries::timing(answer.timing)?, Header::read(answer.header)?))
    }

    /// Changes the cluster's timing policy.
    pub async fn set_timing(&self, timing: &TimingPolicy) -> Result<TimingPolicy, Refusal> {
        let message = pb::SetTimingRequest {
            request_id: self.change_id(),
            timing: Some(timing.into()),
        };
        primaries::timing(send!(self, Change, ClusterServiceClient::set_timing, message)?.timing)
    }
}
