//! The coordinators' memory: read often enough, and never too much.

use types::{ByteCount, RegionId};

use super::{COORDINATOR_RESIDENT_BYTES_MAX, must};
use crate::demo::record::RecordedRun;

/// Every coordinator's memory was read and is below the bound; returns the most.
pub(super) fn slim(regions: &[RegionId], resident: &[u64]) -> Result<ByteCount, String> {
    must(resident.len() == regions.len(), || {
        format!(
            "the memory of {} of {} coordinators was read",
            resident.len(),
            regions.len()
        )
    })?;
    let most = ByteCount(resident.iter().copied().max().unwrap_or(0));
    must(most.0 < COORDINATOR_RESIDENT_BYTES_MAX, || {
        let bound = ByteCount(COORDINATOR_RESIDENT_BYTES_MAX);
        format!("a coordinator had {most} resident; less than {bound} is promised")
    })?;
    Ok(most)
}

/// The most that any coordinator had resident, whenever it was looked at.
pub(super) fn most(run: &RecordedRun) -> Option<u64> {
    let formed = run.cluster.iter().map(|c| &c.coordinator_resident_bytes);
    let acts = [&run.act1, &run.act2].into_iter().flatten();
    let acts = acts.map(|act| &act.coordinator_resident_bytes);
    let ended = run.converged.iter().map(|c| &c.coordinator_resident_bytes);
    formed.chain(acts).chain(ended).flatten().copied().max()
}
