//! The gRPC services, one file each: translate, authorise, propose or read; nothing else.
//!
//! Absent on purpose: rules (crate `state`) and who may call which method (`authz`).
//! Invariant: every answer names the cluster and the revision that it was read from or that the change made.

mod change;
pub mod cluster;
mod copies;
pub mod experiments;
mod filter;
mod list;
mod pause;
pub mod preferences;
pub mod primaries;
mod record;
pub mod regions;
pub mod registry;
pub mod services;
pub mod session;
mod snapshots;
pub mod watch;

use std::{sync::Arc, time::Duration};

use client::guard::BootInstant;
use proto::{convert::status::to_status, v1 as pb};
use state::ControlState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use types::{Principal, Reason, Revision, reason::Refusal};

use self::change::Previews;
pub(crate) use self::change::{Committed, Manner};
use crate::{
    authz::Caller,
    freshness::{Freshness, Wanted, age_millis},
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
    /// How old the state here may be.
    freshness: Freshness,
    /// Turns of changes that are only validated.
    previews: Previews,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
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
            freshness: Freshness::default(),
            previews: Previews::default(),
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

    /// A read as fresh as the caller asks for; the header says which revision it sees at least.
    pub(crate) async fn read<T>(
        &self,
        caller: &Caller,
        options: Option<pb::ReadOptions>,
        f: impl FnOnce(&ControlState) -> T,
    ) -> Result<(pb::ResponseHeader, T), Status> {
        let wanted = Wanted::of(options);
        // Both before the look at the state, which may be fresher by then, and never older.
        let (fresh, applied) = (self.freshness.look(), self.raft.applied());
        let age = fresh.age(BootInstant::now());
        let stale = wanted.takes(age, applied);
        if stale {
            // An old state is what is asked for; a wrong one is not.
            self.raft.check_serving().map_err(|e| self.refuse(&e))?;
        } else {
            let confirmed = self.confirm(caller.deadline).await;
            let revision = confirmed.map_err(|e| {
                let age = self.freshness.look().age(BootInstant::now());
                to_status(&wanted.not_confirmed(e.to_refusal(), age))
            })?;
            wanted.check_exists(revision).map_err(status)?;
        }
        let (revision, value) = self.raft.read_at(f);
        let mut header = self.header(revision);
        if stale {
            header.stale = true;
            header.age_millis = age_millis(age);
        }
        Ok((header, value))
    }

    /// Waits until everything that was acknowledged before this call is applied here.
    pub(crate) async fn linearize(&self, deadline: Instant) -> Result<Revision, Status> {
        self.confirm(deadline).await.map_err(|e| self.refuse(&e))
    }

    async fn confirm(&self, deadline: Instant) -> Result<Revision, ProposeError> {
        let sent = BootInstant::now();
        let revision = self.raft.linearize(deadline).await?;
        self.freshness.confirmed(sent);
        Ok(revision)
    }

    /// Confirms how fresh the state here is, each time that nothing else has within `period`; until `stop`.
    pub(crate) async fn keep_fresh(&self, period: Duration, stop: CancellationToken) {
        loop {
            let age = self.freshness.look().age(BootInstant::now());
            let due = age.map_or(period, |age| period.saturating_sub(age));
            tokio::select! {
                () = stop.cancelled() => return,
                // Never at once again: a round that takes longer than the period leaves its state older than that.
                () = tokio::time::sleep(due.max(period / 4)) => {}
            }
            let age = self.freshness.look().age(BootInstant::now());
            if age.is_none_or(|age| age >= period) {
                // An error leaves the age growing, which is what it says.
                let _ = self.confirm(Instant::now() + period).await;
            }
        }
    }

    /// The header of an answer that stands at `revision`.
    pub(crate) fn header(&self, revision: Revision) -> pb::ResponseHeader {
        header(&self.raft, revision)
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

/// The header of an answer of this coordinator's that stands at `revision`.
fn header(raft: &RaftNode, revision: Revision) -> pb::ResponseHeader {
    let cluster_id = raft.cluster_id().map(|id| id.to_string());
    pb::ResponseHeader {
        cluster_id: cluster_id.unwrap_or_default(),
        revision: revision.0,
        ..pb::ResponseHeader::default()
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
