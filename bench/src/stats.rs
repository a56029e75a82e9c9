//! Medians, percentiles and the ratios that the goals are stated in. Pure.

use std::time::Duration;

/// The middle value, or the mean of the two in the middle; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The least value that `per_cent` of the sorted values do not exceed (nearest rank); none of none.
pub fn percentile(sorted: &[Duration], per_cent: u32) -> Option<Duration> {
    let rank = (sorted.len() * per_cent as usize).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// How much better a smaller value is than the peer's: 2 is half of it.
pub fn smaller_is_better(ours: f64, peer: f64) -> f64 {
    divide(peer, ours)
}

/// How much better a larger value is than the peer's.
pub fn larger_is_better(ours: f64, peer: f64) -> f64 {
    divide(ours, peer)
}

/// 0 where there is nothing to divide by: a cell that measured nothing reaches no goal.
fn divide(a: f64, b: f64) -> f64 {
    if a > 0.0 && b > 0.0 { a / b } else { 0.0 }
}

/// One number for "server CPU per operation at least 2× better and throughput at least 1.3×, or throughput at least 2×":
/// it is reached from 1 on.
pub fn combined(cpu: f64, throughput: f64) -> f64 {
    (cpu / 2.0).min(throughput / 1.3).max(throughput / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_one() {
        for (values, expected) in [
            (&[][..], 0.0),
            (&[3.0], 3.0),
            (&[9.0, 1.0, 5.0], 5.0),
            (&[4.0, 1.0, 3.0, 2.0], 2.5),
        ] {
            assert!((median(values) - expected).abs() < 1e-9, "{values:?}");
        }
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let all: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        for (per_cent, millis) in [(0, 1), (1, 2), (50, 100), (99, 198), (100, 200)] {
            assert_eq!(
                percentile(&all, per_cent),
                Some(Duration::from_millis(millis)),
                "{per_cent}"
            );
        }
        assert_eq!(percentile(&all[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 99), None);
    }

    #[test]
    fn a_ratio_above_one_is_better_whatever_the_unit() {
        assert!((smaller_is_better(2.0, 6.0) - 3.0).abs() < 1e-9);
        assert!((larger_is_better(6.0, 2.0) - 3.0).abs() < 1e-9);
        for nothing in [0.0, -1.0, f64::NAN] {
            assert!(smaller_is_better(nothing, 1.0) < 1e-9);
            assert!(larger_is_better(1.0, nothing) < 1e-9);
        }
    }

    #[test]
    fn the_goal_is_twice_the_cpu_and_a_third_more_throughput_or_twice_the_throughput() {
        for (cpu, throughput, reached) in [
            (2.0, 1.3, true),
            (1.99, 1.3, false),
            (2.0, 1.29, false),
            (9.0, 1.0, false),
            (0.5, 2.0, true),
            (1.99, 1.99, false),
            (0.0, 0.0, false),
        ] {
            assert_eq!(combined(cpu, throughput) >= 1.0, reached, "{cpu} {throughput}");
        }
        assert!((combined(4.0, 2.6) - 2.0).abs() < 1e-9);
        assert!((combined(1.0, 3.0) - 1.5).abs() < 1e-9);
    }
}
