//! All refusals by rule, each with its operands.
//!
//! A refusal is a successful apply: every replica comes to the same one. It travels as a [`Refusal`]; nobody reads its text.

mod texts;

use std::{fmt, time::Duration};

use policy::fence::Refused;
use types::{
    AliasName, ClusterId, ExperimentName, Holder, ModelName, NodeId, NodeIncarnation, PlanId, Principal,
    Reason, RegionId, RequestId, Revision, RoleName, UnixMillis, VersionKey,
    model::VersionState,
    plan::{PlanState, StepKind},
    reason::Refusal,
    replica::ReplicaKey,
    role::FailoverMode,
    service::ServiceKey,
    units::format_duration,
};

/// How something uses a region or a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// A node stands there.
    Node,
    /// The only copy of a version that is left is there.
    OnlyCopy,
    /// A copy elsewhere was begun from there.
    Copy,
    /// A version's bytes are being uploaded or verified there.
    Upload,
    /// A role is held from there, promised to it, or names it as a candidate.
    Role,
    /// A running plan names it.
    Plan,
    /// A model's placement names it.
    Placement,
    /// The leader is to be there.
    LeaderPreference,
}

impl UseKind {
    const ALL: [Self; 8] = [
        Self::Node,
        Self::OnlyCopy,
        Self::Copy,
        Self::Upload,
        Self::Role,
        Self::Plan,
        Self::Placement,
        Self::LeaderPreference,
    ];

    /// The operand under which they are named.
    const fn operand(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::OnlyCopy => "only_copies",
            Self::Copy => "copies",
            Self::Upload => "uploads",
            Self::Role => "roles",
            Self::Plan => "plans",
            Self::Placement => "placements",
            Self::LeaderPreference => "leader_preference",
        }
    }
}

/// What uses a region or a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// How.
    pub kind: UseKind,
    /// What: a node, a version, a copy, a role, a plan, a model, a region.
    pub name: String,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.kind {
            UseKind::Node => write!(f, "node {name}"),
            UseKind::OnlyCopy => write!(f, "the only copy of {name}"),
            UseKind::Copy => write!(f, "the copy of {name}, which is read from there"),
            UseKind::Upload => write!(f, "the upload of {name}"),
            UseKind::Role => write!(f, "role {name}"),
            UseKind::Plan => write!(f, "plan {name}"),
            UseKind::Placement => write!(f, "the placement of {name}"),
            UseKind::LeaderPreference => f.write_str("the preference of the leader"),
        }
    }
}

fn told(uses: &[Use], count: u64) -> String {
    let mut told: Vec<_> = uses.iter().map(ToString::to_string).collect();
    let others = count.saturating_sub(uses.len() as u64);
    if others > 0 {
        told.push(format!("{others} more"));
    }
    told.join(", ")
}

/// With an operand for each kind.
fn by_kind(refusal: Refusal, uses: &[Use], count: u64) -> Refusal {
    let with = |refusal: Refusal, kind: UseKind| {
        let of_kind = uses.iter().filter(|used| used.kind == kind);
        let names: Vec<_> = of_kind.map(|used| used.name.as_str()).collect();
        if names.is_empty() {
            return refusal;
        }
        refusal.with(kind.operand(), names.join(", "))
    };
    UseKind::ALL.into_iter().fold(refusal.with("count", count), with)
}

/// Why an entry changed nothing. Closed: matched without a wildcard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the sentence beside each variant says what its operands are"
)]
pub enum Rejection {
    #[error("the cluster is not bootstrapped")]
    NotBootstrapped,
    #[error("the cluster is bootstrapped already, as {cluster_id}")]
    AlreadyBootstrapped { cluster_id: ClusterId },
    #[error("no model {model}")]
    ModelNotFound { model: ModelName },
    #[error("no version {version}")]
    VersionNotFound { version: VersionKey },
    #[error("no alias {alias} of {model}")]
    AliasNotFound { model: ModelName, alias: AliasName },
    #[error("no region {region}")]
    RegionNotFound { region: RegionId },
    #[error("no node {node}")]
    NodeNotFound { node: NodeId },
    #[error("no role {role}")]
    RoleNotFound { role: RoleName },
    #[error("no plan {plan}")]
    PlanNotFound { plan: PlanId },
    #[error("no replication record for {key}")]
    ReplicaNotFound { key: ReplicaKey },
    #[error("no experiment {experiment} of {model}")]
    ExperimentNotFound {
        model: ModelName,
        experiment: ExperimentName,
    },
    #[error("{principal} has no preferences")]
    PreferencesNotFound { principal: Principal },
    #[error("no service {key}")]
    ServiceNotFound { key: ServiceKey },
    #[error("{what} {name} exists already")]
    AlreadyExists { what: String, name: String },
    /// The registry's door refused the token.
    #[error("{refused}")]
    Door { refused: Box<Refused> },
    #[error("the token of {holder} was shown by {actor}")]
    WrongSender { holder: Holder, actor: Principal },
    #[error("request id {request_id} was used before, for another request or by another caller")]
    RequestReused { request_id: RequestId },
    #[error(
        "request id {request_id} is older than what is remembered ({floor}): its clock is {} behind",
        format_duration(.state_time.since(UnixMillis(.request_id.unix_millis())))
    )]
    RequestTooOld {
        request_id: RequestId,
        floor: RequestId,
        state_time: UnixMillis,
    },
    #[error(
        "request id {request_id} was made at {}, more than 60 s ahead of state time {state_time}",
        UnixMillis(.request_id.unix_millis())
    )]
    RequestFromFuture {
        request_id: RequestId,
        state_time: UnixMillis,
    },
    #[error(
        "the entry was stamped {stamped}, more than 10 s ahead of state time {state_time}, and no time mark came before it"
    )]
    TimeAhead {
        stamped: UnixMillis,
        state_time: UnixMillis,
    },
    #[error(
        "{limit} requests are remembered for {} each, and no more fit; the oldest may go in {}",
        format_duration(*.kept_for), format_duration(*.retry_after)
    )]
    RequestsExhausted {
        limit: u64,
        kept_for: Duration,
        retry_after: Duration,
    },
    #[error("{version} is {state}, and must be {needs}")]
    VersionState {
        version: VersionKey,
        state: VersionState,
        needs: String,
    },
    #[error("alias {alias} points at {version}: move or delete it first")]
    VersionInUse { version: VersionKey, alias: AliasName },
    #[error("experiment {experiment} gives {version} to users: end it first")]
    VersionInExperiment {
        version: VersionKey,
        experiment: ExperimentName,
    },
    /// `uses` has the first ones of each kind, `count` is of all.
    #[error("region {region} is in use by {}", told(.uses, *.count))]
    RegionInUse {
        region: RegionId,
        uses: Vec<Use>,
        count: u64,
    },
    #[error("node {node} is in use by {}", told(.uses, *.count))]
    NodeInUse {
        node: NodeId,
        uses: Vec<Use>,
        count: u64,
    },
    #[error("{what} is {from}, and cannot become {to}")]
    IllegalTransition { what: String, from: String, to: String },
    #[error("node {node} runs as {current}, not as {shown}")]
    StaleIncarnation {
        node: NodeId,
        shown: NodeIncarnation,
        current: NodeIncarnation,
    },
    #[error("plan {plan} moves {role} already")]
    PlanRunning { role: RoleName, plan: PlanId },
    #[error("plan {plan} has ended: {state}")]
    PlanEnded { plan: PlanId, state: PlanState },
    #[error("step {due} of plan {plan} is due, not {shown}")]
    StepOutOfOrder {
        plan: PlanId,
        shown: StepKind,
        due: StepKind,
    },
    #[error("step {step} of plan {plan} is not running")]
    StepNotRunning { plan: PlanId, step: StepKind },
    #[error("attempt {shown} of {what} is not the one that may act: {current} is")]
    StaleAttempt { what: String, shown: u32, current: u32 },
    #[error("{target} is not verified able to serve: {}", .unmet.join("; "))]
    TargetNotQualified { target: Holder, unmet: Vec<String> },
    #[error("failovers of {role} are {mode}")]
    FailoverPaused { role: RoleName, mode: FailoverMode },
    #[error("feature level {shown} is not above {current}")]
    FeatureLevel { shown: u32, current: u32 },
    #[error("{what} is at {}, not at {shown}", etag(.current))]
    EtagMismatch {
        what: String,
        shown: Revision,
        current: Option<Revision>,
    },
    #[error("{field}: {problem}")]
    InvalidArgument { field: String, problem: String },
    #[error("{actor} may not do this: it takes {needs}")]
    PermissionDenied { actor: Principal, needs: String },
    #[error("{what} may be {limit} at most, not {shown}")]
    LimitExceeded { what: String, shown: u64, limit: u64 },
}

fn etag(current: &Option<Revision>) -> String {
    current.map_or_else(|| "no revision".to_owned(), |r| r.to_string())
}

impl From<Box<Refused>> for Rejection {
    fn from(refused: Box<Refused>) -> Self {
        Self::Door { refused }
    }
}

impl Rejection {
    /// Whether the same request would be refused whenever it is run: its epoch has passed, or was never the sender's, or its role
    /// guards something else.
    /// Such a refusal need not be remembered, and a fenced writer that goes on must not fill the table.
    pub fn is_for_ever(&self) -> bool {
        matches!(
            self.reason(),
            Reason::StaleEpoch | Reason::WrongHolder | Reason::WrongCluster | Reason::WrongRole
        )
    }

    /// An argument that can never be right.
    pub(crate) fn invalid(field: &str, problem: impl Into<String>) -> Self {
        Self::InvalidArgument {
            field: field.to_owned(),
            problem: problem.into(),
        }
    }

    /// The machine-readable reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotBootstrapped | Self::AlreadyBootstrapped { .. } => Reason::ClusterState,
            Self::ModelNotFound { .. } => Reason::ModelNotFound,
            Self::VersionNotFound { .. } => Reason::VersionNotFound,
            Self::AliasNotFound { .. } => Reason::AliasNotFound,
            Self::RegionNotFound { .. } => Reason::RegionNotFound,
            Self::NodeNotFound { .. } => Reason::NodeNotFound,
            Self::RoleNotFound { .. } => Reason::RoleNotFound,
            Self::PlanNotFound { .. } => Reason::PlanNotFound,
            Self::ReplicaNotFound { .. } => Reason::ReplicaNotFound,
            Self::ExperimentNotFound { .. } => Reason::ExperimentNotFound,
            Self::ServiceNotFound { .. } => Reason::ServiceNotFound,
            Self::PreferencesNotFound { .. } => Reason::PreferencesNotFound,
            Self::AlreadyExists { .. } => Reason::AlreadyExists,
            Self::Door { refused } => refused.reason(),
            Self::WrongSender { .. } => Reason::WrongHolder,
            Self::RequestReused { .. } => Reason::RequestReused,
            Self::RequestTooOld { .. } => Reason::RequestTooOld,
            Self::RequestFromFuture { .. } => Reason::RequestFromFuture,
            Self::TimeAhead { .. } => Reason::TimeAhead,
            Self::RequestsExhausted { .. } => Reason::Overloaded,
            Self::VersionState { .. } | Self::VersionInUse { .. } | Self::VersionInExperiment { .. } => {
                Reason::VersionState
            }
            Self::RegionInUse { .. } => Reason::RegionInUse,
            Self::NodeInUse { .. } => Reason::NodeInUse,
            Self::IllegalTransition { .. } => Reason::IllegalTransition,
            Self::StaleIncarnation { .. } => Reason::StaleIncarnation,
            Self::PlanRunning { .. } => Reason::PlanRunning,
            Self::PlanEnded { .. } | Self::StepOutOfOrder { .. } | Self::StepNotRunning { .. } => {
                Reason::StepOutOfOrder
            }
            Self::StaleAttempt { .. } => Reason::StaleAttempt,
            Self::TargetNotQualified { .. } => Reason::TargetNotQualified,
            Self::FailoverPaused { .. } => Reason::FailoverPaused,
            Self::FeatureLevel { .. } => Reason::FeatureLevel,
            Self::EtagMismatch { .. } => Reason::EtagMismatch,
            Self::InvalidArgument { .. } => Reason::InvalidArgument,
            Self::PermissionDenied { .. } => Reason::PermissionDenied,
            Self::LimitExceeded { .. } => Reason::LimitExceeded,
        }
    }

    /// As it travels, with its operands by name.
    pub fn to_refusal(&self) -> Refusal {
        let refusal = Refusal::new(self.reason(), self.to_string());
        match self {
            Self::NotBootstrapped => refusal,
            Self::AlreadyBootstrapped { cluster_id } => refusal.with("cluster_id", cluster_id),
            Self::ModelNotFound { model } => refusal.with("model", model),
            Self::VersionNotFound { version } => refusal.with("version", version),
            Self::AliasNotFound { model, alias } => refusal.with("model", model).with("alias", alias),
            Self::RegionNotFound { region } => refusal.with("region", region),
            Self::NodeNotFound { node } => refusal.with("node", node),
            Self::RoleNotFound { role } => refusal.with("role", role),
            Self::PlanNotFound { plan } => refusal.with("plan", plan),
            Self::ReplicaNotFound { key } => {
                refusal.with("version", &key.version).with("region", &key.region)
            }
            Self::ExperimentNotFound { model, experiment } => {
                refusal.with("model", model).with("experiment", experiment)
            }
            Self::PreferencesNotFound { principal } => refusal.with("principal", principal),
            Self::ServiceNotFound { key } => refusal.with("service", &key.service).with("node", &key.node),
            Self::AlreadyExists { what, name } => refusal.with("what", what).with("name", name),
            Self::Door { refused } => refused.to_refusal(),
            Self::WrongSender { holder, actor } => refusal.with("holder", holder).with("actor", actor),
            Self::RequestReused { request_id } => refusal.with("request_id", request_id),
            Self::RequestTooOld {
                request_id,
                floor,
                state_time,
            } => refusal
                .with("request_id", request_id)
                .with("floor", floor)
                .with("state_time_ms", state_time.0)
                .with("behind_ms", state_time.0.saturating_sub(request_id.unix_millis())),
            Self::RequestFromFuture {
                request_id,
                state_time,
            } => refusal
                .with("request_time_ms", request_id.unix_millis())
                .with("state_time_ms", state_time.0),
            Self::TimeAhead { stamped, state_time } => refusal
                .with("stamped_ms", stamped.0)
                .with("state_time_ms", state_time.0),
            Self::RequestsExhausted {
                limit, retry_after, ..
            } => refusal
                .with("limit", limit)
                .with("retry_after_ms", retry_after.as_millis()),
            Self::VersionState {
                version,
                state,
                needs,
            } => refusal
                .with("version", version)
                .with("state", state)
                .with("needs", needs),
            Self::VersionInUse { version, alias } => refusal.with("version", version).with("alias", alias),
            Self::VersionInExperiment { version, experiment } => {
                refusal.with("version", version).with("experiment", experiment)
            }
            Self::RegionInUse { region, uses, count } => {
                by_kind(refusal.with("region", region), uses, *count)
            }
            Self::NodeInUse { node, uses, count } => by_kind(refusal.with("node", node), uses, *count),
            Self::IllegalTransition { what, from, to } => {
                refusal.with("what", what).with("current", from).with("shown", to)
            }
            Self::StaleIncarnation { node, shown, current } => refusal
                .with("node", node)
                .with("shown", shown)
                .with("current", current),
            Self::PlanRunning { role, plan } => refusal.with("role", role).with("plan", plan),
            Self::PlanEnded { plan, state } => refusal.with("plan", plan).with("state", state),
            Self::StepOutOfOrder { plan, shown, due } => refusal
                .with("plan", plan)
                .with("shown", shown)
                .with("current", due),
            Self::StepNotRunning { plan, step } => refusal.with("plan", plan).with("step", step),
            Self::StaleAttempt { what, shown, current } => refusal
                .with("what", what)
                .with("shown", shown)
                .with("current", current),
            Self::TargetNotQualified { target, unmet } => {
                refusal.with("target", target).with("unmet", unmet.join("; "))
            }
            Self::FailoverPaused { role, mode } => refusal.with("role", role).with("mode", mode),
            Self::FeatureLevel { shown, current } => refusal.with("shown", shown).with("current", current),
            Self::EtagMismatch { what, shown, current } => refusal
                .with("what", what)
                .with("shown", shown.0)
                .with("current", current.unwrap_or_default().0),
            Self::InvalidArgument { field, problem } => refusal.with("field", field).with("problem", problem),
            Self::PermissionDenied { actor, needs } => refusal.with("actor", actor).with("needs", needs),
            Self::LimitExceeded { what, shown, limit } => refusal
                .with("what", what)
                .with("shown", shown)
                .with("limit", limit),
        }
    }
}
