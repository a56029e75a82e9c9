//! How fast the coordinators' elections are, and in which regions their leader should be.
//!
//! Absent on purpose: how a timing follows from distances (`policy::timing`), and the change itself, which each coordinator
//! makes when it is told to.

use types::{
    Principal, RegionId,
    election::{ElectionSettings, ElectionTiming, TimingSetting},
};

use super::{Outcome, change::Change};
use crate::{features::Feature, rejection::Rejection, state::ClusterRecord};

pub(super) fn set_timing(
    change: &mut Change<'_>,
    timing: Option<ElectionTiming>,
    derived: bool,
    reason: &str,
) -> Outcome {
    let cluster = enabled(change)?;
    super::text::at_most("bytes of the timing's reason", reason.len(), 1_024)?;
    let known = cluster.elections.timing.clone();
    let stays = || known.as_ref().map(|known| known.timing);
    let Some(timing) = timing.or_else(stays) else {
        return Err(Rejection::invalid("timing", "there is none yet that could stay"));
    };
    timing
        .validate()
        .map_err(|problem| Rejection::invalid("timing", problem))?;
    // What a person fixed is not undone by a leader that had not heard of it.
    let fixed = known.as_ref().is_some_and(|known| !known.derived);
    if fixed && matches!(change.actor(), Principal::Coordinator { .. }) {
        return Err(Rejection::IllegalTransition {
            what: "the election timing".to_owned(),
            from: "fixed by a person".to_owned(),
            to: "derived".to_owned(),
        });
    }
    let setting = TimingSetting {
        timing,
        derived,
        reason: reason.to_owned(),
    };
    if known.as_ref() == Some(&setting) {
        return Ok(unchanged(&cluster));
    }
    put(change, cluster, |elections| elections.timing = Some(setting))
}

pub(super) fn set_preference(change: &mut Change<'_>, regions: &[RegionId]) -> Outcome {
    let cluster = enabled(change)?;
    change.check_region_list("regions", regions)?;
    if cluster.elections.preferred == regions {
        return Ok(unchanged(&cluster));
    }
    put(change, cluster, |elections| {
        elections.preferred = regions.to_vec()
    })
}

fn enabled(change: &Change<'_>) -> Result<ClusterRecord, Rejection> {
    change.enabled(Feature::ElectionSettings)?;
    change.cluster()
}

fn unchanged(cluster: &ClusterRecord) -> crate::Reply {
    crate::Reply::Done {
        modified: cluster.modified,
    }
}

fn put(change: &mut Change<'_>, cluster: ClusterRecord, set: impl FnOnce(&mut ElectionSettings)) -> Outcome {
    let mut elections = cluster.elections.clone();
    set(&mut elections);
    change.put_cluster(ClusterRecord { elections, ..cluster });
    Ok(change.done())
}
