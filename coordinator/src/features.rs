//! The leader's loop over the feature level: asks the voters what their builds know, asks [`policy::features`], proposes.
//!
//! Absent on purpose: decisions, and what the levels switch on (`state::features`).
//! Invariant: the level that is proposed was named by every voter that there is when it is proposed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use policy::features::{NextLevel, next_level};
use state::Command;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;
use types::NodeId;

use crate::{
    api::Api,
    lead::{PROPOSAL, Term},
};

/// How long after one look that left something to wait for comes the next.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a voter has for its answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Raises the level as far as all voters know it, until `shutdown`.
pub(crate) async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    while let Some(mut term) = Term::begin(&api, &shutdown).await {
        let mut behind = Vec::new();
        let looks = async { while look(&mut term, &mut behind).await {} };
        if shutdown.run_until_cancelled(looks).await.is_none() {
            return;
        }
    }
}

/// One look, and the wait for the next. False once this leadership is over.
async fn look(term: &mut Term, behind: &mut Vec<NodeId>) -> bool {
    let wake = Instant::now() + AGAIN;
    let known = |state: &state::ControlState| state.cluster().map(|cluster| cluster.feature_level);
    match term.api.raft.read(known) {
        Some(level) if level < term.api.raft.supported_level() => {
            raise(term, level, behind).await;
            term.rest(wake).await
        }
        // Nobody is asked; a cluster that has no name yet has one at the next entry.
        Some(_) | None => term.next(wake).await,
    }
}

async fn raise(term: &Term, current: u32, behind: &mut Vec<NodeId>) {
    let raft = &term.api.raft;
    let supported = raft.supported_level();
    let asked = raft.supported_by_voters(ANSWER).await;
    match next_level(current, supported, &asked) {
        NextLevel::Stay => {}
        NextLevel::Wait(voters) => tell((current, supported), voters, behind),
        NextLevel::Raise(level) => {
            // Nobody becomes a voter from here on until the level is applied, so nobody who was not asked.
            let Ok(_unchanged) = timeout(PROPOSAL, raft.membership_changes().lock()).await else {
                return;
            };
            let Some(command) = entry(level, &raft.voters(), &asked) else {
                return;
            };
            if term.propose(command).await.is_some() {
                info!(level, "feature level raised");
            }
        }
    }
}

/// The entry that raises the level; none unless those who vote now are those who were asked.
fn entry(
    level: u32,
    voters: &BTreeMap<NodeId, u64>,
    asked: &BTreeMap<NodeId, Option<u32>>,
) -> Option<Command> {
    let same = voters.keys().eq(asked.keys());
    same.then_some(Command::SetFeatureLevel { level })
}

/// Says who holds the level, once for each answer.
fn tell((level, supported): (u32, u32), voters: Vec<NodeId>, behind: &mut Vec<NodeId>) {
    if voters == *behind {
        return;
    }
    let names: Vec<_> = voters.iter().map(NodeId::as_str).collect();
    info!(
        level,
        supported,
        waits_for = names.join(", "),
        "feature level stays"
    );
    *behind = voters;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_votes_now_was_asked() {
        let voters = |names: &str| {
            let names = names.split_whitespace().zip(1..);
            names.map(|(name, id)| (name.parse().unwrap(), id)).collect()
        };
        for (now, asked, is_proposed) in [
            ("a b c", "a b c", true),
            ("a", "a", true),
            ("a b c d", "a b c", false),
            ("a b", "a b c", false),
            ("a b d", "a b c", false),
            ("a", "", false),
        ] {
            let said: BTreeMap<NodeId, u64> = voters(asked);
            let said = said.into_keys().map(|name| (name, Some(1))).collect();
            let command = entry(1, &voters(now), &said);
            assert_eq!(command.is_some(), is_proposed, "{now} of {asked}");
        }
    }
}
