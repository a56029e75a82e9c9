//! Many histories of leases, failovers and hand-overs, each from a seed: coordinators, agents, doors and people as real rules
//! over simulated messages, clocks, pauses and elections (design.md sections 3 and 4: I4, I5, I6, I8, L1–L15).
//!
//! What decides is the real code: `state::apply`, `policy::failover`, `leases::{rules, table}`, `failover::rules`,
//! `sessions`, `client::guard::{Course, Lease}`, `policy::{door, fence}` and `types::FencingToken::outranked_by`. What
//! carries messages and waits is simulated: [`raft`] for the log, [`disk`] for what of it outlives a crash, [`leader`] and [`agent`] for the shells. [`check`] judges.
//! docs/protocol/leases.md says which planted bugs this finds.
//!
//! A failure is made smaller, to the fewest faults that still show it, and names its recipe; `REGENT_SIM_SEED=RECIPE` replays that one alone, in
//! both worlds, and writes down all that happened.

mod agent;
mod check;
mod disk;
mod doors;
mod faults;
mod leader;
mod log;
mod raft;
mod recipe;
mod seen;
mod setup;
mod time;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use tokio::time::Instant;

use recipe::{Recipe, shrink};
use seen::{SITUATIONS, Seen};
use world::{record, run};

/// The histories of the seeds below `seeds`, or of the one that the environment names; all that they met. Every situation must
/// have come up in one of them, but for those that are `rare` with so many regions.
fn explore(regions: usize, seeds: u64, rare: &[&str]) -> Seen {
    let base = Instant::now();
    if let Ok(recipe) = std::env::var("REGENT_SIM_SEED") {
        let recipe: Recipe = recipe
            .parse()
            .expect("REGENT_SIM_SEED is SEED or SEED/STIR/FAULTS");
        println!("{}", written(recipe, regions, base));
        let history = run(recipe, regions, base);
        if let Some(broken) = history.broken {
            panic!("{recipe} of {regions} regions: {broken}");
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
            let history = run(Recipe::of(seed), regions, base);
            seen.add(&history.seen);
            events += history.events;
            if history.broken.is_some() {
                next.store(seeds, Ordering::Relaxed);
                panic!("{}", verdict(Recipe::of(seed), regions, base));
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

/// What is wrong with a history, with the least that shows it.
fn verdict(whole: Recipe, regions: usize, base: Instant) -> String {
    let least = shrink(whole, |recipe| run(recipe, regions, base));
    let broken = run(least, regions, base).broken;
    let broken = broken.map(|broken| broken.to_string()).unwrap_or_default();
    format!(
        "seed {} of {regions} regions, made smaller (REGENT_SIM_SEED={least} replays it): {broken}\n{}",
        whole.seed,
        written(least, regions, base)
    )
}

/// The faults of a history and its end, and where all of it was written to.
fn written(recipe: Recipe, regions: usize, base: Instant) -> String {
    let history = record(recipe, regions, base);
    let name = format!(
        "regent-simulation-{regions}-{}.txt",
        recipe.to_string().replace('/', "-")
    );
    let path = std::env::temp_dir().join(name);
    let place = match std::fs::write(&path, &history.log) {
        Ok(()) => format!("all {} events: {}", history.events, path.display()),
        Err(error) => format!(
            "{} events, not written to {}: {error}",
            history.events,
            path.display()
        ),
    };
    let faults = history.log.lines().filter(|line| line.contains(" FAULT "));
    let lines: Vec<_> = history.log.lines().collect();
    let last = &lines[lines.len().saturating_sub(30)..];
    let faults: Vec<_> = faults.collect();
    format!("{}\n…\n{}\n{place}", faults.join("\n"), last.join("\n"))
}

#[test]
fn no_history_of_three_regions_breaks_an_invariant_of_leases() {
    explore(3, 10_000, &[]);
}

#[test]
fn no_history_of_five_regions_breaks_an_invariant_of_leases() {
    let rare = [
        "a confirmation that is too old carries nothing out",
        "a renewal of a released epoch is refused",
    ];
    explore(5, 2_500, &rare);
}

/// The same recipe is the same history, byte for byte, or no failure could be looked at twice; and writing it down changes nothing.
#[test]
fn a_seed_is_a_history() {
    let base = Instant::now();
    for seed in 0..5 {
        for regions in [3, 5] {
            let recipe = Recipe::of(seed);
            let (one, other) = (record(recipe, regions, base), record(recipe, regions, base));
            assert!(one.log == other.log, "seed {seed} of {regions} regions");
            assert!(!one.log.is_empty());
            assert_eq!(one.events, run(recipe, regions, base).events);
        }
    }
    let other = record(
        Recipe {
            stir: 1,
            ..Recipe::of(0)
        },
        3,
        base,
    );
    assert!(other.log != record(Recipe::of(0), 3, base).log);
}

/// Disks that say that they have what they have not synced: some history loses what was committed, is made smaller, and its name replays it.
#[test]
fn a_disk_that_lies_is_found_and_its_history_made_smaller() {
    let base = Instant::now();
    let run = |recipe| run(recipe, 3, base);
    let lying = |seed| Recipe {
        lying: true,
        ..Recipe::of(seed)
    };
    let found = (0..2_000).map(lying).find(|recipe| {
        let broken = run(*recipe).broken;
        broken.is_some_and(|broken| broken.promise.starts_with("consensus"))
    });
    let whole = found.expect("no seed below 2,000 lost anything");
    let least = shrink(whole, run);
    let (plan, rest) = (whole.plan(3).len(), least.plan(3).len());
    println!("seed {}: {plan} faults, {rest} are enough ({least})", whole.seed);
    assert!(rest < plan, "{plan} faults, and then {rest}");
    let replayed: Recipe = least.to_string().parse().expect("its own name");
    let replayed = Recipe {
        lying: true,
        ..replayed
    };
    assert_eq!(run(replayed).broken, run(least).broken);
    assert!(run(least).broken.is_some());
    assert_eq!(
        run(Recipe {
            lying: false,
            ..least
        })
        .broken,
        None
    );
}
