//! Logs: to stderr, for people on a terminal and as JSON where `REGENT_LOG_FORMAT=json` says so.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging. `REGENT_LOG` is the filter, `default` where it is not set: servers say more than verbs.
pub(crate) fn init(default: &str) {
    let filter = std::env::var("REGENT_LOG").unwrap_or_else(|_| default.to_owned());
    // A filter that cannot be read must not keep a server from starting.
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let as_json = std::env::var("REGENT_LOG_FORMAT").is_ok_and(|format| format == "json");
    let plain = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // Only the first caller can set it; tests in one process may come twice.
    let _ = if as_json {
        plain.json().try_init()
    } else {
        plain.try_init()
    };
}
