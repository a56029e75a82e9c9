//! `leader-kill`: SIGKILL to the coordinator that leads, counted from just before the signal to the first write that any
//! other coordinator acknowledged.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use chaos::{Fault, Injector, Part, Target};
use futures::future::select_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use types::{ModelName, RegionId, model::Placement};

use super::{
    Report, Run, in_directory,
    report::{Setting, Trial},
    wan::Measured,
};
use crate::{
    whole::{Door, doors, whole},
    world::World,
};

/// The model whose tag is written.
const MODEL: &str = "trials.writes";
/// How long one attempt to write may take before the next begins, and twice the longest round trip more.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Between two attempts at one coordinator: far below what is measured.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a write may take to be acknowledged at all.
const PATIENCE: Duration = Duration::from_secs(120);

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Killed {
    /// Counted from 1.
    trial: u32,
    /// Who led and was killed.
    leader: String,
    /// From just before the kill to the first acknowledged write.
    seconds: f64,
    /// Who acknowledged it.
    accepted_by: String,
    /// The longest election timeout of the killed leader then.
    election_timeout_max_seconds: f64,
}

impl Trial for Killed {
    fn seconds(&self) -> f64 {
        self.seconds
    }
    fn limit_seconds(&self) -> f64 {
        3.0 * self.election_timeout_max_seconds
    }
    fn line(&self) -> String {
        format!(
            "{:>3}  {:.3} s  {} killed, {} took it",
            self.trial, self.seconds, self.leader, self.accepted_by
        )
    }
}

/// Kills the leader again and again.
pub(crate) async fn leader_kill(run: &Run) -> anyhow::Result<Report<Killed>> {
    in_directory(|dir| async { Box::pin(play(run, World::found(run.world(dir)?).await?)).await }).await
}

async fn play(run: &Run, world: World) -> anyhow::Result<Report<Killed>> {
    let attempt = ATTEMPT + run.longest_round_trip() * 4;
    let doors = doors(&world, attempt)?;
    let model = ModelName::new(MODEL)?;
    let mut measured = whole(&world, &doors).await?;
    let created = world.admin()?;
    let created = created.create_model(&model, "", BTreeMap::new(), &Placement::Everywhere);
    created.await?;
    let mut trials = Vec::new();
    for trial in 1..=run.trials {
        let one = Box::pin(kill_once(&world, &doors, &model, trial)).await?;
        tracing::info!(trial, seconds = one.seconds, "trial");
        trials.push(one);
        measured = whole(&world, &doors).await?;
    }
    world.stop().await?;
    let setting = Setting {
        fault: "leader-kill",
        policy: None,
        limit: "three times the longest election timeout".to_owned(),
        round_trips: Measured::of(run.round_trips, measured.round_trips()),
    };
    Ok(Report::of(setting, trials))
}

async fn kill_once(world: &World, doors: &[Door], model: &ModelName, trial: u32) -> anyhow::Result<Killed> {
    let whole = whole(world, doors).await?;
    let leader = &whole.statuses[whole.leader];
    let region: RegionId = leader.region.parse()?;
    let kill = Fault::Kill {
        target: Target::Process {
            region,
            part: Part::Coordinator,
        },
    };
    let injector = Injector::new(world);
    let others = doors.iter().enumerate().filter(|(i, _)| *i != whole.leader);
    let began = Instant::now();
    let installed = injector.install(&kill).await?;
    let writes = others.map(|(i, door)| Box::pin(written(door, model, trial, i)));
    let (accepted, _, rest) = select_all(writes).await;
    let seconds = began.elapsed().as_secs_f64();
    drop(rest);
    let accepted = accepted?;
    injector.prove(&installed).await?;
    injector.heal(installed).await?;
    Ok(Killed {
        trial,
        leader: leader.node.clone(),
        seconds,
        accepted_by: whole.statuses[accepted].node.clone(),
        election_timeout_max_seconds: leader.timing.election_max.as_secs_f64(),
    })
}

/// Writes at one coordinator until it acknowledges one, also as the one that hands the write on to a leader.
async fn written(door: &Door, model: &ModelName, trial: u32, index: usize) -> anyhow::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let tags = BTreeMap::from([("trial".to_owned(), trial.to_string())]);
        let write = door.client.set_model_tags(model, tags, Vec::new(), None, None);
        if Box::pin(write).await.is_ok() {
            return Ok(index);
        }
        if Instant::now() >= deadline {
            bail!("no write was taken within {PATIENCE:?}");
        }
        sleep(PAUSE).await;
    }
}
