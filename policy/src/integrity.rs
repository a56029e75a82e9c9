//! Whether a replica's state is what the others' is: a comparison of hashes at one revision of the log.
//!
//! Every voter judges itself by what all voters say, so a leader is judged as anyone else, and nobody's state decides by
//! whom it is believed.
//! Absent on purpose: how the hash is made (`state`), and what a replica does that differs (coordinator).
//! Invariant: a replica is called different only if a majority of all voters has another state; and no hash counts
//! that its voter did not say of this very revision.

use std::collections::BTreeMap;

use types::{NodeId, Revision};

/// What a replica makes of the hashes at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// A majority of the voters has the same.
    Agrees,
    /// Too few have answered for a majority, and what they say gives no reason to doubt this replica.
    Open,
    /// Too few have answered for a majority, and another state has at least as many voters as this one.
    Doubt {
        /// Who has that state, if it has more voters than this one; in the order of their names.
        rather: Vec<NodeId>,
    },
    /// A majority has another state.
    Differs {
        /// Who has it, in the order of their names.
        majority: Vec<NodeId>,
    },
    /// Whatever those say who have not answered: there is no majority. Nobody can say which state is the log's.
    NoMajority,
}

/// Judges a replica by its own hash and what voters said of the same revision. `said` holds those that answered, this one
/// too if it votes; `voters` is how many there are in all, this one included if it votes.
pub fn judge<H: Ord>(own: &H, said: &BTreeMap<NodeId, H>, voters: usize) -> Integrity {
    let mut counts: BTreeMap<&H, usize> = BTreeMap::new();
    for hash in said.values() {
        *counts.entry(hash).or_default() += 1;
    }
    let mine = counts.remove(own).unwrap_or(0);
    let (other, theirs) = match counts.into_iter().max_by_key(|(_, count)| *count) {
        Some((other, theirs)) => (Some(other), theirs),
        None => (None, 0),
    };
    let who = || said.iter().filter(|(_, hash)| Some(*hash) == other);
    let who = || who().map(|(node, _)| node.clone()).collect();
    let (majority, silent) = (voters / 2 + 1, voters.saturating_sub(said.len()));
    if mine >= majority {
        Integrity::Agrees
    } else if theirs >= majority {
        Integrity::Differs { majority: who() }
    } else if voters == 0 {
        Integrity::Open
    } else if mine.max(theirs) + silent < majority {
        Integrity::NoMajority
    } else if other.is_none() || theirs < mine {
        Integrity::Open
    } else {
        let rather = if theirs > mine { who() } else { Vec::new() };
        Integrity::Doubt { rather }
    }
}

/// What voters said of their states, by revision.
pub type Said<H> = BTreeMap<NodeId, BTreeMap<Revision, H>>;

/// Judges a replica at every revision of which it knows its own hash, and says what counts, with the revision: of verdicts
/// that are final the newest, unless it is that the replica agrees and a newer one doubts it.
pub fn weigh<H: Ord + Clone>(
    own: &BTreeMap<Revision, H>,
    said: &Said<H>,
    voters: usize,
) -> Option<(Revision, Integrity)> {
    let mut doubted = None;
    for (revision, hash) in own.iter().rev() {
        let verdict = judge(hash, &at(said, *revision), voters);
        match verdict {
            Integrity::Open => {}
            Integrity::Doubt { .. } => doubted = doubted.or(Some((*revision, verdict))),
            Integrity::Agrees => return doubted.or(Some((*revision, verdict))),
            Integrity::Differs { .. } | Integrity::NoMajority => return Some((*revision, verdict)),
        }
    }
    doubted
}

/// What each voter said of one revision.
pub fn at<H: Clone>(said: &Said<H>, revision: Revision) -> BTreeMap<NodeId, H> {
    let of = |(node, hashes): (&NodeId, &BTreeMap<Revision, H>)| {
        Some((node.clone(), hashes.get(&revision)?.clone()))
    };
    said.iter().filter_map(of).collect()
}
