//! Limits of size, time and queue.

use super::*;

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
