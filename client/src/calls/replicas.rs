//! Replication records: read by anybody, reported by agents.

use proto::{
    convert::registry,
    v1::{self as pb, registry_service_client::RegistryServiceClient},
};
use types::{
    ModelName, RegionId,
    reason::Refusal,
    replica::{ReplicaKey, ReplicaRecord},
};

use super::{Client, options::Kind, pages};

/// How far a copy is, as its region's agent reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaReport {
    /// An attempt begins; bytes come from this region, or are in the own store already.
    Started {
        /// The region that the bytes come from.
        source: Option<RegionId>,
    },
    /// Bytes moved so far.
    Progress {
        /// The attempt, as the answer to `Started` numbered it.
        attempt: u32,
        /// Bytes moved.
        bytes_done: u64,
    },
    /// Every artifact was re-read from the region's own store and matched.
    Verified {
        /// The attempt.
        attempt: u32,
        /// Bytes of all artifacts.
        bytes: u64,
    },
    /// The attempt failed.
    Failed {
        /// The attempt.
        attempt: u32,
        /// How.
        error: String,
        /// The bytes have another digest than the manifest says.
        digest_mismatch: bool,
    },
}

impl Client {
    /// Replication records of one model or region, or all.
    pub async fn list_replicas(
        &self,
        model: Option<&ModelName>,
        region: Option<&RegionId>,
    ) -> Result<Vec<ReplicaRecord>, Refusal> {
        pages::all(|page_token| async move {
            let message = pb::ListReplicasRequest {
                read: self.read_options(),
                model: model.map(ToString::to_string).unwrap_or_default(),
                region: region.map(ToString::to_string).unwrap_or_default(),
                page_size: 1000,
                page_token,
            };
            let answer = send!(self, Anyone, RegistryServiceClient::list_replicas, message)?;
            let page: Result<_, _> = answer.replicas.into_iter().map(registry::replica).collect();
            Ok((page?, answer.next_page_token))
        })
        .await
    }

    /// An agent says how far the copy in its own region is.
    pub async fn report_replica(
        &self,
        key: &ReplicaKey,
        report: &ReplicaReport,
    ) -> Result<ReplicaRecord, Refusal> {
        let report = match report.clone() {
            ReplicaReport::Started { source } => {
                pb::report_replica_request::Report::Started(pb::ReplicaStarted {
                    source_region: source.map(String::from).unwrap_or_default(),
                })
            }
            ReplicaReport::Progress { attempt, bytes_done } => {
                pb::report_replica_request::Report::Progress(pb::ReplicaProgress { attempt, bytes_done })
            }
            ReplicaReport::Verified { attempt, bytes } => {
                pb::report_replica_request::Report::Verified(pb::ReplicaVerified { attempt, bytes })
            }
            ReplicaReport::Failed {
                attempt,
                error,
                digest_mismatch,
            } => pb::report_replica_request::Report::Failed(pb::ReplicaFailed {
                attempt,
                error,
                digest_mismatch,
            }),
        };
        let said = self.said(Kind::REPORT).await?;
        let message = pb::ReportReplicaRequest {
            request_id: said.request_id,
            model: key.version.model.to_string(),
            version: key.version.version.0,
            region: key.region.to_string(),
            report: Some(report),
        };
        let answer = send!(self, Change, RegistryServiceClient::report_replica, message)?;
        registry::replica(proto::convert::required("replica", answer.replica)?)
    }
}
