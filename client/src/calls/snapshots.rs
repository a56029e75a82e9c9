//! A snapshot of the cluster, taken away in pieces.

use std::time::Duration;

use proto::{
    convert::status,
    v1::{self as pb, cluster_service_client::ClusterServiceClient, save_snapshot_response::Part},
};
use tokio::time::timeout;
use tonic::Streaming;
use types::reason::{Reason, Refusal};

use super::{Client, Header};

/// A snapshot that is being taken away.
#[derive(Debug)]
pub struct SnapshotDownload {
    /// What it will be.
    pub saved: pb::SavedSnapshot,
    /// Where it was read.
    pub header: Header,
    stream: Streaming<pb::SaveSnapshotResponse>,
    patience: Duration,
}

impl Client {
    /// Begins to take a snapshot away. `patience` is how long each message may take: the first one comes once the coordinator has
    /// written the file. A download that breaks off cannot be gone on with, only begun anew.
    pub async fn save_snapshot(&self, patience: Duration) -> Result<SnapshotDownload, Refusal> {
        let message = pb::SaveSnapshotRequest {
            read: self.read_options(),
        };
        let mut stream = send!(self, To Anyone, ClusterServiceClient::save_snapshot, message)?;
        let Some(Part::Begins(saved)) = next(&mut stream, patience).await? else {
            return Err(broken_off("it did not begin with what it is"));
        };
        self.note(saved.header.as_ref());
        Ok(SnapshotDownload {
            header: Header::read(saved.header.clone())?,
            saved,
            stream,
            patience,
        })
    }
}

impl SnapshotDownload {
    /// The next bytes; none after the last ones.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        match next(&mut self.stream, self.patience).await? {
            Some(Part::Chunk(bytes)) => Ok(Some(bytes)),
            Some(Part::Begins(_)) => Err(broken_off("it began a second time")),
            None => Ok(None),
        }
    }
}

async fn next(
    stream: &mut Streaming<pb::SaveSnapshotResponse>,
    patience: Duration,
) -> Result<Option<Part>, Refusal> {
    let message = timeout(patience, stream.message()).await;
    let message = message.map_err(|_| broken_off(&format!("no message came within {patience:?}")))?;
    let message = message.map_err(|s| status::from_status(&s))?;
    match message {
        None => Ok(None),
        Some(message) => match message.part {
            Some(part) => Ok(Some(part)),
            None => Err(broken_off("a message was empty")),
        },
    }
}

/// Nothing was changed by it, so to begin anew is always safe.
fn broken_off(why: &str) -> Refusal {
    Refusal::new(Reason::Unreachable, format!("the snapshot broke off: {why}"))
}
