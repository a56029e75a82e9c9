//! What a witness may do of its own accord: it votes and stores the log, serves nobody, and leads only to hand leadership over.
//!
//! Absent on purpose: who takes over from it ([`crate::leader::relief`]), and how elections work.
//! Invariant: while any other voter can win, a witness does not campaign.

use std::time::Duration;

use types::Revision;

/// How long no leader may have been heard before a witness campaigns: the lease of the last one, and two election timeouts in
/// which no other voter has won. A voter campaigns within the first of them.
pub const fn patience(election_max: Duration) -> Duration {
    election_max.saturating_mul(3)
}

/// Whether a witness may campaign that has heard no leader for so long.
pub fn may_campaign(silence: Duration, election_max: Duration) -> bool {
    silence >= patience(election_max)
}

/// What a snapshot must cover at least that a witness takes from another voter, so that its log can go: half of what came since
/// its own, which ends at `covered`. One that covers less would have to be followed by another soon; for one of now that voter
/// would have to write one each time.
pub fn snapshot_wanted(covered: Revision, applied: Revision) -> Revision {
    let grown = applied.0.saturating_sub(covered.0);
    Revision(covered.0 + grown.div_ceil(2))
}
