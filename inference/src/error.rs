//! What can be refused or fail: inputs, calls, and directories that do not load.

use crate::signature::Family;
use crate::tensor::Datatype;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A request that no forward pass will see. Each names the value found and what would be right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the fields are the operands of the message beside them"
)]
pub enum InputError {
    /// An input of the signature is not there.
    #[error("input {name:?} is missing; the model takes {expected}")]
    Missing { name: String, expected: String },
    /// An input that the model does not have.
    #[error("input {name:?} is unknown; the model takes {expected}")]
    Unknown { name: String, expected: String },
    /// The same input twice.
    #[error("input {name:?} is given twice")]
    Duplicate { name: String },
    /// Wrong element type.
    #[error("input {name:?} has datatype {found}, expected {expected}")]
    Datatype {
        name: String,
        found: Datatype,
        expected: Datatype,
    },
    /// Wrong number or length of axes.
    #[error("input {name:?} has shape {found:?}, expected {expected:?} (-1 stands for any length)")]
    Shape {
        name: String,
        found: Vec<usize>,
        expected: Vec<i64>,
    },
    /// The shape claims another number of values than came.
    #[error("input {name:?} has {found} values, its shape {shape:?} needs {expected}")]
    Count {
        name: String,
        found: usize,
        shape: Vec<usize>,
        expected: String,
    },
    /// NaN or infinite.
    #[error("input {name:?} holds {value} at index {index}; values must be finite")]
    NotFinite { name: String, index: usize, value: f32 },
    /// A value the model was never trained for.
    #[error("input {name:?} holds {value} at index {index}; values must be from {min} to {max}")]
    OutOfRange {
        name: String,
        index: usize,
        value: f32,
        min: f32,
        max: f32,
    },
    /// No rows at all.
    #[error("input {name:?} is empty; at least one row is needed")]
    Empty { name: String },
    /// A text without a single token.
    #[error("text {index} is empty; at least one word is needed")]
    EmptyText { index: usize },
    /// Too many rows.
    #[error("{found} rows in one request, the limit is {limit}; split the request")]
    Batch { found: usize, limit: usize },
    /// A text so long that it is not even tokenized.
    #[error("text {index} has {bytes} bytes, the limit is {limit}; shorten or split it")]
    TextBytes {
        index: usize,
        bytes: usize,
        limit: usize,
    },
    /// A text with more tokens than the model has positions.
    #[error("text {index} has {tokens} tokens, the model's limit is {limit}; shorten or split it")]
    TextTokens {
        index: usize,
        tokens: usize,
        limit: usize,
    },
    /// `max_tokens` out of bounds.
    #[error("max_tokens is {found}, it must be from 1 to {limit}")]
    MaxTokens { found: usize, limit: usize },
    /// Prompt and answer together do not fit.
    #[error(
        "the prompt has {prompt_tokens} tokens and max_tokens is {max_tokens}: together more than the model's limit {limit}; shorten the prompt or ask for fewer tokens"
    )]
    Context {
        prompt_tokens: usize,
        max_tokens: usize,
        limit: usize,
    },
    /// Temperature out of bounds.
    #[error("temperature is {found}, it must be from 0 to {limit}")]
    Temperature { found: f32, limit: f32 },
    /// `top_p` out of bounds.
    #[error("top_p is {found}, it must be above 0 and at most 1")]
    TopP { found: f32 },
    /// The tokenizer has no encoding for the text.
    #[error("text {index} cannot be tokenized: {detail}")]
    Untokenizable { index: usize, detail: String },
    /// A tensor in JSON that is none.
    #[error("input {name:?}: {what} is {found}, expected {expected}")]
    Json {
        name: String,
        what: String,
        found: String,
        expected: String,
    },
    /// Text generation asked of another kind of model.
    #[error("the model is of family {family}; only generator models generate text")]
    NotAGenerator { family: Family },
}

/// Why a call of a loaded model gave no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the fields are the operands of the message beside them"
)]
pub enum InferError {
    /// The request was refused; repeating it will not help.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The queue is full. Nothing was done; try again after `retry_after`, or elsewhere at once.
    #[error("{queued} requests wait already, the limit is {limit}; retry after {} ms", retry_after.as_millis())]
    Overloaded {
        queued: usize,
        limit: usize,
        retry_after: Duration,
    },
    /// The deadline passed before the answer was there.
    #[error("the deadline passed after {} ms, {generated} tokens were generated", waited.as_millis())]
    Deadline { waited: Duration, generated: usize },
    /// The model is being unloaded. Nothing was done.
    #[error("the model is being unloaded")]
    Closing,
    /// The forward pass failed: a defect of the model's weights or of this crate.
    #[error("the forward pass failed: {what}")]
    Internal { what: String },
}

/// What kind of defect keeps a directory from loading. For programs; people read the text of [`LoadError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadErrorKind {
    /// A file that the family needs is not there.
    MissingFile,
    /// A file is there and cannot be read.
    Unreadable,
    /// Pickle, or an archive that may hold one.
    Pickle,
    /// A weights file is shorter or longer than its header says.
    Truncated,
    /// A file is not what its name says.
    Malformed,
    /// A tensor is missing, or its shape or type does not fit config.json.
    WrongTensor,
    /// No family for this architecture.
    UnknownArchitecture,
    /// A known family, with a setting that this crate does not run.
    UnsupportedConfig,
    /// Above a limit of `LoadOptions`.
    TooLarge,
    /// This build has no engine (feature `candle` is off).
    NoEngine,
}

/// Why a directory is not a model that can be served. Loading has no effect that would have to be undone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}; {remedy}", file.display())]
pub struct LoadError {
    /// The file or directory that is wrong.
    pub file: PathBuf,
    /// What kind of defect.
    pub kind: LoadErrorKind,
    /// What was found.
    pub problem: String,
    /// What would make it right.
    pub remedy: String,
}

impl LoadErrorKind {
    /// Whether another agent of this version would say the same of the same files: the defect is the model's, or of all such
    /// agents, and not of this disk or of how this one was built.
    pub const fn is_of_the_model(self) -> bool {
        match self {
            Self::MissingFile
            | Self::Pickle
            | Self::Truncated
            | Self::Malformed
            | Self::WrongTensor
            | Self::UnknownArchitecture
            | Self::UnsupportedConfig
            | Self::TooLarge => true,
            Self::Unreadable | Self::NoEngine => false,
        }
    }
}

impl LoadError {
    /// An error about `file`: what was found, and what to do.
    pub(crate) fn new(
        file: &Path,
        kind: LoadErrorKind,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            file: file.to_owned(),
            kind,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// A file that is not there, or cannot be read.
    pub(crate) fn io(file: &Path, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound {
            Self::new(
                file,
                LoadErrorKind::MissingFile,
                "the file is missing",
                "add it to the model directory",
            )
        } else {
            let remedy = "check the owner and the permissions of the file";
            Self::new(
                file,
                LoadErrorKind::Unreadable,
                format!("cannot be read: {error}"),
                remedy,
            )
        }
    }

    /// A file whose content is not what its name says.
    pub(crate) fn malformed(file: &Path, problem: impl Into<String>) -> Self {
        Self::new(
            file,
            LoadErrorKind::Malformed,
            problem,
            "export or download the file again",
        )
    }

    /// A setting in config.json that cannot be served.
    pub(crate) fn unsupported(file: &Path, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(file, LoadErrorKind::UnsupportedConfig, problem, remedy)
    }
}
