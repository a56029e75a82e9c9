//! The leader's loop over roles: builds the view, asks [`policy::failover::decide`], proposes what it says.
//!
//! Absent on purpose: decisions, and any memory of them: the next look, by this leader or by another one, goes on from
//! the committed plan. What is remembered is since when a plan stands as it does ([`super::memory`]).
//! Invariant: what changes a role's epoch goes through [`crate::leases::Leases::change`] (L6); a hand-over in one entry
//! only while no lease of its role can be believed in.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use policy::failover::{Decision, FailoverView, decide};
use state::{Command, FormerTtl};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use types::{NodeId, RoleName};

use super::{
    memory::Memory,
    rules::{self, Due, Sight},
};
use crate::{
    api::Api,
    lead::{PROPOSAL, Term, settle},
    leases::RoleChange,
};

/// Why nothing is done about a role, as it was logged last, without its figures.
type Whys = BTreeMap<RoleName, String>;

/// Looks at every role, does what is due, and sleeps until something changes; until `shutdown`.
pub async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    while let Some(mut term) = Term::begin(&api, &shutdown).await {
        let (mut memory, mut whys) = (Memory::default(), Whys::new());
        loop {
            let tick = look(&term, &mut memory, &mut whys).await;
            if !term.next(Instant::now() + tick).await {
                break;
            }
        }
    }
}

/// One look; the time until a silence or a lease could mean something new.
async fn look(term: &Term, memory: &mut Memory, whys: &mut Whys) -> Duration {
    let roles: Vec<RoleName> = term
        .api
        .raft
        .read(|s| s.roles().map(|r| r.role.clone()).collect());
    let mut tick = Duration::from_millis(500);
    // Before the views, which would be old when the voters have answered. Without a majority's clocks nothing could be committed either.
    let now = term.api.raft.time(Instant::now() + PROPOSAL).await.ok();
    for role in roles {
        retire_former_ttl(term, memory, &role).await;
        let Some(view) = view(&term.api, term.since, memory, &role) else {
            continue;
        };
        tick = tick.min(view.role.timing.heartbeat_interval / 3);
        term.api.leases.settle(&role);
        if let Some(now) = now {
            act(term, &view, decide(&view, now), whys).await;
        }
    }
    tick.max(Duration::from_millis(25))
}

/// Says that a TTL which the role's timing had before is waited out, once it is (L8).
async fn retire_former_ttl(term: &Term, memory: &mut Memory, role: &RoleName) {
    let former = term.api.raft.read(|s| s.former_ttl(role));
    if memory.waited_out(role, former, Instant::now())
        && let Some(FormerTtl { ttl, since }) = former
    {
        let role = role.clone();
        info!(%role, ?ttl, "a former lease TTL is waited out");
        term.propose(Command::RetireTtl { role, ttl, since }).await;
    }
}

/// What this leader knows of a role now, for a person who wants it elsewhere: nothing of how long plans have stood.
pub(crate) fn view_now(api: &Api, since: Instant, role: &RoleName) -> Option<FailoverView> {
    view(api, since, &mut Memory::default(), role)
}

fn view(api: &Api, since: Instant, memory: &mut Memory, role: &RoleName) -> Option<FailoverView> {
    let now = Instant::now();
    let sight = Sight {
        role,
        lease: api.leases.look(role, now)?,
        since,
        now,
    };
    let session = |node: &NodeId| api.sessions.get(node);
    // It looks at every agent and alias: under the state's lock it would hold up changes and renewals.
    let (_, state) = api.raft.view();
    rules::view(&state, memory, &sight, session)
}

async fn act(term: &Term, view: &FailoverView, decision: Decision, whys: &mut Whys) {
    let role = &view.role.role;
    if let Decision::Nothing { why } = decision {
        // A silence changes with each look while it lasts; that is no news.
        let without_figures: String = why.chars().filter(|c| !c.is_ascii_digit()).collect();
        if whys.get(role) != Some(&without_figures) {
            debug!(%role, %why, "nothing to do");
            whys.insert(role.clone(), without_figures);
        }
        return;
    }
    whys.remove(role);
    if let Decision::AskRelease { plan, holder } = &decision {
        debug!(%role, %plan, %holder, "the holder is asked to stop");
    }
    let said = format!("{decision:?}");
    let due = rules::due(view, decision);
    if matches!(due, Due::Propose(_) | Due::Change { .. }) {
        info!(%role, epoch = %view.role.epoch, due = said, "proposing");
    }
    match due {
        Due::Wait => {}
        Due::Hold { epoch, plan } => term.api.leases.hold(role, epoch, plan),
        Due::Change { command, needs_free } => change(term, view, needs_free, command).await,
        Due::Propose(command) => drop(term.propose(command).await),
    }
}

async fn change(term: &Term, view: &FailoverView, needs_free: bool, command: Command) {
    let what = format!("{command:?}");
    let change = RoleChange {
        role: view.role.role.clone(),
        epoch: view.role.epoch,
        needs_free,
        command,
    };
    let (actor, deadline) = (term.api.own_principal(), Instant::now() + PROPOSAL);
    let request_id = term.api.raft.own_request_id(deadline).await;
    let changed = term.api.leases.change(change, actor, request_id, deadline).await;
    if let Some(result) = changed {
        settle(&what, result);
    }
}
