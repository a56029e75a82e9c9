//! The HTTP contract, against engines without weights.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use inference::{Signature, fake::FakeEngine};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;
use types::{Holder, NodeIncarnation, VersionKey};

use super::{HttpLimits, HttpState, Shared, router};
use crate::{board::Board, desired::LocalWishes, metrics::Metrics, serving::Serving};

mod absent;
mod bounds;
mod families;
mod health;
mod large;
mod loading;
mod v2;

struct Bench {
    state: HttpState,
    board: watch::Sender<Board>,
}

fn key(text: &str) -> VersionKey {
    text.parse().unwrap()
}

async fn bench() -> Bench {
    bench_with(64, Vec::new()).await
}

async fn bench_with(queue: usize, more: Vec<(&str, Arc<FakeEngine>)>) -> Bench {
    bench_within(limits(), queue, more).await
}

fn limits() -> HttpLimits {
    HttpLimits {
        body_max: 4096,
        bodies_max: 6000,
        timeout: Duration::from_secs(10),
        timeout_max: Duration::from_secs(20),
    }
}

async fn bench_within(limits: HttpLimits, queue: usize, more: Vec<(&str, Arc<FakeEngine>)>) -> Bench {
    let me = Holder {
        region: "west".parse().unwrap(),
        node: "a1".parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(1),
    };
    let (board, seen) = watch::channel(Board::new(me));
    let metrics = Metrics::default();
    let serving = Serving::new(queue, metrics.clone());
    let state = HttpState::new(Shared {
        serving: serving.clone(),
        board: seen,
        wishes: watch::Sender::new(LocalWishes::default()),
        metrics,
        limits,
    });
    let models = [
        ("digits@1", Signature::digits(64, 16.0, 10, 32)),
        ("digits@2", Signature::digits(64, 16.0, 10, 32)),
        ("embedder@1", Signature::embedding(8, 16, 32)),
        ("writer@1", Signature::generator(64, 32)),
    ];
    for (name, signature) in models {
        start(&serving, name, Arc::new(FakeEngine::new(signature))).await;
    }
    for (name, engine) in more {
        // Its self-test passes the gate; later calls wait.
        engine.pass();
        start(&serving, name, engine).await;
    }
    serving.activate(&key("digits@1").model, key("digits@1").version);
    Bench { state, board }
}

async fn start(serving: &Serving, name: &str, engine: Arc<FakeEngine>) {
    serving
        .start(key(name), engine, Duration::from_secs(5))
        .await
        .unwrap();
    serving.activate(&key(name).model, key(name).version);
}

impl Bench {
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        router(self.state.clone()).oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        read(response).await
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        read(self.send(post(path, &body)).await).await
    }
}

fn post(path: &str, body: &Value) -> Request<Body> {
    Request::post(path).body(Body::from(body.to_string())).unwrap()
}

async fn text(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn read(response: Response<Body>) -> (StatusCode, Value) {
    let (status, text) = text(response).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn message(body: &Value) -> &str {
    body["error"]["message"].as_str().unwrap_or_default()
}

fn image() -> Value {
    json!({"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![0.5; 64]}]})
}
