//! When an agent's door lets a privileged call in, and when it lets its effect happen (design.md L13): by the floor that is on
//! disk, and by how long ago a quorum called the token current.
//!
//! Absent on purpose: floors and how they rise ([`crate::fence`]), clocks, and who is asked. Ages are by CLOCK_BOOTTIME, from
//! before the question was sent.
//! Invariant: nothing passes that no quorum called current within [`TRUSTED_FOR`], so that a door that was paused or cut off
//! does not go by what it knew before.

use std::time::Duration;

use types::{
    FencingToken,
    planted::{self, Bug},
};

use crate::fence::{Floor, Refused, Verdict, check};

/// How long a confirmation counts. Well below any lease: a holder that woke from a pause is asked about again before it may do
/// anything.
pub const CONFIRMED_FOR: Duration = Duration::from_millis(500);

/// The longest that a confirmation is trusted when an effect is carried out, or when a pointer is given out: what its answer
/// may take, and the above. More than that lies between them only if the door was stopped.
pub const TRUSTED_FOR: Duration = Duration::from_millis(2500);

/// What a door does with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go on.
    Pass,
    /// Ask a coordinator whether the token is current, raise the floor to what it says, and look again.
    Ask,
    /// No.
    Refuse(Refused),
}

/// Whether a token that was called current so long ago need not be asked about; none: it never was.
pub fn is_fresh(confirmed: Option<Duration>) -> bool {
    confirmed.is_some_and(|age| age < CONFIRMED_FOR || planted::has(Bug::TrustingAgents))
}

/// Whether what was confirmed so long ago may still be acted on.
pub fn is_trusted(confirmed: Option<Duration>) -> bool {
    confirmed.is_some_and(|age| age < TRUSTED_FOR || planted::has(Bug::TrustingAgents))
}

/// A call comes in. A token below the floor, or equal to it from another holder, needs no question; any other needs an answer
/// of now.
pub fn at_entrance(verdict: Verdict, confirmed: Option<Duration>) -> Admission {
    match verdict {
        Verdict::Refuse(_) if planted::has(Bug::OpenAgents) => Admission::Pass,
        Verdict::Refuse(refused) => Admission::Refuse(refused),
        Verdict::Accept if is_fresh(confirmed) => Admission::Pass,
        Verdict::Accept | Verdict::Raise => Admission::Ask,
    }
}

/// The effect is to happen, under the lock that orders it with every change of the floor. A question is no way out any more:
/// [`Admission::Ask`] means that the confirmation is too old. Below the floor it would be refused as such; the floor was
/// raised to it before and cannot have sunk.
pub fn at_effect(verdict: Verdict, confirmed: Option<Duration>) -> Admission {
    match verdict {
        Verdict::Refuse(_) if planted::has(Bug::OpenAgents) => Admission::Pass,
        Verdict::Refuse(refused) => Admission::Refuse(refused),
        Verdict::Accept if is_trusted(confirmed) => Admission::Pass,
        Verdict::Accept | Verdict::Raise => Admission::Ask,
    }
}

/// A coordinator said what is committed of the token's role, and whether the token is current. [`Admission::Ask`]: the token is
/// above all that is committed, and nobody can confirm it.
pub fn at_answer(committed: &Floor, current: bool, token: &FencingToken) -> Admission {
    match check(Some(committed), token, committed.cluster_id) {
        Verdict::Accept if current => Admission::Pass,
        Verdict::Refuse(_) if planted::has(Bug::OpenAgents) => Admission::Pass,
        Verdict::Refuse(refused) => Admission::Refuse(refused),
        Verdict::Accept | Verdict::Raise => Admission::Ask,
    }
}
