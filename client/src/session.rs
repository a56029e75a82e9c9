//! An agent's tie to the leader: hello, then heartbeats, each answered.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    convert::{MEANT, primaries, required, status},
    v1::{self as pb, session_request, session_response, session_service_client::SessionServiceClient},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use types::{
    ClusterId,
    reason::{Reason, Refusal},
    role::TimingPolicy,
};

use crate::{
    calls::Client,
    retry::{self, Next},
};

/// An open session. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    /// API endpoint of the leader that it is open with.
    pub endpoint: String,
    /// The cluster that welcomed this node.
    pub cluster_id: ClusterId,
    /// The cluster's timings, as of the last answer.
    pub timing: TimingPolicy,
    // One heartbeat at a time is in flight, so a bound of 2 never fills.
    requests: mpsc::Sender<pb::SessionRequest>,
    responses: Streaming<pb::SessionResponse>,
    sequence: u64,
}

impl Session {
    /// Opens a session with the leader: follows hints, asks each coordinator once in turn, and gives up with the last
    /// answer, in a text that says what each of them said. The caller waits and calls again. Where only a leader of another cluster
    /// than the client's welcomes this node, that is the session: it is to be told why this node does not come over.
    pub async fn open(client: &Client, hello: &pb::Hello, patience: Duration) -> Result<Self, Refusal> {
        let mut stranger = None;
        let mut last = Refusal::new(Reason::Unreachable, "no coordinator was asked");
        let mut heard = BTreeMap::new();
        let mut hints = 0;
        let mut turn = 0;
        while turn < 16 {
            let (endpoint, channel) = client.channels().pick(turn, true)?;
            let attempt = Self::open_at(endpoint.clone(), channel, hello);
            let refusal = match timeout(patience, attempt).await {
                Ok(Ok(session)) if client.cluster().is_none_or(|own| own == session.cluster_id) => {
                    client.channels().set_leader(&endpoint);
                    return Ok(session);
                }
                Ok(Ok(session)) => {
                    client.channels().stranger(&endpoint);
                    let refusal = session.of_another_cluster();
                    stranger = Some(session);
                    refusal
                }
                Ok(Err(refusal)) => refusal,
                Err(_) => Refusal::new(Reason::Unreachable, "did not welcome this node in time"),
            };
            heard.insert(endpoint.clone(), refusal.clone());
            match retry::next(0, hints, &refusal) {
                Next::AskLeader(leader) => {
                    client.channels().set_leader(&leader);
                    (turn, hints) = (0, hints + 1);
                }
                Next::AskAgain { .. } | Next::AskNext { .. } => {
                    client.channels().forget_leader(&endpoint);
                    (turn, hints) = (turn + 1, 0);
                }
                Next::Stop if stranger.is_none() => return Err(with_said(refusal, &heard)),
                Next::Stop => turn += 1,
            }
            let tried_all = turn > client.channels().count();
            last = refusal;
            if tried_all {
                break;
            }
        }
        if let Some(session) = stranger {
            return Ok(session);
        }
        let refusal = Refusal {
            message: each(&heard).unwrap_or(last.message),
            ..last
        };
        Err(with_said(refusal, &heard))
    }

    fn of_another_cluster(&self) -> Refusal {
        let text = format!("it is of cluster {}", self.cluster_id);
        Refusal::new(Reason::WrongCluster, text).with(MEANT, "another one")
    }

    async fn open_at(
        endpoint: String,
        channel: tonic::transport::Channel,
        hello: &pb::Hello,
    ) -> Result<Self, Refusal> {
        let (requests, queue) = mpsc::channel(2);
        let first = pb::SessionRequest {
            message: Some(session_request::Message::Hello(hello.clone())),
        };
        requests
            .try_send(first)
            .map_err(|_| Refusal::new(Reason::Internal, "a new queue has room"))?;
        let mut responses = SessionServiceClient::new(channel)
            .session(ReceiverStream::new(queue))
            .await
            .map_err(|s| status::from_status(&s))?
            .into_inner();
        let welcome = match next_message(&mut responses).await? {
            session_response::Message::Welcome(welcome) => welcome,
            session_response::Message::Ack(_) => {
                return Err(Refusal::new(Reason::Internal, "answered hello with an ack"));
            }
        };
        Ok(Self {
            endpoint,
            cluster_id: proto::convert::text("cluster_id", &welcome.cluster_id)?,
            timing: primaries::timing(welcome.timing)?,
            requests,
            responses,
            sequence: 0,
        })
    }

    /// Sends a heartbeat and waits for its answer; an error means that the session is over.
    pub async fn heartbeat(
        &mut self,
        mut heartbeat: pb::Heartbeat,
        patience: Duration,
    ) -> Result<(), Refusal> {
        self.sequence += 1;
        heartbeat.sequence = self.sequence;
        let message = pb::SessionRequest {
            message: Some(session_request::Message::Heartbeat(heartbeat)),
        };
        let exchange = async {
            if self.requests.send(message).await.is_err() {
                // The stream's end says why; its status is read below.
                return Err(next_message(&mut self.responses).await.err());
            }
            loop {
                match next_message(&mut self.responses).await {
                    Ok(session_response::Message::Ack(ack)) if ack.sequence == self.sequence => {
                        return Ok(ack);
                    }
                    Ok(session_response::Message::Ack(_) | session_response::Message::Welcome(_)) => {}
                    Err(refusal) => return Err(Some(refusal)),
                }
            }
        };
        let over = || {
            Refusal::new(
                Reason::Unreachable,
                format!("the session with {} is over", self.endpoint),
            )
        };
        match timeout(patience, exchange).await {
            Ok(Ok(ack)) => {
                if ack.timing.is_some() {
                    self.timing = primaries::timing(ack.timing)?;
                }
                Ok(())
            }
            Ok(Err(refusal)) => Err(refusal.unwrap_or_else(over)),
            Err(_) => {
                let message = format!("{} did not answer a heartbeat within {patience:?}", self.endpoint);
                Err(Refusal::new(Reason::Unreachable, message))
            }
        }
    }
}

/// Begins the names of the operands that hold what one endpoint said.
const SAID: &str = "said by ";

/// What each endpoint said that did not open a session; none where none was asked.
pub fn said(refusal: &Refusal) -> impl Iterator<Item = (&str, &str)> {
    let operands = refusal.operands.iter();
    operands.filter_map(|(name, what)| Some((name.strip_prefix(SAID)?, what.as_str())))
}

fn with_said(refusal: Refusal, heard: &BTreeMap<String, Refusal>) -> Refusal {
    heard.iter().fold(refusal, |refusal, (who, what)| {
        refusal.with(&format!("{SAID}{who}"), format!("{what} ({})", what.reason))
    })
}

/// What each coordinator said; none where none was asked.
fn each(heard: &BTreeMap<String, Refusal>) -> Option<String> {
    let each: Vec<String> = heard.iter().map(|(who, what)| format!("{who}: {what}")).collect();
    (!each.is_empty()).then(|| each.join("; "))
}

async fn next_message(
    stream: &mut Streaming<pb::SessionResponse>,
) -> Result<session_response::Message, Refusal> {
    match stream.message().await {
        Ok(Some(response)) => required("message", response.message),
        Ok(None) => Err(Refusal::new(
            Reason::NotServing,
            "the coordinator ended the session",
        )),
        Err(s) => Err(status::from_status(&s)),
    }
}
