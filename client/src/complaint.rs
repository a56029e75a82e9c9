//! What is said, in the log, of something that is tried again and again: each piece of news once.
//!
//! Absent on purpose: the trying, and the words. Invariant: of what fails in the same way no second line is due until it
//! has worked, however often it is tried and whatever else fails in between; nor are more than [`LINES_MAX`] lines.

use std::{collections::BTreeSet, error::Error};

/// Most lines until it has worked. Subjects are endpoints of coordinators, or fewer things still, and reasons are few: only a
/// text that is another each time comes so far, and it must not fill the log.
const LINES_MAX: usize = 64;

/// What was said already of things that fail.
#[derive(Debug, Default)]
pub struct Complaint {
    patience: u32,
    failures: u32,
    /// Subjects, each with a reason.
    told: BTreeSet<(String, String)>,
}

impl Complaint {
    /// Says nothing of the first `patience` failures in a row: both ends may be starting.
    pub fn after(patience: u32) -> Self {
        Self {
            patience,
            ..Self::default()
        }
    }

    /// Takes in a failure. Whether to say it: this was not said of this subject since it worked last. Figures are no reason:
    /// a silence that lasts longer is none that is new.
    pub fn is_news(&mut self, subject: &str, why: &str) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures <= self.patience || self.told.len() >= LINES_MAX {
            return false;
        }
        let why: String = why.chars().filter(|c| !c.is_ascii_digit()).collect();
        self.told.insert((subject.to_owned(), why))
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

    #[test]
    fn each_reason_of_each_subject_is_news_once_until_it_worked() {
        let mut complaint = Complaint::default();
        assert!(complaint.is_news("a", "refused"));
        assert!(complaint.is_news("b", "refused"));
        assert!(!complaint.is_news("a", "refused"));
        assert!(!complaint.is_news("b", "refused"));
        assert!(complaint.is_news("a", "silent for 3 s"));
        assert!(!complaint.is_news("a", "silent for 12 s"), "the same, longer");
        for _ in 0..3 {
            assert!(!complaint.is_news("a", "refused"), "they alternate");
            assert!(!complaint.is_news("a", "silent for 3 s"), "they alternate");
        }
        complaint.over();
        assert!(complaint.is_news("b", "refused"));
        assert!(complaint.is_news("a", "silent for 3 s"));
    }

    #[test]
    fn patience_counts_failures_in_a_row() {
        let mut complaint = Complaint::after(2);
        for _ in 0..2 {
            assert!(!complaint.is_news("a", "refused"));
            assert!(!complaint.is_news("a", "refused"));
            assert!(complaint.is_news("a", "refused"));
            complaint.over();
        }
    }

    #[test]
    fn however_many_reasons_there_are_few_lines_are_written() {
        let mut complaint = Complaint::default();
        let text = |i: usize| "x".repeat(i);
        let lines = (0..10 * LINES_MAX)
            .filter(|i| complaint.is_news("a", &text(*i)))
            .count();
        assert_eq!((lines, complaint.told.len()), (LINES_MAX, LINES_MAX));
        complaint.over();
        assert!(complaint.is_news("a", &text(1)));
    }
}
