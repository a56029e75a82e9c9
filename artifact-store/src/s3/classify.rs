//! What an answer of the SDK means: did it happen, did it not, or does nobody know.

use std::{error::Error, time::Duration};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
};

use crate::{Condition, ErrorKind, ObjectHead, ObjectKey, PutError, StoreError};

/// A call that did not succeed, free of the SDK's types.
#[derive(Debug)]
pub(super) struct Failure {
    /// The HTTP status, when an answer came.
    status: Option<u16>,
    code: Option<String>,
    /// Nothing was sent.
    unsent: bool,
    late: Option<Duration>,
    text: String,
}

/// Lets one helper take the errors of all operations.
pub(super) trait SdkFailure {
    fn classify(self) -> Failure;
}

impl<E: ProvideErrorMetadata + Error + 'static> SdkFailure for SdkError<E, HttpResponse> {
    fn classify(self) -> Failure {
        let status = self.raw_response().map(|response| response.status().as_u16());
        let code = self
            .as_service_error()
            .and_then(|error| error.code())
            .map(str::to_owned);
        let unsent = matches!(self, SdkError::ConstructionFailure(_));
        // An answer that could not be read says nothing, whatever its status.
        let status = status.filter(|_| matches!(self, SdkError::ServiceError(_)));
        Failure {
            status,
            code,
            unsent,
            late: None,
            text: DisplayErrorContext(&self).to_string(),
        }
    }
}

impl Failure {
    pub(super) fn late(after: Duration) -> Self {
        let text = "no answer in time".to_owned();
        Self {
            status: None,
            code: None,
            unsent: false,
            late: Some(after),
            text,
        }
    }

    pub(super) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The store says that the key is free. A HEAD has no body, so its 404 cannot say which is missing.
    pub(super) fn is_missing_key(&self) -> bool {
        self.code() == Some("NoSuchKey")
    }

    pub(super) fn into_error(
        self,
        store: &str,
        operation: &'static str,
        key: impl std::fmt::Display,
    ) -> StoreError {
        StoreError::new(store, operation, key, self.kind()).because(self.text)
    }

    /// The typed answer of a write. Only a clear no from the store means that it did not happen.
    pub(super) fn into_put_error(
        self,
        store: &str,
        key: &ObjectKey,
        condition: Option<&Condition>,
    ) -> PutError {
        let (store_name, text) = (store.to_owned(), key.to_string());
        let no_match = self.is_missing_key() && matches!(condition, Some(Condition::Matches(_)));
        match self.status {
            Some(412) => PutError::PreconditionFailed {
                store: store_name,
                key: text,
            },
            // AWS answers 404 to If-Match on a key that is free.
            Some(404) if no_match => PutError::PreconditionFailed {
                store: store_name,
                key: text,
            },
            Some(409) => PutError::Conflict {
                store: store_name,
                key: text,
            },
            Some(400..=499) if self.status != Some(408) => {
                PutError::Failed(self.into_error(store, "put", key))
            }
            None if self.unsent => PutError::Failed(self.into_error(store, "put", key)),
            _ => PutError::Unknown(self.into_error(store, "put", key)),
        }
    }

    fn kind(&self) -> ErrorKind {
        match (self.status, self.code()) {
            (None, _) => self
                .late
                .map_or(ErrorKind::Unavailable, |after| ErrorKind::Deadline { after }),
            (_, Some("NoSuchBucket")) => ErrorKind::NoSuchBucket,
            (Some(404), _) => ErrorKind::NotFound,
            (Some(401 | 403), _) => ErrorKind::Denied,
            (Some(416), _) => ErrorKind::OutOfRange,
            (Some(408 | 429 | 500..), _) => ErrorKind::Unavailable,
            (Some(200..=299), _) => ErrorKind::Refused {
                answer: "an answer that is not S3's".to_owned(),
            },
            (Some(status), code) => ErrorKind::Refused {
                answer: format!("{status} {}", code.unwrap_or("without a code")),
            },
        }
    }
}

/// A 404 to a HEAD of an object: taken for a free key, as every S3 client must.
pub(super) fn head_failure(
    failure: Failure,
    store: &str,
    key: &ObjectKey,
) -> Result<Option<ObjectHead>, StoreError> {
    if failure.status == Some(404) {
        Ok(None)
    } else {
        Err(failure.into_error(store, "head", key))
    }
}
