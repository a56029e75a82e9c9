//! Which feature level a cluster may be raised to.
//!
//! Absent on purpose: what the levels mean (`state::features`), and how voters are asked.
//! Invariant: no level is named that some voter did not say its build knows.

use std::collections::BTreeMap;

use types::NodeId;

/// What the leader does about the level now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextLevel {
    /// Nothing: it is as high as the leader's own build knows.
    Stay,
    /// Every voter's build knows this level.
    Raise(u32),
    /// These voters gave no answer, or their builds know less than the leader's.
    Wait(Vec<NodeId>),
}

/// The next level of a cluster at `current` whose leader's build knows levels up to `supported`. `voters` are all of them,
/// with what each just said that its build knows; `None`: it could not be asked, and may be of any build.
pub fn next_level(current: u32, supported: u32, voters: &BTreeMap<NodeId, Option<u32>>) -> NextLevel {
    if current >= supported {
        return NextLevel::Stay;
    }
    let common = voters
        .values()
        .try_fold(supported, |lowest, said| Some(lowest.min((*said)?)));
    if let Some(level) = common.filter(|level| *level > current) {
        return NextLevel::Raise(level);
    }
    let behind = |said: Option<u32>| said.is_none_or(|level| level < supported);
    let behind = voters.iter().filter(|(_, said)| behind(**said));
    NextLevel::Wait(behind.map(|(node, _)| node.clone()).collect())
}
