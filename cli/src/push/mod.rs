//! `regent model push`: a directory becomes a version, whole or not at all.
//!
//! Order: look at the directory and hash it (nothing registered yet) → announce the version → upload what the store
//! lacks → say that it is complete → wait until an agent has verified it, and until enough regions have. What fails
//! after the announcement takes it back, unless the version is READY by then. A push of the same files again goes on
//! where the last one stopped, or finds that there is nothing to do.

mod fate;
mod progress;
mod scan;
mod store;
mod sums;
mod wait;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Instant};

use client::{Client, Context};
use serde_json::json;
use types::{
    AliasName, RegionId, RoleName, VersionKey,
    model::{AliasRecord, Artifact, VersionRecord, VersionState},
};

use self::{progress::Bar, scan::Scanned, wait::Limit};
use crate::{
    args::{PushArgs, Shared},
    commands::changed,
    context,
    error::Failure,
    exit::Exit,
    output::{answer, note},
    tables::{CHAMPION, alias_table, version_table},
};

/// What helps after a push that broke off.
const PUSH_AGAIN: &str = "push the same directory again: it goes on with what is there";

/// Pushes. A push makes several changes: none of them is asked again by its id, but all of them by another push.
pub(crate) async fn run(args: PushArgs, shared: Shared) -> Result<(), Failure> {
    let pushed = Box::pin(push(args, shared)).await;
    pushed.map_err(|failure| failure.or_ask_again(PUSH_AGAIN))
}

async fn push(args: PushArgs, shared: Shared) -> Result<(), Failure> {
    let clock = Phases::new(args.timing);
    // Before anybody is asked anything: a directory that is no model concerns nobody else.
    let scanned = clock.phase("checked and hashed", scan::scan(&args.dir)).await?;
    let context = context::load(&shared)?;
    let client = context::connect(&context, &shared)?.with_answers_noted();
    wait::check_wanted(&client, args.wait_copies).await?;
    let region = match &args.region {
        Some(region) => region.clone(),
        None => primary_region(&client).await?,
    };
    let (version, announced) = announce(&client, &args, &region, &scanned).await?;
    let outcome = tokio::select! {
        outcome = Box::pin(publish(&client, &context, &args, version.clone(), &scanned, &shared, &clock)) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::other("stopped by ctrl-c")),
    };
    match outcome {
        Ok((version, limit)) => finish(&client, &args, &shared, version, announced, limit).await,
        Err(failure) => Err(fate::take_back(&client, &version.key, failure).await),
    }
}

/// Checks a directory as a push would, registering nothing: the error names file, finding and remedy.
#[cfg(feature = "server")]
pub(crate) async fn check(dir: &std::path::Path) -> Result<(), Failure> {
    scan::scan(dir).await.map(drop)
}

/// The region that may write now: its store is where models come from.
async fn primary_region(client: &Client) -> Result<RegionId, Failure> {
    let (role, _) = client.get_role(&RoleName::global()).await?;
    role.holder.map(|holder| holder.region).ok_or_else(|| {
        Failure::new(
            Exit::Unavailable,
            format!("nobody holds {} at {}", role.role, role.epoch),
        )
        .remedy("wait for the failover to end, or name the region to upload to with --region")
    })
}

/// A version for these files: the one that an earlier push left or finished, else a new one. Says whether it is new.
async fn announce(
    client: &Client,
    args: &PushArgs,
    region: &RegionId,
    scanned: &Scanned,
) -> Result<(VersionRecord, bool), Failure> {
    let artifacts: Vec<Artifact> = scanned.files.iter().map(|f| f.artifact.clone()).collect();
    let known = client.list_versions(&args.name).await;
    let known = match known {
        Err(refusal) if refusal.reason == types::Reason::ModelNotFound => Vec::new(),
        other => other?,
    };
    let same = |v: &&VersionRecord| v.state != VersionState::Deleted && v.artifacts == artifacts;
    if let Some(version) = known.iter().rev().find(same) {
        note(&format!(
            "{} has these files already ({})",
            version.key, version.state
        ));
        if !args.metadata.is_empty() && !has(version, &args.metadata) {
            note(&format!(
                "--meta changes nothing: the metadata of {} was set when it was announced, and stays",
                version.key
            ));
        }
        return Ok((version.clone(), false));
    }
    let metadata: BTreeMap<String, String> = args.metadata.iter().cloned().collect();
    let version = client
        .create_version(&args.name, region, &artifacts, &scanned.framework, metadata)
        .await?;
    Ok((version, true))
}

/// Whether all of this stands with the version.
fn has(version: &VersionRecord, metadata: &[(String, String)]) -> bool {
    metadata
        .iter()
        .all(|(key, value)| version.metadata.get(key) == Some(value))
}

/// From PENDING_UPLOAD to verified copies; each part is left out where it was done before. Gives the version, and what
/// is left of the time.
async fn publish(
    client: &Client,
    context: &Context,
    args: &PushArgs,
    mut version: VersionRecord,
    scanned: &Scanned,
    shared: &Shared,
    clock: &Phases,
) -> Result<(VersionRecord, Limit), Failure> {
    let limit = Limit::new(args.wait_timeout);
    if version.state == VersionState::PendingUpload {
        let target = store::open(client, context, &version.source_region, shared.timeout).await?;
        let bar = Bar::bytes(scanned.total());
        let upload = limit.bound(
            "uploading",
            &version.source_region,
            store::upload(target.as_ref(), &scanned.files, &bar),
        );
        clock.phase("uploaded", upload).await?;
        version = wait::complete(client, &version.key, limit).await?;
    }
    let waited = wait::until_ready(client, &version.key, limit);
    let version = clock.phase("verified", waited).await?;
    let copies = wait::until_copied(client, &version.key, args.wait_copies, limit);
    clock.phase("copied", copies).await?;
    Ok((version, limit))
}

async fn finish(
    client: &Client,
    args: &PushArgs,
    shared: &Shared,
    version: VersionRecord,
    created: bool,
    limit: Limit,
) -> Result<(), Failure> {
    if let Some(alias) = &args.alias {
        client
            .set_alias(&version.key, alias, "set by model push", None)
            .await?;
    }
    let model = &version.key.model;
    let aliases = limit.insist(async || client.list_aliases(model).await).await?;
    let (alias, aliases) = own_aliases(&version.key, aliases, args.alias.as_ref());
    let replicas = limit.insist(async || client.list_replicas(Some(model), None).await);
    let replicas: Vec<_> = replicas
        .await?
        .into_iter()
        .filter(|r| r.key.version == version.key)
        .collect();
    let document = json!({
        "version": version, "created": created, "replicas": replicas, "alias": alias, "aliases": aliases,
    });
    answer(shared.output, &changed(client, document), || {
        let versions = version_table(std::slice::from_ref(&version));
        if aliases.is_empty() {
            return versions;
        }
        format!("{versions}\n\n{}", alias_table(&aliases))
    })
}

/// The alias that the push gave to its version, the one that was asked for or else `champion`; and all that it has.
fn own_aliases(
    key: &VersionKey,
    all: Vec<AliasRecord>,
    asked: Option<&AliasName>,
) -> (Option<AliasRecord>, Vec<AliasRecord>) {
    let own: Vec<_> = all.into_iter().filter(|a| a.version == key.version).collect();
    let wanted = asked.map_or(CHAMPION, AliasName::as_str);
    let given = own.iter().find(|a| a.alias.as_str() == wanted).cloned();
    (given, own)
}

/// How long each phase took, on stderr where `--timing` asks for it.
struct Phases {
    shown: bool,
}

impl Phases {
    fn new(shown: bool) -> Self {
        Self { shown }
    }
    async fn phase<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let done = Box::pin(work).await?;
        if self.shown {
            note(&format!("{what} in {:.2} s", began.elapsed().as_secs_f64()));
        }
        Ok(done)
    }
}
