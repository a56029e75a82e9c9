//! Step `answers`: every region is asked everything that a reference answer is known for.

use std::time::Duration;

use serde_json::{Value, json};
use types::RegionId;

use super::{
    ask::{self, Endpoint},
    record::AnswersSeen,
    samples::Fixtures,
};

/// Digits that are asked at a time; the models take more, and several questions are asked.
const BATCH: usize = 20;
/// How long one question may take. The load has the strict deadline; here only the answer counts.
const LIMIT: Duration = Duration::from_secs(10);

/// What a model of the user's own is asked, if it takes text.
const TEXT: &str = "hello";
/// The same for one that goes on with a text.
const PROMPT: &str = "Once upon a time";

/// What a region answers.
pub(super) async fn of_region(
    region: &RegionId,
    endpoint: &Endpoint,
    fixtures: &Fixtures,
    own_model: Option<&str>,
) -> Result<AnswersSeen, String> {
    let digits = &fixtures.digits;
    let mut digits_right = 0;
    for (images, labels) in digits.inputs.chunks(BATCH).zip(digits.labels.chunks(BATCH)) {
        let classes = ask::classes(endpoint, images, LIMIT).await?;
        digits_right += classes.iter().zip(labels).filter(|(c, l)| c == l).count();
    }
    let mut cosine_min = 1.0;
    let embedder = &fixtures.embedder;
    for (text, expected) in embedder.inputs.iter().zip(&embedder.embeddings) {
        let found = ask::embedding(endpoint, text, LIMIT).await?;
        cosine_min = ask::cosine(&found, expected).min(cosine_min);
    }
    let case = fixtures.tinylm.cases.first().ok_or("no prompt")?;
    let tokens_found = ask::tokens(endpoint, &case.prompt, case.ids.len(), LIMIT).await?;
    Ok(AnswersSeen {
        region: region.clone(),
        digits_asked: digits.inputs.len(),
        digits_right,
        cosine_min,
        tokens_expected: case.ids.clone(),
        tokens_found,
        own_model: match own_model {
            Some(name) => Some(own(endpoint, name).await),
            None => None,
        },
    })
}

/// Asks a model of the user's own the simplest question that its inputs allow.
async fn own(endpoint: &Endpoint, name: &str) -> Result<String, String> {
    let about = endpoint.get(&format!("/v2/models/{name}")).await?;
    let input = about.pointer("/inputs/0").cloned().unwrap_or_default();
    let (path, body) = match input.get("name").and_then(Value::as_str) {
        Some("text") => (
            "/v1/embeddings".to_owned(),
            json!({ "model": name, "input": TEXT }),
        ),
        Some("prompt") => (
            "/v1/completions".to_owned(),
            json!({ "model": name, "prompt": PROMPT, "max_tokens": 8 }),
        ),
        _ => (format!("/v2/models/{name}/infer"), zeros(&input)),
    };
    let answer = endpoint.post(&path, &body, LIMIT).await?;
    Ok(in_words(&answer))
}

/// What a person wants to see of an answer; the beginning of the document where that is unknown.
fn in_words(answer: &Value) -> String {
    if let Some(text) = answer.pointer("/choices/0/text").and_then(Value::as_str) {
        return format!("after {PROMPT:?} comes {text:?}");
    }
    if let Some(numbers) = answer.pointer("/data/0/embedding").and_then(Value::as_array) {
        return format!("an embedding of {} numbers for {TEXT:?}", numbers.len());
    }
    let outputs = answer.get("outputs").unwrap_or(answer);
    outputs.to_string().chars().take(120).collect()
}

/// One row of zeros for an input of numbers.
fn zeros(input: &Value) -> Value {
    let axes = input
        .get("shape")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let shape: Vec<u64> = axes.iter().map(|a| a.as_u64().unwrap_or(1)).collect();
    let count = usize::try_from(shape.iter().product::<u64>()).unwrap_or(0);
    json!({ "inputs": [{
        "name": input.get("name"),
        "shape": shape,
        "datatype": "FP32",
        "data": vec![0.0; count],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_in_words_as_far_as_they_are_known() {
        let text = json!({ "choices": [{ "index": 0, "text": " there was a duck" }], "created": 1 });
        assert_eq!(
            in_words(&text),
            "after \"Once upon a time\" comes \" there was a duck\""
        );
        let embedding = json!({ "data": [{ "embedding": [0.5, 0.25, 1.0] }] });
        assert_eq!(in_words(&embedding), "an embedding of 3 numbers for \"hello\"");
        let class = json!({ "model_name": "own.model", "outputs": [{ "name": "class", "data": [3] }] });
        assert_eq!(in_words(&class), r#"[{"data":[3],"name":"class"}]"#);
    }
}
