//! Arguments of `regent cluster rebind …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use types::ClusterId;

use super::ChangeArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum RebindCommand {
    /// Lists the clusters that this one goes on from, and whether the CA has signed that.
    List,
    /// Prints a statement to be signed, byte for byte, and nothing else.
    ///
    /// Where the CA's key lives: `openssl dgst -sha256 -sign ca.key -out rebind.sig rebind.txt`, and for an Ed25519 key `openssl pkeyutl
    /// -sign -rawin -inkey ca.key -in rebind.txt -out rebind.sig`.
    Statement(WhichArgs),
    /// Signs a statement with the CA's key here, and has the signature kept.
    Sign(SignArgs),
    /// Has a signature kept that was made elsewhere, after verifying it by the CA's certificate.
    Record(RecordArgs),
}

/// Which statement.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// The cluster that this one supersedes [default: the only one whose statement is not signed].
    #[arg(long, value_name = "CLUSTER")]
    pub(crate) supersedes: Option<ClusterId>,
}

/// `regent cluster rebind sign`.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The private key (PEM) of the CA that signed the nodes' certificates.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_key: PathBuf,
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// `regent cluster rebind record`.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The signature, as openssl wrote it.
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: PathBuf,
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}
