//! The ports that a process picked at its first start, kept in `listen.json` so that others find it again.
//!
//! Invariant: a port that was once written is used again, or the start fails with the port's and the file's name; it
//! is never changed silently, because other configs name it.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{config::Config, error::RunError, raft::files};

/// Addresses as they stand in `<data_dir>/listen.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenFile {
    /// The API.
    pub api: Option<SocketAddr>,
    /// Raft peers.
    pub raft: Option<SocketAddr>,
    /// Metrics and health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
}

/// The sockets of a coordinator, bound.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) api: TcpListener,
    pub(crate) raft: TcpListener,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) bound: ListenFile,
}

/// Binds every port, and writes down which ones they are.
pub(crate) fn bind(config: &Config) -> Result<Sockets, RunError> {
    let path = config.data_dir.join("listen.json");
    let kept = read(&path)?;
    let api = open("listen_api", config.listen_api, kept.api, &path)?;
    let raft = open("listen_raft", config.listen_raft, kept.raft, &path)?;
    let metrics = config
        .listen_metrics
        .map(|address| open("listen_metrics", address, kept.metrics, &path))
        .transpose()?;
    let bound = ListenFile {
        api: Some(api.1),
        raft: Some(raft.1),
        metrics: metrics.as_ref().map(|m| m.1),
    };
    if bound != kept {
        write(&path, &bound)?;
    }
    Ok(Sockets {
        api: api.0,
        raft: raft.0,
        metrics: metrics.map(|m| m.0),
        bound,
    })
}

fn open(
    purpose: &'static str,
    configured: SocketAddr,
    kept: Option<SocketAddr>,
    path: &Path,
) -> Result<(TcpListener, SocketAddr), RunError> {
    let (address, remedy) = match kept {
        Some(kept) if configured.port() == 0 => (
            SocketAddr::new(configured.ip(), kept.port()),
            format!(
                "; the port is kept in {}: free it, or remove the file to pick another",
                path.display()
            ),
        ),
        _ => (
            configured,
            format!("; free the port, or set {purpose} to another port"),
        ),
    };
    let fail = |source| RunError::Listen {
        address,
        purpose,
        source,
        remedy: remedy.clone(),
    };
    let listener = TcpListener::bind(address).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

/// Reads the file; no file is an empty one.
pub fn read(path: &Path) -> Result<ListenFile, RunError> {
    let problem = |problem: String| RunError::ListenFile {
        path: path.to_owned(),
        problem,
    };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
            problem(format!(
                "is no list of addresses ({e}); remove it to pick new ports"
            ))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ListenFile::default()),
        Err(error) => Err(problem(error.to_string())),
    }
}

fn write(path: &Path, file: &ListenFile) -> Result<(), RunError> {
    let written = serde_json::to_vec_pretty(file).map_err(std::io::Error::from);
    let written = written.and_then(|bytes| files::replace(path, &bytes));
    written.map_err(|e| RunError::ListenFile {
        path: path.to_owned(),
        problem: format!("cannot be written: {e}"),
    })
}
