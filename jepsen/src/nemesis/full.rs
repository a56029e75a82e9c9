//! Disks that are full: of one coordinator, or of a majority.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use chaos::{Part, ProcessName};
use rand::{Rng as _, rngs::StdRng};
use tokio::time::sleep;
use types::RegionId;

use crate::world::World;

/// Whose.
#[derive(Clone, Debug)]
pub(super) struct Full {
    names: Vec<ProcessName>,
    is_majority: bool,
}

/// Of the coordinator of the aimed region, and sometimes of as many after it as make a majority.
pub(super) fn full(regions: &[RegionId], at: usize, random: &mut StdRng) -> Full {
    let is_majority = random.random_bool(0.3);
    let count = if is_majority { regions.len() / 2 + 1 } else { 1 };
    let chosen = regions.iter().cycle().skip(at).take(count);
    let names = chosen.map(|region| ProcessName {
        region: region.clone(),
        part: Part::Coordinator,
    });
    Full {
        names: names.collect(),
        is_majority,
    }
}

impl Full {
    pub(super) fn name(&self) -> String {
        let names: Vec<_> = self.names.iter().map(ToString::to_string).collect();
        format!("full disk of {}", names.join(" and "))
    }

    /// Whether no majority has room for a write.
    pub(super) const fn is_majority(&self) -> bool {
        self.is_majority
    }

    /// Does it, proves it, leaves it for so long, ends it and proves that.
    pub(super) async fn carry_out(&self, world: &World, lasts: Duration) -> anyhow::Result<()> {
        let mut disks = Vec::new();
        for name in &self.names {
            disks.push((
                name,
                world
                    .disk(name)
                    .with_context(|| format!("{name} has no disk that can be filled"))?,
            ));
        }
        for (_, disk) in &disks {
            disk.fill()?;
        }
        for (name, disk) in &disks {
            // It may have given something back meanwhile, as a log does that is purged.
            if !disk.is_full() {
                tracing::info!(%name, "made room on its full disk");
            }
        }
        sleep(lasts).await;
        for (name, disk) in &disks {
            disk.empty()?;
            ensure!(
                !disk.is_full(),
                "the disk of {name} is full without what filled it up"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn one_disk_or_those_of_a_majority_are_filled_from_the_aimed_one_on() {
        let regions: Vec<RegionId> = ["r1", "r2", "r3"].map(|r| r.parse().unwrap()).to_vec();
        let mut random = StdRng::seed_from_u64(1);
        let names: std::collections::BTreeSet<_> =
            (0..50).map(|_| full(&regions, 2, &mut random).name()).collect();
        let expected = [
            "full disk of r3/coordinator",
            "full disk of r3/coordinator and r1/coordinator",
        ];
        assert_eq!(names, expected.map(str::to_owned).into());
    }
}
