//! Models, versions and methods that are not there, and what is said of each.

use super::*;
use crate::serving::{Expected, Trouble};

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
