//! The object-store door: one fixed key per role, whose body carries the epoch (design.md L14, L15, I5).
//!
//! [`decide`] is the rule, pure and tested by a table; [`write_pointer`] and [`claim_pointer`] carry it out with
//! conditional PUTs; [`PointerBody::usable`] is what readers check. A pointer is never deleted: a tombstone is a body.
//!
//! What this cannot do: a writer that re-reads a newer body and ignores its epoch is beyond a conditional PUT.

mod body;
mod decide;
mod write;

pub use body::{BadBody, PointerBody, Unusable};
pub use decide::{Decision, Pointed, PointerChange, Refusal, decide};
pub use write::{CLAIM_CALLS, Claim, Written, claim_pointer, claim_pointer_for, read_pointer, write_pointer};

use std::time::Duration;

use crate::StoreError;

/// Why a pointer was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum PointerError {
    /// The rule said no; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What stands at the key is no pointer body that this version understands; nothing was written.
    #[error("the pointer {key} of store {store} cannot be used")]
    BadBody {
        /// The store's name.
        store: String,
        /// The pointer's key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: BadBody,
    },
    /// The store failed; the write surely did not happen.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The write may have happened, and the store did not say whether.
    #[error("whether the pointer was written is unknown: read it again before acting on it")]
    Unknown(#[source] StoreError),
    /// The store answers, and the pointer does not stand as asked: it still takes other writers' epochs.
    #[error(
        "gave up on pointer {key} of store {store} after {attempts} writes: other writers were faster {lost} times"
    )]
    Contended {
        /// The store's name.
        store: String,
        /// The pointer's key.
        key: String,
        /// How many writes were tried.
        attempts: u32,
        /// How many of them were lost to another writer. None: it is the store that did not answer them.
        lost: u32,
    },
    /// No read was answered in time.
    #[error("store {store} said nothing of pointer {key} within {} ms", limit.as_millis())]
    Silent {
        /// The store's name.
        store: String,
        /// The pointer's key.
        key: String,
        /// The time that it was given.
        limit: Duration,
    },
}
