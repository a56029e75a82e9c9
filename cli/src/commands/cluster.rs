//! `regent cluster …`: what each coordinator says of itself, also without a quorum; who votes, and who leaves.
//!
//! Everything that decides is in [`verdict`], and pure; here are the calls.

mod elections;
mod leave;
mod levels;
mod members;
mod rebind;
#[cfg(feature = "server")]
mod recover;
mod show;
mod snapshot;
#[cfg(test)]
mod tests;
mod verdict;

use std::time::{Duration, Instant};

use client::{Client, Context};
use futures::future::join_all;
use proto::v1::GetStatusResponse;
use serde_json::json;
use tokio::time::sleep;
use types::{
    reason::{Reason, Refusal},
    role::{FailoverMode, RoleRecord},
};

use self::verdict::{Asked, Round};
use crate::{
    args::{ClusterCommand, Shared},
    context,
    error::Failure,
    output::{conclude, table},
};

/// A dead coordinator must not hold the table up for the whole time limit; nor may one that nobody misses yet.
const ROUND: Duration = Duration::from_secs(2);
/// Between two questions about a leader that does not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs one.
pub(crate) async fn run(command: ClusterCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status => status(&shared).await,
        ClusterCommand::Members => members::run(&shared).await,
        ClusterCommand::Remove(args) => leave::remove(args, &shared).await.map_err(among_members),
        ClusterCommand::Replace(args) => leave::replace(args, &shared).await.map_err(among_members),
        ClusterCommand::Timing(command) => elections::timing(command, &shared).await,
        ClusterCommand::Prefer(args) => elections::prefer(&args, &shared).await,
        ClusterCommand::TransferLeader(args) => {
            elections::transfer(&args, &shared).await.map_err(among_members)
        }
        #[cfg(feature = "server")]
        ClusterCommand::Recover(args) => Box::pin(recover::run(&args, &shared)).await,
        ClusterCommand::Rebind(command) => rebind::run(command, &shared).await,
        ClusterCommand::Snapshot(command) => Box::pin(snapshot::run(command, &shared)).await,
    }
}

/// One that is no member is looked for among the members, not among all nodes.
fn among_members(failure: Failure) -> Failure {
    match failure.reason {
        Some(Reason::NodeNotFound) => {
            failure.remedy("`regent cluster members` shows the coordinators that there are")
        }
        _ => failure,
    }
}

async fn status(shared: &Shared) -> Result<(), Failure> {
    let context = context::load(shared)?;
    // Files of the own identity that cannot be used are nobody's silence; nor is a certificate that is over.
    context::check_trust(&context.tls)?;
    let (round, paused) = tokio::join!(settled(&context, shared), paused_roles(&context, shared));
    let failure = round.failure();
    let members = round.members();
    let levels = levels::of(&round);
    let mut document = json!({
        "cluster_id": round.cluster_id(),
        "has_quorum": failure.is_none(),
        "coordinators": round.asked.iter().map(|a| show::document(a, &members)).collect::<Vec<_>>(),
        "members": members.iter().map(show::member).collect::<Vec<_>>(),
        "elections": round.best().map(elections::document),
        "features": levels.as_ref().map(levels::Levels::document),
        "paused_roles": paused.as_ref().map(|roles| roles.iter().map(show::paused).collect::<Vec<_>>()),
    });
    if let (Some(all), Some(more)) = (document.as_object_mut(), members::document(&round).as_object()) {
        all.extend(more.clone());
    }
    conclude(shared.output, document, failure, || {
        let rows = round.asked.iter().map(|a| show::row(a, &members));
        let table = table(show::HEADINGS, rows);
        let lines = match &paused {
            Some(roles) => roles.iter().map(show::paused_line).collect(),
            None => vec![show::PAUSED_UNKNOWN.to_owned()],
        };
        std::iter::once(table)
            .chain(round.clusters())
            .chain(show::states(&round.asked))
            .chain(members::lines(&round))
            .chain(levels.as_ref().map(levels::Levels::line))
            .chain(round.best().map(elections::text))
            .chain(lines)
            .collect::<Vec<_>>()
            .join("\n\n")
    })
}

/// The roles whose failovers somebody holds; `None` where no quorum answers: it is never told stale.
async fn paused_roles(context: &Context, shared: &Shared) -> Option<Vec<RoleRecord>> {
    let client = context::connect_checked(context, shared).ok()?;
    let roles = client.with_deadline(shared.timeout.min(ROUND)).list_roles().await;
    let mut roles = roles.ok()?;
    roles.retain(|role| matches!(role.mode, FailoverMode::Paused { .. }));
    Some(roles)
}

/// Asks everybody once; and, where the leader does not answer, those who do until it is clear whether they have one.
async fn settled(context: &Context, shared: &Shared) -> Round {
    let asked = join_all(context.endpoints.iter().map(|e| ask(e, context, shared))).await;
    let missed = Instant::now();
    let mut round = Round {
        asked,
        after: Duration::ZERO,
    };
    while round.is_open() && missed.elapsed() < shared.timeout.min(ROUND) {
        sleep(PAUSE).await;
        round.after = missed.elapsed();
        round.asked = join_all(round.asked.into_iter().map(|a| ask_again(a, context, shared))).await;
    }
    round
}

/// Whoever did not answer is not waited for twice.
async fn ask_again(asked: Asked, context: &Context, shared: &Shared) -> Asked {
    if asked.answer.is_err() {
        return asked;
    }
    ask(&asked.endpoint, context, shared).await
}

/// Asks this coordinator and no other.
async fn ask(endpoint: &str, context: &Context, shared: &Shared) -> Asked {
    let alone = Context {
        endpoints: vec![endpoint.to_owned()],
        ..context.clone()
    };
    let answer = match context::connect_checked(&alone, shared) {
        Ok(client) => own_status(&client, shared).await,
        Err(failure) => Err(Refusal::new(types::Reason::Unreachable, failure.message)),
    };
    Asked {
        endpoint: endpoint.to_owned(),
        answer,
    }
}

async fn own_status(client: &Client, shared: &Shared) -> Result<GetStatusResponse, Refusal> {
    client.with_deadline(shared.timeout.min(ROUND)).status().await
}
