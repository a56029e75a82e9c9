//! `listen.json`: where a process listens, as it wrote it itself. The ports are kept from the first start on.

use std::{net::SocketAddr, path::Path, time::Duration};

use chaos::Part;
use serde::Deserialize;

use crate::error::Failure;

/// The addresses of one process; which are there depends on what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Listen {
    /// gRPC `regent.v1` of a coordinator.
    pub(crate) api: Option<SocketAddr>,
    /// Raft peers.
    pub(crate) raft: Option<SocketAddr>,
    /// gRPC of an agent.
    pub(crate) agent: Option<SocketAddr>,
    /// Inference HTTP of an agent.
    pub(crate) inference: Option<SocketAddr>,
    /// Metrics and health.
    pub(crate) metrics: Option<SocketAddr>,
    /// The S3 endpoint.
    pub(crate) s3: Option<SocketAddr>,
}

/// How often the file is looked for: nothing announces it, and a start takes tens of milliseconds.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl Listen {
    /// What the process wrote; none as long as it has not.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file("read", path, error)),
        };
        let parsed = serde_json::from_str(&text).map_err(|e| {
            Failure::file("read", path, e).remedy("delete the file: the process then picks new ports")
        })?;
        Ok(Some(parsed))
    }

    /// The address that shows whether such a process listens.
    pub(crate) fn main(&self, part: Part) -> Option<SocketAddr> {
        match part {
            Part::Coordinator => self.api,
            Part::Agent => self.agent,
            Part::Store => self.s3,
        }
    }
    /// `https://…` of a coordinator's API.
    pub(crate) fn api_url(&self) -> Option<String> {
        self.api.map(|a| format!("https://{a}"))
    }
    /// `https://…` of an agent's gRPC.
    pub(crate) fn agent_url(&self) -> Option<String> {
        self.agent.map(|a| format!("https://{a}"))
    }
    /// `http://…` of an agent's inference.
    pub(crate) fn inference_url(&self) -> Option<String> {
        self.inference.map(|a| format!("http://{a}"))
    }
    /// `http://…` of the S3 endpoint.
    pub(crate) fn s3_url(&self) -> Option<String> {
        self.s3.map(|a| format!("http://{a}"))
    }
}
