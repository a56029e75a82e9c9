//! What trials of primaries are played on: a whole cluster under a policy, with a model, and a writer at work in every region.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use types::{Epoch, ModelName, NodeId, RegionId, RoleName, VersionKey};

use super::{
    Run,
    journal::{Journal, Said},
    stale,
    writer::Line,
};
use crate::{
    whole::{self, Door, Standing, Whole},
    world::World,
};

/// The model whose tag is written, and whose version agents are told to serve.
const MODEL: &str = "trials.digits";
/// How long a coordinator may take to say how it is.
const ATTEMPT: Duration = Duration::from_secs(1);

/// What a write may take on a busy machine, and more over a distance: one round trip to the leader, and one from there to the second
/// nearest coordinator. A writer asks for the token for so long.
const WRITE: Duration = Duration::from_millis(200);

/// A cluster with writers.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) journal: Journal,
    pub(super) version: VersionKey,
    /// For how long writers ask for their token.
    pub(super) token_for: Duration,
    doors: Vec<Door>,
}

impl Stage {
    /// Sets it up.
    pub(super) async fn set(run: &Run, world: World) -> anyhow::Result<Self> {
        let doors = whole::doors(&world, ATTEMPT)?;
        whole::whole(&world, &doors).await?;
        let (admin, timing) = (world.admin()?, run.policy.timing());
        admin.set_timing(&timing).await?;
        admin.set_role_timing(&RoleName::global(), &timing).await?;
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
        world.push(MODEL, &sample).await?;
        let model = ModelName::new(MODEL)?;
        let token_for = WRITE + run.longest_round_trip() * 2;
        Ok(Self {
            journal: Journal::start(&world, &model, token_for).await?,
            token_for,
            version: stale::version(&model),
            doors,
            world,
        })
    }

    /// Waits until all is well and the holder's own writer has written under its token.
    pub(super) async fn whole(&self) -> anyhow::Result<Whole> {
        let whole = whole::whole(&self.world, &self.doors).await?;
        self.journal.forget();
        let what = format!("a write of {} under {}", whole.holder, whole.epoch);
        let epoch = whole.epoch;
        self.journal
            .find(&what, |said| first_accepted(said, |of| of == epoch).map(drop))
            .await?;
        Ok(whole)
    }

    /// The same, once leadership was handed to the coordinator of a region. Where another one wins in the end, that one leads.
    pub(super) async fn whole_led_by(&self, region: &RegionId) -> anyhow::Result<Whole> {
        let whole = self.whole().await?;
        let is_there = |s: &&Standing| s.region == region.as_str();
        if is_there(&&whole.statuses[whole.leader]) {
            return Ok(whole);
        }
        let to = whole.statuses.iter().find(is_there);
        let to = to.with_context(|| format!("{region} has no coordinator"))?;
        let to = NodeId::new(to.node.as_str())?;
        match self.world.admin()?.transfer_leadership(Some(&to), false).await {
            Ok(moved) => tracing::info!(from = moved.from, leader = moved.leader, "leadership was moved"),
            Err(refusal) => tracing::warn!(%to, "leadership was not moved: {refusal}"),
        }
        self.whole().await
    }

    /// Ends everything.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.journal.end().await?;
        self.world.stop().await
    }
}

/// A write that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) said: Said,
    /// Since boot.
    pub(super) begun: Duration,
    /// Since boot.
    pub(super) ended: Duration,
    pub(super) epoch: Epoch,
}

/// All writes that were taken.
pub(super) fn accepted(said: &[Said]) -> impl Iterator<Item = Accepted> {
    said.iter().filter_map(|said| match said.line {
        Line::Write {
            begun,
            ended,
            epoch,
            accepted: true,
            ..
        } => Some(Accepted {
            said: said.clone(),
            begun,
            ended,
            epoch,
        }),
        Line::Write { .. } | Line::Token { .. } => None,
    })
}

/// Of those, the first to be answered under such an epoch.
pub(super) fn first_accepted(said: &[Said], of: impl Fn(Epoch) -> bool) -> Option<Accepted> {
    accepted(said)
        .filter(|write| of(write.epoch))
        .min_by_key(|write| write.ended)
}

/// When a writer was first given a token of this epoch: since boot, and since 1970.
pub(super) fn token_of(said: &[Said], of: Epoch) -> Option<(Duration, Duration)> {
    said.iter().find_map(|said| match said.line {
        Line::Token { at, wall, epoch } if epoch == of => Some((at, wall)),
        Line::Token { .. } | Line::Write { .. } => None,
    })
}
