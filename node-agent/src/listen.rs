//! The three listeners, and the file that keeps the ports that the system picked.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{config::AgentConfig, durable};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "listen.json";

/// Where an agent listens, as its `listen.json` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// gRPC of the agent.
    pub agent: SocketAddr,
    /// Inference HTTP.
    pub inference: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
}

/// A port that cannot be had, or a file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has the port.
    #[error("{name} cannot listen on {address}: {error}; {remedy}")]
    Taken {
        /// Which listener.
        name: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
        /// What to do, naming the file if the port comes from it.
        remedy: String,
    },
    /// `listen.json` cannot be read or written.
    #[error("{}: {error}; remove the file to have new ports picked", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
}

/// Bound listeners.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC of the agent.
    pub agent: TcpListener,
    /// Inference HTTP.
    pub inference: TcpListener,
    /// Metrics and health.
    pub metrics: TcpListener,
    /// Where they listen.
    pub addresses: Addresses,
}

/// Reads the file of a running or stopped agent.
///
/// # Errors
/// It cannot be read, or is not what an agent writes.
pub fn read(data_dir: &Path) -> Result<Option<Addresses>, ListenError> {
    let path = data_dir.join(FILE_NAME);
    let file = |error| ListenError::File {
        path: path.clone(),
        error,
    };
    match durable::read(&path).map_err(file)? {
        None => Ok(None),
        Some(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| file(e.into())),
    }
}

/// Binds all three, with the ports of the last run where the config leaves them open, and writes the file.
///
/// # Errors
/// A port that is taken names itself and the file that it comes from.
pub async fn bind(config: &AgentConfig) -> Result<Listeners, ListenError> {
    let kept = read(&config.data_dir)?;
    let dir = &config.data_dir;
    let agent = one("listen_agent", config.listen_agent, kept.map(|k| k.agent), dir).await?;
    let inference = one(
        "listen_inference",
        config.listen_inference,
        kept.map(|k| k.inference),
        dir,
    )
    .await?;
    let metrics = one(
        "listen_metrics",
        config.listen_metrics,
        kept.map(|k| k.metrics),
        dir,
    )
    .await?;
    let path = dir.join(FILE_NAME);
    let file = |error| ListenError::File {
        path: path.clone(),
        error,
    };
    let addresses = Addresses {
        agent: agent.local_addr().map_err(file)?,
        inference: inference.local_addr().map_err(file)?,
        metrics: metrics.local_addr().map_err(file)?,
    };
    if kept != Some(addresses) {
        let bytes = serde_json::to_vec_pretty(&addresses).map_err(|e| file(e.into()))?;
        durable::write(&path, &bytes).map_err(file)?;
    }
    Ok(Listeners {
        agent,
        inference,
        metrics,
        addresses,
    })
}

async fn one(
    name: &'static str,
    wanted: SocketAddr,
    kept: Option<SocketAddr>,
    dir: &Path,
) -> Result<TcpListener, ListenError> {
    let kept = kept.filter(|kept| wanted.port() == 0 && kept.ip() == wanted.ip());
    let address = kept.unwrap_or(wanted);
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = match kept {
            Some(_) => format!(
                "the port comes from {}: stop the process that has it, or remove the file",
                dir.join(FILE_NAME).display()
            ),
            None => format!(
                "stop the process that has port {}, or change {name}",
                address.port()
            ),
        };
        ListenError::Taken {
            name,
            address,
            error,
            remedy,
        }
    })
}
