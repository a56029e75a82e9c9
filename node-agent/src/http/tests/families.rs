//! The routes by family: embeddings, completions, and `/predict` for all of them.

use super::*;

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
