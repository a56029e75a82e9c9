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

/// The first six values for each sentence, by PyTorch 1.13 in f32 on the published weights.
const REFERENCE: [[f32; 6]; 3] = [
    [
        0.033_242, 0.004_406, -0.006_277, 0.048_379, -0.138_702, -0.033_617,
    ],
    [
        0.000_321, 0.034_467, -0.011_603, 0.013_067, -0.105_646, -0.036_049,
    ],
    [0.051_214, 0.015_697, 0.070_276, 0.069_19, -0.004_219, 0.017_18],
];

#[test]
fn published_minilm_equals_the_reference_and_tells_related_sentences_from_others() {
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
    for (row, expected) in values.chunks(384).zip(&REFERENCE) {
        let worst = row
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 1e-5, "off by {worst}");
    }
    let dot =
        |a: usize, b: usize| -> f32 { (0..384).map(|i| values[a * 384 + i] * values[b * 384 + i]).sum() };
    assert!(dot(0, 1) > 0.5, "{}", dot(0, 1));
    assert!(dot(0, 2) < 0.2, "{}", dot(0, 2));
}
