//! Whether a coordinator's disk is older than what others remember of it (L20).
//!
//! A disk that was restored from a copy has forgotten votes that it gave and entries that it acknowledged; a voter on it
//! could elect somebody who never had them. So each start is announced, and compared here with what each peer remembers.
//!
//! Legal changes make a log shorter, and must not be taken for an older disk: under a new leader, entries that never were
//! committed are cut off. So what counts is never "the last entry" alone, but what was stored *under a leader*: while a
//! node's vote is still that leader's, nothing that matched the leader's log is ever cut. The vote for a later leader is on
//! disk before that one's first entry, or its first cut, can be. A snapshot with everything before it purged ends where
//! the log ended.
//!
//! Absent on purpose: files, clocks, and how peers come to know it.
//! Invariant: a disk that only its own process has written since is never called older.

use std::fmt;

/// A vote that is on disk: in a term a node votes for one node only, and then follows whoever a majority elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// The term.
    pub term: u64,
    /// For whom.
    pub voted_for: u64,
    /// A majority elected that one: its leadership was acknowledged.
    pub elected: bool,
}

impl Ballot {
    /// Whether the disk with `former` as its vote may have this one later.
    fn may_follow(self, former: Self) -> bool {
        let same_term = self.term == former.term;
        let follows_elected = self.elected && !former.elected;
        self.term > former.term || same_term && (self.voted_for == former.voted_for || follows_elected)
    }
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPoint {
    /// The term of the leader that wrote the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

impl fmt::Display for LogPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} of term {}", self.index, self.term)
    }
}

/// What was on disk and equal to a leader's log, while that one led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// The leader's term.
    pub under: u64,
    /// Everything up to here.
    pub upto: LogPoint,
}

/// One start of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Starts of the directory, this one included; written down before anything else is done.
    pub count: u64,
    /// Drawn at the start, so that two starts with one count are told apart.
    pub run: u64,
}

/// What a coordinator finds on its disk when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// This start.
    pub boot: Boot,
    /// The last vote.
    pub ballot: Option<Ballot>,
    /// Where the log, or the snapshot that replaced it, ends.
    pub last: Option<LogPoint>,
}

/// The highest that is remembered of a coordinator's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Its last start.
    pub boot: Option<Boot>,
    /// Its last vote.
    pub ballot: Option<Ballot>,
    /// What it stored.
    pub stored: Option<Stored>,
}

/// How a disk proves to be older than what is remembered of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Older {
    /// It was started more often than it says.
    #[error("this is its start number {shown}, and start number {remembered} was seen")]
    Boot {
        /// The number that it shows.
        shown: u64,
        /// The number that is remembered.
        remembered: u64,
    },
    /// It voted in a later term, or for somebody else in the same.
    #[error("its last vote is {}, and it voted for {} in term {}", vote(*.shown), .remembered.voted_for, .remembered.term)]
    Vote {
        /// The vote that it shows.
        shown: Option<Ballot>,
        /// The vote that is remembered.
        remembered: Ballot,
    },
    /// It stored more.
    #[error("its log ends at {}, and it had stored everything up to {} for the leader of term {}", end(*.shown), .remembered.upto, .remembered.under)]
    Log {
        /// Where its log ends.
        shown: Option<LogPoint>,
        /// What it had stored.
        remembered: Stored,
    },
}

fn vote(shown: Option<Ballot>) -> String {
    shown.map_or_else(
        || "none".to_owned(),
        |b| format!("for {} in term {}", b.voted_for, b.term),
    )
}

fn end(shown: Option<LogPoint>) -> String {
    shown.map_or_else(|| "its beginning".to_owned(), |point| point.to_string())
}

/// Whether what a start shows can be the disk of which this is remembered.
pub fn judge(shown: &Shown, remembered: &Remembered) -> Result<(), Older> {
    // What is remembered of this very run came from it.
    if remembered.boot == Some(shown.boot) {
        return Ok(());
    }
    check_boot(shown.boot, remembered.boot)?;
    check_ballot(shown.ballot, remembered.ballot)?;
    check_log(shown, remembered.stored)
}

/// The same of a start that was let in, and has written since: only another start of its disk speaks against it.
pub fn judge_running(running: Boot, remembered: &Remembered) -> Result<(), Older> {
    if remembered.boot == Some(running) {
        return Ok(());
    }
    check_boot(running, remembered.boot)
}

fn check_boot(shown: Boot, remembered: Option<Boot>) -> Result<(), Older> {
    match remembered {
        Some(last) if last.count >= shown.count => Err(Older::Boot {
            shown: shown.count,
            remembered: last.count,
        }),
        Some(_) | None => Ok(()),
    }
}

fn check_ballot(shown: Option<Ballot>, remembered: Option<Ballot>) -> Result<(), Older> {
    let Some(remembered) = remembered else {
        return Ok(());
    };
    if shown.is_some_and(|shown| shown.may_follow(remembered)) {
        return Ok(());
    }
    Err(Older::Vote { shown, remembered })
}

fn check_log(shown: &Shown, remembered: Option<Stored>) -> Result<(), Older> {
    let Some(remembered) = remembered else {
        return Ok(());
    };
    let term = shown.ballot.map_or(0, |ballot| ballot.term);
    // Under a later leader it may have been cut, legally.
    if term > remembered.under || term == remembered.under && shown.last >= Some(remembered.upto) {
        return Ok(());
    }
    Err(Older::Log {
        shown: shown.last,
        remembered,
    })
}

impl Remembered {
    /// Takes in what else was heard; nothing is ever remembered less.
    pub fn learn(&mut self, heard: Self) {
        if heard.boot.map(|b| b.count) > self.boot.map(|b| b.count) {
            self.boot = heard.boot;
        }
        let rank = |ballot: Option<Ballot>| ballot.map(|b| (b.term, b.elected));
        if rank(heard.ballot) > rank(self.ballot) {
            self.ballot = heard.ballot;
        }
        self.stored = self.stored.max(heard.stored);
    }
}

/// Whether `accepting` are enough voices for a start to be let in: a majority of each set of voters, its own voice among
/// them. A change that is under way has two sets.
pub fn is_let_in(sets: &[Vec<u64>], own: u64, accepting: impl Fn(u64) -> bool) -> bool {
    let majority = |voters: &Vec<u64>| {
        let yes = voters.iter().filter(|id| **id == own || accepting(**id));
        yes.count() >= crate::membership::majority(voters.len())
    };
    sets.iter().all(majority)
}
