//! What can be typed: one enum of subcommands, and the flags that all of them share.
//!
//! Every shared flag can also come from the environment (`REGENT_…`), and what is set in neither from the context
//! file: flag, then environment, then file.

mod cluster;
#[cfg(feature = "server")]
mod demo;
mod experiment;
mod history;
mod model;
mod rebind;
mod region;
mod service;
mod snapshot;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use types::{
    ModelName, RegionId, RequestId, RoleName,
    filter::{Pattern, ResourceKind},
    role::FailoverMode,
};

pub(crate) use cluster::{LeaveArgs, RemoveArgs, ReplaceArgs, TransferLeaderArgs};
pub(crate) use experiment::{
    ExperimentAssignArgs, ExperimentCommand, ExperimentCreateArgs, ExperimentEndArgs, ExperimentGetArgs,
    ExperimentListArgs, ExperimentReportArgs, ExperimentSplitArgs,
};
pub(crate) use model::{
    AbortArgs, AliasArgs, DependentsArgs, ModelArgs, ModelCommand, ModelListArgs, ModelReportArgs, PushArgs,
    UnaliasArgs, VersionsArgs, WaitCopies,
};
pub(crate) use rebind::{RebindCommand, WhichArgs};
pub(crate) use region::{
    NodeCommand, NodeGetArgs, NodeListArgs, NodeRemoveArgs, RegionCommand, RegionCreateArgs,
    RegionDeleteArgs, RegionGetArgs, RegionUpdateArgs,
};

#[cfg(feature = "server")]
pub(crate) use snapshot::{AboveArgs, RecoverArgs, RestoreArgs};
pub(crate) use snapshot::{SaveArgs, SnapshotCommand};

#[cfg(feature = "server")]
pub(crate) use demo::{DemoArgs, ZombieWriterArgs};
pub(crate) use history::{
    ModelHistoryArgs, NodeHistoryArgs, PreferencesCommand, PreferencesGetArgs, PreferencesSetArgs,
    RegionHistoryArgs,
};
pub(crate) use service::{
    ServiceCommand, ServiceDeregisterArgs, ServiceGetArgs, ServiceListArgs, ServiceRegisterArgs,
};

/// Coordinates an ML platform across regions: one registry, verified copies, one primary per role.
#[derive(Debug, Parser)]
#[command(name = "regent", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every subcommand.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shared {
    /// What stands on stdout: a table for people, or one JSON document.
    #[arg(
        long,
        short = 'o',
        global = true,
        env = "REGENT_OUTPUT",
        value_enum,
        default_value = "table"
    )]
    pub(crate) output: OutputFormat,
    /// How to reach the cluster [default: ./.regent-dev/context.toml, then ~/.config/regent/context.toml].
    #[arg(long, global = true, env = "REGENT_CONTEXT", value_name = "FILE")]
    pub(crate) context: Option<PathBuf>,
    /// A coordinator's API, instead of those of the context; may be given several times.
    #[arg(
        long = "endpoint",
        global = true,
        env = "REGENT_ENDPOINTS",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub(crate) endpoints: Vec<String>,
    /// How long one request may take, with its retries; at an object store, one that moves little data.
    #[arg(long, global = true, env = "REGENT_TIMEOUT", value_name = "DURATION", value_parser = some_time, default_value = "10s")]
    pub(crate) timeout: Duration,
}

/// What stands on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Table,
    /// For programs: one document; logs stay on stderr.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "server")]
    /// Runs the whole story on a fresh cluster of this machine, and checks itself.
    Demo(DemoArgs),
    #[cfg(feature = "server")]
    /// Runs a cluster of several regions on this machine, as real processes, until ctrl-c.
    Dev(DevArgs),
    #[cfg(feature = "server")]
    /// Runs a coordinator.
    Coordinator(ServerArgs),
    #[cfg(feature = "server")]
    /// Runs a node agent.
    Agent(ServerArgs),
    /// Models, their versions and aliases.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Experiments: which users of a model get which version.
    ///
    /// An experiment says who gets what, and remembers what was measured. A version is in the memory of agents where an alias
    /// points at it.
    #[command(subcommand)]
    Experiment(ExperimentCommand),
    /// Services: where on which node somebody answers, for as long as that node is there.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// What you want of tools, by key: the same on every machine.
    #[command(subcommand)]
    Preferences(PreferencesCommand),
    /// Regions.
    #[command(subcommand)]
    Region(RegionCommand),
    /// Nodes: the processes of the regions.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Primary roles: who may write, under which epoch.
    #[command(subcommand)]
    Primary(PrimaryCommand),
    /// Moves a primary role to another living region, without a gap in who may write. Where that region holds it already,
    /// nothing is changed, and the exit code is 0.
    Switchover(SwitchoverArgs),
    /// Copies of versions in regions.
    #[command(subcommand)]
    Replication(ReplicationCommand),
    /// The coordinators.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Asks a model for an answer.
    Infer(InferArgs),
    /// Prints every change of the registry as it is committed, until ctrl-c.
    Watch(WatchArgs),
    #[cfg(feature = "server")]
    /// Runs the S3 endpoint of `dev`.
    #[command(hide = true)]
    DevS3(ServerArgs),
    #[cfg(feature = "server")]
    /// Writes with an old token, blind to its lease; part of the demo.
    #[command(hide = true)]
    ZombieWriter(ZombieWriterArgs),
}

#[cfg(feature = "server")]
/// A server process.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Its config (TOML); annotated examples stand in deploy/config.
    #[arg(long, env = "REGENT_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// End when this process, the parent, ends. `dev` sets it, so that nothing is left when it is killed.
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) die_with: Option<u32>,
}

#[cfg(feature = "server")]
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// How many regions, 1 to 7. An existing data directory keeps its own.
    #[arg(long, env = "REGENT_DEV_REGIONS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(crate) regions: Option<u8>,
    /// Where everything is kept between runs.
    #[arg(
        long,
        env = "REGENT_DEV_DIR",
        value_name = "DIR",
        default_value = ".regent-dev"
    )]
    pub(crate) dir: PathBuf,
    /// The timing policy of a new cluster: fast, default or conservative.
    #[arg(long, env = "REGENT_DEV_TIMING", value_name = "NAME", default_value = "fast")]
    pub(crate) timing: String,
}

/// Asking again for a change whose outcome was unknown.
#[derive(Debug, Args)]
pub(crate) struct AgainArgs {
    /// Ask again for a change whose outcome was unknown: a command that ends with exit code 9 prints the id of its
    /// request. Under it the change is made if it was not yet, and never twice.
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<RequestId>,
}

/// How a change is made, whatever it is.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Check and decide as for the change, and do nothing: it ends as the change would now, with what would be then.
    #[arg(long)]
    pub(crate) validate_only: bool,
    #[command(flatten)]
    pub(crate) again: AgainArgs,
}

/// How a change of a role is made.
#[derive(Debug, Args)]
pub(crate) struct RoleChangeArgs {
    /// Only if the role's epoch still is this one, as in g1.e7.
    #[arg(long, value_name = "EPOCH")]
    pub(crate) expect_epoch: Option<types::Epoch>,
    /// Only if the role still is as it was at this revision (`modified` in `primary get --output json`).
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// Answer from the state of whichever coordinator is asked, without the quorum; the answer says its revision, and how
    /// long ago a quorum last confirmed it.
    #[arg(long)]
    pub(crate) stale: bool,
    /// As --stale, from state that is at most this old; where it is older, the quorum is asked after all.
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    pub(crate) max_staleness: Option<Duration>,
    /// Answer from this revision on, waiting until the coordinator that is asked has come to it: a change names its own, and
    /// with it one's own changes are seen at any coordinator, also with --stale.
    #[arg(long, value_name = "REVISION")]
    pub(crate) min_revision: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PrimaryCommand {
    /// Lists the roles with holder and epoch.
    List(ReadArgs),
    /// Shows one role with its latest plans.
    Get(RoleGetArgs),
    /// Holds automatic failovers of a role for a while.
    Pause(PauseArgs),
    /// Lets failovers of a role run by themselves again.
    Resume(ResumeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The role.
    #[arg(default_value = "primaries/global")]
    pub(crate) role: RoleName,
    #[command(flatten)]
    pub(crate) change: RoleChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RoleGetArgs {
    /// The role.
    #[arg(default_value = "primaries/global")]
    pub(crate) role: RoleName,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// The role.
    #[arg(default_value = "primaries/global")]
    pub(crate) role: RoleName,
    /// How long, 168h (7 days) at most; it ends by itself.
    #[arg(long = "for", value_name = "DURATION", value_parser = pause, default_value = "30m")]
    pub(crate) duration: Duration,
    #[command(flatten)]
    pub(crate) change: RoleChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SwitchoverArgs {
    /// The role, as in primaries/global.
    pub(crate) role: RoleName,
    /// The region that shall hold it.
    #[arg(long, value_name = "REGION")]
    pub(crate) to: RegionId,
    /// Wait until the plan has ended.
    #[arg(long, conflicts_with = "validate_only")]
    pub(crate) wait: bool,
    /// How long to wait for it.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub(crate) wait_timeout: Duration,
    #[command(flatten)]
    pub(crate) change: RoleChangeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReplicationCommand {
    /// Lists the copies, one row per version and region.
    Status(ReplicationArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ReplicationArgs {
    /// Only this model.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<ModelName>,
    /// Only this region.
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<RegionId>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Each coordinator's own view: leader, term, log, quorum.
    ///
    /// LOG and APPLIED are the last entry that this coordinator has and the last one that it has applied. QUORUM says
    /// of the leader whether a majority confirmed it just now, and of the others whether the leader spoke to them just
    /// now. Where the leader does not answer, the others are asked again, for up to 2 s, whether they have one. SESSIONS
    /// counts the agents whose heartbeats this coordinator answers: all of them come to the leader, so the others show 0.
    /// MEMORY is what the process has resident. Under the table stand the timing of elections with what led to it, and the
    /// round trips between the coordinators, as they measure them all the time.
    Status,
    /// Who votes, who only listens, who was taken out, and whether the cluster survives the loss of any one region.
    ///
    /// SILENT is how long ago the leader last heard from a member, LOG up to where the member has stored the log, DISK the id of its
    /// data directory.
    Members,
    /// Takes a coordinator out, for ever: its disk does not come back; its name may, with an empty one.
    ///
    /// Refused with exit code 5 where the rest would be no majority that answers and has the log, where the last voter would go, and,
    /// without --accept-region-loss, where the cluster survives the loss of any one region now and would not any more. One that leads
    /// hands leadership over first.
    Remove(RemoveArgs),
    /// Puts a coordinator in the place of one that is dead or has lost its disk, step by step.
    ///
    /// With --with the successor votes first, and then the other one is taken out. Without it the old disk is taken out, and the same
    /// name joins anew: start it with an empty data directory.
    Replace(ReplaceArgs),
    /// How fast the coordinators' own elections are.
    ///
    /// By default it is derived: the coordinators measure the round trips between each other, and the leader raises heartbeat
    /// and election timeouts at once where a round trip needs it, and lowers them once shorter ones have sufficed for a
    /// minute. Every coordinator goes by the one setting; it is no key of a config file.
    #[command(subcommand)]
    Timing(TimingCommand),
    /// Names the regions whose coordinators should lead, most wanted first; with --none, whoever is elected leads on.
    ///
    /// A leader elsewhere hands over once a voter of a more wanted region has answered in time and been caught up for 10 s.
    Prefer(PreferArgs),
    /// Hands leadership to another voter now, as before its machine is stopped; the next election may choose otherwise.
    ///
    /// Done as well where that one leads already. A preference of regions (`cluster prefer`) takes it back after a while.
    TransferLeader(TransferLeaderArgs),
    /// Backups: everything that is committed, as one file.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// That this cluster goes on from another one, signed by the CA: by that the old one's agents, pointers and databases follow.
    #[command(subcommand)]
    Rebind(RebindCommand),
    #[cfg(feature = "server")]
    /// Founds a new cluster from the one coordinator that is left, after the majority is lost for good; needs no cluster.
    ///
    /// It reads the survivor's data directory, says what is known to be lost, asks for the node's name to be typed, and puts the
    /// directory of a new cluster in its place; the old one is kept beside it. The new cluster has another id and a higher
    /// generation: what the lost majority gave out that the survivor never heard of is refused all the same, also should it come
    /// back. Refused with exit code 5 while another member takes connections.
    Recover(RecoverArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TimingCommand {
    /// Shows the timing, whether it is derived or fixed, and what led to it.
    Get(ReadArgs),
    /// Fixes the timing, or has it derived again.
    Set(TimingSetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TimingSetArgs {
    /// Have the leader derive it from measured round trips again.
    #[arg(long, conflicts_with_all = ["heartbeat", "election_min", "election_max"])]
    pub(crate) derived: bool,
    /// Interval of the leader's heartbeats, and the time that an answer has: at least twice the longest round trip.
    #[arg(long, value_name = "DURATION", value_parser = some_time, required_unless_present = "derived")]
    pub(crate) heartbeat: Option<Duration>,
    /// Least silence of a leader before a campaign: at least three heartbeats.
    #[arg(long, value_name = "DURATION", value_parser = some_time, required_unless_present = "derived")]
    pub(crate) election_min: Option<Duration>,
    /// Longest such silence, and how long a leader without its quorum goes on: above the least one.
    #[arg(long, value_name = "DURATION", value_parser = some_time, required_unless_present = "derived")]
    pub(crate) election_max: Option<Duration>,
    /// Only if the settings still are as they were at this revision.
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PreferArgs {
    /// Regions, most wanted first. `cluster timing get` shows which they are.
    #[arg(value_name = "REGION", required_unless_present = "none")]
    pub(crate) regions: Vec<RegionId>,
    /// No region any more.
    #[arg(long, conflicts_with = "regions")]
    pub(crate) none: bool,
    /// Only if the settings still are as they were at this revision.
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InferArgs {
    /// The model.
    pub(crate) model: ModelName,
    #[command(flatten)]
    pub(crate) what: InferInput,
    /// Ask this region's agent [default: each in turn, the healthy regions first, until one has the model]. One that is about to
    /// have it is asked again until --timeout is over; one that does not show within 2s that it lives is passed over for the next.
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<RegionId>,
    /// A version instead of the one that serves.
    #[arg(long = "model-version", value_name = "N")]
    pub(crate) model_version: Option<types::ModelVersion>,
    /// Most tokens to generate, with --prompt.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) max_tokens: u32,
}

/// What the model is asked; exactly one.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct InferInput {
    /// A JSON file: an Open Inference Protocol v2 request, or an array of numbers for a model with one input; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// A text to embed.
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// A text to go on from.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Begin after this revision instead of now.
    #[arg(long, value_name = "REVISION")]
    pub(crate) after: Option<u64>,
    /// End after this many revisions; one revision is one committed change, whatever the number of its events.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Only resources of this kind: region, node, model, version, alias, replica, role, plan, timing, experiment or service;
    /// may be given several times.
    #[arg(long = "kind", value_name = "KIND")]
    pub(crate) kinds: Vec<ResourceKind>,
    /// Only of models with such a name, as in 'fraud.*': models, versions, aliases, copies and experiments, and the role
    /// primaries/NAME of one with its plans. A star stands for any part of a name.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) model: Option<Pattern>,
    /// Only in regions with such a name: regions, their nodes and copies, and versions that were uploaded there.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) region: Option<Pattern>,
    /// Only of roles with such a name, as in 'primaries/*': roles and their plans.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) role: Option<Pattern>,
}

/// A duration in which something can be done.
fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => {
            Err("nothing can be asked and answered in no time; the default is 10s".to_owned())
        }
        read => read.map_err(|why| why.to_string()),
    }
}

/// How long failovers may be held.
fn pause(text: &str) -> Result<Duration, String> {
    match some_pause(text)? {
        long if long > FailoverMode::PAUSE_MAX => {
            let days = FailoverMode::PAUSE_MAX.as_secs() / (24 * 3600);
            Err(format!(
                "a pause lasts {days} days at most ({}h); ask again before it ends",
                days * 24
            ))
        }
        read => Ok(read),
    }
}

fn some_pause(text: &str) -> Result<Duration, String> {
    match duration(text).map_err(|why| why.to_string())? {
        Duration::ZERO => Err("a pause of no time holds nothing".to_owned()),
        read => Ok(read),
    }
}

fn duration(text: &str) -> Result<Duration, types::InvalidId> {
    types::units::parse_duration(text)
}

/// A measured value, as in accuracy=0.93.
fn metric(text: &str) -> Result<(types::MetricName, types::Micros), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write NAME=VALUE, as in accuracy=0.93")?;
    let name = name.parse().map_err(|e: types::InvalidId| e.to_string())?;
    Ok((name, value.parse().map_err(|e: types::InvalidId| e.to_string())?))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}
