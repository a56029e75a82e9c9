//! Which ways a partition cuts: pure, in the terms of the literature (Jepsen's `nemesis`, and Alfatafta and others, *Toward a
//! Generic Fault Tolerance Technique for Partial Network Partitioning*, OSDI 2020).

use rand::{Rng, seq::SliceRandom as _};

/// Regions of the smallest ring.
const LEAST_OF_A_RING: usize = 5;

/// Ways, each from a region to a region.
pub(super) type Ways = Vec<(usize, usize)>;

/// A partition of so many regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Partition {
    /// One region hears nobody, and nobody hears it.
    Isolated(usize),
    /// Nothing reaches one region; what it sends arrives.
    Deaf(usize),
    /// Nothing that one region sends arrives; it hears everybody.
    Mute(usize),
    /// A minority and a majority.
    Halves,
    /// Two halves that only one region hears and is heard by: everybody but it misses somebody.
    Bridge(usize),
    /// Everybody talks with a majority, and no two with the same one. Takes five regions: of three everybody talks with all, or somebody
    /// with one at most.
    Ring,
}

impl Partition {
    /// The name in a history.
    pub(super) fn name(self, regions: &[types::RegionId]) -> String {
        let of = |at: usize| {
            regions
                .get(at)
                .map_or_else(|| at.to_string(), ToString::to_string)
        };
        match self {
            Self::Isolated(at) => format!("isolate {}", of(at)),
            Self::Deaf(at) => format!("deafen {}", of(at)),
            Self::Mute(at) => format!("mute {}", of(at)),
            Self::Halves => "halve".to_owned(),
            Self::Bridge(at) => format!("bridge over {}", of(at)),
            Self::Ring => "ring of majorities".to_owned(),
        }
    }

    /// Whether some hear whom others do not.
    pub(super) const fn is_one_sided(self) -> bool {
        match self {
            Self::Isolated(_) | Self::Halves => false,
            Self::Deaf(_) | Self::Mute(_) | Self::Bridge(_) | Self::Ring => true,
        }
    }

    /// One of them for so many regions, about this one where it is about one.
    pub(super) fn choose(regions: usize, at: usize, random: &mut impl Rng) -> Self {
        let kinds = if regions < LEAST_OF_A_RING { 5 } else { 6 };
        match random.random_range(0..kinds) {
            0 => Self::Isolated(at),
            1 => Self::Deaf(at),
            2 => Self::Mute(at),
            3 => Self::Halves,
            4 => Self::Bridge(at),
            _ => Self::Ring,
        }
    }

    /// What it cuts.
    pub(super) fn ways(self, regions: usize, random: &mut impl Rng) -> Ways {
        let pairs = (0..regions).flat_map(|a| (0..regions).map(move |b| (a, b)));
        let pairs = pairs.filter(|(a, b)| a != b);
        match self {
            Self::Isolated(at) => pairs.filter(|(a, b)| *a == at || *b == at).collect(),
            Self::Deaf(at) => pairs.filter(|(_, b)| *b == at).collect(),
            Self::Mute(at) => pairs.filter(|(a, _)| *a == at).collect(),
            Self::Halves => {
                let minority = some(regions, None, regions.saturating_sub(1) / 2, random);
                pairs
                    .filter(|(a, b)| minority.contains(a) != minority.contains(b))
                    .collect()
            }
            Self::Bridge(at) => {
                let half = some(regions, Some(at), regions.saturating_sub(1) / 2, random);
                pairs
                    .filter(|(a, b)| *a != at && *b != at && half.contains(a) != half.contains(b))
                    .collect()
            }
            Self::Ring => {
                let ring = some(regions, None, regions, random);
                let place = |of: usize| ring.iter().position(|at| *at == of).unwrap_or(of);
                // Each talks with its neighbours on both sides, as many as a majority takes.
                let neighbours = (regions / 2).div_ceil(2);
                let talks = |a: usize, b: usize| {
                    let apart = place(a).abs_diff(place(b));
                    apart.min(regions - apart) <= neighbours
                };
                pairs.filter(|(a, b)| !talks(*a, *b)).collect()
            }
        }
    }
}

/// So many regions, by chance, and never this one.
fn some(regions: usize, but: Option<usize>, count: usize, random: &mut impl Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..regions).filter(|at| Some(*at) != but).collect();
    all.shuffle(random);
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    fn ways(of: Partition, regions: usize) -> Ways {
        of.ways(regions, &mut StdRng::seed_from_u64(3))
    }

    #[test]
    fn a_partition_about_one_region_cuts_its_own_ways_alone() {
        assert_eq!(ways(Partition::Isolated(1), 3), [(0, 1), (1, 0), (1, 2), (2, 1)]);
        assert_eq!(ways(Partition::Deaf(1), 3), [(0, 1), (2, 1)]);
        assert_eq!(ways(Partition::Mute(1), 3), [(1, 0), (1, 2)]);
    }

    #[test]
    fn halves_leave_a_majority_together_and_a_bridge_leaves_everybody_one_way_to_it() {
        for regions in [3, 5] {
            let cut = ways(Partition::Halves, regions);
            let together = |at: usize| (0..regions).filter(|b| !cut.contains(&(at, *b))).count();
            let mut sizes: Vec<usize> = (0..regions).map(together).collect();
            sizes.sort_unstable();
            let minority = (regions - 1) / 2;
            let expected = [
                vec![minority; minority],
                vec![regions - minority; regions - minority],
            ]
            .concat();
            assert_eq!(sizes, expected);
            let cut = ways(Partition::Bridge(1), regions);
            assert!(!cut.is_empty());
            for at in 0..regions {
                assert!(!cut.contains(&(at, 1)) && !cut.contains(&(1, at)));
                let heard = (0..regions).filter(|b| !cut.contains(&(at, *b))).count();
                assert!(heard > regions / 2 && (at == 1 || heard < regions));
                assert!((0..regions).all(|b| cut.contains(&(at, b)) == cut.contains(&(b, at))));
            }
        }
    }

    #[test]
    fn in_a_ring_everybody_talks_with_a_majority_and_no_two_with_the_same() {
        for regions in [5, 7] {
            let cut = ways(Partition::Ring, regions);
            let talks: Vec<Vec<usize>> = (0..regions)
                .map(|a| (0..regions).filter(|b| !cut.contains(&(a, *b))).collect())
                .collect();
            for (at, with) in talks.iter().enumerate() {
                assert!(with.len() > regions / 2 && with.len() < regions && with.contains(&at));
                assert_eq!(talks.iter().filter(|other| *other == with).count(), 1);
                assert!(with.iter().all(|other| talks[*other].contains(&at)));
            }
        }
    }

    #[test]
    fn every_kind_is_chosen() {
        let mut random = StdRng::seed_from_u64(1);
        let mut choose = |regions| -> Vec<Partition> {
            (0..100)
                .map(|_| Partition::choose(regions, 2, &mut random))
                .collect()
        };
        let chosen = choose(5);
        assert!(!choose(3).contains(&Partition::Ring));
        for of in [
            Partition::Isolated(2),
            Partition::Deaf(2),
            Partition::Mute(2),
            Partition::Halves,
            Partition::Bridge(2),
            Partition::Ring,
        ] {
            assert!(chosen.contains(&of), "{of:?}");
        }
    }
}
