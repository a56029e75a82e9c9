//! `regent dev-s3 --config FILE`: the S3 endpoint's config, and the port that it keeps.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use dev_s3::{Config, Credentials};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{bad_config, failed, malformed, unreadable};
use crate::{
    dev::{
        files::{self, Access},
        listen::Listen,
    },
    error::Failure,
};

/// The file's content; `deploy/config/dev-s3.toml` explains each key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DevS3Config {
    data_dir: PathBuf,
    listen: SocketAddr,
    #[serde(default)]
    buckets: Vec<String>,
    access_key_file: PathBuf,
    secret_key_file: PathBuf,
}

impl DevS3Config {
    /// Reads a text; `path` is for the error.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let refused = |e| {
            let remedy = malformed("dev-s3", &e);
            bad_config(format!("config {}: {e}", path.display())).remedy(remedy)
        };
        toml::from_str(text).map_err(refused)
    }
}

/// Serves until `stop`.
pub(crate) async fn run(path: &Path, stop: CancellationToken) -> Result<(), Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| bad_config(format!("config {}: {e}", path.display())).remedy(unreadable("dev-s3")))?;
    let file = DevS3Config::parse(&text, path)?;
    files::make_dir(&file.data_dir)?;
    let listen_file = file.data_dir.join("listen.json");
    let kept = kept_port(&listen_file, file.listen)?;
    let mut config = Config::new(
        &file.data_dir,
        Credentials {
            access_key: secret(&file.access_key_file)?,
            secret_key: secret(&file.secret_key_file)?,
        },
    );
    config.listen = kept.unwrap_or(file.listen);
    config.buckets = file.buckets;
    let mut written = Ok(());
    let outcome = dev_s3::run(config, stop, |address| {
        written = write_listen(&listen_file, address)
    })
    .await;
    outcome.map_err(|error| match kept {
        Some(address) => failed(&error).remedy(format!(
            "port {} comes from {}: stop the process that has it, or remove the file",
            address.port(),
            listen_file.display()
        )),
        None => failed(&error),
    })?;
    written
}

/// The address of the last run, where the config leaves the port open.
fn kept_port(path: &Path, configured: SocketAddr) -> Result<Option<SocketAddr>, Failure> {
    let kept = Listen::read(path)?.and_then(|listen| listen.s3);
    Ok(kept.filter(|kept| configured.port() == 0 && kept.ip() == configured.ip()))
}

fn write_listen(path: &Path, address: SocketAddr) -> Result<(), Failure> {
    let text = json!({ "s3": address }).to_string();
    files::write(path, text.as_bytes(), Access::Public)
}

/// A secret from its file, which nobody else may read.
pub(crate) fn secret(path: &Path) -> Result<String, Failure> {
    let metadata = std::fs::metadata(path).map_err(|e| Failure::file("read the key", path, e))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::other(format!(
            "{} may be read by others (mode {mode:o})",
            path.display()
        ))
        .remedy(format!("chmod 600 {}", path.display())));
    }
    let text = files::read(path)?;
    match text.trim() {
        "" => Err(Failure::other(format!("{} is empty", path.display()))),
        key => Ok(key.to_owned()),
    }
}
