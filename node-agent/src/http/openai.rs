//! `/v1/embeddings` and `/v1/models`, in the shape that OpenAI clients know.

use axum::{
    Json,
    extract::{Request, State},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use inference::{Family, InferRequest, Output};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    HttpError, HttpState, body,
    request::{self, Call},
    values,
};
use crate::serving::Loaded;

#[derive(Deserialize)]
struct EmbeddingsBody<'a> {
    model: String,
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(default)]
    encoding_format: Encoding,
}

/// One text or a list of them, and whether it was one.
pub(super) fn texts(loaded: &Loaded, what: &str, json: &RawValue) -> Result<(Vec<String>, bool), HttpError> {
    let wrong = |shown: &str, index: usize, listed: bool| match listed {
        true => format!("{what}[{index}] is {shown}; it must be a text"),
        false => format!("{what} is {shown}; it must be a text, or a list of texts"),
    };
    let read = values::read::<String>(json, values::values_max(loaded.signature()));
    let flat = read.map_err(|refused| refused.of(what, wrong))?;
    if flat.axes.len() > 1 {
        let text = format!("{what} has lists within a list; it must be a text, or a list of texts");
        return Err(HttpError::invalid(text));
    }
    Ok((flat.values, flat.axes.is_empty()))
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    /// Little-endian f32, which OpenAI's own clients ask for.
    Base64,
}

pub(super) async fn models(State(state): State<HttpState>) -> Json<Value> {
    let rows: Vec<_> = state
        .serving
        .describe()
        .into_iter()
        .map(|(key, signature, active)| {
            json!({
                "id": if active { key.model.to_string() } else { key.to_string() },
                "object": "model",
                "owned_by": "regent",
                "model_version": key.version.to_string(),
                "family": signature.family,
            })
        })
        .collect();
    Json(json!({"object": "list", "data": rows}))
}

pub(super) async fn embeddings(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Json<Value>, HttpError> {
    let parse = |state: &HttpState, bytes: &[u8]| {
        let body: EmbeddingsBody<'_> = body::read(bytes)?;
        let (model, version) = request::split(&body.model)?;
        let loaded = request::take(state, model, version)?;
        let texts = texts(&loaded, "input", body.input).map(|(texts, _)| texts);
        Ok((loaded, texts, body.encoding_format))
    };
    let (call, (loaded, texts, encoding)) = request::open(&state, request, parse).await?;
    let result = embed(&loaded, &call, texts, encoding).await;
    call.end(&state, &loaded.key.model, &result);
    result.map(Json)
}

async fn embed(
    loaded: &Loaded,
    call: &Call,
    texts: Result<Vec<String>, HttpError>,
    encoding: Encoding,
) -> Result<Value, HttpError> {
    if loaded.signature().family != Family::Embedding {
        let text = format!(
            "{} is of family {}; embeddings come from embedding models only",
            loaded.key,
            loaded.signature().family
        );
        return Err(HttpError::invalid(text));
    }
    let output = loaded.infer(InferRequest::texts(texts?), call.deadline).await?;
    let rows: Vec<_> = rows(&output)?
        .enumerate()
        .map(
            |(index, row)| json!({"object": "embedding", "index": index, "embedding": encode(row, encoding)}),
        )
        .collect();
    Ok(json!({
        "object": "list",
        "model": loaded.key.model.as_str(),
        "model_version": loaded.key.version.to_string(),
        "data": rows,
        "usage": {"prompt_tokens": output.usage.input_tokens, "total_tokens": output.usage.input_tokens},
    }))
}

fn encode(row: &[f32], encoding: Encoding) -> Value {
    match encoding {
        Encoding::Float => json!(row),
        Encoding::Base64 => {
            let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
            json!(STANDARD.encode(bytes))
        }
    }
}

/// The vectors of an embedding, row by row.
pub(super) fn rows(output: &Output) -> Result<impl Iterator<Item = &[f32]>, HttpError> {
    let missing = || {
        let text = "the model gave no embedding of shape [batch, dimension]";
        HttpError::from(inference::InferError::Internal {
            what: text.to_owned(),
        })
    };
    let tensor = output.tensor("embedding").ok_or_else(missing)?;
    let values = tensor.as_fp32().ok_or_else(missing)?;
    let width = tensor
        .shape
        .get(1)
        .copied()
        .filter(|w| *w > 0)
        .ok_or_else(missing)?;
    Ok(values.chunks(width))
}
