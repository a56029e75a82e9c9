//! What the access log needs to know of a pointer's body. The body itself belongs to `artifact-store`.

use serde::{Deserialize, Serialize};
use types::{ClusterId, Epoch, RoleName, epoch::Holder};

/// Keys below this prefix hold pointers guarded by an epoch (design.md L14).
const POINTER_PREFIX: &str = "regent/pointers/";

/// Bodies above this are no pointers; they are not kept in memory to look at them.
pub(crate) const POINTER_BODY_MAX: usize = 64 * 1024;

/// The fencing fields of a pointer's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceView {
    /// The cluster that the writer belongs to.
    pub cluster_id: ClusterId,
    /// The role that guards the pointer.
    pub role: RoleName,
    /// The epoch that the body was written under.
    pub epoch: Epoch,
    /// Who wrote it.
    pub holder: Holder,
    /// The writer's own count of writes.
    pub sequence: u64,
    /// Tells one attempt from another.
    pub nonce: String,
}

impl FenceView {
    /// Reads the fields where `key` names a pointer; anything else, and any other body, is `None`.
    pub(crate) fn of(key: &str, body: &[u8]) -> Option<Self> {
        let pointer = Self::is_pointer(key) && body.len() <= POINTER_BODY_MAX;
        pointer.then(|| serde_json::from_slice(body).ok()).flatten()
    }

    /// Whether the key is one of those that an epoch guards.
    pub(crate) fn is_pointer(key: &str) -> bool {
        key.starts_with(POINTER_PREFIX)
    }
}
