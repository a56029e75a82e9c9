//! The cluster itself: its name, its timings, which rules are on.

use types::{
    ClusterId, Epoch, RoleName,
    election::ElectionSettings,
    role::{FailoverMode, RoleRecord, TimingPolicy},
};

use super::{Outcome, change::Change};
use crate::{
    rejection::Rejection,
    state::{ClusterRecord, RoleState},
};

pub(super) fn init(
    change: &mut Change<'_>,
    cluster_id: ClusterId,
    generation: u32,
    timing: &TimingPolicy,
) -> Outcome {
    if let Some(cluster) = &change.state.cluster {
        return Err(Rejection::AlreadyBootstrapped {
            cluster_id: cluster.cluster_id,
        });
    }
    if generation == 0 {
        return Err(Rejection::invalid("generation", "must be 1 or more"));
    }
    check_timing(timing)?;
    change.put_cluster(ClusterRecord {
        cluster_id,
        generation,
        timing: timing.clone(),
        feature_level: 0,
        elections: ElectionSettings::default(),
        created_at: change.now(),
        modified: change.revision(),
        removed: Vec::new(),
        rebinds: Vec::new(),
    });
    let global = empty_role(change, RoleName::global(), generation, timing.clone());
    change.put_role(global);
    Ok(change.done())
}

/// A role that nobody ever held.
pub(super) fn empty_role(
    change: &Change<'_>,
    role: RoleName,
    generation: u32,
    timing: TimingPolicy,
) -> RoleState {
    let epoch = Epoch::new(generation, 0);
    let record = RoleRecord {
        role,
        epoch,
        holder: None,
        reservation: None,
        candidates: Vec::new(),
        mode: FailoverMode::Automatic,
        outstanding_ttl: timing.lease_ttl,
        timing,
        changed_at: change.now(),
        reason: "created; nobody has held it yet".to_owned(),
        modified: change.revision(),
    };
    RoleState {
        record,
        highest_epoch: epoch,
        former_ttl: None,
    }
}

pub(super) fn set_timing(change: &mut Change<'_>, timing: &TimingPolicy) -> Outcome {
    check_timing(timing)?;
    let cluster = change.cluster()?;
    change.put_cluster(ClusterRecord {
        timing: timing.clone(),
        ..cluster
    });
    Ok(change.done())
}

pub(super) fn set_feature_level(change: &mut Change<'_>, level: u32) -> Outcome {
    let cluster = change.cluster()?;
    if level <= cluster.feature_level {
        let current = cluster.feature_level;
        return Err(Rejection::FeatureLevel {
            shown: level,
            current,
        });
    }
    change.put_cluster(ClusterRecord {
        feature_level: level,
        ..cluster
    });
    Ok(change.done())
}

/// That a timing policy holds together.
pub(super) fn check_timing(timing: &TimingPolicy) -> Result<(), Rejection> {
    super::text::at_most("bytes of the timing's name", timing.name.len(), 63)?;
    timing
        .validate()
        .map_err(|problem| Rejection::invalid("timing", problem))?;
    // Entries and snapshots keep whole milliseconds; a finer value would differ after a restart.
    let values = [
        timing.heartbeat_interval,
        timing.probe_interval,
        timing.promotion_absence,
        timing.lease_ttl,
        timing.renew_interval,
        timing.drain_margin,
    ];
    if values.iter().any(|v| v.subsec_nanos() % 1_000_000 != 0) {
        return Err(Rejection::invalid(
            "timing",
            "durations must be whole milliseconds",
        ));
    }
    Ok(())
}
