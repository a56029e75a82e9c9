//! What a person wants of tools, by key: kept with the cluster, so that it is the same on every machine.
//!
//! Absent on purpose: what the keys mean; the tools that read them say. Nothing in the cluster acts on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{principal::Principal, revision::Revision, time::UnixMillis};

/// One person's preferences. Who has none has no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferencesRecord {
    /// Whose they are.
    pub principal: Principal,
    /// By key.
    pub values: BTreeMap<String, String>,
    /// State time of the last change.
    pub changed_at: UnixMillis,
    /// Who changed them last.
    pub changed_by: Principal,
    /// Revision of the last change; its etag.
    pub modified: Revision,
}
