//! `regent model history`, `region history`, `node history`, `preferences …`.

use clap::{Args, Subcommand};
use types::{ModelName, NodeId, RegionId};

use super::{ChangeArgs, ReadArgs, key_value};

#[derive(Debug, Args)]
pub(crate) struct ModelHistoryArgs {
    /// Only of this model.
    pub(crate) model: Option<ModelName>,
    /// Only moves that meet this condition, as in 'alias=champion' or 'at>=2026-11-21'; may be given several times. Fields: model,
    /// alias, from, to (versions), reason, at, by; as in `model list`.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RegionHistoryArgs {
    /// Only of this region.
    pub(crate) region: Option<RegionId>,
    /// Only changes that meet this condition, as in 'to=UNHEALTHY'; may be given several times. Fields: from, to, evidence, at, by;
    /// as in `model list`.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NodeHistoryArgs {
    /// Only of this node.
    pub(crate) node: Option<NodeId>,
    /// Only changes that meet this condition, as in 'to=DOWN'; may be given several times. Fields: from, to, evidence, at, by; as in
    /// `model list`.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PreferencesCommand {
    /// Shows them.
    Get(PreferencesGetArgs),
    /// Sets and removes some; others stay.
    Set(PreferencesSetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PreferencesGetArgs {
    /// Of this user; for the user admin.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<NodeId>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PreferencesSetArgs {
    /// What to set, as in output=json; several at a time.
    #[arg(value_name = "KEY=VALUE", value_parser = key_value, required_unless_present = "remove")]
    pub(crate) set: Vec<(String, String)>,
    /// A key to forget; may be given several times.
    #[arg(long, value_name = "KEY")]
    pub(crate) remove: Vec<String>,
    /// Of this user; for the user admin.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<NodeId>,
    /// Only if they still are as they were at this revision (ETAG in `preferences get`).
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}
