//! Versions that are loaded by hand, or taken out under a request.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;

use super::*;

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
        datasets: Default::default(),
        metrics: Default::default(),
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
