//! One question to one agent, and what its answer means.

use std::{
    error::Error,
    io,
    time::{Duration, Instant},
};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::{Value, json};
use tokio::time::timeout;
use types::{
    reason::{Reason, Refusal},
    units::format_age,
};

use crate::{args::InferArgs, error::Failure, exit::Exit};

/// Why a question brought no answer. Whoever asks gets to read the texts.
#[derive(Debug)]
pub(super) enum Asked {
    /// The question did not arrive, and why.
    NoConnection(String),
    /// It may have arrived; no answer did, and how that was.
    Silence(String),
    /// It is known what is wrong, and after how long that may be over, where the agent says so.
    Refused(Failure, Option<Duration>),
}

impl From<Failure> for Asked {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure, None)
    }
}

impl From<reqwest::Error> for Asked {
    fn from(error: reqwest::Error) -> Self {
        // Whoever asked knows the region, and not the path of the question.
        let error = error.without_url();
        if !error.is_connect() {
            return Self::Silence(format!("cut off: {}", cause(&error)));
        }
        let why = if error.is_timeout() {
            "it takes no connection".to_owned()
        } else if is_refused(&error) {
            "nobody listens there".to_owned()
        } else {
            cause(&error).to_string()
        };
        Self::NoConnection(format!("not reached: {why}"))
    }
}

/// Asks; `limit` holds for all that it takes, `life` for a sign that somebody answers there at all.
pub(super) async fn ask(
    args: &InferArgs,
    input: Option<&Value>,
    base: &str,
    limit: Duration,
    life: Option<Duration>,
) -> Result<Value, Asked> {
    let started = Instant::now();
    let silent = |limit| move |_| Asked::Silence(format!("silent for {}", format_age(limit)));
    let http = reqwest::Client::builder()
        .connect_timeout(life.unwrap_or(limit))
        .build()?;
    if let Some(life) = life {
        // Whatever it says: that it says anything is what counts.
        let alive = http.get(format!("{base}/v2/health/live")).send();
        timeout(life, alive).await.map_err(silent(life))??;
    }
    let left = limit.saturating_sub(started.elapsed());
    let asked = timeout(left, answer(&http, args, input, base));
    asked.await.map_err(silent(limit))?
}

async fn answer(
    http: &reqwest::Client,
    args: &InferArgs,
    input: Option<&Value>,
    base: &str,
) -> Result<Value, Asked> {
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

/// Sends, and reads the answer; an error keeps the agent's own words.
async fn read(request: reqwest::RequestBuilder) -> Result<Value, Asked> {
    let response = request.send().await?;
    let status = response.status();
    let wait = retry_after(response.headers());
    let text = response.text().await?;
    let document: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if status.is_success() {
        Ok(document)
    } else {
        Err(Asked::Refused(refused(status, &document), wait))
    }
}

/// After how long another try may help, in whole seconds as our agents write it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
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
    let failure = Failure::new(exit, format!("{message} (HTTP {})", status.as_u16()));
    match status {
        reqwest::StatusCode::TOO_MANY_REQUESTS => failure.because(Reason::Overloaded),
        _ => failure,
    }
}

/// What is at the bottom of it: what lies above names the layers of the program.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    error.source().map_or(error, cause)
}

fn is_refused(error: &reqwest::Error) -> bool {
    let io = cause(error).downcast_ref::<io::Error>();
    io.is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

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
