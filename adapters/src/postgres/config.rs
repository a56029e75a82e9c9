//! How a database is reached: checked before anything connects.
//!
//! Absent on purpose: the password; it is read from its file at each connect, and never kept.
//! Invariant: nothing leaves this machine in plain text.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use tokio_postgres::config::{Host, SslMode};

/// The database role that raises epochs and owns the fence; Regent connects as this one, and nobody else may.
// In two parts, because whole it looks like the name of a metric, and those stand in one table.
pub const FENCE_USER: &str = concat!("regent", "_fence");

/// How long open transactions may hold a raise up before their connections are ended, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a database is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// `postgres://host:port/database`, without a password; several hosts with commas between them. A path that begins with
    /// `%2F` in place of the host is a socket's directory.
    pub url: String,
    /// File that holds the password of `regent_fence`; none where the server asks for none.
    pub password_file: Option<PathBuf>,
    /// File with the certificates, in PEM, that the server's one must follow from. Needed for any but a loopback address.
    pub ca_file: Option<PathBuf>,
    /// How long open transactions may hold a raise up before their connections are ended. At most half of what a raise may
    /// take is used.
    pub patience: Duration,
}

/// A config that cannot be used: the key, what it holds, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPostgres(pub String);

impl PostgresConfig {
    /// A database at this address, with no password, no TLS, and the usual patience.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            ca_file: None,
            patience: PATIENCE,
        }
    }

    /// What the client library is told, but for the password. No error names the URL: it may hold a password all the same.
    pub(super) fn target(&self) -> Result<tokio_postgres::Config, BadPostgres> {
        let bad = |text: &str| BadPostgres(text.to_owned());
        let mut target: tokio_postgres::Config = self
            .url
            .parse()
            .map_err(|_| bad("url cannot be read; write postgres://host:5432/database"))?;
        if target.get_password().is_some() {
            return Err(bad(
                "url holds a password; write it to a file that only this user can read, and name that in password_file",
            ));
        }
        if target.get_user().is_some_and(|user| user != FENCE_USER) {
            let found = target.get_user().unwrap_or_default();
            return Err(BadPostgres(format!(
                "url names the user {found}; epochs are raised by {FENCE_USER} alone: leave the user out"
            )));
        }
        if target.get_dbname().is_none() {
            return Err(bad("url names no database; write postgres://host:5432/database"));
        }
        if !target.get_hostaddrs().is_empty() {
            return Err(bad(
                "url has hostaddr, which goes past the check of the server's name; write the host alone",
            ));
        }
        let mode = self.tls_of(target.get_hosts())?;
        target.user(FENCE_USER).ssl_mode(mode).application_name("regent");
        Ok(target)
    }

    fn tls_of(&self, hosts: &[Host]) -> Result<SslMode, BadPostgres> {
        if hosts.is_empty() {
            return Err(BadPostgres(
                "url names no host; write postgres://host:5432/database".to_owned(),
            ));
        }
        let afar = hosts.iter().find(|host| !is_here(host));
        match (&self.ca_file, afar) {
            (Some(_), _) if hosts.iter().any(|host| matches!(host, Host::Unix(_))) => Err(BadPostgres(
                "ca_file is set, and url names a socket, over which there is no TLS; leave ca_file out"
                    .to_owned(),
            )),
            (Some(_), _) => Ok(SslMode::Require),
            (None, None) => Ok(SslMode::Disable),
            (None, Some(host)) => Err(BadPostgres(format!(
                "url names {}, which is another machine, so ca_file must be set: without TLS only a loopback address or a socket is used",
                shown(host)
            ))),
        }
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    }
}

fn shown(host: &Host) -> String {
    match host {
        Host::Unix(path) => path.display().to_string(),
        Host::Tcp(name) => name.clone(),
    }
}
