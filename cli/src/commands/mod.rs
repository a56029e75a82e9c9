//! The operator's verbs: arguments → client call → answer. No rule is decided here; the registry says yes or no.

pub(crate) mod cluster;
pub(crate) mod infer;
pub(crate) mod model;
pub(crate) mod primary;
pub(crate) mod region;
pub(crate) mod replication;
pub(crate) mod watch;

use client::Client;
use types::{UnixMillis, time::Clock as _, time::SystemClock, units::format_duration};

use crate::{
    args::{AgainArgs, ReadArgs, Shared},
    context,
    error::Failure,
};

/// A client that reads as fresh as these flags ask for.
fn reader(shared: &Shared, read: &ReadArgs) -> Result<Client, Failure> {
    let client = context::client(shared)?;
    Ok(if read.stale {
        client.with_stale_reads()
    } else {
        client
    })
}

/// A client for one change, under the request id of an earlier try where one is named.
fn changer(shared: &Shared, again: &AgainArgs) -> Result<Client, Failure> {
    let client = context::client(shared)?;
    Ok(match again.request_id {
        Some(id) => client.with_request_id(id),
        None => client,
    })
}

/// How long ago, in whole seconds; by this machine's wall clock, so for people only.
fn ago(at: UnixMillis) -> String {
    let seconds = SystemClock.now().since(at).as_secs();
    format!("{} ago", format_duration(std::time::Duration::from_secs(seconds)))
}
