//! What a caller believes of the record that its command addresses, checked before any handler and alike for all.
//!
//! Absent on purpose: the etags and epochs that commands carry themselves; their handlers check those, also below level 2.

use types::{Digest, Principal};

use super::{plans, text::check_etag};
use crate::{command::Entry, features::Feature, rejection::Rejection, state::ControlState};

/// That the record is as the caller saw it. The epoch comes first: whoever is stale learns that.
///
/// Below the level an entry of this kind is never proposed. Were there one, builds that do not know expectations would
/// apply it without them, and this one must come to the same state.
pub(super) fn check(state: &ControlState, entry: &Entry) -> Result<(), Rejection> {
    let expects = entry.expects;
    if expects.is_nothing() || !state.features().has(Feature::Expectations) {
        return Ok(());
    }
    let addressed = entry.command.addressed();
    if let Some(epoch) = expects.epoch {
        plans::check_expected(state.role_of(addressed)?, epoch)?;
    }
    if expects.etag.is_some() {
        let current = state.etag_of(addressed).ok_or_else(|| addressed.not_found())?;
        check_etag(&addressed.to_string(), expects.etag, Some(current))?;
    }
    Ok(())
}

/// What must not change under the entry's request id: what its caller said, where the entry tells; else all that `whole`
/// digests. Below the level builds know nothing else.
pub(crate) fn digest(state: &ControlState, entry: &Entry, whole: Digest) -> Digest {
    match entry.expects.asked {
        Some(asked) if state.features().has(Feature::Expectations) => digest_of(&entry.actor, asked),
        Some(_) | None => whole,
    }
}

/// Of who says it, too: nobody gets another's answer.
pub(crate) fn digest_of(actor: &Principal, asked: Digest) -> Digest {
    Digest::of(format!("{asked} by {actor}").as_bytes())
}
