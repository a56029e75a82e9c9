//! Inference over HTTP: Open Inference Protocol v2, OpenAI-shaped routes, and a plain `/predict`.
//!
//! Absent on purpose: TLS (plain, so on a loopback address only), the registry, and any choice between regions.
//! Invariants: every request has a deadline and a bounded body, and so have all together; an error names the value at fault and the remedy; an
//! answer names the model and version that gave it.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};
use tokio::sync::watch;

use crate::{board::Board, desired::LocalWishes, metrics::Metrics, serving::Serving};

mod bodies;
mod body;
mod error;
mod generate;
mod health;
mod models;
mod openai;
mod predict;
mod request;
mod v2;
mod values;

pub use error::HttpError;

/// What the handlers share.
#[derive(Clone)]
pub struct HttpState {
    shared: Arc<Shared>,
    room: bodies::Room,
}

/// See [`HttpState`].
pub struct Shared {
    /// Models in memory.
    pub serving: Serving,
    /// How this node stands.
    pub board: watch::Receiver<Board>,
    /// What operators of this node asked for.
    pub wishes: watch::Sender<LocalWishes>,
    /// What is counted.
    pub metrics: Metrics,
    /// Bounds of a request.
    pub limits: HttpLimits,
}

/// Bounds of a request.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Largest body in bytes.
    pub body_max: usize,
    /// Most bytes of the bodies of all requests in hand together.
    pub bodies_max: usize,
    /// Deadline where none is named.
    pub timeout: Duration,
    /// Longest deadline that counts; a longer one is cut to it.
    pub timeout_max: Duration,
}

impl HttpState {
    /// Takes what the handlers share.
    pub fn new(shared: Shared) -> Self {
        Self {
            room: bodies::Room::new(shared.limits.bodies_max),
            shared: Arc::new(shared),
        }
    }
}

impl HttpState {
    /// Whether requests should come here; else why not.
    fn ready(&self) -> Result<(), String> {
        if self.serving.is_stopping() {
            return Err("this agent is stopping".to_owned());
        }
        self.board.borrow().ready.clone()
    }
}

impl std::ops::Deref for HttpState {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// Every route of inference HTTP.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/v2", get(v2::server))
        .route("/v2/health/live", get(v2::live))
        .route("/v2/health/ready", get(v2::ready))
        .route("/v2/models/{model}", get(v2::metadata))
        .route("/v2/models/{model}/ready", get(v2::model_ready))
        .route("/v2/models/{model}/infer", post(v2::infer))
        .route("/v2/models/{model}/versions/{version}", get(v2::version_metadata))
        .route(
            "/v2/models/{model}/versions/{version}/ready",
            get(v2::version_ready),
        )
        .route(
            "/v2/models/{model}/versions/{version}/infer",
            post(v2::infer_version),
        )
        .route("/v1/models", get(openai::models))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/completions", post(generate::completions))
        .route("/predict", post(predict::predict))
        .route("/models/{id}/load", post(models::load))
        .route("/models/{id}/unload", post(models::unload))
        .merge(observe_routes())
        .method_not_allowed_fallback(error::no_such_method)
        .fallback(error::no_such_route)
        .with_state(state)
}

/// Routes of the metrics listener.
pub fn observe_router(state: HttpState) -> Router {
    observe_routes()
        .method_not_allowed_fallback(error::no_such_method)
        .fallback(error::no_such_route)
        .with_state(state)
}

fn observe_routes() -> Router<HttpState> {
    Router::new()
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
}

#[cfg(test)]
mod tests;
