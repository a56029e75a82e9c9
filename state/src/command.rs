//! All that can be asked of the state machine.
//!
//! Absent on purpose: wire formats ([`crate::codec`]) and checks (`crate::apply`). A command is what somebody wants,
//! and may be nonsense.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use types::{
    AliasName, ByteCount, ClusterId, DatasetName, Digest, DiskId, Epoch, ExperimentName, FencingToken,
    Holder, MetricName, Micros, ModelName, ModelVersion, NodeId, NodeIncarnation, PlanId, Principal,
    RegionId, RequestId, Revision, RoleName, SignedRebind, UnixMillis, VersionKey, ZoneName,
    election::ElectionTiming,
    experiment::Share,
    model::{Artifact, Placement},
    plan::{DoorClaim, PlanKind, StepKind},
    region::{Endpoints, Health, NodeKind, NodeStatus, RegionLabels, StoreBinding},
    replica::ReplicaKey,
    role::{FailoverMode, TimingPolicy},
    service::{ServiceKey, ServiceProtocol},
    time::ClockReading,
};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The leader's reckoning of the time when it proposed; state time follows it and never goes back (L10).
    pub proposed_at: UnixMillis,
    /// The caller's name for this request (I9).
    pub request_id: RequestId,
    /// Who acts, as the certificate proved it.
    pub actor: Principal,
    /// What they want.
    pub command: Command,
    /// What they believe of the record that the command addresses ([`Command::addressed`]).
    pub expects: Expects,
}

/// What a caller believes of the record that its command addresses: where it is otherwise, nothing is done. One mechanism
/// for every command; the etags and epochs that some commands carry themselves are older, and keep their meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expects {
    /// The record's revision that the caller saw; none: whatever it is.
    pub etag: Option<Revision>,
    /// The epoch of the role that is addressed, or whose plan is; none: whatever it is.
    pub epoch: Option<Epoch>,
    /// SHA-256 of what the caller said, where the command follows from that and from a state that moves on. It is then this
    /// that must not change under a request id, and not the command: a retry is the same request, whatever would follow now.
    pub asked: Option<Digest>,
}

impl Expects {
    /// Whether anything will do, and there is nothing else to say.
    pub const fn is_nothing(&self) -> bool {
        self.etag.is_none() && self.epoch.is_none() && self.asked.is_none()
    }
}

impl Command {
    /// Whether tools do this by the thousand: the registry's contents, what is measured, who answers where. The rest is what people
    /// do to run the cluster, and what moves traffic.
    pub const fn is_bulk(&self) -> bool {
        matches!(
            self,
            Self::CreateModel { .. }
                | Self::SetModelTags { .. }
                | Self::CreateVersion { .. }
                | Self::CompleteUpload { .. }
                | Self::AbortVersion { .. }
                | Self::DeprecateVersion { .. }
                | Self::DeleteVersion { .. }
                | Self::SetVersionMetrics { .. }
                | Self::ReportReplica { .. }
                | Self::ReportExperiment { .. }
                | Self::RegisterService { .. }
                | Self::DeregisterService { .. }
                | Self::SetPreferences { .. }
        )
    }
}

/// What somebody wants. Closed: `apply` matches it without a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The first entry of a cluster: names it and creates the role `primaries/global`.
    InitCluster {
        /// The cluster's name, for ever.
        cluster_id: ClusterId,
        /// Generation of its epochs, from 1; grows by restore only (L19).
        generation: u32,
        /// Cluster-wide timings, and the default of new roles.
        timing: TimingPolicy,
    },
    /// Changes the cluster-wide timings; roles keep theirs.
    SetTiming {
        /// The new timings.
        timing: TimingPolicy,
    },
    /// What the voters' wall clocks said: state time moves to their median, however far ahead that is (L10). Level 2.
    MarkTime {
        /// At least one, of a majority of the voters.
        readings: Vec<ClockReading>,
    },
    /// Switches on rules that all binaries of the cluster know; only up.
    SetFeatureLevel {
        /// The new level.
        level: u32,
    },
    /// Takes a coordinator out, for ever: its disk does not come back. From feature level 2 on.
    RemoveCoordinator {
        /// The machine; its name may join anew with another disk.
        node: NodeId,
        /// Its data directory; none where it has no id.
        disk: Option<DiskId>,
    },
    /// Adds a region.
    RegisterRegion {
        /// Its name.
        region: RegionId,
    },
    /// Adds a region before its first node does, with what people say of it. From feature level 8 on, as the three below.
    CreateRegion {
        /// Its name.
        region: RegionId,
        /// What is said of it.
        labels: RegionLabels,
    },
    /// Changes what people say of a region.
    UpdateRegion {
        /// The region.
        region: RegionId,
        /// As people call it from here on; none: as before.
        display_name: Option<String>,
        /// Who runs its machines; none: as before.
        provider: Option<String>,
        /// Pairs to set.
        set_cost_tags: BTreeMap<String, String>,
        /// Keys to remove; one that is not there is no error.
        remove_cost_tags: BTreeSet<String>,
    },
    /// Takes away a region that is not in use, and the records of its copies.
    DeleteRegion {
        /// The region.
        region: RegionId,
    },
    /// Drops the record of an agent that is down. One that comes back is a new node.
    RemoveNode {
        /// The machine.
        node: NodeId,
    },
    /// Names a region's object store and what the probe said of it (L16).
    AttachStore {
        /// The region.
        region: RegionId,
        /// How to reach it.
        store: StoreBinding,
    },
    /// Moves a region's committed verdict.
    SetRegionHealth {
        /// The region.
        region: RegionId,
        /// What the proposer believed the verdict to be; a compare-and-set.
        from: Health,
        /// The new verdict.
        to: Health,
        /// The observations that led to it.
        evidence: String,
    },
    /// Adds a node, or a new run of a known one; its standing is Up from here.
    RegisterNode {
        /// The machine; its name is unique in the cluster.
        node: NodeId,
        /// Its region, for ever.
        region: RegionId,
        /// What it runs.
        kind: NodeKind,
        /// This run.
        incarnation: NodeIncarnation,
        /// Where it can be called.
        endpoints: Endpoints,
        /// Its zone in the region. From feature level 5 on.
        zone: Option<ZoneName>,
    },
    /// Moves a node's committed standing.
    SetNodeStatus {
        /// The machine.
        node: NodeId,
        /// The run that was observed; another one is not touched.
        incarnation: NodeIncarnation,
        /// The new standing.
        status: NodeStatus,
    },
    /// Adds a model.
    CreateModel {
        /// Its name.
        name: ModelName,
        /// For people.
        description: String,
        /// Free pairs.
        tags: BTreeMap<String, String>,
        /// Where copies must be.
        placement: Placement,
    },
    /// Changes a model's tags; under a role if a token is given (the registry's fencing door). An agent must give one.
    SetModelTags {
        /// The model.
        model: ModelName,
        /// Pairs to set.
        set: BTreeMap<String, String>,
        /// Keys to remove; one that is not there is no error.
        remove: BTreeSet<String>,
        /// The model's revision that the caller saw; none: unconditional.
        etag: Option<Revision>,
        /// The right to write under a role.
        token: Option<FencingToken>,
    },
    /// Announces a version; the registry gives the number. Creates the model if there is none.
    CreateVersion {
        /// The model.
        model: ModelName,
        /// The region whose store the bytes go to.
        source_region: RegionId,
        /// Its files.
        artifacts: Vec<Artifact>,
        /// Which loader reads it.
        framework: String,
        /// Free pairs.
        metadata: BTreeMap<String, String>,
        /// What it was trained from; none before feature level 6.
        datasets: BTreeSet<DatasetName>,
    },
    /// The bytes are in the source region's store; its agent verifies them next.
    CompleteUpload {
        /// The version.
        version: VersionKey,
    },
    /// Gives up a version that never became ready.
    AbortVersion {
        /// The version.
        version: VersionKey,
        /// Why.
        reason: String,
    },
    /// Still served, no longer recommended.
    DeprecateVersion {
        /// The version.
        version: VersionKey,
        /// Why.
        reason: String,
    },
    /// Ends a version; no alias may point at it.
    DeleteVersion {
        /// The version.
        version: VersionKey,
        /// Why.
        reason: String,
    },
    /// Points an alias at a version.
    SetAlias {
        /// The model.
        model: ModelName,
        /// The alias.
        alias: AliasName,
        /// The version; READY or DEPRECATED.
        version: ModelVersion,
        /// Why, for people.
        reason: String,
        /// The alias's revision that the caller saw; none: unconditional.
        etag: Option<Revision>,
    },
    /// Removes an alias.
    DeleteAlias {
        /// The model.
        model: ModelName,
        /// The alias.
        alias: AliasName,
        /// The alias's revision that the caller saw; none: unconditional.
        etag: Option<Revision>,
    },
    /// An agent of the copy's region says how far the copy is.
    ReportReplica {
        /// Which copy.
        key: ReplicaKey,
        /// How far.
        report: ReplicaReport,
    },
    /// Adds a primary role; it begins empty.
    CreateRole {
        /// Its name.
        role: RoleName,
        /// Regions that may hold it, most wanted first; none: all, in the order in which they joined.
        candidates: Vec<RegionId>,
        /// Whether failovers run by themselves.
        mode: FailoverMode,
        /// Its timings; none: the cluster's.
        timing: Option<TimingPolicy>,
    },
    /// Changes whether failovers run by themselves.
    SetRoleMode {
        /// The role.
        role: RoleName,
        /// The new mode.
        mode: FailoverMode,
    },
    /// Changes a role's timings; a shorter TTL counts only once a leader has waited the old one out (L8).
    SetRoleTiming {
        /// The role.
        role: RoleName,
        /// The new timings.
        timing: TimingPolicy,
    },
    /// A leader has waited out a TTL that a role's timing had before: the shorter one counts from here (L8).
    RetireTtl {
        /// The role.
        role: RoleName,
        /// The former TTL.
        ttl: Duration,
        /// The entry that shortened it last; another one since means another wait.
        since: Revision,
    },
    /// Changes who may hold a role.
    SetRoleCandidates {
        /// The role.
        role: RoleName,
        /// Most wanted first; none: all regions, in the order in which they joined.
        candidates: Vec<RegionId>,
    },
    /// Begins to move a role; the plan's number is the entry's revision.
    StartPlan {
        /// The role.
        role: RoleName,
        /// Why it moves.
        kind: PlanKind,
        /// Who shall hold it.
        target: Holder,
        /// What led to it, with the observations.
        trigger: String,
        /// The role's epoch that the proposer saw; a compare-and-set.
        expected_epoch: Epoch,
    },
    /// Begins an attempt of the step that is due.
    StartStep {
        /// The plan.
        plan: PlanId,
        /// The step.
        step: StepKind,
        /// One more than the attempts before it.
        attempt: u32,
    },
    /// Ends an attempt; `FENCE` and `PROMOTE` end by their own commands.
    FinishStep {
        /// The plan.
        plan: PlanId,
        /// The step.
        step: StepKind,
        /// The attempt that ended.
        attempt: u32,
        /// The run of the agent that reports it; none from a coordinator or a person.
        reporter: Option<NodeIncarnation>,
        /// How.
        outcome: StepOutcome,
    },
    /// Takes the role from its holder and reserves the next epoch for the plan's target.
    Fence {
        /// The plan.
        plan: PlanId,
        /// The attempt of its `FENCE` step.
        attempt: u32,
    },
    /// Gives the role to the plan's target, after one more check of it.
    Promote {
        /// The plan.
        plan: PlanId,
        /// The attempt of its `PROMOTE` step.
        attempt: u32,
    },
    /// Gives a plan up; what it fenced stays fenced.
    FailPlan {
        /// The plan.
        plan: PlanId,
        /// Why.
        reason: String,
    },
    /// Changes how fast the coordinators' elections are. A coordinator changes only what is derived.
    SetElectionTiming {
        /// The new timing; none: that of now stays, and only who decides it changes.
        timing: Option<ElectionTiming>,
        /// The leader goes on deriving it; otherwise it stands until a person changes it.
        derived: bool,
        /// What led to it, for people.
        reason: String,
    },
    /// Names the regions whose coordinators should lead.
    SetLeaderPreference {
        /// Most wanted first; none: whoever is elected leads on.
        regions: Vec<RegionId>,
    },
    /// Keeps the CA's signature of a statement that this cluster goes on from another one. Whoever follows verifies it.
    RecordRebind {
        /// The statement and its signature.
        rebind: SignedRebind,
    },
    /// Sets and removes a user's preferences; by themselves or by the user `admin`. From feature level 10 on.
    SetPreferences {
        /// Whose; a user.
        principal: Principal,
        /// By key; others stay.
        set: BTreeMap<String, String>,
        /// Keys to forget.
        remove: BTreeSet<String>,
    },
    /// Says that a node offers a service at a port, or otherwise than it did. From feature level 9 on.
    RegisterService {
        /// The instance.
        key: ServiceKey,
        /// The run of the node that hosts it; an agent says its own, and for a person none is the present one.
        incarnation: Option<NodeIncarnation>,
        /// Host or IP address that callers connect to.
        address: String,
        /// What it speaks.
        protocol: ServiceProtocol,
        /// For those who choose among instances.
        labels: BTreeMap<String, String>,
    },
    /// Says that a node offers a service no more.
    DeregisterService {
        /// The instance.
        key: ServiceKey,
        /// As in `RegisterService`.
        incarnation: Option<NodeIncarnation>,
    },
    /// Says what was measured of a version that is not deleted, or takes it back. From feature level 6 on.
    SetVersionMetrics {
        /// The version.
        version: VersionKey,
        /// Values of now; those that are not named stay.
        set: BTreeMap<MetricName, Micros>,
        /// Names to forget.
        remove: BTreeSet<MetricName>,
    },
    /// Begins to split a model's users over versions. From feature level 4 on, as all of experiments.
    CreateExperiment {
        /// The model.
        model: ModelName,
        /// Its name; not that of another one of the model that is remembered.
        name: ExperimentName,
        /// For people.
        description: String,
        /// READY or DEPRECATED versions whose percents add up to 100; the first one is the fallback.
        split: Vec<Share>,
    },
    /// Changes a running experiment's split; only by who names the record's etag.
    SetExperimentSplit {
        /// The model.
        model: ModelName,
        /// The experiment.
        name: ExperimentName,
        /// Every arm that it has, in any order; the others become arms behind them. 0 percent empties one.
        split: Vec<Share>,
    },
    /// Says what was measured of one arm of a running experiment.
    ReportExperiment {
        /// The model.
        model: ModelName,
        /// The experiment.
        name: ExperimentName,
        /// The arm's version.
        version: ModelVersion,
        /// Values of now; those that are not named stay.
        metrics: BTreeMap<MetricName, Micros>,
    },
    /// Ends an experiment, for ever.
    EndExperiment {
        /// The model.
        model: ModelName,
        /// The experiment.
        name: ExperimentName,
        /// Why, for people.
        reason: String,
    },
}

/// How far a copy is, by an agent of its region. `attempt` is the number that `Started` was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaReport {
    /// A new attempt begins; the reply carries its number.
    Started {
        /// The region that the bytes come from, whose copy is verified; none where they were once, by upload or copy.
        source: Option<RegionId>,
    },
    /// Bytes moved so far.
    Progress {
        /// The attempt.
        attempt: u32,
        /// Bytes in this attempt.
        bytes_done: ByteCount,
    },
    /// Everything was re-read from the region's own store, and every digest matched.
    Verified {
        /// The attempt.
        attempt: u32,
        /// Bytes re-read; the version's total size.
        bytes: ByteCount,
    },
    /// The attempt failed, or a verified copy was found damaged.
    Failed {
        /// The attempt.
        attempt: u32,
        /// The bytes have another SHA-256 than the manifest says; in the source region this ends a version that is
        /// being verified.
        digest_mismatch: bool,
        /// What happened, for people.
        error: String,
    },
}

/// How an attempt of a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// It took effect.
    Done {
        /// What was seen or done.
        detail: String,
        /// Doors that a claim reached, and those it did not.
        doors: Vec<DoorClaim>,
    },
    /// It did not; another attempt may follow.
    Failed {
        /// What went wrong.
        detail: String,
    },
}
