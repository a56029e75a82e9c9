//! How fast this coordinator's elections are: what it goes by, what it measures, and, where it leads, who changes next.
//!
//! The timing is one setting in the log. Each coordinator remembers in `node.json` by which it went last, and changes to
//! another one when the leader says that it is its turn. Absent on purpose: decisions (`policy::timing`); the argument why
//! elections stay safe while coordinators go by different timings (docs/protocol/timing.md).

mod adopt;
mod measure;
mod round_trips;
mod steer;

use std::sync::{PoisonError, RwLock};

use super::config::RaftTiming;

pub(crate) use self::{adopt::Adopting, round_trips::RoundTrips};

/// By which timing this node goes now. Shared by all who need it.
#[derive(Debug)]
pub(crate) struct InForce(RwLock<RaftTiming>);

impl InForce {
    pub(crate) fn new(timing: RaftTiming) -> Self {
        Self(RwLock::new(timing))
    }

    pub(crate) fn get(&self) -> RaftTiming {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, timing: RaftTiming) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = timing;
    }
}
