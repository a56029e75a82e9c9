//! I1 at the log's own door: what was acknowledged is there after any crash, nothing is there twice, nothing has a hole, and
//! what was not acknowledged is there up to some point.

use super::{
    Still,
    model::{Model, Step},
};
use crate::{
    OpenError,
    faulty::{Chance, Fault, FaultyDisk, Lost},
    pool::Prepared,
    writer::Turn,
};

/// What the seeds met, so that a test that stops meeting it is seen.
#[derive(Debug, Default)]
struct Met {
    crashes: usize,
    in_recovery: usize,
    torn: usize,
    cut_short: usize,
    reused: usize,
    segments: usize,
}

/// One disk, through several crashes.
struct Story {
    seed: u64,
    chance: Chance,
    disk: FaultyDisk,
    /// What may be there: one state for each operation from the last acknowledged on.
    possible: Vec<Model>,
    committed: Vec<Option<crate::LogId>>,
    met: Met,
}

impl Story {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            chance: Chance::new(seed),
            disk: FaultyDisk::new(),
            possible: vec![Model::default()],
            committed: vec![None],
            met: Met::default(),
        }
    }

    fn plan_faults(&mut self) {
        let within = if self.chance.below(4) == 0 { 8 } else { 120 };
        self.disk.fail_at(self.chance.below(within), Fault::Crash);
        for _ in 0..self.chance.below(3) {
            let fault = [Fault::Enospc, Fault::Short][self.chance.pick(2)];
            let at = self.chance.below(within);
            self.disk.fail_at(at, fault);
        }
    }

    fn crash(&mut self) {
        let lost = Lost::EACH[self.chance.pick(Lost::EACH.len())];
        self.disk = self.disk.after_crash(lost, &mut self.chance);
    }

    /// Opens, through crashes and full disks of its own.
    fn open(&mut self) -> Still {
        loop {
            match Still::open(&self.disk) {
                Ok(still) => return still,
                Err(OpenError::Io { .. }) if self.disk.crashed() => {
                    self.met.in_recovery += 1;
                    self.crash();
                }
                Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {}
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
        }
    }

    /// What is there must be one of the states that may be.
    fn check(&mut self, still: &Still) {
        let found = Model::of(&still.log);
        let at = self.possible.iter().position(|state| *state == found);
        let Some(at) = at else {
            panic!("seed {}:\n{found:?}\nis none of\n{:#?}", self.seed, self.possible)
        };
        self.met.cut_short += usize::from(at + 1 < self.possible.len());
        let committed = still.log.committed();
        assert!(
            self.committed.contains(&committed),
            "seed {}: {committed:?}",
            self.seed
        );
        let last = found.last.map(|l| l.index);
        assert!(
            committed.map(|c| c.index) <= last,
            "seed {}: {committed:?} is above {found:?}, of {:?}",
            self.seed,
            self.committed
        );
        (self.possible, self.committed) = (vec![found], vec![committed]);
        self.met.torn += usize::from(still.opened.cut.is_some());
        self.met.segments = self.met.segments.max(still.opened.segments);
    }

    /// Runs until the crash. Says how many operations were acknowledged.
    fn live(&mut self, still: &mut Still) {
        let mut history = History::new(self.possible[0].clone());
        for _ in 0..60 {
            if self.disk.crashed() {
                break;
            }
            self.step(still, &mut history);
        }
        if !self.disk.crashed() {
            still.drain(crate::Log::pool);
        }
        self.met.crashes += usize::from(self.disk.crashed());
        let from = history.after[still.acknowledged()];
        self.possible = history.states.split_off(from);
    }

    fn step(&mut self, still: &mut Still, history: &mut History) {
        match self.chance.below(8) {
            0..=3 => {
                let step = history
                    .now()
                    .draw(&mut self.chance, self.committed.last().copied().flatten());
                history.add(&step);
                still.issue(&step);
                let Step::Append(entries) = step else { return };
                if let Some(last) = entries.last().filter(|_| self.chance.below(3) == 0) {
                    still.log.set_committed(last.id);
                    self.committed.push(Some(last.id));
                }
            }
            4 => drop(still.log.pool().turn()),
            5 => drop(still.writer.mark()),
            _ => match still.writer.turn() {
                Ok(Turn::NeedsSegment) => {
                    let free = self.disk.list_free();
                    if let Ok(Prepared::Worked) = still.log.pool().turn() {
                        self.met.reused += usize::from(self.disk.list_free() < free);
                    }
                }
                Ok(Turn::Worked | Turn::Idle | Turn::NoRoom) | Err(_) => {}
            },
        }
    }
}

/// Every state that a prefix of what was asked for comes to; an append may end after any of its entries.
struct History {
    states: Vec<Model>,
    /// The state after so many operations.
    after: Vec<usize>,
}

impl History {
    fn new(begin: Model) -> Self {
        let (states, after) = (vec![begin], vec![0]);
        Self { states, after }
    }

    fn now(&self) -> &Model {
        &self.states[self.states.len() - 1]
    }

    fn add(&mut self, step: &Step) {
        let pieces = match step {
            Step::Append(entries) => entries.iter().map(|e| Step::Append(vec![e.clone()])).collect(),
            one => vec![one.clone()],
        };
        for piece in pieces {
            let mut state = self.now().clone();
            state.apply(&piece);
            self.states.push(state);
        }
        self.after.push(self.states.len() - 1);
    }
}

impl FaultyDisk {
    fn list_free(&self) -> usize {
        let names = crate::disk::Disk::list(self).unwrap();
        names.iter().filter(|n| n.ends_with(".free")).count()
    }
}

fn tell(seed: u64) -> Met {
    let mut story = Story::new(seed);
    for _ in 0..5 {
        story.plan_faults();
        let mut still = story.open();
        story.check(&still);
        story.live(&mut still);
        drop(still);
        story.crash();
    }
    let still = story.open();
    story.check(&still);
    story.met
}

#[test]
fn acknowledged_writes_survive_a_crash_at_any_operation() {
    let seeds = std::env::var("WAL_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3_000);
    let mut met = Met::default();
    let one: Option<u64> = std::env::var("WAL_SEED").ok().and_then(|n| n.parse().ok());
    for seed in one.map_or(0..seeds, |one| one..one + 1) {
        let one = tell(seed);
        met.crashes += one.crashes;
        met.in_recovery += one.in_recovery;
        met.torn += one.torn;
        met.cut_short += one.cut_short;
        met.reused += one.reused;
        met.segments = met.segments.max(one.segments);
    }
    eprintln!("{seeds} seeds met {met:?}");
    let Met {
        crashes,
        in_recovery,
        torn,
        cut_short,
        reused,
        segments,
    } = met;
    let seeds = usize::try_from(seeds).unwrap();
    assert!(
        crashes > 2 * seeds && in_recovery > seeds / 20 && torn > seeds / 20,
        "a weak test"
    );
    assert!(
        cut_short > seeds / 10 && reused > seeds / 50 && segments > 3,
        "a weak test"
    );
}
