//! `POST /predict`: one plain question to any model. `{"model": "digits", "input": [64 numbers]}`,
//! `{"model": "embedder", "input": "text"}`, `{"model": "writer", "input": "once"}`; lists of them for a batch.

use axum::{
    Json,
    extract::{Request, State},
};
use inference::{Family, GenerateRequest, InferRequest, Output, Sampling, Tensor, TokenStream};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    HttpError, HttpState, body, openai,
    request::{self, Call},
    v2::Parameters,
    values::{self, Flat},
};
use crate::serving::Loaded;

#[derive(Deserialize)]
struct PredictBody<'a> {
    model: String,
    #[serde(borrow, alias = "text", alias = "prompt", alias = "image", alias = "inputs")]
    input: &'a RawValue,
    /// How a generator samples; what is left out has its default.
    #[serde(default)]
    parameters: Parameters,
    // The same beside the input, as /v1/completions has them.
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    seed: Option<u64>,
}

impl PredictBody<'_> {
    fn sampling(self) -> Sampling {
        let nested = self.parameters;
        let all = Parameters {
            max_tokens: self.max_tokens.or(nested.max_tokens),
            temperature: self.temperature.or(nested.temperature),
            top_p: self.top_p.or(nested.top_p),
            seed: self.seed.or(nested.seed),
        };
        all.sampling()
    }
}

/// An input as its model takes it.
enum Question {
    Images(Flat<f32>),
    /// Texts, and whether it was a single one.
    Texts(Vec<String>, bool),
    Prompt(GenerateRequest),
}

pub(super) async fn predict(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Json<Value>, HttpError> {
    let parse = |state: &HttpState, bytes: &[u8]| {
        let body: PredictBody<'_> = body::read(bytes)?;
        let (model, version) = request::split(&body.model)?;
        let loaded = request::take(state, model, version)?;
        let question = question(&loaded, body);
        Ok((loaded, question))
    };
    let (call, (loaded, question)) = request::open(&state, request, parse).await?;
    let result = answer(&loaded, &call, question).await;
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

fn question(loaded: &Loaded, body: PredictBody<'_>) -> Result<Question, HttpError> {
    let numbers = || {
        let wrong = |shown: &str, _, _| {
            format!("input holds {shown}, and this model takes numbers, the image row by row")
        };
        let max = values::values_max(loaded.signature());
        values::read(body.input, max).map_err(|refused| refused.of("input", wrong))
    };
    match loaded.signature().family {
        Family::Digits => numbers().map(Question::Images),
        Family::Embedding => {
            let (texts, single) = openai::texts(loaded, "input", body.input)?;
            Ok(Question::Texts(texts, single))
        }
        Family::Generator => {
            let (mut texts, single) = openai::texts(loaded, "input", body.input)?;
            match texts.pop() {
                Some(prompt) if single => Ok(Question::Prompt(GenerateRequest {
                    prompt,
                    sampling: body.sampling(),
                })),
                _ => {
                    let text = "input holds a list, and this model takes a text to go on from";
                    Err(HttpError::invalid(text))
                }
            }
        }
    }
}

async fn answer(
    loaded: &Loaded,
    call: &Call,
    question: Result<Question, HttpError>,
) -> Result<Value, HttpError> {
    match question? {
        Question::Images(pixels) => digits(loaded, call, pixels).await,
        Question::Texts(texts, single) => {
            let output = loaded.infer(InferRequest::texts(texts), call.deadline).await?;
            let rows: Vec<_> = openai::rows(&output)?.map(|row| json!(row)).collect();
            Ok(one_or_all(rows, single))
        }
        Question::Prompt(request) => generated(loaded.generate(request, call.deadline)?).await,
    }
}

async fn generated(tokens: TokenStream) -> Result<Value, HttpError> {
    Ok(json!(tokens.collect().await?.text))
}

/// One image as a list of numbers (or rows of them), or a list of such images.
async fn digits(loaded: &Loaded, call: &Call, pixels: Flat<f32>) -> Result<Value, HttpError> {
    let spec = loaded.signature().inputs.first();
    let width = spec
        .and_then(|s| s.shape.get(1))
        .and_then(|w| usize::try_from(*w).ok())
        .unwrap_or(0);
    let name = spec.map_or("image", |s| s.name.as_str());
    let Flat {
        values: pixels, axes, ..
    } = pixels;
    if width == 0 || pixels.is_empty() || pixels.len() % width != 0 {
        let text = format!("input holds {} numbers; an image has {width}", pixels.len());
        return Err(HttpError::invalid(text));
    }
    let rows = pixels.len() / width;
    let request = InferRequest::new(vec![Tensor::fp32(name, &[rows, width], pixels)]);
    let output = loaded.infer(request, call.deadline).await?;
    // A batch is a list of images: one image is a flat list, or rows of less than a whole image.
    let batch = axes.get(1) == Some(&width) || axes.len() > 2;
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

fn one_or_all(mut rows: Vec<Value>, single: bool) -> Value {
    if single && rows.len() == 1 {
        rows.remove(0)
    } else {
        Value::Array(rows)
    }
}
