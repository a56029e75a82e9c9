//! Who may call what: one table over every method, and the layer that refuses everything else.
//!
//! Absent on purpose: rules about single records (an agent reports for its own region only); those are with the
//! handler or in `state`, which see the request.
//! Invariant: a method that is not in [`METHODS`] is refused; a test compares the table with the descriptors.

#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use proto::convert::{CLUSTER_HEADER, MEANT, status::to_status};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::body::Body;
use tower::{Layer, Service};
use types::{ClusterId, Principal, Reason, reason::Refusal};

use crate::identity;

/// A set of kinds of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who(u8);

impl Who {
    /// People, and programs acting for one.
    pub const USERS: Who = Who(1);
    /// Node agents.
    pub const AGENTS: Who = Who(2);
    /// Coordinators.
    pub const COORDINATORS: Who = Who(4);
    /// Everyone with a certificate of the cluster.
    pub const ALL: Who = Who(7);

    const fn and(self, other: Who) -> Who {
        Who(self.0 | other.0)
    }

    /// Whether this principal is of one of the kinds.
    pub const fn includes(self, principal: &Principal) -> bool {
        let kind = match principal {
            Principal::User { .. } => Who::USERS,
            Principal::Agent { .. } => Who::AGENTS,
            Principal::Coordinator { .. } => Who::COORDINATORS,
        };
        self.0 & kind.0 != 0
    }

    /// The kinds in words.
    pub const fn words(self) -> &'static str {
        match self.0 {
            1 => "a user",
            2 => "an agent",
            3 => "a user or an agent",
            4 => "a coordinator",
            5 => "a user or a coordinator",
            6 => "an agent or a coordinator",
            _ => "any certificate of the cluster",
        }
    }
}

const USERS: Who = Who::USERS;
const AGENTS: Who = Who::AGENTS;
const COORDINATORS: Who = Who::COORDINATORS;
const ALL: Who = Who::ALL;
const WRITERS: Who = USERS.and(AGENTS);

/// Every method of the API port, and who may call it.
pub const METHODS: &[(&str, Who)] = &[
    ("/regent.v1.ClusterService/GetStatus", ALL),
    ("/regent.v1.ClusterService/Join", COORDINATORS),
    ("/regent.v1.ClusterService/TransferLeadership", USERS),
    ("/regent.v1.ClusterService/RemoveMember", USERS),
    ("/regent.v1.ClusterService/GetSettings", ALL),
    ("/regent.v1.ClusterService/SetTiming", USERS),
    ("/regent.v1.ClusterService/SetElectionTiming", USERS),
    ("/regent.v1.ClusterService/SetLeaderPreference", USERS),
    ("/regent.v1.ClusterService/RecordRebind", USERS),
    ("/regent.v1.ClusterService/SaveSnapshot", USERS),
    ("/regent.v1.RegistryService/CreateModel", USERS),
    ("/regent.v1.RegistryService/GetModel", ALL),
    ("/regent.v1.RegistryService/ListModels", ALL),
    ("/regent.v1.RegistryService/SetModelTags", WRITERS),
    ("/regent.v1.RegistryService/CreateVersion", USERS),
    ("/regent.v1.RegistryService/CompleteUpload", USERS),
    ("/regent.v1.RegistryService/AbortVersion", USERS),
    ("/regent.v1.RegistryService/DeprecateVersion", USERS),
    ("/regent.v1.RegistryService/DeleteVersion", USERS),
    ("/regent.v1.RegistryService/SetVersionMetrics", USERS),
    ("/regent.v1.RegistryService/ListDependents", ALL),
    ("/regent.v1.RegistryService/GetVersion", ALL),
    ("/regent.v1.RegistryService/ListVersions", ALL),
    ("/regent.v1.RegistryService/SetAlias", USERS),
    ("/regent.v1.RegistryService/DeleteAlias", USERS),
    ("/regent.v1.RegistryService/ListAliases", ALL),
    ("/regent.v1.RegistryService/ListDeployments", ALL),
    ("/regent.v1.RegistryService/ListReplicas", ALL),
    ("/regent.v1.RegistryService/ReportReplica", AGENTS),
    ("/regent.v1.ExperimentService/CreateExperiment", USERS),
    ("/regent.v1.ExperimentService/GetExperiment", ALL),
    ("/regent.v1.ExperimentService/ListExperiments", ALL),
    ("/regent.v1.ExperimentService/SetExperimentSplit", USERS),
    ("/regent.v1.ExperimentService/ReportExperiment", USERS),
    ("/regent.v1.ExperimentService/EndExperiment", USERS),
    ("/regent.v1.ExperimentService/AssignUser", ALL),
    ("/regent.v1.DiscoveryService/RegisterService", WRITERS),
    ("/regent.v1.DiscoveryService/DeregisterService", WRITERS),
    ("/regent.v1.DiscoveryService/GetService", ALL),
    ("/regent.v1.DiscoveryService/ListServices", ALL),
    ("/regent.v1.RegionService/ListRegions", ALL),
    ("/regent.v1.RegionService/GetRegion", ALL),
    ("/regent.v1.RegionService/ListNodes", ALL),
    ("/regent.v1.RegionService/GetNode", ALL),
    ("/regent.v1.RegionService/CreateRegion", USERS),
    ("/regent.v1.RegionService/UpdateRegion", USERS),
    ("/regent.v1.RegionService/DeleteRegion", USERS),
    ("/regent.v1.RegionService/RemoveNode", USERS),
    ("/regent.v1.RegionService/ListHealthChanges", ALL),
    ("/regent.v1.RegionService/AttachStore", AGENTS),
    // Whose they are is looked at in the method.
    ("/regent.v1.PreferenceService/GetPreferences", USERS),
    ("/regent.v1.PreferenceService/SetPreferences", USERS),
    ("/regent.v1.PrimaryService/ListRoles", ALL),
    ("/regent.v1.PrimaryService/GetRole", ALL),
    ("/regent.v1.PrimaryService/CreateRole", USERS),
    ("/regent.v1.PrimaryService/SetRoleMode", USERS),
    ("/regent.v1.PrimaryService/SetRoleTiming", USERS),
    ("/regent.v1.PrimaryService/SetRoleCandidates", USERS),
    ("/regent.v1.PrimaryService/Switchover", USERS),
    ("/regent.v1.PrimaryService/GetPlan", ALL),
    ("/regent.v1.PrimaryService/ListPlans", ALL),
    ("/regent.v1.PrimaryService/ReportStep", AGENTS),
    ("/regent.v1.PrimaryService/RenewLease", AGENTS),
    ("/regent.v1.PrimaryService/ReleaseLease", AGENTS),
    ("/regent.v1.PrimaryService/CheckFence", ALL),
    ("/regent.v1.WatchService/List", ALL),
    ("/regent.v1.WatchService/Watch", ALL),
    ("/regent.v1.SessionService/Session", AGENTS),
    ("/grpc.health.v1.Health/Check", ALL),
    ("/grpc.health.v1.Health/Watch", ALL),
    ("/grpc.health.v1.Health/List", ALL),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ALL),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ALL,
    ),
];

/// What keeps leases, sessions and running failovers alive, and says how this coordinator is. These have permits of their own: however
/// many other calls wait, no lease lapses and no agent is taken for dead because of them.
pub const VITAL: &[&str] = &[
    "/regent.v1.PrimaryService/RenewLease",
    "/regent.v1.PrimaryService/ReleaseLease",
    "/regent.v1.PrimaryService/ReportStep",
    "/regent.v1.SessionService/Session",
    "/regent.v1.ClusterService/GetStatus",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.health.v1.Health/List",
];

/// Whether `principal` may call `path`.
pub fn check(path: &str, principal: &Principal) -> Result<(), Refusal> {
    let denied = |why: String| Refusal::new(Reason::PermissionDenied, why).with("method", path);
    match METHODS.iter().find(|(method, _)| *method == path) {
        None => Err(denied(format!("no such method {path}"))),
        Some((_, who)) if who.includes(principal) => Ok(()),
        Some((_, who)) => Err(denied(format!("{path} takes {}, not {principal}", who.words()))
            .with("actor", principal)
            .with("needs", who.words())),
    }
}

/// Longest time that a call may take, whatever its caller grants.
const DEADLINE_MAX: Duration = Duration::from_secs(30);
/// The time of a call that names none.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// Who calls, when the call came, and until when it must be answered.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who, by certificate.
    pub principal: Principal,
    /// When the call's head was received; a lease's deadline counts from here (L8).
    pub received: Instant,
    /// Until when an answer is of use: a tenth before the caller's own deadline, so that the answer is ours.
    pub deadline: Instant,
}

/// Authenticates, authorises and bounds every call before its handler runs.
#[derive(Clone)]
pub struct AuthLayer {
    vital: Arc<Semaphore>,
    others: Arc<Semaphore>,
    limit: usize,
    cluster: OwnCluster,
}

/// Which cluster this coordinator is of; none before it was taken into one.
pub type OwnCluster = Arc<dyn Fn() -> Option<ClusterId> + Send + Sync>;

impl AuthLayer {
    /// At most `limit` calls that are [`VITAL`] are worked on at once, and as many others; one more is refused. A stream counts
    /// until its answer begins.
    pub fn new(limit: usize, cluster: OwnCluster) -> Self {
        Self {
            vital: Arc::new(Semaphore::new(limit)),
            others: Arc::new(Semaphore::new(limit)),
            limit,
            cluster,
        }
    }

    fn permit(&self, path: &str) -> Result<OwnedSemaphorePermit, Refusal> {
        let permits = if VITAL.contains(&path) {
            &self.vital
        } else {
            &self.others
        };
        Arc::clone(permits).try_acquire_owned().map_err(|_| {
            let text = format!("{} calls are being worked on", self.limit);
            Refusal::new(Reason::Overloaded, text).with("retry_after_ms", 100)
        })
    }

    fn admit(&self, request: &mut Request<Body>) -> Result<OwnedSemaphorePermit, Refusal> {
        let received = Instant::now();
        let principal = identity::of_connection(request.extensions())?;
        check(request.uri().path(), &principal)?;
        check_cluster(request, &self.cluster)?;
        let permit = self.permit(request.uri().path())?;
        let granted = request
            .headers()
            .get("grpc-timeout")
            .and_then(|v| parse_timeout(v.to_str().ok()?));
        let time = granted.map_or(DEADLINE_DEFAULT, |t| t - t / 10).min(DEADLINE_MAX);
        request.extensions_mut().insert(Caller {
            principal,
            received,
            deadline: received + time,
        });
        Ok(permit)
    }
}

/// That the caller means this cluster, where it says which one it means: its own may have ended, or be another one (L19).
fn check_cluster(request: &Request<Body>, own: &OwnCluster) -> Result<(), Refusal> {
    let meant = request
        .headers()
        .get(CLUSTER_HEADER)
        .and_then(|v| v.to_str().ok());
    let Some((meant, own)) = meant.and_then(|meant| Some((meant, own()?.to_string()))) else {
        return Ok(());
    };
    if meant == own {
        return Ok(());
    }
    let text = format!("this coordinator is of cluster {own}, and a call to cluster {meant} came to it");
    Err(Refusal::new(Reason::WrongCluster, text)
        .with(MEANT, meant)
        .with("current", own))
}

/// Reads `grpc-timeout`: at most eight digits and a unit.
pub(crate) fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;
    fn layer(&self, inner: S) -> Auth<S> {
        Auth {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service that [`AuthLayer`] makes.
#[derive(Clone)]
pub struct Auth<S> {
    layer: AuthLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for Auth<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.layer.admit(&mut request) {
            Err(refusal) => Box::pin(std::future::ready(Ok(to_status(&refusal).into_http()))),
            Ok(permit) => {
                let answer = self.inner.call(request);
                Box::pin(async move {
                    let answer = answer.await;
                    drop(permit);
                    answer
                })
            }
        }
    }
}
