//! Bodies that are large, and many of them.

use super::*;

/// The question of an image in a body of exactly `bytes`.
fn image_of(bytes: usize, path: &str) -> Request<Body> {
    let question = image().to_string();
    let padded = format!("{question}{}", " ".repeat(bytes - question.len()));
    Request::post(path).body(Body::from(padded)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_its_room_until_its_answer_and_who_finds_none_is_told_when_to_try_again() {
    let slow = Arc::new(FakeEngine::gated(Signature::digits(64, 16.0, 10, 32)));
    let bench = bench_with(64, vec![("slow@1", Arc::clone(&slow))]).await;
    let (largest, path) = (bench.state.limits.body_max, "/v2/models/slow/infer");
    let first = tokio::spawn(router(bench.state.clone()).oneshot(image_of(largest, path)));
    let running = Arc::clone(&slow);
    tokio::task::spawn_blocking(move || running.await_call())
        .await
        .unwrap();

    // It is in the model's hands by now, and its bytes still count.
    let others = (0..20).map(|_| tokio::spawn(router(bench.state.clone()).oneshot(image_of(largest, path))));
    for other in others.collect::<Vec<_>>() {
        let response = other.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()["retry-after"], "1");
        let (_, answer) = read(response).await;
        assert_eq!(answer["error"]["reason"], "OVERLOADED");
        assert!(message(&answer).contains("6000 bytes"), "{answer}");
    }
    // Whoever brings little still finds room.
    let (status, _) = bench.post("/v2/models/digits/infer", image()).await;
    assert_eq!(status, StatusCode::OK);

    slow.open();
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
    let response = bench.send(image_of(largest, path)).await;
    assert_eq!(response.status(), StatusCode::OK);
}

fn megabytes() -> HttpLimits {
    HttpLimits {
        body_max: 8 << 20,
        bodies_max: 16 << 20,
        ..limits()
    }
}

#[tokio::test]
async fn a_large_body_is_answered_like_a_small_one() {
    let bench = bench_within(megabytes(), 64, Vec::new()).await;
    let path = "/v2/models/digits/infer";
    let (status, small) = bench.post(path, image()).await;
    assert_eq!(status, StatusCode::OK, "{small}");
    let (_, large) = read(bench.send(image_of(1 << 20, path)).await).await;
    assert_eq!(large, small);
    let broken = Request::post(path).body(Body::from(" ".repeat(1 << 20))).unwrap();
    let (status, answer) = read(bench.send(broken).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
}

/// What would be hundreds of megabytes as JSON values is refused at the first value that is too many, or passed over.
#[tokio::test]
async fn more_values_than_a_model_could_take_are_not_kept() {
    let bench = bench_within(megabytes(), 64, Vec::new()).await;
    let many = format!("[{}0]", "0,".repeat(1 << 20));
    let texts = format!("[{}\"\"]", "\"\",".repeat(1 << 20));
    let post = async |path: &str, body: String| {
        let request = Request::post(path).body(Body::from(body)).unwrap();
        read(bench.send(request).await).await
    };
    let tensor = format!(r#"{{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": {many}}}"#);
    let refused = [
        (
            "/v2/models/digits/infer",
            format!(r#"{{"inputs": [{tensor}]}}"#),
            "more than 8192 values",
        ),
        (
            "/predict",
            format!(r#"{{"model": "digits", "input": {many}}}"#),
            "more than 8192 values",
        ),
        (
            "/predict",
            format!(r#"{{"model": "embedder", "input": {texts}}}"#),
            "more than 128 values",
        ),
        (
            "/v1/embeddings",
            format!(r#"{{"model": "embedder", "input": {texts}}}"#),
            "more than 128 values",
        ),
        (
            "/v1/completions",
            format!(r#"{{"model": "writer", "prompt": {texts}}}"#),
            "more than 4 values",
        ),
        (
            "/v1/completions",
            format!(r#"{{"model": "writer", "prompt": "a", "stop": {many}}}"#),
            "stop",
        ),
        (
            "/v2/models/digits/infer",
            format!(r#"{{"inputs": [{}]}}"#, tensor.replace("[1, 64]", &many)),
            "it must be the lengths of at most 16 axes",
        ),
    ];
    for (path, body, expected) in refused {
        let (status, answer) = post(path, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {answer}");
        assert!(message(&answer).contains(expected), "{path}: {answer}");
    }
    let mut question = image();
    question["parameters"] = json!({"for others": 7});
    let question = question
        .to_string()
        .replace("{\"for others\":7}", &format!(r#"{{"for others": {many}}}"#));
    let (status, answer) = post("/v2/models/digits/infer", question).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}
