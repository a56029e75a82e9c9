//! Copies: what agents report of them, and what follows for their version.

use types::{
    ByteCount, Principal, RegionId, VersionKey,
    model::{VersionRecord, VersionState},
    replica::{ReplicaKey, ReplicaRecord, ReplicaState},
};

use super::{Outcome, change::Change, text::note, versions};
use crate::{command::ReplicaReport, features::Feature, rejection::Rejection, reply::Reply};

/// A copy that is wanted, and that nobody works on yet.
pub(super) fn pending(change: &Change<'_>, version: &VersionKey, region: &RegionId) -> ReplicaRecord {
    ReplicaRecord {
        key: ReplicaKey {
            version: version.clone(),
            region: region.clone(),
        },
        state: ReplicaState::Pending,
        source: None,
        bytes_done: ByteCount(0),
        attempts: 0,
        error: String::new(),
        started_at: None,
        completed_at: None,
        modified: change.revision(),
    }
}

pub(super) fn report(change: &mut Change<'_>, key: &ReplicaKey, report: &ReplicaReport) -> Outcome {
    check_reporter(change, &key.region)?;
    let version = change.version(&key.version)?;
    let known = change.state.replicas.get(key).cloned();
    let record = known.ok_or_else(|| Rejection::ReplicaNotFound { key: key.clone() })?;
    match report {
        ReplicaReport::Started { source } => started(change, record, &version, source.as_ref()),
        ReplicaReport::Progress { attempt, bytes_done } => {
            progress(change, record, *attempt, *bytes_done, version.total_size())
        }
        ReplicaReport::Verified { attempt, bytes } => verified(change, record, version, *attempt, *bytes),
        ReplicaReport::Failed {
            attempt,
            digest_mismatch,
            error,
        } => failed(change, record, version, *attempt, *digest_mismatch, error),
    }
}

/// An agent speaks for its own region only.
fn check_reporter(change: &Change<'_>, of: &RegionId) -> Result<(), Rejection> {
    match change.actor() {
        Principal::Agent { region, .. } if region == of => Ok(()),
        actor @ (Principal::Agent { .. } | Principal::Coordinator { .. } | Principal::User { .. }) => {
            let needs = format!("an agent of region {of}");
            Err(Rejection::PermissionDenied {
                actor: actor.clone(),
                needs,
            })
        }
    }
}

fn started(
    change: &mut Change<'_>,
    record: ReplicaRecord,
    version: &VersionRecord,
    source: Option<&RegionId>,
) -> Outcome {
    if record.state == ReplicaState::Verified {
        return Err(illegal(&record, ReplicaState::Copying));
    }
    check_source(change, &record, version, source)?;
    let attempt = next_attempt(&record)?;
    change.put_replica(ReplicaRecord {
        state: ReplicaState::Copying,
        source: source.cloned(),
        bytes_done: ByteCount(0),
        attempts: attempt,
        started_at: Some(change.now()),
        ..record
    });
    Ok(Reply::Replica {
        attempt,
        modified: change.revision(),
    })
}

/// The bytes come from a region whose copy is verified; where the upload was, or, from level 1 on, a copy was verified once,
/// they may be in the store or on an agent's disk already. Anything else would be copied in vain, or from somebody who never
/// had the right bytes.
fn check_source(
    change: &Change<'_>,
    record: &ReplicaRecord,
    version: &VersionRecord,
    source: Option<&RegionId>,
) -> Result<(), Rejection> {
    let Some(source) = source else {
        let mends = record.completed_at.is_some() && change.features().has(Feature::MendWithoutSource);
        if record.key.region == version.source_region || mends {
            return Ok(());
        }
        let problem = format!(
            "is missing: {} was uploaded in {}",
            version.key, version.source_region
        );
        return Err(Rejection::invalid("source", problem));
    };
    change.region(source)?;
    let key = ReplicaKey {
        version: version.key.clone(),
        region: source.clone(),
    };
    let state = change.state.replica(&key).map(|r| r.state);
    if state == Some(ReplicaState::Verified) {
        return Ok(());
    }
    Err(Rejection::IllegalTransition {
        what: format!("copy of {key}"),
        from: state.map_or_else(|| "not wanted".to_owned(), |s| s.to_string()),
        to: "the source of another".to_owned(),
    })
}

fn next_attempt(record: &ReplicaRecord) -> Result<u32, Rejection> {
    let next = record.attempts.checked_add(1);
    next.ok_or_else(|| Rejection::invalid("attempt", "all numbers are used up"))
}

fn illegal(record: &ReplicaRecord, to: ReplicaState) -> Rejection {
    Rejection::IllegalTransition {
        what: format!("copy of {}", record.key),
        from: record.state.to_string(),
        to: to.to_string(),
    }
}

/// Only the latest attempt may speak.
fn check_attempt(record: &ReplicaRecord, attempt: u32) -> Result<(), Rejection> {
    if attempt == record.attempts && attempt > 0 {
        return Ok(());
    }
    let what = format!("the copy of {}", record.key);
    Err(Rejection::StaleAttempt {
        what,
        shown: attempt,
        current: record.attempts,
    })
}

fn progress(
    change: &mut Change<'_>,
    record: ReplicaRecord,
    attempt: u32,
    bytes: ByteCount,
    total: ByteCount,
) -> Outcome {
    check_attempt(&record, attempt)?;
    if record.state != ReplicaState::Copying {
        return Err(illegal(&record, ReplicaState::Copying));
    }
    if bytes > total {
        return Err(Rejection::invalid(
            "bytes_done",
            format!("{bytes} is more than the version's {total}"),
        ));
    }
    // Reports of one attempt may come in any order; the furthest stands.
    if bytes <= record.bytes_done {
        return Ok(Reply::Replica {
            attempt,
            modified: record.modified,
        });
    }
    change.put_replica(ReplicaRecord {
        bytes_done: bytes,
        ..record
    });
    Ok(Reply::Replica {
        attempt,
        modified: change.revision(),
    })
}

fn verified(
    change: &mut Change<'_>,
    record: ReplicaRecord,
    version: VersionRecord,
    attempt: u32,
    bytes: ByteCount,
) -> Outcome {
    check_attempt(&record, attempt)?;
    if record.state != ReplicaState::Copying {
        return Err(illegal(&record, ReplicaState::Verified));
    }
    if bytes != version.total_size() {
        let problem = format!(
            "{bytes} were verified, and the version has {}",
            version.total_size()
        );
        return Err(Rejection::invalid("bytes", problem));
    }
    change.put_replica(ReplicaRecord {
        state: ReplicaState::Verified,
        bytes_done: bytes,
        error: String::new(),
        completed_at: Some(change.now()),
        ..record
    });
    if version.state == VersionState::Verifying {
        versions::make_ready(change, version);
    }
    Ok(Reply::Replica {
        attempt,
        modified: change.revision(),
    })
}

/// A failed attempt is tried again by the agent; wrong bytes in the source region are nobody's to repair.
fn failed(
    change: &mut Change<'_>,
    record: ReplicaRecord,
    version: VersionRecord,
    attempt: u32,
    digest_mismatch: bool,
    error: &str,
) -> Outcome {
    check_attempt(&record, attempt)?;
    if !matches!(record.state, ReplicaState::Copying | ReplicaState::Verified) {
        return Err(illegal(&record, ReplicaState::Failed));
    }
    if digest_mismatch && version.state == VersionState::Verifying {
        versions::end(change, version, error);
    } else {
        let (state, error) = (ReplicaState::Failed, note(error));
        change.put_replica(ReplicaRecord {
            state,
            error,
            ..record
        });
    }
    Ok(Reply::Replica {
        attempt,
        modified: change.revision(),
    })
}
