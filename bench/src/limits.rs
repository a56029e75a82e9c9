//! Rows that compare with a limit that users were promised, where there is no peer to run beside. Pure.

use crate::rows::Row;

/// What stands where others name a peer.
const LIMIT: &str = "limit";

/// A figure that must stay at or under `limit`.
pub fn at_most(name: &str, unit: &'static str, ours: f64, limit: f64) -> Row {
    let ratio = match (ours > 0.0, limit > 0.0) {
        (true, true) => limit / ours,
        (true, false) => 0.0,
        // Nothing is as little as can be.
        (false, _) => 1.0,
    };
    Row {
        name: name.to_owned(),
        unit,
        ours,
        peer: limit,
        peer_name: LIMIT.to_owned(),
        ratio,
        goal_ratio: 1.0,
    }
}

/// A figure that only informs.
pub fn informs(name: &str, unit: &'static str, ours: f64) -> Row {
    Row {
        peer: 0.0,
        ratio: 0.0,
        goal_ratio: 0.0,
        ..at_most(name, unit, ours, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_kept_or_is_not() {
        let short = |ours, limit| at_most("a", "s", ours, limit).is_short();
        assert!(!short(5.0, 10.0));
        assert!(!short(10.0, 10.0));
        assert!(short(10.1, 10.0));
        assert!(!short(0.0, 0.0));
        assert!(short(1.0, 0.0), "one where none is allowed");
        assert!(!informs("a", "s", 5.0).is_short());
    }
}
