//! A writer that is caught in the middle: it sends half of a PUT under its holder's token, says so, and waits to be
//! told to go on. Paused with its holder meanwhile, it is a write in flight that outlives the lease.
//!
//! It speaks in lines on stdout, and goes on with the first line on stdin.

use std::time::Duration;

use client::AgentClient;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use types::{Epoch, FencingToken, Reason, RegionId};
use uuid::Uuid;

use super::{
    DEADLINE,
    config::ZombieConfig,
    pointer::{PointerStore, next_body},
};
use crate::{
    demo::{doors::pointer_door, micros::Micros, wait::until},
    error::Failure,
    output,
};

/// How long it waits for the answer; the pause may lie in it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for a token of its agent: less than its parent waits for it.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5);
/// How often it asks for one.
const LOOK: Duration = Duration::from_millis(20);

/// What it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// Half of the body is sent.
    Half {
        /// When.
        at: Micros,
        /// The door.
        door: String,
        /// The nonce of the body.
        id: String,
        /// The epoch of the body.
        shown: Epoch,
        /// The ETag that must match.
        if_match: String,
    },
    /// The answer came.
    Answered {
        /// When.
        at: Micros,
        /// Its HTTP status.
        status: u16,
    },
}

/// Runs it against the pointer in the own region's store.
pub(super) async fn run(config: &ZombieConfig) -> Result<(), Failure> {
    let region = &config.region;
    let address = config.stores.get(region);
    let address = address.ok_or_else(|| Failure::usage(format!("`stores` lacks {region}")))?;
    let store = PointerStore::new(address, config)?;
    let token = own_token(config).await?;
    let (mut stream, half, rest) = begin(&store, region, &token).await?;
    say(&half)?;
    wait_for_a_line().await?;
    let status = timeout(PATIENCE, finish(&mut stream, &rest))
        .await
        .map_err(|_| Failure::other("the store did not answer"))?
        .map_err(|e| Failure::other(format!("could not finish the PUT: {e}")))?;
    say(&Said::Answered {
        at: Micros::now(),
        status,
    })
}

/// On a busy machine the agent's lease may have lapsed for a moment; it then renews the same epoch.
async fn own_token(config: &ZombieConfig) -> Result<FencingToken, Failure> {
    let region = &config.region;
    let endpoint = config.agents.get(region);
    let endpoint = endpoint.ok_or_else(|| Failure::usage(format!("`agents` lacks {region}")))?;
    let agent = AgentClient::new(endpoint, &config.tls, DEADLINE)?;
    until(
        "a token of the own agent",
        TOKEN_PATIENCE,
        LOOK,
        async || match agent.token(&config.role).await {
            Ok((token, _)) => Ok(Some(token)),
            Err(refusal) if refusal.reason == Reason::LeaseLost || refusal.reason.retryable() => Ok(None),
            Err(refusal) => Err(refusal.into()),
        },
    )
    .await
}

async fn begin(
    store: &PointerStore,
    region: &RegionId,
    token: &FencingToken,
) -> Result<(TcpStream, Said, Vec<u8>), Failure> {
    let found = store.read().await;
    let found = found.ok_or_else(|| Failure::other(format!("no pointer in the store of {region}")))?;
    let nonce = Uuid::now_v7().to_string();
    let body = next_body(&found.body, token, &nonce).to_bytes();
    let head = store.bucket.put_head(&store.key, &found.etag, &body);
    let (first, rest) = body.split_at(body.len() / 2);
    let send = async {
        let mut stream = TcpStream::connect(store.bucket.host()).await?;
        stream.set_nodelay(true)?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(first).await?;
        stream.flush().await?;
        Ok::<_, std::io::Error>(stream)
    };
    let stream = timeout(DEADLINE, send)
        .await
        .map_err(|_| Failure::other("the store does not take the PUT"))?
        .map_err(|e| Failure::other(format!("could not send the PUT: {e}")))?;
    let said = Said::Half {
        at: Micros::now(),
        door: pointer_door(region),
        id: nonce,
        shown: token.epoch,
        if_match: found.etag,
    };
    Ok((stream, said, rest.to_vec()))
}

/// A thread of its own reads: it ends with the line, or with the pipe when the parent is gone.
async fn wait_for_a_line() -> Result<(), Failure> {
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
    match read.map_err(|e| Failure::other(format!("could not wait: {e}")))? {
        Ok(0) => Err(Failure::other("stdin ended before the word to go on")),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::other(format!("could not read stdin: {error}"))),
    }
}

async fn finish(stream: &mut TcpStream, rest: &[u8]) -> std::io::Result<u16> {
    stream.write_all(rest).await?;
    stream.flush().await?;
    // The head is all that counts; the connection is closed after the answer.
    let mut head = [0u8; 64];
    let read = stream.read(&mut head).await?;
    let text = String::from_utf8_lossy(&head[..read]);
    let status = text.split_whitespace().nth(1).and_then(|s| s.parse().ok());
    status.ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {text:?}")))
}

fn say(said: &Said) -> Result<(), Failure> {
    output::line(&serde_json::to_string(said).map_err(Failure::other)?)
}
