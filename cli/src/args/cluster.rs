//! Arguments of `regent cluster …`.

use std::time::Duration;

use clap::Args;
use types::NodeId;

use super::AgainArgs;

/// What a removal takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct LeaveArgs {
    /// Do it also where the cluster survives the loss of any one region now, and would not any more.
    #[arg(long)]
    pub(crate) accept_region_loss: bool,
    /// Only say what would be done, and what is to be said of the cluster afterwards.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask for the node's name to be typed.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `regent cluster transfer-leader`.
#[derive(Debug, Args)]
pub(crate) struct TransferLeaderArgs {
    /// The coordinator that shall lead; without it, the voter that has most of the log. Exit code 4 where another one leads in the end.
    #[arg(long, value_name = "NODE")]
    pub(crate) to: Option<NodeId>,
    /// Only say who leads, and who would.
    #[arg(long)]
    pub(crate) validate_only: bool,
}

/// `regent cluster remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The coordinator.
    pub(crate) node: NodeId,
    #[command(flatten)]
    pub(crate) how: LeaveArgs,
    #[command(flatten)]
    pub(crate) again: AgainArgs,
}

/// `regent cluster replace`.
#[derive(Debug, Args)]
pub(crate) struct ReplaceArgs {
    /// The coordinator that is dead, or whose disk is.
    pub(crate) node: NodeId,
    /// The coordinator that comes in its place, started with `join` and an empty data directory; it votes before the other one
    /// leaves. Without it the same name comes back with an empty data directory, and votes after the old disk has left.
    #[arg(long = "with", value_name = "NEW")]
    pub(crate) with: Option<NodeId>,
    /// Do not wait until the successor votes; only of use where the same name comes back.
    #[arg(long, conflicts_with = "with")]
    pub(crate) no_wait: bool,
    /// How long to wait for it.
    #[arg(long, value_name = "DURATION", value_parser = super::duration, default_value = "10m")]
    pub(crate) wait_timeout: Duration,
    #[command(flatten)]
    pub(crate) how: LeaveArgs,
}
