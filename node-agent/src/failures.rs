//! Jobs that failed, and when each is tried again.
//!
//! Absent on purpose: which jobs are wanted. Invariant: whoever asks what waits at a moment, and until when at that same
//! moment, is told of a time for each job that waits; a time that has passed meanwhile is among them.

use std::{collections::BTreeMap, time::Duration};

use client::retry;
use tokio::time::Instant;

use crate::observed::Job;

/// First wait after a job failed; doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(200);
/// Longest wait between two tries of a job.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest wait between two tries of a load that can hardly come out otherwise: each reads the whole version.
pub(crate) const HOPELESS_WAIT_MAX: Duration = Duration::from_secs(600);

/// After so long what a job brought is there to stay.
const LASTS: Duration = Duration::from_secs(60);

/// The jobs that failed since they last succeeded.
#[derive(Default)]
pub(crate) struct Failures(BTreeMap<Job, Failure>);

#[derive(Clone, Copy)]
struct Failure {
    count: u32,
    until: Instant,
    /// When it succeeded since, if what it brought may yet be lost.
    succeeded: Option<Instant>,
}

impl Failure {
    /// Whether the success that followed it has lasted.
    fn is_over(&self, now: Instant) -> bool {
        self.succeeded.is_some_and(|since| now >= since + LASTS)
    }
}

impl Failures {
    /// A job failed once more, at `now`; how often in a row by then, and how long it waits, `longest` at most.
    pub(crate) fn failed(&mut self, job: Job, now: Instant, longest: Duration) -> (u32, Duration) {
        let before = self.0.get(&job).filter(|failure| !failure.is_over(now));
        let count = before.map_or(0, |failure| failure.count).saturating_add(1);
        let wait = WAIT_MIN.saturating_mul(1 << (count - 1).min(12)).min(longest);
        let wait = retry::jittered(wait);
        let until = now + wait;
        self.0.insert(
            job,
            Failure {
                count,
                until,
                succeeded: None,
            },
        );
        (count, wait)
    }

    /// A job succeeded, at `now`. A version that was loaded may be lost again at the first request: how often its load
    /// failed is known until it has lasted for a while.
    pub(crate) fn succeeded(&mut self, job: &Job, now: Instant) {
        match self.0.get_mut(job) {
            Some(failure) if matches!(job, Job::Load(_)) => failure.succeeded = Some(now),
            _ => self.forget(job),
        }
    }

    /// The next try of a job need not wait.
    pub(crate) fn forget(&mut self, job: &Job) {
        self.0.remove(job);
    }

    /// Keeps those that are still wanted.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&Job) -> bool) {
        self.0.retain(|job, _| wanted(job));
    }

    /// How often a job failed in a row.
    pub(crate) fn count(&self, job: &Job) -> u32 {
        self.0.get(job).map_or(0, |failure| failure.count)
    }

    /// What waits for its next try at `now`.
    pub(crate) fn waiting(&self, now: Instant) -> impl Iterator<Item = &Job> {
        let waiting = self.0.iter().filter(move |(_, failure)| failure.until > now);
        waiting.map(|(job, _)| job)
    }

    /// When the first of those that waited at `then` is due. Not of those that wait by now: one that became due in
    /// between would be waited for by nobody.
    pub(crate) fn next_try(&self, then: Instant) -> Option<Instant> {
        let due = self.0.values().map(|failure| failure.until);
        due.filter(|until| *until > then).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Job {
        Job::Load("m@1".parse().unwrap())
    }

    #[test]
    fn a_time_that_passed_since_a_job_was_seen_waiting_is_named_all_the_same() {
        let mut failures = Failures::default();
        // Longer ago than any job waits: whatever the clock says by now, the answer is about then.
        let then = Instant::now() - WAIT_MAX * 2;
        let (count, wait) = failures.failed(load(), then, WAIT_MAX);
        assert_eq!(count, 1);
        assert_eq!(failures.waiting(then).collect::<Vec<_>>(), [&load()]);
        assert_eq!(failures.next_try(then), Some(then + wait));
        assert_eq!(failures.waiting(then + wait).count(), 0);
        assert_eq!(failures.next_try(then + wait), None);
    }

    #[test]
    fn a_load_that_succeeds_and_is_lost_again_waits_longer_each_time() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for count in 1..=5 {
            assert_eq!(failures.failed(load(), start, WAIT_MAX).0, count);
            failures.succeeded(&load(), start);
        }
        assert_eq!(failures.failed(load(), start + LASTS / 2, WAIT_MAX).0, 6);
        failures.succeeded(&load(), start);
        assert_eq!(failures.failed(load(), start + LASTS, WAIT_MAX).0, 1);
        let fetch = Job::Fetch("m@1".parse().unwrap());
        failures.failed(fetch.clone(), start, WAIT_MAX);
        failures.succeeded(&fetch, start);
        assert_eq!(failures.count(&fetch), 0);
    }

    #[test]
    fn what_can_hardly_come_out_otherwise_waits_longer() {
        let mut failures = Failures::default();
        let mut waits = (0..14).map(|_| failures.failed(load(), Instant::now(), HOPELESS_WAIT_MAX).1);
        assert!(waits.any(|wait| wait > WAIT_MAX * 4));
        assert!(waits.all(|wait| wait <= HOPELESS_WAIT_MAX));
    }

    #[test]
    fn waits_grow_to_half_a_minute_and_begin_anew_after_a_success() {
        let mut failures = Failures::default();
        for count in 1..=12 {
            let (seen, wait) = failures.failed(load(), Instant::now(), WAIT_MAX);
            assert_eq!(seen, count);
            assert!(wait <= WAIT_MAX, "{wait:?}");
        }
        assert_eq!(failures.count(&load()), 12);
        failures.retain(|_| true);
        assert_eq!(failures.count(&load()), 12);
        failures.forget(&load());
        assert_eq!(failures.failed(load(), Instant::now(), WAIT_MAX).0, 1);
        failures.retain(|_| false);
        assert_eq!(failures.count(&load()), 0);
    }
}
