//! Logs: to stderr, for people on a terminal and as JSON where `REGENT_LOG_FORMAT=json` says so.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Goes before every filter, so that a target which is named in one wins: openraft calls it an error that a node which makes room
/// for one with another timing takes no more calls. Why a node really stopped is said in our own words.
const SILENT: &str = "openraft::raft::raft_inner=off";

/// Goes before a filter of more than `info`: at `debug` HTTP/2 alone would write more lines than all of ours.
const QUIETER: &str = "h2=info,hyper=info,tower=info,rustls=info";

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
    let all = match of_all(wanted) > LevelFilter::INFO {
        true => format!("{SILENT},{QUIETER},{wanted}"),
        false => format!("{SILENT},{wanted}"),
    };
    EnvFilter::try_new(all).unwrap_or_else(|_| EnvFilter::new(format!("{SILENT},info")))
}

/// The level of all targets that a filter does not name: of two, the last one counts.
fn of_all(filter: &str) -> LevelFilter {
    let mut levels = filter.split(',').rev().filter_map(|part| part.parse().ok());
    levels.next().unwrap_or(LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use tracing::{Level, subscriber::with_default};

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
    /// Up to which level lines of an HTTP library are written.
    #[test]
    fn a_filter_of_less_than_info_is_not_raised_for_the_libraries() {
        for (filter, expected) in [
            ("off", LevelFilter::OFF),
            ("error", LevelFilter::ERROR),
            ("", LevelFilter::ERROR),
            ("WARN", LevelFilter::WARN),
            ("debug,warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("warn,coordinator=debug", LevelFilter::WARN),
            ("coordinator=debug", LevelFilter::OFF),
            ("warn,h2=trace", LevelFilter::TRACE),
            ("warn,debug", LevelFilter::INFO),
            ("trace", LevelFilter::INFO),
            ("trace,h2=error", LevelFilter::ERROR),
        ] {
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter_of(filter))
                .with_writer(std::io::sink)
                .finish();
            let seen = with_default(subscriber, || {
                [
                    tracing::enabled!(target: "h2::codec", Level::ERROR),
                    tracing::enabled!(target: "h2::codec", Level::WARN),
                    tracing::enabled!(target: "h2::codec", Level::INFO),
                    tracing::enabled!(target: "h2::codec", Level::DEBUG),
                    tracing::enabled!(target: "h2::codec", Level::TRACE),
                ]
            });
            let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
            assert_eq!(seen, levels.map(|level| level <= expected), "{filter:?}");
        }
    }
}
