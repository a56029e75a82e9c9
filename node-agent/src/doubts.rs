//! Copies in the own store that are called verified, and of which a fetch got wrong bytes, or none.
//!
//! Absent on purpose: the verdict ([`crate::replicate`] reads them again: what a fetch took up from an earlier one may be
//! damaged too). Invariant: while this process runs, a doubt stays until somebody settled it, also where nobody can be told
//! for a while. A restart forgets them all. Where the fetch had failed, the next try doubts again; where the bytes came from
//! elsewhere, the copy is called verified until somebody has to fetch from it again: another agent, or this one once its
//! disk was damaged or emptied.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use types::VersionKey;

/// The doubts; clones share them.
#[derive(Clone, Default)]
pub struct Doubts(Arc<Mutex<BTreeSet<VersionKey>>>);

impl Doubts {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<VersionKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fetch did not get the right bytes out of the own store.
    pub(crate) fn raise(&self, key: &VersionKey) {
        self.lock().insert(key.clone());
    }

    /// The copy was read again, and what was found is known.
    pub(crate) fn settle(&self, key: &VersionKey) {
        self.lock().remove(key);
    }

    /// Keeps those that still matter.
    pub(crate) fn retain(&self, matters: impl Fn(&VersionKey) -> bool) {
        self.lock().retain(|key| matters(key));
    }

    /// Every copy in doubt.
    pub(crate) fn all(&self) -> BTreeSet<VersionKey> {
        self.lock().clone()
    }
}
