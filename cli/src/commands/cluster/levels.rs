//! Which feature level is on, and which coordinators keep it from rising. Pure: decided as the leader decides it.

use std::collections::BTreeMap;

use policy::features::{NextLevel, next_level};
use serde_json::{Value, json};
use types::NodeId;

use super::verdict::Round;

/// What is known of the level and of the voters' builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Levels {
    /// The level that is on.
    level: u32,
    /// The highest that any voter's build knows, as far as they answer.
    known: u32,
    /// What comes next.
    next: NextLevel,
    /// What each voter's build knows; `None` where it did not say.
    voters: BTreeMap<NodeId, Option<u32>>,
}

/// From what they say of themselves; `None` where nobody answers who votes.
pub(super) fn of(round: &Round) -> Option<Levels> {
    let level = round.best()?.feature_level;
    let members = round.members();
    let mut voters: BTreeMap<NodeId, Option<u32>> = BTreeMap::new();
    for member in members.iter().filter(|m| m.voter) {
        let asked = round.asked.iter().filter_map(|a| a.answer.as_ref().ok());
        let said = asked.filter(|s| s.node == member.node).map(|s| s.supported_level);
        voters.insert(member.node.parse().ok()?, said.max());
    }
    let known = voters.values().flatten().copied().max()?;
    Some(Levels {
        level,
        known,
        next: next_level(level, known, &voters),
        voters,
    })
}

impl Levels {
    /// For programs.
    pub(super) fn document(&self) -> Value {
        let waits_for = self
            .behind()
            .map(|(node, knows)| json!({ "node": node, "supported_level": knows }));
        json!({
            "level": self.level,
            "highest_supported_level": self.known,
            "waits_for": waits_for.collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let Self { level, known, .. } = self;
        match &self.next {
            NextLevel::Stay => format!("feature level {level}: no coordinator's build knows a higher one"),
            NextLevel::Raise(next) => format!(
                "feature level {level}: every voter's build knows level {next}, so a leader of such a build raises it by itself"
            ),
            NextLevel::Wait(_) => {
                let names: Vec<String> = self.behind().map(|(node, knows)| behind(node, knows)).collect();
                format!(
                    "feature level {level}: level {known} waits for {}",
                    names.join(", ")
                )
            }
        }
    }

    fn behind(&self) -> impl Iterator<Item = (&NodeId, Option<u32>)> {
        let behind: &[NodeId] = match &self.next {
            NextLevel::Stay | NextLevel::Raise(_) => &[],
            NextLevel::Wait(behind) => behind,
        };
        let known = |node| self.voters.get(node).copied().flatten();
        behind.iter().map(move |node| (node, known(node)))
    }
}

fn behind(node: &NodeId, knows: Option<u32>) -> String {
    match knows {
        Some(level) => format!("{node} (its build knows levels up to {level})"),
        None => format!("{node} (it does not answer here)"),
    }
}

/// One coordinator's column: the level up to which it has applied the rules, and its build's where that is another.
pub(super) fn cell(feature_level: u32, supported_level: u32) -> String {
    if feature_level == supported_level {
        return feature_level.to_string();
    }
    format!("{feature_level} (knows {supported_level})")
}
