//! The integrity hash: one number over the whole state, kept up to date as records come and go.
//!
//! It is a sum modulo 2^256 of one SHA-256 per record, over the number of the record's table and its canonical bytes (the
//! protobuf of `proto/log.proto`: fields in the order of their numbers, defaults left out, maps in key order). A change
//! costs one SHA-256 of the new record and an addition, however large the state is; the order of changes does not matter,
//! so replicas that came to equal states on different ways (by the log, by a snapshot) have equal hashes.
//!
//! It finds replicas that differ by mistake: a damaged memory or disk, a build that applies an entry otherwise. Against
//! somebody who chooses records so that their sums collide, a sum of hashes is weaker than a hash of sums (a generalised
//! birthday attack); who can choose records freely may write the state anyway, so nothing here relies on it.

use std::fmt;

use types::{Digest, digest::DigestHasher};

/// What a table needs of its records.
pub(crate) trait Record<K> {
    /// The table's number in the hash: that of its field in `log.proto`'s `Snapshot`. Never used again for another.
    const TABLE: u8;

    /// Appends the canonical bytes, which say the key too. Other records have other bytes.
    fn canonical(&self, key: &K, out: &mut Vec<u8>);
}

/// The hash of one record of a table.
pub(crate) fn of_record<K, V: Record<K>>(key: &K, value: &V) -> Sum {
    let mut bytes = Vec::with_capacity(256);
    value.canonical(key, &mut bytes);
    of_bytes(V::TABLE, &bytes)
}

/// The hash of canonical bytes.
pub(crate) fn of_bytes(table: u8, bytes: &[u8]) -> Sum {
    let mut hasher = DigestHasher::new();
    hasher.update(&[table]);
    hasher.update(bytes);
    Sum::of(&hasher.finish())
}

/// A number modulo 2^256, in four words, the lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum([u64; 4]);

impl Sum {
    fn of(digest: &Digest) -> Self {
        let mut words = [0; 4];
        let (chunks, _) = digest.as_bytes().as_chunks::<8>();
        for (word, bytes) in words.iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(words)
    }

    /// Adds what came.
    pub(crate) fn add(&mut self, other: Self) {
        let mut carry = false;
        for (word, other) in self.0.iter_mut().zip(other.0) {
            let (sum, over) = word.overflowing_add(other);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, over || over_again);
        }
    }

    /// Takes away what went.
    pub(crate) fn subtract(&mut self, other: Self) {
        let mut borrow = false;
        for (word, other) in self.0.iter_mut().zip(other.0) {
            let (rest, under) = word.overflowing_sub(other);
            let (rest, under_again) = rest.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (rest, under || under_again);
        }
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (place, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// The hash of a whole state: equal for equal states. 32 bytes; 64 hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateHash([u8; 32]);

impl StateHash {
    /// The 32 bytes, as they stand in snapshots.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes the bytes that [`Self::as_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Sum> for StateHash {
    fn from(sum: Sum) -> Self {
        Self(sum.to_bytes())
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
