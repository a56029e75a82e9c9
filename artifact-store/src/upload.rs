//! What all back ends check of an upload.

use std::io;

use bytes::Bytes;
use types::{ByteCount, Digest, DigestHasher};

use crate::{Condition, ETag, ErrorKind, ObjectKey, PutError, StoreError, Upload};

/// Counts and hashes the bytes of an upload as they pass.
pub(crate) struct Checker {
    store: String,
    key: ObjectKey,
    expected: (ByteCount, Digest),
    size: u64,
    hasher: DigestHasher,
}

impl Checker {
    pub(crate) fn new(store: &str, key: &ObjectKey, upload: &Upload) -> Self {
        let expected = (upload.size, upload.digest);
        Self {
            store: store.to_owned(),
            key: key.clone(),
            expected,
            size: 0,
            hasher: DigestHasher::new(),
        }
    }

    /// A piece that may be written; an error once there are more bytes than announced.
    pub(crate) fn take(&mut self, chunk: io::Result<Bytes>) -> Result<Bytes, StoreError> {
        let chunk = chunk.map_err(|error| self.error(ErrorKind::BodyFailed).because(error))?;
        self.size += chunk.len() as u64;
        if self.size > self.expected.0.0 {
            return Err(self.wrong_size());
        }
        self.hasher.update(&chunk);
        Ok(chunk)
    }

    /// After the last piece: whether size and digest are as announced.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        if self.size != self.expected.0.0 {
            return Err(self.wrong_size());
        }
        let actual = self.hasher.clone().finish();
        let expected = self.expected.1;
        if actual == expected {
            Ok(())
        } else {
            Err(self.error(ErrorKind::DigestMismatch { expected, actual }))
        }
    }

    fn wrong_size(&self) -> StoreError {
        self.error(ErrorKind::SizeMismatch {
            expected: self.expected.0,
            actual: ByteCount(self.size),
        })
    }

    fn error(&self, kind: ErrorKind) -> StoreError {
        StoreError::new(&self.store, "put", &self.key, kind)
    }
}

/// How our own back ends judge a condition. A missing object never matches an ETag.
pub(crate) fn check_condition(
    store: &str,
    key: &ObjectKey,
    condition: Option<&Condition>,
    current: Option<&ETag>,
) -> Result<(), PutError> {
    let holds = match condition {
        None => true,
        Some(Condition::Absent) => current.is_none(),
        Some(Condition::Matches(etag)) => current == Some(etag),
    };
    if holds {
        return Ok(());
    }
    Err(PutError::PreconditionFailed {
        store: store.to_owned(),
        key: key.to_string(),
    })
}
