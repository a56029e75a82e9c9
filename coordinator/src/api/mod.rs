//! The gRPC services, one file each: translate, authorise, propose or read; nothing else.
//!
//! Absent on purpose: rules (crate `state`) and who may call which method (`authz`).
//! Invariant: every answer names the cluster and the revision that it was read from or that the change made.

pub mod cluster;
mod copies;
mod filter;
mod list;
mod pause;
pub mod primaries;
pub mod regions;
pub mod registry;
pub mod session;
pub mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use proto::{
    convert::{self, status::to_status},
    v1 as pb,
};
use state::{Command, ControlState, Reply};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use types::{Principal, Reason, Revision, reason::Refusal};

use crate::{
    authz::Caller,
    leases::Leases,
    raft::{ProposeError, Proposed, RaftNode},
    sessions::Sessions,
    watch_hub::WatchHub,
};

/// What the services share.
pub struct Api {
    /// The log and the state that comes out of it.
    pub raft: RaftNode,
    /// The last revisions.
    pub hub: WatchHub,
    /// Live ties of agents.
    pub sessions: Sessions,
    /// Leases, and changes of roles in order with them.
    pub leases: Leases,
    /// Ends every stream.
    pub shutdown: CancellationToken,
    /// When the last round that a quorum confirmed for this node began.
    confirmed: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// A command that was applied.
pub(crate) struct Committed {
    pub(crate) reply: Reply,
    pub(crate) header: pb::ResponseHeader,
}

impl Api {
    /// Puts the parts together.
    pub fn new(
        raft: RaftNode,
        hub: WatchHub,
        sessions: Sessions,
        leases: Leases,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            raft,
            hub,
            sessions,
            leases,
            shutdown,
            confirmed: Mutex::new(None),
        })
    }

    /// Who this coordinator is.
    pub(crate) fn own_principal(&self) -> Principal {
        let peer = self.raft.own_peer();
        Principal::Coordinator {
            region: peer.region.clone(),
            node: peer.node.clone(),
        }
    }

    /// Proposes a caller's command under the caller's request id.
    pub(crate) async fn propose(
        &self,
        caller: &Caller,
        request_id: &str,
        command: Command,
    ) -> Result<Committed, Status> {
        let request_id = convert::request_id(request_id).map_err(|e| to_status(&e))?;
        let began = Instant::now();
        let result = self
            .raft
            .propose(caller.principal.clone(), request_id, command, caller.deadline)
            .await;
        crate::metrics::observe_proposal(outcome(&result), began.elapsed().as_secs_f64());
        let proposed = result.map_err(|e| self.refuse(&e))?;
        self.committed(proposed)
    }

    fn committed(&self, proposed: Proposed) -> Result<Committed, Status> {
        let reply = proposed.outcome.map_err(|rejection| {
            if rejection.reason() == Reason::StaleEpoch {
                crate::metrics::observe_fenced();
            }
            to_status(&rejection.to_refusal())
        })?;
        let header = self.header(proposed.revision);
        Ok(Committed { reply, header })
    }

    /// A read as fresh as the caller asks for; the header says which revision it sees at least.
    pub(crate) async fn read<T>(
        &self,
        caller: &Caller,
        options: Option<pb::ReadOptions>,
        f: impl FnOnce(&ControlState) -> T,
    ) -> Result<(pb::ResponseHeader, T), Status> {
        let stale = options.unwrap_or_default().allow_stale;
        if !stale {
            self.linearize(caller.deadline).await?;
        }
        let (revision, value) = self.raft.read_at(f);
        let mut header = self.header(revision);
        if stale {
            header.stale = true;
            header.age_millis = self.age_millis();
        }
        Ok((header, value))
    }

    /// Waits until everything that was acknowledged before this call is applied here.
    pub(crate) async fn linearize(&self, deadline: Instant) -> Result<Revision, Status> {
        let began = Instant::now();
        let revision = self.raft.linearize(deadline).await.map_err(|e| self.refuse(&e))?;
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        *confirmed = (*confirmed).max(Some(began));
        Ok(revision)
    }

    /// Milliseconds since the last confirmed round began; the most there is if there was none (I2).
    fn age_millis(&self) -> u64 {
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.map_or(u64::MAX, |began| {
            u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// The header of an answer that stands at `revision`.
    pub(crate) fn header(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self
                .raft
                .cluster_id()
                .map(|id| id.to_string())
                .unwrap_or_default(),
            revision: revision.0,
            stale: false,
            age_millis: 0,
        }
    }

    /// The status of what went wrong between the caller and the log.
    pub(crate) fn refuse(&self, error: &ProposeError) -> Status {
        to_status(&error.to_refusal())
    }

    /// Refused unless this coordinator leads and has applied its first entry; the hint says who does.
    pub(crate) fn require_leader(&self) -> Result<Instant, Status> {
        let leadership = self.raft.leadership().borrow().clone();
        leadership.since.ok_or_else(|| {
            self.refuse(&ProposeError::NotLeader {
                leader: leadership.leader,
            })
        })
    }
}

/// How a proposal ended, as a metric's label.
fn outcome(result: &Result<Proposed, ProposeError>) -> &'static str {
    match result {
        Ok(proposed) => match &proposed.outcome {
            Ok(_) => "applied",
            Err(_) => "rejected",
        },
        Err(error) => error.to_refusal().reason.as_str(),
    }
}

/// Who calls; the layer in front of every service has put it there.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| {
        to_status(&Refusal::new(
            Reason::Internal,
            "a call came past the authorisation layer",
        ))
    })
}

/// The status of a refusal, for `map_err`.
pub(crate) fn status(refusal: Refusal) -> Status {
    to_status(&refusal)
}

/// The status of a record that does not exist.
pub(crate) fn not_found(reason: Reason, what: &str, name: impl std::fmt::Display) -> Status {
    to_status(&Refusal::new(reason, format!("no {what} {name}")).with(what, name))
}

/// The agent that calls, or a refusal: some methods are for agents, about themselves.
pub(crate) fn require_agent(principal: &Principal) -> Result<(&types::RegionId, &types::NodeId), Status> {
    match principal {
        Principal::Agent { region, node } => Ok((region, node)),
        Principal::Coordinator { .. } | Principal::User { .. } => Err(to_status(
            &Refusal::new(
                Reason::PermissionDenied,
                format!("this takes an agent, not {principal}"),
            )
            .with("actor", principal),
        )),
    }
}
