//! Rebind statements with their signatures.

use types::{SignedRebind, reason::Refusal};

use super::text;
use crate::v1 as pb;

/// Reads a statement; its text must be the one that is signed.
pub fn rebind(pb: pb::SignedRebind) -> Result<SignedRebind, Refusal> {
    Ok(SignedRebind {
        statement: text("rebind.statement", &pb.statement)?,
        signature: pb.signature,
    })
}

/// Reads those of an answer. One that this release does not understand is passed over: it says nothing to it.
pub fn understood(pb: Vec<pb::SignedRebind>) -> Vec<SignedRebind> {
    pb.into_iter().filter_map(|pb| rebind(pb).ok()).collect()
}

impl From<&SignedRebind> for pb::SignedRebind {
    fn from(rebind: &SignedRebind) -> Self {
        Self {
            statement: rebind.statement.to_string(),
            signature: rebind.signature.clone(),
        }
    }
}
