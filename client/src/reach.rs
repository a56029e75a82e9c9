//! The first call of a process knows nobody: one coordinator that hangs would cost it a whole attempt, and a command line
//! pays that each time. So it first asks how they are, the next one as soon as the one before is late.

use std::time::Duration;

use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use proto::v1::{self as pb, cluster_service_client::ClusterServiceClient};
use tokio::time::timeout;
use tonic::Request;
use types::ClusterId;

use crate::channel::Channels;

/// How long a coordinator may take to say how it is, until the next one is asked as well.
pub(crate) const LATE: Duration = Duration::from_millis(250);

/// Finds a coordinator that answers and has a quorum. Those that were asked before it and did not answer, or have none,
/// are asked last from now on. Where nobody answers within `limit` nothing is known, and the call itself will tell.
pub(crate) async fn reach(channels: &Channels, limit: Duration) {
    let mut to_ask = channels.order().into_iter();
    let (mut open, mut asked) = (FuturesUnordered::new(), Vec::new());
    let mut answered = None;
    loop {
        if let Some(endpoint) = to_ask.next() {
            asked.push(endpoint.clone());
            open.push(how_is(channels, endpoint, limit));
        }
        let is_last = to_ask.len() == 0;
        let patience = if is_last && answered.is_none() {
            limit
        } else {
            LATE
        };
        match timeout(patience, open.next()).await {
            Ok(Some(Some((endpoint, status)))) => {
                let has_quorum = status.has_quorum;
                answered = Some((endpoint, status));
                if has_quorum {
                    break;
                }
            }
            Ok(None) => break,
            Err(_) if is_last => break,
            Ok(Some(None)) | Err(_) => {}
        }
    }
    if let Some((endpoint, status)) = answered {
        let late: Vec<&String> = asked.iter().filter(|e| **e != endpoint).collect();
        late.iter().for_each(|e| channels.ask_last(e));
        // A follower believes in a leader that hangs until another is elected.
        if status.has_quorum && !late.contains(&&status.leader_api_endpoint) {
            channels.set_leader(&status.leader_api_endpoint);
        }
    }
}

/// What every coordinator that is known says of itself, and under which endpoint; nothing of one that is silent.
pub(crate) async fn everybody(channels: &Channels, limit: Duration) -> Vec<(String, pb::GetStatusResponse)> {
    let asked = channels
        .order()
        .into_iter()
        .map(|endpoint| how_is(channels, endpoint, limit));
    join_all(asked).await.into_iter().flatten().collect()
}

/// The cluster of a coordinator; none where it has none yet.
pub fn cluster_of(status: &pb::GetStatusResponse) -> Option<ClusterId> {
    status.header.as_ref()?.cluster_id.parse().ok()
}

/// What a coordinator says of itself; none where it says nothing.
pub(crate) async fn how_is(
    channels: &Channels,
    endpoint: String,
    limit: Duration,
) -> Option<(String, pb::GetStatusResponse)> {
    let mut service = ClusterServiceClient::new(channels.open(&endpoint).ok()?);
    let mut request = Request::new(pb::GetStatusRequest {});
    request.set_timeout(limit);
    let answer = timeout(limit, service.get_status(request)).await.ok()?.ok()?;
    Some((endpoint, answer.into_inner()))
}
