//! Where copies of a model belong.
//!
//! Absent on purpose: throughput, residency and minimum copies; they come with the replication controller.
//! Invariant: the answer names no region twice and follows the order in which regions are given.

use types::{RegionId, model::Placement};

/// Whether copies of a model with this placement belong into `region`.
pub fn wants(placement: &Placement, region: &RegionId) -> bool {
    match placement {
        Placement::Everywhere => true,
        Placement::Regions(regions) => regions.contains(region),
    }
}

/// The regions of a placement, out of those that exist.
pub fn regions_for<'a>(
    placement: &'a Placement,
    regions: impl IntoIterator<Item = &'a RegionId>,
) -> impl Iterator<Item = &'a RegionId> {
    regions.into_iter().filter(move |region| wants(placement, region))
}
