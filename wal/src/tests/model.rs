//! What a log should hold: the sequential model, and operations drawn by chance.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Still, all, id};
use crate::{Entry, Log, LogId, faulty::Chance};

/// One operation.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Append(Vec<Entry>),
    Vote(Bytes),
    Truncate(Option<LogId>),
    Purge(LogId),
}

/// What is durable of a log, but for the committed mark.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) vote: Option<Bytes>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
}

/// Short: payloads as their checksums.
impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let crc = |bytes: &Bytes| crc32c::crc32c(bytes) >> 16;
        write!(f, "purged {:?} last {:?}", self.purged, self.last)?;
        write!(f, " vote {:04x?} entries", self.vote.as_ref().map(crc))?;
        let mut entries = self.entries.values();
        entries.try_for_each(|e| write!(f, " {}.{}:{:04x}", e.id.term, e.id.index, crc(&e.payload)))
    }
}

impl Model {
    /// What an open log holds, read back entry by entry.
    pub(super) fn of(log: &Log) -> Self {
        Self {
            entries: all(log).into_iter().map(|e| (e.id.index, e)).collect(),
            vote: log.vote(),
            purged: log.purged(),
            last: log.last(),
        }
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(entries) => {
                self.last = entries.last().map(|e| e.id);
                self.entries
                    .extend(entries.iter().map(|e| (e.id.index, e.clone())));
            }
            Step::Vote(vote) => self.vote = Some(vote.clone()),
            Step::Truncate(after) => {
                let keep = after.map_or(0, |a| a.index + 1);
                self.entries.split_off(&keep);
                self.last = *after;
            }
            Step::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(*upto);
                self.last = self.last.filter(|l| l.index > upto.index).or(Some(*upto));
            }
        }
    }

    fn next_index(&self, chance: &mut Chance) -> u64 {
        self.last.map_or_else(|| chance.below(3), |l| l.index + 1)
    }

    fn id_at(&self, index: u64) -> Option<LogId> {
        let entry = self.entries.get(&index).map(|e| e.id);
        entry.or_else(|| self.purged.filter(|p| p.index == index))
    }

    /// An operation that Raft could ask for, which never voids what is committed.
    pub(super) fn draw(&self, chance: &mut Chance, committed: Option<LogId>) -> Step {
        let term = self.last.map_or(1, |l| l.term) + u64::from(chance.below(8) == 0);
        match chance.below(20) {
            0..=1 => Step::Vote(filled(chance, 40)),
            2..=3 if !self.entries.is_empty() => {
                let first = self.entries.keys().next().copied().unwrap_or_default();
                let spread = self.entries.len() as u64 + 1;
                let after = (first + chance.below(spread)).checked_sub(1);
                let after = after.and_then(|a| self.id_at(a));
                let index = |id: Option<LogId>| id.map(|id| id.index);
                Step::Truncate(if index(after) < index(committed) {
                    self.last
                } else {
                    after
                })
            }
            4..=5 if !self.entries.is_empty() => {
                let first = self.entries.keys().next().copied().unwrap_or_default();
                let upto = first + chance.below(self.entries.len() as u64);
                Step::Purge(self.id_at(upto).unwrap_or_default())
            }
            // A snapshot came that is ahead of the log.
            6 if chance.below(4) == 0 => Step::Purge(id(term, self.next_index(chance) + chance.below(4))),
            _ => {
                let first = self.next_index(chance);
                let largest = if chance.below(6) == 0 { 5_000 } else { 300 };
                let count = 1 + chance.below(5);
                let entries = (first..first + count).map(|index| Entry {
                    id: id(term, index),
                    kind: u8::try_from(chance.below(3)).unwrap(),
                    payload: filled(chance, largest),
                });
                Step::Append(entries.collect())
            }
        }
    }
}

fn filled(chance: &mut Chance, largest: usize) -> Bytes {
    let (length, seed) = (chance.pick(largest + 1), chance.draw());
    let turned = (0..64).cycle().map(|n| seed.rotate_left(n).to_le_bytes()[0]);
    turned.take(length).collect()
}

impl Still {
    pub(super) fn issue(&mut self, step: &Step) {
        match step.clone() {
            Step::Append(entries) => self.append(entries),
            Step::Vote(vote) => {
                let done = self.done();
                self.log.save_vote(vote, done);
            }
            Step::Truncate(after) => {
                let done = self.done();
                self.log.truncate_after(after, done);
            }
            Step::Purge(upto) => {
                let done = self.done();
                self.log.purge(upto, done);
            }
        }
    }
}
