//! `/health` and `/metrics`.

use tokio_util::sync::CancellationToken;

use super::*;

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
