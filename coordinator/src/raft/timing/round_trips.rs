//! What is known of the distances between members: measured here, and heard from the others.
//!
//! Invariants: bounded by the members; what is older than [`FRESH`] is unknown.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::super::config::RaftTiming;

/// Measurements kept of one member.
const KEPT: usize = 15;
/// So many make a distance known: the quickest but one must be there.
const NEEDED: usize = 3;
/// A member that has not answered for so long is silent.
pub(super) const FRESH: Duration = Duration::from_secs(15);

/// Distances by Raft id.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    members: Mutex<BTreeMap<u64, Known>>,
    changes: watch::Sender<()>,
}

/// Of one other member.
#[derive(Debug, Default)]
struct Known {
    measured: VecDeque<(Instant, Duration)>,
    said: Option<Said>,
}

/// What a member said of itself.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(super) at: Instant,
    pub(super) timing: RaftTiming,
    pub(super) disk_full: bool,
    pub(super) state_suspect: bool,
    pub(super) round_trips: BTreeMap<u64, Duration>,
}

impl Known {
    /// What the network takes, as far as this machine's own waits let it be seen: the quickest but one of the latest. Where half of the
    /// answers take much longer, half of what those take, so that a heartbeat of two round trips and a bit suffices for most of
    /// them.
    fn round_trip(&self, now: Instant) -> Option<Duration> {
        let (newest, _) = self.measured.back()?;
        if now.saturating_duration_since(*newest) > FRESH || self.measured.len() < NEEDED {
            return None;
        }
        let mut sorted: Vec<Duration> = self.measured.iter().map(|(_, d)| *d).collect();
        sorted.sort();
        let (quick, middle) = (sorted.get(1)?, sorted.get((sorted.len() - 1) / 2)?);
        Some(*quick.max(&(*middle / 2)))
    }

    fn said(&self, now: Instant) -> Option<&Said> {
        let said = self.said.as_ref()?;
        (now.saturating_duration_since(said.at) <= FRESH).then_some(said)
    }
}

impl RoundTrips {
    fn members(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an answer, and how long it took: none where the connection was made for it, which says nothing of the distance.
    pub(super) fn note(&self, member: u64, round_trip: Option<Duration>, said: Said) {
        {
            let mut members = self.members();
            let known = members.entry(member).or_default();
            if let Some(round_trip) = round_trip {
                if known.measured.len() == KEPT {
                    known.measured.pop_front();
                }
                known.measured.push_back((said.at, round_trip));
            }
            known.said = Some(said);
        }
        self.changes.send_replace(());
    }

    /// A member that gives no answer goes by a timing that nobody knows now.
    pub(super) fn miss(&self, member: u64) {
        if let Some(known) = self.members().get_mut(&member) {
            known.said = None;
        }
        self.changes.send_replace(());
    }

    /// Forgets whom this node no longer knows.
    pub(super) fn keep(&self, members: impl Fn(u64) -> bool) {
        self.members().retain(|id, _| members(*id));
    }

    /// Woken with each answer.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// How far the others are from here, as far as it is known.
    pub(crate) fn own(&self, now: Instant) -> BTreeMap<u64, Duration> {
        let members = self.members();
        let known = members
            .iter()
            .filter_map(|(id, k)| Some((*id, k.round_trip(now)?)));
        known.collect()
    }

    /// By which timing a member goes, as it said lately.
    pub(crate) fn timing_of(&self, member: u64, now: Instant) -> Option<RaftTiming> {
        Some(self.members().get(&member)?.said(now)?.timing)
    }

    /// Whether a member said lately that its disk is full.
    pub(crate) fn is_full(&self, member: u64, now: Instant) -> bool {
        let members = self.members();
        let said = members.get(&member).and_then(|known| known.said(now));
        said.is_some_and(|said| said.disk_full)
    }

    /// Whether a member said lately that it does not believe its own state.
    pub(crate) fn is_suspect(&self, member: u64, now: Instant) -> bool {
        let members = self.members();
        let said = members.get(&member).and_then(|known| known.said(now));
        said.is_some_and(|said| said.state_suspect)
    }

    /// Between two members, this node being `own`: the longer one of what both ends say.
    pub(crate) fn between(&self, own: u64, a: u64, b: u64, now: Instant) -> Option<Duration> {
        let members = self.members();
        let from = |a: u64, b: u64| {
            if a == own {
                return members.get(&b)?.round_trip(now);
            }
            members.get(&a)?.said(now)?.round_trips.get(&b).copied()
        };
        from(a, b).max(from(b, a))
    }

    /// Whether enough is known of every one of `others`: until then they are asked more often.
    pub(super) fn knows(&self, member: u64, now: Instant) -> bool {
        let members = self.members();
        members.get(&member).is_some_and(|k| k.round_trip(now).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(at: Instant, round_trips: &[(u64, u64)]) -> Said {
        Said {
            at,
            timing: RaftTiming::default(),
            disk_full: false,
            state_suspect: false,
            round_trips: round_trips
                .iter()
                .map(|(id, ms)| (*id, Duration::from_millis(*ms)))
                .collect(),
        }
    }

    #[test]
    fn a_distance_follows_what_was_measured_lately() {
        let (table, began) = (RoundTrips::default(), Instant::now());
        let ms = Duration::from_millis;
        for (n, far) in [300, 80, 90].into_iter().enumerate() {
            assert_eq!(table.own(began), BTreeMap::new(), "after {n}");
            table.note(2, Some(ms(far)), said(began, &[(3, 70)]));
        }
        assert_eq!(table.own(began), BTreeMap::from([(2, ms(90))]));
        assert_eq!(table.between(1, 1, 2, began), Some(ms(90)));
        assert_eq!(table.between(1, 2, 3, began), Some(ms(70)));
        assert_eq!(table.between(1, 3, 2, began), Some(ms(70)));
        assert_eq!(table.between(1, 1, 3, began), None);
        // The other end may have found it longer.
        table.note(2, Some(ms(80)), said(began, &[(1, 200)]));
        assert_eq!(table.between(1, 1, 2, began), Some(ms(200)));
        for _ in 0..KEPT {
            table.note(2, Some(ms(10)), said(began, &[]));
        }
        assert_eq!(table.own(began), BTreeMap::from([(2, ms(10))]));
    }

    #[test]
    fn a_busy_machine_is_not_far_away_and_a_link_that_is_mostly_slow_is() {
        let ms = Duration::from_millis;
        for (answers, expected) in [
            ([1, 2, 77, 77, 77, 77, 78, 78, 78], ms(77) / 2),
            ([80, 82, 81, 80, 83, 200, 90, 80, 400], ms(80)),
            ([80, 80, 300, 300, 300, 300, 300, 300, 300], ms(150)),
        ] {
            let (table, now) = (RoundTrips::default(), Instant::now());
            for far in answers {
                table.note(2, Some(ms(far)), said(now, &[]));
            }
            assert_eq!(table.own(now), BTreeMap::from([(2, expected)]), "{answers:?}");
        }
    }

    #[test]
    fn an_answer_that_was_not_measured_says_what_it_says_and_no_distance() {
        let (table, now) = (RoundTrips::default(), Instant::now());
        for took in [None, Some(70), None, Some(80), None] {
            table.note(2, took.map(Duration::from_millis), said(now, &[(3, 5)]));
            assert!(!table.knows(2, now) && table.timing_of(2, now).is_some());
        }
        table.note(2, Some(Duration::from_millis(90)), said(now, &[]));
        assert_eq!(table.own(now), BTreeMap::from([(2, Duration::from_millis(80))]));
    }

    #[test]
    fn who_is_silent_is_unknown() {
        let (table, began) = (RoundTrips::default(), Instant::now());
        for _ in 0..NEEDED {
            table.note(2, Some(Duration::from_millis(5)), said(began, &[(3, 70)]));
        }
        assert!(table.timing_of(2, began).is_some() && table.knows(2, began));
        table.miss(2);
        assert!(table.timing_of(2, began).is_none() && table.knows(2, began));
        let later = began + FRESH * 2;
        assert!(!table.knows(2, later) && table.between(1, 2, 3, later).is_none());
        table.keep(|_| false);
        assert!(table.own(began).is_empty());
    }
}
