//! The document of a run of trials, and whether every one kept the bound. Pure.

use serde::Serialize;

use super::wan::Measured;

/// What one trial says of itself to the whole.
pub(crate) trait Trial: Serialize {
    /// What was measured.
    fn seconds(&self) -> f64;
    /// What it is held against.
    fn limit_seconds(&self) -> f64;
    /// Writes under an old token, after the role had moved; none where no role moves.
    fn stale(&self) -> Option<Stale> {
        None
    }
    /// For people, in one line.
    fn line(&self) -> String;
}

/// Writes under a token whose time was over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stale {
    /// Tried at doors.
    #[serde(rename = "stale_writes_attempted")]
    pub(crate) attempted: usize,
    /// Taken by one: never, if all is well.
    #[serde(rename = "stale_writes_accepted")]
    pub(crate) accepted: usize,
    /// That nobody answered: they say nothing.
    #[serde(rename = "stale_writes_unanswered")]
    pub(crate) unanswered: usize,
}

/// What all trials of a run have in common.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setting {
    /// What was done each time.
    pub(crate) fault: &'static str,
    /// How a primary's absence becomes a promotion, where that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<&'static str>,
    /// Where the limit comes from.
    pub(crate) limit: String,
    /// Round trips between coordinators, as asked for and as they measured them.
    #[serde(flatten)]
    pub(crate) round_trips: Measured,
}

/// All trials of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report<T> {
    #[serde(flatten)]
    setting: Setting,
    /// The least of all trials.
    limit_seconds: f64,
    slowest_seconds: f64,
    median_seconds: f64,
    #[serde(flatten)]
    stale: Stale,
    kept: bool,
    trials: Vec<T>,
}

impl<T: Trial> Report<T> {
    pub(super) fn of(setting: Setting, trials: Vec<T>) -> Self {
        let mut sorted: Vec<f64> = trials.iter().map(Trial::seconds).collect();
        sorted.sort_by(f64::total_cmp);
        let limits = trials.iter().map(Trial::limit_seconds);
        let stale = trials
            .iter()
            .filter_map(Trial::stale)
            .fold(Stale::default(), Stale::and);
        Self {
            setting,
            limit_seconds: limits.reduce(f64::min).unwrap_or_default(),
            slowest_seconds: sorted.last().copied().unwrap_or_default(),
            median_seconds: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
            stale,
            kept: kept(&trials),
            trials,
        }
    }

    /// Whether every trial kept its bound, and no stale write was taken.
    pub(crate) fn holds(&self) -> bool {
        self.kept
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let lines = self.trials.iter().map(Trial::line);
        let sum = format!(
            "slowest {:.3} s, median {:.3} s, bound {:.3} s ({}); round trips {}; {} stale writes tried, {} accepted: {}",
            self.slowest_seconds,
            self.median_seconds,
            self.limit_seconds,
            self.setting.limit,
            self.setting.round_trips,
            self.stale.attempted,
            self.stale.accepted,
            if self.kept { "kept" } else { "not kept" }
        );
        lines.chain([sum]).collect::<Vec<_>>().join("\n")
    }
}

impl Stale {
    /// Doors said no to what was tried. That nothing was tried, or answered, proves nothing.
    fn refused(self) -> bool {
        self.accepted == 0 && self.attempted > self.unanswered
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            attempted: self.attempted + other.attempted,
            accepted: self.accepted + other.accepted,
            unanswered: self.unanswered + other.unanswered,
        }
    }
}

/// Each trial against its own limit. None at all prove nothing.
fn kept<T: Trial>(trials: &[T]) -> bool {
    let holds = |t: &T| t.seconds() <= t.limit_seconds() && t.stale().is_none_or(Stale::refused);
    !trials.is_empty() && trials.iter().all(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct One(f64, f64, usize);

    /// A trial that tried nothing, or of which nobody answered.
    #[derive(Serialize)]
    struct Idle(usize);

    impl Trial for Idle {
        fn seconds(&self) -> f64 {
            1.0
        }
        fn limit_seconds(&self) -> f64 {
            1.0
        }
        fn stale(&self) -> Option<Stale> {
            let (attempted, unanswered) = (self.0, self.0);
            Some(Stale {
                attempted,
                accepted: 0,
                unanswered,
            })
        }
        fn line(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn a_trial_in_which_no_stale_write_was_refused_proves_nothing() {
        for tried in [0, 7] {
            assert!(!kept(&[Idle(tried)]), "{tried}");
        }
    }

    impl Trial for One {
        fn seconds(&self) -> f64 {
            self.0
        }
        fn limit_seconds(&self) -> f64 {
            self.1
        }
        fn stale(&self) -> Option<Stale> {
            Some(Stale {
                attempted: 10,
                accepted: self.2,
                unanswered: 1,
            })
        }
        fn line(&self) -> String {
            format!("{} s", self.0)
        }
    }

    fn report(trials: Vec<One>) -> Report<One> {
        let setting = Setting {
            fault: "test",
            policy: None,
            limit: "as the test says".to_owned(),
            round_trips: Measured::default(),
        };
        Report::of(setting, trials)
    }

    #[test]
    fn the_slowest_trial_and_every_stale_write_decide() {
        for (trials, kept) in [
            (vec![One(0.5, 1.2, 0), One(1.2, 1.2, 0)], true),
            (vec![One(0.5, 1.2, 0), One(1.3, 1.2, 0), One(0.7, 1.2, 0)], false),
            // Each against its own limit.
            (vec![One(1.3, 1.4, 0), One(0.5, 1.2, 0)], true),
            (vec![One(1.3, 1.2, 0), One(0.5, 1.4, 0)], false),
            (vec![One(0.5, 1.2, 0), One(0.5, 1.2, 1)], false),
            (vec![], false),
        ] {
            let count = trials.len();
            let found = report(trials);
            assert_eq!((found.holds(), found.trials.len()), (kept, count));
        }
    }

    #[test]
    fn a_report_names_the_slowest_the_median_and_the_least_limit() {
        let found = report(vec![One(0.9, 1.4, 0), One(0.5, 1.2, 2), One(0.7, 1.3, 0)]);
        let document = serde_json::to_value(&found).unwrap();
        for (name, value) in [
            ("slowest_seconds", 0.9),
            ("median_seconds", 0.7),
            ("limit_seconds", 1.2),
            ("stale_writes_attempted", 30.0),
            ("stale_writes_accepted", 2.0),
            ("stale_writes_unanswered", 3.0),
        ] {
            assert_eq!(document[name].as_f64(), Some(value), "{name}");
        }
        assert_eq!(document["trials"].as_array().map(Vec::len), Some(3));
        assert_eq!(document["kept"], serde_json::json!(false));
        assert!(found.table().ends_with("not kept"), "{}", found.table());
    }
}
