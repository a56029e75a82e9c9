//! A small S3 client: Signature Version 4 by hand, one connection per request.

use std::{collections::BTreeMap, net::SocketAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The ETag, without quotes.
    pub(crate) fn etag(&self) -> &str {
        self.headers["etag"].trim_matches('"')
    }
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// What stands between the first `<tag>` and its end.
    pub(crate) fn xml(&self, tag: &str) -> String {
        let text = self.text();
        let rest = text
            .split_once(&format!("<{tag}>"))
            .unwrap_or_else(|| panic!("no {tag} in {text}"))
            .1;
        rest.split_once('<').unwrap().0.to_owned()
    }
}

/// A request whose body is sent by the test.
pub(crate) struct Sending {
    stream: TcpStream,
}

impl Sending {
    pub(crate) async fn send(&mut self, body: &[u8]) {
        self.stream.write_all(body).await.unwrap();
    }

    pub(crate) async fn answer(mut self) -> Answer {
        let mut raw = Vec::new();
        self.stream.read_to_end(&mut raw).await.unwrap();
        parse(&raw)
    }
}

/// Sends the headers of a request that announces `length` bytes.
pub(crate) async fn open(
    address: SocketAddr,
    method: &str,
    path_and_query: &str,
    headers: &[(&str, &str)],
    length: usize,
) -> Sending {
    let head = head(
        address,
        method,
        path_and_query,
        headers,
        length,
        OffsetDateTime::now_utc(),
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    Sending { stream }
}

/// A whole request.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path_and_query: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut sending = open(address, method, path_and_query, headers, body.len()).await;
    sending.send(body).await;
    sending.answer().await
}

/// A whole request to a server that may be killed meanwhile: `None` when no whole answer came.
pub(crate) async fn try_request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let head = head(
        address,
        method,
        path,
        headers,
        body.len(),
        OffsetDateTime::now_utc(),
    );
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(&[head.as_bytes(), body].concat()).await.ok()?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.ok()?;
    raw.windows(4)
        .any(|window| window == b"\r\n\r\n")
        .then(|| parse(&raw))
}

fn head(
    address: SocketAddr,
    method: &str,
    path_and_query: &str,
    headers: &[(&str, &str)],
    length: usize,
    now: OffsetDateTime,
) -> String {
    let date = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
    let stamp = format!("{date}T{:02}{:02}{:02}Z", now.hour(), now.minute(), now.second());
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let mut all: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), (*value).to_owned()))
        .collect();
    all.insert("host".into(), address.to_string());
    all.insert("x-amz-date".into(), stamp.clone());
    all.insert("x-amz-content-sha256".into(), "UNSIGNED-PAYLOAD".into());
    let canonical: String = all
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let signed: Vec<&str> = all.keys().map(String::as_str).collect();
    let signed = signed.join(";");
    let request = format!(
        "{method}\n{path}\n{}\n{canonical}\n{signed}\nUNSIGNED-PAYLOAD",
        canonical_query(query)
    );
    let scope = format!("{date}/us-east-1/s3/aws4_request");
    let digest = hex::encode(Sha256::digest(request.as_bytes()));
    let signature = sign(&date, &format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"));
    let lines: String = all
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "{method} {path_and_query} HTTP/1.1\r\n{lines}content-length: {length}\r\nconnection: close\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=access/{scope}, SignedHeaders={signed}, Signature={signature}\r\n\r\n"
    )
}

/// Names without a value get an empty one; the tests write them in order.
fn canonical_query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs: Vec<String> = pairs
        .map(|p| {
            if p.contains('=') {
                p.to_owned()
            } else {
                format!("{p}=")
            }
        })
        .collect();
    pairs.join("&")
}

fn sign(date: &str, text: &str) -> String {
    let mac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let mut key = b"AWS4secret".to_vec();
    for part in [date, "us-east-1", "s3", "aws4_request"] {
        key = mac(&key, part);
    }
    hex::encode(mac(&key, text))
}

fn parse(raw: &[u8]) -> Answer {
    let end = raw
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("an answer has headers");
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let body = raw[end + 4..].to_vec();
    let chunked = headers
        .get("transfer-encoding")
        .is_some_and(|value| value == "chunked");
    Answer {
        status,
        headers,
        body: if chunked { dechunk(&body) } else { body },
    }
}

fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = raw.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = &raw[end + 2 + size + 2..];
    }
}
