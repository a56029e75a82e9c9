//! The sample models, replicated and served for real: from a directory to an answer over HTTP.

use std::{path::Path, sync::Arc};

use node_agent::{Agent, serving::BuiltinEngines};
use proto::convert::watch::Resource;
use serde_json::{Value, json};
use types::model::VersionState;

use crate::{
    coordinator::champion,
    world::{World, key},
};

fn files(model: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models")
        .join(model);
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    names
        .filter(|entry| entry.file_name() != "fixtures.json")
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

fn fixtures(model: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models")
        .join(model)
        .join("fixtures.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

async fn ask(agent: &Agent, path: &str, body: Value) -> Value {
    let url = format!("http://{}{path}", agent.addresses().inference);
    let response = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    let status = response.status();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn the_sample_models_come_from_another_region_and_answer_as_their_fixtures_say() {
    let world = World::new().await;
    let agent = world.agent_with(Arc::new(BuiltinEngines::default())).await;
    for model in ["digits", "embedder", "tinylm"] {
        let name = format!("{model}@1");
        world
            .put_files(&name, "east", VersionState::Ready, &files(model))
            .await;
        world
            .coordinator
            .commit(vec![Resource::Alias(champion(&key(&name)))]);
    }
    let mut board = agent.board();
    let loaded = board.wait_for(|b| b.ready.is_ok() && b.copies.len() == 3);
    tokio::time::timeout(std::time::Duration::from_secs(60), loaded)
        .await
        .unwrap()
        .unwrap();

    let digits = fixtures("digits");
    let (inputs, labels) = (
        digits["inputs"].as_array().unwrap(),
        digits["labels"].as_array().unwrap(),
    );
    let mut right = 0;
    for (input, label) in inputs.iter().zip(labels) {
        let answer = ask(&agent, "/predict", json!({"model": "digits", "input": input})).await;
        right += usize::from(answer["prediction"]["class"] == *label);
    }
    assert!(right >= 97 && labels.len() == 100, "{right} of {}", labels.len());

    let case = fixtures("tinylm")["cases"][0].clone();
    let question = json!({"model": "tinylm", "prompt": case["prompt"], "max_tokens": 32});
    let answer = ask(&agent, "/v1/completions", question).await;
    assert_eq!(answer["choices"][0]["text"], case["text"]);

    let embedder = fixtures("embedder");
    let question = json!({"model": "embedder", "input": embedder["inputs"][0]});
    let answer = ask(&agent, "/v1/embeddings", question).await;
    let numbers = |value: &Value| serde_json::from_value::<Vec<f64>>(value.clone()).unwrap();
    let (ours, reference) = (
        numbers(&answer["data"][0]["embedding"]),
        numbers(&embedder["embeddings"][0]),
    );
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = dot(&ours, &reference) / (dot(&ours, &ours) * dot(&reference, &reference)).sqrt();
    assert!(cosine > 0.9999, "{cosine}");
    agent.shutdown().await.unwrap();
}
