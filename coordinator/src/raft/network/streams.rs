//! What goes out and comes in on streams: appends with their answers, and snapshots in parts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use openraft::{
    errors::{NetworkError, RPCError, Unreachable},
    raft as rpc,
};
use proto::raft_v1 as pb;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

use super::super::{convert, snapshot::SnapshotFile, types::TypeConfig};

/// Bytes of a snapshot in one message.
const SNAPSHOT_CHUNK_BYTES: usize = 512 << 10;

/// What openraft hears of a call.
pub(super) type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Requests that went out on a stream and answers that came back.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) sent: AtomicU64,
    answered: AtomicU64,
}

impl Progress {
    /// The next answer; an error once a request has waited for it longer than `idle`. A quiet stream may be quiet for
    /// ever: heartbeats have their own connection.
    pub(super) async fn next(
        &self,
        responses: &mut tonic::Streaming<pb::AppendResponse>,
        idle: Duration,
    ) -> Option<Rpc<rpc::StreamAppendResult<TypeConfig>>> {
        let mut waiting_since = None;
        loop {
            match timeout(idle, responses.message()).await {
                Ok(Ok(Some(response))) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    let result = convert::stream_result_in(response);
                    return Some(result.map_err(|e| NetworkError::new(&e).into()));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(status_error(&status))),
                Err(_) if self.sent.load(Ordering::Relaxed) <= self.answered.load(Ordering::Relaxed) => {
                    waiting_since = None;
                }
                Err(_) => {
                    let since = *waiting_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= idle {
                        let text = format!("an append has waited {idle:?} for its answer");
                        return Some(Err(Unreachable::from_string(text).into()));
                    }
                }
            }
        }
    }
}

pub(in crate::raft) fn snapshot_parts(
    header: pb::SnapshotHeader,
    file: SnapshotFile,
) -> impl Stream<Item = pb::SnapshotPart> + Send + 'static {
    use pb::snapshot_part::Part;
    let part = |part| pb::SnapshotPart { part: Some(part) };
    let first = stream::once(async move { part(Part::Header(header)) });
    let chunks = stream::unfold((Arc::new(file), 0_u64), move |(file, at)| async move {
        let reader = file.clone();
        let read = tokio::task::spawn_blocking(move || reader.read_at(at, SNAPSHOT_CHUNK_BYTES));
        // A failed read ends the stream early; the receiver sees that bytes are missing and refuses the whole.
        let chunk = read.await.ok()?.ok().filter(|chunk| !chunk.is_empty())?;
        let next = at + chunk.len() as u64;
        Some((part(Part::Chunk(chunk)), (file, next)))
    });
    first.chain(chunks)
}

pub(super) fn status_error(status: &Status) -> RPCError<TypeConfig> {
    if matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::PermissionDenied | Code::FailedPrecondition
    ) {
        Unreachable::new(status).into()
    } else {
        NetworkError::new(status).into()
    }
}
