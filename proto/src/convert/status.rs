//! [`Refusal`] ↔ [`tonic::Status`]: the only place that builds or reads a status (style.md 2.6).
//!
//! On the wire a refusal is a `google.rpc.Status` with one `ErrorInfo` (reason, domain, operands) and, where it
//! helps, `RetryInfo`. A status without our domain came from a transport or a proxy: its outcome is unknown. One of our domain with
//! a reason that this build does not know came from a later version: its code says whether it is final.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use types::reason::{Category, Reason, Refusal};

/// `ErrorInfo.domain` of every refusal that Regent itself makes.
pub const DOMAIN: &str = "regent.v1";

/// The operand that has the reason of a later version, which this build does not know; [`Refusal::reason`] is its nearest one then.
pub const UNKNOWN_REASON: &str = "unknown_reason";

/// The gRPC code of a category.
pub const fn code(category: Category) -> Code {
    match category {
        Category::NotFound => Code::NotFound,
        Category::AlreadyExists => Code::AlreadyExists,
        Category::FailedPrecondition => Code::FailedPrecondition,
        Category::Aborted => Code::Aborted,
        Category::InvalidArgument => Code::InvalidArgument,
        Category::PermissionDenied => Code::PermissionDenied,
        Category::ResourceExhausted => Code::ResourceExhausted,
        Category::OutOfRange => Code::OutOfRange,
        Category::Unavailable => Code::Unavailable,
        Category::Unknown => Code::DeadlineExceeded,
        Category::Internal => Code::Internal,
    }
}

/// The status of a refusal.
pub fn to_status(refusal: &Refusal) -> Status {
    let mut details = ErrorDetails::new();
    let operands: HashMap<String, String> = refusal.operands.clone().into_iter().collect();
    details.set_error_info(refusal.reason.as_str(), DOMAIN, operands);
    if let Some(millis) = refusal.operand("retry_after_ms").and_then(|t| t.parse().ok()) {
        details.set_retry_info(Some(Duration::from_millis(millis)));
    }
    Status::with_error_details(code(refusal.reason.category()), &refusal.message, details)
}

/// The refusal of a status. A foreign status becomes `OUTCOME_UNKNOWN`, except a connection that never came about.
pub fn from_status(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) else {
        return foreign(status);
    };
    let refusal = |reason, message| Refusal {
        reason,
        message,
        operands: info.metadata.clone().into_iter().collect(),
    };
    let message = status.message();
    match info.reason.parse() {
        Ok(reason) => refusal(reason, message.to_owned()),
        Err(_) => {
            let says_when = details
                .retry_info()
                .is_some_and(|info| info.retry_delay.is_some());
            let nearest = nearest(status.code(), says_when);
            let message = format!("{message} ({}, which this version does not know)", info.reason);
            refusal(nearest, message).with(UNKNOWN_REASON, &info.reason)
        }
    }
}

/// The reason for one that this build does not know, by its code: who was refused for good must not ask again until its time is
/// over. `says_when`: the status says when to come back.
const fn nearest(code: Code, says_when: bool) -> Reason {
    match code {
        Code::NotFound => Reason::NotFound,
        Code::AlreadyExists => Reason::AlreadyExists,
        Code::FailedPrecondition => Reason::IllegalTransition,
        Code::Aborted => Reason::EtagMismatch,
        Code::InvalidArgument => Reason::InvalidArgument,
        Code::PermissionDenied | Code::Unauthenticated => Reason::PermissionDenied,
        Code::ResourceExhausted if says_when => Reason::Overloaded,
        Code::ResourceExhausted => Reason::LimitExceeded,
        Code::OutOfRange => Reason::Compacted,
        Code::Unavailable => Reason::NotServing,
        Code::Internal | Code::DataLoss => Reason::Internal,
        Code::Ok | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Unimplemented => {
            Reason::OutcomeUnknown
        }
    }
}

fn foreign(status: &Status) -> Refusal {
    let reason = if never_connected(status) {
        Reason::Unreachable
    } else if status.code() == Code::Unimplemented || status.code() == Code::Unauthenticated {
        Reason::PermissionDenied
    } else {
        Reason::OutcomeUnknown
    };
    let text = if status.message().is_empty() {
        status.code().description()
    } else {
        status.message()
    };
    let mut message = text.to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !message.contains(&cause_text) {
            message = format!("{message}: {cause_text}");
        }
        source = cause.source();
    }
    Refusal::new(reason, message).with("grpc_code", format!("{:?}", status.code()))
}

/// Whether the call failed before a byte of it was sent: the connect was refused or timed out.
fn never_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        if cause.to_string().contains("tcp connect error") {
            return true;
        }
        source = cause.source();
    }
    false
}
