//! The rules, one file per family of commands.
//!
//! Each handler is check, then change, then reply; nothing is checked after the first change, so a refusal leaves no
//! trace. Records are written through [`change::Change`] only, which makes the event of each write.

mod change;
mod cluster;
mod nodes;
mod regions;
mod text;

use crate::{
    command::{Command, Entry},
    rejection::Rejection,
    reply::{Applied, Reply},
    state::ControlState,
};
use change::Change;

type Outcome = Result<Reply, Rejection>;

/// Applies a command whose request id is new.
pub(crate) fn dispatch(state: &mut ControlState, entry: &Entry) -> Applied {
    let mut change = Change::new(state, entry);
    let outcome = handle(&mut change, &entry.command);
    let events = change.into_events();
    Applied {
        outcome,
        events,
        door: None,
    }
}

fn handle(change: &mut Change<'_>, command: &Command) -> Outcome {
    let initialised = change.state.cluster.is_some();
    if !initialised && !matches!(command, Command::InitCluster { .. }) {
        return Err(Rejection::NotBootstrapped);
    }
    match command {
        Command::InitCluster {
            cluster_id,
            generation,
            timing,
        } => cluster::init(change, *cluster_id, *generation, timing),
        Command::SetTiming { timing } => cluster::set_timing(change, timing),
        Command::SetFeatureLevel { level } => cluster::set_feature_level(change, *level),
        Command::RegisterRegion { region } => regions::register(change, region),
        Command::AttachStore { region, store } => regions::attach_store(change, region, store),
        Command::SetRegionHealth {
            region,
            from,
            to,
            evidence,
        } => regions::set_health(change, region, *from, *to, evidence),
        Command::RegisterNode { .. } => nodes::register(change, command),
        Command::SetNodeStatus {
            node,
            incarnation,
            status,
        } => nodes::set_status(change, node, *incarnation, *status),
        Command::CreateModel { .. }
        | Command::SetModelTags { .. }
        | Command::CreateVersion { .. }
        | Command::CompleteUpload { .. }
        | Command::AbortVersion { .. }
        | Command::DeprecateVersion { .. }
        | Command::DeleteVersion { .. }
        | Command::SetAlias { .. }
        | Command::DeleteAlias { .. }
        | Command::ReportReplica { .. }
        | Command::CreateRole { .. }
        | Command::SetRoleMode { .. }
        | Command::SetRoleTiming { .. }
        | Command::SetRoleCandidates { .. }
        | Command::StartPlan { .. }
        | Command::StartStep { .. }
        | Command::FinishStep { .. }
        | Command::Fence { .. }
        | Command::Promote { .. }
        | Command::FailPlan { .. } => Err(Rejection::invalid("command", "its family has no rules yet")),
    }
}
