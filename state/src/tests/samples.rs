//! One of everything that has bytes, with no field at its default. A new variant must be added here: the counts say so.

use types::{
    ClusterId, Epoch, Holder, PlanId, RequestId, Revision, RoleName, UnixMillis, VersionKey,
    model::VersionState,
    plan::{PlanState, StepKind},
    replica::ReplicaKey,
    role::FailoverMode,
};

use policy::fence::Refused;

use super::{
    language::{Line, holder},
    world::{START, actor},
};
use crate::{
    command::Entry,
    rejection::{Rejection, Use, UseKind},
    reply::Reply,
};

pub(super) fn entries() -> Vec<Entry> {
    let lines = include_str!("../../testdata/samples.txt")
        .lines()
        .filter(|l| !l.starts_with('#'));
    let actors = ["admin", "eu/a1", "coordinator/c1"].map(actor);
    lines
        .enumerate()
        .map(|(n, line)| Entry {
            proposed_at: UnixMillis(START + n as u64),
            request_id: RequestId::v7_from_parts(START, n as u128 + 1),
            actor: actors[n % 3].clone(),
            command: Line::parse(line).command(),
            expects: Line::parse(line).expects(),
        })
        .collect()
}

pub(super) fn replies() -> Vec<Reply> {
    let (plan, modified) = (PlanId(7), Revision(9));
    vec![
        Reply::Done { modified },
        Reply::Version {
            key: version(),
            modified,
        },
        Reply::Replica { attempt: 3, modified },
        Reply::Plan { plan },
        Reply::Step {
            plan,
            step: StepKind::Claim,
            attempt: 2,
        },
        Reply::Role {
            role: RoleName::global(),
            epoch: Epoch::new(1, 3),
            holder: Some(someone()),
            reserved: Some(Epoch::new(1, 4)),
        },
        Reply::Role {
            role: RoleName::global(),
            epoch: Epoch::new(1, 3),
            holder: None,
            reserved: None,
        },
    ]
}

fn version() -> VersionKey {
    "fraud.scorer@3".parse().unwrap()
}
fn someone() -> Holder {
    holder("eu/a1#7")
}

fn used(kind: UseKind) -> Use {
    Use {
        kind,
        name: "words".to_owned(),
    }
}

fn refused() -> Vec<Refused> {
    let (role, shown, current) = (RoleName::global(), Epoch::new(1, 2), Epoch::new(1, 4));
    let holder = Some(someone());
    vec![
        Refused::WrongCluster {
            shown: ClusterId::from_u128(1),
            current: ClusterId::from_u128(2),
        },
        Refused::WrongRole {
            shown: "primaries/db".parse().unwrap(),
            current: role.clone(),
        },
        Refused::StaleEpoch {
            role: role.clone(),
            shown,
            current,
            holder: holder.clone(),
        },
        Refused::StaleEpoch {
            role: role.clone(),
            shown,
            current,
            holder: None,
        },
        Refused::WrongHolder {
            role: role.clone(),
            epoch: current,
            shown: someone(),
            holder: holder.clone(),
        },
        Refused::Unconfirmed {
            role,
            shown: current,
            current: shown,
            holder,
        },
    ]
}

pub(super) fn rejections() -> Vec<Rejection> {
    let (plan, role, text) = (PlanId(7), RoleName::global(), || "words".to_owned());
    let (model, alias) = (version().model, "champion".parse::<types::AliasName>().unwrap());
    let (request_id, state_time) = (RequestId::v7_from_parts(START, 5), UnixMillis(START + 90));
    let node: types::NodeId = "a1".parse().unwrap();
    let region: types::RegionId = "eu".parse().unwrap();
    let (shown, current) = (someone().incarnation, types::NodeIncarnation::from_u128(8));
    let door = |refused| Rejection::Door {
        refused: Box::new(refused),
    };
    let mut all: Vec<_> = refused().into_iter().map(door).collect();
    all.extend([
        Rejection::NotBootstrapped,
        Rejection::AlreadyBootstrapped {
            cluster_id: ClusterId::from_u128(1),
        },
        Rejection::ModelNotFound { model: model.clone() },
        Rejection::VersionNotFound { version: version() },
        Rejection::AliasNotFound {
            model,
            alias: alias.clone(),
        },
        Rejection::RegionNotFound {
            region: region.clone(),
        },
        Rejection::NodeNotFound { node: node.clone() },
        Rejection::RoleNotFound { role: role.clone() },
        Rejection::PlanNotFound { plan },
        Rejection::ReplicaNotFound {
            key: ReplicaKey {
                version: version(),
                region,
            },
        },
        Rejection::AlreadyExists {
            what: text(),
            name: text(),
        },
        Rejection::WrongSender {
            holder: someone(),
            actor: actor("admin"),
        },
        Rejection::RequestReused { request_id },
        Rejection::RequestTooOld {
            request_id,
            floor: RequestId::v7_from_parts(START, 6),
            state_time,
        },
        Rejection::RequestFromFuture {
            request_id,
            state_time,
        },
        Rejection::VersionState {
            version: version(),
            state: VersionState::Verifying,
            needs: text(),
        },
        Rejection::VersionInUse {
            version: version(),
            alias,
        },
        Rejection::IllegalTransition {
            what: text(),
            from: text(),
            to: text(),
        },
        Rejection::StaleIncarnation { node, shown, current },
        Rejection::PlanRunning {
            role: role.clone(),
            plan,
        },
        Rejection::PlanEnded {
            plan,
            state: PlanState::Failed,
        },
        Rejection::StepOutOfOrder {
            plan,
            shown: StepKind::Promote,
            due: StepKind::Fence,
        },
        Rejection::StepNotRunning {
            plan,
            step: StepKind::WaitLease,
        },
        Rejection::StaleAttempt {
            what: text(),
            shown: 1,
            current: 2,
        },
        Rejection::TargetNotQualified {
            target: someone(),
            unmet: vec![text(), text()],
        },
        Rejection::FailoverPaused {
            role,
            mode: FailoverMode::Paused { until: state_time },
        },
        Rejection::FeatureLevel { shown: 1, current: 2 },
        Rejection::EtagMismatch {
            what: text(),
            shown: Revision(1),
            current: Some(Revision(2)),
        },
        Rejection::InvalidArgument {
            field: text(),
            problem: text(),
        },
        Rejection::PermissionDenied {
            actor: actor("admin"),
            needs: text(),
        },
        Rejection::LimitExceeded {
            what: text(),
            shown: 9,
            limit: 8,
        },
        Rejection::RequestsExhausted {
            limit: 9,
            kept_for: std::time::Duration::from_secs(10),
            retry_after: std::time::Duration::from_secs(7),
        },
        Rejection::ExperimentNotFound {
            model: version().model,
            experiment: "march".parse().unwrap(),
        },
        Rejection::VersionInExperiment {
            version: version(),
            experiment: "march".parse().unwrap(),
        },
        Rejection::RegionInUse {
            region: "eu".parse().unwrap(),
            uses: [
                UseKind::Node,
                UseKind::OnlyCopy,
                UseKind::Copy,
                UseKind::Upload,
                UseKind::Role,
                UseKind::Plan,
                UseKind::Placement,
                UseKind::LeaderPreference,
            ]
            .map(used)
            .to_vec(),
            count: 9,
        },
        Rejection::NodeInUse {
            node: "a1".parse().unwrap(),
            uses: vec![used(UseKind::Role)],
            count: 1,
        },
        Rejection::ServiceNotFound {
            key: "feature-store/a1:7000".parse().unwrap(),
        },
        Rejection::PreferencesNotFound {
            principal: actor("eve"),
        },
    ]);
    all
}
