//! How old local state may be: when the last round that a quorum confirmed for this node was sent (I2).
//!
//! Absent on purpose: wall clocks, which jump, and CLOCK_MONOTONIC, which stands still while the machine sleeps: an age would
//! stand still with it. A moment is taken before the round's first message is sent, here or on its way to the leader, so an
//! age is never less than the true one.
//! Invariant: whatever was acknowledged anywhere before a noted moment is applied here.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use client::guard::BootInstant;
use proto::v1::ReadOptions;
use types::{Reason, Revision, reason::Refusal, units::format_duration};

/// When the last confirmed round was sent; none in this run yet.
#[derive(Debug, Default)]
pub(crate) struct Freshness(Mutex<Option<BootInstant>>);

impl Freshness {
    /// A round that was sent no earlier than this was confirmed, and what it confirmed is applied here.
    pub(crate) fn confirmed(&self, sent: BootInstant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).max(Some(sent));
    }

    /// How fresh the state is that is looked at from here on. Taken before the look: a round that is confirmed meanwhile
    /// says nothing of what was seen.
    pub(crate) fn look(&self) -> Fresh {
        Fresh(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How fresh local state was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fresh(Option<BootInstant>);

impl Fresh {
    /// How old it may be; none if nothing was confirmed yet.
    pub(crate) fn age(self, now: BootInstant) -> Option<Duration> {
        self.0.map(|sent| now.since(sent))
    }
}

/// An age on the wire, rounded up: an answer is never older than it says. The most there is if it is not known.
pub(crate) fn age_millis(age: Option<Duration>) -> u64 {
    age.map_or(u64::MAX, |age| {
        u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    })
}

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Not at all: it is confirmed by a quorum.
    Confirmed,
    /// By this much.
    Within(Duration),
    /// By whatever it is.
    Any,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) bound: Bound,
    pub(crate) at_least: Revision,
}

impl Wanted {
    /// As the caller says.
    pub(crate) fn of(options: Option<ReadOptions>) -> Self {
        let options = options.unwrap_or_default();
        let bound = match (options.max_staleness_millis, options.allow_stale) {
            (0, false) => Bound::Confirmed,
            (0, true) => Bound::Any,
            (millis, _) => Bound::Within(Duration::from_millis(millis)),
        };
        Self {
            bound,
            at_least: Revision(options.min_revision),
        }
    }

    /// Whether local state will do, which is this old and has come this far.
    pub(crate) fn takes(self, age: Option<Duration>, applied: Revision) -> bool {
        let is_fresh = match self.bound {
            Bound::Confirmed => false,
            Bound::Within(limit) => age.is_some_and(|age| age <= limit),
            Bound::Any => true,
        };
        is_fresh && applied >= self.at_least
    }

    /// The refusal of a read for which a quorum had to be asked, and none answered: with how old the state here is, where
    /// the caller would have taken some of that.
    pub(crate) fn not_confirmed(self, refusal: Refusal, age: Option<Duration>) -> Refusal {
        let Bound::Within(limit) = self.bound else {
            return refusal;
        };
        let stands = match age {
            Some(age) => format!("the state here is {} old", format_duration(age)),
            None => "nothing has confirmed the state here yet".to_owned(),
        };
        let limit = format_duration(limit);
        let message = format!("{}; {stands}, and at most {limit} is asked for", refusal.message);
        Refusal { message, ..refusal }.with("age_millis", age_millis(age))
    }

    /// That a state which has all that was acknowledged has come as far as the caller says.
    pub(crate) fn check_exists(self, applied: Revision) -> Result<(), Refusal> {
        if applied >= self.at_least {
            return Ok(());
        }
        let shown = self.at_least;
        let message = format!("{shown} is asked for, and the cluster has come to {applied}");
        let refusal = Refusal::new(Reason::FutureRevision, message);
        Err(refusal.with("shown", shown.0).with("current", applied.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_millis(millis))
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_age_counts_from_the_sending_and_never_goes_back() {
        let fresh = Freshness::default();
        assert_eq!(
            fresh.look().age(at(9_000)),
            None,
            "nothing was confirmed since the start"
        );
        fresh.confirmed(at(1_000));
        let before = fresh.look();
        assert_eq!(before.age(at(1_000)), Some(Duration::ZERO));
        // Nobody confirms anything while the leader is gone, or while the process is stopped or the machine asleep.
        assert_eq!(before.age(at(61_000)), Some(millis(60_000)));
        // A round that was sent before and answered late takes nothing back.
        fresh.confirmed(at(500));
        assert_eq!(fresh.look(), before);
        // What was looked at before a round is as old as before it.
        fresh.confirmed(at(61_000));
        assert_eq!(before.age(at(62_000)), Some(millis(61_000)));
        assert_eq!(fresh.look().age(at(62_000)), Some(millis(1_000)));
    }

    #[test]
    fn ages_are_rounded_up() {
        let micros = |n| Some(Duration::from_micros(n));
        for (age, shown) in [
            (None, u64::MAX),
            (micros(0), 0),
            (micros(1), 1),
            (micros(1_000), 1),
            (micros(1_001), 2),
            (Some(Duration::MAX), u64::MAX),
        ] {
            assert_eq!(age_millis(age), shown, "{age:?}");
        }
    }

    /// Rows: stale answers allowed, their bound, the revision asked for; the age and revision that there are; whether they do.
    #[test]
    fn local_state_does_only_if_it_is_as_fresh_as_is_asked_for() {
        let rows = [
            (false, 0, 0, Some(0), 9, false),
            (true, 0, 0, Some(600_000), 9, true),
            (true, 0, 0, None, 9, true),
            (true, 0, 9, None, 9, true),
            (true, 0, 10, None, 9, false),
            (true, 5_000, 0, Some(5_000), 9, true),
            (true, 5_000, 0, Some(5_001), 9, false),
            (true, 5_000, 0, None, 9, false),
            (false, 5_000, 0, Some(1), 9, true),
            (false, 5_000, 10, Some(1), 9, false),
            (false, 0, 5, Some(0), 9, false),
        ];
        for (allow_stale, max_staleness_millis, min_revision, age, applied, does) in rows {
            let options = ReadOptions {
                allow_stale,
                max_staleness_millis,
                min_revision,
            };
            let wanted = Wanted::of(Some(options));
            assert_eq!(
                wanted.takes(age.map(millis), Revision(applied)),
                does,
                "{options:?} {age:?}"
            );
        }
        assert!(!Wanted::of(None).takes(Some(Duration::ZERO), Revision(9)));
    }

    #[test]
    fn a_refusal_says_how_old_the_state_is_where_some_age_was_allowed() {
        let wanted = |max_staleness_millis| {
            Wanted::of(Some(ReadOptions {
                max_staleness_millis,
                ..ReadOptions::default()
            }))
        };
        let lost = || Refusal::new(Reason::NoQuorum, "no quorum");
        let said = wanted(5_000).not_confirmed(lost(), Some(millis(12_000)));
        assert_eq!(
            said.message,
            "no quorum; the state here is 12s old, and at most 5s is asked for"
        );
        assert_eq!(
            (said.reason, said.operand("age_millis")),
            (Reason::NoQuorum, Some("12000"))
        );
        let said = wanted(5_000).not_confirmed(lost(), None);
        assert!(
            said.message.contains("nothing has confirmed the state here yet"),
            "{said}"
        );
        assert_eq!(wanted(0).not_confirmed(lost(), None), lost());
    }

    #[test]
    fn a_revision_that_the_cluster_has_not_come_to_is_refused_with_both() {
        let wanted = Wanted {
            bound: Bound::Any,
            at_least: Revision(9),
        };
        assert_eq!(wanted.check_exists(Revision(9)), Ok(()));
        let refused = wanted.check_exists(Revision(8)).unwrap_err();
        assert_eq!(refused.reason, Reason::FutureRevision);
        assert_eq!(
            (refused.operand("shown"), refused.operand("current")),
            (Some("9"), Some("8"))
        );
    }
}
