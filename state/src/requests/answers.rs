//! Answered requests by id: in chunks, because there may be a million, and most come and go in the order of their ids.
//!
//! A chunk is a ring of answers in the order of their ids; the map knows a chunk by the first id behind the chunk before it,
//! so an id that comes late and lies between two chunks goes into the later one, which has room. A clone shares all chunks,
//! and a later change copies the one that it touches.
//! Invariant: ids grow within a chunk and from one to the next, no chunk is empty, and `sum` is the sum of the answers' hashes.

use std::{collections::VecDeque, fmt, sync::Arc};

use imbl::OrdMap;
use types::{Digest, RequestId, UnixMillis};

use super::kept::Kept;
use crate::hash::{self, Record, Sum};

/// Answers of a chunk before a next one is begun. Copied whole by the first change after a clone: 20 KB.
const CHUNK: usize = 256;
/// Answers of a chunk before it is split, where late ids came into its middle.
const CHUNK_MAX: usize = 2 * CHUNK;
/// By how many places a full chunk grows for a late id; doubling would waste as much as it holds.
const GROWS_BY: usize = 32;

/// One answered request. 80 bytes; there is a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) id: RequestId,
    /// SHA-256 over caller and command, so that neither can be changed under an id.
    pub(crate) digest: Digest,
    /// State time of the answer.
    pub(crate) at: UnixMillis,
    pub(crate) outcome: Kept,
}

impl Record<RequestId> for Answered {
    const TABLE: u8 = 13;

    /// Plain numbers rather than protobuf: there are more of these than of all others together.
    fn canonical(&self, id: &RequestId, out: &mut Vec<u8>) {
        out.extend_from_slice(&id.to_bytes());
        out.extend_from_slice(self.digest.as_bytes());
        out.extend_from_slice(&self.at.0.to_be_bytes());
        out.extend_from_slice(&self.outcome.hashed());
    }
}

type Chunk = VecDeque<Answered>;

/// All answers that are remembered.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    chunks: OrdMap<RequestId, Arc<Chunk>>,
    len: u64,
    sum: Sum,
}

impl PartialEq for Answers {
    /// Equal answers may be cut into other chunks.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.sum == other.sum && self.iter().eq(other.iter())
    }
}
impl Eq for Answers {}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Answers {
    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The answer of an id.
    pub(crate) fn get(&self, id: RequestId) -> Option<&Answered> {
        let (_, chunk) = self.chunks.get_prev(&id)?;
        let at = place(chunk, id).ok()?;
        chunk.get(at)
    }

    /// The oldest id's.
    pub(crate) fn first(&self) -> Option<&Answered> {
        self.chunks.get_min().and_then(|(_, chunk)| chunk.front())
    }

    /// All, in the order of their ids.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Answered> {
        self.chunks.values().flat_map(|chunk| chunk.iter())
    }

    /// Keeps an answer; false, and nothing is changed, where its id has one.
    pub(crate) fn insert(&mut self, answered: Answered) -> bool {
        let hash = hash::of_record(&answered.id, &answered);
        let inserted = self.put(answered);
        if inserted {
            self.len += 1;
            self.sum.add(hash);
        }
        inserted
    }

    fn put(&mut self, answered: Answered) -> bool {
        let id = answered.id;
        let Some(key) = self.chunk_of(id) else {
            self.begin(id, answered);
            return true;
        };
        let Some(chunk) = self.chunks.get_mut(&key) else {
            return false;
        };
        let Err(at) = place(chunk, id) else {
            return false;
        };
        if at >= CHUNK && at == chunk.len() {
            let key = behind(chunk).unwrap_or(id);
            self.begin(key, answered);
            return true;
        }
        let chunk = Arc::make_mut(chunk);
        if chunk.len() == chunk.capacity() {
            chunk.reserve_exact(GROWS_BY);
        }
        chunk.insert(at, answered);
        if chunk.len() >= CHUNK_MAX {
            let later = chunk.split_off(CHUNK);
            chunk.shrink_to_fit();
            if let Some(key) = behind(chunk) {
                self.chunks.insert(key, Arc::new(later));
            }
        }
        true
    }

    /// The key of the chunk in which an id belongs: the last that begins at or before it. An id before all others gets the
    /// first chunk, under its own key from now on.
    fn chunk_of(&mut self, id: RequestId) -> Option<RequestId> {
        if let Some((key, _)) = self.chunks.get_prev(&id) {
            return Some(*key);
        }
        let first = self.chunks.get_min().map(|(key, _)| *key)?;
        let chunk = self.chunks.remove(&first)?;
        self.chunks.insert(id, chunk);
        Some(id)
    }

    fn begin(&mut self, key: RequestId, answered: Answered) {
        let mut chunk = Chunk::with_capacity(CHUNK);
        chunk.push_back(answered);
        self.chunks.insert(key, Arc::new(chunk));
    }

    /// Forgets the oldest id's.
    pub(crate) fn pop_first(&mut self) -> Option<Answered> {
        let key = self.chunks.get_min().map(|(key, _)| *key)?;
        let chunk = Arc::make_mut(self.chunks.get_mut(&key)?);
        let first = chunk.pop_front()?;
        if chunk.is_empty() {
            self.chunks.remove(&key);
        }
        self.len -= 1;
        self.sum.subtract(hash::of_record(&first.id, &first));
        Some(first)
    }

    /// The sum of the hashes of all answers.
    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    /// The same, of every answer anew; for tests of the above.
    #[cfg(test)]
    pub(crate) fn sum_from_scratch(&self) -> Sum {
        let mut sum = Sum::default();
        for answered in self.iter() {
            sum.add(hash::of_record(&answered.id, answered));
        }
        sum
    }
}

/// The first id behind all of a chunk.
fn behind(chunk: &Chunk) -> Option<RequestId> {
    let last = chunk.back()?.id.as_u128();
    Some(RequestId::from_u128(last.saturating_add(1)))
}

/// Where an id stands in a chunk, or would.
fn place(chunk: &Chunk, id: RequestId) -> Result<usize, usize> {
    chunk.binary_search_by_key(&id, |answered| answered.id)
}

#[cfg(test)]
mod tests;
