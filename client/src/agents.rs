//! How anything talks to a node agent: its status, the token it holds, pointers that may be used, and privileged calls through
//! its door.

use std::{future::Future, time::Duration};

use proto::{
    convert::{self, regions, status},
    v1::{self as pb, agent_service_client::AgentServiceClient},
};
use tokio::time::timeout;
use tonic::{Request, Response, Status, transport::Channel};
use types::{
    Digest, Epoch, FencingToken, RegionId, RoleName, VersionKey,
    reason::{Reason, Refusal},
    role::DRIFT_DIVISOR,
};

use crate::{
    channel::{TlsFiles, lazy_channel},
    credentials::Callee,
    guard::BootInstant,
};

/// A handle to one agent. It never retries: whether a refused or lost call is sent again is the caller's to decide.
#[derive(Clone, Debug)]
pub struct AgentClient {
    endpoint: String,
    channel: Channel,
    deadline: Duration,
}

/// A role's pointer in a region's store, as an agent gave it out (I5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Under which it was written last.
    pub token: FencingToken,
    /// Counts its writes, from 1.
    pub sequence: u64,
    /// Of the last write; made anew for each.
    pub nonce: String,
    /// What it points at, if at anything.
    pub target: Option<Digest>,
    /// It was taken out of use; it keeps fencing.
    pub tombstone: bool,
}

impl AgentClient {
    /// Prepares a channel to `https://host:port`; connects when first used. `deadline` holds for each call.
    pub fn new(endpoint: &str, tls: &TlsFiles, deadline: Duration) -> Result<Self, Refusal> {
        let channel = lazy_channel(endpoint, &tls.load()?, Callee::Agent)?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            channel,
            deadline,
        })
    }

    async fn call<M, T, F, R>(&self, message: M, send: F) -> Result<T, Refusal>
    where
        F: FnOnce(Channel, Request<M>) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        match timeout(self.deadline, send(self.channel.clone(), request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(s)) => Err(status::from_status(&s)),
            Err(_) => {
                let message = format!("{} did not answer within {:?}", self.endpoint, self.deadline);
                Err(Refusal::new(Reason::OutcomeUnknown, message).with("endpoint", &self.endpoint))
            }
        }
    }

    /// Who the agent is, what it holds, serves and refuses below.
    pub async fn status(&self) -> Result<pb::GetAgentStatusResponse, Refusal> {
        self.call(pb::GetAgentStatusRequest {}, |channel, request| async move {
            AgentServiceClient::new(channel).get_agent_status(request).await
        })
        .await
    }

    /// The token under which the agent holds `role` now, and until when the caller may act under it: what the agent said was
    /// left of its lease, counted from before the call. The agent waits that long before it lets the role go, and counts
    /// from its answer; whoever counted from the answer's receipt would act on after that, by as long as the answer took or
    /// this process was stopped. A tenth is taken off, as for a lease (L4): the agent's clock may be another machine's.
    ///
    /// A switchover waits for it: see [`Self::token_for`].
    pub async fn token(&self, role: &RoleName) -> Result<(FencingToken, BootInstant), Refusal> {
        self.token_within(role, 0).await
    }

    /// As [`Self::token`], for no longer than `at_most`, of which a tenth is taken off as well. A switchover waits for everybody who
    /// was given the token: whoever asks for what a write takes, and again for the next one, holds none up.
    pub async fn token_for(
        &self,
        role: &RoleName,
        at_most: Duration,
    ) -> Result<(FencingToken, BootInstant), Refusal> {
        // 0 would be for as long as the lease.
        let millis = u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX).max(1);
        self.token_within(role, millis).await
    }

    async fn token_within(
        &self,
        role: &RoleName,
        at_most_millis: u64,
    ) -> Result<(FencingToken, BootInstant), Refusal> {
        let asked = BootInstant::now();
        let message = pb::GetTokenRequest {
            role: role.to_string(),
            at_most_millis,
        };
        let answer = self
            .call(message, |channel, request| async move {
                AgentServiceClient::new(channel).get_token(request).await
            })
            .await?;
        let left = Duration::from_millis(answer.lease_left_millis);
        let valid_until = asked.plus(left - left / DRIFT_DIVISOR);
        Ok((regions::token(answer.token)?, valid_until))
    }

    /// What a role's pointer in a region's store says; none where nobody wrote it yet. The agent reads it with its own
    /// credentials and asks the coordinators afterwards. For agents and users.
    ///
    /// # Errors
    /// STALE_EPOCH with both epochs (`shown`, `current`) until the holder claimed it, WRONG_HOLDER where it names another than
    /// the epoch's holder, NO_QUORUM while nobody confirms its epoch, OVERLOADED while too many are read there.
    pub async fn read_pointer(&self, role: &RoleName, region: &RegionId) -> Result<Option<Pointer>, Refusal> {
        let message = pb::ReadPointerRequest {
            role: role.to_string(),
            region: region.to_string(),
        };
        let answer = self
            .call(message, |channel, request| async move {
                AgentServiceClient::new(channel).read_pointer(request).await
            })
            .await?;
        answer.pointer.map(pointer).transpose()
    }

    /// Makes `version` the one that this agent serves for its model. The answer is the door's floor.
    pub async fn serve_version(&self, token: &FencingToken, version: &VersionKey) -> Result<Epoch, Refusal> {
        let message = pb::ServeVersionRequest {
            token: Some(token.into()),
            model: version.model.to_string(),
            version: version.version.0,
        };
        let answer = self
            .call(message, |channel, request| async move {
                AgentServiceClient::new(channel).serve_version(request).await
            })
            .await?;
        Ok(Epoch::from_u64(answer.floor_epoch))
    }
}

fn pointer(pointer: pb::Pointer) -> Result<Pointer, Refusal> {
    let target = Some(pointer.target.as_str()).filter(|target| !target.is_empty());
    Ok(Pointer {
        token: regions::token(pointer.token)?,
        sequence: pointer.sequence,
        nonce: pointer.nonce,
        target: target
            .map(|target| convert::text("pointer.target", target))
            .transpose()?,
        tombstone: pointer.tombstone,
    })
}
