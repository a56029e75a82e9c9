//! Each way in which a directory is not a model: the kind, the file and the remedy.

use crate::support::{MODELS, copy_of, model_dir, set_json};
use inference::{Family, LoadErrorKind, LoadOptions, load, validate_dir};
use serde_json::json;
use std::path::Path;

/// Breaks a copy of `model` and holds the error against what it must say.
fn check(model: &str, spoil: impl Fn(&Path), kind: LoadErrorKind, file: &str, words: &[&str]) {
    let copy = copy_of(model);
    spoil(copy.path());
    let error = validate_dir(copy.path()).unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert_eq!(error.file, copy.path().join(file), "{error}");
    let text = error.to_string();
    words
        .iter()
        .for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
    // Loading says the same thing, with or without an engine.
    assert_eq!(load(copy.path(), &LoadOptions::default()).err(), Some(error));
}

fn remove(file: &'static str) -> impl Fn(&Path) {
    move |dir| std::fs::remove_file(dir.join(file)).unwrap()
}

fn write(file: &'static str, bytes: &'static [u8]) -> impl Fn(&Path) {
    move |dir| std::fs::write(dir.join(file), bytes).unwrap()
}

fn config(key: &'static str, value: serde_json::Value) -> impl Fn(&Path) {
    move |dir| set_json(&dir.join("config.json"), key, value.clone())
}

#[test]
fn sample_models_are_in_order() {
    let expected = [
        (Family::Digits, 15_386),
        (Family::Embedding, 345_344),
        (Family::Generator, 541_568),
    ];
    for (name, (family, parameters)) in MODELS.into_iter().zip(expected) {
        let summary = validate_dir(&model_dir(name)).unwrap();
        assert_eq!((summary.framework, summary.format), ("candle", "safetensors"));
        assert_eq!(
            (summary.family, summary.parameters),
            (family, parameters),
            "{name}"
        );
        assert!(
            summary.files.iter().any(|file| file.path == "config.json"),
            "{name}"
        );
        assert!(summary.files.iter().all(|file| file.bytes > 0), "{name}");
    }
}

#[test]
fn missing_files_are_named() {
    let kind = LoadErrorKind::MissingFile;
    check(
        "digits",
        remove("config.json"),
        kind,
        "config.json",
        &["missing", "add it"],
    );
    check(
        "digits",
        remove("model.safetensors"),
        kind,
        "model.safetensors",
        &["missing", "add the weights"],
    );
    check(
        "embedder",
        remove("tokenizer.json"),
        kind,
        "tokenizer.json",
        &["missing", "add it"],
    );
    let gone = model_dir("no-such-model");
    assert_eq!(validate_dir(&gone).unwrap_err().kind, kind);
}

#[test]
fn pickles_are_refused_by_name_and_by_content() {
    let kind = LoadErrorKind::Pickle;
    let why = ["can run any code", "safetensors"];
    check(
        "digits",
        write("pytorch_model.bin", b"x"),
        kind,
        "pytorch_model.bin",
        &why,
    );
    check("digits", write("weights.PT", b"x"), kind, "weights.PT", &why);
    check("digits", write("model.pkl", b"x"), kind, "model.pkl", &why);
    check(
        "digits",
        write("model.safetensors", b"PK\x03\x04rest of the archive"),
        kind,
        "model.safetensors",
        &why,
    );
    check(
        "digits",
        write("model.safetensors", b"\x80\x02}q\x00(X\x04\x00\x00"),
        kind,
        "model.safetensors",
        &why,
    );
    check(
        "digits",
        write("notes.txt", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00"),
        kind,
        "notes.txt",
        &why,
    );
}

#[test]
fn pickles_in_folders_are_refused_too() {
    let copy = copy_of("digits");
    std::fs::create_dir(copy.path().join("extra")).unwrap();
    std::fs::write(copy.path().join("extra/a.pkl"), b"x").unwrap();
    assert_eq!(validate_dir(copy.path()).unwrap_err().kind, LoadErrorKind::Pickle);
}

#[test]
fn unknown_architectures_say_which_are_known() {
    let kind = LoadErrorKind::UnknownArchitecture;
    check(
        "embedder",
        config("model_type", json!("mamba")),
        kind,
        "config.json",
        &["\"mamba\"", "\"llama\"", "digits-cnn"],
    );
    check(
        "digits",
        write("config.json", b"{}"),
        kind,
        "config.json",
        &["model_type is absent"],
    );
}

#[test]
fn broken_json_is_malformed() {
    let kind = LoadErrorKind::Malformed;
    check(
        "digits",
        write("config.json", b"{\"model_type\": "),
        kind,
        "config.json",
        &["not valid JSON"],
    );
    check(
        "tinylm",
        write("tokenizer.json", b"{}"),
        kind,
        "tokenizer.json",
        &["model.vocab"],
    );
    check(
        "embedder",
        write("config.json", b"{\"model_type\": \"bert\"}"),
        kind,
        "config.json",
        &["vocab_size"],
    );
}

#[test]
fn shapes_are_held_against_the_config() {
    let kind = LoadErrorKind::WrongTensor;
    let file = "model.safetensors";
    check(
        "digits",
        config("hidden_size", json!(33)),
        kind,
        file,
        &["fc1.weight", "[32, 384]", "[33, 384]"],
    );
    check(
        "embedder",
        config("intermediate_size", json!(512)),
        kind,
        file,
        &["intermediate.dense.weight", "[256, 128]", "[512, 128]"],
    );
    check(
        "tinylm",
        config("num_hidden_layers", json!(4)),
        kind,
        file,
        &["model.layers.3", "missing"],
    );
    check(
        "tinylm",
        config("tie_word_embeddings", json!(false)),
        kind,
        file,
        &["lm_head.weight", "missing"],
    );
}

#[test]
fn types_without_weights_are_refused() {
    let spoil = |dir: &Path| {
        let file = dir.join("model.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        let header =
            String::from_utf8_lossy(&bytes[8..8 + bytes[0] as usize + 256 * bytes[1] as usize]).into_owned();
        // The same width, so that only the type is wrong.
        let changed = header.replacen("F32", "I32", 1);
        assert_ne!(header, changed);
        let mut spoilt = bytes.clone();
        spoilt[8..8 + changed.len()].copy_from_slice(changed.as_bytes());
        std::fs::write(&file, spoilt).unwrap();
    };
    check(
        "digits",
        spoil,
        LoadErrorKind::WrongTensor,
        "model.safetensors",
        &["I32", "convert"],
    );
}

#[test]
fn senseless_numbers_in_the_config_are_refused() {
    let kind = LoadErrorKind::Malformed;
    check(
        "embedder",
        config("num_attention_heads", json!(5)),
        kind,
        "config.json",
        &["128", "5"],
    );
    check(
        "embedder",
        config("num_attention_heads", json!(0)),
        kind,
        "config.json",
        &["num_attention_heads is 0"],
    );
    check(
        "tinylm",
        config("num_key_value_heads", json!(3)),
        kind,
        "config.json",
        &["num_key_value_heads 3"],
    );
    check(
        "tinylm",
        config("hidden_size", json!(u64::MAX)),
        kind,
        "config.json",
        &["hidden_size is 18446744073709551615"],
    );
    check(
        "tinylm",
        config("num_hidden_layers", json!(1_000_000)),
        kind,
        "config.json",
        &["1000000"],
    );
    check(
        "digits",
        config("pixel_max", json!(0)),
        kind,
        "config.json",
        &["pixel_max is 0"],
    );
}

#[test]
fn settings_that_would_give_other_answers_are_refused() {
    let kind = LoadErrorKind::UnsupportedConfig;
    check(
        "embedder",
        config("hidden_act", json!("relu")),
        kind,
        "config.json",
        &["\"relu\"", "\"gelu\""],
    );
    check(
        "tinylm",
        config("rope_scaling", json!({"factor": 8})),
        kind,
        "config.json",
        &["rope_scaling", "factor"],
    );
    check(
        "tinylm",
        config("attention_bias", json!(true)),
        kind,
        "config.json",
        &["attention_bias"],
    );
    check(
        "embedder",
        config("position_embedding_type", json!("relative_key")),
        kind,
        "config.json",
        &["relative_key"],
    );
    let parameters = json!({ "rope_type": "yarn" });
    check(
        "tinylm",
        config("rope_parameters", parameters),
        kind,
        "config.json",
        &["\"yarn\""],
    );
    let split = |dir: &Path| {
        remove("model.safetensors")(dir);
        write("model.safetensors.index.json", b"{}")(dir);
    };
    check(
        "tinylm",
        split,
        kind,
        "model.safetensors",
        &["several files", "merge"],
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let spoil = |dir: &Path| {
        std::fs::copy(
            model_dir("tinylm").join("tokenizer.json"),
            dir.join("tokenizer.json"),
        )
        .unwrap();
    };
    check(
        "embedder",
        spoil,
        LoadErrorKind::Malformed,
        "tokenizer.json",
        &["767", "vocab_size 496"],
    );
}

#[test]
fn weights_above_the_limit_are_refused() {
    let options = LoadOptions {
        max_weight_bytes: 1000,
        ..LoadOptions::default()
    };
    let error = load(&model_dir("digits"), &options).err().unwrap();
    assert_eq!(error.kind, LoadErrorKind::TooLarge);
    assert!(
        error
            .to_string()
            .contains("61544 bytes of weights, the limit is 1000"),
        "{error}"
    );
}

#[cfg(not(feature = "candle"))]
#[test]
fn a_build_without_engine_says_so() {
    let error = load(&model_dir("digits"), &LoadOptions::default()).err().unwrap();
    assert_eq!(error.kind, LoadErrorKind::NoEngine);
}
