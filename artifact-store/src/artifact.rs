//! What an artifact is to a store: a digest and a length.

use types::{ByteCount, Digest};

use crate::{ObjectKey, keys};

/// The bytes of one file, named by what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its identity.
    pub digest: Digest,
    /// Its length.
    pub size: ByteCount,
}

impl Artifact {
    /// The key under which it lies in every store.
    pub fn key(&self) -> ObjectKey {
        keys::artifact(&self.digest)
    }
}
