//! `POST /predict`: one plain question to any model. `{"model": "digits", "input": [64 numbers]}`,
//! `{"model": "embedder", "input": "text"}`, `{"model": "writer", "input": "once"}`; lists of them for a batch.

use axum::{
    Json,
    extract::{Request, State},
};
use inference::{Family, GenerateRequest, InferRequest, Output, Tensor, TokenStream};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    HttpError, HttpState, openai,
    request::{self, Call},
    v2,
};
use crate::serving::Loaded;

#[derive(Deserialize)]
struct PredictBody {
    model: String,
    #[serde(alias = "text", alias = "prompt", alias = "image", alias = "inputs")]
    input: Value,
    /// How a generator samples; what is left out has its default.
    #[serde(default)]
    parameters: serde_json::Map<String, Value>,
}

pub(super) async fn predict(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Json<Value>, HttpError> {
    let (call, body): (Call, PredictBody) = request::open(&state, request).await?;
    let loaded = request::resolve(&state, &body.model)?;
    let result = answer(&loaded, &call, body).await;
    call.end(&state, &loaded.key.model, &result);
    let timestamp = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    result.map(|prediction| {
        Json(json!({
            "prediction": prediction,
            "model_id": loaded.key.to_string(),
            "model": loaded.key.model.as_str(),
            "model_version": loaded.key.version.to_string(),
            "timestamp": timestamp,
        }))
    })
}

async fn answer(loaded: &Loaded, call: &Call, body: PredictBody) -> Result<Value, HttpError> {
    match loaded.signature().family {
        Family::Digits => digits(loaded, call, &body.input).await,
        Family::Embedding => {
            let (texts, single) = texts(&body.input)?;
            let output = loaded.infer(InferRequest::texts(texts), call.deadline).await?;
            let rows: Vec<_> = openai::rows(&output)?.map(|row| json!(row)).collect();
            Ok(one_or_all(rows, single))
        }
        Family::Generator => {
            let Value::String(prompt) = body.input else {
                return Err(wrong(&body.input, "a text to go on from"));
            };
            let sampling = v2::sampling(&body.parameters)?;
            let tokens = loaded.generate(GenerateRequest { prompt, sampling }, call.deadline)?;
            generated(tokens).await
        }
    }
}

async fn generated(tokens: TokenStream) -> Result<Value, HttpError> {
    Ok(json!(tokens.collect().await?.text))
}

/// One image as a list of numbers (or rows of them), or a list of such images.
async fn digits(loaded: &Loaded, call: &Call, input: &Value) -> Result<Value, HttpError> {
    let spec = loaded.signature().inputs.first();
    let width = spec
        .and_then(|s| s.shape.get(1))
        .and_then(|w| usize::try_from(*w).ok())
        .unwrap_or(0);
    let name = spec.map_or("image", |s| s.name.as_str());
    let mut pixels = Vec::new();
    flatten(input, &mut pixels)?;
    if width == 0 || pixels.is_empty() || pixels.len() % width != 0 {
        let text = format!("input holds {} numbers; an image has {width}", pixels.len());
        return Err(HttpError::invalid(text));
    }
    let rows = pixels.len() / width;
    let request = InferRequest::new(vec![Tensor::fp32(name, &[rows, width], pixels)]);
    let output = loaded.infer(request, call.deadline).await?;
    // A batch is a list of images: one image is a flat list, or rows of less than a whole image.
    let batch = input
        .get(0)
        .and_then(Value::as_array)
        .is_some_and(|first| first.len() == width || first.first().is_some_and(Value::is_array));
    Ok(one_or_all(classes(&output), !batch && rows == 1))
}

fn classes(output: &Output) -> Vec<Value> {
    let classes = output
        .tensor("class")
        .and_then(Tensor::as_int64)
        .unwrap_or_default();
    let tensor = output.tensor("probabilities");
    let width = tensor.and_then(|t| t.shape.get(1)).copied().unwrap_or(1).max(1);
    let all = tensor.and_then(Tensor::as_fp32).unwrap_or_default();
    let rows = classes.iter().zip(all.chunks(width));
    rows.map(|(class, row)| json!({"class": class, "probabilities": row}))
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the model takes f32; admission refuses what does not fit"
)]
fn flatten(value: &Value, pixels: &mut Vec<f32>) -> Result<(), HttpError> {
    match value {
        Value::Array(values) => values.iter().try_for_each(|v| flatten(v, pixels)),
        Value::Number(number) => {
            pixels.push(number.as_f64().unwrap_or(f64::NAN) as f32);
            Ok(())
        }
        other => Err(wrong(other, "numbers, the image row by row")),
    }
}

fn texts(input: &Value) -> Result<(Vec<String>, bool), HttpError> {
    match input {
        Value::String(text) => Ok((vec![text.clone()], true)),
        Value::Array(values) => {
            let read = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| wrong(v, "a text"));
            Ok((values.iter().map(read).collect::<Result<_, _>>()?, false))
        }
        other => Err(wrong(other, "a text, or a list of texts")),
    }
}

fn one_or_all(mut rows: Vec<Value>, single: bool) -> Value {
    if single && rows.len() == 1 {
        rows.remove(0)
    } else {
        Value::Array(rows)
    }
}

fn wrong(value: &Value, expected: &str) -> HttpError {
    let shown: String = value.to_string().chars().take(40).collect();
    HttpError::invalid(format!("input holds {shown}, and this model takes {expected}"))
}
