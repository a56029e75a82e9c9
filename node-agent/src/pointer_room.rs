//! Room for the pointers that are read for others: so many at once, and a quarter of them in any one region's store.
//!
//! Absent on purpose: the reading ([`crate::pointers`]), and any queue: who finds no room is told so at once.
//! Why a share for each: a store that hangs holds every read of it until that read's limit, and would take the room of all.
//! Invariants: other regions together never take this region's quarter; a region stands here only while one of its pointers
//! is read, so that there are never more of them than reads.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use types::{Reason, RegionId, reason::Refusal};

/// How many pointers are read for others at once. Each read holds a call of this region's or another's store.
pub const POINTER_READS_MAX: usize = 64;

/// How many of them in one region's store.
pub const POINTER_READS_PER_REGION: usize = POINTER_READS_MAX / 4;

/// What is left for other regions' stores together.
const OF_OTHERS: usize = POINTER_READS_MAX - POINTER_READS_PER_REGION;

/// When who found no room should ask again: a store that answers does so within this.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// Who reads where.
pub struct PointerRoom {
    own: RegionId,
    reads: Mutex<BTreeMap<RegionId, usize>>,
}

/// Room for one read, until it is dropped.
pub(crate) struct Place<'a> {
    room: &'a PointerRoom,
    region: RegionId,
}

impl PointerRoom {
    /// All of it, at an agent of this region.
    pub(crate) fn new(own: RegionId) -> Self {
        Self {
            own,
            reads: Mutex::default(),
        }
    }

    /// Takes room for a read in this region's store.
    ///
    /// # Errors
    /// OVERLOADED: there is none. Names the regions whose stores hold it.
    pub(crate) fn enter(&self, region: &RegionId) -> Result<Place<'_>, Refusal> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let here = reads.get(region).copied().unwrap_or_default();
        if here >= POINTER_READS_PER_REGION {
            return Err(overloaded(region, here, &format!("store of {region}")));
        }
        let others = || reads.iter().filter(|(of, _)| **of != self.own);
        let of_others: usize = others().map(|(_, count)| count).sum();
        if *region != self.own && of_others >= OF_OTHERS {
            let names: Vec<String> = others().map(|(of, _)| of.to_string()).collect();
            let place = format!("stores of {}", names.join(", "));
            return Err(overloaded(region, of_others, &place));
        }
        reads.insert(region.clone(), here + 1);
        Ok(Place {
            room: self,
            region: region.clone(),
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut reads = self.room.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = reads.get_mut(&self.region) {
            *count -= 1;
            if *count == 0 {
                reads.remove(&self.region);
            }
        }
    }
}

fn overloaded(region: &RegionId, limit: usize, place: &str) -> Refusal {
    let text = format!(
        "no room to read a pointer in the store of {region}: {limit} are being read in the {place}, as many as may be at once; \
         what answers them is slow, or does not; try again in a moment"
    );
    Refusal::new(Reason::Overloaded, text)
        .with("region", region)
        .with("limit", limit)
        .with("retry_after_ms", READ_AGAIN.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionId {
        name.parse().unwrap()
    }

    /// Takes all that a region's store may take.
    fn fill<'a>(room: &'a PointerRoom, name: &str) -> Vec<Place<'a>> {
        let fill = (0..POINTER_READS_PER_REGION).map(|_| room.enter(&region(name)).unwrap());
        fill.collect()
    }

    fn refused(room: &PointerRoom, name: &str) -> Refusal {
        let refusal = room.enter(&region(name)).err().unwrap();
        assert_eq!(refusal.reason, Reason::Overloaded, "{refusal}");
        assert_eq!(refusal.operand("region"), Some(name));
        refusal
    }

    #[test]
    fn however_many_stores_hang_the_own_one_keeps_its_room() {
        let room = PointerRoom::new(region("west"));
        let mut hang: Vec<_> = ["east", "north", "south"].map(|of| fill(&room, of)).into();
        let refusal = refused(&room, "annex");
        assert!(refusal.message.contains("east, north, south"), "{refusal}");
        let own = fill(&room, "west");
        assert!(refused(&room, "west").message.contains("the store of west,"));
        // What one read leaves is there for the next, wherever that is.
        hang[0].pop();
        drop(room.enter(&region("annex")).unwrap());
        drop((hang, own));
        assert!(room.reads.lock().unwrap().is_empty());
    }
}
