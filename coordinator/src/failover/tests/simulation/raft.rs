//! Consensus as the simulated coordinators run it: terms, votes, a log, and ReadIndex rounds, by messages that get lost.
//!
//! It is Raft as the paper has it, without what makes it fast. What is under test here goes on top of it; that openraft keeps
//! the same promises is tested elsewhere.

use std::{collections::BTreeMap, sync::Arc};

use state::Entry;
use tokio::time::Instant;

use super::{
    disk::Disk,
    leader::Lead,
    time::{At, Clock, MS},
    world::{Msg, Timer, Who, World},
};

/// One place in a log; none: the blank entry that a leader begins with.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) term: u64,
    pub(super) entry: Option<Arc<Entry>>,
}

/// What a coordinator is now.
pub(super) enum Seat {
    Follower,
    Candidate { voters: Vec<usize> },
    Leader(Box<Leading>),
}

/// How far a leader is.
pub(super) struct Leading {
    pub(super) matched: Vec<usize>,
    /// Its own first entry is applied.
    pub(super) since: Option<Instant>,
}

pub(super) struct Coordinator {
    pub(super) clock: Clock,
    /// By how much its wall clock is off, in milliseconds.
    pub(super) wall: i64,
    pub(super) up: bool,
    pub(super) frozen: At,
    /// Until when its disk takes nothing in as a follower's; it answers all the same.
    pub(super) stalled: At,
    pub(super) term: u64,
    pub(super) voted: Option<usize>,
    pub(super) log: Vec<Slot>,
    pub(super) disk: Disk,
    commit: usize,
    pub(super) applied: usize,
    pub(super) seat: Seat,
    campaign_at: At,
    watches: bool,
    /// Who leads, as it knows.
    pub(super) leader: Option<usize>,
    pub(super) led_before: bool,
    pub(super) lead: Lead,
    /// Who waits for which entry of ours.
    pub(super) proposed: BTreeMap<usize, (usize, u64)>,
}

impl Coordinator {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            wall: 0,
            up: true,
            frozen: 0,
            stalled: 0,
            term: 0,
            voted: None,
            log: Vec::new(),
            disk: Disk::default(),
            commit: 0,
            applied: 0,
            seat: Seat::Follower,
            campaign_at: 0,
            watches: false,
            leader: None,
            led_before: false,
            lead: Lead::default(),
            proposed: BTreeMap::new(),
        }
    }

    /// Since when it leads, by what it knows.
    pub(super) fn since(&self) -> Option<Instant> {
        match &self.seat {
            Seat::Leader(leading) => leading.since,
            Seat::Follower | Seat::Candidate { .. } => None,
        }
    }
    pub(super) fn leads(&self) -> bool {
        matches!(self.seat, Seat::Leader(_))
    }
    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |slot| slot.term), self.log.len())
    }
    /// What it had in memory is gone; its state is as it was at `applied`, the last snapshot of it.
    pub(super) fn restart(&mut self, applied: usize) {
        self.up = true;
        self.frozen = 0;
        (self.commit, self.applied) = (applied, applied);
        self.seat = Seat::Follower;
        self.leader = None;
        self.lead = Lead::default();
        self.proposed.clear();
    }
}

impl World {
    fn others(&self, c: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.coordinators.len()).filter(move |other| *other != c)
    }
    fn majority(&self) -> usize {
        self.coordinators.len() / 2 + 1
    }

    pub(super) fn patience(&mut self, c: usize) {
        let wait = self.rng.between(400 * MS, 900 * MS);
        let own = &mut self.coordinators[c];
        own.campaign_at = self.now + wait;
        // One timer at a time: it looks again when it fires.
        if !std::mem::replace(&mut own.watches, true) {
            self.timer(Who::Coordinator(c), wait, Timer::Campaign);
        }
    }

    /// Nothing may have been heard for too long.
    pub(super) fn on_silence(&mut self, c: usize) {
        let own = &mut self.coordinators[c];
        own.watches = false;
        if own.leads() {
            return;
        }
        if self.now < own.campaign_at {
            own.watches = true;
            let left = own.campaign_at - self.now;
            return self.timer(Who::Coordinator(c), left, Timer::Campaign);
        }
        self.on_campaign(c);
    }

    pub(super) fn on_campaign(&mut self, c: usize) {
        let own = &mut self.coordinators[c];
        if own.leads() {
            return;
        }
        own.term += 1;
        own.voted = Some(c);
        own.seat = Seat::Candidate { voters: vec![c] };
        own.leader = None;
        let (term, last) = (own.term, own.last());
        for other in self.others(c) {
            // Its own vote counts once it is on its disk, so nobody else is asked before.
            self.say_when_saved(c, Who::Coordinator(other), Msg::RequestVote { term, last });
        }
        self.patience(c);
    }

    fn step_down(&mut self, c: usize, term: u64) {
        let own = &mut self.coordinators[c];
        if term > own.term {
            (own.term, own.voted) = (term, None);
        }
        match std::mem::replace(&mut own.seat, Seat::Follower) {
            Seat::Follower => return,
            Seat::Candidate { .. } => {}
            Seat::Leader(_) => self.deposed(c),
        }
        self.patience(c);
    }

    pub(super) fn on_request_vote(&mut self, c: usize, from: usize, term: u64, last: (u64, usize)) {
        if term > self.coordinators[c].term {
            self.step_down(c, term);
        }
        let own = &mut self.coordinators[c];
        let yes = term == own.term && own.voted.is_none_or(|to| to == from) && last >= own.last();
        let term = own.term;
        if yes {
            own.voted = Some(from);
            self.patience(c);
        }
        self.say_when_saved(c, Who::Coordinator(from), Msg::Vote { term, yes });
    }

    pub(super) fn on_vote(&mut self, c: usize, from: usize, term: u64, yes: bool) {
        if term > self.coordinators[c].term {
            return self.step_down(c, term);
        }
        let majority = self.majority();
        let count = self.coordinators.len();
        let own = &mut self.coordinators[c];
        let Seat::Candidate { voters } = &mut own.seat else {
            return;
        };
        if term != own.term || !yes || voters.contains(&from) {
            return;
        }
        voters.push(from);
        if voters.len() < majority {
            return;
        }
        own.seat = Seat::Leader(Box::new(Leading {
            matched: vec![0; count],
            since: None,
        }));
        own.leader = Some(c);
        own.lead.begin();
        own.log.push(Slot { term, entry: None });
        self.oracle.elected(term, c, self.now);
        self.replicate(c, 0);
        self.timer(Who::Coordinator(c), 100 * MS, Timer::Beat(term));
    }

    pub(super) fn on_beat(&mut self, c: usize, term: u64) {
        let own = &self.coordinators[c];
        if own.leads() && own.term == term {
            self.replicate(c, 0);
            self.timer(Who::Coordinator(c), 120 * MS, Timer::Beat(term));
        }
    }

    /// Sends what each follower lacks, and asks whether it still follows; `round` is the ReadIndex round that wants to know.
    pub(super) fn replicate(&mut self, c: usize, round: u64) {
        for other in self.others(c) {
            let own = &self.coordinators[c];
            let Seat::Leader(leading) = &own.seat else { return };
            let at = leading.matched[other].min(own.log.len());
            let append = Msg::Append {
                term: own.term,
                at,
                before: if at == 0 { 0 } else { own.log[at - 1].term },
                slots: own.log[at..].to_vec(),
                commit: own.commit,
                round,
            };
            self.send(Who::Coordinator(c), Who::Coordinator(other), append);
        }
        self.save(c);
        self.advance(c);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn on_append(
        &mut self,
        c: usize,
        from: usize,
        term: u64,
        at: usize,
        before: u64,
        slots: Vec<Slot>,
        commit: usize,
        round: u64,
    ) {
        let leader = Who::Coordinator(from);
        let answer = |term, matched| Msg::Appended { term, matched, round };
        if term < self.coordinators[c].term {
            let term = self.coordinators[c].term;
            return self.send(Who::Coordinator(c), leader, answer(term, None));
        }
        self.step_down(c, term);
        self.patience(c);
        let own = &mut self.coordinators[c];
        own.leader = Some(from);
        let fits = at <= own.log.len() && (at == 0 || own.log[at - 1].term == before);
        // A leader begins with nothing matched, so what it sends always fits; a later message may be older than that.
        if !fits {
            return;
        }
        let stalled = self.coordinators[c].stalled > self.now;
        let slots = if stalled { Vec::new() } else { slots };
        let matched = at + slots.len();
        for (place, slot) in (at..).zip(slots) {
            let own = &mut self.coordinators[c];
            if own.log.get(place).is_some_and(|known| known.term != slot.term) {
                own.log.truncate(place);
                own.disk.cut(place);
                self.seen.see("what a deposed leader proposed is lost");
            }
            if place >= own.log.len() {
                own.log.push(slot);
            }
        }
        let own = &mut self.coordinators[c];
        own.commit = own.commit.max(commit.min(matched));
        self.say_when_saved(c, leader, answer(term, Some(matched)));
        self.apply(c);
    }

    pub(super) fn on_appended(
        &mut self,
        c: usize,
        from: usize,
        term: u64,
        matched: Option<usize>,
        round: u64,
    ) {
        if term > self.coordinators[c].term {
            return self.step_down(c, term);
        }
        let own = &mut self.coordinators[c];
        let Seat::Leader(leading) = &mut own.seat else {
            return;
        };
        if let Some(matched) = matched.filter(|_| term == own.term) {
            leading.matched[from] = leading.matched[from].max(matched);
            self.advance(c);
            self.round_heard(c, round, from);
        }
    }

    /// Commits what a majority has on its disks, if it is of this term.
    pub(super) fn advance(&mut self, c: usize) {
        let (majority, lying) = (self.majority(), self.lying);
        let own = &mut self.coordinators[c];
        let Seat::Leader(leading) = &mut own.seat else {
            return;
        };
        leading.matched[c] = if lying { own.log.len() } else { own.disk.stable() };
        let mut matched = leading.matched.clone();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let everywhere = matched[majority - 1];
        if everywhere > own.commit && own.log[everywhere - 1].term == own.term {
            own.commit = everywhere;
            self.apply(c);
        }
    }

    fn apply(&mut self, c: usize) {
        while self.coordinators[c].applied < self.coordinators[c].commit {
            let own = &mut self.coordinators[c];
            let index = own.applied + 1;
            let slot = own.log[index - 1].clone();
            own.applied = index;
            let now = own.clock.instant(self.now);
            if let Seat::Leader(leading) = &mut own.seat
                && slot.term == own.term
                && slot.entry.is_none()
            {
                leading.since = Some(now);
                self.begins_to_lead(c);
            }
            self.committed(index, &slot);
            self.applied(c, index);
        }
    }

    /// Puts an entry into the leader's log. Its index and term.
    pub(super) fn append(&mut self, c: usize, entry: Arc<Entry>) -> usize {
        let own = &mut self.coordinators[c];
        let term = own.term;
        own.log.push(Slot {
            term,
            entry: Some(entry),
        });
        let index = own.log.len();
        self.replicate(c, 0);
        index
    }
}
