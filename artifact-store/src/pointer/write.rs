//! The loop around the rule: read, decide, PUT, and read again where the answer leaves doubt.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use types::{Epoch, FencingToken, Lineage, RoleName};
use uuid::Uuid;

use super::{
    BadBody, Decision, Pointed, PointerBody, PointerChange, PointerError, body::BODY_BYTES_MAX, decide,
};
use crate::{ArtifactStore, Body, Condition, ETag, ErrorKind, ObjectKey, PutError, StoreError, keys};

/// Writes tried before giving up. Each lost one means that another writer won, so this many is a storm.
const ATTEMPTS_MAX: u32 = 16;

/// Wait after an attempt that ended in doubt or conflict, times the number of the attempt.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// How many claims of one caller go on at once from the first lost race on, spread over the time that one round takes. A
/// round is lost if anybody writes between its read and its write: a writer whose writes are no further apart than that
/// beats a single claim for as long as the two are in step, and every one of several only if it is several times faster.
const CHAINS: u32 = 3;

/// When a claim looks again while its first write is under way, since that began. The agent beside the store raises the pointer for us
/// at about the moment at which that write arrives there, or a few lost races later; if somebody else's write came between, that
/// is seen then, and not after another round trip to the other side of the world.
const GLANCES: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(150),
];

/// How many calls a claim makes at once before it knows of a lost race: its write, the look beside it, and the glances. Whoever
/// wants it to be fast has as many connections ready.
pub const CLAIM_CALLS: usize = 2 + GLANCES.len();

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
    let mine = Claimant {
        token,
        lineage: &Lineage::first(token.cluster_id),
    };
    write_over(store, mine, change, read, &Tally::default()).await
}

/// Whose write it is, and what its cluster goes on from.
#[derive(Clone, Copy)]
struct Claimant<'a> {
    token: &'a FencingToken,
    lineage: &'a Lineage,
}

/// Raises the pointer to the token's epoch and keeps its target (L15). Claiming twice writes once. Ends within `limit`,
/// and says whether the store was silent or other writers were faster: a door that answers is no unreachable one. Dropping
/// it leaves a few PUTs under way at most, each of which an ETag and the epoch guard.
pub async fn claim_pointer(
    store: &dyn ArtifactStore,
    token: &FencingToken,
    limit: Duration,
) -> Result<Claim, PointerError> {
    claim_pointer_for(store, token, &Lineage::first(token.cluster_id), None, limit).await
}

/// As [`claim_pointer`], also over a pointer of a cluster that the token's goes on from (L19). `known`: what was read of it a
/// moment ago, by somebody who knew that this claim would be due: then it takes a single round trip, unless somebody wrote
/// meanwhile.
pub async fn claim_pointer_for(
    store: &dyn ArtifactStore,
    token: &FencingToken,
    lineage: &Lineage,
    known: Option<Pointed>,
    limit: Duration,
) -> Result<Claim, PointerError> {
    let mine = Claimant { token, lineage };
    let tally = Tally::default();
    let chains: FuturesUnordered<_> = (0..CHAINS)
        .map(|place| {
            let known = known.clone().filter(|_| place == 0);
            chain(store, mine, &tally, known, place)
        })
        .collect();
    let claiming = async {
        tokio::select! {
            biased;
            claimed = first_of(chains, &tally) => claimed,
            raised = raised(store, token, &tally) => Ok(raised),
        }
    };
    if let Ok(claimed) = timeout(limit, claiming).await {
        return claimed;
    }
    let (store, key) = (store.name().to_owned(), keys::pointer(&token.role).to_string());
    Err(if tally.reads.load(Ordering::Relaxed) == 0 {
        PointerError::Silent { store, key, limit }
    } else {
        tally.contended(store, key)
    })
}

/// The first claim that won, or met what the others would meet too. A store that failed one of them may answer the others.
async fn first_of(
    mut chains: FuturesUnordered<impl Future<Output = Result<Claim, PointerError>>>,
    tally: &Tally,
) -> Result<Claim, PointerError> {
    loop {
        let ended = chains.next().await;
        let others_go_on = !chains.is_empty() && tally.is_lost();
        match ended {
            Some(Err(PointerError::Store(_) | PointerError::Unknown(_))) if others_go_on => {}
            Some(ended) => return ended,
            None => std::future::pending().await,
        }
    }
}

/// Ends if a glance shows that somebody raised the pointer for us. What else it shows, the claims see by themselves.
async fn raised(store: &dyn ArtifactStore, token: &FencingToken, tally: &Tally) -> Claim {
    tally.first_attempt().await;
    let glance = |after| async move {
        sleep(after).await;
        let seen = read_pointer(store, &token.role).await.ok().flatten();
        seen.filter(|pointed| pointed.body.token() == *token)
    };
    let glances: FuturesUnordered<_> = GLANCES.into_iter().map(glance).collect();
    let mut seen = glances.filter_map(std::future::ready);
    match seen.next().await {
        Some(Pointed { body, etag }) => Claim {
            previous: Some(body.epoch),
            body,
            etag,
        },
        None => std::future::pending().await,
    }
}

/// One of the claims that go on at once: the first begins now, the others only where a race was lost.
async fn chain(
    store: &dyn ArtifactStore,
    mine: Claimant<'_>,
    tally: &Tally,
    known: Option<Pointed>,
    place: u32,
) -> Result<Claim, PointerError> {
    if place > 0 {
        let round = tally.first_loss().await;
        sleep(round * place / CHAINS).await;
    }
    claim(store, mine, tally, known).await
}

async fn claim(
    store: &dyn ArtifactStore,
    mine: Claimant<'_>,
    tally: &Tally,
    known: Option<Pointed>,
) -> Result<Claim, PointerError> {
    let read = match known {
        Some(known) => Some(known),
        None => {
            let read = read_pointer(store, &mine.token.role).await?;
            tally.reads.fetch_add(1, Ordering::Relaxed);
            read
        }
    };
    let previous = read.as_ref().map(|pointed| pointed.body.epoch);
    let Written { body, etag } = write_over(store, mine, &PointerChange::Keep, read, tally).await?;
    Ok(Claim { previous, body, etag })
}

/// What became of the calls of one write or claim.
#[derive(Debug)]
struct Tally {
    begun: Instant,
    reads: AtomicU32,
    attempts: watch::Sender<u32>,
    /// Attempts that another writer was faster than.
    lost: AtomicU32,
    /// When the first of them was lost, after the beginning.
    first_loss: watch::Sender<Option<Duration>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            reads: AtomicU32::default(),
            attempts: watch::Sender::default(),
            lost: AtomicU32::default(),
            first_loss: watch::Sender::default(),
        }
    }
}

impl Tally {
    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.first_loss.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| self.begun.elapsed());
            is_first
        });
    }

    fn is_lost(&self) -> bool {
        self.first_loss.borrow().is_some()
    }

    /// Waits until something is being written.
    async fn first_attempt(&self) {
        let mut attempts = self.attempts.subscribe();
        // The sender lives as long as `self`.
        let _ = attempts.wait_for(|attempts| *attempts > 0).await;
    }

    /// Waits for the first lost race; the time that it took is that of one round.
    async fn first_loss(&self) -> Duration {
        let mut first = self.first_loss.subscribe();
        let lost = first.wait_for(Option::is_some).await;
        // The sender lives as long as `self`.
        lost.ok().and_then(|first| *first).unwrap_or_default()
    }

    fn contended(&self, store: String, key: String) -> PointerError {
        PointerError::Contended {
            store,
            key,
            attempts: *self.attempts.borrow(),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}

async fn write_over(
    store: &dyn ArtifactStore,
    Claimant { token, lineage }: Claimant<'_>,
    change: &PointerChange,
    mut read: Option<Pointed>,
    tally: &Tally,
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
        let (body, condition) = match decide(read.as_ref(), token, lineage, change, &nonce) {
            Decision::Refuse(refusal) => return Err(refusal.into()),
            Decision::Write(body, condition) => (body, condition),
        };
        tally.attempts.send_modify(|attempts| *attempts += 1);
        let ahead = *change == PointerChange::Keep;
        match put_and_look(store, &token.role, body, condition, ahead).await {
            Ok(written) => return Ok(written),
            // Nothing between the read and the next write: whoever is far away wins by being quick only.
            Err((Lost::Race, looked)) => {
                tally.lose();
                read = match looked {
                    Some(looked) => looked?,
                    None => read_pointer(store, &token.role).await?,
                };
            }
            Err((Lost::Conflict, _)) => {
                tally.lose();
                sleep(RETRY_DELAY * attempt).await;
                read = read_pointer(store, &token.role).await?;
            }
            Err((Lost::Failed(error), _)) => return Err(PointerError::Store(error)),
            Err((Lost::Doubt(error), _)) => {
                sleep(RETRY_DELAY * attempt).await;
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

/// What a read said, if there was one.
type Looked = Option<Result<Option<Pointed>, PointerError>>;

/// Writes, and where it looks `ahead` reads at the same time: who beside the store was faster is known as soon as that the race is
/// lost, which is a round trip earlier. Mostly it was the store's own agent, which raised the pointer for us.
async fn put_and_look(
    store: &dyn ArtifactStore,
    role: &RoleName,
    body: PointerBody,
    condition: Condition,
    ahead: bool,
) -> Result<Written, (Lost, Looked)> {
    let key = keys::pointer(role);
    let putting = put(store, &key, body, condition);
    if !ahead {
        return putting.await.map_err(|lost| (lost, None));
    }
    let looking = read_pointer(store, role);
    tokio::pin!(putting, looking);
    let mut looked = None;
    let lost = loop {
        tokio::select! {
            biased;
            put = &mut putting => match put {
                Ok(written) => return Ok(written),
                Err(lost) => break lost,
            },
            read = &mut looking, if looked.is_none() => looked = Some(read),
        }
    };
    if matches!(lost, Lost::Race) && looked.is_none() {
        looked = Some(looking.await);
    }
    Err((lost, looked))
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
