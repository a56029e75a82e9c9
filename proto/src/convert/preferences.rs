//! Preferences.

use types::{Revision, UnixMillis, preferences::PreferencesRecord};

use super::{Parsed, text};
use crate::v1 as pb;

impl From<&PreferencesRecord> for pb::Preferences {
    fn from(p: &PreferencesRecord) -> Self {
        Self {
            principal: p.principal.to_string(),
            values: p.values.clone(),
            changed_at_millis: p.changed_at.0,
            changed_by: p.changed_by.to_string(),
            modified_revision: p.modified.0,
        }
    }
}

/// Reads preferences.
pub fn preferences(p: pb::Preferences) -> Parsed<PreferencesRecord> {
    Ok(PreferencesRecord {
        principal: text("principal", &p.principal)?,
        values: p.values,
        changed_at: UnixMillis(p.changed_at_millis),
        changed_by: text("changed_by", &p.changed_by)?,
        modified: Revision(p.modified_revision),
    })
}
