//! `regent cluster members`, and what else is said of the membership: who votes, who left, which losses are survived.

use proto::v1::{GetStatusResponse, Member, RegionSurvival, RemovedMember};
use serde_json::{Value, json};
use types::UnixMillis;

use super::{settled, show, verdict::Round};
use crate::{
    args::Shared,
    context,
    error::Failure,
    output::{ago, conclude, or_dash, table},
};

const HEADINGS: [&str; 8] = [
    "REGION", "NODE", "VOTES", "LEADER", "SILENT", "LOG", "LAG", "DISK",
];

pub(super) async fn run(shared: &Shared) -> Result<(), Failure> {
    let context = context::load(shared)?;
    context::check_trust(&context.tls)?;
    let round = settled(&context, shared).await;
    let members = round.members();
    let mut document = document(&round);
    document["members"] = json!(members.iter().map(show::member).collect::<Vec<_>>());
    conclude(shared.output, document, round.failure(), || {
        let table = table(HEADINGS, members.iter().map(row));
        std::iter::once(table)
            .chain(lines(&round))
            .collect::<Vec<_>>()
            .join("\n\n")
    })
}

fn time(millis: Option<u64>) -> String {
    or_dash(millis.map(show::duration).unwrap_or_default())
}

pub(super) fn row(member: &Member) -> [String; 8] {
    let votes = match (member.voter, member.witness) {
        (true, true) => "witness",
        (true, false) => "yes",
        (false, _) => "no",
    };
    [
        member.region.clone(),
        member.node.clone(),
        votes.to_owned(),
        if member.leader { "yes" } else { "-" }.to_owned(),
        time(member.silent_millis),
        member
            .matched_index
            .map_or_else(|| "-".to_owned(), |index| index.to_string()),
        time(member.lag_millis),
        or_dash(member.disk_id.as_str()),
    ]
}

/// What is known of the membership beyond the members: by the leader, else by whoever answers.
pub(super) fn document(round: &Round) -> Value {
    let best = round.best();
    json!({
        "removed": best.map(|s| s.removed.iter().map(removed).collect::<Vec<_>>()),
        "changing_membership": best.map(|s| s.changing_membership),
        "region_survival": survival_of(round).map(|s| json!({
            "survives": s.survives,
            "why": why(s, best.map_or(&[], |b| &b.members)),
            "dies_with": (!s.survives).then_some(&s.region),
        })),
    })
}

/// The same for people.
pub(super) fn lines(round: &Round) -> Vec<String> {
    let best = round.best();
    let members = best.map_or(&[][..], |status| &status.members);
    let survival = match survival_of(round) {
        Some(survival) => {
            let yes = if survival.survives { "yes" } else { "no" };
            format!(
                "survives the loss of any one region: {yes}, because {}",
                why(survival, members)
            )
        }
        None => {
            "survives the loss of any one region: unknown, because only a leader knows who answers".to_owned()
        }
    };
    let changing = best.filter(|s| s.changing_membership);
    let changing =
        changing.map(|_| "a change of membership is under way: two sets of voters must agree".to_owned());
    let removed = best.filter(|s| !s.removed.is_empty()).map(|s| {
        let rows = s.removed.iter().map(removed_row);
        table(["REMOVED", "DISK", "WHEN", "BY"], rows)
    });
    std::iter::once(survival).chain(changing).chain(removed).collect()
}

fn survival_of(round: &Round) -> Option<&RegionSurvival> {
    round
        .best()
        .and_then(|status: &GetStatusResponse| status.region_survival.as_ref())
}

fn why(survival: &RegionSurvival, members: &[Member]) -> String {
    let voters = members.iter().filter(|m| m.voter).count();
    match survival.survives {
        true => format!("whichever it is, a majority of the {voters} voters is left"),
        false => format!(
            "with {} lost, {} of {voters} voters are left that answer, and a majority is {}",
            survival.region, survival.left, survival.needed
        ),
    }
}

fn removed(removed: &RemovedMember) -> Value {
    json!({
        "node": removed.node,
        "disk_id": removed.disk_id,
        "removed_at": UnixMillis(removed.removed_at_millis),
        "removed_by": removed.removed_by,
    })
}

fn removed_row(removed: &RemovedMember) -> [String; 4] {
    [
        removed.node.clone(),
        or_dash(removed.disk_id.as_str()),
        ago(UnixMillis(removed.removed_at_millis)),
        removed.removed_by.clone(),
    ]
}
