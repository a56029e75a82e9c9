//! What a large state costs: `cargo run --release -p state --example scale [VERSIONS] [REPLICAS] [ANSWERS]` prints figures as
//! JSON. Defaults: 100,000 versions with 5 copies each, and a million remembered answers.
//!
//! The state comes about as in a cluster, by entries alone. Times are of this machine and this moment; bytes are of the
//! process (`VmRSS`) and of what it wrote.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures; the crate itself has no clock"
)]

use std::{fs, time::Instant};

use state::{
    Command, ControlState, Entry, ReplicaReport,
    codec::{encode_entry, encode_snapshot, read_entry, read_snapshot, write_snapshot},
};
use types::{
    ByteCount, ClusterId, Digest, ModelName, ModelVersion, NodeIncarnation, Principal, RegionId, RequestId,
    Revision, UnixMillis, VersionKey,
    model::{Artifact, ArtifactPath, Placement},
    region::{Endpoints, FencingDoor, Health, NodeKind, StoreBinding},
    replica::ReplicaKey,
    role::TimingPolicy,
};

type Failed = Box<dyn std::error::Error>;

const START: u64 = 1_700_000_000_000;
/// Versions of each model.
const VERSIONS_EACH: usize = 10;
/// Files of each version.
const FILES_EACH: usize = 5;

/// The log so far, and where it leads.
struct Log {
    state: ControlState,
    next: u64,
    millis: u64,
    /// Entries are kept from here on.
    kept: Option<Vec<Vec<u8>>>,
}

impl Log {
    fn run(&mut self, actor: &Principal, command: Command) -> Result<(), Failed> {
        self.next += 1;
        let entry = Entry {
            proposed_at: UnixMillis(START + self.millis),
            request_id: RequestId::v7_from_parts(START + self.millis, u128::from(self.next)),
            actor: actor.clone(),
            expects: state::Expects::default(),
            command,
        };
        if let Some(kept) = &mut self.kept {
            kept.push(encode_entry(&entry));
        }
        let applied = self.state.apply(Revision(self.next), &entry);
        applied.outcome.map(drop).map_err(|e| e.to_string().into())
    }
}

fn region(n: usize) -> Result<RegionId, Failed> {
    Ok(RegionId::new(format!("region-{n}"))?)
}

fn agent(n: usize) -> Result<Principal, Failed> {
    Ok(format!("spiffe://regent.local/region/region-{n}/node/agent-{n}").parse()?)
}

fn admin() -> Result<Principal, Failed> {
    Ok("spiffe://regent.local/user/admin".parse()?)
}

/// A cluster of so many regions, with an agent each.
fn cluster(log: &mut Log, regions: usize) -> Result<(), Failed> {
    let admin = admin()?;
    log.run(
        &admin,
        Command::InitCluster {
            cluster_id: ClusterId::from_u128(1),
            generation: 1,
            timing: TimingPolicy::fast(),
        },
    )?;
    for n in 0..regions {
        log.run(&admin, Command::RegisterRegion { region: region(n)? })?;
        let node = Command::RegisterNode {
            node: format!("agent-{n}").parse()?,
            region: region(n)?,
            kind: NodeKind::Agent,
            incarnation: NodeIncarnation::from_u128(1),
            endpoints: Endpoints::default(),
            zone: None,
        };
        log.run(&agent(n)?, node)?;
        let store = Command::AttachStore {
            region: region(n)?,
            store: StoreBinding {
                endpoint: format!("https://s3.region-{n}.example.com"),
                bucket: "models".to_owned(),
                fencing_door: FencingDoor::Qualified,
            },
        };
        log.run(&admin, store)?;
        let health = Command::SetRegionHealth {
            region: region(n)?,
            from: Health::Recovering,
            to: Health::Healthy,
            evidence: "measured".to_owned(),
        };
        log.run(&admin, health)?;
    }
    Ok(())
}

fn artifacts(version: usize) -> Result<Vec<Artifact>, Failed> {
    let file = |n: usize| {
        Ok(Artifact {
            path: ArtifactPath::new(format!("weights/part-{n:05}.safetensors"))?,
            size: ByteCount(1_000),
            digest: Digest::of(format!("{version}/{n}").as_bytes()),
            media_type: "application/octet-stream".to_owned(),
        })
    };
    (0..FILES_EACH).map(file).collect()
}

/// Publishes a version, and copies it into every region.
fn publish(log: &mut Log, n: usize, regions: usize) -> Result<(), Failed> {
    let model: ModelName = format!("team-{}.model-{}", n / 1_000, n / VERSIONS_EACH).parse()?;
    let admin = admin()?;
    if n.is_multiple_of(VERSIONS_EACH) {
        let create = Command::CreateModel {
            name: model.clone(),
            description: "a model of this size".to_owned(),
            tags: [("team".to_owned(), "scale".to_owned())].into(),
            placement: Placement::Everywhere,
        };
        log.run(&admin, create)?;
    }
    let version = VersionKey {
        model: model.clone(),
        version: ModelVersion((n % VERSIONS_EACH + 1) as u64),
    };
    let create = Command::CreateVersion {
        model,
        source_region: region(0)?,
        artifacts: artifacts(n)?,
        framework: "bert".to_owned(),
        metadata: [("run".to_owned(), format!("run-{n}"))].into(),
        datasets: Default::default(),
    };
    log.run(&admin, create)?;
    log.run(
        &admin,
        Command::CompleteUpload {
            version: version.clone(),
        },
    )?;
    for at in 0..regions {
        let key = ReplicaKey {
            version: version.clone(),
            region: region(at)?,
        };
        let source = (at > 0).then(|| region(0)).transpose()?;
        let reports = [
            ReplicaReport::Started { source },
            ReplicaReport::Verified {
                attempt: 1,
                bytes: ByteCount(1_000 * FILES_EACH as u64),
            },
        ];
        for report in reports {
            let key = key.clone();
            log.run(&agent(at)?, Command::ReportReplica { key, report })?;
        }
    }
    Ok(())
}

/// Bytes of memory that the process holds.
fn resident() -> Result<u64, Failed> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: u64 = line.ok_or("no VmRSS")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn print(name: &str, value: impl std::fmt::Display) {
    use std::io::Write as _;
    // A closed pipe ends the program soon enough.
    let _ = writeln!(std::io::stdout(), "  \"{name}\": {value},");
}

fn timed<T>(name: &str, f: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    let began = Instant::now();
    let done = f()?;
    print(&format!("{name}_ms"), began.elapsed().as_micros() / 1_000);
    Ok(done)
}

/// Entries as people's tools send them, until so many answers are remembered.
fn answers(log: &mut Log, count: usize) -> Result<(), Failed> {
    let (admin, before) = (admin()?, resident()?);
    for n in 0..count {
        log.millis += u64::from(n.is_multiple_of(1_000));
        let tags = Command::SetModelTags {
            model: "team-0.model-0".parse()?,
            set: [("n".to_owned(), n.to_string())].into(),
            remove: [].into(),
            etag: None,
            token: None,
        };
        log.run(&admin, tags)?;
    }
    let grown = resident()?.saturating_sub(before);
    print("bytes_per_answer", grown / (count.max(1) as u64));
    Ok(())
}

fn lists(state: &ControlState) -> Result<(), Failed> {
    let began = Instant::now();
    let (mut start, mut pages) = (None, 0_u32);
    let mut longest = 0;
    loop {
        let page = Instant::now();
        let found = state.replicas_where(None, start, 100, |r| r.key.region.as_str() == "region-3");
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

fn main() -> Result<(), Failed> {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|n| n.parse())
        .collect::<Result<_, _>>()?;
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (versions, regions, remembered) = (number(0, 100_000), number(1, 5), number(2, 1_000_000));
    let mut log = Log {
        state: ControlState::with_limits(state::requests::RequestTable::new().capped(u64::MAX), 1_000),
        next: 0,
        millis: 0,
        kept: None,
    };
    print("versions", versions);
    print("replicas", versions * regions);
    cluster(&mut log, regions)?;
    timed("built_by_entries", || {
        (0..versions).try_for_each(|n| {
            // An hour passes every 100,000 entries, so that old answers go.
            log.millis += 600;
            publish(&mut log, n, regions)
        })
    })?;
    print("entries", log.next);
    print("resident_bytes_with_records", resident()?);
    log.millis += 3_700_000;
    answers(&mut log, remembered)?;
    print("resident_bytes", resident()?);
    let began = Instant::now();
    let view = log.state.clone();
    print("clone_us", began.elapsed().as_nanos() / 1_000);
    lists(&view)?;
    drop(view);

    let file = std::env::temp_dir().join(format!("regent-scale-{}.snap", std::process::id()));
    timed("write_snapshot", || {
        let sink = std::io::BufWriter::new(fs::File::create(&file)?);
        Ok(write_snapshot(&log.state, b"scale", sink)?)
    })?;
    print("snapshot_bytes", fs::metadata(&file)?.len());
    print("resident_bytes_after_writing", resident()?);
    timed("format_1", || Ok(encode_snapshot(&log.state)))?;

    log.kept = Some(Vec::new());
    answers(&mut log, 250_000)?;
    let tail = log.kept.take().unwrap_or_default();
    let expected = log.state.state_hash();
    drop(log);
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
