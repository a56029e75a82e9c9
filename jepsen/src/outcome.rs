//! What an answer may be taken to mean.

use types::{Epoch, reason::Refusal};

use crate::history::What;

/// A refusal that surely had no effect is a `fail`; everything else is an `info`, because it may have happened.
pub(crate) fn of_refusal(refusal: &Refusal) -> What {
    let reason = format!("{}: {}", refusal.reason, refusal.message);
    if refusal.reason.surely_no_effect() {
        let current = refusal
            .operand("current")
            .and_then(|text| text.parse::<Epoch>().ok());
        What::Fail { reason, current }
    } else {
        What::Info { reason }
    }
}
