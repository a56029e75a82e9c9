//! Workload `watches`: the clients of `registers`, and in each region two watches, one of everything and one of the registers alone.
//!
//! A watch begins with the first write and goes on until it has what was acknowledged last.
//! Judged in `check::watches`, and the registers in `check::registers`.

use std::{collections::BTreeMap, time::Duration};

use client::watch::{Change, Resource, StateWatch};
use tokio::{sync::watch, task::JoinSet};
use types::{ModelName, WatchFilter, filter::ResourceKind, model::AliasRecord};

use super::{
    process::{Process, Processes},
    registers::MODEL,
};
use crate::{history::Told, world::World};

/// How long a watch may be silent before it asks another coordinator.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a call of a watch may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long all watches may take to get to the end, after the last fault.
const CATCH_UP: Duration = Duration::from_secs(30);

/// Watches at work.
#[derive(Debug)]
pub(crate) struct Watches {
    /// Up to which revision they are to go; none: on.
    goal: watch::Sender<Option<u64>>,
    all: JoinSet<()>,
}

impl Watches {
    /// Starts them all.
    pub(crate) fn start(world: &World, processes: &mut Processes) -> anyhow::Result<Self> {
        let (goal, goals) = watch::channel(None);
        let mut all = JoinSet::new();
        let own = WatchFilter {
            kinds: [ResourceKind::Alias].into(),
            model: Some(MODEL.parse()?),
            ..WatchFilter::default()
        };
        for region in 0..world.regions().len() {
            for filter in [WatchFilter::default(), own.clone()] {
                let client = world.admin_near(region, DEADLINE)?;
                let watch = StateWatch::new(client, PATIENCE).filtered(filter);
                let model = ModelName::new(MODEL)?;
                all.spawn(follow(watch, model, processes.next(DEADLINE), goals.clone()));
            }
        }
        Ok(Self { goal, all })
    }

    /// Lets them go on to this revision. One that does not get there is told by the check, which sees how far it got.
    pub(crate) async fn end_at(mut self, revision: u64) -> anyhow::Result<()> {
        self.goal.send_replace(Some(revision));
        let ended = async {
            while let Some(one) = self.all.join_next().await {
                one?;
            }
            Ok::<(), tokio::task::JoinError>(())
        };
        if let Ok(ended) = tokio::time::timeout(CATCH_UP, ended).await {
            ended?;
        }
        Ok(())
    }
}

async fn follow(
    mut watch: StateWatch,
    model: ModelName,
    process: Process,
    mut goal: watch::Receiver<Option<u64>>,
) {
    let mut at = 0;
    loop {
        if goal.borrow_and_update().is_some_and(|goal| at >= goal) {
            return;
        }
        let change = tokio::select! {
            change = watch.next() => change,
            changed = goal.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let told = told(change, &model);
        at = match &told {
            Told::Whole { revision, .. } | Told::Changed { revision, .. } | Told::Passed { revision } => {
                *revision
            }
        };
        process.tell(told);
    }
}

/// What a change says of the registers.
fn told(change: Change, model: &ModelName) -> Told {
    match change {
        Change::Reset {
            revision, resources, ..
        } => Told::Whole {
            revision: revision.0,
            registers: registers(resources.iter(), model),
        },
        Change::Events { revision, events } => {
            let registers = registers(events.iter().map(|event| &event.resource), model);
            match registers.is_empty() {
                true => Told::Passed { revision: revision.0 },
                false => Told::Changed {
                    revision: revision.0,
                    registers,
                },
            }
        }
        Change::Bookmark { revision } => Told::Passed { revision: revision.0 },
    }
}

fn registers<'a>(resources: impl Iterator<Item = &'a Resource>, model: &ModelName) -> BTreeMap<String, u64> {
    let held = |alias: &AliasRecord| Some((alias.alias.to_string(), alias.reason.parse().ok()?));
    let of_model = resources.filter_map(|resource| match resource {
        Resource::Alias(alias) if alias.model == *model => held(alias),
        _ => None,
    });
    of_model.collect()
}
