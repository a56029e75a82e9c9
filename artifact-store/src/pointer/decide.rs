//! The rule of the door (L14): what a holder may do with the pointer that it just read. Pure.

use types::{
    Digest, Epoch, FencingToken, Lineage, RoleName,
    epoch::{Holder, Incomparable, Outranked},
};

use super::PointerBody;
use crate::{Condition, ETag};

/// A pointer as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointed {
    /// The body.
    pub body: PointerBody,
    /// The state that a write must still find.
    pub etag: ETag,
}

/// What a write is to change. The epoch, holder, sequence and nonce follow from the token and the read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointerChange {
    /// Raise the epoch and keep the rest: a claim (L15).
    Keep,
    /// Point at an artifact; ends a tombstone.
    Target(Digest),
    /// Take the pointer out of use, target and all. Deleting it would forget the epoch.
    Tombstone,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write this body under this condition.
    Write(PointerBody, Condition),
    /// Write nothing.
    Refuse(Refusal),
}

/// Why a token may not write. Each names what was shown, what is current, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The door has accepted a higher epoch.
    #[error(
        "stale epoch: {shown} was shown for {role}, current is {current}, held by {holder}: stop writing"
    )]
    StaleEpoch {
        /// The role that guards the pointer.
        role: RoleName,
        /// The epoch of the writer's token.
        shown: Epoch,
        /// The epoch of the body.
        current: Epoch,
        /// Who wrote the body.
        holder: Holder,
    },
    /// The door has accepted this epoch from someone else (I5).
    #[error("{shown} was shown for {role} by {shown_by}, but {holder} holds {current}: stop writing")]
    OtherHolder {
        /// The role that guards the pointer.
        role: RoleName,
        /// The epoch of the writer's token.
        shown: Epoch,
        /// The writer.
        shown_by: Holder,
        /// The epoch of the body, equal to `shown`.
        current: Epoch,
        /// Who wrote the body.
        holder: Holder,
    },
    /// Another cluster's pointer; its epochs cannot be compared.
    #[error(transparent)]
    Incomparable(#[from] Incomparable),
}

/// What `mine` may write over what was read. `nonce` is new for each attempt. A body of a cluster that `lineage` says is over may be
/// taken over by the cluster that goes on from it, and by no other (L19).
pub fn decide(
    read: Option<&Pointed>,
    mine: &FencingToken,
    lineage: &Lineage,
    change: &PointerChange,
    nonce: &str,
) -> Decision {
    let Some(Pointed { body, etag }) = read else {
        return Decision::Write(next(None, mine, change, nonce), Condition::Absent);
    };
    match refusal(body, mine, lineage) {
        Some(refusal) => Decision::Refuse(refusal),
        None => Decision::Write(
            next(Some(body), mine, change, nonce),
            Condition::Matches(etag.clone()),
        ),
    }
}

fn refusal(body: &PointerBody, mine: &FencingToken, lineage: &Lineage) -> Option<Refusal> {
    // Of a cluster that ended: its epochs are below those of the one that goes on, or it was not the one that ended.
    let standing = match lineage.takes_over(mine.cluster_id, body.cluster_id) {
        true => FencingToken {
            cluster_id: mine.cluster_id,
            ..body.token()
        },
        false => body.token(),
    };
    let outranked = match mine.outranked_by(&standing) {
        Ok(outranked) => outranked?,
        Err(incomparable) => return Some(incomparable.into()),
    };
    let (role, shown, current, holder) = (mine.role.clone(), mine.epoch, body.epoch, body.holder.clone());
    Some(match outranked {
        Outranked::ByEpoch => Refusal::StaleEpoch {
            role,
            shown,
            current,
            holder,
        },
        Outranked::ByHolder => Refusal::OtherHolder {
            role,
            shown,
            shown_by: mine.holder.clone(),
            current,
            holder,
        },
    })
}

fn next(old: Option<&PointerBody>, mine: &FencingToken, change: &PointerChange, nonce: &str) -> PointerBody {
    let kept = || {
        (
            old.and_then(|body| body.target),
            old.is_some_and(|body| body.tombstone),
        )
    };
    let (target, tombstone) = match change {
        PointerChange::Keep => kept(),
        PointerChange::Target(digest) => (Some(*digest), false),
        PointerChange::Tombstone => (None, true),
    };
    PointerBody {
        cluster_id: mine.cluster_id,
        role: mine.role.clone(),
        epoch: mine.epoch,
        holder: mine.holder.clone(),
        sequence: old.map_or(0, |body| body.sequence) + 1,
        nonce: nonce.to_owned(),
        target,
        tombstone,
    }
}
