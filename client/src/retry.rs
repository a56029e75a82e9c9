//! When a call is sent again. The decision is pure; the loop that follows it is [`Attempts`].
//!
//! Every change carries a request id that was minted once, before the first attempt, so that sending it again is
//! safe even when the outcome of an attempt is not known (I9). Reads change nothing.

use std::time::Duration;

use proto::convert::MEANT;
use rand::Rng as _;
use types::{
    RequestId,
    reason::{Category, Reason, Refusal},
};

/// What to do after an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The answer is final.
    Stop,
    /// Ask this coordinator at once: it is said to lead.
    AskLeader(String),
    /// Ask the same coordinator after a wait of at most this long: it leads, and says "not yet".
    AskAgain {
        /// Upper bound of the wait.
        wait: Duration,
    },
    /// Ask the next coordinator after a wait of at most this long (jittered by the caller).
    AskNext {
        /// Upper bound of the wait.
        wait: Duration,
    },
}

/// First wait between attempts; doubles up to [`WAIT_MAX`].
pub const WAIT_MIN: Duration = Duration::from_millis(20);
/// Longest wait between attempts.
pub const WAIT_MAX: Duration = Duration::from_millis(500);

/// The next move after the `attempt`-th attempt (from 0) ended in `refusal`. `hints` counts leader hints followed in
/// a row: two coordinators that point at each other must not spin.
pub fn next(attempt: u32, hints: u32, refusal: &Refusal) -> Next {
    let wait = WAIT_MIN.saturating_mul(1 << attempt.min(5)).min(WAIT_MAX);
    match (refusal.reason, refusal.operand("leader_api")) {
        (Reason::NotLeader, Some(leader)) if !leader.is_empty() && hints < 3 => {
            Next::AskLeader(leader.to_owned())
        }
        // It is of another cluster than the caller's: somebody else may be of that one.
        (Reason::WrongCluster, _) if refusal.operand(MEANT).is_some() => Next::AskNext { wait },
        (reason, _) if reason.retryable() => {
            let said = refusal.operand("retry_after_ms").and_then(|t| t.parse().ok());
            let said = said.map(|millis| Duration::from_millis(millis).min(Duration::from_secs(5)));
            let wait = said.unwrap_or(wait);
            match reason {
                Reason::RoleChanging => Next::AskAgain { wait },
                _ => Next::AskNext { wait },
            }
        }
        _ => Next::Stop,
    }
}

/// Between half of `wait` and all of it, so that clients do not return in step.
pub fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// A new request id; the only place that mints them.
pub fn mint_request_id() -> RequestId {
    RequestId::from_u128(uuid::Uuid::now_v7().as_u128())
}

/// The refusal of a change, with the request id under which to ask again where it may have happened.
pub fn name_request(refusal: Refusal, request_id: &str) -> Refusal {
    match refusal.reason.category() {
        Category::Unknown => refusal.with("request_id", request_id),
        _ => refusal,
    }
}

/// The answer when the time of a call is over: unknown if any attempt may have had an effect.
pub fn out_of_time(last: Option<Refusal>, any_unknown: bool, deadline: Duration) -> Refusal {
    let last_text = last
        .as_ref()
        .map_or_else(String::new, |r| format!("; last answer: {}", r.message));
    let message = format!(
        "no final answer within {}{last_text}",
        types::units::format_duration(deadline)
    );
    match last {
        Some(refusal) if !any_unknown && refusal.reason.category() != Category::Unknown => {
            Refusal { message, ..refusal }
        }
        _ => Refusal::new(Reason::OutcomeUnknown, message),
    }
}
