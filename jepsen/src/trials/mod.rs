//! Trials: one fault again and again on one cluster of real processes, and how long the next write took, every value of it.
//!
//! Each trial begins when the cluster is whole again ([`crate::whole`]). With round trips the five regions are as far from each other
//! as on the globe ([`wan`]), and nobody says how fast elections are.
//! Reading order: [`report`] (what is judged; pure), [`leader_kill`], [`primary_kill`], [`transfer`]; then who writes in a region
//! ([`writer`], a process of its own, and [`journal`], what became of its writes) and who goes on under an old token ([`stale`]).
//! Absent on purpose: judging histories; that is a suite's.

mod journal;
mod leader_kill;
mod policy;
mod primary_kill;
mod report;
mod stage;
mod stale;
mod transfer;
mod wan;
pub(crate) mod writer;

use std::{future::Future, path::PathBuf, time::Duration};

use anyhow::Context as _;

pub(crate) use leader_kill::leader_kill;
pub(crate) use policy::Policy;
pub(crate) use primary_kill::primary_kill;
pub(crate) use report::{Report, Trial};
pub(crate) use transfer::transfer;
pub(crate) use wan::RoundTrips;

use crate::world::{self, Net};

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The executable under test.
    pub(crate) regent: PathBuf,
    /// How many trials.
    pub(crate) trials: u32,
    /// How a primary's absence becomes a promotion.
    pub(crate) policy: Policy,
    /// Between regions; none: three regions on one machine.
    pub(crate) round_trips: Option<RoundTrips>,
}

impl Run {
    /// Between two regions; nothing on one machine.
    fn longest_round_trip(&self) -> Duration {
        self.round_trips.map(RoundTrips::longest).unwrap_or_default()
    }

    /// The cluster that it is played on.
    fn world(&self, dir: PathBuf) -> anyhow::Result<world::Plan> {
        let regions = wan::regions(self.round_trips.as_ref())?;
        Ok(world::Plan {
            regent: self.regent.clone(),
            dir,
            net: self
                .round_trips
                .map_or(Net::Loopback, |asked| Net::Relays(asked.distances())),
            regions,
            bug: None,
            has_small_disks: false,
            has_shims: false,
            forgets: None,
        })
    }
}

/// Plays in a directory of its own, which is removed unless the harness failed or a bound was not kept.
async fn in_directory<T: Trial, F>(play: impl FnOnce(PathBuf) -> F) -> anyhow::Result<Report<T>>
where
    F: Future<Output = anyhow::Result<Report<T>>>,
{
    let dir = std::env::temp_dir().join(format!("regent-trials-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir_all(&dir)?;
    tracing::info!(dir = %dir.display(), "trials begin");
    let played = Box::pin(play(dir.clone())).await;
    let played = played.with_context(|| format!("the trials in {}", dir.display()))?;
    if played.holds() {
        std::fs::remove_dir_all(&dir)?;
    } else {
        tracing::error!(dir = %dir.display(), "a bound was not kept; what every process wrote is kept");
    }
    Ok(played)
}
