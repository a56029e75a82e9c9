//! A coordinator's disk: what was synced survives a crash, and of the rest any beginning, or nothing.
//!
//! One write at a time is under way, with all that had changed when it began; whoever answers for a change waits for the write that has it.

use super::{
    raft::{Coordinator, Slot},
    time::MS,
    world::{Msg, Timer, Who, World},
};

/// Term, vote and log as they are on a disk, or would be.
#[derive(Clone, Default)]
struct Image {
    term: u64,
    voted: Option<usize>,
    log: Vec<Slot>,
}

/// A write under way.
struct Writing {
    number: u64,
    image: Image,
    /// How much of the log in memory it makes durable: what was cut off since counts no more.
    stable: usize,
    waits: Vec<(Who, Msg)>,
}

#[derive(Default)]
pub(super) struct Disk {
    saved: Image,
    /// How much of the log in memory is on it.
    stable: usize,
    writing: Option<Writing>,
    /// Who waits for the write after the one that is under way.
    waits: Vec<(Who, Msg)>,
}

impl Disk {
    /// How much of its own log a coordinator may count as stored.
    pub(super) fn stable(&self) -> usize {
        self.stable
    }

    /// The log in memory was cut off at this length.
    pub(super) fn cut(&mut self, len: usize) {
        self.stable = self.stable.min(len);
        if let Some(writing) = &mut self.writing {
            writing.stable = writing.stable.min(len);
        }
    }
}

impl Coordinator {
    fn image(&self) -> Image {
        Image {
            term: self.term,
            voted: self.voted,
            log: self.log.clone(),
        }
    }

    fn is_saved(&self) -> bool {
        let disk = &self.disk;
        (disk.saved.term, disk.saved.voted) == (self.term, self.voted) && disk.stable == self.log.len()
    }
}

impl World {
    /// Answers for what has changed once it is on the disk.
    pub(super) fn say_when_saved(&mut self, c: usize, to: Who, msg: Msg) {
        if self.coordinators[c].is_saved() || self.lying {
            return self.send(Who::Coordinator(c), to, msg);
        }
        self.coordinators[c].disk.waits.push((to, msg));
        self.save(c);
    }

    /// Begins a write of what has changed, unless one is under way.
    pub(super) fn save(&mut self, c: usize) {
        if self.coordinators[c].disk.writing.is_some() || self.coordinators[c].is_saved() {
            return;
        }
        let number = self.id();
        let time = match self.rng.below(100) {
            0 | 1 => self.rng.between(100 * MS, 600 * MS),
            2..=14 => self.rng.between(5 * MS, 60 * MS),
            _ => self.rng.between(MS / 5, 3 * MS),
        };
        let own = &mut self.coordinators[c];
        let image = own.image();
        own.disk.writing = Some(Writing {
            number,
            stable: image.log.len(),
            image,
            waits: std::mem::take(&mut own.disk.waits),
        });
        self.timer(Who::Coordinator(c), time, Timer::Written(number));
    }

    pub(super) fn on_written(&mut self, c: usize, number: u64) {
        let disk = &mut self.coordinators[c].disk;
        let Some(done) = disk.writing.take_if(|w| w.number == number) else {
            return;
        };
        disk.saved = done.image;
        disk.stable = done.stable;
        let mut answers = done.waits;
        if self.coordinators[c].is_saved() {
            answers.append(&mut self.coordinators[c].disk.waits);
        }
        for (to, msg) in answers {
            self.send(Who::Coordinator(c), to, msg);
        }
        self.advance(c);
        self.save(c);
    }

    /// Its process or its machine ends at once. What it had in memory is gone, also of the log what was not synced.
    pub(super) fn crash(&mut self, c: usize) {
        let disk = std::mem::take(&mut self.coordinators[c].disk);
        let memory = self.coordinators[c].image();
        let mut left = disk.saved;
        // A write that was under way may be there whole, and so may a part of what came after it.
        let rest = match disk.writing {
            Some(writing) if self.rng.chance(500) => Some(writing.image),
            _ if self.rng.chance(500) => Some(memory.clone()),
            _ => None,
        };
        if let Some(rest) = rest {
            // It begins with the vote: no entry of a term is there without it.
            let same = left
                .log
                .iter()
                .zip(&rest.log)
                .take_while(|(old, new)| old.term == new.term);
            let same = same.count();
            let new = rest.log.len() - same;
            let kept = self.rng.index(new + 1);
            (left.term, left.voted) = (rest.term, rest.voted);
            if kept > 0 {
                left.log.truncate(same);
                left.log.extend_from_slice(&rest.log[same..same + kept]);
                if kept < new {
                    self.seen.see("a crash leaves a part of what was not synced");
                }
            }
        }
        if left.log.len() < memory.log.len() {
            self.seen.see("a crash loses entries that were not synced");
        }
        if (left.term, left.voted) != (memory.term, memory.voted) {
            self.seen
                .see("a crash loses a vote or a term that was not synced");
        }
        let stable = left.log.len();
        let known = self.coordinators[c].applied.min(stable);
        let applied = self.rng.index(known + 1);
        let own = &mut self.coordinators[c];
        (own.term, own.voted, own.log) = (left.term, left.voted, left.log.clone());
        own.disk = Disk {
            saved: left,
            stable,
            ..Disk::default()
        };
        own.restart(applied);
        if applied < known {
            self.seen.see("a coordinator applies its log again");
        }
    }
}
