//! Questions over a region's inference HTTP, and whether the answers are right.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::samples::{DIGITS, EMBEDDER, Fixtures, TINYLM};
use crate::error::Failure;

/// Cosine above which an embedding is the reference's.
const COSINE_MIN: f64 = 0.9999;
/// Tokens that a question of the load asks for.
const LOAD_TOKENS: usize = 8;

/// A client that sends nothing twice, whatever happens to a connection: a request that was sent again would hide a failure.
///
/// Every request has a connection of its own. On a kept one that its server has closed meanwhile, the layer below sends a
/// request again, and no setting here reaches it.
pub(super) fn client() -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder()
        .tcp_nodelay(true)
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|e| Failure::other(format!("could not make an HTTP client: {e}")))
}

/// The inference endpoint of one region.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    http: reqwest::Client,
    base: String,
}

impl Endpoint {
    /// An endpoint `http://host:port`.
    pub(super) fn new(http: &reqwest::Client, base: &str) -> Self {
        Self {
            http: http.clone(),
            base: base.to_owned(),
        }
    }

    /// Whether the agent says that everything that it should serve is loaded.
    pub(super) async fn is_ready(&self) -> bool {
        let get = self.http.get(format!("{}/v2/health/ready", self.base));
        let answer = get.timeout(Duration::from_millis(500)).send().await;
        answer.is_ok_and(|r| r.status().is_success())
    }

    /// A document about `path`.
    pub(super) async fn get(&self, path: &str) -> Result<Value, String> {
        let get = self.http.get(format!("{}{path}", self.base));
        read(get.timeout(Duration::from_secs(5)).send().await).await
    }

    /// Posts once.
    pub(super) async fn post(&self, path: &str, body: &Value, limit: Duration) -> Result<Value, String> {
        let post = self.http.post(format!("{}{path}", self.base));
        read(post.json(body).timeout(limit).send().await).await
    }
}

async fn read(answer: Result<reqwest::Response, reqwest::Error>) -> Result<Value, String> {
    let answer = answer.map_err(|e| why(&e))?;
    let status = answer.status();
    let bytes = answer.bytes().await.map_err(|e| why(&e))?;
    if !status.is_success() {
        return Err(format!(
            "HTTP {}: {}",
            status.as_u16(),
            String::from_utf8_lossy(&bytes)
        ));
    }
    serde_json::from_slice(&bytes).map_err(|e| format!("the answer is no JSON: {e}"))
}

fn why(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", why(cause)),
        None => error.to_string(),
    }
}

/// A question with one right answer.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Which digit the image shows.
    Digit(Arc<Fixtures>, usize),
    /// The embedding of a text.
    Embedding(Arc<Fixtures>, usize),
    /// The first greedy tokens after a prompt.
    Tokens(Arc<Fixtures>, usize),
}

impl Question {
    /// Questions about every model, mixed; every one has a reference answer.
    pub(super) fn all(fixtures: &Arc<Fixtures>) -> Vec<Self> {
        let count = fixtures.digits.probabilities.len();
        let nth = |n: usize| {
            [
                Self::Digit(fixtures.clone(), n),
                Self::Embedding(fixtures.clone(), n % fixtures.embedder.inputs.len()),
                Self::Tokens(fixtures.clone(), n % fixtures.tinylm.cases.len()),
            ]
        };
        (0..count).flat_map(nth).collect()
    }

    /// Asks once; an error is no answer in time, or a wrong one.
    pub(super) async fn ask(&self, endpoint: &Endpoint, limit: Duration) -> Result<(), String> {
        match self {
            Self::Digit(fixtures, n) => {
                let image = &fixtures.digits.inputs[*n..=*n];
                let classes = classes(endpoint, image, limit).await?;
                let expected = likeliest(&fixtures.digits.probabilities[*n]);
                right(classes.first().copied() == expected, || {
                    format!("digit {classes:?} instead of {expected:?}")
                })
            }
            Self::Embedding(fixtures, n) => {
                let found = embedding(endpoint, &fixtures.embedder.inputs[*n], limit).await?;
                let cosine = cosine(&found, &fixtures.embedder.embeddings[*n]);
                right(cosine > COSINE_MIN, || {
                    format!("cosine {cosine} to the reference")
                })
            }
            Self::Tokens(fixtures, n) => {
                let case = &fixtures.tinylm.cases[*n];
                let found = tokens(endpoint, &case.prompt, LOAD_TOKENS, limit).await?;
                right(found == case.ids[..LOAD_TOKENS], || format!("tokens {found:?}"))
            }
        }
    }
}

fn right(is: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is {
        Ok(())
    } else {
        Err(format!("wrong answer: {}", otherwise()))
    }
}

fn likeliest(probabilities: &[f64]) -> Option<i64> {
    let best = probabilities
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))?;
    i64::try_from(best.0).ok()
}

/// The classes of images, over the Open Inference Protocol.
pub(super) async fn classes(
    endpoint: &Endpoint,
    images: &[Vec<f32>],
    limit: Duration,
) -> Result<Vec<i64>, String> {
    let pixels = images.first().map_or(0, Vec::len);
    let body = json!({
        "inputs": [{ "name": "image", "shape": [images.len(), pixels], "datatype": "FP32", "data": images.concat() }],
        "outputs": [{ "name": "class" }],
    });
    let path = format!("/v2/models/{}/infer", DIGITS.name);
    let answer = endpoint.post(&path, &body, limit).await?;
    serde_json::from_value(output(&answer, "class")?.clone()).map_err(|e| e.to_string())
}

/// The embedding of a text, over the OpenAI-compatible route.
pub(super) async fn embedding(endpoint: &Endpoint, text: &str, limit: Duration) -> Result<Vec<f64>, String> {
    let body = json!({ "model": EMBEDDER.name, "input": text });
    let answer = endpoint.post("/v1/embeddings", &body, limit).await?;
    let found = answer.pointer("/data/0/embedding").cloned().unwrap_or_default();
    serde_json::from_value(found).map_err(|e| format!("no embedding: {e}"))
}

/// The first greedy tokens after a prompt, over the Open Inference Protocol.
pub(super) async fn tokens(
    endpoint: &Endpoint,
    prompt: &str,
    count: usize,
    limit: Duration,
) -> Result<Vec<u32>, String> {
    let body = json!({
        "inputs": [{ "name": "prompt", "shape": [1], "datatype": "BYTES", "data": [prompt] }],
        "parameters": { "max_tokens": count, "temperature": 0.0 },
        "outputs": [{ "name": "tokens" }],
    });
    let path = format!("/v2/models/{}/infer", TINYLM.name);
    let answer = endpoint.post(&path, &body, limit).await?;
    serde_json::from_value(output(&answer, "tokens")?.clone()).map_err(|e| e.to_string())
}

fn output<'a>(answer: &'a Value, name: &str) -> Result<&'a Value, String> {
    let outputs = answer.get("outputs").and_then(Value::as_array);
    let found = outputs.and_then(|all| {
        all.iter()
            .find(|o| o.get("name").and_then(Value::as_str) == Some(name))
    });
    found
        .and_then(|o| o.get("data"))
        .ok_or_else(|| format!("the answer has no output {name:?}"))
}

/// Of two vectors; 0 where the lengths differ.
pub(super) fn cosine(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    const LIMIT: Duration = Duration::from_secs(30);

    /// Reads until a request was seen, which has no body; false if the client left instead.
    async fn heard(stream: &mut TcpStream) -> bool {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut text).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        true
    }

    #[tokio::test]
    async fn no_request_goes_over_a_connection_that_was_used_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Each connection would be kept for as long as the client wants to.
        let server = async {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(heard(&mut stream).await);
                stream.write_all(ANSWER).await.unwrap();
                assert!(!heard(&mut stream).await, "a second request on one connection");
            }
        };
        let endpoint = Endpoint::new(&client().unwrap(), &url);
        let questions = async {
            for _ in 0..2 {
                endpoint.get("/").await.unwrap();
            }
        };
        tokio::time::timeout(LIMIT, async { tokio::join!(server, questions) })
            .await
            .expect("two connections");
    }
}
