//! What a history follows from, how it is written down, and how one that breaks a promise is made smaller.

use std::{fmt, num::ParseIntError, str::FromStr};

use super::{
    faults,
    setup::{self, END},
    time::{At, Rng, SECOND},
    world::{Fault, History},
};

/// All that decides what happens; the same one is the same history, byte for byte.
///
/// Written as its seed, or as `seed/stir/faults` where it was made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The plan of the faults, and with `stir` the clocks, and what becomes of each message.
    pub(super) seed: u64,
    /// Others of those, under the same plan.
    pub(super) stir: u64,
    /// Which faults of the plan happen, a bit for each.
    pub(super) faults: u32,
    /// A bug on purpose: disks that say that they have what they have not synced.
    pub(super) lying: bool,
}

impl Recipe {
    pub(super) fn of(seed: u64) -> Self {
        Self {
            seed,
            stir: 0,
            faults: u32::MAX,
            lying: false,
        }
    }

    /// Chance, for all but the plan.
    pub(super) fn rng(&self) -> Rng {
        Rng::new(self.seed ^ (self.stir << 40))
    }

    /// What goes wrong, and when; the one who is hit may be chosen only then.
    pub(super) fn plan(&self, regions: usize) -> Vec<(At, Fault)> {
        let mut rng = Rng::new(!self.seed);
        let places = setup::places(regions).len();
        let count = rng.between(6, 14);
        let all = (0..count).map(|_| {
            let at = rng.between(2 * SECOND, END - SECOND);
            (at, faults::draw(&mut rng, regions, places))
        });
        all.enumerate()
            .filter(|(n, _)| self.faults & (1 << n) != 0)
            .map(|(_, fault)| fault)
            .collect()
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        if (self.stir, self.faults) != (0, u32::MAX) {
            write!(f, "/{}/{:x}", self.stir, self.faults)?;
        }
        Ok(())
    }
}

impl FromStr for Recipe {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '/');
        let mut recipe = Self::of(parts.next().unwrap_or_default().parse()?);
        if let Some(stir) = parts.next() {
            recipe.stir = stir.parse()?;
        }
        if let Some(faults) = parts.next() {
            recipe.faults = u32::from_str_radix(faults, 16)?;
        }
        Ok(recipe)
    }
}

/// How many orders of the messages are tried for each set of faults.
const STIRS: u64 = 30;

/// With the fewest faults that still break the same promise, in some order of the messages: no fault of it can be left out alone.
pub(super) fn shrink(whole: Recipe, run: impl Fn(Recipe) -> History) -> Recipe {
    let breaks = |recipe: Recipe| run(recipe).broken.map(|broken| broken.promise);
    let Some(promise) = breaks(whole) else {
        return whole;
    };
    let mut least = whole;
    let mut left: Vec<u32> = (0..u32::BITS).filter(|n| whole.faults & (1 << n) != 0).collect();
    loop {
        let before = least;
        left.retain(|fault| {
            let stirs = (0..STIRS).map(|stir| Recipe {
                stir,
                faults: least.faults & !(1 << fault),
                ..least
            });
            let smaller = stirs.into_iter().find(|recipe| breaks(*recipe) == Some(promise));
            least = smaller.unwrap_or(least);
            smaller.is_none()
        });
        if least == before {
            return least;
        }
    }
}
