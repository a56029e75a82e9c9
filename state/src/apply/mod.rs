//! The rules, one file per family of commands.
//!
//! Each handler is check, then change, then reply; nothing is checked after the first change, so a refusal leaves no
//! trace. Records are written through [`change::Change`] only, which makes the event of each write.

mod aliases;
mod change;
mod cluster;
mod door;
mod elections;
pub(crate) mod expects;
mod experiments;
mod lineage;
mod members;
mod models;
mod nodes;
mod plans;
mod preferences;
mod primary;
mod rebinds;
mod regions;
mod replicas;
mod services;
mod text;
pub(crate) mod time;
mod uses;
mod versions;

use crate::{
    command::{Command, Entry},
    rejection::Rejection,
    reply::{Applied, Reply},
    state::{ControlState, FormerTtl},
};
use change::Change;
pub(crate) use services::standing;

type Outcome = Result<Reply, Rejection>;

/// Applies a command whose request id is new.
pub(crate) fn dispatch(state: &mut ControlState, entry: &Entry) -> Applied {
    let door = door::look(state, entry);
    let expected = expects::check(state, entry);
    let mut change = Change::new(state, entry);
    let outcome = expected.and_then(|()| handle(&mut change, &entry.command));
    let events = change.into_events();
    let door = door.map(|record| door::decided(record, &outcome));
    Applied {
        outcome,
        events,
        door,
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
        // State time has moved already, as it does at every entry; there is nothing else to it.
        Command::MarkTime { .. } => Ok(change.done()),
        Command::SetFeatureLevel { level } => cluster::set_feature_level(change, *level),
        Command::RemoveCoordinator { node, disk } => members::remove(change, node, *disk),
        Command::RegisterRegion { region } => regions::register(change, region),
        Command::CreateRegion { region, labels } => regions::create(change, region, labels),
        Command::UpdateRegion { region, .. } => regions::update(change, region, command),
        Command::DeleteRegion { region } => regions::delete(change, region),
        Command::RemoveNode { node } => nodes::remove(change, node),
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
        Command::CreateModel {
            name,
            description,
            tags,
            placement,
        } => models::create(change, name, description, tags, placement),
        Command::SetModelTags {
            model,
            set,
            remove,
            etag,
            token,
        } => models::set_tags(
            change,
            model,
            &models::TagEdit { set, remove },
            *etag,
            token.as_ref(),
        ),
        Command::CreateVersion { .. } => versions::create(change, command),
        Command::CompleteUpload { version } => versions::complete_upload(change, version),
        Command::AbortVersion { version, reason } => versions::abort(change, version, reason),
        Command::DeprecateVersion { version, reason } => versions::deprecate(change, version, reason),
        Command::DeleteVersion { version, reason } => versions::delete(change, version, reason),
        Command::SetVersionMetrics { version, set, remove } => {
            lineage::set_metrics(change, version, set, remove)
        }
        Command::SetAlias {
            model,
            alias,
            version,
            reason,
            etag,
        } => aliases::set(
            change,
            &aliases::Move {
                model,
                alias,
                version: *version,
                reason,
            },
            *etag,
        ),
        Command::DeleteAlias { model, alias, etag } => aliases::delete(change, model, alias, *etag),
        Command::ReportReplica { key, report } => replicas::report(change, key, report),
        Command::CreateRole {
            role,
            candidates,
            mode,
            timing,
        } => primary::create(change, role, candidates, *mode, timing.as_ref()),
        Command::SetRoleMode { role, mode } => primary::set_mode(change, role, *mode),
        Command::SetRoleTiming { role, timing } => primary::set_timing(change, role, timing),
        Command::RetireTtl { role, ttl, since } => primary::retire_ttl(
            change,
            role,
            FormerTtl {
                ttl: *ttl,
                since: *since,
            },
        ),
        Command::SetRoleCandidates { role, candidates } => primary::set_candidates(change, role, candidates),
        Command::StartPlan { .. } => plans::start(change, command),
        Command::StartStep { plan, step, attempt } => plans::start_step(change, *plan, *step, *attempt),
        Command::FinishStep {
            plan,
            step,
            attempt,
            reporter,
            outcome,
        } => {
            let due = plans::running_attempt(change, *plan, *step, *attempt)?;
            plans::finish_step(change, due, *reporter, outcome)
        }
        Command::Fence { plan, attempt } => primary::fence(change, *plan, *attempt),
        Command::Promote { plan, attempt } => primary::promote(change, *plan, *attempt),
        Command::FailPlan { plan, reason } => plans::fail(change, *plan, reason),
        Command::SetElectionTiming {
            timing,
            derived,
            reason,
        } => elections::set_timing(change, *timing, *derived, reason),
        Command::SetLeaderPreference { regions } => elections::set_preference(change, regions),
        Command::RecordRebind { rebind } => rebinds::record(change, rebind),
        Command::CreateExperiment {
            model,
            name,
            description,
            split,
        } => experiments::create(change, model, name, description, split),
        Command::SetExperimentSplit { model, name, split } => {
            experiments::set_split(change, model, name, split)
        }
        Command::ReportExperiment {
            model,
            name,
            version,
            metrics,
        } => experiments::report(change, model, name, *version, metrics),
        Command::SetPreferences {
            principal,
            set,
            remove,
        } => preferences::set(change, principal, set, remove),
        Command::RegisterService { .. } => services::register(change, command),
        Command::DeregisterService { key, incarnation } => services::deregister(change, key, *incarnation),
        Command::EndExperiment { model, name, reason } => experiments::end(change, model, name, reason),
    }
}
