//! The HTTP contract, against engines without weights.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response, StatusCode},
};
use inference::{Signature, fake::FakeEngine};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use types::{Holder, NodeIncarnation, VersionKey};

use super::{HttpLimits, HttpState, Shared, router};
use crate::{
    board::Board,
    desired::LocalWishes,
    metrics::Metrics,
    serving::{Expected, Serving, Trouble},
};

mod large;

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

#[tokio::test]
async fn v2_says_what_is_there() {
    let bench = bench().await;
    assert_eq!(bench.get("/v2").await.1["name"], "regent");
    assert_eq!(bench.get("/v2/health/live").await.0, StatusCode::OK);
    assert_eq!(
        bench.get("/v2/health/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    bench.board.send_modify(|b| b.ready = Ok(()));
    assert_eq!(bench.get("/v2/health/ready").await.0, StatusCode::OK);

    let (status, body) = bench.get("/v2/models/digits").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["version"], "1");
    assert_eq!(body["versions"], json!(["1", "2"]));
    assert_eq!(
        body["inputs"][0],
        json!({"name": "image", "datatype": "FP32", "shape": [-1, 64]})
    );
    assert_eq!(bench.get("/v2/models/digits/versions/2").await.1["version"], "2");
    assert_eq!(bench.get("/v2/models/digits/ready").await.0, StatusCode::OK);
    assert_eq!(
        bench.get("/v2/models/digits/versions/2/ready").await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn v2_infers_by_name_and_by_version_and_names_both_in_the_answer() {
    let bench = bench().await;
    let mut question = image();
    question["id"] = json!("q1");
    let (status, body) = bench.post("/v2/models/digits/infer", question).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        (&body["model_name"], &body["model_version"], &body["id"]),
        (&json!("digits"), &json!("1"), &json!("q1"))
    );
    let names: Vec<_> = body["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["name"].clone())
        .collect();
    assert_eq!(names, ["class", "probabilities"]);

    // Nested rows are the same as flat ones, and one output can be asked for.
    let mut nested = image();
    nested["inputs"][0]["data"] = json!([vec![0.5; 64]]);
    nested["outputs"] = json!([{"name": "class"}]);
    let (_, other) = bench.post("/v2/models/digits/versions/2/infer", nested).await;
    assert_eq!(other["model_version"], "2");
    assert_eq!(other["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(other["outputs"][0]["data"], body["outputs"][0]["data"]);

    let (_, written) = bench
        .post(
            "/v2/models/writer/infer",
            json!({
                "inputs": [{"name": "prompt", "shape": [1], "datatype": "BYTES", "data": ["once upon"]}],
                "parameters": {"max_tokens": 2},
            }),
        )
        .await;
    assert_eq!(written["outputs"][0]["name"], "text", "{written}");
}

#[tokio::test]
async fn bad_input_is_a_400_that_names_the_value() {
    let bench = bench().await;
    let cases = [
        (
            json!({"inputs": [{"name": "image", "shape": [1, 63], "datatype": "FP32", "data": vec![0.5; 63]}]}),
            "63",
        ),
        (
            json!({"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![0.5; 63]}]}),
            "63",
        ),
        (
            json!({"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP64", "data": vec![0.5; 64]}]}),
            "FP64",
        ),
        (
            json!({"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": ["x"]}]}),
            "\"x\"",
        ),
        (
            json!({"inputs": [{"name": "picture", "shape": [1], "datatype": "FP32", "data": [1]}]}),
            "picture",
        ),
        (json!({"inputs": []}), "image"),
        (json!({"input": []}), "the body has no \"inputs\"; add it"),
        (
            json!({"inputs": {"name": "image"}}),
            "inputs is the object {\"name\":\"image\"}; it must be a list",
        ),
        (
            json!({"inputs": [{"name": "image", "shape": [-1, 64], "datatype": "FP32", "data": []}]}),
            "inputs[0].shape[0] is the number -1; it must be a whole number, 0 or more",
        ),
        (
            json!({"inputs": [{"name": "image", "shape": [1, 4], "datatype": "FP32", "data": vec![vec![0.5; 6]; 4]}]}),
            "data of input \"image\" is nested as [4, 6], and its shape is [1, 4]",
        ),
        (
            json!({"inputs": [{"name": "image", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3]]}]}),
            "lists of different lengths",
        ),
        (
            json!({"inputs": [{"name": "image", "shape": [2, 2], "datatype": "FP32", "data": [1, [2]]}]}),
            "lists of different lengths",
        ),
        (
            json!({"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": 5}]}),
            "data of input \"image\" is the number 5; it must be a list",
        ),
        (
            json!({"inputs": [], "parameters": {"max_tokens": "ten"}}),
            "parameters.max_tokens is the text \"ten\"; it must be a whole number, 0 or more",
        ),
        (json!({"inputs": [], "outputs": [{"name": "colour"}]}), "colour"),
    ];
    for (body, expected) in cases {
        let (status, answer) = bench.post("/v2/models/digits/infer", body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer["error"]["reason"], "INVALID_ARGUMENT");
        assert!(message(&answer).contains(expected), "{answer}");
    }
    let broken = Request::post("/v2/models/digits/infer")
        .body(Body::from("{"))
        .unwrap();
    assert_eq!(read(bench.send(broken).await).await.0, StatusCode::BAD_REQUEST);
    let (status, _) = bench.get("/v2/models/digits/versions/zero").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_unknown_model_is_a_404_that_lists_what_is_known() {
    let bench = bench().await;
    for (path, body) in [
        ("/v2/models/nobody/infer", image()),
        ("/v1/embeddings", json!({"model": "nobody", "input": "x"})),
        ("/v1/completions", json!({"model": "nobody", "prompt": "x"})),
        ("/predict", json!({"model": "nobody", "input": "x"})),
    ] {
        let (status, answer) = bench.post(path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer["error"]["reason"], "MODEL_NOT_FOUND");
        assert!(message(&answer).contains("digits, embedder, writer"), "{answer}");
    }
    let (status, answer) = bench.get("/nothing/here").await;
    assert_eq!(
        (status, &answer["error"]["reason"]),
        (StatusCode::NOT_FOUND, &json!("ROUTE_NOT_FOUND"))
    );
    for route in [
        "/v2",
        "/v1/models",
        "/v1/embeddings",
        "/v1/completions",
        "/predict",
        "/health",
    ] {
        assert!(message(&answer).contains(route), "{route}: {answer}");
    }
}

#[tokio::test]
async fn a_method_that_a_route_does_not_take_is_a_405_with_a_body() {
    let bench = bench().await;
    for (method, path, allowed) in [
        ("PUT", "/v2/models/digits/infer", "POST"),
        ("POST", "/health", "GET,HEAD"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let response = bench.send(request).await;
        assert_eq!(response.headers()["allow"], allowed);
        let (status, body) = read(response).await;
        assert_eq!(
            (status, &body["error"]["reason"]),
            (StatusCode::METHOD_NOT_ALLOWED, &json!("METHOD_NOT_ALLOWED"))
        );
        let said = format!("{path} takes no {method}");
        assert!(message(&body).starts_with(&said), "{body}");
    }
}

#[tokio::test]
async fn a_model_on_its_way_is_a_503_and_a_version_that_is_not_loaded_a_404() {
    let bench = bench().await;
    let versions = ["later@1", "digits@1"].map(|name| (key(name), None)).into();
    bench.state.serving.expect(Expected {
        versions,
        ..Expected::default()
    });
    let (status, answer) = bench.post("/v2/models/later/infer", image()).await;
    assert_eq!(
        (status, &answer["error"]["reason"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("NOT_SERVING"))
    );
    let (status, answer) = bench.post("/v2/models/digits/versions/9/infer", image()).await;
    assert_eq!(
        (status, &answer["error"]["reason"]),
        (StatusCode::NOT_FOUND, &json!("MODEL_NOT_LOADED"))
    );
    assert!(message(&answer).contains("loaded are: 1, 2"), "{answer}");
    // Kept, and named by nothing: asking again does not help.
    bench.state.serving.expect(Expected {
        versions: [(key("later@1"), Some(Trouble::Unserved))].into(),
        ..Expected::default()
    });
    for (path, words) in [
        ("/v2/models/later/infer", "later has no alias champion"),
        ("/v2/models/later/versions/1/infer", "no alias names it"),
    ] {
        let response = bench.send(post(path, &image())).await;
        assert!(!response.headers().contains_key("retry-after"));
        let (status, answer) = read(response).await;
        assert_eq!(
            (status, &answer["error"]["reason"]),
            (StatusCode::NOT_FOUND, &json!("MODEL_NOT_LOADED"))
        );
        assert!(message(&answer).contains(words), "{answer}");
    }
    // Not for want of an alias.
    bench.state.serving.expect(Expected {
        versions: [(key("later@1"), Some(Trouble::PutAside)), (key("later@2"), None)].into(),
        ..Expected::default()
    });
    for path in ["/v2/models/later/infer", "/v2/models/later/versions/1/infer"] {
        let (status, answer) = bench.post(path, image()).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(
            message(&answer).contains("later@1 was unloaded on this node by hand"),
            "{answer}"
        );
    }
    // Whoever watches the counters sees them all; names that nobody has are no labels.
    bench.post("/v2/models/nobody/infer", image()).await;
    let metrics = bench.state.metrics.render();
    let counted = |line: &str| metrics.lines().any(|l| l.starts_with(line));
    assert!(
        counted("regent_inference_requests_total{model=\"later\",outcome=\"not_found\"} 4"),
        "{metrics}"
    );
    assert!(!metrics.contains("nobody"), "{metrics}");
    bench.board.send_modify(|b| b.ready = Ok(()));
    bench.state.serving.refuse_all();
    assert_eq!(
        bench.get("/v2/health/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(bench.get("/health").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let (status, _) = bench.post("/v2/models/digits/infer", image()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

/// "Try again in a moment" is for what comes in a moment.
#[tokio::test]
async fn a_version_that_failed_says_why_and_where_to_look_and_not_to_ask_again() {
    let bench = bench().await;
    let broken = Trouble::Load("config.json: no such kind".to_owned());
    let lost = Trouble::Copy("read from east failed: no such object".to_owned());
    let versions = [
        (key("broken@1"), Some(broken)),
        (key("broken@2"), None),
        (key("lost@3"), Some(lost)),
    ];
    let active = ["broken@1", "lost@3"].map(|name| (key(name).model, key(name).version));
    bench.state.serving.expect(Expected {
        versions: versions.into(),
        active: active.into(),
    });
    for path in ["/v2/models/broken/infer", "/v2/models/broken/versions/1/infer"] {
        let response = bench.send(post(path, &image())).await;
        assert!(!response.headers().contains_key("retry-after"));
        let (status, answer) = read(response).await;
        assert_eq!(
            (status, &answer["error"]["reason"]),
            (StatusCode::INTERNAL_SERVER_ERROR, &json!("MODEL_INVALID"))
        );
        assert!(
            message(&answer).starts_with("broken@1 failed to load here: config.json: no such kind; "),
            "{answer}"
        );
    }
    let response = bench.send(post("/v2/models/lost/infer", &image())).await;
    assert!(!response.headers().contains_key("retry-after"));
    let (status, answer) = read(response).await;
    assert_eq!(
        (status, &answer["error"]["reason"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("UNREACHABLE"))
    );
    for part in ["lost@3 failed", "no such object", "`regent replication status`"] {
        assert!(message(&answer).contains(part), "{answer}");
    }
    // Of another version of the model nothing is known to be wrong.
    let (status, answer) = bench.post("/v2/models/broken/versions/2/infer", image()).await;
    assert_eq!(
        (status, &answer["error"]["reason"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("NOT_SERVING"))
    );
}

#[tokio::test]
async fn a_body_above_the_limit_is_a_413() {
    let bench = bench().await;
    let (status, answer) = bench
        .post(
            "/predict",
            json!({"model": "embedder", "input": "x".repeat(5000)}),
        )
        .await;
    assert_eq!(
        (status, &answer["error"]["reason"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("LIMIT_EXCEEDED"))
    );
    assert!(message(&answer).contains("4096 bytes"), "{answer}");
}

fn gated() -> Arc<FakeEngine> {
    Arc::new(FakeEngine::gated(Signature::digits(64, 16.0, 10, 32)))
}

#[tokio::test]
async fn a_deadline_that_passes_is_a_504_and_a_bad_one_a_400() {
    let slow = gated();
    let bench = bench_with(64, vec![("slow@1", Arc::clone(&slow))]).await;
    let mut request = post("/v2/models/slow/infer", &image());
    request
        .headers_mut()
        .insert("x-request-timeout-ms", "20".parse().unwrap());
    let (status, answer) = read(bench.send(request).await).await;
    assert_eq!(
        (status, &answer["error"]["reason"]),
        (StatusCode::GATEWAY_TIMEOUT, &json!("DEADLINE_EXCEEDED"))
    );
    slow.open();
    for bad in ["soon", "0", "-5"] {
        let mut request = post("/v2/models/digits/infer", &image());
        request
            .headers_mut()
            .insert("x-request-timeout-ms", bad.parse().unwrap());
        assert_eq!(
            read(bench.send(request).await).await.0,
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_full_queue_is_a_429_with_retry_after() {
    let slow = gated();
    let bench = Arc::new(bench_with(1, vec![("slow@1", Arc::clone(&slow))]).await);
    let ask = |bench: Arc<Bench>| async move { bench.send(post("/v2/models/slow/infer", &image())).await };
    let first = tokio::spawn(ask(Arc::clone(&bench)));
    let waiting = Arc::clone(&slow);
    tokio::task::spawn_blocking(move || waiting.await_call())
        .await
        .unwrap();
    // One runs, one waits; of the others each is refused.
    let mut refused = None;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = tokio::spawn(ask(Arc::clone(&bench)));
        tokio::select! {
            response = &mut other => refused = Some(response.unwrap()),
            () = tokio::task::yield_now() => others.push(other),
        }
    }
    slow.open();
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    for other in others {
        let response = other.await.unwrap();
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(response);
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(read(refused).await.1["error"]["reason"], "OVERLOADED");
}

#[tokio::test]
async fn embeddings_have_the_shape_that_clients_know() {
    let bench = bench().await;
    let (status, body) = bench
        .post(
            "/v1/embeddings",
            json!({"model": "embedder", "input": ["one", "two words"]}),
        )
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        (&body["object"], &body["model"], &body["model_version"]),
        (&json!("list"), &json!("embedder"), &json!("1"))
    );
    assert_eq!(body["data"][1]["index"], 1);
    let vector = body["data"][1]["embedding"].as_array().unwrap().clone();
    let (_, single) = bench
        .post(
            "/v1/embeddings",
            json!({"model": "embedder@1", "input": "two words"}),
        )
        .await;
    assert_eq!(single["data"][0]["embedding"].as_array().unwrap(), &vector);
    let (_, packed) = bench
        .post(
            "/v1/embeddings",
            json!({"model": "embedder", "input": "two words", "encoding_format": "base64"}),
        )
        .await;
    assert!(packed["data"][0]["embedding"].is_string());
    let (status, answer) = bench
        .post("/v1/embeddings", json!({"model": "digits", "input": "x"}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message(&answer).contains("family digits"), "{answer}");
    assert_eq!(
        bench.get("/v1/models").await.1["data"].as_array().unwrap().len(),
        4
    );
}

#[tokio::test]
async fn completions_come_whole_or_as_events_that_end_with_done() {
    let bench = bench().await;
    let question = json!({"model": "writer", "prompt": "once upon", "max_tokens": 3});
    let (status, whole) = bench.post("/v1/completions", question.clone()).await;
    assert_eq!(status, StatusCode::OK, "{whole}");
    assert_eq!(whole["choices"][0]["text"], " once upon once");
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 3);
    assert_eq!(whole["model_version"], "1");

    let mut streamed = question;
    streamed["stream"] = json!(true);
    let response = bench.send(post("/v1/completions", &streamed)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (_, events) = text(response).await;
    let parts: Vec<_> = events
        .split("\n\n")
        .filter_map(|e| e.strip_prefix("data: "))
        .collect();
    assert_eq!(parts.last(), Some(&"[DONE]"));
    let parts: Vec<Value> = parts[..parts.len() - 1]
        .iter()
        .map(|p| serde_json::from_str(p).unwrap())
        .collect();
    let all: String = parts
        .iter()
        .filter_map(|p| p["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(all, " once upon once");
    assert_eq!(parts.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn completions_refuse_what_they_cannot_do() {
    let bench = bench().await;
    let check = async |field: &str, value: Value, expected: &str| {
        let mut body = json!({"model": "writer", "prompt": "once"});
        body[field] = value;
        let (status, answer) = bench.post("/v1/completions", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{field}");
        assert!(message(&answer).contains(expected), "{answer}");
    };
    check(
        "prompt",
        json!(["a", 7]),
        "prompt[1] is the number 7; it must be a text",
    )
    .await;
    check(
        "prompt",
        json!({}),
        "prompt is the object {}; it must be a text, or a list of texts",
    )
    .await;
    check("n", json!(2), "n: ").await;
    check("stop", json!(["."]), "stop").await;
    check("echo", json!(true), "echo").await;
    check("prompt", json!(["a", "b"]), "2 prompts").await;
    check("max_tokens", json!(1000), "max_tokens is 1000").await;
    check("prompt", json!(""), "empty").await;
    check("model", json!("digits"), "only generator models").await;
}

#[tokio::test]
async fn predict_answers_every_family_with_model_id_and_timestamp() {
    let bench = bench().await;
    let (status, digit) = bench
        .post("/predict", json!({"model": "digits", "input": vec![0.5; 64]}))
        .await;
    assert_eq!(status, StatusCode::OK, "{digit}");
    assert!(digit["prediction"]["class"].is_i64(), "{digit}");
    assert_eq!(digit["model_id"], "digits@1");
    assert!(digit["timestamp"].as_str().unwrap().ends_with('Z'));

    let rows = vec![vec![0.5; 8]; 8];
    let (_, by_rows) = bench
        .post("/predict", json!({"model": "digits", "image": rows.clone()}))
        .await;
    assert_eq!(by_rows["prediction"], digit["prediction"]);
    let (_, batch) = bench
        .post(
            "/predict",
            json!({"model": "digits", "input": [vec![0.5; 64], vec![1.0; 64]]}),
        )
        .await;
    assert_eq!(batch["prediction"][0], digit["prediction"]);
    assert_eq!(batch["prediction"].as_array().unwrap().len(), 2);
    let (_, batch) = bench
        .post("/predict", json!({"model": "digits", "input": [rows]}))
        .await;
    assert_eq!(batch["prediction"][0], digit["prediction"]);

    let (_, vector) = bench
        .post("/predict", json!({"model": "embedder", "input": "some words"}))
        .await;
    assert!(vector["prediction"][0].is_number(), "{vector}");
    let (_, written) = bench
        .post(
            "/predict",
            json!({"model": "writer", "prompt": "once", "parameters": {"max_tokens": 2}}),
        )
        .await;
    assert_eq!(written["prediction"], " once once");
    let beside =
        json!({"model": "writer", "prompt": "once", "max_tokens": 2, "parameters": {"max_tokens": 3}});
    let (_, written) = bench.post("/predict", beside).await;
    assert_eq!(
        written["prediction"], " once once",
        "what stands beside the input counts"
    );
    let (status, answer) = bench
        .post("/predict", json!({"model": "digits", "input": [1, 2, 3]}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        message(&answer).contains("holds 3 numbers; an image has 64"),
        "{answer}"
    );
}

/// A second look at the board within the first waits behind a writer that waits for the first: nobody moves any more.
#[tokio::test]
async fn health_is_asked_while_the_board_is_written() {
    let bench = bench().await;
    let over = CancellationToken::new();
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let (board, over) = (bench.board.clone(), over.clone());
            std::thread::spawn(move || {
                while !over.is_cancelled() {
                    board.send_modify(|b| b.ready = Ok(()));
                }
            })
        })
        .collect();
    for _ in 0..3_000 {
        bench.get("/health").await;
    }
    over.cancel();
    for writer in writers {
        writer.join().unwrap();
    }
}

#[tokio::test]
async fn health_says_each_check_and_metrics_count_by_outcome() {
    let bench = bench().await;
    let (status, body) = bench.get("/health").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["checks"]["models"]["ok"], false);
    bench.board.send_modify(|b| b.ready = Ok(()));
    let (status, body) = bench.get("/health").await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("ok")));
    assert_eq!(body["checks"]["session"]["ok"], false);

    bench.post("/v2/models/digits/infer", image()).await;
    bench.post("/v2/models/digits/infer", json!({"inputs": []})).await;
    let (_, metrics) = text(
        bench
            .send(Request::get("/metrics").body(Body::empty()).unwrap())
            .await,
    )
    .await;
    for row in [
        "{model=\"digits\",outcome=\"ok\"} 1",
        "{model=\"digits\",outcome=\"invalid\"} 1",
    ] {
        let row = format!("{}{row}", types::metrics::INFERENCE_REQUESTS.name);
        assert!(metrics.contains(&row), "{metrics}");
    }
}

#[tokio::test]
async fn loading_by_hand_is_for_this_machine_and_names_what_is_known() {
    let bench = bench().await;
    let from = |address: &str, path: &str| {
        let mut request = Request::post(path).body(Body::empty()).unwrap();
        request
            .extensions_mut()
            .insert(ConnectInfo(address.parse::<SocketAddr>().unwrap()));
        request
    };
    let (status, _) = read(bench.send(from("10.0.0.9:5000", "/models/digits/load")).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, answer) = read(bench.send(from("127.0.0.1:5000", "/models/nobody/load")).await).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");

    // The wish is what the reconciler acts on; here the version is loaded already, so the call ends at once.
    let record = crate::catalog::CatalogRow::new(version());
    bench
        .board
        .send_modify(|b| drop(b.copies.insert(key("digits@2"), Arc::new(record.record))));
    let (status, body) = read(bench.send(from("127.0.0.1:5000", "/models/digits@2/load")).await).await;
    assert_eq!(
        (status, &body["loaded"]),
        (StatusCode::OK, &json!(true)),
        "{body}"
    );
    assert!(bench.state.wishes.borrow().load.contains(&key("digits@2")));
}

#[tokio::test]
async fn a_version_that_does_not_load_is_not_wished_for_any_longer() {
    let bench = bench().await;
    let wanted = key("digits@3");
    let record = Arc::new(crate::catalog::CatalogRow::new(version()).record);
    bench.board.send_modify(|b| {
        b.copies.insert(wanted.clone(), record);
        b.load_errors
            .insert(wanted.clone(), "config.json: no such kind".to_owned());
    });
    let load = || {
        let mut request = Request::post("/models/digits@3/load")
            .body(Body::empty())
            .unwrap();
        let peer: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    };
    for unload in [LocalWishes::default().unload, [wanted.clone()].into()] {
        let before = LocalWishes {
            unload,
            ..LocalWishes::default()
        };
        bench.state.wishes.send_replace(before.clone());
        let (status, body) = read(bench.send(load()).await).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
        assert!(message(&body).contains("no such kind"), "{body}");
        assert_eq!(*bench.state.wishes.borrow(), before);
    }
}

fn version() -> types::model::VersionRecord {
    types::model::VersionRecord {
        key: key("digits@2"),
        state: types::model::VersionState::Ready,
        state_reason: String::new(),
        source_region: "west".parse().unwrap(),
        artifacts: Vec::new(),
        framework: String::new(),
        metadata: Default::default(),
        created_at: types::UnixMillis(0),
        created_by: "spiffe://regent.local/user/admin".parse().unwrap(),
        modified: types::Revision(1),
    }
}

#[tokio::test]
async fn a_request_that_was_given_a_version_is_answered_although_the_version_is_taken_out() {
    let bench = bench().await;
    let ticket = bench.state.serving.resolve("digits", None).unwrap();
    let (serving, gone) = (bench.state.serving.clone(), key("digits@1"));
    let mut stopping = tokio::spawn(async move { serving.stop(&gone, Duration::from_secs(5)).await });
    let mut changes = bench.state.serving.changes();
    changes
        .wait_for(|_| !bench.state.serving.is_loaded(&key("digits@1")))
        .await
        .unwrap();
    tokio::select! {
        biased;
        _ = &mut stopping => panic!("it ended before the request"),
        () = tokio::task::yield_now() => {}
    }
    let request = inference::InferRequest::images(vec![0.5; 64]);
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    ticket.infer(request, deadline).await.unwrap();
    drop(ticket);
    stopping.await.unwrap();
    assert!(!bench.state.serving.memory().contains_key(&key("digits@1")));
}
