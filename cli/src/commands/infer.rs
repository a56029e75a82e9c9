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
    // Where to ask is a hint, and inference goes on without a quorum: so must the way to it (I10).
    let client = context::client(&shared)?.with_stale_reads();
    let (region, base) = endpoint(&client, args.region.as_ref()).await?;
    let asked = Box::pin(ask(&args, &base, &shared)).await;
    let document = asked.map_err(|f| f.while_doing(format!("{} in {region}", args.model)))?;
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

async fn ask(args: &InferArgs, base: &str, shared: &Shared) -> Result<Value, Failure> {
    let unreachable = |e: reqwest::Error| Failure::new(Exit::Unavailable, chain(&e));
    let http = reqwest::Client::builder()
        .timeout(shared.timeout)
        .build()
        .map_err(unreachable)?;
    let (path, body) = match &args.what.input {
        Some(file) => {
            let path = model_path(args);
            let body = match read_json(file)? {
                Value::Array(data) => {
                    let model = read(http.get(format!("{base}{path}"))).await?;
                    one_input(&model, data, file)?
                }
                request => request,
            };
            (format!("{path}/infer"), body)
        }
        None => text_request(args)?,
    };
    read(http.post(format!("{base}{path}")).json(&body)).await
}

fn model_path(args: &InferArgs) -> String {
    match args.model_version {
        Some(version) => format!("/v2/models/{}/versions/{version}", args.model),
        None => format!("/v2/models/{}", args.model),
    }
}

fn text_request(args: &InferArgs) -> Result<(String, Value), Failure> {
    let model = match args.model_version {
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
    Err(Failure::usage("one of --input, --text and --prompt is needed"))
}

/// An array of numbers as a batch of one, for a model with one input; the model says name, type and shape.
fn one_input(model: &Value, data: Vec<Value>, file: &Path) -> Result<Value, Failure> {
    let inputs = model
        .get("inputs")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let [input] = inputs else {
        let message = format!(
            "{} is an array, and the model has {} inputs",
            file.display(),
            inputs.len()
        );
        return Err(Failure::usage(message)
            .remedy("write a request: {\"inputs\": [{\"name\", \"shape\", \"datatype\", \"data\"}]}"));
    };
    let mut tensor = json!({ "shape": [1, data.len()], "data": data });
    for key in ["name", "datatype"] {
        tensor[key] = input.get(key).cloned().unwrap_or_default();
    }
    Ok(json!({ "inputs": [tensor] }))
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

/// Sends, and reads the answer; an error keeps the agent's own words.
async fn read(request: reqwest::RequestBuilder) -> Result<Value, Failure> {
    let unreachable = |e: reqwest::Error| Failure::new(Exit::Unavailable, chain(&e));
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let text = response.text().await.map_err(unreachable)?;
    let document: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if status.is_success() {
        Ok(document)
    } else {
        Err(refused(status, &document))
    }
}

/// An HTTP error as a failure: by its reason where it is one of ours, else by its status.
fn refused(status: reqwest::StatusCode, document: &Value) -> Failure {
    let error = document.get("error").unwrap_or(document);
    let message = error.get("message").unwrap_or(error);
    let message = message
        .as_str()
        .map_or_else(|| message.to_string(), str::to_owned);
    let reason = error
        .get("reason")
        .and_then(Value::as_str)
        .and_then(|r| r.parse::<Reason>().ok());
    if let Some(reason) = reason {
        return Refusal::new(reason, message).into();
    }
    let exit = match status.as_u16() {
        400 | 413 | 415 | 422 => Exit::Usage,
        404 => Exit::NotFound,
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
