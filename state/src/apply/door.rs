//! The registry's own fencing door (L12): what it sees, what it says, and its record of both.

use policy::fence::{self, Refused};
use types::{
    Epoch, FencingToken, ModelName, Principal,
    planted::{self, Bug},
};

use super::{Outcome, change::Change};
use crate::{
    command::{Command, Entry},
    features::Feature,
    rejection::Rejection,
    reply::DoorRecord,
    state::ControlState,
};

/// The token that a command shows, if it shows one. Exhaustive, so that a new guarded command is not forgotten.
fn token(command: &Command) -> Option<&FencingToken> {
    match command {
        Command::SetModelTags { token, .. } => token.as_ref(),
        Command::InitCluster { .. }
        | Command::SetTiming { .. }
        | Command::MarkTime { .. }
        | Command::SetElectionTiming { .. }
        | Command::SetLeaderPreference { .. }
        | Command::RecordRebind { .. }
        | Command::SetFeatureLevel { .. }
        | Command::RegisterRegion { .. }
        | Command::CreateRegion { .. }
        | Command::UpdateRegion { .. }
        | Command::DeleteRegion { .. }
        | Command::RemoveNode { .. }
        | Command::AttachStore { .. }
        | Command::SetRegionHealth { .. }
        | Command::RegisterNode { .. }
        | Command::SetNodeStatus { .. }
        | Command::CreateModel { .. }
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
        | Command::RetireTtl { .. }
        | Command::SetRoleCandidates { .. }
        | Command::StartPlan { .. }
        | Command::StartStep { .. }
        | Command::FinishStep { .. }
        | Command::Fence { .. }
        | Command::Promote { .. }
        | Command::FailPlan { .. }
        | Command::CreateExperiment { .. }
        | Command::SetExperimentSplit { .. }
        | Command::ReportExperiment { .. }
        | Command::EndExperiment { .. }
        | Command::SetVersionMetrics { .. }
        | Command::RegisterService { .. }
        | Command::DeregisterService { .. }
        | Command::SetPreferences { .. }
        | Command::RemoveCoordinator { .. } => None,
    }
}

/// What the door sees before the command is handled.
pub(super) fn look(state: &ControlState, entry: &Entry) -> Option<DoorRecord> {
    let token = token(&entry.command)?;
    let role = state.role(&token.role);
    Some(DoorRecord {
        role: token.role.clone(),
        shown: token.epoch,
        shown_holder: token.holder.clone(),
        current: role.map_or(Epoch::ZERO, |r| r.epoch),
        holder: role.and_then(|r| r.holder.clone()),
        accepted: false,
        reason: None,
    })
}

/// The record with what became of the command.
pub(super) fn decided(record: DoorRecord, outcome: &Outcome) -> DoorRecord {
    let reason = outcome.as_ref().err().map(Rejection::reason);
    DoorRecord {
        accepted: outcome.is_ok(),
        reason,
        ..record
    }
}

/// That the token is exactly the committed cluster, role, epoch and holder, that the role guards the model, and that its holder
/// itself shows it.
pub(super) fn check(change: &Change<'_>, model: &ModelName, token: &FencingToken) -> Result<(), Rejection> {
    let cluster = change.cluster()?.cluster_id;
    if token.cluster_id != cluster {
        let refused = Refused::WrongCluster {
            shown: token.cluster_id,
            current: cluster,
        };
        return Err(Box::new(refused).into());
    }
    let role = change.role(&token.role)?;
    check_guard(change, model, token)?;
    if !planted::has(Bug::OpenRegistry) {
        fence::at_registry(&role.record, cluster, token)?;
    }
    match change.actor() {
        Principal::Agent { region, node } if *region == token.holder.region && *node == token.holder.node => {
            Ok(())
        }
        actor @ (Principal::Agent { .. } | Principal::Coordinator { .. } | Principal::User { .. }) => {
            Err(Rejection::WrongSender {
                holder: token.holder.clone(),
                actor: actor.clone(),
            })
        }
    }
}

/// That the token is of the role that guards the model. Whoever holds another one has no say here, however current it is. That
/// role exists, so it will not guard the model later either: see [`fence::guard_of`].
fn check_guard(change: &Change<'_>, model: &ModelName, token: &FencingToken) -> Result<(), Rejection> {
    let guard = fence::guard_of(model, |role| change.state.roles.contains_key(role));
    if token.role == guard || !change.features().has(Feature::GuardedModels) {
        return Ok(());
    }
    let refused = Refused::WrongRole {
        shown: token.role.clone(),
        current: guard,
    };
    Err(Box::new(refused).into())
}

/// That somebody who shows no token acts for a person. A process writes under a role or not at all: else a stale one
/// would get past the door by leaving its token out (L12). There is nothing to record: a door's record names the epoch
/// that was shown.
pub(super) fn may_write_without_token(change: &Change<'_>) -> Result<(), Rejection> {
    match change.actor() {
        Principal::User { .. } => Ok(()),
        actor @ (Principal::Agent { .. } | Principal::Coordinator { .. }) => {
            Err(Rejection::PermissionDenied {
                actor: actor.clone(),
                needs: "the fencing token of the role that it holds: show it with the write".to_owned(),
            })
        }
    }
}
