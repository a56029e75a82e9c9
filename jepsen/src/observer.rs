//! Looks on while a run goes on: who holds the role, and which coordinators say that they lead. For pictures alone.
//!
//! Absent on purpose: any judgement. What is seen here comes late, and is missed where nobody answers.

use std::{collections::BTreeMap, time::Duration};

use client::{
    Client,
    watch::{Change, Resource, StateWatch},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use types::{RoleName, WatchFilter, filter::ResourceKind};

use crate::{
    history::{History, Seen, What},
    world::World,
};

/// The number of the observer in a history.
const PROCESS: u32 = u32::MAX - 1;
/// How long a call may take, and a watch be silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two questions who leads, and how long one coordinator has for its answer.
const LOOK: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_millis(400);

/// Looks on until `stop`.
pub(crate) fn start(
    world: &World,
    history: &History,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    let client = world.admin()?.with_deadline(PATIENCE);
    let mut tasks = JoinSet::new();
    let (role, leaders) = (
        follow_role(client.clone(), history.clone()),
        look_who_leads(client, history.clone()),
    );
    let (one, other) = (stop.clone(), stop.clone());
    tasks.spawn(async move { one.run_until_cancelled_owned(role).await.unwrap_or(()) });
    tasks.spawn(async move { other.run_until_cancelled_owned(leaders).await.unwrap_or(()) });
    Ok(tasks)
}

fn note(history: &History, seen: Seen) {
    history.record(PROCESS, 0, What::Seen { seen });
}

async fn follow_role(client: Client, history: History) {
    let filter = WatchFilter {
        kinds: [ResourceKind::Role].into(),
        ..WatchFilter::default()
    };
    let mut watch = StateWatch::new(client, PATIENCE).filtered(filter);
    let mut known = None;
    loop {
        for seen in roles(watch.next().await) {
            if known.as_ref() != Some(&seen) {
                note(&history, seen.clone());
                known = Some(seen);
            }
        }
    }
}

/// What a change says of `primaries/global`.
fn roles(change: Change) -> impl Iterator<Item = Seen> {
    let resources: Vec<Resource> = match change {
        Change::Reset { resources, .. } => resources,
        Change::Events { events, .. } => events.into_iter().map(|event| event.resource).collect(),
        Change::Bookmark { .. } => Vec::new(),
    };
    resources.into_iter().filter_map(|resource| match resource {
        Resource::Role(role) if role.role == RoleName::global() => Some(Seen::Role {
            epoch: role.epoch,
            holder: role.holder,
        }),
        _ => None,
    })
}

/// In which term a coordinator leads, and the longest election timeout that it goes by.
type Leads = Option<(u64, u64)>;

async fn look_who_leads(client: Client, history: History) {
    let mut known: BTreeMap<String, Leads> = BTreeMap::new();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let mut now: BTreeMap<String, Leads> = known.keys().map(|region| (region.clone(), None)).collect();
        for (_, status) in client.every_status(ANSWER).await {
            let leads = status.raft_state == "LEADER" && status.has_quorum;
            let timing = status
                .election_timing
                .map_or(0, |timing| timing.election_max_millis);
            now.insert(status.region, leads.then_some((status.term, timing)));
        }
        for (region, leads) in &now {
            if known.get(region).copied().flatten() != *leads {
                let (term, timing) = leads.unzip();
                note(
                    &history,
                    Seen::Leads {
                        region: region.clone(),
                        term,
                        election_max_millis: timing.unwrap_or(0),
                    },
                );
            }
        }
        known = now;
    }
}
