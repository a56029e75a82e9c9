//! This node's live tie to the leader: hello, then heartbeats with what is loaded, ready and seen by probes.
//!
//! Absent on purpose: anything durable. Losing the session changes nothing here; serving goes on (I10). Only a run whose
//! place another process took ends: its node is somebody else by now.

use std::time::Duration;

use client::{
    Client, Complaint, retry,
    session::{Session, said},
};
use proto::{convert::regions, v1 as pb};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use types::{Reason, VersionKey, ZoneName, reason::Refusal, region::Endpoints, role::TimingPolicy};

use crate::{agent::AgentError, board::Board, observed::Memory, serving::Serving};

/// First wait after a session was lost; doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(50);
/// Longest wait between two tries to open a session.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Most versions that a heartbeat names of each kind: a coordinator refuses more. Who has more, or fails at more, is known for
/// these.
const VERSIONS_MAX: usize = 10_000;
/// Time for one coordinator to welcome this node.
const WELCOME_LIMIT: Duration = Duration::from_secs(2);
/// How long a session with a leader of another cluster lasts.
const ELSEWHERE: Duration = Duration::from_secs(3);

/// Keeps a session open until the process stops.
pub struct SessionKeeper {
    /// The cluster.
    pub client: Client,
    /// Where others reach this agent.
    pub endpoints: Endpoints,
    /// Which zone of its region it stands in, from the config.
    pub zone: Option<ZoneName>,
    /// What is told in heartbeats; the session's own lines are written here.
    pub board: watch::Sender<Board>,
    /// What is loaded.
    pub serving: Serving,
}

impl SessionKeeper {
    /// Opens sessions, one after the other, until `stop`.
    ///
    /// # Errors
    /// Another process took over as this node: the process must not go on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AgentError> {
        let kept = self.keep(&stop).await;
        self.board.send_modify(|board| board.session = None);
        kept
    }

    async fn keep(&self, stop: &CancellationToken) -> Result<(), AgentError> {
        let mut failures = 0;
        let mut complaint = Complaint::default();
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                ended = self.one_session() => ended,
            };
            self.board.send_modify(|board| board.session = None);
            failures = match ended {
                Ok(()) => {
                    complaint.over();
                    0
                }
                Err(refusal) if refusal.reason == Reason::StaleIncarnation => {
                    return Err(self.superseded(&refusal));
                }
                Err(refusal) => {
                    complain(&mut complaint, &refusal);
                    (failures + 1).min(6)
                }
            };
            let wait = retry::jittered(WAIT_MIN.saturating_mul(1 << failures).min(WAIT_MAX));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One session from hello to its end.
    ///
    /// # Errors
    /// It was not opened, and why.
    async fn one_session(&self) -> Result<(), Refusal> {
        let hello = self.hello();
        let mut session = Session::open(&self.client, &hello, WELCOME_LIMIT).await?;
        tracing::info!(endpoint = %session.endpoint, "session open");
        self.note(&session);
        let end = self.heartbeats(&mut session).await;
        tracing::info!(endpoint = %session.endpoint, "session over: {end}");
        Ok(())
    }

    fn superseded(&self, refusal: &Refusal) -> AgentError {
        let me = self.board.borrow().me.clone();
        AgentError::Superseded {
            node: me.node,
            shown: me.incarnation,
            current: refusal.operand("current").unwrap_or("unknown").to_owned(),
        }
    }

    /// A leader of another cluster hears that this node is not ready, and why, so that people see it there. That ends after a while:
    /// somebody of the own cluster may be back, or this agent may have followed.
    async fn heartbeats(&self, session: &mut Session) -> Refusal {
        let opened = Instant::now();
        loop {
            let own = self.client.cluster().unwrap_or(session.cluster_id);
            let is_own = own == session.cluster_id;
            if !is_own && opened.elapsed() >= ELSEWHERE {
                return Refusal::new(
                    Reason::WrongCluster,
                    format!("it is of cluster {}", session.cluster_id),
                );
            }
            let mut heartbeat = heartbeat(&self.board.borrow(), &self.serving);
            if !is_own {
                heartbeat.ready = false;
                heartbeat.not_ready_reason = format!("it belongs to cluster {own}");
            }
            let patience = patience(&session.timing);
            if let Err(refusal) = session.heartbeat(heartbeat, patience).await {
                return refusal;
            }
            self.note(session);
            tokio::time::sleep(session.timing.heartbeat_interval).await;
        }
    }

    fn note(&self, session: &Session) {
        self.board.send_if_modified(|board| {
            let same = board.session.as_ref() == Some(&session.endpoint)
                && board.timing.as_ref() == Some(&session.timing);
            if !same {
                board.session = Some(session.endpoint.clone());
                board.timing = Some(session.timing.clone());
            }
            !same
        });
    }

    fn hello(&self) -> pb::Hello {
        let board = self.board.borrow();
        pb::Hello {
            region: board.me.region.to_string(),
            node: board.me.node.to_string(),
            incarnation: board.me.incarnation.to_string(),
            endpoints: Some((&self.endpoints).into()),
            zone: regions::zone_to_pb(self.zone.as_ref()),
        }
    }
}

/// Of each endpoint what it said, so that none takes the lines of another.
fn complain(complaint: &mut Complaint, refusal: &Refusal) {
    let mut asked = said(refusal).peekable();
    if asked.peek().is_none()
        && let Some(why) = complaint.news("", &format!("{refusal} ({})", refusal.reason))
    {
        tracing::warn!("no session: {why}");
    }
    for (endpoint, why) in asked {
        if let Some(why) = complaint.news(endpoint, why) {
            tracing::warn!(endpoint, "no session: {why}");
        }
    }
}

/// How long an answer may take before the session counts as lost.
fn patience(timing: &TimingPolicy) -> Duration {
    (timing.heartbeat_interval * 3).clamp(Duration::from_secs(1), Duration::from_secs(10))
}

fn heartbeat(board: &Board, serving: &Serving) -> pb::Heartbeat {
    let memory = serving.memory();
    let is_loaded = |key: &&VersionKey| memory.get(*key) == Some(&Memory::Loaded);
    pb::Heartbeat {
        sequence: 0,
        loaded: versions(memory.keys().filter(is_loaded)),
        failed: versions(&board.failed),
        ready: board.ready.is_ok(),
        not_ready_reason: board.ready.as_ref().err().cloned().unwrap_or_default(),
        probes: board
            .probes
            .iter()
            .map(|(node, probe)| pb::ProbeObservation {
                region: probe.region.to_string(),
                node: node.to_string(),
                consecutive_failures: probe.consecutive_failures,
                error: probe.error.clone(),
            })
            .collect(),
    }
}

fn versions<'k>(keys: impl IntoIterator<Item = &'k VersionKey>) -> Vec<pb::LoadedVersion> {
    let told = |key: &VersionKey| pb::LoadedVersion {
        model: key.model.to_string(),
        version: key.version.0,
    };
    keys.into_iter().take(VERSIONS_MAX).map(told).collect()
}
