//! Leases and tokens: renewed, released, checked.

use std::time::Duration;

use proto::{
    convert::regions,
    v1::{self as pb, primary_service_client::PrimaryServiceClient},
};
use types::{Epoch, FencingToken, reason::Refusal};

use super::Client;

/// The answer to a lease renewal; the caller counts from the time at which it *sent* the request (L4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// How long the lease holds from the send time, before drift is taken off.
    pub ttl: Duration,
    /// How often to renew.
    pub renew_interval: Duration,
    /// How long before the end work must stop.
    pub drain_margin: Duration,
}

/// The answer to [`Client::check_fence`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceStanding {
    /// The token names the current epoch and its holder.
    pub current: bool,
    /// The token names the epoch that a running plan reserved, and its target: good for claims only.
    pub reserved: bool,
    /// The role's committed epoch.
    pub current_epoch: Epoch,
    /// Its holder.
    pub current_holder: Option<types::Holder>,
}

impl Client {
    /// Asks the leader to extend the lease. The caller takes the send time *before* it calls, and makes one call per
    /// attempt: set a deadline below the time that is left ([`Self::with_deadline`]).
    pub async fn renew_lease(&self, token: &FencingToken) -> Result<Renewal, Refusal> {
        let message = pb::RenewLeaseRequest {
            token: Some(token.into()),
        };
        let answer = send!(self, Leader, PrimaryServiceClient::renew_lease, message)?;
        Ok(Renewal {
            ttl: Duration::from_millis(answer.ttl_millis),
            renew_interval: Duration::from_millis(answer.renew_interval_millis),
            drain_margin: Duration::from_millis(answer.drain_margin_millis),
        })
    }

    /// Says that the holder has stopped acting under this token and will not begin again, so that a hand-over need not
    /// wait out its lease (L11).
    pub async fn release_lease(&self, token: &FencingToken) -> Result<(), Refusal> {
        let message = pb::ReleaseLeaseRequest {
            token: Some(token.into()),
        };
        send!(self, Leader, PrimaryServiceClient::release_lease, message).map(|_| ())
    }

    /// Whether a token is current, by a linearizable read (L18).
    pub async fn check_fence(&self, token: &FencingToken) -> Result<FenceStanding, Refusal> {
        let message = pb::CheckFenceRequest {
            token: Some(token.into()),
            read: None,
        };
        let answer = send!(self, Anyone, PrimaryServiceClient::check_fence, message)?;
        Ok(FenceStanding {
            current: answer.current,
            reserved: answer.reserved,
            current_epoch: Epoch::from_u64(answer.current_epoch),
            current_holder: regions::optional_holder("current_holder", answer.current_holder)?,
        })
    }
}
