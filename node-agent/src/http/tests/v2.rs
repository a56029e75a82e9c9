//! What the Open Inference Protocol says and answers, and input that it refuses.

use super::*;

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
