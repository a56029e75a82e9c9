//! The S3 protocol by hand, as far as the demo needs it: GET, conditional PUT, and a PUT that stops half-way.
//!
//! By hand because the demo is a witness: what it says about stores must not rest on the code that it tests, and no
//! SDK sends half a body. Signature Version 4 with a signed body; plain HTTP; one attempt a call.
//! Absent on purpose: retries, listing, encoding of keys (ours need none).

use std::{path::Path, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use time::OffsetDateTime;
use types::Digest;

use crate::error::Failure;

/// Signed into every request; dev-s3 serves any region.
const SCOPE_REGION: &str = "us-east-1";

/// A key pair of a store.
#[derive(Clone)]
pub(super) struct Keys {
    access: String,
    secret: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the two files of a context.
    pub(super) fn load(access: &Path, secret: &Path) -> Result<Self, Failure> {
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))?;
            Ok::<_, Failure>(text.trim().to_owned())
        };
        Ok(Self {
            access: read(access)?,
            secret: read(secret)?,
        })
    }
}

/// One bucket of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    endpoint: String,
    name: String,
    keys: Keys,
    http: reqwest::Client,
}

/// An object as it was read.
#[derive(Debug)]
pub(super) struct Object {
    /// Without quotes.
    pub(super) etag: String,
    pub(super) bytes: bytes::Bytes,
}

/// What a store answered to a PUT.
#[derive(Debug)]
pub(super) struct PutAnswer {
    pub(super) status: u16,
    /// Of the object that the write left behind, without quotes.
    pub(super) etag: Option<String>,
}

/// A call without an answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    /// Not a byte of the request was sent.
    pub(super) never_sent: bool,
    pub(super) why: String,
}

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        Self {
            never_sent: error.is_connect(),
            why: chain(&error),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|s| format!(": {}", chain(s)));
    format!("{error}{}", cause.unwrap_or_default())
}

impl Bucket {
    /// A bucket of an `http://` endpoint; every call ends within `deadline`.
    pub(super) fn new(endpoint: &str, name: &str, keys: Keys, deadline: Duration) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .timeout(deadline)
            .connect_timeout(deadline / 2)
            .tcp_nodelay(true)
            .build()
            .map_err(|e| Failure::other(format!("could not make an HTTP client: {e}")))?;
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            name: name.to_owned(),
            keys,
            http,
        })
    }

    fn path(&self, key: &str) -> String {
        format!("/{}/{key}", self.name)
    }

    /// `host:port`, as the `Host` header says it.
    pub(super) fn host(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// The object; `None` is the store's word that there is none.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Object>, NoAnswer> {
        let path = self.path(key);
        let mut request = self.http.get(format!("{}{path}", self.endpoint));
        for (name, value) in self.signed("GET", &path, None, b"") {
            request = request.header(name, value);
        }
        let response = request.send().await?;
        match response.status().as_u16() {
            200 => Ok(Some(Object {
                etag: etag(&response).unwrap_or_default(),
                bytes: response.bytes().await?,
            })),
            404 => Ok(None),
            other => Err(NoAnswer {
                never_sent: false,
                why: format!("GET {key} was answered {other}"),
            }),
        }
    }

    /// Replaces the object if its ETag is `if_match`.
    pub(super) async fn put(&self, key: &str, if_match: &str, body: Vec<u8>) -> Result<PutAnswer, NoAnswer> {
        let path = self.path(key);
        let mut request = self.http.put(format!("{}{path}", self.endpoint));
        for (name, value) in self.signed("PUT", &path, Some(if_match), &body) {
            request = request.header(name, value);
        }
        let response = request.body(body).send().await?;
        let answer = PutAnswer {
            status: response.status().as_u16(),
            etag: etag(&response),
        };
        // Read to its end, so that the connection can be used again.
        response.bytes().await?;
        Ok(answer)
    }

    /// The head of a conditional PUT as it goes over the wire, for a caller that sends the body piece by piece.
    pub(super) fn put_head(&self, key: &str, if_match: &str, body: &[u8]) -> String {
        let path = self.path(key);
        let mut head = format!("PUT {path} HTTP/1.1\r\nhost: {}\r\n", self.host());
        for (name, value) in self.signed("PUT", &path, Some(if_match), body) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!(
            "content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        ));
        head
    }

    /// The headers of a signed request, without `host`, which the transport adds.
    fn signed(
        &self,
        method: &str,
        path: &str,
        if_match: Option<&str>,
        body: &[u8],
    ) -> Vec<(&'static str, String)> {
        let moment = amz_date(OffsetDateTime::now_utc());
        let mut headers = vec![("x-amz-content-sha256", Digest::of(body).hex())];
        if let Some(etag) = if_match {
            headers.push(("if-match", format!("\"{etag}\"")));
        }
        headers.push(("x-amz-date", moment.clone()));
        let authorization = authorize(&self.keys, method, path, self.host(), &headers, &moment);
        headers.push(("authorization", authorization));
        headers
    }
}

/// `20130524T000000Z`
fn amz_date(now: OffsetDateTime) -> String {
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second) = now.to_hms();
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

fn etag(response: &reqwest::Response) -> Option<String> {
    let value = response.headers().get("etag")?.to_str().ok()?;
    Some(value.trim_matches('"').to_owned())
}

/// The `authorization` header (AWS Signature Version 4, header form). `headers` hold the body's hash first.
fn authorize(
    keys: &Keys,
    method: &str,
    path: &str,
    host: &str,
    headers: &[(&str, String)],
    moment: &str,
) -> String {
    let mut signed: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    signed.push(("host", host));
    signed.sort_unstable();
    let lines: String = signed.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
    let names = signed.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(";");
    let payload = headers.first().map_or("", |(_, hash)| hash.as_str());
    let request = format!("{method}\n{path}\n\n{lines}\n{names}\n{payload}");
    let day = moment.get(..8).unwrap_or_default();
    let scope = format!("{day}/{SCOPE_REGION}/s3/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}",
        Digest::of(request.as_bytes()).hex()
    );
    let parts = [day, SCOPE_REGION, "s3", "aws4_request", &text];
    let seed = format!("AWS4{}", keys.secret).into_bytes();
    let signature = parts
        .iter()
        .fold(seed, |key, part| hmac(&key, part.as_bytes()).to_vec());
    let signature: String = signature.iter().map(|b| format!("{b:02x}")).collect();
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.access
    )
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::{Keys, authorize};

    /// The worked example "GET Object" of AWS's documentation ("Signature Calculations for the Authorization Header:
    /// Transferring Payload in a Single Chunk").
    #[test]
    fn the_signature_is_that_of_the_documented_example() {
        let keys = Keys {
            access: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        };
        let headers = [
            (
                "x-amz-content-sha256",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned(),
            ),
            ("range", "bytes=0-9".to_owned()),
            ("x-amz-date", "20130524T000000Z".to_owned()),
        ];
        let found = authorize(
            &keys,
            "GET",
            "/test.txt",
            "examplebucket.s3.amazonaws.com",
            &headers,
            "20130524T000000Z",
        );
        let expected = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                        SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
                        Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(found, expected);
    }
}
