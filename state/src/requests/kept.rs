//! An answer as it is kept: its bytes, in little room.
//!
//! There may be a million of them. Nearly all say no more than "done, at this revision", which fits where a pointer to a
//! box would stand; a long one is boxed.
//! Invariant: what two builds may word otherwise is in the bytes, for whoever asks again, and not in [`Kept::hashed`].

use std::{borrow::Cow, fmt};

use crate::{
    codec::{self, FORMAT, REFUSAL_FORMAT},
    rejection::Rejection,
    reply::Reply,
};

/// Bytes that are kept without a box. With them a kept answer has the size of the smallest box.
const INLINE: usize = 22;
/// How the bytes of a refusal begin whose texts are not hashed: the first field, and its value.
const WITHOUT_TEXTS: [u8; 2] = [8, REFUSAL_FORMAT.to_le_bytes()[0]];

/// The encoded outcome of a request.
#[derive(Clone)]
pub(crate) enum Kept {
    /// The first so many of the bytes.
    Inline(u8, [u8; INLINE]),
    /// More than fit.
    Boxed(Box<[u8]>),
}

impl Kept {
    /// Encodes an outcome, all of which is hashed.
    pub(crate) fn of(outcome: &Result<Reply, Rejection>) -> Self {
        Self::encode(outcome, FORMAT)
    }

    /// Encodes an outcome; of a refusal the texts are not hashed.
    pub(crate) fn settled(outcome: &Result<Reply, Rejection>) -> Self {
        match outcome {
            Ok(_) => Self::of(outcome),
            Err(_) => Self::encode(outcome, REFUSAL_FORMAT),
        }
    }

    fn encode(outcome: &Result<Reply, Rejection>, format: u32) -> Self {
        let bytes = codec::encode_answer(outcome, format);
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

    /// What of it is in the integrity hash: all but the texts of a refusal that was kept so.
    pub(crate) fn hashed(&self) -> Cow<'_, [u8]> {
        if !self.bytes().starts_with(&WITHOUT_TEXTS) {
            return Cow::Borrowed(self.bytes());
        }
        let bare = self.outcome().map_err(|refused| refused.without_texts());
        Cow::Owned(codec::encode_answer(&bare, REFUSAL_FORMAT))
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
