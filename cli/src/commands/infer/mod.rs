//! `regent infer`: one question to a model, over the same HTTP that programs use.

mod places;

use std::{
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use types::reason::{Reason, Refusal};

use self::places::Place;

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
    let wanted = args.region.as_ref();
    let places = places::places(&client, wanted).await?;
    let input = args.what.input.as_deref().map(read_json).transpose()?;
    let document = Box::pin(first_answer(&args, input.as_ref(), &places, &shared)).await?;
    answer(shared.output, &document, || human(&args, &document))
}

/// The first one that can be connected to decides; all share one deadline.
async fn first_answer(
    args: &InferArgs,
    input: Option<&Value>,
    places: &[Place],
    shared: &Shared,
) -> Result<Value, Failure> {
    let deadline = Instant::now() + shared.timeout;
    let mut last = None;
    for place in places {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match Box::pin(ask(args, input, &place.base, left)).await {
            Ok(mut document) => {
                // Something else than an agent may listen there, and answer with anything.
                if let Some(fields) = document.as_object_mut() {
                    fields.insert("region".to_owned(), json!(place.region));
                }
                return Ok(document);
            }
            Err(Asked::Refused(failure)) => {
                let failure = failure.while_doing(format!("{} in {}", args.model, place.region));
                return Err(failure.with("model", &args.model).with("region", &place.region));
            }
            Err(Asked::NoConnection(why)) => last = Some((place, why)),
        }
    }
    Err(no_connection(args, last))
}

fn no_connection(args: &InferArgs, last: Option<(&Place, String)>) -> Failure {
    let message = last.map_or_else(
        || format!("{}: no time was left to ask", args.model),
        |(place, why)| {
            let (model, region, status) = (&args.model, &place.region, place.status);
            format!("{model} in {region}: its agent, {status} to the registry, cannot be reached: {why}")
        },
    );
    Failure::new(Exit::Unavailable, message)
        .with("model", &args.model)
        .remedy("`regent region list` says which regions are healthy")
}

/// Why a question brought no answer.
enum Asked {
    /// Nobody listens there: somebody else may be asked.
    NoConnection(String),
    /// It is known what is wrong, or the question may have arrived: that is the answer.
    Refused(Failure),
}

impl From<Failure> for Asked {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl From<reqwest::Error> for Asked {
    fn from(error: reqwest::Error) -> Self {
        if error.is_connect() {
            Self::NoConnection(chain(&error))
        } else {
            Self::Refused(Failure::new(Exit::Unavailable, chain(&error)))
        }
    }
}

async fn ask(args: &InferArgs, input: Option<&Value>, base: &str, limit: Duration) -> Result<Value, Asked> {
    let http = reqwest::Client::builder().timeout(limit).build()?;
    let (path, body) = match input {
        Some(Value::Array(data)) => {
            let path = model_path(args);
            let model = read(http.get(format!("{base}{path}"))).await?;
            (format!("{path}/infer"), one_input(&model, data)?)
        }
        Some(request) => (format!("{}/infer", model_path(args)), request.clone()),
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

/// An array for a model with one input: numbers are a batch of one, nested ones the batch that they look like. The model
/// says name and type, and whether the shape is its own.
fn one_input(model: &Value, data: &[Value]) -> Result<Value, Failure> {
    let inputs = model
        .get("inputs")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let [input] = inputs else {
        let message = format!("the input is an array, and the model has {} inputs", inputs.len());
        return Err(Failure::usage(message)
            .remedy("write a request: {\"inputs\": [{\"name\", \"shape\", \"datatype\", \"data\"}]}"));
    };
    let mut tensor = json!({ "shape": shape_of(data), "data": data });
    for key in ["name", "datatype"] {
        tensor[key] = input.get(key).cloned().unwrap_or_default();
    }
    Ok(json!({ "inputs": [tensor] }))
}

/// The shape that the nesting of the first element shows; whether the others have it is for the agent to say.
fn shape_of(data: &[Value]) -> Vec<usize> {
    let mut shape = vec![data.len()];
    let mut first = data.first();
    while let Some(Value::Array(inner)) = first {
        shape.push(inner.len());
        first = inner.first();
    }
    if shape.len() == 1 {
        shape.insert(0, 1);
    }
    shape
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
async fn read(request: reqwest::RequestBuilder) -> Result<Value, Asked> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    let document: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if status.is_success() {
        Ok(document)
    } else {
        Err(refused(status, &document).into())
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

/// The answer for people, and below it who gave it: which version, and where.
fn human(args: &InferArgs, document: &Value) -> String {
    let field = |name| document.get(name).and_then(Value::as_str).unwrap_or("?");
    let by = format!("{}@{} in {}", args.model, field("model_version"), field("region"));
    if args.what.prompt.is_some()
        && let Some(text) = document.pointer("/choices/0/text").and_then(Value::as_str)
    {
        return format!("{text}\n\n{by}");
    }
    if let Some(embedding) = document.pointer("/data/0/embedding").and_then(Value::as_array) {
        let first: Vec<String> = embedding.iter().take(SHOWN).map(Value::to_string).collect();
        return format!("{} numbers: {} …\n\n{by}", embedding.len(), first.join(" "));
    }
    // It holds both.
    format!("{document:#}")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    /// What people see of this answer to `infer fraud.scorer` with these flags.
    fn seen(flags: &[&str], document: &Value) -> String {
        let line = [&["regent", "infer", "fraud.scorer"], flags].concat();
        let Command::Infer(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        human(&args, document)
    }

    #[test]
    fn an_answer_says_which_version_gave_it_and_where() {
        let text =
            json!({ "choices": [{ "text": "there was" }], "model_version": "3", "region": "eu-west-1" });
        assert_eq!(
            seen(&["--prompt", "Once"], &text),
            "there was\n\nfraud.scorer@3 in eu-west-1"
        );
        let embedding =
            json!({ "data": [{ "embedding": [1, 2] }], "model_version": "3", "region": "eu-west-1" });
        assert_eq!(
            seen(&["--text", "a"], &embedding),
            "2 numbers: 1 2 …\n\nfraud.scorer@3 in eu-west-1"
        );
        let tensors = json!({ "outputs": [], "model_version": "3", "region": "eu-west-1" });
        let seen = seen(&["--input", "-"], &tensors);
        assert_eq!(serde_json::from_str::<Value>(&seen).unwrap(), tensors);
    }

    #[test]
    fn the_shape_of_an_array_is_that_of_its_nesting() {
        let shape = |data: Value| shape_of(data.as_array().unwrap());
        assert_eq!(shape(json!([1, 2, 3])), [1, 3]);
        assert_eq!(shape(json!([[1, 2], [3, 4], [5, 6]])), [3, 2]);
        assert_eq!(shape(json!([[[1], [2]]])), [1, 2, 1]);
        assert_eq!(shape(json!([])), [1, 0]);
        // Whether all are alike is judged where the data is read.
        assert_eq!(shape(json!([[1, 2], 3])), [2, 2]);
    }
}
