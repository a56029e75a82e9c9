//! Whether a store's conditional writes can be trusted with a fence (design.md L16).
//!
//! A store that fails may still hold artifacts: those are named by their digest and need no conditions.

use bytes::Bytes;
use futures::future::join_all;
use uuid::Uuid;

use crate::{ArtifactStore, Condition, ETag, ObjectKey, PutError, StoreError, keys};

/// Writers of the race, as L16 says.
const WRITERS: usize = 50;

/// Why a store is no fencing door.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A write that had to be refused was accepted: the store ignores the condition.
    #[error("store {store} accepted a write {condition}: it is no fencing door; it may hold artifacts")]
    ConditionIgnored {
        /// The store's name.
        store: String,
        /// Which condition, in words.
        condition: &'static str,
    },
    /// The store checks the condition and then writes, without a lock between.
    #[error(
        "{winners} of {WRITERS} racing writes {condition} succeeded at store {store}: it is no fencing door; it may hold artifacts"
    )]
    Race {
        /// The store's name.
        store: String,
        /// Which condition, in words.
        condition: &'static str,
        /// How many were told that they won; one is right.
        winners: usize,
    },
    /// The store holds something else than the winner wrote.
    #[error("store {store} does not hold what the winner of a race wrote: it is no fencing door")]
    WrongSurvivor {
        /// The store's name.
        store: String,
    },
    /// An answer was missing or an error, so nothing is proven.
    #[error("store {store} could not be probed: try again once it answers")]
    Inconclusive {
        /// The store's name.
        store: String,
        /// What failed.
        #[source]
        source: Box<PutError>,
    },
}

const IF_ABSENT: &str = "that asked for a free key";
const IF_MATCH: &str = "that asked for an ETag";

/// Writes, races and removes objects below `regent/probe/`. An error names the reason.
pub async fn probe_fencing(store: &dyn ArtifactStore) -> Result<(), Unfit> {
    let key = keys::probe(&Uuid::now_v7().to_string());
    let verdict = probe_key(store, &key).await;
    if let Err(error) = store.delete(&key).await {
        tracing::warn!(%error, "probe object not removed");
    }
    verdict
}

async fn probe_key(store: &dyn ArtifactStore, key: &ObjectKey) -> Result<(), Unfit> {
    let first = race(store, key, &Condition::Absent, IF_ABSENT).await?;
    expect_refusal(store, key, Condition::Absent, IF_ABSENT).await?;
    let wrong = ETag::new("00000000000000000000000000000000");
    expect_refusal(store, key, Condition::Matches(wrong), "with a wrong ETag").await?;
    race(store, key, &Condition::Matches(first.clone()), IF_MATCH).await?;
    expect_refusal(store, key, Condition::Matches(first), IF_MATCH).await
}

async fn expect_refusal(
    store: &dyn ArtifactStore,
    key: &ObjectKey,
    condition: Condition,
    words: &'static str,
) -> Result<(), Unfit> {
    match store
        .put_if(key, Bytes::from_static(b"must not be visible"), condition)
        .await
    {
        Ok(_) => Err(Unfit::ConditionIgnored {
            store: store.name().to_owned(),
            condition: words,
        }),
        Err(PutError::PreconditionFailed { .. }) => Ok(()),
        Err(error) => Err(inconclusive(store, error)),
    }
}

/// All writers at once, each with a body of its own; the ETag of the one that won.
async fn race(
    store: &dyn ArtifactStore,
    key: &ObjectKey,
    condition: &Condition,
    words: &'static str,
) -> Result<ETag, Unfit> {
    let bodies: Vec<Bytes> = (0..WRITERS)
        .map(|n| format!("{n} {}", Uuid::now_v7()).into())
        .collect();
    let writes = bodies
        .iter()
        .map(|body| store.put_if(key, body.clone(), condition.clone()));
    let mut winners = Vec::new();
    for (outcome, body) in join_all(writes).await.into_iter().zip(&bodies) {
        match outcome {
            Ok(etag) => winners.push((etag, body)),
            Err(PutError::PreconditionFailed { .. } | PutError::Conflict { .. }) => {}
            Err(error) => return Err(inconclusive(store, error)),
        }
    }
    let name = store.name().to_owned();
    let count = winners.len();
    let (1, Some((etag, body))) = (count, winners.pop()) else {
        return Err(Unfit::Race {
            store: name,
            condition: words,
            winners: count,
        });
    };
    let stands = store.get_range(key, 0..body.len() as u64).await;
    let stands = stands.map_err(|error: StoreError| inconclusive(store, PutError::Failed(error)))?;
    if stands == body {
        Ok(etag)
    } else {
        Err(Unfit::WrongSurvivor { store: name })
    }
}

fn inconclusive(store: &dyn ArtifactStore, error: PutError) -> Unfit {
    Unfit::Inconclusive {
        store: store.name().to_owned(),
        source: Box::new(error),
    }
}
