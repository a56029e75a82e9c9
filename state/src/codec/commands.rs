//! Commands. A command added to the enum does not compile until it stands here.

use super::wire::{Malformed, Wire, field, required, wire_kind, wire_oneof, wire_struct};
use crate::{
    command::{Command, Expects, ReplicaReport, StepOutcome},
    r#gen as pb,
};

wire_oneof!(Command => pb::entry::Command {
    InitCluster => pb::InitCluster { cluster_id, generation, timing },
    SetTiming => pb::SetTiming { timing },
    MarkTime => pb::MarkTime { readings },
    SetFeatureLevel => pb::SetFeatureLevel { level },
    RemoveCoordinator => pb::RemoveCoordinator { node, disk },
    RegisterRegion => pb::RegisterRegion { region },
    CreateRegion => pb::CreateRegion { region, labels },
    UpdateRegion => pb::UpdateRegion { region, display_name, provider, set_cost_tags, remove_cost_tags },
    DeleteRegion => pb::DeleteRegion { region },
    RemoveNode => pb::RemoveNode { node },
    AttachStore => pb::AttachStore { region, store },
    SetRegionHealth => pb::SetRegionHealth { region, from, to, evidence },
    RegisterNode => pb::RegisterNode { node, region, kind, incarnation, endpoints, zone },
    SetNodeStatus => pb::SetNodeStatus { node, incarnation, status },
    CreateModel => pb::CreateModel { name, description, tags, placement },
    SetModelTags => pb::SetModelTags { model, set, remove, etag, token },
    CreateVersion => pb::CreateVersion { model, source_region, artifacts, framework, metadata, datasets },
    CompleteUpload => pb::CompleteUpload { version },
    AbortVersion => pb::AbortVersion { version, reason },
    DeprecateVersion => pb::DeprecateVersion { version, reason },
    DeleteVersion => pb::DeleteVersion { version, reason },
    SetAlias => pb::SetAlias { model, alias, version, reason, etag },
    DeleteAlias => pb::DeleteAlias { model, alias, etag },
    ReportReplica => pb::ReportReplica { key, report },
    CreateRole => pb::CreateRole { role, candidates, mode, timing },
    SetRoleMode => pb::SetRoleMode { role, mode },
    SetRoleTiming => pb::SetRoleTiming { role, timing },
    RetireTtl => pb::RetireTtl { role, ttl, since },
    SetRoleCandidates => pb::SetRoleCandidates { role, candidates },
    StartPlan => pb::StartPlan { role, kind, target, trigger, expected_epoch },
    StartStep => pb::StartStep { plan, step, attempt },
    FinishStep => pb::FinishStep { plan, step, attempt, reporter, outcome },
    Fence => pb::Fence { plan, attempt },
    Promote => pb::Promote { plan, attempt },
    FailPlan => pb::FailPlan { plan, reason },
    SetElectionTiming => pb::SetElectionTiming { timing, derived, reason },
    SetLeaderPreference => pb::SetLeaderPreference { regions },
    RecordRebind => pb::RecordRebind { rebind },
    CreateExperiment => pb::CreateExperiment { model, name, description, split },
    SetExperimentSplit => pb::SetExperimentSplit { model, name, split },
    ReportExperiment => pb::ReportExperiment { model, name, version, metrics },
    EndExperiment => pb::EndExperiment { model, name, reason },
    SetVersionMetrics => pb::SetVersionMetrics { version, set, remove },
    RegisterService => pb::RegisterService { key, incarnation, address, protocol, labels },
    DeregisterService => pb::DeregisterService { key, incarnation },
    SetPreferences => pb::SetPreferences { principal, set, remove },
});

wire_oneof!(ReplicaReport => pb::replica_report::Kind {
    Started => pb::ReplicaStarted { source },
    Progress => pb::ReplicaProgress { attempt, bytes_done },
    Verified => pb::ReplicaVerified { attempt, bytes },
    Failed => pb::ReplicaFailed { attempt, digest_mismatch, error },
});
wire_oneof!(StepOutcome => pb::step_outcome::Kind {
    Done => pb::StepDone { detail, doors },
    Failed => pb::StepFailed { detail },
});
wire_kind!(ReplicaReport => pb::ReplicaReport, StepOutcome => pb::StepOutcome);
wire_struct! {
    Expects => pb::Expects { etag, epoch, asked }
}
