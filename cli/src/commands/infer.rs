//! `regent infer`: one question to a model, over the same HTTP that programs use.

use std::{io::Read as _, path::Path};

use client::Client;
use serde_json::{Value, json};
use types::{
    RegionId,
    reason::{Reason, Refusal},
    region::{Health, NodeKind, NodeStatus},
};

use crate::{
    args::{InferArgs, Shared},
    context,
    error::Failure,
    exit::Exit,
    output::answer,
};

/// Numbers of an embedding that people get to see.
const SHOWN: usize = 8;

/// Asks, prints the answer.
pub(crate) async fn run(args: InferArgs, shared: Shared) -> Result<(), Failure> {
    let client = context::client(&shared)?;
    let (region, base) = endpoint(&client, args.region.as_ref()).await?;
    let (path, body) = request(&args)?;
    let url = format!("{base}{path}");
    let document = post(&url, &body, &shared)
        .await
        .map_err(|f| f.while_doing(format!("{} in {region}", args.model)))?;
    answer(shared.output, &document, || human(&args, &document))
}

/// The inference endpoint of an agent that is up, in this region or the first healthy one.
async fn endpoint(client: &Client, wanted: Option<&RegionId>) -> Result<(RegionId, String), Failure> {
    let regions = client.list_regions().await?;
    if let Some(wanted) = wanted
        && !regions.iter().any(|r| &r.region == wanted)
    {
        let known: Vec<&str> = regions.iter().map(|r| r.region.as_str()).collect();
        let message = format!("no region {wanted}; there are {}", known.join(", "));
        return Err(Refusal::new(Reason::RegionNotFound, message).into());
    }
    let nodes = client.list_nodes(wanted).await?;
    let healthy = |region: &RegionId| {
        regions
            .iter()
            .any(|r| &r.region == region && r.health == Health::Healthy)
    };
    let serving = nodes.into_iter().find(|node| {
        node.kind == NodeKind::Agent
            && node.status == NodeStatus::Up
            && !node.endpoints.inference.is_empty()
            && (wanted.is_some() || healthy(&node.region))
    });
    let place = wanted.map_or_else(|| "any healthy region".to_owned(), ToString::to_string);
    serving
        .map(|node| (node.region, node.endpoints.inference))
        .ok_or_else(|| {
            Failure::new(
                Exit::Unavailable,
                format!("no agent that is up serves inference in {place}"),
            )
        })
}

fn request(args: &InferArgs) -> Result<(String, Value), Failure> {
    let model = match args.version {
        Some(version) => format!("{}@{version}", args.model),
        None => args.model.to_string(),
    };
    if let Some(text) = &args.what.text {
        return Ok((
            "/v1/embeddings".to_owned(),
            json!({ "model": model, "input": text }),
        ));
    }
    if let Some(prompt) = &args.what.prompt {
        let body =
            json!({ "model": model, "prompt": prompt, "max_tokens": args.max_tokens, "temperature": 0 });
        return Ok(("/v1/completions".to_owned(), body));
    }
    let Some(file) = &args.what.input else {
        return Err(Failure::usage("one of --input, --text and --prompt is needed"));
    };
    let path = match args.version {
        Some(version) => format!("/v2/models/{}/versions/{version}/infer", args.model),
        None => format!("/v2/models/{}/infer", args.model),
    };
    Ok((path, open_inference(read_json(file)?, file)?))
}

/// A request as it is, or an array of numbers as the one input of a batch of one.
fn open_inference(value: Value, file: &Path) -> Result<Value, Failure> {
    match value {
        Value::Object(_) => Ok(value),
        Value::Array(data) if data.iter().all(Value::is_number) => Ok(json!({ "inputs": [{
            "name": "input",
            "shape": [1, data.len()],
            "datatype": "FP32",
            "data": data,
        }]})),
        _ => Err(Failure::usage(format!(
            "{}: neither a request nor an array of numbers",
            file.display()
        ))
        .remedy("write {\"inputs\": [{\"name\", \"shape\", \"datatype\", \"data\"}]}, or [0.0, 1.0, …]")),
    }
}

fn read_json(file: &Path) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|all| text = all)
    };
    read.map_err(|e| Failure::file("read", file, e))?;
    serde_json::from_str(&text).map_err(|e| Failure::usage(format!("{}: no JSON: {e}", file.display())))
}

async fn post(url: &str, body: &Value, shared: &Shared) -> Result<Value, Failure> {
    let unreachable = |e: reqwest::Error| Failure::new(Exit::Unavailable, chain(&e));
    let http = reqwest::Client::builder()
        .timeout(shared.timeout)
        .build()
        .map_err(unreachable)?;
    let response = http.post(url).json(body).send().await.map_err(unreachable)?;
    let status = response.status();
    let text = response.text().await.map_err(unreachable)?;
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text));
    if status.is_success() {
        Ok(document)
    } else {
        Err(refused(status, &document))
    }
}

/// An HTTP error as a failure; the agent's own words are kept.
fn refused(status: reqwest::StatusCode, document: &Value) -> Failure {
    let error = document.get("error").unwrap_or(document);
    let message = error.get("message").unwrap_or(error);
    let message = message
        .as_str()
        .map_or_else(|| message.to_string(), str::to_owned);
    let exit = match status.as_u16() {
        400 | 413 | 415 | 422 => Exit::Usage,
        401 | 403 => Exit::Denied,
        404 => Exit::NotFound,
        409 | 412 => Exit::Precondition,
        429 | 502..=504 => Exit::Unavailable,
        _ => Exit::Error,
    };
    Failure::new(exit, format!("{message} (HTTP {})", status.as_u16()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn human(args: &InferArgs, document: &Value) -> String {
    if args.what.prompt.is_some()
        && let Some(text) = document.pointer("/choices/0/text").and_then(Value::as_str)
    {
        return text.to_owned();
    }
    if let Some(embedding) = document.pointer("/data/0/embedding").and_then(Value::as_array) {
        let first: Vec<String> = embedding.iter().take(SHOWN).map(Value::to_string).collect();
        return format!("{} numbers: {} …", embedding.len(), first.join(" "));
    }
    format!("{document:#}")
}
