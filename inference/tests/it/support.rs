//! Sample models and copies of them that a test may break.

use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) const MODELS: [&str; 3] = ["digits", "embedder", "tinylm"];

/// Directory of a sample model.
pub(crate) fn model_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name)
}

/// A copy of a sample model in a directory of its own.
pub(crate) fn copy_of(name: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model_dir(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// Changes one key of a JSON file.
pub(crate) fn set_json(file: &Path, key: &str, value: serde_json::Value) {
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    json[key] = value;
    std::fs::write(file, json.to_string()).unwrap();
}

/// fixtures.json of a sample model.
#[cfg(feature = "candle")]
pub(crate) fn fixtures(name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(model_dir(name).join("fixtures.json")).unwrap()).unwrap()
}

/// A JSON array of numbers.
#[cfg(feature = "candle")]
pub(crate) fn floats(value: &serde_json::Value) -> Vec<f32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap() as f32)
        .collect()
}

/// The engine of a sample model.
#[cfg(feature = "candle")]
pub(crate) fn engine(name: &str) -> std::sync::Arc<dyn inference::Engine> {
    inference::load(&model_dir(name), &inference::LoadOptions::default()).unwrap()
}
