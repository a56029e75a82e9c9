//! Errors as they leave: one JSON shape, one status for each reason.

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, Uri, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use inference::InferError;
use serde_json::json;
use types::Reason;

use crate::serving::ServeError;

/// A refusal over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// Status code.
    pub status: StatusCode,
    /// Machine-readable reason.
    pub reason: &'static str,
    /// What failed, with the value and the remedy.
    pub message: String,
    /// Whole seconds after which a retry may help, rounded up.
    pub retry_after: Option<u64>,
}

impl HttpError {
    /// A request that can never be right; the message names the value and what would be right.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Reason::InvalidArgument.as_str(), message)
    }

    /// An error without a hint when to retry.
    pub fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
            retry_after: None,
        }
    }

    /// What the metrics call it.
    pub fn outcome(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::PAYLOAD_TOO_LARGE => {
                "invalid"
            }
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::TOO_MANY_REQUESTS => "overloaded",
            StatusCode::GATEWAY_TIMEOUT => "deadline",
            StatusCode::SERVICE_UNAVAILABLE => "not_ready",
            _ => "internal",
        }
    }

    /// The body, also as the last event of a stream that broke.
    pub fn body(&self) -> serde_json::Value {
        // `type` and `code` are where clients of the OpenAI shape look.
        json!({"error": {
            "reason": self.reason,
            "message": self.message,
            "type": self.outcome(),
            "code": self.reason,
        }})
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<InferError> for HttpError {
    fn from(error: InferError) -> Self {
        let text = error.to_string();
        match error {
            InferError::Input(_) => Self::invalid(text),
            InferError::Overloaded { retry_after, .. } => Self {
                retry_after: Some(retry_after.as_millis().div_ceil(1000).try_into().unwrap_or(1)),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, Reason::Overloaded.as_str(), text)
            },
            InferError::Deadline { .. } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "DEADLINE_EXCEEDED",
                format!("{text}; ask for less, or allow more by x-request-timeout-ms"),
            ),
            InferError::Closing => Self {
                retry_after: Some(1),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::NotServing.as_str(), text)
            },
            InferError::Internal { .. } => {
                tracing::error!("inference failed: {text}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal.as_str(), text)
            }
        }
    }
}

impl From<ServeError> for HttpError {
    fn from(error: ServeError) -> Self {
        let text = error.to_string();
        match error {
            ServeError::UnknownModel { .. } => {
                Self::new(StatusCode::NOT_FOUND, Reason::ModelNotFound.as_str(), text)
            }
            ServeError::UnknownVersion { .. }
            | ServeError::NotServed { .. }
            | ServeError::PutAside { .. }
            | ServeError::NoChampion { .. } => {
                Self::new(StatusCode::NOT_FOUND, Reason::ModelNotLoaded.as_str(), text)
            }
            // As where a version is loaded by hand: asking again does not help.
            ServeError::NotLoadable { .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Reason::ModelInvalid.as_str(),
                text,
            ),
            // Tries go on, at longer and longer intervals; a moment is not what it takes.
            ServeError::NotCopied { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Reason::Unreachable.as_str(),
                text,
            ),
            ServeError::NotReady { .. } | ServeError::Stopping => Self {
                retry_after: Some(1),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::NotServing.as_str(), text)
            },
            ServeError::Infer(error) => error.into(),
        }
    }
}

pub(super) async fn no_such_route(uri: Uri) -> HttpError {
    let message = format!(
        "there is no route {}; see /v2, /v1/models, /v1/embeddings, /v1/completions, /predict, /health and /metrics",
        uri.path()
    );
    HttpError::new(StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", message)
}

/// The framework adds the header `Allow`.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> HttpError {
    let message = format!(
        "{} takes no {method}; the header Allow names what it takes",
        uri.path()
    );
    HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
}
