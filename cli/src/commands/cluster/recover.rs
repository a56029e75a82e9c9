//! `regent cluster recover --unsafe`: a new cluster from one survivor's directory, after the majority is lost for good.
//!
//! Invariant: nothing is changed before what is known to be lost was said and confirmed, and while another voter answers.

use std::{path::Path, time::Duration};

use coordinator::offline::{Founded, Inspection, NewCluster, Other, Standing, Survivor};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use types::{
    NodeId, Reason,
    time::{Clock as _, SystemClock},
    units::format_duration,
};

use super::snapshot::{ca_key, described_state, failed, follow, founding, roles};
use crate::{
    args::{RecoverArgs, Shared},
    confirm::confirm,
    error::Failure,
    exit::Exit,
    output::{ago, answer, note, or_dash, table},
    serve,
};

/// How long another coordinator has to take a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// Looks, says what is lost, asks, and does it.
pub(super) async fn run(args: &RecoverArgs, shared: &Shared) -> Result<(), Failure> {
    if !args.is_unsafe && !args.dry_run {
        return Err(not_unsafe());
    }
    let config = serve::coordinator_config(&args.config)?;
    let ca_key = ca_key(&args.above, &config.tls.ca_file)?;
    let survivor = Survivor::open(&config.data_dir, &config.node).await;
    let survivor = survivor.map_err(|e| failed(&e))?;
    if args.is_unsafe
        && !args.dry_run
        && let Some(kept) = survivor.finish().map_err(|e| failed(&e))?
    {
        let at = survivor.standing().at;
        return answer(shared.output, &finished(&at, &config.data_dir, &kept), || {
            ended(&at, &config.data_dir, &kept, &args.config)
        });
    }
    let standing = survivor.standing();
    let answering = answering(&standing.others).await;
    let known = known(&standing, &answering, &config.data_dir);
    if args.dry_run {
        return answer(shared.output, &known, || text(&standing, &answering));
    }
    check_alone(&answering)?;
    note(&text(&standing, &answering));
    confirm(config.node.as_str(), &blast(&standing), args.yes, "--yes")?;
    let new = NewCluster {
        node: config.node.clone(),
        region: config.region.clone(),
        api_endpoint: config.endpoint(config.listen_api.port()),
        raft_endpoint: config.endpoint(config.listen_raft.port()),
        generation: args.above.generation,
        outstanding_ttl: args.above.longest_ttl,
        supersedes: args.above.supersedes.clone(),
        ca_key,
        at: SystemClock.now(),
        reason: format!("the cluster was recovered from {} alone", config.node),
    };
    let (founded, kept) = survivor.recover(&new).await.map_err(|e| failed(&e))?;
    let mut document = founding(&founded);
    document["from"] = known;
    document["kept"] = json!(kept.display().to_string());
    answer(shared.output, &document, || done(&founded, &kept, &args.config))
}

fn not_unsafe() -> Failure {
    let text = "a recovery gives up whatever the survivor has not stored, and ends the old cluster for good";
    Failure::new(Exit::Safety, text).remedy(
        "--dry-run shows what is known to be lost; --unsafe does it. While a majority of the voters can be started again, start \
         them: nothing is lost then",
    )
}

/// The other members whose Raft port takes connections.
async fn answering(others: &[Other]) -> Vec<NodeId> {
    let asked = others.iter().map(|other| async move {
        let address = other.raft_endpoint.trim_start_matches("https://");
        let connected = timeout(CONNECT, TcpStream::connect(address)).await;
        matches!(connected, Ok(Ok(_))).then(|| other.node.clone())
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// One that answers may have a majority, or be part of one.
fn check_alone(answering: &[NodeId]) -> Result<(), Failure> {
    if answering.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = answering.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    let text = format!("{names} still takes connections: the majority may not be lost");
    Err(Failure::new(Exit::Safety, text)
        .because(Reason::MembershipUnsafe)
        .with("answering", names)
        .remedy("stop every other coordinator of the old cluster first, for good"))
}

fn blast(standing: &Standing) -> String {
    format!(
        "everything that is not in this log up to revision {} is given up, and cluster {} ends: a new one goes on, which takes none \
         of the old one's tokens, leases and requests",
        standing.at.revision,
        or_dash(
            standing
                .at
                .cluster_id
                .map(|id| id.to_string())
                .unwrap_or_default()
        )
    )
}

/// Entries that another one is known to have stored, and this one has not.
fn missing(standing: &Standing, other: &Other) -> u64 {
    let stored = other.stored.map_or(0, |revision| revision.0);
    stored.saturating_sub(standing.at.revision.0)
}

fn known(standing: &Standing, answering: &[NodeId], data_dir: &Path) -> Value {
    let others = standing.others.iter().map(|other| {
        json!({
            "node": other.node,
            "voter": other.voter,
            "answers": answering.contains(&other.node),
            "stored": other.stored,
            "lost_at_least": missing(standing, other),
        })
    });
    let mut document = described_state(&standing.at);
    document["data_dir"] = json!(data_dir.display().to_string());
    document["committed"] = json!(standing.committed);
    document["uncommitted"] = json!(standing.at.revision.0.saturating_sub(standing.committed.0));
    document["others"] = others.collect();
    document
}

fn text(standing: &Standing, answering: &[NodeId]) -> String {
    let at = &standing.at;
    let uncommitted = at.revision.0.saturating_sub(standing.committed.0);
    let head = [
        (
            "cluster",
            or_dash(at.cluster_id.map(|id| id.to_string()).unwrap_or_default()),
        ),
        ("generation", at.generation.to_string()),
        (
            "log ends at",
            format!(
                "{} (term {}), as of {} ({})",
                at.revision,
                at.term,
                at.time.rfc3339(),
                ago(at.time)
            ),
        ),
        (
            "committed",
            format!(
                "{} for sure; the {uncommitted} behind it are taken in as well",
                standing.committed
            ),
        ),
    ];
    let head: Vec<String> = head
        .iter()
        .map(|(name, value)| format!("{name:<13}{value}"))
        .collect();
    [head.join("\n"), others(standing, answering), roles(at)].join("\n\n")
}

fn others(standing: &Standing, answering: &[NodeId]) -> String {
    let rows = standing.others.iter().map(|other| {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let lost = match missing(standing, other) {
            0 => "nothing is known to be".to_owned(),
            count => format!("{count} entries at least"),
        };
        let stored = other.stored.map_or_else(|| "-".to_owned(), |r| r.to_string());
        [
            other.node.to_string(),
            yes(other.voter),
            yes(answering.contains(&other.node)),
            stored,
            lost,
        ]
    });
    table(["MEMBER", "VOTES", "ANSWERS", "STORED", "LOST WITH IT"], rows)
}

fn finished(at: &Inspection, data_dir: &Path, kept: &Path) -> Value {
    json!({
        "finished": true,
        "cluster_id": at.cluster_id,
        "generation": at.generation,
        "data_dir": data_dir.display().to_string(),
        "kept": kept.display().to_string(),
    })
}

/// Of a recovery that an earlier run had done, but for the old directory's name.
fn ended(at: &Inspection, data_dir: &Path, kept: &Path, config: &Path) -> String {
    let cluster = at.cluster_id.map(|id| id.to_string()).unwrap_or_default();
    format!(
        "an earlier run was cut off after it had put the new cluster in place; its last step is done now, and no other cluster was \
         made\n\nnew cluster   {cluster}\ngeneration    {}\ndata_dir      {}\nkept          {}\n\nnext: regent coordinator --config {}; \
         `regent cluster rebind` tells what the doors follow by",
        at.generation,
        data_dir.display(),
        kept.display(),
        config.display(),
    )
}

fn done(founded: &Founded, kept: &Path, config: &Path) -> String {
    format!(
        "new cluster   {}\ngeneration    {} (was {})\nbegins at     revision {}\ndata_dir      {}\nkept          {}\n\nnext:\n  1. regent \
         coordinator --config {}\n  2. the other coordinators join it with empty data directories; with their old ones they are \
         refused\n  3. {}\n  roles are given out after the longest old lease, {} and a tenth",
        founded.cluster_id,
        founded.generation,
        founded.from.generation,
        founded.revision,
        founded.data_dir.display(),
        kept.display(),
        config.display(),
        follow(founded),
        format_duration(founded.waits),
    )
}
