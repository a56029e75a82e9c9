//! Copies go where the model wants them, of what exists, in the order in which regions are given.

use types::{RegionId, model::Placement};

use super::region;
use crate::placement::{regions_for, wants};

#[test]
fn a_placement_takes_its_regions_and_no_others() {
    let all: Vec<RegionId> = ["us", "eu", "ap"].map(region).into();
    let some = Placement::Regions(["ap", "us", "sa"].map(region).into());
    let of = |placement| {
        regions_for(placement, &all)
            .map(RegionId::as_str)
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&Placement::Everywhere), ["us", "eu", "ap"]);
    assert_eq!(of(&some), ["us", "ap"]);
    assert_eq!(of(&Placement::Regions([].into())), [""; 0]);
    assert!(wants(&some, &region("sa")) && !wants(&some, &region("eu")));
    assert!(wants(&Placement::Everywhere, &region("sa")));
}
