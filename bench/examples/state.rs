//! What a large state costs: `cargo run --release -p bench --example state [VERSIONS] [REPLICAS] [ANSWERS]` prints figures as
//! JSON. Defaults: 100,000 versions with 5 copies each, and a million remembered answers.
//!
//! The state comes about as in a cluster, by entries alone. Times are of this machine and this moment; bytes are of the
//! process (`VmRSS`) and of what it wrote.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bench::scale::made::{Made, VERSIONS_EACH, model};
use state::{
    Command, ControlState,
    codec::{encode_entry, encode_snapshot, read_entry, read_snapshot, write_snapshot},
    requests::RequestTable,
};
use types::{Revision, UnixMillis};

const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// Bytes of memory that the process holds.
fn resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: u64 = line.context("no VmRSS")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn print(name: &str, value: impl std::fmt::Display) {
    use std::io::Write as _;
    // A closed pipe ends the program soon enough.
    let _ = writeln!(std::io::stdout(), "  \"{name}\": {value},");
}

fn timed<T>(name: &str, f: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    let done = f()?;
    print(&format!("{name}_ms"), began.elapsed().as_micros() / 1_000);
    Ok(done)
}

/// Entries as people's tools send them, until so many answers are remembered.
fn answers(made: &mut Made, count: usize) -> anyhow::Result<()> {
    let before = resident()?;
    for n in 0..count {
        made.time = made
            .time
            .plus(Duration::from_millis(u64::from(n.is_multiple_of(1_000))));
        made.by_user(Command::SetModelTags {
            model: model(0)?,
            set: [("n".to_owned(), n.to_string())].into(),
            remove: [].into(),
            etag: None,
            token: None,
        })?;
    }
    let grown = resident()?.saturating_sub(before);
    print("bytes_per_answer", grown / (count.max(1) as u64));
    Ok(())
}

fn lists(state: &ControlState) -> anyhow::Result<()> {
    let began = Instant::now();
    let (mut start, mut pages) = (None, 0_u32);
    let mut longest = 0;
    loop {
        let page = Instant::now();
        let found = state.replicas_where(None, start, 100, |r| r.key.region.as_str() == "r3");
        longest = longest.max(page.elapsed().as_micros());
        pages += 1;
        start = found.next;
        if start.is_none() {
            break;
        }
    }
    print("list_replicas_of_a_region_pages", pages);
    print("list_replicas_page_longest_us", longest);
    print("list_replicas_all_ms", began.elapsed().as_millis());
    let page = Instant::now();
    state.replicas_where(None, None, 100, |_| false);
    print("list_replicas_nothing_found_page_us", page.elapsed().as_micros());
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|n| n.parse())
        .collect::<Result<_, _>>()?;
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (versions, regions, remembered) = (number(0, 100_000), number(1, 5), number(2, 1_000_000));
    let empty = ControlState::with_limits(RequestTable::new().capped(u64::MAX), 1_000);
    let mut made = Made::new(empty, regions, START)?;
    print("versions", versions);
    print("replicas", versions * regions);
    timed("built_by_entries", || {
        made.models(versions.div_ceil(VERSIONS_EACH))
    })?;
    print("entries", made.state.revision().0);
    print("resident_bytes_with_records", resident()?);
    made.time = made.time.plus(Duration::from_secs(3_700));
    answers(&mut made, remembered)?;
    print("resident_bytes", resident()?);
    let began = Instant::now();
    let view = made.state.clone();
    print("clone_us", began.elapsed().as_nanos() / 1_000);
    lists(&view)?;
    drop(view);

    let file = std::env::temp_dir().join(format!("regent-scale-{}.snap", std::process::id()));
    timed("write_snapshot", || {
        let sink = std::io::BufWriter::new(fs::File::create(&file)?);
        Ok(write_snapshot(&made.state, b"scale", sink)?)
    })?;
    print("snapshot_bytes", fs::metadata(&file)?.len());
    print("resident_bytes_after_writing", resident()?);
    timed("format_1", || Ok(encode_snapshot(&made.state)))?;

    made.kept = Some(Vec::new());
    answers(&mut made, 250_000)?;
    let tail: Vec<Vec<u8>> = made.kept.iter().flatten().map(encode_entry).collect();
    let expected = made.state.state_hash();
    drop(made);
    let began = Instant::now();
    let mut read = timed("read_snapshot", || {
        Ok(read_snapshot(std::io::BufReader::new(fs::File::open(&file)?))?.state)
    })?;
    fs::remove_file(&file)?;
    timed("check_invariants", || Ok(read.check_invariants()?))?;
    timed("apply_250000", || {
        for bytes in &tail {
            let entry = read_entry(bytes)?;
            let _ = read.apply_read(Revision(read.revision().0 + 1), &entry);
        }
        Ok(())
    })?;
    print("restart_ms", began.elapsed().as_millis());
    print("resident_bytes_after_restart", resident()?);
    print("same_hash", read.state_hash() == expected);
    Ok(())
}
