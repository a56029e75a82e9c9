//! An answer as it is kept: its bytes, in little room.
//!
//! There may be a million of them. Nearly all say no more than "done, at this revision", which fits where a pointer to a
//! box would stand; a long one is boxed.

use std::fmt;

use crate::{codec, rejection::Rejection, reply::Reply};

/// Bytes that are kept without a box. With them a kept answer has the size of the smallest box.
const INLINE: usize = 22;

/// The encoded outcome of a request.
#[derive(Clone)]
pub(crate) enum Kept {
    /// The first so many of the bytes.
    Inline(u8, [u8; INLINE]),
    /// More than fit.
    Boxed(Box<[u8]>),
}

impl Kept {
    /// Encodes an outcome.
    pub(crate) fn of(outcome: &Result<Reply, Rejection>) -> Self {
        let bytes = codec::encode_reply(outcome);
        let mut inline = [0; INLINE];
        match (inline.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(&bytes);
                Self::Inline(len, inline)
            }
            _ => Self::Boxed(bytes.into()),
        }
    }

    /// The encoded outcome.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Boxed(bytes) => bytes,
        }
    }

    /// The outcome itself.
    pub(crate) fn outcome(&self) -> Result<Reply, Rejection> {
        codec::decode_reply(self.bytes()).expect("these bytes were encoded by this process")
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}
impl Eq for Kept {}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outcome().fmt(f)
    }
}
