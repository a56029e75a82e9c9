//! `/v1/completions`, whole or as server-sent events.

use std::{
    convert::Infallible,
    time::{Instant, SystemTime},
};

use axum::{
    Json,
    extract::{Request, State},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::stream;
use inference::{GenerateRequest, Generated, InferError, Sampling, StreamItem, TokenStream, Usage};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use super::{
    HttpError, HttpState, body, openai,
    request::{self, Call},
};
use crate::serving::{Loaded, Ticket};

#[derive(Deserialize)]
struct CompletionBody<'a> {
    model: String,
    #[serde(borrow)]
    prompt: &'a RawValue,
    #[serde(default = "default_max_tokens")]
    max_tokens: usize,
    /// Default 0, so that the same question has the same answer; OpenAI's default is 1.
    #[serde(default)]
    temperature: f32,
    #[serde(default = "default_top_p")]
    top_p: f32,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    stream: bool,
    // What cannot be done is refused, never silently left out.
    n: Option<u32>,
    best_of: Option<u32>,
    echo: Option<bool>,
    stop: Option<IgnoredAny>,
    logprobs: Option<IgnoredAny>,
}

/// As OpenAI's.
fn default_max_tokens() -> usize {
    16
}
fn default_top_p() -> f32 {
    1.0
}

impl CompletionBody<'_> {
    fn request(&self, loaded: &Loaded) -> Result<GenerateRequest, HttpError> {
        let unsupported = [
            ("n", self.n.is_some_and(|n| n != 1), "only 1 answer is given"),
            (
                "best_of",
                self.best_of.is_some_and(|n| n != 1),
                "only 1 answer is given",
            ),
            ("echo", self.echo == Some(true), "the prompt is not repeated"),
            ("stop", self.stop.is_some(), "stop texts are not supported"),
            ("logprobs", self.logprobs.is_some(), "probabilities are not given"),
        ];
        if let Some((name, _, why)) = unsupported.iter().find(|(_, found, _)| *found) {
            return Err(HttpError::invalid(format!("{name}: {why}; leave it out")));
        }
        let mut prompts = openai::texts(loaded, "prompt", self.prompt)?.0;
        let prompt = match prompts.len() {
            1 => prompts.remove(0),
            count => {
                return Err(HttpError::invalid(format!(
                    "prompt: {count} prompts in one request; send one"
                )));
            }
        };
        Ok(GenerateRequest {
            prompt,
            sampling: Sampling {
                max_tokens: self.max_tokens,
                temperature: self.temperature,
                top_p: self.top_p,
                seed: self.seed,
            },
        })
    }
}

pub(super) async fn completions(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, HttpError> {
    let parse = |state: &HttpState, bytes: &[u8]| {
        let body: CompletionBody<'_> = body::read(bytes)?;
        let (model, version) = request::split(&body.model)?;
        let loaded = request::take(state, model, version)?;
        let asked = body.request(&loaded);
        Ok((loaded, asked, body.stream))
    };
    let (call, (loaded, asked, streamed)) = request::open(&state, request, parse).await?;
    let started = asked.and_then(|asked| Ok(loaded.generate(asked, call.deadline)?));
    let head = Head::new(&loaded);
    match started {
        Ok(tokens) if streamed => Ok(events(state, loaded, call, head, tokens).into_response()),
        Ok(tokens) => {
            let result = within(call.deadline, tokens.collect())
                .await
                .map_err(HttpError::from);
            call.end(&state, &loaded.key.model, &result);
            result.map(|done| Json(head.whole(&done)).into_response())
        }
        Err(error) => {
            let result: Result<Response, _> = Err(error);
            call.end(&state, &loaded.key.model, &result);
            result
        }
    }
}

async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, InferError>>,
) -> Result<T, InferError> {
    let begun = Instant::now();
    let left = deadline.saturating_duration_since(begun);
    tokio::time::timeout(left, work).await.unwrap_or_else(|_| {
        Err(InferError::Deadline {
            waited: begun.elapsed(),
            generated: 0,
        })
    })
}

/// What every part of an answer says.
#[derive(Clone)]
struct Head {
    id: String,
    created: u64,
    model: String,
    version: String,
}

impl Head {
    fn new(loaded: &Loaded) -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            id: format!("cmpl-{}", Uuid::now_v7().simple()),
            created: now.as_secs(),
            model: loaded.key.model.to_string(),
            version: loaded.key.version.to_string(),
        }
    }

    fn part(&self, text: &str, finish: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "model_version": self.version,
            "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}],
        })
    }

    fn whole(&self, done: &Generated) -> Value {
        let mut part = self.part(&done.text, json!(done.finish));
        part["usage"] = usage(done.usage);
        part
    }

    fn last(&self, done: &Generated) -> Value {
        let mut part = self.part("", json!(done.finish));
        part["usage"] = usage(done.usage);
        part
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    })
}

/// Where a stream of events is.
enum Phase {
    Tokens(TokenStream),
    Done,
    End,
}

struct Streamed {
    state: HttpState,
    loaded: Ticket,
    call: Call,
    head: Head,
    phase: Phase,
}

fn events(
    state: HttpState,
    loaded: Ticket,
    call: Call,
    head: Head,
    tokens: TokenStream,
) -> Sse<impl futures::Stream<Item = Result<Event, Infallible>>> {
    let streamed = Streamed {
        state,
        loaded,
        call,
        head,
        phase: Phase::Tokens(tokens),
    };
    let events = stream::unfold(streamed, |mut streamed| async move {
        let event = streamed.next().await?;
        Some((Ok(event), streamed))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

impl Streamed {
    async fn next(&mut self) -> Option<Event> {
        match std::mem::replace(&mut self.phase, Phase::End) {
            Phase::Tokens(mut tokens) => {
                let left = self.call.deadline.saturating_duration_since(Instant::now());
                let item = tokio::time::timeout(left, tokens.next()).await;
                let waited = self.call.received.elapsed();
                let item = item.unwrap_or(Some(Err(InferError::Deadline { waited, generated: 0 })))?;
                Some(self.event(item, tokens))
            }
            Phase::Done => Some(Event::default().data("[DONE]")),
            Phase::End => None,
        }
    }

    fn event(&mut self, item: Result<StreamItem, InferError>, tokens: TokenStream) -> Event {
        let body = match item {
            Ok(StreamItem::Token(token)) => {
                self.phase = Phase::Tokens(tokens);
                self.head.part(&token.text, Value::Null)
            }
            Ok(StreamItem::Done(done)) => {
                self.phase = Phase::Done;
                self.call.end(&self.state, &self.loaded.key.model, &Ok(()));
                self.head.last(&done)
            }
            // A stream that broke says why and ends without [DONE].
            Err(error) => {
                let error = HttpError::from(error);
                let body = error.body();
                self.call
                    .end::<()>(&self.state, &self.loaded.key.model, &Err(error));
                body
            }
        };
        Event::default().data(body.to_string())
    }
}
