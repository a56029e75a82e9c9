//! When a snapshot is due.

use crate::compaction::{Growth, GrowthBounds, is_due};

/// (entries, bytes of them, bytes of the snapshot) against 100 entries and 1,000 bytes.
#[test]
fn a_snapshot_is_due_in_proportion_and_after_so_many_entries() {
    let bounds = GrowthBounds {
        entries: 100,
        log_bytes: 1_000,
    };
    for (entries, log_bytes, snapshot_bytes, due) in [
        (0, 0, 0, false),
        (1, 999, 0, false),
        (1, 1_000, 0, true),
        (99, 999, 1_000, false),
        (99, 1_000, 1_000, true),
        // The larger the state is, the more of a log is worth a snapshot.
        (99, 1_000, 50_000, false),
        (99, 49_999, 50_000, false),
        (99, 50_000, 50_000, true),
        // Whatever they weigh.
        (100, 0, 0, true),
        (100, 1, u64::MAX, true),
        (u64::MAX, 0, u64::MAX, true),
    ] {
        let growth = Growth {
            entries,
            log_bytes,
            snapshot_bytes,
        };
        assert_eq!(is_due(&growth, &bounds), due, "{growth:?}");
    }
    // Even a bound of nothing writes no snapshot of what one has already.
    let none = GrowthBounds {
        entries: 0,
        log_bytes: 0,
    };
    assert!(!is_due(&Growth::default(), &none));
}
