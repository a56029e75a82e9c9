//! Arguments of `regent cluster snapshot …` and `regent cluster recover`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use types::ClusterId;

use super::ReadArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Saves everything that is committed into a file, and reads that file back before it gets its name.
    ///
    /// The file is what coordinators keep as their own snapshots: models, versions, aliases, copies, roles, plans, settings. Bytes
    /// of artifacts are not in it. Any coordinator answers; writes go on meanwhile.
    Save(SaveArgs),
    #[cfg(feature = "server")]
    /// Checks a saved file and says what is in it; needs no cluster.
    ///
    /// Every frame's check, the digest of the whole, the integrity hash of the state and its invariants are verified. A file that is
    /// damaged or cut ends with exit code 1 and the offset where that was met; one of a newer release with 4.
    Inspect(InspectArgs),
    #[cfg(feature = "server")]
    /// Makes the data directory of a new cluster from a saved file; needs no cluster.
    ///
    /// The new cluster has another id and a higher generation, so that no token, epoch, watch or request of the old one is good in
    /// it; its roles are held by nobody, and its only member is the coordinator of the config. The others join it with empty data
    /// directories.
    Restore(RestoreArgs),
}

/// `regent cluster snapshot save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Where to; a file of that name is not replaced.
    pub(crate) file: PathBuf,
    /// Replace a file of that name.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// How long all of it may take; --timeout bounds each message.
    #[arg(long, value_name = "DURATION", value_parser = super::some_time, default_value = "10m")]
    pub(crate) wait_timeout: Duration,
}

#[cfg(feature = "server")]
/// `regent cluster snapshot inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A file that was saved, or a `.snap` of a coordinator's data directory.
    pub(crate) file: PathBuf,
}

#[cfg(feature = "server")]
/// `regent cluster snapshot restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A file that was saved.
    pub(crate) file: PathBuf,
    /// The config (TOML) of the coordinator that founds the new cluster: its node, region and data_dir, which must be empty.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) above: AboveArgs,
}

#[cfg(feature = "server")]
/// What a new cluster must be above.
#[derive(Debug, Args)]
pub(crate) struct AboveArgs {
    /// Generation of the new cluster's epochs, as in gN.e1, above every one that was ever in use: that of a cluster which was restored
    /// or recovered after this file was saved, too [default: one above the highest in the file].
    #[arg(long, value_name = "N")]
    pub(crate) generation: Option<u32>,
    /// The longest lease TTL that may have been set since, which is waited out before a role is given to anybody [default: the longest
    /// in the file].
    #[arg(long, value_name = "DURATION", value_parser = super::duration, default_value = "0s")]
    pub(crate) longest_ttl: Duration,
    /// A cluster that the new one supersedes, besides the one that it goes on from: one that was restored or recovered after this state
    /// was written, whose doors are to follow, too. May be given several times.
    #[arg(long, value_name = "CLUSTER")]
    pub(crate) supersedes: Vec<ClusterId>,
    /// The private key (PEM) of the CA that signed the nodes' certificates: it signs that the new cluster supersedes the old one, so that
    /// agents, pointers and databases follow. Without it they stay where they are until `regent cluster rebind` has a signature.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_key: Option<PathBuf>,
}

#[cfg(feature = "server")]
/// `regent cluster recover`.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Do it: give up what the survivor has not stored, and end the old cluster.
    #[arg(long = "unsafe")]
    pub(crate) is_unsafe: bool,
    /// The survivor's config (TOML): its node, region and data_dir. It must not run.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Only show what the survivor has, and what is known to be lost; of several survivors take the one whose log ends last.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask for the node's name to be typed.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) above: AboveArgs,
}
