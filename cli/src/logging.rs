//! Logs: to stderr, for people on a terminal and as JSON where `REGENT_LOG_FORMAT=json` says so.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Goes before every filter, so that a target which is named in one wins: at `debug` HTTP/2 alone would write more lines than all
/// of ours, and openraft calls it an error that a node which makes room for one with another timing takes no more calls. Why a node
/// really stopped is said in our own words.
const QUIETER: &str = "h2=info,hyper=info,tower=info,rustls=info,openraft::raft::raft_inner=off";

/// Starts logging. `REGENT_LOG` is the filter, `default` where it is not set: servers say more than verbs.
pub(crate) fn init(default: &str) {
    let filter = std::env::var("REGENT_LOG").unwrap_or_else(|_| default.to_owned());
    let plain = tracing_subscriber::fmt()
        .with_env_filter(filter_of(&filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let as_json = std::env::var("REGENT_LOG_FORMAT").is_ok_and(|format| format == "json");
    // Only the first caller can set it; tests in one process may come twice.
    let _ = if as_json {
        plain.json().try_init()
    } else {
        plain.try_init()
    };
}

/// One that cannot be read must not keep a server from starting.
fn filter_of(wanted: &str) -> EnvFilter {
    // As it is taken by itself.
    let wanted = if wanted.trim().is_empty() { "error" } else { wanted };
    let all = format!("{QUIETER},{wanted}");
    EnvFilter::try_new(all).unwrap_or_else(|_| EnvFilter::new(format!("{QUIETER},info")))
}

#[cfg(test)]
mod tests {
    use tracing::{Level, level_filters::LevelFilter, subscriber::with_default};

    use super::*;

    /// Whether a line of each target at each level would be written.
    fn check(filter: &str, expected: [bool; 5]) {
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter_of(filter))
            .with_writer(std::io::sink)
            .finish();
        let seen = with_default(subscriber, || {
            [
                tracing::enabled!(target: "coordinator::join", Level::DEBUG),
                tracing::enabled!(target: "h2::codec", Level::DEBUG),
                tracing::enabled!(target: "h2::codec", Level::INFO),
                tracing::enabled!(target: "openraft::raft::raft_inner", Level::ERROR),
                tracing::enabled!(target: "openraft::core", Level::ERROR),
            ]
        });
        assert_eq!(seen, expected, "{filter}");
        assert!(filter_of(filter).max_level_hint() >= Some(LevelFilter::INFO));
    }

    #[test]
    fn what_a_filter_names_wins_and_the_rest_of_a_flood_is_left_out() {
        check("info,openraft=error", [false, false, true, false, true]);
        check("debug", [true, false, true, false, true]);
        check("debug,h2=debug", [true, true, true, false, true]);
        check(
            "debug,openraft::raft::raft_inner=error",
            [true, false, true, true, true],
        );
        check("no filter == at all", [false, false, true, false, true]);
    }
}
