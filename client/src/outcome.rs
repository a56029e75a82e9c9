//! The three ends that a change can have.

use types::reason::{Category, Refusal};

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It happened, once.
    Done(T),
    /// It did not happen.
    Rejected(Refusal),
    /// It may have happened: read, or retry with the same request id.
    Unknown(Refusal),
}

impl<T> From<Result<T, Refusal>> for Outcome<T> {
    fn from(result: Result<T, Refusal>) -> Self {
        match result {
            Ok(value) => Outcome::Done(value),
            Err(refusal) => match refusal.reason.category() {
                Category::Unknown | Category::Internal => Outcome::Unknown(refusal),
                Category::NotFound
                | Category::AlreadyExists
                | Category::FailedPrecondition
                | Category::Aborted
                | Category::InvalidArgument
                | Category::PermissionDenied
                | Category::ResourceExhausted
                | Category::OutOfRange
                | Category::Unavailable => Outcome::Rejected(refusal),
            },
        }
    }
}
