//! What can go wrong at a store, with the remedy.

use std::{error::Error as StdError, fmt, ops::Deref, time::Duration};

use types::{ByteCount, Digest};

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// A call that did not give what was asked for. Names store, key and remedy. Its fields are those of [`Details`];
/// boxed, because every result of every call carries room for it.
#[derive(Debug)]
pub struct StoreError(Box<Details>);

/// What a [`StoreError`] says.
#[derive(Debug)]
pub struct Details {
    /// The store's name.
    pub store: String,
    /// What was tried, as in `put` or `get`.
    pub operation: &'static str,
    /// The key, prefix or bucket.
    pub key: String,
    /// What went wrong.
    pub kind: ErrorKind,
    source: Option<Source>,
}

impl Deref for StoreError {
    type Target = Details;
    fn deref(&self) -> &Details {
        &self.0
    }
}

/// What went wrong, for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The store says that there is no such object.
    NotFound,
    /// The store says that there is no such bucket or directory.
    NoSuchBucket,
    /// The store does not let this key pair do it.
    Denied,
    /// The key cannot be an object's here.
    BadKey {
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The bytes are not those that were asked for or announced.
    DigestMismatch {
        /// What they should hash to.
        expected: Digest,
        /// What they do hash to.
        actual: Digest,
    },
    /// There are more or fewer bytes than announced.
    SizeMismatch {
        /// As announced.
        expected: ByteCount,
        /// As they came; at least so many.
        actual: ByteCount,
    },
    /// The range ends behind the object.
    OutOfRange,
    /// No answer in time.
    Deadline {
        /// The deadline.
        after: Duration,
    },
    /// No answer at all, or one that says "not now".
    Unavailable,
    /// A clear no that is none of the above: status and code.
    Refused {
        /// The store's own words.
        answer: String,
    },
    /// The local disk failed.
    Disk,
    /// The bytes that were to be written could not be read.
    BodyFailed,
}

impl ErrorKind {
    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotFound => "check the key, or wait until the object was replicated",
            Self::NoSuchBucket => "create the bucket, or correct its name in the store's configuration",
            Self::Denied => "check the store's access key and secret key, and what they permit",
            Self::BadKey { .. } => "choose another key",
            Self::DigestMismatch { .. } => "the bytes are damaged: fetch them again or from another source",
            Self::SizeMismatch { .. } => {
                "the object is cut or was replaced: fetch it again or from another source"
            }
            Self::OutOfRange => "read the object's size again",
            Self::Deadline { .. } => "check the store's health and the link, then try again",
            Self::Unavailable => "check that the store runs and that its endpoint is right, then try again",
            Self::Refused { .. } => "read the store's answer",
            Self::Disk => "check that the directory is readable and writable and that the disk is not full",
            Self::BodyFailed => "check the file or connection that the bytes come from",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no such object"),
            Self::NoSuchBucket => f.write_str("there is no such bucket"),
            Self::Denied => f.write_str("access denied"),
            Self::BadKey { rule } => write!(f, "not a key: {rule}"),
            Self::DigestMismatch { expected, actual } => {
                write!(f, "expected {expected}, the bytes are {actual}")
            }
            Self::SizeMismatch { expected, actual } => {
                write!(f, "expected {} bytes, there are {}", expected.0, actual.0)
            }
            Self::OutOfRange => f.write_str("the range ends behind the object"),
            Self::Deadline { after } => write!(f, "no answer within {} ms", after.as_millis()),
            Self::Unavailable => f.write_str("the store does not answer"),
            Self::Refused { answer } => write!(f, "the store refused: {answer}"),
            Self::Disk => f.write_str("the disk failed"),
            Self::BodyFailed => f.write_str("the bytes to write could not be read"),
        }
    }
}

impl StoreError {
    /// An error without a cause of its own.
    pub fn new(store: &str, operation: &'static str, key: impl fmt::Display, kind: ErrorKind) -> Self {
        Self(Box::new(Details {
            store: store.to_owned(),
            operation,
            key: key.to_string(),
            kind,
            source: None,
        }))
    }

    /// The same with a cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details {
            store,
            operation,
            key,
            kind,
            ..
        } = &**self;
        write!(f, "{operation} {key} at store {store}: {kind}; {}", kind.remedy())
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// How a write ended, if not well.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The condition did not hold; nothing changed. Read again.
    #[error("the object at {key} of store {store} is not as the write expected it: read it again")]
    PreconditionFailed {
        /// The store's name.
        store: String,
        /// The key.
        key: String,
    },
    /// Another write to the key was under way (409); nothing changed. Read again, then retry.
    #[error("another write to {key} of store {store} is under way: read it again and retry")]
    Conflict {
        /// The store's name.
        store: String,
        /// The key.
        key: String,
    },
    /// The write may have happened, or may still happen. Read again before anything is concluded.
    #[error("the write may or may not have happened: read the object again")]
    Unknown(#[source] StoreError),
    /// The write surely did not happen.
    #[error(transparent)]
    Failed(#[from] StoreError),
}
