//! What every inference request has: a deadline, a bounded body, and a model that answers it.

use std::time::{Duration, Instant};

use axum::{body::Body, extract::Request, http::HeaderMap};
use http::StatusCode;
use serde::de::DeserializeOwned;
use types::{ModelName, ModelVersion, Reason};

use super::{HttpError, HttpState, body};
use crate::serving::Ticket;

/// Header by which a caller names its deadline, in milliseconds.
pub(super) const TIMEOUT_HEADER: &str = "x-request-timeout-ms";

/// One request on its way; counts itself when it ends.
pub(super) struct Call {
    pub(super) received: Instant,
    pub(super) deadline: Instant,
}

impl Call {
    /// Reads the deadline; a longer one than is allowed is cut.
    pub(super) fn begin(state: &HttpState, headers: &HeaderMap) -> Result<Self, HttpError> {
        let received = Instant::now();
        let asked = headers.get(TIMEOUT_HEADER).map(|value| {
            let millis = value.to_str().ok().and_then(|t| t.trim().parse::<u64>().ok());
            millis
                .filter(|m| *m > 0)
                .map(Duration::from_millis)
                .ok_or_else(|| {
                    HttpError::invalid(format!(
                        "{TIMEOUT_HEADER} is {value:?}; write milliseconds as a whole number above 0"
                    ))
                })
        });
        let timeout = asked.transpose()?.unwrap_or(state.limits.timeout);
        Ok(Self {
            received,
            deadline: received + timeout.min(state.limits.timeout_max),
        })
    }

    /// Reads a JSON body within the deadline and the size limit.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        state: &HttpState,
        sent: Body,
    ) -> Result<T, HttpError> {
        let limit = state.limits.body_max;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let read = tokio::time::timeout(left, axum::body::to_bytes(sent, limit)).await;
        let bytes = read
            .map_err(|_| {
                let text = "the body did not arrive before the deadline; send it faster, or allow more by x-request-timeout-ms";
                HttpError::new(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", text)
            })?
            .map_err(|error| too_large_or_broken(&error, limit))?;
        body::read(&bytes)
    }

    /// Counts the request under its model.
    pub(super) fn end<T>(&self, state: &HttpState, model: &ModelName, result: &Result<T, HttpError>) {
        let outcome = result.as_ref().map_or_else(HttpError::outcome, |_| "ok");
        state.metrics.request(model, outcome, self.received.elapsed());
    }
}

fn too_large_or_broken(error: &axum::Error, limit: usize) -> HttpError {
    let text = format!("{error:?}");
    if text.contains("LengthLimit") {
        let message =
            format!("the body is larger than {limit} bytes; split the request, or raise limits.body_max");
        return HttpError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Reason::LimitExceeded.as_str(),
            message,
        );
    }
    HttpError::invalid(format!("the body ended early: {error}"))
}

/// Header and body of a request, with its call begun.
pub(super) async fn open<T: DeserializeOwned>(
    state: &HttpState,
    request: Request,
) -> Result<(Call, T), HttpError> {
    let call = Call::begin(state, request.headers())?;
    let body = call.json(state, request.into_body()).await?;
    Ok((call, body))
}

/// The model that `name` or `name@version` means.
pub(super) fn resolve(state: &HttpState, id: &str) -> Result<Ticket, HttpError> {
    let (model, version) = split(id)?;
    Ok(state.serving.resolve(model, version)?)
}

/// `name` or `name@version`.
pub(super) fn split(id: &str) -> Result<(&str, Option<ModelVersion>), HttpError> {
    match id.split_once('@') {
        None => Ok((id, None)),
        Some((model, version)) => Ok((model, Some(parse_version(version)?))),
    }
}

pub(super) fn parse_version(text: &str) -> Result<ModelVersion, HttpError> {
    text.parse()
        .map_err(|e: types::InvalidId| HttpError::invalid(e.to_string()))
}
