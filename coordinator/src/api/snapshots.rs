//! A snapshot on the wire: what it is, then its bytes.

use std::io;

use futures::{Stream, StreamExt as _, stream};
use proto::v1::{self as pb, save_snapshot_response::Part};
use tokio::sync::mpsc;
use tonic::Status;
use types::{Reason, reason::Refusal};

use super::{Api, status};
use crate::{
    authz::Caller,
    raft::{Saved, SavedPart},
};

/// The messages of a saved snapshot.
pub(crate) type SavedStream = stream::BoxStream<'static, Result<pb::SaveSnapshotResponse, Status>>;

impl Api {
    /// Has everything written into a file that a read as fresh as this would see.
    pub(crate) async fn save_snapshot(
        &self,
        caller: &Caller,
        read: Option<pb::ReadOptions>,
    ) -> Result<SavedStream, Status> {
        let (header, founded) = self.read(caller, read, |state| state.cluster().is_some()).await?;
        if !founded {
            let text = "the cluster is not bootstrapped: there is nothing to save";
            return Err(status(Refusal::new(Reason::ClusterState, text)));
        }
        let parts = self.raft.save_snapshot().map_err(status)?;
        let node = self.raft.own_peer().node.to_string();
        let name = node.clone();
        Ok(messages(parts)
            .map(move |part| match part {
                Ok(part) => Ok(message(part, &header, &node)),
                Err(error) => Err(status(not_written(&name, &error))),
            })
            .boxed())
    }
}

fn messages(
    parts: mpsc::Receiver<io::Result<SavedPart>>,
) -> impl Stream<Item = io::Result<SavedPart>> + Send + 'static {
    stream::unfold(parts, |mut parts| async move {
        let part = parts.recv().await?;
        Some((part, parts))
    })
}

fn message(part: SavedPart, header: &pb::ResponseHeader, node: &str) -> pb::SaveSnapshotResponse {
    let part = match part {
        SavedPart::Begins(saved) => Part::Begins(begins(&saved, header, node)),
        SavedPart::Chunk(bytes) => Part::Chunk(bytes.into()),
    };
    pb::SaveSnapshotResponse { part: Some(part) }
}

fn begins(saved: &Saved, header: &pb::ResponseHeader, node: &str) -> pb::SavedSnapshot {
    pb::SavedSnapshot {
        header: Some(pb::ResponseHeader {
            revision: saved.revision.0,
            ..header.clone()
        }),
        node: node.to_owned(),
        term: saved.term,
        generation: saved.generation,
        feature_level: saved.feature_level,
        state_time_millis: saved.time.0,
        size_bytes: saved.size,
        sha256: saved.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        state_hash: saved.state_hash.to_string(),
    }
}

/// A disk that is full is that of one coordinator; another one may have room.
fn not_written(node: &str, error: &io::Error) -> Refusal {
    let text = format!("{node} could not write the snapshot: {error}");
    Refusal::new(Reason::NotServing, text).with("node", node)
}
