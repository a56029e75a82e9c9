//! `regent cluster remove` and `regent cluster replace`: taking a coordinator out, and putting another in its place.
//!
//! Whether it is safe says the leader. Here is the order: a successor with a name of its own votes before the old one leaves;
//! the same name can come back only after its old disk has left.

use std::time::Duration;

use client::{Client, calls::RemoveMember};
use proto::v1::{Member, RemoveMemberResponse};
use serde_json::json;
use tokio::time::{Instant, sleep};
use types::{NodeId, Reason, reason::Refusal};

use super::show;
use crate::{
    args::{LeaveArgs, RemoveArgs, ReplaceArgs, Shared},
    commands::{asker, changed},
    confirm::confirm,
    context,
    error::Failure,
    exit::Exit,
    output::{answer, note},
};

/// How often the members are read while a successor is waited for.
const POLL: Duration = Duration::from_millis(300);

/// Takes one out.
pub(super) async fn remove(args: RemoveArgs, shared: &Shared) -> Result<(), Failure> {
    let client = asker(shared, &args.again)?;
    let member = member_of(&client, &args.node).await?;
    ask(&args.node, member.as_ref(), &args.how)?;
    let done = take_out(&client, &args.node, member.as_ref(), &args.how).await?;
    tell(&client, shared, &args.node, &done, args.how.dry_run)
}

/// Takes one out and sees another in.
pub(super) async fn replace(args: ReplaceArgs, shared: &Shared) -> Result<(), Failure> {
    let client = context::client(shared)?.with_answers_noted();
    let old = member_of(&client, &args.node).await?;
    match args.with.clone() {
        Some(new) => replace_with(&client, &args, old, &new, shared).await,
        None => replace_disk(&client, &args, old, shared).await,
    }
}

async fn replace_with(
    client: &Client,
    args: &ReplaceArgs,
    old: Option<Member>,
    new: &NodeId,
    shared: &Shared,
) -> Result<(), Failure> {
    if *new == args.node {
        return Err(
            Failure::usage(format!("{new} cannot take its own place under --with"))
                .remedy("leave --with out: the same name comes back with an empty data directory"),
        );
    }
    ask(&args.node, old.as_ref(), &args.how)?;
    if !args.how.dry_run {
        note(&format!(
            "1 of 2: waiting until {new} votes; start it with `join` and an empty data directory, if it is not running"
        ));
        wait_for(client, new, None, args.wait_timeout).await?;
        note(&format!("2 of 2: taking {} out", args.node));
    }
    let done = take_out(client, &args.node, old.as_ref(), &args.how).await?;
    tell(client, shared, &args.node, &done, args.how.dry_run)
}

async fn replace_disk(
    client: &Client,
    args: &ReplaceArgs,
    old: Option<Member>,
    shared: &Shared,
) -> Result<(), Failure> {
    ask(&args.node, old.as_ref(), &args.how)?;
    let gone = old.as_ref().map(|member| member.disk_id.clone());
    if !args.how.dry_run {
        note(&format!("1 of 2: taking the old disk of {} out", args.node));
    }
    let mut done = take_out(client, &args.node, old.as_ref(), &args.how).await?;
    if !args.how.dry_run && !args.no_wait {
        note(&format!(
            "2 of 2: waiting until {} votes again; start it with `join` and an empty data directory",
            args.node
        ));
        done.members = wait_for(client, &args.node, gone.as_deref(), args.wait_timeout).await?;
    }
    tell(client, shared, &args.node, &done, args.how.dry_run)
}

fn ask(node: &NodeId, member: Option<&Member>, how: &LeaveArgs) -> Result<(), Failure> {
    let disk = member
        .map(|m| format!(" (disk {})", m.disk_id))
        .unwrap_or_default();
    let blast =
        format!("this takes coordinator {node}{disk} out of the cluster, and its disk never comes back");
    confirm(node.as_str(), &blast, how.yes || how.dry_run, "--yes")
}

/// The member of this name, as the leader knows it now; of one that is gone the leader knows more than the members do.
async fn member_of(client: &Client, node: &NodeId) -> Result<Option<Member>, Failure> {
    let status = client.status().await?;
    Ok(status.members.into_iter().find(|m| m.node == node.as_str()))
}

async fn take_out(
    client: &Client,
    node: &NodeId,
    member: Option<&Member>,
    how: &LeaveArgs,
) -> Result<RemoveMemberResponse, Failure> {
    let request = RemoveMember {
        node: node.clone(),
        disk_id: member.map(|m| m.disk_id.clone()).unwrap_or_default(),
        validate_only: how.dry_run,
        accept_region_loss: how.accept_region_loss,
    };
    client
        .remove_member(&request)
        .await
        .map_err(|refusal| explain(refusal, node))
}

fn explain(refusal: Refusal, node: &NodeId) -> Failure {
    let risk = refusal.operand("rule") == Some("region_survival");
    let failure = Failure::from(refusal);
    if risk {
        return failure.remedy(format!(
            "`regent cluster replace {node} --with NEW` puts a successor in first; --accept-region-loss does without"
        ));
    }
    failure.or_ask_again("`regent cluster members` shows who is left; asking again goes on where it ended")
}

/// Until this name votes, with another disk than `not`.
async fn wait_for(
    client: &Client,
    node: &NodeId,
    not: Option<&str>,
    patience: Duration,
) -> Result<Vec<Member>, Failure> {
    let end = Instant::now() + patience;
    loop {
        // A leader may change meanwhile, and a status without one says less.
        if let Ok(status) = client.status().await {
            let votes = |m: &Member| m.node == node.as_str() && m.voter && not != Some(m.disk_id.as_str());
            if status.members.iter().any(votes) && !status.changing_membership {
                return Ok(status.members);
            }
        }
        if Instant::now() >= end {
            let message = format!("{node} does not vote yet");
            return Err(Failure::new(Exit::Unavailable, message)
                .because(Reason::Unreachable)
                .with("node", node)
                .remedy("look at its log, and ask again: what is done already stays done"));
        }
        sleep(POLL).await;
    }
}

fn tell(
    client: &Client,
    shared: &Shared,
    node: &NodeId,
    done: &RemoveMemberResponse,
    dry_run: bool,
) -> Result<(), Failure> {
    let document = json!({
        "node": node,
        "dry_run": dry_run,
        "steps": done.steps,
        "warnings": done.warnings,
        "members": done.members.iter().map(show::member).collect::<Vec<_>>(),
    });
    answer(shared.output, &changed(client, document), || {
        human(node, done, dry_run)
    })
}

fn human(node: &NodeId, done: &RemoveMemberResponse, dry_run: bool) -> String {
    let members: Vec<_> = done
        .members
        .iter()
        .map(|m| format!("{}/{}", m.region, m.node))
        .collect();
    let head = match (dry_run, done.steps.is_empty()) {
        (true, false) => format!("would take {node} out: {}", done.steps.join("; ")),
        (_, true) => format!("{node} was taken out before"),
        (false, false) => format!("{node} is out: {}", done.steps.join("; ")),
    };
    let warnings = done.warnings.iter().map(|warning| format!("warning: {warning}"));
    std::iter::once(head)
        .chain(warnings)
        .chain([format!("members: {}", members.join(", "))])
        .collect::<Vec<_>>()
        .join("\n")
}
