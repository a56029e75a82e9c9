//! When a coordinator writes a snapshot, so that the log before it can go.
//!
//! In proportion: a snapshot costs as much as the state is large, so one is due once the log has grown by as much. Then no
//! more is written for snapshots than for the log itself, and a disk holds about three times the state. A bound on entries
//! keeps a restart short, which applies what came after the snapshot again.

/// What came since the newest snapshot, and how large that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Entries that were applied since.
    pub entries: u64,
    /// Bytes of those entries.
    pub log_bytes: u64,
    /// Bytes of the snapshot; 0 where there is none.
    pub snapshot_bytes: u64,
}

/// How far the log may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowthBounds {
    /// Entries at most, however short.
    pub entries: u64,
    /// Bytes of entries that are no reason for a snapshot, however small the state is.
    pub log_bytes: u64,
}

/// Whether a snapshot is due.
pub fn is_due(growth: &Growth, bounds: &GrowthBounds) -> bool {
    let bytes = bounds.log_bytes.max(growth.snapshot_bytes);
    growth.entries > 0 && (growth.entries >= bounds.entries || growth.log_bytes >= bytes)
}
