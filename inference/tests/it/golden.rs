//! The sample models against references computed by PyTorch in f32.

use crate::support::{engine, fixtures, floats};
use inference::{Family, FinishReason, GenerateRequest, InferRequest, Sampling, Tensor, warm};
use std::ops::ControlFlow;

fn images(fixtures: &serde_json::Value, count: usize) -> Vec<f32> {
    fixtures["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .take(count)
        .flat_map(floats)
        .collect()
}

fn strings(value: &serde_json::Value) -> Vec<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

fn embed(engine: &dyn inference::Engine, texts: &[String]) -> Vec<Vec<f32>> {
    let output = engine.infer(&InferRequest::texts(texts.to_vec())).unwrap();
    let tensor = &output.tensors[0];
    tensor
        .as_fp32()
        .unwrap()
        .chunks(tensor.shape[1])
        .map(<[f32]>::to_vec)
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[test]
fn digits_gets_at_least_97_of_100_held_out_images_right() {
    let (engine, fixtures) = (engine("digits"), fixtures("digits"));
    let labels: Vec<i64> = fixtures["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|label| label.as_i64().unwrap())
        .collect();
    assert_eq!(labels.len(), 100);
    let mut right = 0;
    for (start, labels) in (0..100).step_by(25).zip(labels.chunks(25)) {
        let pixels = images(&fixtures, 100)[start * 64..(start + 25) * 64].to_vec();
        let output = engine.infer(&InferRequest::images(pixels)).unwrap();
        let classes = output.tensor("class").unwrap().as_int64().unwrap().to_vec();
        right += classes
            .iter()
            .zip(labels)
            .filter(|(class, label)| class == label)
            .count();
    }
    assert!(right >= 97, "{right} of 100 right");
}

#[test]
fn digits_probabilities_equal_the_reference() {
    let (engine, fixtures) = (engine("digits"), fixtures("digits"));
    let expected: Vec<f32> = fixtures["probabilities"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(floats)
        .collect();
    let output = engine
        .infer(&InferRequest::images(images(&fixtures, expected.len() / 10)))
        .unwrap();
    let found = output.tensor("probabilities").unwrap();
    assert_eq!(found.shape, [expected.len() / 10, 10]);
    for (found, expected) in found.as_fp32().unwrap().iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5, "{found} against {expected}");
    }
}

#[test]
fn embeddings_equal_the_reference() {
    let (engine, fixtures) = (engine("embedder"), fixtures("embedder"));
    let texts = strings(&fixtures["inputs"]);
    assert!(texts.len() >= 8);
    let expected: Vec<Vec<f32>> = fixtures["embeddings"]
        .as_array()
        .unwrap()
        .iter()
        .map(floats)
        .collect();
    for ((found, expected), text) in embed(engine.as_ref(), &texts).iter().zip(&expected).zip(&texts) {
        let cosine = dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt();
        assert!(cosine > 0.99999, "cosine {cosine} for {text:?}");
        assert!(
            (dot(found, found) - 1.0).abs() < 1e-5,
            "not of length 1 for {text:?}"
        );
        let worst = found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 1e-5, "off by {worst} for {text:?}");
    }
}

#[test]
fn embedder_counts_the_tokens_of_the_reference() {
    let (engine, fixtures) = (engine("embedder"), fixtures("embedder"));
    let counts = fixtures["token_counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| count.as_u64().unwrap() as usize);
    let output = engine
        .infer(&InferRequest::texts(strings(&fixtures["inputs"])))
        .unwrap();
    assert_eq!(output.usage.input_tokens, counts.sum::<usize>());
}

#[test]
fn embedder_puts_paraphrases_nearer_than_other_sentences() {
    let (engine, fixtures) = (engine("embedder"), fixtures("embedder"));
    for triple in fixtures["nearer"].as_array().unwrap() {
        let [anchor, near, far] = &embed(engine.as_ref(), &strings(triple))[..] else {
            panic!("{triple}")
        };
        assert!(dot(anchor, near) > dot(anchor, far) + 0.1, "{triple}");
    }
}

#[test]
fn an_answer_does_not_depend_on_the_rest_of_the_batch() {
    let engine = engine("embedder");
    let texts: Vec<String> = ["restart the server", "x", "please copy the training data"]
        .map(str::to_owned)
        .to_vec();
    let together = embed(engine.as_ref(), &texts);
    for (text, row) in texts.iter().zip(&together) {
        assert_eq!(
            &embed(engine.as_ref(), std::slice::from_ref(text))[0],
            row,
            "bit for bit"
        );
    }
}

#[test]
fn greedy_tokens_equal_the_reference() {
    let (engine, fixtures) = (engine("tinylm"), fixtures("tinylm"));
    for case in fixtures["cases"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let ids: Vec<u32> = case["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect();
        assert_eq!(ids.len(), 32, "{prompt}");
        let mut streamed = (Vec::new(), String::new());
        let generated = engine
            .generate(&GenerateRequest::greedy(prompt, 32), &mut |event| {
                assert_eq!(event.index, streamed.0.len());
                streamed.0.push(event.id);
                streamed.1.push_str(&event.text);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(generated.ids, ids, "{prompt}");
        assert_eq!(generated.text, case["text"].as_str().unwrap(), "{prompt}");
        assert_eq!(
            (generated.ids, generated.text),
            streamed,
            "the stream is the answer"
        );
        assert_eq!(generated.finish, FinishReason::Length);
        assert_eq!(
            generated.usage.input_tokens,
            case["prompt_ids"].as_array().unwrap().len()
        );
        assert_eq!(generated.usage.output_tokens, 32);
    }
}

#[test]
fn a_story_ends_by_the_end_marker() {
    let request = GenerateRequest::greedy("Once upon a time", 200);
    let generated = engine("tinylm")
        .generate(&request, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(generated.finish, FinishReason::Stop, "{}", generated.text);
    assert!(generated.text.ends_with('.'), "{}", generated.text);
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    let engine = engine("tinylm");
    let run = |seed| {
        let sampling = Sampling {
            max_tokens: 40,
            temperature: 1.0,
            top_p: 0.95,
            seed,
        };
        let request = GenerateRequest {
            prompt: "Once upon a time".to_owned(),
            sampling,
        };
        engine
            .generate(&request, &mut |_| ControlFlow::Continue(()))
            .unwrap()
            .text
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn breaking_the_stream_ends_the_generation() {
    let mut seen = 0;
    let generated = engine("tinylm").generate(&GenerateRequest::greedy("Once upon a time", 32), &mut |_| {
        seen += 1;
        if seen == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let generated = generated.unwrap();
    assert_eq!(
        (generated.ids.len(), generated.finish),
        (3, FinishReason::Cancelled)
    );
}

#[test]
fn generation_by_tensors_is_the_same_generation() {
    let engine = engine("tinylm");
    let mut request = InferRequest::new(vec![Tensor::texts("prompt", vec!["Once upon a time".to_owned()])]);
    request.sampling.max_tokens = 8;
    let output = engine.infer(&request).unwrap();
    let direct = engine.generate(&GenerateRequest::greedy("Once upon a time", 8), &mut |_| {
        ControlFlow::Continue(())
    });
    let direct = direct.unwrap();
    assert_eq!(output.tensor("text").unwrap().as_texts().unwrap(), [direct.text]);
    let ids: Vec<i64> = direct.ids.iter().map(|id| i64::from(*id)).collect();
    assert_eq!(output.tensor("tokens").unwrap().as_int64().unwrap(), ids);
}

#[test]
fn every_model_answers_the_sample_request_as_its_signature_says() {
    for (name, family) in [
        ("digits", Family::Digits),
        ("embedder", Family::Embedding),
        ("tinylm", Family::Generator),
    ] {
        let engine = engine(name);
        assert_eq!(engine.signature().family, family);
        warm(engine.as_ref()).unwrap();
        let output = engine.infer(&InferRequest::sample(engine.signature())).unwrap();
        for (spec, tensor) in engine.signature().outputs.iter().zip(&output.tensors) {
            assert_eq!(
                (&spec.name, spec.datatype),
                (&tensor.name, tensor.data.datatype()),
                "{name}"
            );
            assert!(
                spec.accepts_shape(&tensor.shape),
                "{name}: {:?} against {:?}",
                tensor.shape,
                spec.shape
            );
            assert_eq!(
                tensor.shape.iter().product::<usize>(),
                tensor.data.len(),
                "{name}"
            );
        }
    }
}

#[test]
fn text_beyond_the_limit_names_tokens_and_limit() {
    let embedder = engine("embedder");
    let error = embedder
        .admit(&InferRequest::texts(vec!["restart the server ".repeat(60)]))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "text 0 has 182 tokens, the model's limit is 128; shorten or split it"
    );
    let tinylm = engine("tinylm");
    let long = GenerateRequest::greedy(&"Mia found a silver key. ".repeat(60), 8);
    let error = tinylm.admit_generate(&long).unwrap_err().to_string();
    assert!(error.contains("the model's limit is 256"), "{error}");
    let together = GenerateRequest::greedy("Once upon a time", 254);
    let error = tinylm.admit_generate(&together).unwrap_err().to_string();
    assert!(
        error.contains("max_tokens is 254: together more than the model's limit 256"),
        "{error}"
    );
}
