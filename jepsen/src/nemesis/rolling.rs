//! Restarts as an operator does them: one process after the other is asked to stop and started again, the next once the cluster is whole.

use std::time::Duration;

use chaos::{Part, ProcessName};
use rand::{Rng as _, rngs::StdRng, seq::SliceRandom as _};
use types::RegionId;

use crate::{whole, world::World};

/// A run with less than this before it has time for one region alone.
const TIME_FOR_ALL: Duration = Duration::from_secs(20);
/// How long a coordinator may take to say how it stands.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// Which processes, in their order.
#[derive(Clone, Debug)]
pub(super) struct Rolling {
    pub(super) name: String,
    names: Vec<ProcessName>,
}

/// Every coordinator, every agent, or both of the aimed region.
pub(super) fn rolling(
    regions: &[RegionId],
    aimed: &RegionId,
    left: Duration,
    random: &mut StdRng,
) -> Rolling {
    let name = |region: &RegionId, part| ProcessName {
        region: region.clone(),
        part,
    };
    let part = [Part::Coordinator, Part::Agent][usize::from(random.random_bool(0.4))];
    if left < TIME_FOR_ALL || random.random_bool(0.3) {
        return Rolling {
            name: format!("restart of {aimed}"),
            names: vec![name(aimed, Part::Coordinator), name(aimed, Part::Agent)],
        };
    }
    let mut names: Vec<_> = regions.iter().map(|region| name(region, part)).collect();
    names.shuffle(random);
    Rolling {
        name: format!("rolling restart of every {part}"),
        names,
    }
}

impl Rolling {
    /// Does it. Each run must end by itself, and say that all went well.
    pub(super) async fn carry_out(&self, world: &World) -> anyhow::Result<()> {
        let doors = whole::doors(world, ASK_LIMIT)?;
        for name in &self.names {
            world.restart(name).await?;
            Box::pin(whole::whole(world, &doors)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn every_process_of_a_kind_has_its_turn_once_and_a_short_run_has_one_region() {
        let regions: Vec<RegionId> = ["r1", "r2", "r3"].map(|r| r.parse().unwrap()).to_vec();
        let mut random = StdRng::seed_from_u64(2);
        let mut chosen = |left| rolling(&regions, &regions[1], Duration::from_secs(left), &mut random);
        assert!((0..50).all(|_| chosen(10).name == "restart of r2"));
        let all: Vec<Rolling> = (0..100).map(|_| chosen(60)).collect();
        for (name, count) in [
            ("restart of r2", 2),
            ("rolling restart of every coordinator", 3),
            ("rolling restart of every agent", 3),
        ] {
            let of_name: Vec<_> = all.iter().filter(|r| r.name == name).collect();
            assert!(!of_name.is_empty(), "{name}");
            for rolling in of_name {
                let once: std::collections::BTreeSet<_> = rolling.names.iter().collect();
                assert_eq!((once.len(), rolling.names.len()), (count, count));
            }
        }
    }
}
