//! The loop around the rule: read, decide, PUT, and read again where the answer leaves doubt.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::timeout;
use types::{Epoch, FencingToken, RoleName};
use uuid::Uuid;

use super::{
    BadBody, Decision, Pointed, PointerBody, PointerChange, PointerError, body::BODY_BYTES_MAX, decide,
};
use crate::{ArtifactStore, Body, Condition, ETag, ErrorKind, ObjectKey, PutError, StoreError, keys};

/// Writes tried before giving up. Each lost one means that another writer won, so this many is a storm.
const ATTEMPTS_MAX: u32 = 16;

/// Wait after an attempt that ended in doubt or conflict, times the number of the attempt.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// A write that the store accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What stands there now.
    pub body: PointerBody,
    /// Its state.
    pub etag: ETag,
}

/// A claim that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The epoch that was there before; none when the pointer was made by the claim. Equal to the own one when the
    /// door had been claimed already.
    pub previous: Option<Epoch>,
    /// What stands there now.
    pub body: PointerBody,
    /// Its state.
    pub etag: ETag,
}

/// What the pointer of `role` says; `None` is the store's word that there is none.
pub async fn read_pointer(
    store: &dyn ArtifactStore,
    role: &RoleName,
) -> Result<Option<Pointed>, PointerError> {
    let key = keys::pointer(role);
    let Some(Body { head, mut bytes }) = store.get(&key).await? else {
        return Ok(None);
    };
    let bad = |source| PointerError::BadBody {
        store: store.name().to_owned(),
        key: key.to_string(),
        source,
    };
    if head.size.0 > BODY_BYTES_MAX {
        return Err(bad(BadBody::TooLarge { bytes: head.size.0 }));
    }
    let mut text = Vec::new();
    while let Some(chunk) = bytes.next().await {
        let cut = |error| StoreError::new(store.name(), "get", &key, ErrorKind::Unavailable).because(error);
        text.extend_from_slice(&chunk.map_err(cut)?);
    }
    let body = PointerBody::from_bytes(&text).map_err(bad)?;
    if body.role != *role {
        return Err(bad(BadBody::WrongRole {
            found: body.role,
            expected: role.clone(),
        }));
    }
    Ok(Some(Pointed {
        body,
        etag: head.etag,
    }))
}

/// Changes the pointer of the token's role, if the token may. Run it within the rest of the lease (L5): dropping it
/// leaves at most one PUT under way, which the epoch guards.
pub async fn write_pointer(
    store: &dyn ArtifactStore,
    token: &FencingToken,
    change: &PointerChange,
) -> Result<Written, PointerError> {
    let read = read_pointer(store, &token.role).await?;
    write_over(store, token, change, read, &mut Tally::default()).await
}

/// Raises the pointer to the token's epoch and keeps its target (L15). Claiming twice writes once. Ends within `limit`,
/// and says whether the store was silent or other writers were faster: a door that answers is no unreachable one.
pub async fn claim_pointer(
    store: &dyn ArtifactStore,
    token: &FencingToken,
    limit: Duration,
) -> Result<Claim, PointerError> {
    let mut tally = Tally::default();
    let claimed = timeout(limit, claim(store, token, &mut tally)).await;
    if let Ok(claimed) = claimed {
        return claimed;
    }
    let (store, key) = (store.name().to_owned(), keys::pointer(&token.role).to_string());
    Err(if tally.reads == 0 {
        PointerError::Silent { store, key, limit }
    } else {
        tally.contended(store, key)
    })
}

async fn claim(
    store: &dyn ArtifactStore,
    token: &FencingToken,
    tally: &mut Tally,
) -> Result<Claim, PointerError> {
    let read = read_pointer(store, &token.role).await?;
    tally.reads += 1;
    let previous = read.as_ref().map(|pointed| pointed.body.epoch);
    let Written { body, etag } = write_over(store, token, &PointerChange::Keep, read, tally).await?;
    Ok(Claim { previous, body, etag })
}

/// What became of the calls of one write or claim.
#[derive(Debug, Default)]
struct Tally {
    reads: u32,
    attempts: u32,
    /// Attempts that another writer was faster than.
    lost: u32,
}

impl Tally {
    fn contended(&self, store: String, key: String) -> PointerError {
        let (attempts, lost) = (self.attempts, self.lost);
        PointerError::Contended {
            store,
            key,
            attempts,
            lost,
        }
    }
}

async fn write_over(
    store: &dyn ArtifactStore,
    token: &FencingToken,
    change: &PointerChange,
    mut read: Option<Pointed>,
    tally: &mut Tally,
) -> Result<Written, PointerError> {
    let key = keys::pointer(&token.role);
    for attempt in 1..=ATTEMPTS_MAX {
        // Claimed, by an earlier try or by somebody who raised it for us: another write would only disturb the holder's.
        if let Some(Pointed { body, etag }) = read.as_ref().filter(|p| p.body.token() == *token)
            && *change == PointerChange::Keep
        {
            let (body, etag) = (body.clone(), etag.clone());
            return Ok(Written { body, etag });
        }
        let nonce = Uuid::now_v7().to_string();
        let (body, condition) = match decide(read.as_ref(), token, change, &nonce) {
            Decision::Refuse(refusal) => return Err(refusal.into()),
            Decision::Write(body, condition) => (body, condition),
        };
        tally.attempts += 1;
        match put(store, &key, body, condition).await {
            Ok(written) => return Ok(written),
            // Nothing between the read and the next write: whoever is far away wins by being quick only.
            Err(Lost::Race) => {
                tally.lost += 1;
                read = read_pointer(store, &token.role).await?;
            }
            Err(Lost::Conflict) => {
                tally.lost += 1;
                tokio::time::sleep(RETRY_DELAY * attempt).await;
                read = read_pointer(store, &token.role).await?;
            }
            Err(Lost::Failed(error)) => return Err(PointerError::Store(error)),
            Err(Lost::Doubt(error)) => {
                tokio::time::sleep(RETRY_DELAY * attempt).await;
                // If this read fails too, nobody knows; the caller must not conclude anything.
                let now = read_pointer(store, &token.role)
                    .await
                    .map_err(|_| PointerError::Unknown(error))?;
                match now {
                    Some(Pointed { body, etag }) if body.nonce == nonce => return Ok(Written { body, etag }),
                    // Not there: not yet, or never, or another writer was faster. The next attempt is conditional
                    // on what was just read, so the late one and the next cannot both take effect unseen.
                    other => read = other,
                }
            }
        }
    }
    Err(tally.contended(store.name().to_owned(), key.to_string()))
}

/// How a PUT did not succeed.
enum Lost {
    Race,
    Conflict,
    Doubt(StoreError),
    Failed(StoreError),
}

async fn put(
    store: &dyn ArtifactStore,
    key: &ObjectKey,
    body: PointerBody,
    condition: Condition,
) -> Result<Written, Lost> {
    match store.put_if(key, body.to_bytes().into(), condition).await {
        Ok(etag) => Ok(Written { body, etag }),
        Err(PutError::PreconditionFailed { .. }) => Err(Lost::Race),
        Err(PutError::Conflict { .. }) => Err(Lost::Conflict),
        Err(PutError::Unknown(error)) => Err(Lost::Doubt(error)),
        Err(PutError::Failed(error)) => Err(Lost::Failed(error)),
    }
}
