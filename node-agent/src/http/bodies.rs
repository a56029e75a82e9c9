//! Room for request bodies: how many bytes of all requests together this agent holds at a time.
//!
//! Absent on purpose: what a body says. Invariants: a byte is held only after it was counted; whoever finds no room is
//! refused and nobody waits, so that inference clients cannot make the process grow until the system kills it.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, HttpBody as _};
use futures::StreamExt as _;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::Reason;

use super::HttpError;

/// After so long a request that found no room may find some: most are answered in less.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bytes that may be held; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Room {
    left: Arc<Semaphore>,
    total: usize,
}

/// The room of a body. Clones share it; it is free again once the last of them is gone.
pub(super) type Held = Arc<OwnedSemaphorePermit>;

impl Room {
    /// Room for `total` bytes.
    pub(super) fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self {
            left: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn read(&self, body: Body, limit: usize) -> Result<(Vec<u8>, Held), HttpError> {
        // Who says beforehand that it is too much need not send it.
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large(limit));
        }
        let (mut held, mut bytes) = (self.take(0)?, Vec::new());
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| HttpError::invalid(format!("the body ended early: {e}")))?;
            if chunk.len() > limit - bytes.len() {
                return Err(too_large(limit));
            }
            held.merge(self.take(chunk.len())?);
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes, Arc::new(held)))
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, HttpError> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.left).try_acquire_many_owned(count);
        taken.map_err(|_| self.full())
    }

    fn full(&self) -> HttpError {
        let text = format!(
            "the requests in hand hold the {} bytes that this agent has for their bodies; try again in a moment, or send \
             smaller requests",
            self.total
        );
        HttpError {
            retry_after: Some(RETRY_AFTER.as_secs()),
            ..HttpError::new(StatusCode::TOO_MANY_REQUESTS, Reason::Overloaded.as_str(), text)
        }
    }
}

fn too_large(limit: usize) -> HttpError {
    let text = format!("the body is larger than {limit} bytes; split the request, or raise limits.body_max");
    HttpError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Reason::LimitExceeded.as_str(),
        text,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: usize) -> Body {
        Body::from(vec![b' '; bytes])
    }

    #[tokio::test]
    async fn bodies_are_held_together_up_to_the_bound_and_refused_beyond() {
        let room = Room::new(100);
        let (bytes, first) = room.read(body(60), 80).await.unwrap();
        let (_, second) = room.read(body(40), 80).await.unwrap();
        assert_eq!((bytes.len(), room.left.available_permits()), (60, 0));
        let refused = room.read(body(1), 80).await.err().unwrap();
        assert_eq!(
            (refused.status, refused.reason, refused.retry_after),
            (StatusCode::TOO_MANY_REQUESTS, "OVERLOADED", Some(1))
        );
        assert!(refused.message.contains("100 bytes"), "{}", refused.message);
        // Whatever is made of a body on another thread holds its room, too.
        let parsing = second.clone();
        drop((first, second));
        assert_eq!(room.left.available_permits(), 60);
        drop(parsing);
        room.read(body(80), 80).await.unwrap();
        assert_eq!(room.left.available_permits(), 100);
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_cut_off_at_the_limit() {
        let room = Room::new(100);
        let chunks = futures::stream::iter([30, 30, 30].map(|n| Ok::<_, std::io::Error>(vec![b' '; n])));
        let refused = room.read(Body::from_stream(chunks), 80).await.err().unwrap();
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(room.left.available_permits(), 100);
    }
}
