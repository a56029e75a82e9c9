//! Models and questions that cannot be, against a cluster: each is refused with the value and the remedy, and nothing
//! half-registered stays. Bytes that are not those of the manifest are never passed on.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use artifact_store::keys;
use serde_json::{Value, json};
use types::Digest;

use crate::{
    asleep::Asleep,
    dev::Dev,
    harness::{Ran, turn, until},
    samples::{OwnModel, copy_of, sample, start},
};

#[test]
fn models_and_questions_that_cannot_be_are_refused() {
    let _turn = turn();
    let dev = Dev::start(1);
    truncated_weights(&dev);
    digests(&dev);
    pickles(&dev);
    damaged_config(&dev);
    let nothing = dev.json(&["model", "list"]);
    assert_eq!(nothing["models"], json!([]), "something is registered");
    for model in ["digits", "embedder", "tinylm"] {
        let name = format!("demo.{model}");
        let pushed = dev.json(&["model", "push", &sample(model), "--name", &name]);
        assert_eq!(pushed["loaded_in"], json!(["us-west-2"]), "{pushed}");
        until("the model answers", || dev.json_of(&question(model)).is_some());
    }
    unknown_models(&dev);
    wrong_shapes(&dev);
    long_texts(&dev);
    weights_that_are_no_numbers(&dev);
}

/// Nobody can load it: the one before it answers, nothing else suffers, and it is named.
fn weights_that_are_no_numbers(dev: &Dev) {
    let dir = copy_of("embedder");
    let path = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    for float in bytes[header..].chunks_exact_mut(4) {
        float.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let push = [
        "model",
        "push",
        dir.path().to_str().unwrap(),
        "--name",
        "demo.embedder",
    ];
    // No alias: nobody is to load it, and there is nothing to find out.
    let pushed = dev.json(&push);
    assert_eq!(
        (&pushed["agents"], &pushed["loaded_in"]),
        (&json!([]), &json!([]))
    );
    let ran = dev.run(&[push.as_slice(), &["--alias", "champion", "--output", "json"]].concat());
    let said = "demo.embedder@2 is pushed, and no agent can load it: does not load in us-west-2: ";
    ran.failed_with(8, &[said, "not finite", "regent model versions demo.embedder"]);
    let pushed = ran.json();
    assert_eq!(pushed["error"]["reason"], "MODEL_INVALID", "{pushed}");
    assert_eq!(pushed["version"]["state"], "READY", "{pushed}");
    assert_eq!(pushed["loaded_in"], json!([]), "{pushed}");
    let agent = &pushed["agents"][0];
    assert_eq!(
        (&agent["region"], &agent["state"]),
        (&json!("us-west-2"), &json!("DEFECTIVE"))
    );
    let served = |nodes: &Value| {
        let mut agents = nodes["nodes"].as_array().unwrap().iter().map(|n| &n["agent"]);
        let agent = agents.find(|agent| !agent.is_null()).unwrap();
        assert_eq!(agent["ready"], true, "{agent}");
        let versions = agent["served"].as_array().unwrap().clone();
        versions
            .into_iter()
            .find(|v| v["model"] == "demo.embedder" && v["version"] == 2)
    };
    let bad = served(&dev.json(&["node", "list"])).unwrap();
    assert_eq!(bad["loaded"], false);
    assert!(bad["error"].as_str().unwrap().contains("not finite"), "{bad}");
    let table = dev.run(&["node", "list"]).stdout;
    assert!(
        table.contains("demo.embedder@2 does not load, and demo.embedder@1 is loaded: "),
        "{table}"
    );
    let answer = dev.json(&question("embedder"));
    assert_eq!(answer["model_version"], "1", "{}", answer["model_version"]);
}

/// A push that is refused leaves no model and no version.
fn check_push(dev: &Dev, dir: &Path, said: &[&str]) {
    let push = ["model", "push", dir.to_str().unwrap(), "--name", "bad.model"];
    dev.run(&push).failed_with(1, said);
    dev.run(&["model", "versions", "bad.model"])
        .failed_with(3, &["bad.model"]);
}

fn truncated_weights(dev: &Dev) {
    let dir = copy_of("digits");
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for keep in [0, 7, 40, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..keep]).unwrap();
        check_push(dev, dir.path(), &["model.safetensors", "download it again"]);
    }
}

/// A directory that brings its own digests, one of which is not that of its file.
fn digests(dev: &Dev) {
    let dir = copy_of("digits");
    let actual = Digest::of(&fs::read(dir.path().join("config.json")).unwrap());
    let wrong = Digest::of(b"another file");
    let line = format!("{}  config.json\n", wrong.hex());
    fs::write(dir.path().join("SHA256SUMS"), line).unwrap();
    let said = format!("config.json does not match SHA256SUMS: expected {wrong}, the file has {actual}");
    check_push(dev, dir.path(), &[&said, "fetch the file again"]);
}

fn pickles(dev: &Dev) {
    for name in ["model.pkl", "pytorch_model.bin", "model.pt"] {
        let dir = copy_of("digits");
        let bytes = b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.";
        fs::write(dir.path().join(name), bytes).unwrap();
        let said = [
            name,
            "pickle",
            "convert the weights to safetensors and remove this file from the directory",
        ];
        check_push(dev, dir.path(), &said);
    }
}

fn damaged_config(dev: &Dev) {
    let dir = copy_of("embedder");
    fs::write(dir.path().join("config.json"), "{\"model_type\": \"gpt-9\"}").unwrap();
    check_push(dev, dir.path(), &["config.json", "gpt-9", "bert"]);
    fs::write(dir.path().join("config.json"), "{\"model_type\": ").unwrap();
    check_push(dev, dir.path(), &["config.json"]);
}

/// A question that the sample answers.
fn question(model: &str) -> Vec<&'static str> {
    match model {
        "embedder" => vec!["infer", "demo.embedder", "--text", "hello"],
        "tinylm" => vec!["infer", "demo.tinylm", "--prompt", "Once upon a time"],
        _ => vec!["replication", "status"],
    }
}

fn unknown_models(dev: &Dev) {
    dev.run(&["infer", "no.such", "--prompt", "a"]).failed_with(
        3,
        &[
            "model \"no.such\" is unknown here; known are: ",
            "MODEL_NOT_FOUND",
            "regent model list",
        ],
    );
    for verb in ["get", "versions"] {
        dev.run(&["model", verb, "no.such"])
            .failed_with(3, &["no model no.such", "MODEL_NOT_FOUND", "regent model list"]);
    }
    dev.run(&["infer", "demo.tinylm", "--prompt", "a", "--model-version", "9"])
        .failed_with(3, &["demo.tinylm", "9"]);
}

/// An Open Inference Protocol request, in a file.
fn check_request(dev: &Dev, request: &Value, said: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("request.json");
    fs::write(&file, request.to_string()).unwrap();
    dev.run(&["infer", "demo.digits", "--input", file.to_str().unwrap()])
        .failed_with(2, said);
}

fn wrong_shapes(dev: &Dev) {
    let model = dev.json_of(&["infer", "demo.digits", "--input", "/dev/null"]);
    assert!(model.is_none(), "an empty file is no request");
    let name = "image";
    let tensor = |name: &str, shape: Value, datatype: &str, count: usize| {
        json!({ "inputs": [{
            "name": name, "shape": shape, "datatype": datatype, "data": vec![0.0; count],
        }]})
    };
    check_request(
        dev,
        &tensor(name, json!([1, 63]), "FP32", 63),
        &[
            "input \"image\" has shape [1, 63], expected [-1, 64]",
            "INVALID_ARGUMENT",
        ],
    );
    check_request(dev, &tensor(name, json!([64]), "FP32", 64), &["64"]);
    check_request(dev, &tensor(name, json!([2, 64]), "FP32", 64), &["64", "128"]);
    check_request(dev, &tensor(name, json!([1, 64]), "INT99", 64), &["INT99"]);
    check_request(
        dev,
        &tensor("pixels", json!([1, 64]), "FP32", 64),
        &["pixels", name],
    );
    check_request(dev, &json!({ "inputs": [] }), &[name]);
    check_request(dev, &json!({ "input": [] }), &["inputs"]);
}

fn long_texts(dev: &Dev) {
    let text = "a long text ".repeat(200);
    dev.run(&["infer", "demo.embedder", "--text", &text]).failed_with(
        2,
        &[
            "text 0 has ",
            " tokens, the model's limit is 128; shorten or split it",
        ],
    );
    dev.run(&["infer", "demo.tinylm", "--prompt", &text])
        .failed_with(2, &["256", "token"]);
    dev.run(&["infer", "demo.tinylm", "--prompt", "a", "--max-tokens", "100000"])
        .failed_with(2, &["100000", "from 1 to 255"]);
}

/// Two regions, one of which is asleep while bytes are exchanged behind Regent's back.
#[test]
fn bytes_that_are_not_those_of_the_manifest_are_never_passed_on() {
    let _turn = turn();
    let dev = Dev::start(2);
    let holder = dev.json(&["primary", "get"])["role"]["holder"]["region"].clone();
    let source = holder.as_str().unwrap();
    let other = if source == "us-west-2" {
        "eu-west-1"
    } else {
        "us-west-2"
    };
    changed_before_others_copied(&dev, source, other);
    changed_before_anybody_verified(&dev, other);
}

/// The source region has verified its own copy; then its bytes change. The other region must find that out by itself.
fn changed_before_others_copied(dev: &Dev, source: &str, other: &str) {
    let asleep = Asleep::of(dev, other, "agent");
    let pushed = dev.json(&["model", "push", &sample("digits"), "--name", "demo.digits"]);
    let digit = dev.path().join("digit.json");
    fs::write(&digit, json!(vec![0; 64]).to_string()).unwrap();
    let ask = |region| {
        let args = [
            "infer",
            "demo.digits",
            "--input",
            digit.to_str().unwrap(),
            "--region",
            region,
        ];
        dev.run(&args).code
    };
    // From here on it has the bytes in its cache, and does not need its store.
    until("the source serves its own copy", || ask(source) == Some(0));
    let object = Object::of(dev, source, &pushed["version"]);
    object.flip();
    drop(asleep);
    let replica = || {
        let status = dev.json(&[
            "replication",
            "status",
            "--model",
            "demo.digits",
            "--region",
            other,
        ]);
        status["replicas"][0].clone()
    };
    until("the damage was found twice", || {
        assert_ne!(replica()["state"], "VERIFIED", "{}", replica());
        replica()["attempts"].as_u64() >= Some(2) && replica()["error"].as_str() != Some("")
    });
    let error = replica()["error"].as_str().unwrap().to_owned();
    assert!(error.contains(&object.digest), "{error}");
    let table = dev.run(&["replication", "status"]).stdout;
    assert!(table.contains(&object.digest), "{table}");
    assert_eq!(ask(other), Some(6), "{other} has none to serve yet");
    assert!(
        !object.exists_in(dev, other),
        "damaged bytes became visible in {other}"
    );
    // Its bytes are right again: the next attempt copies them, and nobody has to do anything.
    object.flip();
    until("the copy is verified", || replica()["state"] == "VERIFIED");
    assert!(object.exists_in(dev, other));
    until("the model answers there too", || ask(other) == Some(0));
}

/// The upload is complete, and its bytes change before an agent has read them: the version never becomes READY.
fn changed_before_anybody_verified(dev: &Dev, region: &str) {
    let asleep = Asleep::of(dev, region, "agent");
    let model = OwnModel::of("tinylm", "demo.damaged");
    let push = start(dev, &[&model.push()[..], &["--region", region]].concat());
    let version = || {
        dev.json_of(&["model", "versions", "demo.damaged"])
            .map(|v| v["versions"][0].clone())
    };
    until("the upload is complete", || {
        version().is_some_and(|v| v["state"] == "VERIFYING")
    });
    let object = Object::of(dev, region, &version().unwrap());
    object.flip();
    drop(asleep);
    let ran = Ran::of(push.wait_with_output().unwrap());
    ran.failed_with(1, &["demo.damaged@1", "DIGEST_MISMATCH", &object.digest]);
    let version = version().unwrap();
    assert_eq!(version["state"], "DELETED", "{version}");
    dev.run(&["infer", "demo.damaged", "--prompt", "a"])
        .failed_with(3, &["demo.damaged"]);
}

/// The weights of a version, as a file of a region's dev store.
struct Object {
    digest: String,
    path: PathBuf,
    key: String,
}

impl Object {
    fn of(dev: &Dev, region: &str, version: &Value) -> Self {
        let artifacts = version["artifacts"].as_array().unwrap();
        let weights = artifacts
            .iter()
            .find(|a| a["path"] == "model.safetensors")
            .unwrap();
        let digest = weights["digest"].as_str().unwrap().to_owned();
        let key = keys::artifact(&digest.parse().unwrap()).to_string();
        Self {
            path: Self::path_in(dev, region, &key),
            digest,
            key,
        }
    }
    fn path_in(dev: &Dev, region: &str, key: &str) -> PathBuf {
        let data = dev.path().join("regions").join(region).join("s3/data");
        dev_s3::object_path(&data, "models", key)
    }
    /// Changes one bit of the body in place; twice is as before.
    fn flip(&self) {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 4096).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 4096).unwrap();
    }
    fn exists_in(&self, dev: &Dev, region: &str) -> bool {
        Self::path_in(dev, region, &self.key).exists()
    }
}
