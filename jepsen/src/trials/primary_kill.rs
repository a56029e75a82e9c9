//! `primary-kill`: SIGKILL to the agent that holds `primaries/global`, counted from just before the signal to the first write
//! under the next holder's token that was accepted, by a client in the next holder's region.
//!
//! From before the kill until the killed node is back, writes under the old token go on at every door.

use anyhow::Context as _;
use chaos::{Fault, Injector, Part, Target};
use client::guard::BootInstant;
use serde::Serialize;
use types::Epoch;

use super::{
    Report, Run, in_directory,
    report::{Setting, Stale, Trial},
    stage::{self, Stage},
    stale::Zombie,
    wan::Measured,
    writer::since_boot,
};
use crate::world::World;

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Killed {
    /// Counted from 1.
    trial: u32,
    /// The region that held the role.
    killed: String,
    /// The region that wrote next.
    next: String,
    /// The epoch that was over, and the next that was written under.
    from_epoch: Epoch,
    to_epoch: Epoch,
    /// From just before the kill to the first accepted write.
    seconds: f64,
    /// Of that, until the next holder gave its region's client a token.
    seconds_to_token: f64,
    /// What is allowed.
    limit_seconds: f64,
    /// Since the next holder's token.
    #[serde(flatten)]
    stale: Stale,
}

impl Trial for Killed {
    fn seconds(&self) -> f64 {
        self.seconds
    }
    fn limit_seconds(&self) -> f64 {
        self.limit_seconds
    }
    fn stale(&self) -> Option<Stale> {
        Some(self.stale)
    }
    fn line(&self) -> String {
        format!(
            "{:>3}  {:.3} s  {} killed, {} wrote next ({} to {}); {} stale writes tried, {} accepted",
            self.trial,
            self.seconds,
            self.killed,
            self.next,
            self.from_epoch,
            self.to_epoch,
            self.stale.attempted,
            self.stale.accepted
        )
    }
}

/// Kills the primary again and again.
pub(crate) async fn primary_kill(run: &Run) -> anyhow::Result<Report<Killed>> {
    in_directory(|dir| async { Box::pin(play(run, World::found(run.world(dir)?).await?)).await }).await
}

async fn play(run: &Run, world: World) -> anyhow::Result<Report<Killed>> {
    let stage = Box::pin(Stage::set(run, world)).await?;
    let mut trials = Vec::new();
    for trial in 1..=run.trials {
        let one = Box::pin(kill_once(&stage, run, trial)).await?;
        tracing::info!(
            trial,
            seconds = one.seconds,
            accepted = one.stale.accepted,
            "trial"
        );
        trials.push(one);
    }
    let whole = stage.whole().await?;
    stage.end().await?;
    let setting = Setting {
        fault: "primary-kill",
        policy: Some(run.policy.as_str()),
        limit: "the policy's, on one machine; 8 s between regions that are far apart".to_owned(),
        round_trips: Measured::of(run.round_trips, whole.round_trips()),
    };
    Ok(Report::of(setting, trials))
}

async fn kill_once(stage: &Stage, run: &Run, trial: u32) -> anyhow::Result<Killed> {
    let before = stage.whole().await?;
    let (region, old) = (before.holder.region.clone(), before.epoch);
    let zombie = Box::pin(Zombie::start(&stage.world, &region, old, &stage.version, None)).await?;
    let kill = Fault::Kill {
        target: Target::Process {
            region: region.clone(),
            part: Part::Agent,
        },
    };
    let injector = Injector::new(&stage.world);
    let far = run.round_trips.is_some();
    if far {
        zombie.spare_own_store()?;
    }
    let began = since_boot(BootInstant::now());
    let installed = injector.install(&kill).await?;
    let first = stage
        .journal
        .find("a write under the next epoch", |said| {
            stage::first_accepted(said, |epoch| epoch > old)
        })
        .await?;
    let token = stage::token_of(&stage.journal.said(), first.epoch);
    let (at, wall) = token.context("a write under an epoch of which nobody was given a token")?;
    if far {
        zombie.go_on()?;
    }
    injector.prove(&installed).await?;
    injector.heal(installed).await?;
    stage.whole().await?;
    Ok(Killed {
        trial,
        killed: region.to_string(),
        next: first.said.region.to_string(),
        from_epoch: old,
        to_epoch: first.epoch,
        seconds: (first.ended.saturating_sub(began)).as_secs_f64(),
        seconds_to_token: (at.saturating_sub(began)).as_secs_f64(),
        limit_seconds: run.policy.limit(far).as_secs_f64(),
        stale: zombie.end(old, wall).await?,
    })
}
