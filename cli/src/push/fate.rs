//! What became of the version of a push that failed: given up, whole after all, or nobody could say.

use client::Client;
use types::{Reason, VersionKey, model::VersionState, reason::Refusal};

use crate::{error::Failure, exit::Exit, output::note};

/// Where a version stands after its push failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is whole and stays: the push succeeded, and what failed was the wait.
    Whole(VersionState),
    /// DELETED before it could be given up: an agent refused it, or somebody gave it up.
    Gone,
    /// DELETED now.
    GivenUp,
    /// It could not be given up, and may stand as it was or be whole by now.
    Open(Refusal),
}

/// Gives up a version that never became ready, so that nothing half-registered stays, and says what became of it.
pub(super) async fn take_back(client: &Client, key: &VersionKey, failure: Failure) -> Failure {
    let fate = fate(client, key, &failure.message).await;
    match &fate {
        Fate::GivenUp => note(&format!("{key} was given up: it is DELETED, and serves nowhere")),
        Fate::Open(refusal) => note(&format!("{key} could not be given up: {refusal}")),
        Fate::Whole(_) | Fate::Gone => {}
    }
    fate.explain(key, failure)
}

async fn fate(client: &Client, key: &VersionKey, why: &str) -> Fate {
    let known = client.get_version(key).await.ok();
    if let Some(fate) = known.and_then(|version| Fate::of(version.state)) {
        return fate;
    }
    match client.abort_version(key, why).await {
        Ok(_) => Fate::GivenUp,
        Err(refusal) => Fate::refused(refusal),
    }
}

impl Fate {
    /// Of a version in this state; none where it can still be given up.
    fn of(state: VersionState) -> Option<Self> {
        match state {
            VersionState::Ready | VersionState::Deprecated => Some(Self::Whole(state)),
            VersionState::Deleted => Some(Self::Gone),
            VersionState::PendingUpload | VersionState::Verifying => None,
        }
    }

    /// Of a version that could not be given up: the registry refuses that where there is nothing to give up any more.
    pub(super) fn refused(refusal: Refusal) -> Self {
        let is_over = refusal.reason == Reason::VersionState;
        let state = refusal.operand("state").filter(|_| is_over).and_then(state_of);
        state.and_then(Self::of).unwrap_or(Self::Open(refusal))
    }

    /// The push's failure in the light of it. Where the version may be whole, "nothing changed" would be no answer.
    pub(super) fn explain(&self, key: &VersionKey, failure: Failure) -> Failure {
        let model = &key.model;
        let (stands, remedy) = match self {
            Self::GivenUp => return failure,
            Self::Gone if failure.exit != Exit::Unavailable => return failure,
            Self::Gone => (
                format!("{key} is DELETED: "),
                format!("`regent model versions {model}` says why"),
            ),
            Self::Whole(state) => (
                format!("{key} is {state}; what failed was the wait: "),
                format!(
                    "the push is done, and copying goes on: `regent replication status --model {model}` shows how far it is"
                ),
            ),
            Self::Open(_) => (
                String::new(),
                format!(
                    "push the same directory again: it goes on with {key}; or give it up with `regent model abort {key}`"
                ),
            ),
        };
        let exit = match failure.exit {
            Exit::Unavailable => Exit::Unknown,
            exit => exit,
        };
        let told = Failure::new(exit, format!("{stands}{}", failure.message)).remedy(remedy);
        match self {
            Self::Whole(state) => told.with("version", key).with("state", state),
            _ => told.with("version", key),
        }
    }
}

/// A state as the protocol spells it.
fn state_of(name: &str) -> Option<VersionState> {
    serde_json::from_value(name.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> VersionKey {
        "fraud.scorer@3".parse().unwrap()
    }

    /// The wait broke off because nobody answered.
    fn unheard() -> Failure {
        Refusal::new(Reason::NoQuorum, "no leader has a quorum").into()
    }

    /// The registry refuses to give up a version in this state, in its own words.
    fn not_given_up(state: &str) -> Fate {
        let message = format!("fraud.scorer@3 is {state}, and must be PENDING_UPLOAD or VERIFYING");
        Fate::refused(Refusal::new(Reason::VersionState, message).with("state", state))
    }

    #[test]
    fn a_ready_version_is_a_push_whose_wait_failed() {
        for state in ["READY", "DEPRECATED"] {
            let failure = not_given_up(state).explain(&key(), unheard());
            assert_eq!(
                failure.message,
                format!(
                    "fraud.scorer@3 is {state}; what failed was the wait: no leader has a quorum (NO_QUORUM)"
                )
            );
            assert_eq!(failure.exit, Exit::Unknown, "something has changed");
            assert!(failure.remedy.contains("regent replication status"), "{failure}");
            let document = failure.to_json();
            assert_eq!(document["error"]["reason"], "OUTCOME_UNKNOWN");
            assert_eq!(document["error"]["operands"]["version"], "fraud.scorer@3");
            assert_eq!(document["error"]["operands"]["state"], state);
        }
        let read = Fate::of(VersionState::Ready);
        assert_eq!(
            read,
            Some(not_given_up("READY")),
            "it was seen before it was asked for"
        );
    }

    #[test]
    fn whoever_stops_waiting_by_hand_gets_no_other_code() {
        let failure = not_given_up("READY").explain(&key(), Failure::other("stopped by ctrl-c"));
        assert_eq!(failure.exit, Exit::Error);
        assert!(
            failure.message.ends_with("the wait: stopped by ctrl-c"),
            "{failure}"
        );
    }

    #[test]
    fn a_version_that_was_given_up_leaves_the_failure_as_it_is() {
        let failure = Fate::GivenUp.explain(&key(), unheard());
        assert_eq!(failure.to_string(), unheard().to_string());
        assert_eq!(failure.exit, Exit::Unavailable, "nothing is left of it");
    }

    #[test]
    fn a_version_that_is_deleted_says_so_where_the_failure_does_not() {
        let failure = not_given_up("DELETED").explain(&key(), unheard());
        assert!(
            failure.message.starts_with("fraud.scorer@3 is DELETED: "),
            "{failure}"
        );
        assert!(
            failure.remedy.contains("regent model versions fraud.scorer"),
            "{failure}"
        );
        let refused = Failure::other("fraud.scorer@3 was refused: damaged");
        assert_eq!(
            not_given_up("DELETED").explain(&key(), refused).message,
            "fraud.scorer@3 was refused: damaged"
        );
    }

    #[test]
    fn a_version_that_nobody_could_give_up_is_an_unknown_outcome() {
        let silence = Refusal::new(Reason::OutcomeUnknown, "no final answer within 10s");
        let failure = Fate::refused(silence).explain(&key(), unheard());
        assert_eq!(failure.exit, Exit::Unknown);
        assert!(
            failure.remedy.contains("regent model abort fraud.scorer@3"),
            "{failure}"
        );
        let odd = Refusal::new(Reason::VersionState, "a state of a later release").with("state", "MELTED");
        assert!(matches!(Fate::refused(odd), Fate::Open(_)));
    }
}
