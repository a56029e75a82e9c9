//! Why a command ended without doing what it was asked: one shape for people, scripts and exit codes.

use std::{fmt, path::Path};

use serde_json::json;
use types::{
    InvalidId,
    reason::{Reason, Refusal},
};

use crate::exit::Exit;

/// A failure as it is shown: what went wrong with its values, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// What went wrong; lowercase, no full stop.
    pub(crate) message: String,
    /// What to do about it; empty where nothing can be said.
    pub(crate) remedy: String,
    /// The refusal that it comes from, for programs.
    pub(crate) refusal: Option<Box<Refusal>>,
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
            refusal: None,
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
    pub(crate) fn file(verb: &str, path: &Path, why: impl fmt::Display) -> Self {
        Self::other(format!("could not {verb} {}: {why}", path.display()))
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
        let id = self.refusal.as_deref().and_then(|r| r.operand("request_id"));
        match id.map(str::to_owned) {
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
        let refusal = self.refusal.as_deref();
        json!({ "error": {
            "exit_code": self.exit as u8,
            "reason": refusal.map(|r| r.reason),
            "message": self.message,
            "remedy": self.remedy,
            "operands": refusal.map(|r| &r.operands),
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
        failure.remedy = remedy_of(&refusal);
        failure.refusal = Some(Box::new(refusal));
        failure
    }
}

/// What helps against a refusal, where that can be said without knowing the command.
fn remedy_of(refusal: &Refusal) -> String {
    if let Some(id) = refusal.operand("request_id") {
        return format!(
            "look at the state, or ask the same again with --request-id {id}: what has happened does not happen twice"
        );
    }
    let remedy = match refusal.reason {
        Reason::Unreachable if refusal.operand("heard").is_some() => NOBODY_ANSWERS,
        Reason::NoQuorum | Reason::NotLeader => NO_QUORUM,
        Reason::TargetNotQualified => {
            "`regent region list` shows each region's health and why, `regent replication status` its copies"
        }
        Reason::ModelNotFound => "`regent model list` shows the models that there are",
        Reason::VersionNotFound => "`regent model versions NAME` shows the versions that there are",
        Reason::RegionNotFound => "`regent region list` shows the regions that there are",
        Reason::RoleNotFound => "`regent primary list` shows the roles that there are",
        Reason::FailoverPaused => "`regent primary resume` ends the pause",
        Reason::PlanRunning => "`regent primary get` shows the plan that runs; wait for its end",
        Reason::StaleEpoch => "`regent primary get` shows the role's epoch",
        Reason::EtagMismatch => "read it again, and decide again: somebody else changed it",
        _ => "",
    };
    remedy.to_owned()
}

/// What helps where nobody answers at all.
pub(crate) const NOBODY_ANSWERS: &str =
    "is `regent dev` running? The context file names the coordinators, or --endpoint does";
/// What helps where somebody answers, and no majority.
pub(crate) const NO_QUORUM: &str = "`regent cluster status` shows who is missing: changes need a majority of the coordinators; reads do without one, with --stale";

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
