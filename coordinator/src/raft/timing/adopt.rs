//! Changes by which timing this node goes.
//!
//! Invariant: written to `node.json` before it counts, so that a restart goes on with it.

use std::time::Duration;

use policy::timing as decide;
use proto::raft_v1 as pb;
use tokio::time::Instant;
use tracing::{error, info};
use types::election::TimingSetting;

use super::{
    super::{RaftNode, config::RaftTiming, openraft_config},
    measure::timing_in,
};

/// After a change that failed, before the next try of it: the leader finds many times a second whose turn it is, also its own.
const TRIES_AGAIN: Duration = Duration::from_secs(5);

/// What stands in the way of another change of timing.
#[derive(Debug, Default)]
pub(crate) struct Adopting {
    /// When the last one failed, if it did.
    failed: Option<Instant>,
}

impl RaftNode {
    /// By which timing this node goes now.
    pub(crate) fn timing(&self) -> RaftTiming {
        self.in_force().get()
    }

    /// What the log says of it, as far as it is applied here, and since which revision.
    pub(crate) fn timing_setting(&self) -> Option<(TimingSetting, u64)> {
        self.read(|state| {
            let cluster = state.cluster()?;
            Some((cluster.elections.timing.clone()?, cluster.modified.0))
        })
    }

    /// The leader says that it is this node's turn. Where it leads by now, or has not applied the setting of that revision
    /// yet, nothing happens: the leader sees that, and says it again.
    pub(crate) fn adopt_in_turn(&self, revision: u64, from: u64, told: Option<pb::ElectionTiming>) {
        let timing = match self.is_witness() {
            true => self.told_timing(from, told),
            false => self
                .timing_setting()
                .and_then(|(setting, modified)| (modified >= revision).then_some(setting.timing)),
        };
        let Some(timing) = timing else {
            return;
        };
        if timing == self.timing() || self.leadership().borrow().is_leader {
            return;
        }
        let node = self.clone();
        // Not cancelled half-way: the node would be left without a Raft that could be shut down.
        self.spawn_to_its_end(async move { node.adopt(timing, false).await });
    }

    /// A witness has no state in which it could look: it goes by what the leader says that it follows. Whatever that is, elections
    /// stay safe (docs/protocol/timing.md).
    fn told_timing(&self, from: u64, told: Option<pb::ElectionTiming>) -> Option<RaftTiming> {
        let timing = timing_in(&told?);
        let leads = {
            let leadership = self.leadership_sender().borrow();
            leadership
                .leader
                .as_ref()
                .is_some_and(|leader| leader.raft_id == from)
        };
        (leads && timing.validate().is_ok()).then_some(timing)
    }

    /// Goes on with this timing, as the leader or as one that does not lead, whichever it was its turn as; unless a change is under
    /// way, which is not queued for, or failed a moment ago.
    pub(super) async fn adopt(&self, timing: RaftTiming, leads: bool) {
        let Ok(mut adopting) = self.adopting().try_lock() else {
            return;
        };
        if adopting.failed.is_some_and(|at| at.elapsed() < TRIES_AGAIN) {
            return;
        }
        let adopted = self.go_by(timing, leads).await;
        adopting.failed = adopted.is_err().then(Instant::now);
        if let Err(problem) = adopted
            && !self.stopping().is_cancelled()
            && self.stopped_sender().borrow().is_none()
        {
            error!(problem, "this coordinator could not change its election timing");
        }
    }

    /// Raft is made anew over the same log; a moment long nobody is answered. One at a time.
    async fn go_by(&self, timing: RaftTiming, leads: bool) -> Result<(), String> {
        if timing == self.timing() || self.stopping().is_cancelled() {
            return Ok(());
        }
        let config = openraft_config(self.config(), &timing, self.acts()).map_err(|e| e.to_string())?;
        let before = self.timing();
        self.remember(timing).await?;
        // The disk may have taken its time: whoever leads says it again, where it still holds. A restart goes by what counts till then.
        let setting = self.timing_setting().map(|(setting, _)| setting.timing);
        let leads_now = self.leadership().borrow().is_leader;
        if !decide::is_still_due(
            &timing,
            setting.as_ref(),
            leads,
            leads_now,
            self.waits(&before, &timing),
        ) {
            return self.remember(before).await;
        }
        self.engine().change(config).await?;
        self.steer_elections();
        self.in_force().set(timing);
        // Keep-alive and time-outs of a connection were set when it was made.
        self.connections().redial();
        info!(%timing, "election timing");
        Ok(())
    }

    /// Writes down by which one a restart goes.
    async fn remember(&self, timing: RaftTiming) -> Result<(), String> {
        let identity = self.identity().clone();
        let written = tokio::task::spawn_blocking(move || identity.remember_timing(&timing)).await;
        written
            .map_err(|e| e.to_string())?
            .map_err(|e| format!("node.json: {e}"))
    }
}
