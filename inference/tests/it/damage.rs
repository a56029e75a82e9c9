//! Files that pass the checks of headers and are wrong inside: errors, never panics and never an answer of NaN.

use crate::support::{MODELS, copy_of};
use inference::{InferError, InferRequest, LoadErrorKind, LoadOptions, Tensor, load};

/// Known words, unknown ones, signs, and characters of several bytes.
const TEXT: &str = "restart the server: Ünïcödé 42 <s> [CLS] \u{1f980}!";

#[test]
fn weights_that_are_not_numbers_give_an_error_and_no_answer() {
    for name in MODELS {
        let copy = copy_of(name);
        let file = copy.path().join("model.safetensors");
        let mut bytes = std::fs::read(&file).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        // All ones are NaN in every float format.
        bytes[header..].fill(0xff);
        std::fs::write(&file, bytes).unwrap();
        let engine = load(copy.path(), &LoadOptions::default()).unwrap();
        let error = engine
            .infer(&InferRequest::sample(engine.signature()))
            .unwrap_err();
        assert!(
            matches!(&error, InferError::Internal { what } if what.contains("not finite")),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_scrambled_tokenizer_never_panics() {
    for name in ["embedder", "tinylm"] {
        let copy = copy_of(name);
        let file = copy.path().join("tokenizer.json");
        let whole = std::fs::read(&file).unwrap();
        // The head holds the settings; the vocabulary after it is sampled.
        let positions = (0..whole.len().min(1200))
            .step_by(3)
            .chain((1200..whole.len()).step_by(211));
        for position in positions {
            let mut bytes = whole.clone();
            bytes[position] = if bytes[position].is_ascii_digit() {
                b'9'
            } else {
                bytes[position] ^ 0x01
            };
            std::fs::write(&file, &bytes).unwrap();
            if let Ok(engine) = load(copy.path(), &LoadOptions::default()) {
                let input = engine.signature().inputs[0].name.clone();
                let mut request = InferRequest::new(vec![Tensor::texts(&input, vec![TEXT.to_owned()])]);
                request.sampling.max_tokens = 2;
                let _ = engine.infer(&request);
            }
        }
    }
}

#[test]
fn a_tokenizer_without_a_model_is_malformed() {
    let copy = copy_of("embedder");
    let file = copy.path().join("tokenizer.json");
    std::fs::write(&file, br#"{"model": {"type": "Oracle", "vocab": {"a": 0}}}"#).unwrap();
    let error = load(copy.path(), &LoadOptions::default()).err().unwrap();
    assert_eq!(
        (error.kind, &error.file),
        (LoadErrorKind::Malformed, &file),
        "{error}"
    );
}
