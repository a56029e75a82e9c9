//! The integrity hashes of the state at round revisions, for voters to compare.
//!
//! Absent on purpose: the comparison. Which revisions are kept follows from the revision alone, so voters that stand near
//! each other have some in common.

use std::collections::VecDeque;

use state::StateHash;
use types::Revision;

/// A hash is kept of every so many revisions.
pub(crate) const EVERY: u64 = 1_000;
/// How many are kept: a voter that is this far behind is brought up by a snapshot, or compares later ones.
const KEPT: usize = 64;

/// The last hashes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Hashes(VecDeque<(Revision, StateHash)>);

impl Hashes {
    /// Takes note of a state that stands at `revision`, where that is a round one. `hash` is asked for only then.
    pub(crate) fn note(&mut self, revision: Revision, hash: impl FnOnce() -> StateHash) {
        if revision == Revision::default() || !revision.0.is_multiple_of(EVERY) {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((revision, hash()));
    }

    /// All that are kept, oldest first.
    pub(crate) fn all(&self) -> Vec<(Revision, StateHash)> {
        self.0.iter().copied().collect()
    }

    /// Forgets them: the state was replaced.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_revisions_are_kept_and_the_oldest_go_first() {
        let mut hashes = Hashes::default();
        let hash = |n: u8| StateHash::from_bytes([n; 32]);
        for revision in 0..=EVERY * (KEPT as u64 + 2) {
            let round = u8::try_from(revision / EVERY).unwrap();
            hashes.note(Revision(revision), || hash(round));
        }
        let all = hashes.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0], (Revision(3 * EVERY), hash(3)));
        assert!(all.iter().all(|(at, _)| at.0.is_multiple_of(EVERY)));
        hashes.forget();
        assert!(hashes.all().is_empty());
    }
}
