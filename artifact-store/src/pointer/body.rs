//! The body of a pointer: JSON, versioned.

use serde::{Deserialize, Serialize};
use types::{ClusterId, Digest, Epoch, FencingToken, RoleName, epoch::Holder};

/// The version that this code writes, and the only one that it reads.
const VERSION: u32 = 1;

/// A pointer is a handful of fields; anything larger is none, and is not read.
pub(super) const BODY_BYTES_MAX: u64 = 64 * 1024;

/// What stands at a pointer's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointerBody {
    /// The cluster whose epochs count here; doors follow another only by a rebind (L19).
    pub cluster_id: ClusterId,
    /// The role that guards the pointer.
    pub role: RoleName,
    /// The epoch under which it was written last.
    pub epoch: Epoch,
    /// Who wrote it last.
    pub holder: Holder,
    /// Counts the writes of this pointer, from 1.
    pub sequence: u64,
    /// Made anew for each attempt, so that a writer in doubt recognises its own.
    pub nonce: String,
    /// What the pointer points at, if at anything.
    pub target: Option<Digest>,
    /// The pointer was taken out of use; it keeps fencing.
    pub tombstone: bool,
}

/// Bytes that are no pointer body.
#[derive(Debug, thiserror::Error)]
pub enum BadBody {
    /// Not JSON, or not these fields.
    #[error("the body is no pointer: restore it from another region, or write a tombstone by hand")]
    Malformed(#[from] serde_json::Error),
    /// Written by a release that knows more.
    #[error("the body has version {found}, this release reads {VERSION}: upgrade this process")]
    Version {
        /// The version of the body.
        found: u64,
    },
    /// Far too long.
    #[error(
        "the body has {bytes} bytes, a pointer has {BODY_BYTES_MAX} at most: check what was written to this key"
    )]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
    /// Another role's pointer, copied here.
    #[error("the body belongs to role {found}, the key to {expected}: restore the right one")]
    WrongRole {
        /// The role of the body.
        found: RoleName,
        /// The role of the key.
        expected: RoleName,
    },
}

/// Why a reader must not use a pointer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Written under an epoch that is over (I5): wait until the new holder claimed it.
    #[error("the pointer of {role} was written under {found}, committed is {committed}: wait for the claim")]
    OldEpoch {
        /// The role.
        role: RoleName,
        /// The epoch of the body.
        found: Epoch,
        /// The epoch that the control plane committed.
        committed: Epoch,
    },
    /// The epochs of two clusters cannot be compared.
    #[error("the pointer of {role} belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// The role.
        role: RoleName,
        /// The cluster of the body.
        found: ClusterId,
        /// The reader's own cluster.
        expected: ClusterId,
    },
}

impl PointerBody {
    /// Whether a reader may use the pointer, who knows the epoch that the control plane committed (I5).
    pub fn usable(&self, cluster_id: ClusterId, committed: Epoch) -> Result<(), Unusable> {
        let role = self.role.clone();
        if self.cluster_id != cluster_id {
            return Err(Unusable::OtherCluster {
                role,
                found: self.cluster_id,
                expected: cluster_id,
            });
        }
        if self.epoch < committed {
            return Err(Unusable::OldEpoch {
                role,
                found: self.epoch,
                committed,
            });
        }
        Ok(())
    }

    /// The bytes to write.
    pub fn to_bytes(&self) -> Vec<u8> {
        let versioned = Versioned {
            version: VERSION,
            body: self,
        };
        serde_json::to_vec_pretty(&versioned).expect("names, numbers and text always have a JSON form")
    }

    /// Reads a body; the version is looked at before anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadBody> {
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes)?;
        let version = fields
            .remove("version")
            .and_then(|version| version.as_u64())
            .unwrap_or(0);
        if version != u64::from(VERSION) {
            return Err(BadBody::Version { found: version });
        }
        Ok(serde_json::from_value(fields.into())?)
    }

    /// The token under which it was written.
    pub fn token(&self) -> FencingToken {
        let Self {
            cluster_id,
            role,
            epoch,
            holder,
            ..
        } = self;
        FencingToken {
            cluster_id: *cluster_id,
            role: role.clone(),
            epoch: *epoch,
            holder: holder.clone(),
        }
    }
}

#[derive(Serialize)]
struct Versioned<'a> {
    version: u32,
    #[serde(flatten)]
    body: &'a PointerBody,
}
