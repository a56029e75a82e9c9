//! Which of the endpoints that a coordinator may ask belong to another cluster than its disk.
//!
//! One of them says nothing: an old majority that is back, or a config that was copied, must not end a healthy voter. Nor do all of
//! them at once: its own cluster's leader may be about to call. Pure; never reads a clock.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

/// What the seeds said.
#[derive(Debug, Default)]
pub(super) struct Strays {
    elsewhere: BTreeSet<String>,
    /// From then on nobody said anything else.
    since: Option<Instant>,
}

impl Strays {
    /// Takes in what a seed, or whom it named as the leader, came to: that it is of another cluster, or anything else.
    pub(super) fn note(&mut self, seed: &str, elsewhere: bool, now: Instant) {
        if elsewhere {
            self.elsewhere.insert(seed.to_owned());
            self.since.get_or_insert(now);
        } else {
            self.elsewhere.remove(seed);
            self.since = None;
        }
    }

    /// Whether each of `seeds` is of another cluster, and none said otherwise for `patience`, in which no leader spoke either.
    pub(super) fn are_all<'a>(
        &self,
        seeds: impl IntoIterator<Item = &'a String>,
        heard: Option<Instant>,
        patience: Duration,
        now: Instant,
    ) -> bool {
        let Some(since) = self.since.max(heard).filter(|_| self.since.is_some()) else {
            return false;
        };
        let mut seeds = seeds.into_iter().peekable();
        let any = seeds.peek().is_some();
        any && seeds.all(|seed| self.elsewhere.contains(seed)) && now.duration_since(since) >= patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(6);

    /// What was said, when, and when a leader spoke last; whether that is enough at second 10.
    fn check(said: &[(&str, bool, u64)], seeds: &[&str], heard: Option<u64>, expected: bool) {
        let began = Instant::now();
        let at = |second: u64| began + Duration::from_secs(second);
        let mut strays = Strays::default();
        for (seed, elsewhere, second) in said {
            strays.note(seed, *elsewhere, at(*second));
        }
        let seeds: Vec<String> = seeds.iter().map(|s| (*s).to_owned()).collect();
        let all = strays.are_all(&seeds, heard.map(at), PATIENCE, at(10));
        assert_eq!(all, expected, "{said:?} of {seeds:?}, heard {heard:?}");
    }

    #[test]
    fn a_coordinator_gives_up_once_all_seeds_have_been_of_another_cluster_for_long_and_no_leader_spoke() {
        let both = [("a", true, 1), ("b", true, 2), ("a", true, 9)];
        check(&both, &["a", "b"], None, true);
        check(&both, &["a", "b", "c"], None, false);
        check(&both, &[], None, false);
        check(&[], &["a"], None, false);
        check(&[("a", true, 5), ("b", true, 6)], &["a", "b"], None, false);
        check(&both, &["a", "b"], Some(3), true);
        check(&both, &["a", "b"], Some(5), false);
        let silent_once = [("a", true, 1), ("b", true, 1), ("b", false, 5), ("b", true, 6)];
        check(&silent_once, &["a", "b"], None, false);
        let silent = [("a", true, 1), ("b", true, 2), ("b", false, 3)];
        check(&silent, &["a", "b"], None, false);
        check(&silent, &["a"], None, false);
    }
}
