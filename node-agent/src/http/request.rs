//! What every inference request has: a deadline, a bounded body, and a model that answers it.

use std::time::{Duration, Instant};

use axum::{body::Body, extract::Request, http::HeaderMap};
use http::StatusCode;
use inference::InferError;
use types::{ModelName, ModelVersion};

use super::{HttpError, HttpState, bodies::Held};
use crate::serving::{ServeError, Ticket};

/// Bodies up to this size are parsed where they arrived: that takes less than handing them to another thread is worth.
const INLINE_MAX: usize = 16 * 1024;

/// Header by which a caller names its deadline, in milliseconds.
pub(super) const TIMEOUT_HEADER: &str = "x-request-timeout-ms";

/// One request on its way; counts itself when it ends.
pub(super) struct Call {
    pub(super) received: Instant,
    pub(super) deadline: Instant,
    /// The room of its body, until it has its answer.
    held: Option<Held>,
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
            held: None,
        })
    }

    /// Reads a body within the deadline and the size limits, and makes of it what `parse` does; a large one on a thread
    /// that may be busy for so long.
    pub(super) async fn read<T: Send + 'static>(
        &mut self,
        state: &HttpState,
        body: Body,
        parse: impl FnOnce(&[u8]) -> Result<T, HttpError> + Send + 'static,
    ) -> Result<T, HttpError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let read = tokio::time::timeout(left, state.room.read(body, state.limits.body_max)).await;
        let (bytes, held) = read.map_err(|_| late())??;
        self.held = Some(held.clone());
        if bytes.len() <= INLINE_MAX {
            return parse(&bytes);
        }
        // It goes on when the caller is gone, and holds its room until then.
        let parsed = tokio::task::spawn_blocking(move || {
            let _held = held;
            parse(&bytes)
        });
        let what = |error: tokio::task::JoinError| InferError::Internal {
            what: format!("the body could not be parsed: {error}"),
        };
        parsed.await.unwrap_or_else(|error| Err(what(error).into()))
    }

    /// Counts the request under its model.
    pub(super) fn end<T>(&self, state: &HttpState, model: &ModelName, result: &Result<T, HttpError>) {
        let outcome = result.as_ref().map_or_else(HttpError::outcome, |_| "ok");
        state.metrics.request(model, outcome, self.received.elapsed());
    }
}

fn late() -> HttpError {
    let text =
        "the body did not arrive before the deadline; send it faster, or allow more by x-request-timeout-ms";
    HttpError::new(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", text)
}

/// Header and body of a request, with its call begun.
pub(super) async fn open<T: Send + 'static>(
    state: &HttpState,
    request: Request,
    parse: impl FnOnce(&HttpState, &[u8]) -> Result<T, HttpError> + Send + 'static,
) -> Result<(Call, T), HttpError> {
    let mut call = Call::begin(state, request.headers())?;
    let shared = state.clone();
    let parse = move |bytes: &[u8]| parse(&shared, bytes);
    let parsed = call.read(state, request.into_body(), parse).await?;
    Ok((call, parsed))
}

/// The model that `name` or `name@version` means.
pub(super) fn resolve(state: &HttpState, id: &str) -> Result<Ticket, HttpError> {
    let (model, version) = split(id)?;
    Ok(state.serving.resolve(model, version)?)
}

/// The version that answers an inference request. A refusal counts under its model too, if there is such a model.
pub(super) fn take(
    state: &HttpState,
    model: &str,
    version: Option<ModelVersion>,
) -> Result<Ticket, HttpError> {
    let found = state.serving.resolve(model, version);
    let is_known = !matches!(found, Err(ServeError::UnknownModel { .. } | ServeError::Stopping));
    let found = found.map_err(HttpError::from);
    if let (Err(error), Ok(name)) = (&found, ModelName::new(model))
        && is_known
    {
        state.metrics.refused(&name, error.outcome());
    }
    found
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
