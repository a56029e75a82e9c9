//! `regent model push`: a directory becomes a version, whole or not at all.
//!
//! Order: look at the directory and hash it (nothing registered yet) → announce the version → upload what the store
//! lacks → say that it is complete → wait until an agent has verified it, until enough regions have, and, where an alias
//! points at it, until an agent has it in memory. What fails after the announcement takes it back, unless the version is
//! READY by then. A push of the same files again goes on where the last one stopped, or finds that there is nothing to do.

mod fate;
mod loaded;
pub(crate) mod progress;
mod scan;
mod store;
mod sums;
mod wait;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use client::{Client, Context, retry::mint_request_id};
use serde_json::json;
use types::{
    AliasName, Epoch, RegionId, RoleName, VersionKey,
    model::{AliasRecord, Artifact, VersionRecord, VersionState},
    reason::Refusal,
};

use self::{fate::Fate, loaded::Agents, progress::Bar, scan::Scanned, wait::Limit};
use crate::{
    args::{PushArgs, Shared},
    commands::{changed, node::PATIENCE},
    context,
    error::Failure,
    exit::Exit,
    output::{conclude, note},
    tables::{CHAMPION, alias_table, version_table},
};

/// What helps after a push that broke off.
const PUSH_AGAIN: &str = "push the same directory again: it goes on with what is there";
/// How a push ends that somebody stopped.
const STOPPED: &str = "stopped by ctrl-c";

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
    let limit = Limit::new(args.wait_timeout);
    wait::check_wanted(&client, args.wait_copies, limit).await?;
    let region = match &args.region {
        Some(region) => region.clone(),
        None => primary_region(&client, limit).await?,
    };
    let (version, announced) = announce(&client, &args, &region, &scanned, limit).await?;
    let push = Push {
        client: &client,
        context: &context,
        args: &args,
        shared: &shared,
        limit,
    };
    let outcome = tokio::select! {
        outcome = Box::pin(push.publish(version.clone(), &scanned, &clock)) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::other(STOPPED)),
    };
    match outcome {
        Ok(version) => push.finish(version, announced, &clock).await,
        Err(failure) => Err(fate::take_back(&client, &version.key, failure).await),
    }
}

/// Checks a directory as a push would, registering nothing: the error names file, finding and remedy.
#[cfg(feature = "server")]
pub(crate) async fn check(dir: &std::path::Path) -> Result<(), Failure> {
    scan::scan(dir).await.map(drop)
}

/// The region that may write now: its store is where models come from.
async fn primary_region(client: &Client, limit: Limit) -> Result<RegionId, Failure> {
    let role = RoleName::global();
    let (role, _) = limit.insist(async || client.get_role(&role).await).await?;
    role.holder.map(|holder| holder.region).ok_or_else(|| {
        let (text, remedy) = match role.epoch {
            Epoch::ZERO => (
                format!("nobody has held {} yet", role.role),
                "a cluster that has just begun gives it to somebody within seconds (`regent primary list`); or name the region to upload to with --region",
            ),
            epoch => (
                format!("nobody holds {} at {epoch}", role.role),
                "wait for the failover to end, or name the region to upload to with --region",
            ),
        };
        Failure::new(Exit::Unavailable, text).remedy(remedy)
    })
}

/// A version for these files: the one that an earlier push left or finished, else a new one. Says whether it is new.
async fn announce(
    client: &Client,
    args: &PushArgs,
    region: &RegionId,
    scanned: &Scanned,
    limit: Limit,
) -> Result<(VersionRecord, bool), Failure> {
    let artifacts: Vec<Artifact> = scanned.files.iter().map(|f| f.artifact.clone()).collect();
    let known = limit.insist(async || client.list_versions(&args.name).await);
    let known = match known.await {
        Err(refusal) if refusal.reason == types::Reason::ModelNotFound => Vec::new(),
        other => other?,
    };
    let same = |v: &&VersionRecord| v.state != VersionState::Deleted && v.artifacts == artifacts;
    if let Some(version) = known.iter().rev().find(same) {
        note(&format!(
            "{} has these files already ({})",
            version.key, version.state
        ));
        if !args.datasets.iter().all(|named| version.datasets.contains(named)) {
            note(&format!(
                "--dataset changes nothing: the data sets of {} were named when it was announced, and stay",
                version.key
            ));
        }
        if !args.metadata.is_empty() && !has(version, &args.metadata) {
            note(&format!(
                "--meta changes nothing: the metadata of {} was set when it was announced, and stays",
                version.key
            ));
        }
        return Ok((version.clone(), false));
    }
    let metadata: BTreeMap<String, String> = args.metadata.iter().cloned().collect();
    let datasets: BTreeSet<_> = args.datasets.iter().cloned().collect();
    let datasets: Vec<_> = datasets.into_iter().collect();
    // However often it is asked: it is announced once.
    let client = client.with_request_id(mint_request_id());
    let announced = limit.insist(async || {
        let (model, framework) = (&args.name, &scanned.framework);
        client
            .create_version(model, region, &artifacts, framework, metadata.clone(), &datasets)
            .await
    });
    Ok((announced.await?, true))
}

/// Whether all of this stands with the version.
fn has(version: &VersionRecord, metadata: &[(String, String)]) -> bool {
    metadata
        .iter()
        .all(|(key, value)| version.metadata.get(key) == Some(value))
}

/// A push whose version stands in the registry.
struct Push<'a> {
    client: &'a Client,
    context: &'a Context,
    args: &'a PushArgs,
    shared: &'a Shared,
    limit: Limit,
}

impl Push<'_> {
    /// From PENDING_UPLOAD to verified copies; each part is left out where it was done before.
    async fn publish(
        &self,
        mut version: VersionRecord,
        scanned: &Scanned,
        clock: &Phases,
    ) -> Result<VersionRecord, Failure> {
        let (client, limit) = (self.client, self.limit);
        if version.state == VersionState::PendingUpload {
            let region = &version.source_region;
            let target = store::open(client, self.context, region, self.shared.timeout, limit).await?;
            let bar = Bar::bytes(scanned.total());
            let upload = store::upload(target.as_ref(), &scanned.files, &bar);
            clock
                .phase("uploaded", limit.bound("uploading", region, upload))
                .await?;
            version = wait::complete(client, &version.key, limit).await?;
        }
        let waited = wait::until_ready(client, &version.key, limit);
        let version = clock.phase("verified", waited).await?;
        let copies = wait::until_copied(client, &version.key, self.args.wait_copies, limit);
        clock.phase("copied", copies).await?;
        Ok(version)
    }

    /// The alias, where one is asked for; then who serves the version, where an alias says that somebody shall.
    async fn finish(&self, version: VersionRecord, created: bool, clock: &Phases) -> Result<(), Failure> {
        let (client, limit, key) = (self.client, self.limit, &version.key);
        if let Some(alias) = &self.args.alias {
            let set = or_stopped(key, version.state, self.set_alias(key, alias)).await;
            set.map_err(|failure| {
                let how = format!(
                    "the push is done, and its alias may not be set: `regent model alias {key} {alias}` sets it"
                );
                failure.remedy(how)
            })?;
        }
        let model = &key.model;
        let aliases = limit.insist(async || client.list_aliases(model).await);
        let aliases = or_stopped(key, version.state, aliases).await?;
        let (alias, aliases) = own_aliases(key, aliases, self.args.alias.as_ref());
        let (agents, failure) = match aliases.is_empty() {
            true => (Agents::default(), None),
            false => Box::pin(clock.phase("loaded", async { Ok(self.loaded(&version).await) })).await?,
        };
        let replicas = limit.insist(async || client.list_replicas(Some(model), None).await);
        let mut replicas = or_stopped(key, version.state, replicas).await?;
        replicas.retain(|r| &r.key.version == key);
        let document = json!({
            "version": version, "created": created, "replicas": replicas, "alias": alias, "aliases": aliases,
            "loaded_in": agents.loaded_in(), "agents": agents.documents(),
        });
        conclude(self.shared.output, changed(client, document), failure, || {
            let versions = version_table(std::slice::from_ref(&version));
            if aliases.is_empty() {
                return versions;
            }
            format!("{versions}\n\n{}\n\n{agents}", alias_table(&aliases))
        })
    }

    /// However often it is asked: it is set once.
    async fn set_alias(&self, key: &VersionKey, alias: &AliasName) -> Result<AliasRecord, Refusal> {
        let client = self.client.with_request_id(mint_request_id());
        let set = async || client.set_alias(key, alias, "set by model push", None).await;
        self.limit.insist(set).await
    }

    /// Waits until an agent that has a copy has it in memory too. The push is done, whatever comes of this.
    async fn loaded(&self, version: &VersionRecord) -> (Agents, Option<Failure>) {
        let patience = PATIENCE.min(self.shared.timeout);
        let mut agents = Agents::default();
        let waited = tokio::select! {
            waited = loaded::until_loaded(self.client, &self.context.tls, &version.key, patience, self.limit, &mut agents) => waited,
            _ = tokio::signal::ctrl_c() => Err(Failure::other(STOPPED)),
        };
        let failure = waited.err().map(|failure| match failure.exit {
            Exit::Findings => failure,
            _ => Fate::Whole(version.state)
                .explain(&version.key, failure)
                .remedy(loaded::REMEDY),
        });
        (agents, failure)
    }
}

/// Work after a version is whole, which stays so whatever comes of it: ctrl-c ends the work alone.
async fn or_stopped<T>(
    key: &VersionKey,
    state: VersionState,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Failure> {
    let done = tokio::select! {
        done = Box::pin(work) => done.map_err(Failure::from),
        _ = tokio::signal::ctrl_c() => Err(Failure::other(STOPPED)),
    };
    done.map_err(|failure| Fate::Whole(state).explain(key, failure))
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
