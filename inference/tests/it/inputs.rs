//! Each input that must not reach a forward pass, and what its error says.

use inference::admission::admit;
use inference::fake::FakeEngine;
use inference::{Engine, GenerateRequest, InferRequest, InputError, Sampling, Signature, Tensor};

fn digits() -> Signature {
    Signature::digits(64, 16.0, 10, 4)
}

fn embedder() -> Signature {
    Signature::embedding(8, 16, 4)
}

/// Holds the text of the error against `expected`.
fn check(signature: &Signature, inputs: Vec<Tensor>, expected: &str) {
    let error = admit(signature, &InferRequest::new(inputs)).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

fn image(shape: &[usize], values: Vec<f32>) -> Vec<Tensor> {
    vec![Tensor::fp32("image", shape, values)]
}

#[test]
fn a_right_request_passes() {
    admit(&digits(), &InferRequest::images(vec![16.0; 128])).unwrap();
    admit(
        &embedder(),
        &InferRequest::texts(vec!["restart the server".to_owned()]),
    )
    .unwrap();
}

#[test]
fn names_are_checked() {
    check(
        &digits(),
        vec![],
        "input \"image\" is missing; the model takes image FP32 [-1, 64]",
    );
    let other = vec![Tensor::fp32("picture", &[1, 64], vec![0.0; 64])];
    check(
        &digits(),
        other,
        "input \"picture\" is unknown; the model takes image FP32 [-1, 64]",
    );
    let twice = [image(&[1, 64], vec![0.0; 64]), image(&[1, 64], vec![0.0; 64])].concat();
    check(&digits(), twice, "input \"image\" is given twice");
}

#[test]
fn datatype_and_shape_are_checked() {
    let integers = vec![Tensor::int64("image", &[1, 64], vec![0; 64])];
    check(
        &digits(),
        integers,
        "input \"image\" has datatype INT64, expected FP32",
    );
    let rest = "expected [-1, 64] (-1 stands for any length)";
    check(
        &digits(),
        image(&[1, 63], vec![0.0; 63]),
        &format!("input \"image\" has shape [1, 63], {rest}"),
    );
    check(
        &digits(),
        image(&[64], vec![0.0; 64]),
        &format!("input \"image\" has shape [64], {rest}"),
    );
    check(
        &digits(),
        image(&[1, 8, 8], vec![0.0; 64]),
        &format!("input \"image\" has shape [1, 8, 8], {rest}"),
    );
}

#[test]
fn the_number_of_values_must_be_that_of_the_shape() {
    let expected = "input \"image\" has 64 values, its shape [2, 64] needs 128";
    check(&digits(), image(&[2, 64], vec![0.0; 64]), expected);
    let huge = usize::MAX / 8;
    let expected =
        format!("input \"image\" has 64 values, its shape [{huge}, 64] needs more than can be counted");
    check(&digits(), image(&[huge, 64], vec![0.0; 64]), &expected);
}

#[test]
fn values_must_be_finite_and_in_range() {
    for (value, shown) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let mut values = vec![0.0; 64];
        values[7] = value;
        let expected = format!("input \"image\" holds {shown} at index 7; values must be finite");
        check(&digits(), image(&[1, 64], values), &expected);
    }
    let mut values = vec![0.0; 64];
    values[3] = 255.0;
    check(
        &digits(),
        image(&[1, 64], values),
        "input \"image\" holds 255 at index 3; values must be from 0 to 16",
    );
}

#[test]
fn empty_inputs_are_refused() {
    check(
        &digits(),
        image(&[0, 64], vec![]),
        "input \"image\" is empty; at least one row is needed",
    );
    check(
        &embedder(),
        vec![Tensor::texts("text", vec![])],
        "input \"text\" is empty; at least one row is needed",
    );
    let blank = vec![Tensor::texts("text", vec!["a".to_owned(), " \n".to_owned()])];
    check(&embedder(), blank, "text 1 is empty; at least one word is needed");
}

#[test]
fn batches_and_texts_are_bounded() {
    let five = image(&[5, 64], vec![0.0; 320]);
    check(
        &digits(),
        five,
        "5 rows in one request, the limit is 4; split the request",
    );
    let long = vec![Tensor::texts("text", vec!["x".repeat(513)])];
    check(
        &embedder(),
        long,
        "text 0 has 513 bytes, the limit is 512; shorten or split it",
    );
}

#[test]
fn tokens_are_bounded() {
    let fake = FakeEngine::new(embedder());
    let error = fake
        .admit(&InferRequest::texts(vec!["a ".repeat(17)]))
        .unwrap_err();
    assert_eq!(
        error,
        InputError::TextTokens {
            index: 0,
            tokens: 17,
            limit: 16
        }
    );
    let fake = FakeEngine::new(Signature::generator(16, 12));
    let error = fake
        .admit_generate(&GenerateRequest::greedy("one two three four five six", 11))
        .unwrap_err();
    assert_eq!(
        error,
        InputError::Context {
            prompt_tokens: 6,
            max_tokens: 11,
            limit: 16
        }
    );
}

#[test]
fn sampling_is_bounded() {
    let fake = FakeEngine::new(Signature::generator(64, 12));
    let error = |sampling| {
        let request = GenerateRequest {
            prompt: "one".to_owned(),
            sampling,
        };
        fake.admit_generate(&request).unwrap_err().to_string()
    };
    let right = Sampling::default();
    assert_eq!(
        error(Sampling {
            max_tokens: 0,
            ..right
        }),
        "max_tokens is 0, it must be from 1 to 12"
    );
    assert_eq!(
        error(Sampling {
            max_tokens: 13,
            ..right
        }),
        "max_tokens is 13, it must be from 1 to 12"
    );
    let right = Sampling {
        max_tokens: 4,
        ..right
    };
    assert_eq!(
        error(Sampling {
            temperature: 2.5,
            ..right
        }),
        "temperature is 2.5, it must be from 0 to 2"
    );
    assert_eq!(
        error(Sampling {
            temperature: f32::NAN,
            ..right
        }),
        "temperature is NaN, it must be from 0 to 2"
    );
    assert_eq!(
        error(Sampling { top_p: 0.0, ..right }),
        "top_p is 0, it must be above 0 and at most 1"
    );
}

#[test]
fn only_generators_generate() {
    let fake = FakeEngine::new(digits());
    let error = fake
        .admit_generate(&GenerateRequest::greedy("one", 4))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model is of family digits; only generator models generate text"
    );
}
