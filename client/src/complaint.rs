//! What is said, in the log, of something that is tried again and again: each piece of news once.
//!
//! Absent on purpose: the trying, and the words. Invariant: of what fails in the same way no second line is due until it
//! has worked, however often it is tried and whatever else fails in between; nor are more than [`REASONS_MAX`] lines of one
//! subject, the last of which says so. No subject takes the lines of another.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
};

/// Most lines of one subject until it has worked. Reasons are few: only a text that is another each time comes so far, and
/// it must not fill the log.
const REASONS_MAX: usize = 16;

/// Most subjects with lines of their own. They are endpoints of coordinators, or fewer things still; what comes beyond them
/// shares the lines of one.
const SUBJECTS_MAX: usize = 16;

/// Ends the last line.
const LAST: &str = "; further reasons are not said until it works";

/// What was said already of things that fail.
#[derive(Debug, Default)]
pub struct Complaint {
    patience: u32,
    failures: u32,
    /// Of each subject, and of all beyond [`SUBJECTS_MAX`] together.
    told: BTreeMap<Option<String>, BTreeSet<String>>,
}

impl Complaint {
    /// Says nothing of the first `patience` failures in a row: both ends may be starting.
    pub fn after(patience: u32) -> Self {
        Self {
            patience,
            ..Self::default()
        }
    }

    /// Takes in a failure. What to say of it; none where this was said of this subject since it worked last, or enough was.
    /// Figures are no reason: a silence that lasts longer is none that is new.
    pub fn news(&mut self, subject: &str, why: &str) -> Option<String> {
        self.failures = self.failures.saturating_add(1);
        if self.failures <= self.patience {
            return None;
        }
        let told = self.told_of(subject);
        let kept: String = why.chars().filter(|c| !c.is_ascii_digit()).collect();
        if told.len() >= REASONS_MAX || !told.insert(format!("{subject}: {kept}")) {
            return None;
        }
        let last = told.len() == REASONS_MAX;
        let note = if last { LAST } else { "" };
        Some(format!("{why}{note}"))
    }

    fn told_of(&mut self, subject: &str) -> &mut BTreeSet<String> {
        let own = Some(subject.to_owned());
        let room = self.told.contains_key(&own) || self.told.len() < SUBJECTS_MAX;
        self.told.entry(own.filter(|_| room)).or_default()
    }

    /// It worked: whatever fails from now on is news.
    pub fn over(&mut self) {
        self.failures = 0;
        self.told.clear();
    }
}

/// An error with what it came from: the outermost text of a transport error says nothing by itself.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_news(complaint: &mut Complaint, subject: &str, why: &str) -> bool {
        complaint.news(subject, why).is_some()
    }

    #[test]
    fn each_reason_of_each_subject_is_news_once_until_it_worked() {
        let mut complaint = Complaint::default();
        assert!(is_news(&mut complaint, "a", "refused"));
        assert!(is_news(&mut complaint, "b", "refused"));
        assert!(!is_news(&mut complaint, "a", "refused"));
        assert!(!is_news(&mut complaint, "b", "refused"));
        assert!(is_news(&mut complaint, "a", "silent for 3 s"));
        assert!(
            !is_news(&mut complaint, "a", "silent for 12 s"),
            "the same, longer"
        );
        for _ in 0..3 {
            assert!(!is_news(&mut complaint, "a", "refused"), "they alternate");
            assert!(!is_news(&mut complaint, "a", "silent for 3 s"), "they alternate");
        }
        complaint.over();
        assert!(is_news(&mut complaint, "b", "refused"));
        assert!(is_news(&mut complaint, "a", "silent for 3 s"));
    }

    #[test]
    fn patience_counts_failures_in_a_row() {
        let mut complaint = Complaint::after(2);
        for _ in 0..2 {
            assert!(!is_news(&mut complaint, "a", "refused"));
            assert!(!is_news(&mut complaint, "a", "refused"));
            assert!(is_news(&mut complaint, "a", "refused"));
            complaint.over();
        }
    }

    #[test]
    fn what_has_endless_reasons_takes_no_lines_from_others() {
        let mut complaint = Complaint::default();
        let endless = |complaint: &mut Complaint, subject: &str| -> Vec<String> {
            let why = |i: usize| format!("no such id: {}", "x".repeat(i));
            (0..10 * REASONS_MAX)
                .filter_map(|i| complaint.news(subject, &why(i)))
                .collect()
        };
        let lines = endless(&mut complaint, "a");
        assert_eq!(lines.len(), REASONS_MAX);
        let last: Vec<_> = lines.iter().map(|line| line.ends_with(LAST)).collect();
        assert_eq!(last.iter().position(|last| *last), Some(REASONS_MAX - 1));
        assert_eq!(complaint.news("b", "refused"), Some("refused".to_owned()));
        complaint.over();
        assert_eq!(complaint.news("a", "refused"), Some("refused".to_owned()));
    }

    #[test]
    fn however_many_subjects_there_are_few_lines_are_written() {
        let mut complaint = Complaint::default();
        let subjects = || (0..10 * SUBJECTS_MAX).map(|i| format!("coordinator {i}"));
        let mut lines = 0;
        for why in ["refused", "silent", "refused"] {
            lines += subjects().filter(|of| is_news(&mut complaint, of, why)).count();
        }
        // Each of the first ones with its own reasons; of the others, those that came first.
        assert_eq!(lines, 2 * SUBJECTS_MAX + REASONS_MAX);
        assert_eq!(complaint.told.len(), SUBJECTS_MAX + 1);
    }
}
