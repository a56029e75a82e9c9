//! What needs no cluster: looking at a saved file, and founding a new cluster from it.

use std::path::Path;

use client::{CaKey, CaVerifier};
use coordinator::offline::{self, Founded, Inspection, NewCluster, OfflineError};
use serde_json::{Value, json};
use types::{
    ByteCount, Reason, SignedRebind,
    time::{Clock as _, SystemClock},
    units::format_duration,
};

use crate::{
    args::{AboveArgs, OutputFormat, RestoreArgs},
    error::Failure,
    exit::Exit,
    output::{ago, answer, size, table},
    serve,
};

/// Checks a file and says what is in it.
pub(super) fn inspect(file: &Path, format: OutputFormat) -> Result<(), Failure> {
    let found = offline::inspect(file).map_err(|e| failed(&e))?;
    answer(format, &described(&found, file), || {
        format!("{} is whole\n\n{}", file.display(), describe(&found))
    })
}

/// Makes the data directory of a new cluster.
pub(super) async fn restore(args: &RestoreArgs, format: OutputFormat) -> Result<(), Failure> {
    let config = serve::coordinator_config(&args.config)?;
    let new = NewCluster {
        node: config.node.clone(),
        region: config.region.clone(),
        api_endpoint: config.endpoint(config.listen_api.port()),
        raft_endpoint: config.endpoint(config.listen_raft.port()),
        generation: args.above.generation,
        outstanding_ttl: args.above.longest_ttl,
        supersedes: args.above.supersedes.clone(),
        ca_key: ca_key(&args.above, &config.tls.ca_file)?,
        at: SystemClock.now(),
        reason: "the cluster was restored from a snapshot".to_owned(),
    };
    let founded = offline::restore(&args.file, &config.data_dir, &new).await;
    let founded = founded.map_err(|e| failed(&e))?;
    let mut document = founding(&founded);
    document["from"] = described(&founded.from, &args.file);
    answer(format, &document, || {
        format!(
            "{}\n\nrestored from {} as of revision {}, {}\n\nnext:\n{}",
            summary(&founded),
            args.file.display(),
            founded.from.revision,
            ago(founded.from.time),
            next(&founded, &args.config)
        )
    })
}

fn summary(founded: &Founded) -> String {
    format!(
        "new cluster   {}\ngeneration    {} (was {})\nbegins at     revision {}\ndata_dir      {}",
        founded.cluster_id,
        founded.generation,
        founded.from.generation,
        founded.revision,
        founded.data_dir.display()
    )
}

fn next(founded: &Founded, config: &Path) -> String {
    let waits = format_duration(founded.waits);
    format!(
        "  1. regent coordinator --config {}\n  2. the other coordinators join it with empty data directories\n  3. {}\n  roles are given out \
         after the longest old lease, {waits} and a tenth",
        config.display(),
        follow(founded)
    )
}

/// What becomes of the doors of the old cluster.
pub(in super::super) fn follow(founded: &Founded) -> &'static str {
    match founded.rebinds.iter().all(SignedRebind::is_signed) {
        true => {
            "name its coordinators to the agents: they, their pointers and databases follow by the signed statement"
        }
        false => {
            "agents, pointers and databases stay with the old cluster until the CA has signed that they follow: `regent cluster \
             rebind sign --ca-key FILE`, or `rebind statement` and `rebind record` where the key is kept elsewhere"
        }
    }
}

/// The key that is to sign that doors may follow, if there is one. It must be that of the CA that they trust.
pub(in super::super) fn ca_key(args: &AboveArgs, ca_file: &Path) -> Result<Option<CaKey>, Failure> {
    let Some(file) = &args.ca_key else {
        return Ok(None);
    };
    let ca = CaVerifier::load(ca_file)?;
    super::super::rebind::load_key(file, &ca).map(Some)
}

/// What a founding came to, for programs.
pub(in super::super) fn founding(founded: &Founded) -> Value {
    json!({
        "cluster_id": founded.cluster_id,
        "generation": founded.generation,
        "revision": founded.revision,
        "data_dir": founded.data_dir.display().to_string(),
        "disk_id": founded.disk.map(|disk| disk.to_string()),
        "rebinds": super::super::rebind::documents(&founded.rebinds),
        "waits_for_old_leases": format_duration(founded.waits),
    })
}

/// What a snapshot holds, for programs.
pub(super) fn described(found: &Inspection, file: &Path) -> Value {
    let mut document = described_state(found);
    document["file"] = json!(file.display().to_string());
    document["size_bytes"] = json!(found.size);
    document["sha256"] = json!(found.sha256.hex());
    document
}

/// What a state holds, wherever it was read.
pub(in super::super) fn described_state(found: &Inspection) -> Value {
    let members = found.members.iter().map(|(peer, voter)| {
        json!({
            "node": peer.node,
            "region": peer.region,
            "voter": voter,
            "raft_endpoint": peer.raft_endpoint,
            "api_endpoint": peer.api_endpoint,
            "disk_id": peer.disk.map(|disk| disk.to_string()),
        })
    });
    let counts = &found.counts;
    json!({
        "cluster_id": found.cluster_id,
        "generation": found.generation,
        "feature_level": found.feature_level,
        "revision": found.revision,
        "term": found.term,
        "time": found.time,
        "state_hash": found.state_hash.to_string(),
        "members": members.collect::<Vec<_>>(),
        "counts": {
            "regions": counts.regions,
            "nodes": counts.nodes,
            "models": counts.models,
            "versions": counts.versions,
            "aliases": counts.aliases,
            "copies": counts.replicas,
            "roles": counts.roles,
            "plans": counts.plans,
            "answered_requests": counts.answered,
        },
        "roles": found.roles,
    })
}

/// The same for people.
fn describe(found: &Inspection) -> String {
    let cluster = found
        .cluster_id
        .map_or_else(|| "none yet".to_owned(), |id| id.to_string());
    let head = [
        ("cluster", cluster),
        ("generation", found.generation.to_string()),
        ("revision", format!("{} (term {})", found.revision, found.term)),
        (
            "state time",
            format!("{} ({})", found.time.rfc3339(), ago(found.time)),
        ),
        ("features", format!("level {}", found.feature_level)),
        (
            "size",
            format!("{} ({} bytes)", size(ByteCount(found.size)), found.size),
        ),
        ("sha256", found.sha256.hex()),
        ("state hash", found.state_hash.to_string()),
    ];
    let head: Vec<String> = head
        .iter()
        .map(|(name, value)| format!("{name:<12}{value}"))
        .collect();
    [head.join("\n"), counts(found), members(found), roles(found)].join("\n\n")
}

fn counts(found: &Inspection) -> String {
    let c = &found.counts;
    let row = [
        c.regions, c.nodes, c.models, c.versions, c.aliases, c.replicas, c.roles, c.plans,
    ];
    let headings = [
        "REGIONS", "NODES", "MODELS", "VERSIONS", "ALIASES", "COPIES", "ROLES", "PLANS",
    ];
    table(headings, [row.map(|count| count.to_string())])
}

fn members(found: &Inspection) -> String {
    let rows = found.members.iter().map(|(peer, voter)| {
        let votes = if *voter { "yes" } else { "no" };
        [peer.node.to_string(), peer.region.to_string(), votes.to_owned()]
    });
    table(["COORDINATOR", "REGION", "VOTES"], rows)
}

pub(in super::super) fn roles(found: &Inspection) -> String {
    let rows = found.roles.iter().map(|role| {
        let holder = role.holder.as_ref();
        let holder = holder.map_or_else(|| "-".to_owned(), ToString::to_string);
        [role.role.to_string(), role.epoch.to_string(), holder]
    });
    table(["ROLE", "EPOCH", "HOLDER"], rows)
}

/// A file or directory that cannot be used, with what helps.
pub(in super::super) fn failed(error: &OfflineError) -> Failure {
    let text = error.to_string();
    match error {
        OfflineError::File { path, source, .. } => {
            Failure::new(Exit::of_io(source.kind()), text).with("file", path.display())
        }
        OfflineError::Damaged { path, offset, .. } => {
            let failure = Failure::other(text)
                .because(Reason::DigestMismatch)
                .with("file", path.display())
                .remedy("take another copy: nothing in this one can be relied on, and nothing was changed");
            match offset {
                Some(offset) => failure.with("offset", offset),
                None => failure,
            }
        }
        OfflineError::TooNew { path, .. } => Failure::new(Exit::Precondition, text)
            .because(Reason::FeatureLevel)
            .with("file", path.display()),
        OfflineError::NotEmpty { path } => Failure::new(Exit::Safety, text)
            .with("directory", path.display())
            .remedy("set data_dir in the config to a directory that is empty or not there yet"),
        OfflineError::LeftOver { path } => Failure::new(Exit::Precondition, text)
            .with("directory", path.display())
            .remedy("put it aside under another name, and run this again"),
        OfflineError::OtherNode { .. } => {
            Failure::new(Exit::Precondition, text).remedy("name a coordinator of that region, or a new name")
        }
        OfflineError::Unrecoverable(_) => Failure::new(Exit::Precondition, text),
        OfflineError::Unsigned(_) => Failure::new(Exit::Usage, text),
        OfflineError::Directory(_) => Failure::other(serve::chain(error)),
    }
}
