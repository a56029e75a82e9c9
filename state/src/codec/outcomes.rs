//! Replies and refusals, as they are kept for retries.

use policy::fence::Refused;

use super::{
    FORMAT,
    wire::{Malformed, Wire, field, required, wire_enum, wire_kind, wire_oneof, wire_struct},
};
use crate::{
    r#gen as pb,
    rejection::{Rejection, Use, UseKind},
    reply::Reply,
};

wire_oneof!(Reply => pb::reply::Kind {
    Done => pb::ReplyDone { modified },
    Version => pb::ReplyVersion { key, modified },
    Replica => pb::ReplyReplica { attempt, modified },
    Plan => pb::ReplyPlan { plan },
    Step => pb::ReplyStep { plan, step, attempt },
    Role => pb::ReplyRole { role, epoch, holder, reserved },
});

wire_oneof!(Rejection => pb::rejection::Kind {
    NotBootstrapped => pb::NotBootstrapped {},
    AlreadyBootstrapped => pb::AlreadyBootstrapped { cluster_id },
    ModelNotFound => pb::ModelNotFound { model },
    VersionNotFound => pb::VersionNotFound { version },
    AliasNotFound => pb::AliasNotFound { model, alias },
    RegionNotFound => pb::RegionNotFound { region },
    NodeNotFound => pb::NodeNotFound { node },
    RoleNotFound => pb::RoleNotFound { role },
    PlanNotFound => pb::PlanNotFound { plan },
    ReplicaNotFound => pb::ReplicaNotFound { key },
    ExperimentNotFound => pb::ExperimentNotFound { model, experiment },
    AlreadyExists => pb::AlreadyExists { what, name },
    Door => pb::DoorRefused { refused },
    WrongSender => pb::WrongSender { holder, actor },
    RequestReused => pb::RequestReused { request_id },
    RequestTooOld => pb::RequestTooOld { request_id, floor, state_time },
    RequestFromFuture => pb::RequestFromFuture { request_id, state_time },
    TimeAhead => pb::TimeAhead { stamped, state_time },
    RequestsExhausted => pb::RequestsExhausted { limit, kept_for, retry_after },
    VersionState => pb::VersionStateRefused { version, state, needs },
    VersionInUse => pb::VersionInUse { version, alias },
    VersionInExperiment => pb::VersionInExperiment { version, experiment },
    RegionInUse => pb::RegionInUse { region, uses, count },
    NodeInUse => pb::NodeInUse { node, uses, count },
    ServiceNotFound => pb::ServiceNotFound { key },
    PreferencesNotFound => pb::PreferencesNotFound { principal },
    IllegalTransition => pb::IllegalTransition { what, from, to },
    StaleIncarnation => pb::StaleIncarnation { node, shown, current },
    PlanRunning => pb::PlanRunning { role, plan },
    PlanEnded => pb::PlanEnded { plan, state },
    StepOutOfOrder => pb::StepOutOfOrder { plan, shown, due },
    StepNotRunning => pb::StepNotRunning { plan, step },
    StaleAttempt => pb::StaleAttempt { what, shown, current },
    TargetNotQualified => pb::TargetNotQualified { target, unmet },
    FailoverPaused => pb::FailoverPaused { role, mode },
    FeatureLevel => pb::FeatureLevel { shown, current },
    EtagMismatch => pb::EtagMismatch { what, shown, current },
    InvalidArgument => pb::InvalidArgument { field, problem },
    PermissionDenied => pb::PermissionDenied { actor, needs },
    LimitExceeded => pb::LimitExceeded { what, shown, limit },
});

wire_oneof!(Refused => pb::refused::Kind {
    WrongCluster => pb::WrongCluster { shown, current },
    WrongRole => pb::WrongRole { shown, current },
    StaleEpoch => pb::StaleEpoch { role, shown, current, holder },
    WrongHolder => pb::WrongHolder { role, epoch, shown, holder },
    Unconfirmed => pb::Unconfirmed { role, shown, current, holder },
});
wire_enum! {
    UseKind => pb::UseKind {
        Node, OnlyCopy, Copy, Upload, Role, Plan, Placement, LeaderPreference
    }
}
wire_struct! {
    Use => pb::Use { kind, name }
}
wire_kind!(Reply => pb::Reply, Rejection => pb::Rejection, Refused => pb::Refused);

impl Wire<Option<pb::Refused>> for Box<Refused> {
    fn to_pb(&self) -> Option<pb::Refused> {
        Wire::to_pb(self.as_ref())
    }
    fn from_pb(pb: Option<pb::Refused>) -> Result<Self, Malformed> {
        Wire::from_pb(pb).map(Box::new)
    }
}

impl Wire<pb::Outcome> for Result<Reply, Rejection> {
    fn to_pb(&self) -> pb::Outcome {
        let outcome = match self {
            Ok(reply) => pb::outcome::Outcome::Reply(reply.to_pb()),
            Err(rejection) => pb::outcome::Outcome::Rejection(rejection.to_pb()),
        };
        pb::Outcome {
            format: FORMAT,
            outcome: Some(outcome),
        }
    }
    fn from_pb(pb: pb::Outcome) -> Result<Self, Malformed> {
        match pb.outcome.ok_or_else(|| Malformed::missing().inside("outcome"))? {
            pb::outcome::Outcome::Reply(reply) => field("reply", reply).map(Ok),
            pb::outcome::Outcome::Rejection(rejection) => field("rejection", rejection).map(Err),
        }
    }
}
