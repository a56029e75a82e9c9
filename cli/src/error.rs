//! Why a command ended without doing what it was asked: one shape for people, scripts and exit codes.

use std::{collections::BTreeMap, fmt, io, path::Path};

use serde_json::json;
use types::{
    InvalidId,
    reason::{Reason, Refusal},
};

pub(crate) use crate::remedy::NOBODY_ANSWERS;
use crate::{exit::Exit, remedy};

/// A failure as it is shown: what went wrong with its values, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// What went wrong; lowercase, no full stop.
    pub(crate) message: String,
    /// What to do about it; empty where nothing can be said.
    pub(crate) remedy: String,
    /// Why, for programs; none where no reason of the protocol says it.
    pub(crate) reason: Option<Reason>,
    /// The values that are at stake, by name, for programs.
    pub(crate) operands: BTreeMap<String, String>,
    /// What of it stands on stdout already.
    pub(crate) told: Told,
}

/// What of a failure whoever reads stdout knows already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing.
    Nothing,
    /// The one document of `--output json` holds it; people are still told.
    InDocument,
    /// Everything: only the exit code is left to give.
    #[cfg(feature = "server")]
    All,
}

impl Failure {
    /// A failure with an exit code of its own.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            remedy: String::new(),
            reason: exit.usual_reason(),
            operands: BTreeMap::new(),
            told: Told::Nothing,
        }
    }
    /// A failure without one.
    pub(crate) fn other(message: impl fmt::Display) -> Self {
        Self::new(Exit::Error, message)
    }
    /// A malformed command line, config or input.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }
    /// A file that could not be read or written.
    pub(crate) fn file(verb: &str, path: &Path, why: impl Into<io::Error>) -> Self {
        let why = why.into();
        let text = format!("could not {verb} {}: {why}", path.display());
        Self::new(Exit::of_io(why.kind()), text).with("file", path.display())
    }
    /// Names the reason, where the exit code says less.
    #[must_use]
    pub(crate) fn because(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }
    /// Adds a value that is at stake.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.operands.insert(name.to_owned(), value.to_string());
        self
    }
    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = remedy.to_string();
        self
    }
    /// Where the outcome is unknown: says how to find out for this change, which cannot be asked again by its id. The
    /// id stays in the text, for the record.
    #[must_use]
    pub(crate) fn or_ask_again(self, how: &str) -> Self {
        let is_unknown = self.reason == Some(Reason::OutcomeUnknown);
        match self.operands.get("request_id").filter(|_| is_unknown).cloned() {
            Some(id) => self.remedy(format!("{how} (it was request {id})")),
            None => self,
        }
    }
    /// The answer on stdout says it all; only the exit code is left to give.
    #[cfg(feature = "server")]
    #[must_use]
    pub(crate) fn already_told(mut self) -> Self {
        self.told = Told::All;
        self
    }
    /// The document on stdout, of which there is only one, has it.
    #[must_use]
    pub(crate) fn documented(mut self) -> Self {
        self.told = Told::InDocument;
        self
    }
    /// Says first what was being done.
    #[must_use]
    pub(crate) fn while_doing(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
    /// The document that `--output json` prints.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json!({ "error": {
            "exit_code": self.exit as u8,
            "reason": self.reason,
            "message": self.message,
            "remedy": self.remedy,
            "operands": self.operands,
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.remedy.is_empty() {
            Ok(())
        } else {
            write!(f, "\n  {}", self.remedy)
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let mut failure = Self::new(
            Exit::of(refusal.reason),
            format!("{} ({})", refusal.message, refusal.reason),
        );
        failure.remedy = remedy::of(&refusal);
        failure.reason = Some(refusal.reason);
        failure.operands = refusal.operands;
        failure
    }
}

impl From<InvalidId> for Failure {
    fn from(error: InvalidId) -> Self {
        Self::usage(error)
    }
}

impl From<chaos::ChaosError> for Failure {
    fn from(error: chaos::ChaosError) -> Self {
        let source = std::error::Error::source(&error).map(|s| format!(": {s}"));
        Self::other(format!("{error}{}", source.unwrap_or_default()))
    }
}
