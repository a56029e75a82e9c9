//! `SessionService`: an agent's live tie to the leader.
//!
//! The stream is a state machine that is polled by its connection: no task, no queue. An agent that does not read its
//! answers is not read either, and looks silent, which is what it is.

use std::{collections::BTreeSet, sync::Arc};

use futures::{Stream, StreamExt as _, stream};
use policy::readiness::Loads;
use proto::{
    convert::{invalid, regions, text},
    v1::{self as pb, session_service_server::SessionService},
};
use state::{Command, ControlState};
use tokio::{sync::watch, time::Instant};
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use types::{
    Holder, ModelVersion, NodeIncarnation, Reason, VersionKey, ZoneName,
    reason::Refusal,
    region::{Endpoints, NodeKind},
};

use super::{Api, caller, require_agent, status};
use crate::{
    authz::Caller,
    raft::{Leadership, ProposeError},
    sessions::{Probe, Report, Session},
};

/// Versions and probes that a heartbeat may carry; one region has one probe, and no node serves this many models.
const LOADED_MAX: usize = 10_000;
const PROBES_MAX: usize = 1_000;
/// How long a new session's registration may take.
const HELLO: std::time::Duration = std::time::Duration::from_secs(10);
/// How long a heartbeat may wait for its node's record: an agent waits a second for its answer at least.
const RECORD: std::time::Duration = std::time::Duration::from_millis(500);
/// A stream that says nothing for this long is ended; its node was counted as silent long before.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// The service.
#[derive(Clone, Debug)]
pub struct Sessions(pub Arc<Api>);

type Answers = stream::BoxStream<'static, Result<pb::SessionResponse, Status>>;

#[tonic::async_trait]
impl SessionService for Sessions {
    type SessionStream = Answers;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = caller(&request)?;
        let since = self.0.require_leader()?;
        let tie = Tie {
            api: Arc::clone(&self.0),
            caller,
            inbound: request.into_inner(),
            leadership: self.0.raft.leadership(),
            since,
            session: None,
            run: None,
        };
        Ok(Response::new(tie.into_stream().boxed()))
    }
}

struct Tie {
    api: Arc<Api>,
    caller: Caller,
    inbound: Streaming<pb::SessionRequest>,
    leadership: watch::Receiver<Leadership>,
    since: Instant,
    session: Option<Session>,
    run: Option<Run>,
}

/// What an agent said of itself in its hello.
#[derive(Debug)]
struct Run {
    agent: Holder,
    endpoints: Endpoints,
    zone: Option<ZoneName>,
}

impl Tie {
    /// Answers until the first error, which ends it.
    fn into_stream(self) -> impl Stream<Item = Result<pb::SessionResponse, Status>> {
        stream::unfold(Some(self), |tie| async move {
            let mut tie = tie?;
            match tie.next().await {
                Ok(Some(answer)) => Some((Ok(answer), Some(tie))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<pb::SessionResponse>, Status> {
        let shutdown = self.api.shutdown.clone();
        let message = tokio::select! {
            () = shutdown.cancelled() => {
                return Err(status(Refusal::new(Reason::NotServing, "this coordinator is stopping")));
            }
            lost = lost(&mut self.leadership, self.since) => return Err(self.api.refuse(&lost)),
            message = tokio::time::timeout(SILENCE, self.inbound.message()) => message,
        };
        let silent = |_| {
            status(Refusal::new(
                Reason::Unreachable,
                "the session was silent for too long",
            ))
        };
        let Some(message) = message.map_err(silent)?? else {
            return Ok(None);
        };
        let answer = match message.message {
            Some(pb::session_request::Message::Hello(hello)) => self.hello(hello).await?,
            Some(pb::session_request::Message::Heartbeat(beat)) => self.heartbeat(beat).await?,
            None => return Err(status(invalid("message", "is missing"))),
        };
        Ok(Some(pb::SessionResponse {
            message: Some(answer),
        }))
    }

    async fn hello(&mut self, hello: pb::Hello) -> Result<pb::session_response::Message, Status> {
        let (region, node) = require_agent(&self.caller.principal)?;
        if hello.region != region.as_str() || hello.node != node.as_str() {
            let why = format!(
                "{} says that it is {}/{}",
                self.caller.principal, hello.region, hello.node
            );
            return Err(status(Refusal::new(Reason::PermissionDenied, why)));
        }
        let (region, node) = (region.clone(), node.clone());
        let incarnation: NodeIncarnation = text("incarnation", &hello.incarnation).map_err(status)?;
        let endpoints: Endpoints = regions::endpoints(hello.endpoints).map_err(status)?;
        let agent = Holder {
            region,
            node,
            incarnation,
        };
        let run = Run {
            agent: agent.clone(),
            endpoints,
            zone: regions::zone(&hello.zone).map_err(status)?,
        };
        // A fresh leader may not have applied yet what its predecessor acknowledged: then nothing new is proposed twice.
        let deadline = Instant::now() + HELLO;
        self.api.linearize(deadline).await?;
        self.register(&run, deadline).await?;
        self.run = Some(run);
        let opened = self.api.sessions.open(self.since, agent, Instant::now());
        let lost = || {
            Refusal::new(
                Reason::NotLeader,
                "this coordinator's leadership has changed; say hello again",
            )
        };
        self.session = Some(opened.ok_or_else(|| status(lost()))?);
        crate::metrics::set_sessions(self.api.sessions.open_count());
        let (revision, timing) = self.api.raft.read_at(|s| s.cluster().map(|c| (&c.timing).into()));
        Ok(pb::session_response::Message::Welcome(pb::Welcome {
            cluster_id: self.api.header(revision).cluster_id,
            timing,
            revision: revision.0,
        }))
    }

    /// Enters the region and the run of this agent into the registry, as far as they are not there.
    async fn register(&self, run: &Run, deadline: Instant) -> Result<(), Status> {
        let Holder {
            region,
            node,
            incarnation,
        } = &run.agent;
        let own_region = Command::RegisterRegion {
            region: region.clone(),
        };
        let own_run = Command::RegisterNode {
            node: node.clone(),
            region: region.clone(),
            kind: NodeKind::Agent,
            incarnation: *incarnation,
            endpoints: run.endpoints.clone(),
            zone: self.api.may_say(run.zone.clone()),
        };
        let caller = Caller {
            deadline,
            ..self.caller.clone()
        };
        let registering = self
            .api
            .register(&caller, region, node, Some(own_region), own_run);
        registering.await
    }

    /// Labels a node that came before its cluster knew of zones, and enters one anew whose record was dropped between its hello and
    /// here. The next heartbeat tries again what failed.
    async fn keep_known(&self) {
        let Some(run) = &self.run else { return };
        let zone = self.api.may_say(run.zone.clone());
        let is_other = |s: &ControlState| {
            let known = s.node(&run.agent.node);
            known.is_none_or(|n| n.incarnation == run.agent.incarnation && n.zone != zone)
        };
        if self.api.raft.read(is_other)
            && let Err(status) = self.register(run, Instant::now() + RECORD).await
        {
            debug!(node = %run.agent.node, %status, "not entered yet");
        }
    }

    async fn heartbeat(&mut self, beat: pb::Heartbeat) -> Result<pb::session_response::Message, Status> {
        self.keep_known().await;
        let session = self.session.as_ref();
        let session = session.ok_or_else(|| status(invalid("message", "a session begins with a hello")))?;
        let sequence = beat.sequence;
        if !session.heard(report(beat)?, Instant::now()) {
            let why = "another session of this node has taken its place";
            return Err(status(Refusal::new(Reason::IllegalTransition, why)));
        }
        let timing = self.api.raft.read(|s| s.cluster().map(|c| (&c.timing).into()));
        Ok(pb::session_response::Message::Ack(pb::HeartbeatAck {
            sequence,
            timing,
        }))
    }
}

/// Completes once this node no longer leads as it did since `since`.
async fn lost(leadership: &mut watch::Receiver<Leadership>, since: Instant) -> ProposeError {
    let ended = leadership.wait_for(|l| l.since != Some(since)).await;
    ended.map_or_else(
        |_| ProposeError::NotServing {
            detail: "it has stopped".to_owned(),
        },
        |now| ProposeError::NotLeader {
            leader: now.leader.clone(),
        },
    )
}

fn versions(field: &'static str, told: &[pb::LoadedVersion]) -> Result<BTreeSet<VersionKey>, Status> {
    let key = |l: &pb::LoadedVersion| {
        Ok(VersionKey {
            model: text(field, &l.model)?,
            version: ModelVersion(l.version),
        })
    };
    told.iter()
        .map(key)
        .collect::<Result<_, Refusal>>()
        .map_err(status)
}

fn report(beat: pb::Heartbeat) -> Result<Report, Status> {
    if beat.loaded.len().max(beat.failed.len()) > LOADED_MAX || beat.probes.len() > PROBES_MAX {
        return Err(status(Refusal::new(
            Reason::LimitExceeded,
            "a heartbeat of too many parts",
        )));
    }
    let loads = Loads {
        loaded: versions("loaded.model", &beat.loaded)?,
        failed: versions("failed.model", &beat.failed)?,
    };
    let probes = beat.probes.into_iter().map(|p| {
        Ok(Probe {
            region: text("probes.region", &p.region)?,
            node: text("probes.node", &p.node)?,
            consecutive_failures: p.consecutive_failures,
            error: p.error.chars().take(300).collect(),
        })
    });
    Ok(Report {
        ready: beat.ready,
        not_ready_reason: beat.not_ready_reason.chars().take(300).collect(),
        loads,
        probes: probes.collect::<Result<_, Refusal>>().map_err(status)?,
    })
}
