//! Which disks are older than what is remembered of them.

use proptest::prelude::*;

use crate::standing::{
    Ballot, Boot, LogPoint, Older, Remembered, Shown, Stored, is_let_in, judge, judge_running,
};

const fn boot(count: u64, run: u64) -> Boot {
    Boot { count, run }
}
const fn point(term: u64, index: u64) -> LogPoint {
    LogPoint { term, index }
}
const fn stored(under: u64, upto: LogPoint) -> Option<Stored> {
    Some(Stored { under, upto })
}
/// `vote(3, 1)`: in term 3 for node 1, elected.
const fn vote(term: u64, voted_for: u64) -> Option<Ballot> {
    Some(Ballot {
        term,
        voted_for,
        elected: true,
    })
}
const fn candidate(term: u64, voted_for: u64) -> Option<Ballot> {
    Some(Ballot {
        term,
        voted_for,
        elected: false,
    })
}

fn word(answer: Result<(), Older>) -> &'static str {
    match answer {
        Ok(()) => "ok",
        Err(Older::Boot { .. }) => "boot",
        Err(Older::Vote { .. }) => "vote",
        Err(Older::Log { .. }) => "log",
    }
}

#[test]
fn an_older_disk_is_told_from_one_that_went_on() {
    // What is remembered: start 4, voted for 1 in term 3, and stored entry 50 of term 3 for the leader of that term.
    let remembered = Remembered {
        boot: Some(boot(4, 40)),
        ballot: vote(3, 1),
        stored: stored(3, point(3, 50)),
    };
    let table = [
        // It went on.
        (boot(5, 50), vote(3, 1), Some(point(3, 50)), "ok"),
        (boot(5, 50), vote(3, 1), Some(point(3, 90)), "ok"),
        // A leader that starts again shows its vote as a candidate's.
        (boot(5, 50), candidate(3, 1), Some(point(3, 50)), "ok"),
        // The very run that said so.
        (boot(4, 40), vote(2, 2), None, "ok"),
        // A copy from before the last start.
        (boot(4, 41), vote(3, 1), Some(point(3, 90)), "boot"),
        (boot(3, 50), vote(3, 1), Some(point(3, 90)), "boot"),
        // A copy of a running disk.
        (boot(5, 50), vote(3, 1), Some(point(3, 49)), "log"),
        (boot(5, 50), vote(3, 1), Some(point(2, 70)), "log"),
        (boot(5, 50), vote(3, 1), None, "log"),
        (boot(5, 50), vote(2, 2), Some(point(2, 70)), "vote"),
        (boot(5, 50), None, None, "vote"),
        // It voted for another in that term, in another life.
        (boot(5, 50), candidate(3, 2), Some(point(3, 50)), "vote"),
        (boot(5, 50), vote(3, 2), Some(point(3, 50)), "vote"),
        // A later leader had what was never committed cut off: that is legal, and its vote is there first.
        (boot(5, 50), vote(4, 2), Some(point(3, 20)), "ok"),
        (boot(5, 50), candidate(4, 2), Some(point(2, 9)), "ok"),
    ];
    for (boot, ballot, last, expected) in table {
        let shown = Shown { boot, ballot, last };
        assert_eq!(word(judge(&shown, &remembered)), expected, "{shown:?}");
    }
}

#[test]
fn who_voted_for_one_that_lost_follows_who_won_in_the_same_term() {
    let remembered = Remembered {
        ballot: candidate(3, 1),
        ..Remembered::default()
    };
    let shown = |ballot| Shown {
        boot: boot(1, 1),
        ballot,
        last: None,
    };
    assert_eq!(word(judge(&shown(vote(3, 2)), &remembered)), "ok");
    assert_eq!(word(judge(&shown(candidate(3, 2)), &remembered)), "vote");
}

/// Entries of earlier terms that matched the leader's log count too, and those that did not match never did.
#[test]
fn what_matched_the_leader_of_the_term_is_never_cut_in_it() {
    let shown = |last| Shown {
        boot: boot(2, 2),
        ballot: vote(3, 1),
        last: Some(last),
    };
    let remembered = Remembered {
        stored: stored(3, point(2, 8)),
        ..Remembered::default()
    };
    assert_eq!(word(judge(&shown(point(2, 8)), &remembered)), "ok");
    assert_eq!(word(judge(&shown(point(2, 10)), &remembered)), "ok");
    assert_eq!(word(judge(&shown(point(2, 7)), &remembered)), "log");
    // Stored for the leader of term 2, and cut for the one of term 3.
    let remembered = Remembered {
        stored: stored(2, point(2, 10)),
        ..Remembered::default()
    };
    assert_eq!(word(judge(&shown(point(2, 8)), &remembered)), "ok");
}

/// Two processes on copies of one disk: the one that started later goes on.
#[test]
fn of_a_running_disk_only_a_later_start_speaks_against_it() {
    let remembered = |boot| Remembered {
        boot,
        ballot: vote(9, 9),
        stored: stored(9, point(9, 9)),
    };
    assert_eq!(word(judge_running(boot(4, 40), &remembered(None))), "ok");
    assert_eq!(
        word(judge_running(boot(4, 40), &remembered(Some(boot(3, 1))))),
        "ok"
    );
    assert_eq!(
        word(judge_running(boot(4, 40), &remembered(Some(boot(4, 40))))),
        "ok"
    );
    assert_eq!(
        word(judge_running(boot(4, 40), &remembered(Some(boot(4, 41))))),
        "boot"
    );
    assert_eq!(
        word(judge_running(boot(4, 40), &remembered(Some(boot(5, 1))))),
        "boot"
    );
}

#[test]
fn nothing_is_remembered_of_a_newcomer() {
    let shown = Shown {
        boot: boot(1, 1),
        ballot: None,
        last: None,
    };
    assert_eq!(word(judge(&shown, &Remembered::default())), "ok");
}

/// Peers tell in any order, and of old times too.
#[test]
fn nothing_is_remembered_less() {
    let learnt = |mut now: Remembered, heard: Remembered| {
        now.learn(heard);
        now
    };
    let of = |boot: Option<Boot>| Remembered {
        boot,
        ..Remembered::default()
    };
    let (first, second) = (Some(boot(4, 40)), Some(boot(5, 50)));
    assert_eq!(learnt(of(first), of(second)), of(second));
    assert_eq!(learnt(of(second), of(first)), of(second));
    assert_eq!(learnt(of(None), of(first)), of(first));
    assert_eq!(learnt(of(first), of(None)), of(first));
    // Of two starts with one number the one that was heard of first.
    assert_eq!(learnt(of(first), of(Some(boot(4, 41)))), of(first));
    let of = |ballot: Option<Ballot>| Remembered {
        ballot,
        ..Remembered::default()
    };
    for (before, heard, after) in [
        (vote(3, 1), vote(4, 2), vote(4, 2)),
        (vote(4, 2), vote(3, 1), vote(4, 2)),
        (candidate(3, 1), vote(3, 2), vote(3, 2)),
        (vote(3, 2), candidate(3, 1), vote(3, 2)),
        (candidate(3, 1), candidate(3, 2), candidate(3, 1)),
        (None, candidate(1, 1), candidate(1, 1)),
        (candidate(1, 1), None, candidate(1, 1)),
    ] {
        assert_eq!(learnt(of(before), of(heard)), of(after), "{before:?}, {heard:?}");
    }
    let of = |stored: Option<Stored>| Remembered {
        stored,
        ..Remembered::default()
    };
    let (less, more) = (stored(3, point(3, 50)), stored(4, point(3, 40)));
    assert_eq!(learnt(of(less), of(more)), of(more));
    assert_eq!(learnt(of(more), of(less)), of(more));
    assert_eq!(learnt(of(more), of(None)), of(more));
}

#[test]
fn an_older_disk_is_told_how_it_is_known() {
    let remembered = Remembered {
        boot: Some(boot(4, 40)),
        ballot: vote(3, 1),
        stored: stored(3, point(2, 50)),
    };
    let text = |boot, ballot, last| {
        let shown = Shown { boot, ballot, last };
        judge(&shown, &remembered).unwrap_err().to_string()
    };
    let later = boot(5, 50);
    assert_eq!(
        text(boot(4, 41), vote(3, 1), None),
        "this is its start number 4, and start number 4 was seen"
    );
    assert_eq!(
        text(later, vote(2, 7), None),
        "its last vote is for 7 in term 2, and it voted for 1 in term 3"
    );
    assert_eq!(
        text(later, None, None),
        "its last vote is none, and it voted for 1 in term 3"
    );
    assert_eq!(
        text(later, vote(3, 1), Some(point(2, 49))),
        "its log ends at entry 49 of term 2, and it had stored everything up to entry 50 of term 2 for the leader of term 3"
    );
    assert_eq!(
        text(later, vote(3, 1), None),
        "its log ends at its beginning, and it had stored everything up to entry 50 of term 2 for the leader of term 3"
    );
}

#[test]
fn a_majority_of_each_set_of_voters_lets_a_start_in() {
    /// Sets of voters, who accepts, and whether that lets the first one in.
    type Row = (&'static [&'static [u64]], &'static [u64], bool);
    let table: [Row; 9] = [
        (&[&[1]], &[], true),
        (&[&[1, 2]], &[], false),
        (&[&[1, 2]], &[2], true),
        (&[&[1, 2, 3]], &[], false),
        (&[&[1, 2, 3]], &[3], true),
        (&[&[1, 2, 3], &[1, 4]], &[3], false),
        (&[&[1, 2, 3], &[1, 4]], &[3, 4], true),
        // Who does not vote has no voice of its own.
        (&[&[2, 3, 4]], &[2], false),
        (&[&[2, 3, 4]], &[2, 4], true),
    ];
    for (sets, accepting, expected) in table {
        let sets: Vec<Vec<u64>> = sets.iter().map(|set| set.to_vec()).collect();
        let let_in = is_let_in(&sets, 1, |id| accepting.contains(&id));
        assert_eq!(let_in, expected, "{sets:?} {accepting:?}");
    }
}

/// What happens to a disk, as Raft lets it.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Entries from the leader of its term, or its first after an election.
    Append(u64),
    /// A vote in a later term, for somebody.
    Vote(u64, u64),
    /// The later term's leader finds that the log differs from some entry on: only what no leader of now matched.
    LeaderCuts(u64),
    /// Down and up again.
    Restart,
}

#[derive(Clone, Debug)]
struct Disk {
    boot: Boot,
    ballot: Ballot,
    /// The term of each entry.
    log: Vec<u64>,
    /// How many entries match the leader of `ballot.term`.
    matched: usize,
}

impl Disk {
    fn last(&self) -> Option<LogPoint> {
        let term = *self.log.last()?;
        Some(point(term, self.log.len() as u64))
    }
    fn shown(&self) -> Shown {
        Shown {
            boot: self.boot,
            ballot: Some(self.ballot),
            last: self.last(),
        }
    }
    fn remembered(&self) -> Remembered {
        let upto = self
            .matched
            .checked_sub(1)
            .map(|i| point(self.log[i], self.matched as u64));
        Remembered {
            boot: Some(self.boot),
            ballot: Some(self.ballot),
            stored: upto.and_then(|upto| stored(self.ballot.term, upto)),
        }
    }
    fn take(&mut self, step: Step) {
        match step {
            Step::Append(n) => {
                self.ballot.elected = true;
                // What does not match is replaced by the leader's entries.
                self.log
                    .truncate(self.matched.max(self.log.len().saturating_sub(3)));
                self.log.extend((0..=n).map(|_| self.ballot.term));
                self.matched = self.log.len();
            }
            Step::Vote(up, voted_for) => {
                self.ballot = Ballot {
                    term: self.ballot.term + 1 + up,
                    voted_for,
                    elected: false,
                };
                self.matched = 0;
            }
            Step::LeaderCuts(n) => {
                self.ballot.elected = true;
                let keep = self
                    .matched
                    .max(self.log.len().saturating_sub(usize::try_from(n).unwrap()));
                self.log.truncate(keep);
            }
            Step::Restart => self.boot = boot(self.boot.count + 1, self.boot.run + 7),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u64).prop_map(Step::Append),
        2 => (0..2_u64, 1..4_u64).prop_map(|(up, who)| Step::Vote(up, who)),
        1 => (1..4_u64).prop_map(Step::LeaderCuts),
        2 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    /// Whatever was remembered at any time, a disk that only its process wrote is let in at each later start.
    #[test]
    fn a_disk_that_went_on_is_never_called_older(steps in steps(), heard in proptest::collection::vec(any::<bool>(), 40)) {
        let mut disk = Disk {
            boot: boot(1, 1),
            ballot: Ballot { term: 1, voted_for: 1, elected: true },
            log: vec![1],
            matched: 1,
        };
        let mut peers = Remembered::default();
        for (step, heard) in steps.into_iter().zip(heard) {
            disk.take(step);
            if heard {
                peers.learn(disk.remembered());
            }
            let mut restarted = disk.clone();
            restarted.take(Step::Restart);
            prop_assert_eq!(word(judge(&restarted.shown(), &peers)), "ok", "{:?} of {:?}", restarted, peers);
        }
    }

    /// A copy is refused whenever something was acknowledged after it was made, in the vote that it still has.
    #[test]
    fn a_copy_that_lacks_what_was_heard_since_is_refused(before in steps(), after in 0..4_u64) {
        let mut disk = Disk {
            boot: boot(1, 1),
            ballot: Ballot { term: 1, voted_for: 1, elected: true },
            log: vec![1],
            matched: 1,
        };
        for step in before {
            disk.take(step);
        }
        let mut copy = disk.clone();
        let mut peers = Remembered::default();
        disk.take(Step::Append(after));
        peers.learn(disk.remembered());
        copy.take(Step::Restart);
        let appended = disk.last() > copy.last() || disk.ballot != copy.ballot;
        prop_assert!(!appended || word(judge(&copy.shown(), &peers)) != "ok", "{:?} of {:?}", copy, peers);
    }
}
