//! The records that changes are about: where each stands in a state, and in what an entry did.

use state::{ControlState, Event};
use types::{
    AliasName, ExperimentName, ModelName, PlanId, RegionId, RoleName, VersionKey,
    experiment::ExperimentRecord,
    model::{AliasRecord, ModelRecord, VersionRecord},
    plan::PlanRecord,
    region::RegionRecord,
    replica::{ReplicaKey, ReplicaRecord},
    role::RoleRecord,
    service::{ServiceKey, ServiceRecord},
};

/// A kind of record.
pub(crate) trait Record {
    /// What tells two of them apart.
    type Key;

    /// The one that a state has.
    fn in_state<'s>(state: &'s ControlState, key: &Self::Key) -> Option<&'s Self>;

    /// The one that an event is about, as it is after it.
    fn in_event<'e>(event: &'e Event, key: &Self::Key) -> Option<&'e Self>;
}

macro_rules! record {
    ($record:ty, $key:ty, $event:ident, |$r:ident, $k:ident| $is:expr, |$state:ident| $find:expr) => {
        impl Record for $record {
            type Key = $key;

            fn in_state<'s>($state: &'s ControlState, $k: &$key) -> Option<&'s Self> {
                $find
            }

            fn in_event<'e>(event: &'e Event, $k: &$key) -> Option<&'e Self> {
                match event {
                    Event::$event($r) if $is => Some($r),
                    _ => None,
                }
            }
        }
    };
}

record!(ModelRecord, ModelName, Model, |r, key| r.name == *key, |s| s
    .model(key));
record!(VersionRecord, VersionKey, Version, |r, key| r.key == *key, |s| s
    .version(key));
record!(
    AliasRecord,
    (ModelName, AliasName),
    Alias,
    |r, key| r.model == key.0 && r.alias == key.1,
    |s| s.alias(&key.0, &key.1)
);
record!(RegionRecord, RegionId, Region, |r, key| r.region == *key, |s| s
    .region(key));
record!(ReplicaRecord, ReplicaKey, Replica, |r, key| r.key == *key, |s| s
    .replica(key));
record!(RoleRecord, RoleName, Role, |r, key| r.role == *key, |s| s
    .role(key));
record!(PlanRecord, PlanId, Plan, |r, key| r.plan == *key, |s| s
    .plan(*key));
record!(ServiceRecord, ServiceKey, Service, |r, key| r.key == *key, |s| s
    .service(key));
record!(
    ExperimentRecord,
    (ModelName, ExperimentName),
    Experiment,
    |r, key| r.model == key.0 && r.name == key.1,
    |s| s.experiment(&key.0, &key.1)
);
