//! What an answer may be taken to mean.

use types::{Epoch, reason::Refusal};

use crate::history::{Answer, What};

/// An answer, or what a refusal means: that it surely had no effect is a `fail`; everything else is an `info`, because it may have happened.
pub(crate) fn of(answer: Result<Answer, Refusal>) -> What {
    match answer {
        Ok(answer) => What::Ok { answer },
        Err(refusal) if refusal.reason.surely_no_effect() => What::Fail {
            code: refusal.reason.to_string(),
            current: refusal
                .operand("current")
                .and_then(|text| text.parse::<Epoch>().ok()),
            reason: refusal.message,
        },
        Err(refusal) => What::Info {
            reason: format!("{}: {}", refusal.reason, refusal.message),
        },
    }
}
