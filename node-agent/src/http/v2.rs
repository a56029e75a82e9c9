//! Open Inference Protocol v2 over HTTP with JSON tensors.

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::StatusCode,
};
use inference::{Datatype, InferRequest, Output, Sampling, Tensor, TensorData, TensorSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use types::ModelVersion;

use super::{
    HttpError, HttpState, body,
    request::{self, Call},
    values::{self, Element, Flat},
};
use crate::serving::Loaded;

#[derive(Deserialize)]
struct InferBody<'a> {
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow)]
    inputs: Vec<InputTensor<'a>>,
    #[serde(default)]
    outputs: Vec<WantedOutput>,
}

#[derive(Deserialize)]
struct InputTensor<'a> {
    name: String,
    #[serde(deserialize_with = "values::shape")]
    shape: Vec<usize>,
    datatype: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Those that are known; others may be there, and are for other servers.
#[derive(Default, Deserialize)]
pub(super) struct Parameters {
    pub(super) max_tokens: Option<usize>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) seed: Option<u64>,
}

/// A body as the model takes it.
struct Question {
    id: Option<String>,
    wanted: Vec<String>,
    request: InferRequest,
}

#[derive(Deserialize)]
struct WantedOutput {
    name: String,
}

#[derive(Serialize)]
pub(super) struct InferAnswer {
    model_name: String,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<OutputTensor>,
}

#[derive(Serialize)]
struct OutputTensor {
    name: String,
    shape: Vec<usize>,
    datatype: Datatype,
    data: Value,
}

pub(super) async fn server() -> Json<Value> {
    Json(json!({"name": "regent", "version": env!("CARGO_PKG_VERSION"), "extensions": []}))
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

pub(super) async fn ready(State(state): State<HttpState>) -> (StatusCode, Json<Value>) {
    match state.ready() {
        Ok(()) => (StatusCode::OK, Json(json!({"ready": true}))),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"ready": false, "message": why})),
        ),
    }
}

pub(super) async fn model_ready(
    State(state): State<HttpState>,
    Path(model): Path<String>,
) -> Result<Json<Value>, HttpError> {
    ready_answer(&*request::resolve(&state, &model)?)
}

pub(super) async fn version_ready(
    State(state): State<HttpState>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, HttpError> {
    let version = request::parse_version(&version)?;
    ready_answer(&*state.serving.resolve(&model, Some(version))?)
}

fn ready_answer(loaded: &Loaded) -> Result<Json<Value>, HttpError> {
    Ok(Json(json!({
        "name": loaded.key.model.as_str(),
        "version": loaded.key.version.to_string(),
        "ready": true,
    })))
}

pub(super) async fn metadata(
    State(state): State<HttpState>,
    Path(model): Path<String>,
) -> Result<Json<Value>, HttpError> {
    Ok(describe(&state, &*request::resolve(&state, &model)?))
}

pub(super) async fn version_metadata(
    State(state): State<HttpState>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, HttpError> {
    let version = request::parse_version(&version)?;
    Ok(describe(&state, &*state.serving.resolve(&model, Some(version))?))
}

fn describe(state: &HttpState, loaded: &Loaded) -> Json<Value> {
    let signature = loaded.signature();
    let versions: Vec<_> = state
        .serving
        .memory()
        .into_keys()
        .filter(|key| key.model == loaded.key.model)
        .map(|key| key.version.to_string())
        .collect();
    let specs = |specs: &[TensorSpec]| {
        let rows = specs
            .iter()
            .map(|s| json!({"name": s.name, "datatype": s.datatype, "shape": s.shape}));
        rows.collect::<Vec<_>>()
    };
    Json(json!({
        "name": loaded.key.model.as_str(),
        "version": loaded.key.version.to_string(),
        "versions": versions,
        "platform": format!("candle_{}", signature.family),
        "inputs": specs(&signature.inputs),
        "outputs": specs(&signature.outputs),
        "parameters": {"limits": signature.limits},
    }))
}

pub(super) async fn infer(
    State(state): State<HttpState>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<InferAnswer>, HttpError> {
    let (name, version) = request::split(&model)?;
    run(&state, name, version, request).await
}

pub(super) async fn infer_version(
    State(state): State<HttpState>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Result<Json<InferAnswer>, HttpError> {
    let version = request::parse_version(&version)?;
    run(&state, &model, Some(version), request).await
}

async fn run(
    state: &HttpState,
    model: &str,
    version: Option<ModelVersion>,
    request: Request,
) -> Result<Json<InferAnswer>, HttpError> {
    // The model first: who asks for an unknown one need not send its tensors.
    let loaded = request::take(state, model, version)?;
    let mut call = Call::begin(state, request.headers())?;
    let result = answer(state, &loaded, &mut call, request.into_body()).await;
    call.end(state, &loaded.key.model, &result);
    result.map(Json)
}

async fn answer(
    state: &HttpState,
    loaded: &Loaded,
    call: &mut Call,
    body: Body,
) -> Result<InferAnswer, HttpError> {
    let max = values::values_max(loaded.signature());
    let question = call.read(state, body, move |bytes| question(bytes, max)).await?;
    check_wanted(loaded, &question.wanted)?;
    let output = loaded.infer(question.request, call.deadline).await?;
    Ok(InferAnswer {
        model_name: loaded.key.model.to_string(),
        model_version: loaded.key.version.to_string(),
        id: question.id,
        outputs: outputs(output, &question.wanted),
    })
}

/// Of each input at most `max` values.
fn question(bytes: &[u8], max: usize) -> Result<Question, HttpError> {
    let body: InferBody<'_> = body::read(bytes)?;
    let inputs = body.inputs.into_iter().map(|input| tensor(input, max));
    Ok(Question {
        id: body.id,
        wanted: body.outputs.into_iter().map(|o| o.name).collect(),
        request: InferRequest {
            inputs: inputs.collect::<Result<_, _>>()?,
            sampling: body.parameters.sampling(),
        },
    })
}

fn check_wanted(loaded: &Loaded, wanted: &[String]) -> Result<(), HttpError> {
    let outputs = &loaded.signature().outputs;
    match wanted
        .iter()
        .find(|name| !outputs.iter().any(|spec| spec.name == **name))
    {
        None => Ok(()),
        Some(name) => {
            let known: Vec<_> = outputs.iter().map(|spec| spec.name.as_str()).collect();
            let text = format!(
                "{} has no output {name:?}; it has: {}",
                loaded.key,
                known.join(", ")
            );
            Err(HttpError::invalid(text))
        }
    }
}

fn outputs(output: Output, wanted: &[String]) -> Vec<OutputTensor> {
    let chosen = output
        .tensors
        .into_iter()
        .filter(|t| wanted.is_empty() || wanted.contains(&t.name));
    chosen
        .map(|t| OutputTensor {
            datatype: t.data.datatype(),
            name: t.name,
            shape: t.shape,
            data: match t.data {
                TensorData::Fp32(values) => json!(values),
                TensorData::Int64(values) => json!(values),
                TensorData::Bytes(values) => json!(values),
            },
        })
        .collect()
}

/// Reads one tensor; lists nested as its shape says are flattened row by row, as the protocol allows.
fn tensor(input: InputTensor<'_>, max: usize) -> Result<Tensor, HttpError> {
    let data = match input.datatype.as_str() {
        "FP32" => TensorData::Fp32(elements(&input, max)?),
        "INT64" => TensorData::Int64(elements(&input, max)?),
        "BYTES" => TensorData::Bytes(elements(&input, max)?),
        other => {
            let name = &input.name;
            let text = format!("input {name:?} has datatype {other:?}; use FP32, INT64 or BYTES");
            return Err(HttpError::invalid(text));
        }
    };
    Ok(Tensor {
        name: input.name,
        shape: input.shape,
        data,
    })
}

fn elements<T: Element>(input: &InputTensor<'_>, max: usize) -> Result<Vec<T>, HttpError> {
    let InputTensor { name, datatype, .. } = input;
    if !input.data.get().starts_with('[') {
        let found = body::shown_raw(input.data);
        let text = format!("data of input {name:?} is {found}; it must be a list");
        return Err(HttpError::invalid(text));
    }
    let flat = values::read(input.data, max).map_err(|refused| {
        refused.of(&format!("data of input {name:?}"), |shown, index, _| {
            format!("input {name:?} holds {shown} at index {index}, which is no {datatype}")
        })
    })?;
    check_nesting(name, &input.shape, &flat)?;
    Ok(flat.values)
}

/// Data is one list of all values, or lists within lists as the shape says. How many there are is the model's to judge.
fn check_nesting<T>(name: &str, shape: &[usize], data: &Flat<T>) -> Result<(), HttpError> {
    let lengths = &data.axes;
    if !data.even {
        let text = format!(
            "data of input {name:?} has lists of different lengths beside each other; \
             nest it as its shape {shape:?} says, or write all values in one list"
        );
        return Err(HttpError::invalid(text));
    }
    if lengths.len() > 1 && lengths != shape {
        let text = format!(
            "data of input {name:?} is nested as {lengths:?}, and its shape is {shape:?}; \
             give the shape of the data, or write all values in one list"
        );
        return Err(HttpError::invalid(text));
    }
    Ok(())
}

impl Parameters {
    pub(super) fn sampling(self) -> Sampling {
        let default = Sampling::default();
        Sampling {
            max_tokens: self.max_tokens.unwrap_or(default.max_tokens),
            temperature: self.temperature.unwrap_or(default.temperature),
            top_p: self.top_p.unwrap_or(default.top_p),
            seed: self.seed.unwrap_or(default.seed),
        }
    }
}
