//! `/v1/embeddings` and `/v1/models`, in the shape that OpenAI clients know.

use std::fmt;

use axum::{
    Json,
    extract::{Request, State},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use inference::{Family, InferRequest, Output};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::{Value, json};

use super::{
    HttpError, HttpState,
    request::{self, Call},
};
use crate::serving::Loaded;

#[derive(Deserialize)]
struct EmbeddingsBody {
    model: String,
    input: Texts,
    #[serde(default)]
    encoding_format: Encoding,
}

/// One text or several.
pub(super) struct Texts(pub(super) Vec<String>);

/// By hand, so that the wrong one of several is named.
impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or a list of texts")
    }
    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, texts: A) -> Result<Texts, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(texts)).map(Texts)
    }
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
    let (call, body): (Call, EmbeddingsBody) = request::open(&state, request).await?;
    let loaded = request::resolve(&state, &body.model)?;
    let result = embed(&loaded, &call, body).await;
    call.end(&state, &loaded.key.model, &result);
    result.map(Json)
}

async fn embed(loaded: &Loaded, call: &Call, body: EmbeddingsBody) -> Result<Value, HttpError> {
    if loaded.signature().family != Family::Embedding {
        let text = format!(
            "{} is of family {}; embeddings come from embedding models only",
            loaded.key,
            loaded.signature().family
        );
        return Err(HttpError::invalid(text));
    }
    let texts = body.input.0;
    let output = loaded.infer(InferRequest::texts(texts), call.deadline).await?;
    let rows: Vec<_> = rows(&output)?
        .enumerate()
        .map(|(index, row)| json!({"object": "embedding", "index": index, "embedding": encode(row, body.encoding_format)}))
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
