//! A run as one HTML page: its verdict, its figures, and a picture of who did what when, under which faults.
//!
//! Reading order: this file (what a page says), `picture` (where things lie on it), `page` (the document).
//! Absent on purpose: what a run is, and any judgement of it. Whoever has run one fills in a [`Page`]; the same page makes the same
//! bytes. Invariant: the document needs nothing from anywhere, and runs nothing.

#![warn(missing_docs)]

mod page;
mod picture;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// One run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// What was run, in a few words.
    pub title: String,
    /// The command that runs it again.
    pub command: String,
    /// Whether every promise was kept.
    pub holds: bool,
    /// Broken promises, each in one sentence.
    pub findings: Vec<String>,
    /// Figures.
    pub facts: Vec<Fact>,
    /// The picture, where there is one.
    pub timeline: Option<Timeline>,
    /// What else there is to say.
    pub tables: Vec<Table>,
}

/// A figure and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// Of what.
    pub name: String,
    /// With its unit.
    pub value: String,
}

impl Fact {
    /// A figure.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// Rows below headings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What it is about.
    pub title: String,
    /// Of each column.
    pub headings: Vec<String>,
    /// As many cells each as there are headings.
    pub rows: Vec<Vec<Cell>>,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What stands there.
    pub text: String,
    /// A page that says more, as seen from this one.
    pub link: Option<String>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            link: None,
        }
    }
}

/// Everything over one axis of time, which begins with the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Of the whole run.
    pub length: Duration,
    /// What was done to it; told above all lanes, and seen behind them.
    pub faults: Vec<Span>,
    /// From top to bottom, below headings.
    pub groups: Vec<Group>,
}

/// Lanes that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Their heading.
    pub name: String,
    /// From top to bottom.
    pub lanes: Vec<Lane>,
}

/// One line of the picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Stands before it.
    pub name: String,
    /// States that last.
    pub spans: Vec<Span>,
    /// Operations.
    pub marks: Vec<Mark>,
}

/// Something that lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// What; it stands in the bar where there is room, and is told of each when it is pointed at.
    pub label: String,
    /// Since the run began.
    pub from: Duration,
    /// Since the run began.
    pub until: Duration,
    /// Bars of one number have one colour.
    pub colour: u64,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Since the run began.
    pub from: Duration,
    /// Since the run began.
    pub until: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It happened.
    Accepted,
    /// It surely did not.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Outcome {
    /// Each.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Unknown];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

impl Page {
    /// The document.
    pub fn to_html(&self) -> String {
        page::document(self).into_string()
    }
}
