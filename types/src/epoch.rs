//! The fencing token: the comparison that grants or refuses authority (design.md L2, L3).
//!
//! Absent on purpose: any way to order tokens with `<`. Epochs of different roles mean nothing to each other:
//! a token can only be compared through [`FencingToken::compare`], which refuses another role or cluster.
//!
//! ```compile_fail
//! fn newer(a: types::FencingToken, b: types::FencingToken) -> bool { a > b }
//! ```
//!
//! A bare [`Epoch`] says no role, and is ordered: records and doors compare two of one role with it. Which places do, and what makes
//! sure of the role there, is listed in `docs/protocol/leases.md`.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, InvalidId, NodeId, NodeIncarnation, RegionId, RoleName};

/// Right to act in a role. The larger epoch wins; a holder of a smaller one must stop.
/// Generation in the high 32 bits, counter in the low; shown `g1.e7`. The generation grows only by restore or
/// recovery (L19), the counter with every change of holder, also to nobody (I4).
/// Source: issued only by `state::apply::primary`. It is never a Raft term.
/// Ordered among those of one role; whoever has two of which that is not known compares tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Before any grant, in no generation; below every epoch that was ever issued.
    pub const ZERO: Epoch = Epoch(0);

    /// The `counter`-th epoch of a generation.
    pub const fn new(generation: u32, counter: u32) -> Self {
        Self(((generation as u64) << 32) | counter as u64)
    }
    /// The 64 bits as they stand on disk and wire.
    pub const fn from_u64(bits: u64) -> Self {
        Self(bits)
    }
    /// The 64 bits as they stand on disk and wire; they compare as the epochs do.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
    /// Grows by restore or recovery only.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// Grows with every change of holder.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low 32 bits are what is asked for"
    )]
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }
    /// The next epoch of the same generation; `None` once 2^32 changes of holder are used up.
    pub const fn next(self) -> Option<Self> {
        if self.counter() == u32::MAX {
            None
        } else {
            Some(Self(self.0 + 1))
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}.e{}", self.generation(), self.counter())
    }
}
impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Epoch {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parse = || {
            let (generation, counter) = text.strip_prefix('g')?.split_once(".e")?;
            Some(Self::new(generation.parse().ok()?, counter.parse().ok()?))
        };
        parse().ok_or_else(|| InvalidId::new("epoch", text, "write gGENERATION.eCOUNTER, as in g1.e7"))
    }
}
impl Serialize for Epoch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Who holds a role: one run of one node in one region (I4). Shown `us-west-2/a1#1f0c…`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The region that the node serves.
    pub region: RegionId,
    /// The machine.
    pub node: NodeId,
    /// The run of its process; a restart is another holder.
    pub incarnation: NodeIncarnation,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last characters of a UUIDv7 are its random ones; the first are a time and look alike.
        let incarnation = self.incarnation.to_string();
        write!(
            f,
            "{}/{}#{}",
            self.region,
            self.node,
            &incarnation[incarnation.len() - 8..]
        )
    }
}
impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a guarded write carries: this cluster, this role, this epoch, this holder (L3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FencingToken {
    /// The cluster that issued the epoch.
    pub cluster_id: ClusterId,
    /// The role that the epoch belongs to.
    pub role: RoleName,
    /// The epoch under which the write is made.
    pub epoch: Epoch,
    /// Whose epoch it is.
    pub holder: Holder,
}

/// Two tokens that cannot be ordered, because they speak of different things.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomparable {
    /// The tokens come from two clusters; a door follows a new one only by a rebind (L19).
    #[error("token of cluster {shown} shown where cluster {expected} rules")]
    Cluster {
        /// The cluster of the token that was shown.
        shown: ClusterId,
        /// The cluster that the door is bound to.
        expected: ClusterId,
    },
    /// The tokens are for two roles; their epochs count different things.
    #[error("token of role {shown} shown where role {expected} rules")]
    Role {
        /// The role of the token that was shown.
        shown: RoleName,
        /// The role that the door is guarded by.
        expected: RoleName,
    },
}

/// Why a token may not take the place of what stands under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outranked {
    /// That one's epoch is higher.
    ByEpoch,
    /// It has the same epoch, and another holder: an epoch belongs to one (I4).
    ByHolder,
}

impl FencingToken {
    /// The rule of every door that keeps the token of its last write (I5, L14): this one may follow it if its epoch is
    /// higher, or the same and of the same holder.
    pub fn outranked_by(&self, stands: &FencingToken) -> Result<Option<Outranked>, Incomparable> {
        Ok(match self.compare(stands)? {
            Ordering::Less => Some(Outranked::ByEpoch),
            Ordering::Equal if self.holder != stands.holder => Some(Outranked::ByHolder),
            Ordering::Equal | Ordering::Greater => None,
        })
    }

    /// How this token's epoch stands to `current`'s; an error where the two cannot be compared.
    pub fn compare(&self, current: &FencingToken) -> Result<Ordering, Incomparable> {
        self.check_scope(current.cluster_id, &current.role)?;
        Ok(self.epoch.cmp(&current.epoch))
    }

    /// That this token speaks of `cluster_id` and `role`, so that its epoch may be compared with theirs.
    pub fn check_scope(&self, cluster_id: ClusterId, role: &RoleName) -> Result<(), Incomparable> {
        if self.cluster_id != cluster_id {
            return Err(Incomparable::Cluster {
                shown: self.cluster_id,
                expected: cluster_id,
            });
        }
        if &self.role != role {
            return Err(Incomparable::Role {
                shown: self.role.clone(),
                expected: role.clone(),
            });
        }
        Ok(())
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.role, self.epoch, self.holder)
    }
}
