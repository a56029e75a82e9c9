//! Whether one register was linearizable: is there an order of all operations, each at one instant between its beginning and its end,
//! in which every answer is right (Herlihy and Wing, 1990)?
//!
//! The search is that of Wing and Gong (1993) with the memory of Lowe (2017): an operation is tried next as long as no other one that
//! is not yet in the order has ended, and no set of operations is left twice with the same value. What changes nothing is
//! taken as soon as it is right, because it can only become wrong later. Linearizability is local, so each key is judged alone.
//! An operation whose outcome is unknown may have happened at any time after its beginning, or never; each doubles what there is to search,
//! so a history holds few of them.

use std::collections::HashSet;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// What a register holds; none before anything was written.
pub(crate) type Value = Option<u64>;

/// What was asked, and what the answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// It held this.
    Read(Value),
    /// This is written, whatever was there.
    Write(u64),
    /// The second is written where the first was.
    Swap(Value, u64),
    /// A swap was refused because something else than this was there.
    Refused(Value),
}

impl Op {
    /// What the register holds after it; none where the answer would have been wrong.
    fn apply(self, held: Value) -> Option<Value> {
        match self {
            Self::Read(seen) => (seen == held).then_some(held),
            Self::Write(value) => Some(Some(value)),
            Self::Swap(from, to) => (from == held).then_some(Some(to)),
            Self::Refused(from) => (from != held).then_some(held),
        }
    }

    fn changes_nothing(self) -> bool {
        matches!(self, Self::Read(_) | Self::Refused(_))
    }
}

/// One operation of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// When it began, in microseconds.
    pub(crate) began: u64,
    /// When it ended; none where nobody knows whether it happened.
    pub(crate) ended: Option<u64>,
    /// What it was.
    pub(crate) op: Op,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is such an order.
    Linearizable,
    /// There is none: no order gets beyond this operation, and the best ones leave the register with these values before it.
    Impossible {
        /// The operation, by its place in the list.
        call: usize,
        /// What the register may hold then.
        held: Vec<Value>,
    },
    /// The search was given up after this many steps, which says nothing.
    GivenUp(u64),
}

/// Steps after which a search is given up. Each may add one of 32 bytes to what is remembered: less than a GiB in all.
const STEPS_MAX: u64 = 10_000_000;

/// Judges the operations of one register that holds nothing at first.
pub(crate) fn check(calls: &[Call]) -> Found {
    Search::new(calls).run(STEPS_MAX)
}

/// An event of the history: the beginning or the end of a call, in a list from which both can be taken out and put back.
#[derive(Clone, Copy, Debug)]
struct Entry {
    call: usize,
    is_end: bool,
    before: usize,
    after: usize,
}

/// The place before the first entry, which is also the one behind the last.
const HEAD: usize = 0;

struct Search<'a> {
    calls: &'a [Call],
    entries: Vec<Entry>,
    /// Of each call, the entries of its beginning and its end.
    places: Vec<(usize, Option<usize>)>,
    /// Ends that are still in the list.
    ends_left: usize,
    /// One random number per call; those of a set of calls, added without carry, name the set.
    names: Vec<u128>,
    chosen: u128,
    held: Value,
    /// The order so far: the call, what was held before it, and whether something else could have come instead.
    order: Vec<(usize, Value, bool)>,
    seen: HashSet<(u128, Value)>,
    /// How many calls the longest order had, what it could not get beyond, and with which values.
    longest: usize,
    stuck_at: usize,
    stuck_with: Vec<Value>,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call]) -> Self {
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(calls.len() * 2);
        for (call, Call { began, ended, .. }) in calls.iter().enumerate() {
            events.push((*began, false, call));
            events.extend(ended.map(|ended| (ended, true, call)));
        }
        // In the same microsecond beginnings come first: the two may have overlapped.
        events.sort_unstable();
        let count = events.len();
        let mut entries = vec![Entry {
            call: usize::MAX,
            is_end: true,
            before: count,
            after: 1.min(count),
        }];
        let mut places = vec![(HEAD, None); calls.len()];
        for (at, (_, is_end, call)) in (1..).zip(events) {
            match is_end {
                true => places[call].1 = Some(at),
                false => places[call].0 = at,
            }
            entries.push(Entry {
                call,
                is_end,
                before: at - 1,
                after: (at + 1) % (count + 1),
            });
        }
        // Any numbers do; the same in each run, so that a search is repeated step by step.
        let mut random = StdRng::seed_from_u64(0);
        Self {
            calls,
            entries,
            places,
            ends_left: calls.iter().filter(|call| call.ended.is_some()).count(),
            names: calls.iter().map(|_| random.random()).collect(),
            chosen: 0,
            held: None,
            order: Vec::new(),
            seen: HashSet::new(),
            longest: 0,
            stuck_at: 0,
            stuck_with: Vec::new(),
        }
    }

    fn run(mut self, steps_max: u64) -> Found {
        let mut at = HEAD;
        for _ in 0..steps_max {
            if at == HEAD {
                while let Some(call) = self.right_already() {
                    self.take(call, self.held, false);
                }
                if self.ends_left == 0 {
                    return Found::Linearizable;
                }
            }
            at = self.entries[at].after;
            let Entry { call, is_end, .. } = self.entries[at];
            if is_end {
                self.remember(call);
                match self.give_back() {
                    Some(place) => at = place,
                    None => {
                        return Found::Impossible {
                            call: self.stuck_at,
                            held: self.stuck_with,
                        };
                    }
                }
            } else if let Some(held) = self.change(call) {
                self.take(call, held, true);
                at = HEAD;
            }
        }
        Found::GivenUp(steps_max)
    }

    /// A call that may come next, changes nothing and is right.
    fn right_already(&self) -> Option<usize> {
        let mut at = self.entries[HEAD].after;
        while !self.entries[at].is_end {
            let op = self.calls[self.entries[at].call].op;
            if op.changes_nothing() && op.apply(self.held).is_some() {
                return Some(self.entries[at].call);
            }
            at = self.entries[at].after;
        }
        None
    }

    /// What is held after a call that changes it, where the search was not there before.
    fn change(&mut self, call: usize) -> Option<Value> {
        let op = self.calls[call].op;
        let held = op.apply(self.held).filter(|_| !op.changes_nothing())?;
        self.seen
            .insert((self.chosen ^ self.names[call], held))
            .then_some(held)
    }

    fn take(&mut self, call: usize, held: Value, is_choice: bool) {
        self.order.push((call, self.held, is_choice));
        self.held = held;
        self.chosen ^= self.names[call];
        let (begin, end) = self.places[call];
        self.unlink(begin);
        if let Some(end) = end {
            self.unlink(end);
            self.ends_left -= 1;
        }
    }

    /// Takes the last choice back, and what followed from it; gives its place, behind which the next choice is looked for.
    fn give_back(&mut self) -> Option<usize> {
        while let Some((call, held, is_choice)) = self.order.pop() {
            self.held = held;
            self.chosen ^= self.names[call];
            let (begin, end) = self.places[call];
            if let Some(end) = end {
                self.link(end);
                self.ends_left += 1;
            }
            self.link(begin);
            if is_choice {
                return Some(begin);
            }
        }
        None
    }

    fn unlink(&mut self, at: usize) {
        let Entry { before, after, .. } = self.entries[at];
        self.entries[before].after = after;
        self.entries[after].before = before;
    }

    /// Only in the reverse order of `unlink`.
    fn link(&mut self, at: usize) {
        let Entry { before, after, .. } = self.entries[at];
        self.entries[before].after = at;
        self.entries[after].before = at;
    }

    fn remember(&mut self, stuck_at: usize) {
        if self.order.len() > self.longest || self.stuck_with.is_empty() {
            (self.longest, self.stuck_at) = (self.order.len(), stuck_at);
            self.stuck_with.clear();
        }
        if self.order.len() == self.longest
            && self.stuck_at == stuck_at
            && !self.stuck_with.contains(&self.held)
        {
            self.stuck_with.push(self.held);
        }
    }
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
