//! Follows a new cluster by statements that the CA signed, and says so where there are none (L19).
//!
//! It asks every coordinator that it knows how it is, at the start, whenever one of another cluster answered a call, and once in a
//! while: a cluster that was superseded does not know it.
//! Absent on purpose: which statement lets a door move (`policy::rebind`), and where that is kept ([`crate::door`]).
//! Invariant: no statement goes further than this unless a key of the CA in the own config signed it.

use std::{collections::BTreeSet, time::Duration};

use client::{CaVerifier, Client, Complaint, reach::cluster_of, retry};
use proto::{convert::rebinds, v1 as pb};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use types::{ClusterId, SignedRebind};

use crate::{
    board::Board,
    door::{Door, Met},
    floors::FloorsError,
    metrics::Metrics,
};

/// How long a coordinator may take to say how it is.
const LIMIT: Duration = Duration::from_secs(2);
/// The longest until a cluster that ended is noticed by an agent whose coordinators are all of that one but one.
const EVERY: Duration = Duration::from_secs(60);
/// Between two looks, however often somebody of another cluster answers.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks after the cluster that this agent belongs to.
pub struct Rebinder {
    /// The coordinators.
    pub client: Client,
    /// What is bound.
    pub door: Door,
    /// Who signs.
    pub ca: CaVerifier,
    /// Where it is told that this agent stays with a cluster that nobody may be of any more.
    pub board: watch::Sender<Board>,
    /// The same in numbers.
    pub metrics: Metrics,
}

impl Rebinder {
    /// Looks again and again until `stop`.
    ///
    /// # Errors
    /// What was decided cannot be kept: the process must not go on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), FloorsError> {
        let mut complaint = Complaint::default();
        let mut bound = self.door.lineage();
        loop {
            bound.mark_unchanged();
            let looked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                looked = self.look(&mut complaint) => looked,
            };
            looked?;
            let waited = async {
                tokio::time::sleep(retry::jittered(PAUSE)).await;
                let news = async {
                    tokio::select! {
                        () = self.client.met_stranger() => {}
                        // Bound for the first time: what its cluster goes on from is not known yet.
                        _ = bound.changed() => {}
                    }
                };
                // Whether there are any or the time is over: another look.
                let _ = timeout(retry::jittered(EVERY), news).await;
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = waited => {}
            }
        }
    }

    async fn look(&self, complaint: &mut Complaint) -> Result<(), FloorsError> {
        let said = self.client.every_status(LIMIT).await;
        let met: BTreeSet<ClusterId> = said.iter().filter_map(|(_, status)| cluster_of(status)).collect();
        let verified = self.verified(said.into_iter().map(|(_, status)| status));
        let outcome = self.door.meet(&met, verified).await?;
        if let Some((from, to)) = outcome.followed {
            tracing::warn!(%from, %to, "this agent follows: the CA signed that the new cluster supersedes the old one");
            self.client.belong_to(to);
            self.metrics.followed();
        }
        self.tell(&outcome, complaint);
        Ok(())
    }

    fn verified(&self, said: impl Iterator<Item = pb::GetStatusResponse>) -> Vec<SignedRebind> {
        let mut verified = Vec::new();
        for signed in said.flat_map(|status| rebinds::understood(status.rebinds)) {
            if !signed.is_signed() || verified.contains(&signed) {
                continue;
            }
            if self.ca.verifies(&signed) {
                verified.push(signed);
            } else {
                let said = signed.statement;
                tracing::error!(cluster = %said.cluster, supersedes = %said.supersedes, "a statement is passed on that the CA did not sign");
            }
        }
        verified
    }

    /// Why this agent stays, where others are not of its cluster: for the log once, and for as long as it is so everywhere else.
    fn tell(&self, outcome: &Met, complaint: &mut Complaint) {
        let whys = outcome
            .conflict
            .iter()
            .chain(&outcome.stays)
            .map(ToString::to_string);
        let whys: BTreeSet<String> = whys.collect();
        let text = whys.into_iter().collect::<Vec<_>>().join("; ");
        let stays = outcome.followed.is_none() && is_held_up(outcome);
        self.metrics.stays_behind(stays);
        match complaint.news("", &text) {
            Some(why) if outcome.conflict.is_some() => tracing::error!("{why}"),
            Some(why) if stays => {
                tracing::warn!(
                    "this agent stays with its cluster: {why}; `regent cluster rebind` tells how it is signed"
                );
            }
            Some(why) if !text.is_empty() => tracing::info!("{why}"),
            Some(_) | None => {}
        }
        let shown = stays.then(|| format!("{text}; have it signed by `regent cluster rebind`"));
        self.board.send_if_modified(|board| {
            let changed = board.stays_behind != shown;
            board.stays_behind = shown;
            changed
        });
    }
}

/// Whether somebody was met whom this agent might have to follow. Who belongs to a cluster that it left is no such one.
fn is_held_up(outcome: &Met) -> bool {
    use policy::rebind::Stays;
    let held = |stays: &Stays| match stays {
        Stays::Superseded { .. } => false,
        Stays::Unsigned { .. } | Stays::Generation { .. } | Stays::Conflict { .. } => true,
    };
    outcome.conflict.iter().chain(&outcome.stays).any(held)
}
