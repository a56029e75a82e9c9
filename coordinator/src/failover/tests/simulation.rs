//! Many histories of leases, failovers and hand-overs, each from a seed: coordinators, agents, doors and people as real rules
//! over simulated messages, clocks, pauses and elections (design.md sections 3 and 4: I4, I5, I6, I8, L1–L15).
//!
//! What decides is the real code: `state::apply`, `policy::failover`, `leases::{rules, table}`, `failover::rules`,
//! `sessions`, `client::guard::{Course, Lease}`, `policy::{door, fence}` and `types::FencingToken::outranked_by`. What
//! carries messages and waits is simulated: [`raft`] for the log, [`leader`] and [`agent`] for the shells. [`check`] judges.
//! docs/protocol/leases.md says which planted bugs this finds.
//!
//! A failure names its world and seed; `REGENT_SIM_SEED=N` replays that seed alone, in both worlds.

mod agent;
mod check;
mod doors;
mod faults;
mod leader;
mod raft;
mod seen;
mod setup;
mod time;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use tokio::time::Instant;

use seen::{SITUATIONS, Seen};
use world::run;

/// The histories of the seeds below `seeds`, or of the one that the environment names; all that they met. Every situation must
/// have come up in one of them, but for those that are `rare` with so many regions.
fn explore(regions: usize, seeds: u64, rare: &[&str]) -> Seen {
    let base = Instant::now();
    if let Ok(seed) = std::env::var("REGENT_SIM_SEED") {
        let seed = seed.parse().expect("REGENT_SIM_SEED is a number");
        let history = run(seed, regions, base);
        if let Some(broken) = history.broken {
            panic!("{}", says(seed, regions, &broken));
        }
        return history.seen;
    }
    let next = AtomicU64::new(0);
    let work = || {
        let (mut seen, mut events) = (Seen::default(), 0);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return (seen, events);
            }
            let history = run(seed, regions, base);
            seen.add(&history.seen);
            events += history.events;
            if let Some(broken) = history.broken {
                next.store(seeds, Ordering::Relaxed);
                panic!("{}", says(seed, regions, &broken));
            }
        }
    };
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let mut all = Seen::default();
    let mut events = 0;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (seen, count) = worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.add(&seen);
            events += count;
        }
    });
    println!(
        "{regions} regions: {seeds} seeds, {events} events in {:?}",
        base.elapsed()
    );
    for situation in SITUATIONS {
        println!("{:>9}  {situation}", all.count(situation));
    }
    let missed: Vec<_> = SITUATIONS
        .iter()
        .filter(|s| all.count(s) == 0 && !rare.contains(s))
        .collect();
    assert!(missed.is_empty(), "no seed reached: {missed:?}");
    assert_eq!(
        all.unlisted(),
        Vec::<&str>::new(),
        "situations that stand on no list"
    );
    all
}

fn says(seed: u64, regions: usize, broken: &str) -> String {
    format!("seed {seed} of {regions} regions (REGENT_SIM_SEED={seed} replays it): {broken}")
}

#[test]
fn no_history_of_three_regions_breaks_an_invariant_of_leases() {
    explore(3, 10_000, &[]);
}

#[test]
fn no_history_of_five_regions_breaks_an_invariant_of_leases() {
    explore(5, 2_500, &["a confirmation that is too old carries nothing out"]);
}

/// The same seed is the same history, or no failure could be looked at twice.
#[test]
fn a_seed_is_a_history() {
    let base = Instant::now();
    for seed in 0..5 {
        let (one, other) = (run(seed, 3, base), run(seed, 3, base));
        assert_eq!(one.events, other.events);
        for situation in SITUATIONS {
            assert_eq!(
                one.seen.count(situation),
                other.seen.count(situation),
                "{situation}"
            );
        }
    }
}
