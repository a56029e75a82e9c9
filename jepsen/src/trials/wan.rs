//! How far the regions of a trial are from each other, as asked for and as the coordinators measured it. Pure but for asking.

use std::{fmt, str::FromStr, time::Duration};

use chaos::Distances;
use serde::Serialize;
use types::RegionId;

/// Regions of a cluster on one machine, and of one whose regions are far apart; the first founds it.
const REGIONS: [&str; 5] = [
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1",
    "us-east-1",
    "eu-central-1",
];
/// Of those, how many a cluster on one machine has.
const NEAR: usize = 3;
/// Every pair of them, the nearest first, as on the globe.
const PAIRS: [(usize, usize); 10] = [
    (1, 4),
    (0, 3),
    (1, 3),
    (3, 4),
    (0, 1),
    (0, 4),
    (2, 4),
    (0, 2),
    (1, 2),
    (2, 3),
];
/// Beyond this the leader's heartbeats are as slow as they get.
const LONGEST: u64 = 900;

/// The round trips between five regions: the nearest pair has the shortest, the farthest the longest, the others lie evenly between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoundTrips {
    shortest: Duration,
    longest: Duration,
}

impl FromStr for RoundTrips {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || format!("{text:?} is no range of milliseconds; write 80..250");
        let (shortest, longest) = text.split_once("..").ok_or_else(rule)?;
        let millis = |text: &str| text.parse::<u64>().map_err(|_| rule());
        let (shortest, longest) = (millis(shortest)?, millis(longest)?);
        if shortest == 0 || shortest > longest || longest > LONGEST {
            return Err(format!(
                "{text:?}: round trips are from 1 to {LONGEST} ms, and the first is not above the second"
            ));
        }
        Ok(Self {
            shortest: Duration::from_millis(shortest),
            longest: Duration::from_millis(longest),
        })
    }
}

impl fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}..{} ms",
            self.shortest.as_millis(),
            self.longest.as_millis()
        )
    }
}

impl RoundTrips {
    /// Between every pair.
    pub(super) fn distances(self) -> Distances {
        let steps = u32::try_from(PAIRS.len() - 1).unwrap_or(1);
        let step = (self.longest - self.shortest) / steps;
        let pairs = (0_u32..).zip(PAIRS);
        pairs.fold(Distances::none(REGIONS.len()), |distances, (n, (a, b))| {
            distances.with(a, b, self.shortest + step * n)
        })
    }

    /// The longest of them.
    pub(super) fn longest(self) -> Duration {
        self.longest
    }
}

/// The regions of a run.
pub(super) fn regions(far: Option<&RoundTrips>) -> anyhow::Result<Vec<RegionId>> {
    let count = far.map_or(NEAR, |_| REGIONS.len());
    let names = REGIONS.iter().take(count);
    Ok(names.map(|name| RegionId::new(*name)).collect::<Result<_, _>>()?)
}

/// Round trips of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Measured {
    /// What was asked for; nothing on one machine.
    #[serde(rename = "round_trips_asked", skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<String>,
    /// Between coordinators, as they measured them themselves: the shortest of all pairs, at the end of the run.
    #[serde(rename = "round_trip_shortest_seconds")]
    pub(super) shortest: f64,
    /// The longest of all pairs.
    #[serde(rename = "round_trip_longest_seconds")]
    pub(super) longest: f64,
}

impl Measured {
    /// Of what coordinators say.
    pub(super) fn of(asked: Option<RoundTrips>, all: impl IntoIterator<Item = Duration>) -> Self {
        let all: Vec<f64> = all.into_iter().map(|d| d.as_secs_f64()).collect();
        Self {
            asked: asked.map(|asked| asked.to_string()),
            shortest: all.iter().copied().reduce(f64::min).unwrap_or_default(),
            longest: all.iter().copied().reduce(f64::max).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} to {:.1} ms", self.shortest * 1e3, self.longest * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use chaos::Place;

    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_written() {
        let range: RoundTrips = "80..250".parse().unwrap();
        assert_eq!(range.to_string(), "80..250 ms");
        for bad in [
            "",
            "80",
            "80..",
            "..250",
            "250..80",
            "0..80",
            "80..901",
            "80ms..250ms",
            "-1..5",
        ] {
            let error = bad.parse::<RoundTrips>().unwrap_err();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn every_pair_of_regions_has_a_round_trip_within_the_range() {
        let range: RoundTrips = "80..250".parse().unwrap();
        let distances = range.distances();
        let between = |a, b| distances.between(Place::Region(a), b).as_millis();
        for a in 0..REGIONS.len() {
            assert_eq!(between(a, a), 0);
            for b in (0..REGIONS.len()).filter(|b| *b != a) {
                assert!((80..=250).contains(&between(a, b)), "{a} {b}: {}", between(a, b));
                assert_eq!(between(a, b), between(b, a));
            }
        }
        assert_eq!((between(1, 4), between(2, 3)), (80, 249));
        assert_eq!(regions(Some(&range)).unwrap().len(), 5);
        assert_eq!(regions(None).unwrap().len(), 3);
    }
}
