//! Open Inference Protocol v2 over HTTP with JSON tensors.

use axum::{
    Json,
    extract::{Path, Request, State},
    http::StatusCode,
};
use inference::{Datatype, InferRequest, Output, Sampling, Tensor, TensorData, TensorSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use types::ModelVersion;

use super::{
    HttpError, HttpState, body,
    request::{self, Call},
};
use crate::serving::Loaded;

#[derive(Deserialize)]
pub(super) struct InferBody {
    id: Option<String>,
    #[serde(default)]
    parameters: serde_json::Map<String, Value>,
    inputs: Vec<InputTensor>,
    #[serde(default)]
    outputs: Vec<WantedOutput>,
}

#[derive(Deserialize)]
struct InputTensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: Value,
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
    let loaded = state.serving.resolve(model, version)?;
    let call = Call::begin(state, request.headers())?;
    let sent = request.into_body();
    let result = async { answer(&loaded, &call, call.json(state, sent).await?).await }.await;
    call.end(state, &loaded.key.model, &result);
    result.map(Json)
}

async fn answer(loaded: &Loaded, call: &Call, body: InferBody) -> Result<InferAnswer, HttpError> {
    let wanted: Vec<_> = body.outputs.into_iter().map(|o| o.name).collect();
    check_wanted(loaded, &wanted)?;
    let inputs = body.inputs.into_iter().map(tensor).collect::<Result<_, _>>()?;
    let request = InferRequest {
        inputs,
        sampling: sampling(&body.parameters)?,
    };
    let output = loaded.infer(request, call.deadline).await?;
    Ok(InferAnswer {
        model_name: loaded.key.model.to_string(),
        model_version: loaded.key.version.to_string(),
        id: body.id,
        outputs: outputs(output, &wanted),
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
fn tensor(input: InputTensor) -> Result<Tensor, HttpError> {
    let InputTensor {
        name,
        shape,
        datatype,
        data,
    } = input;
    check_nesting(&name, &shape, &data)?;
    let mut flat = Vec::new();
    flatten(data, &mut flat);
    let data = match datatype.as_str() {
        "FP32" => TensorData::Fp32(elements(&name, &datatype, flat, to_f32)?),
        "INT64" => TensorData::Int64(elements(&name, &datatype, flat, |v| v.as_i64())?),
        "BYTES" => TensorData::Bytes(elements(&name, &datatype, flat, |v| {
            v.as_str().map(str::to_owned)
        })?),
        other => {
            let text = format!("input {name:?} has datatype {other:?}; use FP32, INT64 or BYTES");
            return Err(HttpError::invalid(text));
        }
    };
    Ok(Tensor { name, shape, data })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "FP32 is what the caller asked for; admission refuses infinities"
)]
fn to_f32(value: &Value) -> Option<f32> {
    value.as_f64().map(|v| v as f32)
}

/// Data is one list of all values, or lists within lists as the shape says. How many there are is the model's to judge.
fn check_nesting(name: &str, shape: &[usize], data: &Value) -> Result<(), HttpError> {
    if !data.is_array() {
        let found = body::shown(data);
        let text = format!("data of input {name:?} is {found}; it must be a list");
        return Err(HttpError::invalid(text));
    }
    let Some(lengths) = lengths(data) else {
        let text = format!(
            "data of input {name:?} has lists of different lengths beside each other; \
             nest it as its shape {shape:?} says, or write all values in one list"
        );
        return Err(HttpError::invalid(text));
    };
    if lengths.len() > 1 && lengths != shape {
        let text = format!(
            "data of input {name:?} is nested as {lengths:?}, and its shape is {shape:?}; \
             give the shape of the data, or write all values in one list"
        );
        return Err(HttpError::invalid(text));
    }
    Ok(())
}

/// The lengths of lists within lists, the outermost first; none where those of one level differ.
fn lengths(value: &Value) -> Option<Vec<usize>> {
    let Value::Array(values) = value else {
        return Some(Vec::new());
    };
    let mut inner = values.iter().map(lengths);
    let first = inner.next().unwrap_or_else(|| Some(Vec::new()))?;
    let same = inner.all(|other| other.as_ref() == Some(&first));
    same.then(|| std::iter::once(values.len()).chain(first).collect())
}

fn flatten(value: Value, flat: &mut Vec<Value>) {
    match value {
        Value::Array(values) => values.into_iter().for_each(|v| flatten(v, flat)),
        other => flat.push(other),
    }
}

fn elements<T>(
    name: &str,
    datatype: &str,
    values: Vec<Value>,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, HttpError> {
    let read_one = |(index, value): (usize, &Value)| {
        read(value).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(40).collect();
            HttpError::invalid(format!(
                "input {name:?} holds {shown} at index {index}, which is no {datatype}"
            ))
        })
    };
    values.iter().enumerate().map(read_one).collect()
}

pub(super) fn sampling(parameters: &serde_json::Map<String, Value>) -> Result<Sampling, HttpError> {
    let known = ["max_tokens", "temperature", "top_p", "seed"];
    let mut chosen = serde_json::to_value(Sampling::default()).unwrap_or_default();
    if let Some(fields) = chosen.as_object_mut() {
        let given = parameters
            .iter()
            .filter(|(name, _)| known.contains(&name.as_str()));
        fields.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    }
    body::from_value("parameters", chosen)
}
