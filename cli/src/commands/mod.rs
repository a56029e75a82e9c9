//! The operator's verbs: arguments → client call → answer. No rule is decided here; the registry says yes or no.

pub(crate) mod cluster;
pub(crate) mod experiment;
pub(crate) mod history;
pub(crate) mod infer;
pub(crate) mod model;
pub(crate) mod node;
pub(crate) mod preferences;
pub(crate) mod primary;
pub(crate) mod region;
pub(crate) mod replication;
pub(crate) mod service;
pub(crate) mod watch;

use client::{
    Client,
    calls::{ChangeOptions, Header},
};
use serde_json::{Value, json};
use types::{
    Revision,
    units::{format_age, format_duration},
};

use crate::{
    args::{AgainArgs, ChangeArgs, OutputFormat, ReadArgs, RoleChangeArgs, Shared},
    context,
    error::Failure,
    output::answer,
};

/// A client that reads as fresh as these flags ask for, and remembers how fresh that was.
fn reader(shared: &Shared, read: &ReadArgs) -> Result<Client, Failure> {
    let mut client = context::client(shared)?.with_answers_noted();
    if read.stale {
        client = client.with_stale_reads();
    }
    if let Some(max) = read.max_staleness {
        client = client.with_max_staleness(max);
    }
    if let Some(revision) = read.min_revision {
        client = client.with_min_revision(Revision(revision));
    }
    Ok(client)
}

/// A client for one change, made in the manner of these flags, under the request id of an earlier try where one is named; it
/// remembers the answer's revision.
fn changer(shared: &Shared, args: &ChangeArgs, options: ChangeOptions) -> Result<Client, Failure> {
    let client = asker(shared, &args.again)?;
    Ok(client.with_change_options(ChangeOptions {
        validate_only: args.validate_only,
        ..options
    }))
}

/// As [`changer`], for a record that must still be as it was at a revision, where one is named.
fn changer_at(shared: &Shared, change: &ChangeArgs, etag: Option<u64>) -> Result<Client, Failure> {
    let options = ChangeOptions {
        etag: etag.map(Revision),
        ..ChangeOptions::default()
    };
    changer(shared, change, options)
}

/// As [`changer`], for a change with a manner of its own.
fn asker(shared: &Shared, again: &AgainArgs) -> Result<Client, Failure> {
    let client = context::client(shared)?.with_answers_noted();
    Ok(match again.request_id {
        Some(id) => client.with_request_id(id),
        None => client,
    })
}

/// As [`changer`], for a role.
fn role_changer(shared: &Shared, args: &RoleChangeArgs) -> Result<Client, Failure> {
    let options = ChangeOptions {
        etag: args.etag.map(Revision),
        expected_epoch: args.expect_epoch,
        validate_only: false,
    };
    changer(shared, &args.change, options)
}

/// Prints what a change answered: the revision as of which it stands, and whether it was only validated.
fn tell_change(
    client: &Client,
    format: OutputFormat,
    document: Value,
    human: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let document = changed(client, document);
    let is_validation = document["validated_only"] == json!(true);
    answer(format, &document, || match is_validation {
        true => format!("{}\n\n{VALIDATED}", human()),
        false => human(),
    })
}

/// What is said below a table that shows what is not so.
const VALIDATED: &str = "validated only: this is how it would be; nothing was changed";

/// What a change answered, with the revision as of which it stands.
pub(crate) fn changed(client: &Client, mut document: Value) -> Value {
    let header = client.last_answer();
    document["revision"] = json!(header.map(|header| header.revision));
    document["validated_only"] = json!(header.is_some_and(|header| header.validated_only));
    document
}

/// Prints what a [`reader`] read: with the revision that all of it has reached, and how old it is where it may be stale.
fn tell(
    client: &Client,
    format: OutputFormat,
    mut document: Value,
    human: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let header = client.least_fresh();
    if let Some(header) = header {
        document["revision"] = json!(header.revision);
        document["stale"] = json!(header.age.is_some());
        if header.age.is_some() {
            document["age"] = json!(known_age(&header).map(format_duration));
        }
    }
    answer(format, &document, || match header.filter(|h| h.age.is_some()) {
        Some(header) => format!("{}\n\n{}", human(), staleness(&header)),
        None => human(),
    })
}

/// How old an answer is; none where no quorum has confirmed anything since the coordinator that gave it was started.
fn known_age(header: &Header) -> Option<std::time::Duration> {
    header.age.filter(|age| age.as_millis() < u128::from(u64::MAX))
}

fn staleness(header: &Header) -> String {
    let revision = header.revision;
    match known_age(header) {
        Some(age) => format!(
            "stale: as of revision {revision}, which a quorum confirmed {} ago",
            format_age(age)
        ),
        None => format!("stale: as of revision {revision}, which no quorum has confirmed yet"),
    }
}
