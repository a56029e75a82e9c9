//! Reads what doors and writers wrote down, into one shape.
//!
//! Absent on purpose: verdicts. A file that cannot be read, a torn line, copies that disagree become defects of the
//! record, and the checker decides.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use artifact_store::keys;
use chaos::{Part, ProcessName};
use coordinator::door_log::DoorLine;
use dev_s3::access_log::AccessLine;
use node_agent::door_log::DoorVerdict;
use types::{RegionId, Revision, RoleName};

use super::{
    doors::{DoorLog, DoorRecord, REGISTRY, WriterLog, agent_door, pointer_door},
    micros::Micros,
    zombie::Line,
};
use crate::{
    dev::{cluster::DevCluster, layout::Layout},
    error::Failure,
};

/// Every door of the cluster.
pub(super) fn all_doors(cluster: &DevCluster, role: &RoleName) -> Vec<DoorLog> {
    let layout = cluster.layout();
    let regions = cluster.regions();
    let agents = regions.iter().map(|region| agent(layout, region, role));
    let pointers = regions.iter().map(|region| pointer(layout, region, role));
    std::iter::once(registry(layout, regions, role))
        .chain(agents)
        .chain(pointers)
        .collect()
}

/// Where a process keeps what it wrote down.
fn data(layout: &Layout, region: &RegionId, part: Part) -> PathBuf {
    let region = region.clone();
    layout.data(&ProcessName { region, part })
}

/// A log whose reading failed.
fn unreadable(name: String, path: &Path, error: &io::Error) -> DoorLog {
    DoorLog {
        name,
        records: Vec::new(),
        defects: vec![format!("{}: {error}", path.display())],
    }
}

/// Every coordinator applies the same entries, so their records must be the same; one that was down lacks some.
fn registry(layout: &Layout, regions: &[RegionId], role: &RoleName) -> DoorLog {
    let mut merged: BTreeMap<Revision, DoorLine> = BTreeMap::new();
    let mut defects = Vec::new();
    for region in regions {
        let path = data(layout, region, Part::Coordinator).join(coordinator::door_log::FILE_NAME);
        match coordinator::door_log::read(&path) {
            Err(error) => defects.push(format!("{}: {error}", path.display())),
            Ok(lines) => {
                for line in lines {
                    let known = merged.entry(line.revision).or_insert_with(|| line.clone());
                    if *known != line {
                        defects.push(format!("{} differs at {}", path.display(), line.revision));
                    }
                }
            }
        }
    }
    let lines = merged.into_values().filter(|line| line.role == *role);
    DoorLog {
        name: REGISTRY.to_owned(),
        records: lines.map(registry_record).collect(),
        defects,
    }
}

/// The log has no time of its own that every replica would agree on, and needs none: it has an order.
fn registry_record(line: DoorLine) -> DoorRecord {
    DoorRecord {
        at: Micros::default(),
        shown: Some(line.shown),
        writer: Some(line.shown_holder),
        current: Some(line.current),
        accepted: line.accepted,
        reason: line.reason.map_or_else(String::new, String::from),
        id: None,
        if_match: None,
        etag: None,
    }
}

fn agent(layout: &Layout, region: &RegionId, role: &RoleName) -> DoorLog {
    let name = agent_door(region);
    let path = node_agent::door_log::path_in(&data(layout, region, Part::Agent));
    match node_agent::door_log::read(&path) {
        Err(error) => unreadable(name, &path, &error),
        Ok(records) => DoorLog {
            name,
            records: records
                .into_iter()
                .filter(|r| r.role == *role)
                .map(agent_record)
                .collect(),
            defects: Vec::new(),
        },
    }
}

fn agent_record(record: node_agent::door_log::DoorRecord) -> DoorRecord {
    DoorRecord {
        at: Micros(record.unix_micros),
        shown: Some(record.shown),
        writer: Some(record.shown_holder),
        current: record.floor_before,
        accepted: record.verdict == DoorVerdict::Accepted,
        reason: record.reason.map_or_else(String::new, String::from),
        id: None,
        if_match: None,
        etag: None,
    }
}

fn pointer(layout: &Layout, region: &RegionId, role: &RoleName) -> DoorLog {
    let name = pointer_door(region);
    let path = dev_s3::access_log_path(&data(layout, region, Part::Store));
    let key = keys::pointer(role);
    match dev_s3::access_log::read(&path) {
        Err(error) => unreadable(name, &path, &error),
        Ok(lines) => DoorLog {
            name,
            records: lines
                .into_iter()
                .filter(|l| l.key == key.as_str())
                .map(pointer_record)
                .collect(),
            defects: Vec::new(),
        },
    }
}

fn pointer_record(line: AccessLine) -> DoorRecord {
    DoorRecord {
        at: Micros(line.unix_micros),
        shown: line.sent_epoch(),
        writer: line.sent.as_ref().map(|fence| fence.holder.clone()),
        current: line.current_epoch(),
        accepted: line.accepted(),
        reason: line.error.clone().unwrap_or_default(),
        id: line.sent.map(|fence| fence.nonce),
        if_match: line.if_match,
        etag: line.etag,
    }
}

/// A zombie's log that is read while it grows.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    read: usize,
    /// What it believes so far.
    pub(super) log: WriterLog,
    /// How often it left the own region's pointer alone so far.
    pub(super) held: usize,
}

impl Tail {
    /// A log that need not exist yet.
    pub(super) fn new(region: &RegionId, path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: 0,
            log: WriterLog {
                region: region.clone(),
                attempts: Vec::new(),
                defects: Vec::new(),
            },
            held: 0,
        }
    }

    /// Takes in the whole lines that were added.
    pub(super) fn refresh(&mut self) -> Result<(), Failure> {
        let bytes = match read_from(&self.path, self.read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| Failure::file("read", &self.path, e))?,
        };
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..whole].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Line::Attempt(attempt)) => self.log.attempts.push(attempt),
                Ok(Line::Held { .. }) => self.held += 1,
                Ok(Line::Token { .. }) => {}
                Err(error) => self.log.defects.push(error.to_string()),
            }
        }
        self.read += whole;
        Ok(())
    }
}

fn read_from(path: &Path, offset: usize) -> io::Result<Vec<u8>> {
    use io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset as u64))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
