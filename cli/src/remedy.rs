//! What helps against a refusal, where that can be said without knowing the command.

use proto::convert::status::UNKNOWN_REASON;
use types::reason::{Category, Reason, Refusal};

/// What helps where nobody answers at all.
pub(crate) const NOBODY_ANSWERS: &str =
    "is `regent dev` running? The context file names the coordinators, or --endpoint does";
/// What helps where somebody answers, and no majority.
pub(crate) const NO_QUORUM: &str = "`regent cluster status` shows who is missing: changes need a majority of the coordinators; reads do without one, with --stale";

/// What to do about it; empty where nothing can be said.
pub(crate) fn of(refusal: &Refusal) -> String {
    let operand = |name| refusal.operand(name);
    let remedy = match refusal.reason {
        reason if reason.category() == Category::Unknown => return unknown(operand("request_id")),
        _ if operand(UNKNOWN_REASON).is_some() => {
            "the cluster is newer than this `regent`: one of its own version knows what helps"
        }
        Reason::Overloaded => return overloaded(operand("retry_after_ms")),
        Reason::Unreachable if operand("heard") == Some("distrust") => {
            "compare the context's endpoints and [tls] files with the cluster's: does the context belong to another cluster?"
        }
        Reason::Unreachable if operand("heard").is_some() => NOBODY_ANSWERS,
        Reason::NoQuorum | Reason::NotLeader => NO_QUORUM,
        Reason::TargetNotQualified => {
            "`regent region list` shows each region's health and why, `regent replication status` its copies, `regent node list` \
             what its agents cannot load: with its alias on another version, that is no hindrance"
        }
        Reason::ModelNotFound => "`regent model list` shows the models that there are",
        Reason::VersionNotFound => "`regent model versions NAME` shows the versions that there are",
        Reason::AliasNotFound => "`regent model get NAME` shows the aliases that there are",
        Reason::RegionNotFound => "`regent region list` shows the regions that there are",
        Reason::NodeNotFound => "`regent node list` shows the nodes that there are",
        Reason::RoleNotFound => "`regent primary list` shows the roles that there are",
        Reason::PlanNotFound => "`regent primary get` shows the latest plans",
        Reason::ReplicaNotFound => "`regent replication status` shows the copies that there are",
        Reason::ExperimentNotFound => "`regent experiment list` shows the experiments that there are",
        Reason::PreferencesNotFound => "without --etag they are set anew",
        Reason::RecordGone => {
            "`regent watch` shows who changes what; ask under a new request id to make it again"
        }
        Reason::ServiceNotFound => "`regent service list` shows the instances that there are",
        Reason::VersionState if operand("experiment").is_some() => "`regent experiment end` ends it",
        Reason::VersionState if operand("alias").is_some() => {
            "`regent model alias` moves the alias, `regent model unalias` removes it"
        }
        Reason::RegionInUse if operand("nodes").is_some() => {
            "stop its nodes; `regent node remove` drops an agent that is DOWN, `regent cluster remove` takes a coordinator out"
        }
        Reason::RegionInUse if operand("roles").is_some() => {
            "`regent switchover` moves a role, and `regent primary get` shows its candidates"
        }
        Reason::RegionInUse if operand("leader_preference").is_some() => {
            "`regent cluster prefer` names other regions for the leader"
        }
        Reason::RegionInUse if operand("uploads").is_some() => "`regent model abort` gives an upload up",
        Reason::RegionInUse if operand("only_copies").is_some() => {
            "`regent replication status` shows where copies are missing: they are made where agents of other regions are up"
        }
        Reason::NodeInUse => "`regent switchover` moves a role to another region",
        Reason::VersionState => "`regent model versions NAME` shows the state of each version",
        Reason::FeatureLevel => {
            "`regent cluster status` shows the level, and which coordinator's build keeps it from rising"
        }
        Reason::MembershipUnsafe => {
            "`regent cluster members` shows who votes, who answers, and which losses the cluster survives"
        }
        Reason::FailoverPaused => "`regent primary resume` ends the pause",
        Reason::PlanRunning => "`regent primary get` shows the plan that runs; wait for its end",
        Reason::StaleEpoch => "`regent primary get` shows the role's epoch",
        Reason::EtagMismatch => "read it again, and decide again: somebody else changed it",
        Reason::RequestReused => "leave --request-id out: that id belongs to another request",
        Reason::RequestTooOld => {
            "look at the state; to ask anew, leave --request-id out and compare the clocks"
        }
        Reason::RequestFromFuture | Reason::TimeAhead => {
            "compare the clock of this machine with those of the coordinators"
        }
        Reason::InvalidArgument if operand("field") == Some("read") => {
            "leave --stale and --max-staleness out"
        }
        Reason::StoreNotQualified => "`regent region list` says why under DOOR",
        Reason::PermissionDenied => "name a context with another identity: --context or REGENT_CONTEXT",
        Reason::Compacted | Reason::FutureRevision => "leave --after out: what stands now comes first",
        Reason::LimitExceeded if operand("what") == Some(ALIASES) => {
            "`regent model get NAME` shows the aliases, `regent model unalias NAME ALIAS` removes one"
        }
        _ => "",
    };
    remedy.to_owned()
}

/// What the registry calls the bound on a model's aliases.
const ALIASES: &str = "count of aliases";

fn unknown(request_id: Option<&str>) -> String {
    match request_id {
        Some(id) => format!(
            "look at the state, or ask the same again with --request-id {id}: what has happened does not happen twice"
        ),
        None => "look at the state before asking again".to_owned(),
    }
}

fn overloaded(retry_after_ms: Option<&str>) -> String {
    match retry_after_ms {
        Some(wait) => format!("try again in {wait} ms"),
        None => "try again in a moment".to_owned(),
    }
}
