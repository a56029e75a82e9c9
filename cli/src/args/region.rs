//! `regent region …` and `regent node …`.

use clap::{Args, Subcommand};
use types::{NodeId, RegionId, ZoneName};

use super::{ChangeArgs, NodeHistoryArgs, ReadArgs, RegionHistoryArgs, key_value};

#[derive(Debug, Subcommand)]
pub(crate) enum RegionCommand {
    /// Lists the regions with their health, store and nodes.
    ///
    /// HEALTH is the committed verdict, and SINCE when it last changed; WHY says what led to it then, and is not told anew
    /// afterwards (`replication status` has the copies of now): a served version is one that an alias or a rollout gives to
    /// callers, and it is verified in a region once every byte of its copy there was read back and matched. DOOR says whether the region's store can refuse writes of a holder that was replaced:
    /// `qualified` once a probe saw its conditional writes work. NODES are the processes, UP while they keep their
    /// session with the leading coordinator.
    /// They stand in the order in which they joined, which is that of the candidates of a role that names none.
    List(ReadArgs),
    /// Shows one region: also what people call it, who runs its machines, and its cost tags.
    Get(RegionGetArgs),
    /// Adds a region before its first node does so by joining, with what people say of it.
    Create(RegionCreateArgs),
    /// Changes what people say of a region. Nothing is decided by it.
    Update(RegionUpdateArgs),
    /// Takes away a region that nothing stands in and nothing names, its history, and the records of the copies that were there.
    ///
    /// Refused with what keeps it otherwise: nodes (`node remove`, `cluster remove`), the only copy of a version that is left, copies
    /// that are being read from there, uploads, roles and their candidates, running plans, placements that name it, and the leader
    /// preference. Objects in its store stay there. A node that joins from there makes it anew, as a region without a past; an agent
    /// that ran all the while attaches the region's store at its next start.
    Delete(RegionDeleteArgs),
    /// Shows how regions have stood: every change of health that is remembered, newest first, with what led to it.
    History(RegionHistoryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RegionGetArgs {
    /// The region.
    pub(crate) region: RegionId,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RegionCreateArgs {
    /// Its name, for ever.
    pub(crate) region: RegionId,
    /// As people call it, as in 'US West (Oregon)'.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) display_name: String,
    /// Who runs its machines, as in aws or on-premises.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) provider: String,
    /// A tag by which its costs are allocated, as in team=search; may be given several times, 50 at most.
    #[arg(long = "cost-tag", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) cost_tags: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RegionUpdateArgs {
    /// The region.
    pub(crate) region: RegionId,
    /// As people call it from here on; '': by its name again.
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["provider", "cost_tags", "without_cost_tags"])]
    pub(crate) display_name: Option<String>,
    /// Who runs its machines; '': nobody says.
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,
    /// A cost tag to set, as in team=search; may be given several times. Others stay.
    #[arg(long = "cost-tag", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) cost_tags: Vec<(String, String)>,
    /// The key of a cost tag to remove; may be given several times.
    #[arg(long = "without-cost-tag", value_name = "KEY")]
    pub(crate) without_cost_tags: Vec<String>,
    /// Only if the region still is as it was at this revision (ETAG in `region get`). A change of its health changes it too.
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RegionDeleteArgs {
    /// The region.
    pub(crate) region: RegionId,
    /// Only if the region still is as it was at this revision.
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Lists every node, and what each agent says that it has in memory.
    ///
    /// STATUS is what the leading coordinator last heard. READY, LOADED and WHY are asked of the agents themselves: LOADED is how
    /// many of the versions that one is to serve it has in memory, and WHY names each that it has not, with what its last load
    /// said. An agent is ready without a version that does not load, or is on its way. ZONE is what the node's own config says.
    List(NodeListArgs),
    /// Shows one node, and what it says that it has in memory where it is an agent.
    Get(NodeGetArgs),
    /// Drops the record of an agent that is DOWN and does not come back, so that its region can be deleted.
    ///
    /// With it go its history and the services that it hosts.
    /// Refused while the agent is UP, holds a role, or a running plan names it. One that comes back after all is registered as a new
    /// node. Its certificate stays good: take it away where it must not come back. A coordinator leaves by `cluster remove`.
    Remove(NodeRemoveArgs),
    /// Shows how nodes have stood: when each was UP and when DOWN, newest first.
    History(NodeHistoryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NodeRemoveArgs {
    /// The node.
    pub(crate) node: NodeId,
    /// Only if the node still is as it was at this revision (`modified` in `node get --output json`).
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NodeListArgs {
    /// Only this region.
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<RegionId>,
    /// Only nodes whose config names this availability zone; zones of the same name in two regions are two.
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<ZoneName>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NodeGetArgs {
    /// The node.
    pub(crate) node: NodeId,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}
