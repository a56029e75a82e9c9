//! A published model of the family: all-MiniLM-L6-v2, where REGENT_MINILM_DIR names its directory.

use inference::{InferRequest, LoadOptions, load, validate_dir};
use std::path::PathBuf;

/// The directory, or a line that says why the test proves nothing.
fn published() -> Option<PathBuf> {
    let dir = std::env::var_os("REGENT_MINILM_DIR").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: set REGENT_MINILM_DIR to an all-MiniLM-L6-v2 directory to run this");
    }
    dir
}

#[test]
fn published_minilm_tells_related_sentences_from_others() {
    let Some(dir) = published() else { return };
    let summary = validate_dir(&dir).unwrap();
    assert_eq!(summary.signature.outputs[0].shape, [-1, 384]);
    let engine = load(&dir, &LoadOptions::default()).unwrap();
    let texts = [
        "A man is eating food.",
        "Someone eats a meal.",
        "The stock market fell today.",
    ];
    let output = engine
        .infer(&InferRequest::texts(texts.map(str::to_owned).to_vec()))
        .unwrap();
    let values = output.tensors[0].as_fp32().unwrap();
    let dot =
        |a: usize, b: usize| -> f32 { (0..384).map(|i| values[a * 384 + i] * values[b * 384 + i]).sum() };
    assert!(dot(0, 1) > 0.5, "{}", dot(0, 1));
    assert!(dot(0, 2) < 0.2, "{}", dot(0, 2));
}
