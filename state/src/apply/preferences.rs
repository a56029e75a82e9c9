//! What people want of tools.

use std::collections::{BTreeMap, BTreeSet};

use types::{Principal, preferences::PreferencesRecord};

use super::{
    Outcome,
    change::Change,
    text::{KEY_BYTES_MAX, PAIRS_MAX, at_most},
};
use crate::{features::Feature, rejection::Rejection, reply::Reply};

/// Users who may have preferences.
const USERS_MAX: u64 = 10_000;
/// Bytes of a value.
const VALUE_BYTES_MAX: u64 = 1_024;

pub(super) fn set(
    change: &mut Change<'_>,
    principal: &Principal,
    set: &BTreeMap<String, String>,
    remove: &BTreeSet<String>,
) -> Outcome {
    change.enabled(Feature::Preferences)?;
    check_owner(change.actor(), principal)?;
    if change.features().has(Feature::SettledRefusals) {
        check_keys(set.keys().chain(remove))?;
    }
    if let Some(key) = set.keys().find(|key| remove.contains(*key)) {
        return Err(Rejection::invalid("remove", format!("{key} is also to be set")));
    }
    let known = change.state.preferences(principal).cloned();
    let before = known.as_ref().map(|r| r.values.clone()).unwrap_or_default();
    let mut values = before.clone();
    values.retain(|key, _| !remove.contains(key));
    values.extend(set.clone());
    check_values(&values)?;
    if values == before {
        let modified = known.map_or_else(|| change.revision(), |r| r.modified);
        return Ok(Reply::Done { modified });
    }
    if known.is_none() {
        at_most(
            "count of users with preferences",
            change.state.preferences.len() + 1,
            USERS_MAX,
        )?;
    }
    change.put_preferences(PreferencesRecord {
        principal: principal.clone(),
        values,
        changed_at: change.now(),
        changed_by: change.actor().clone(),
        modified: change.revision(),
    });
    Ok(change.done())
}

fn check_owner(actor: &Principal, owner: &Principal) -> Result<(), Rejection> {
    match owner {
        Principal::User { .. } if actor == owner || actor.is_admin() => Ok(()),
        Principal::User { .. } => Err(Rejection::PermissionDenied {
            actor: actor.clone(),
            needs: format!("{owner}, or the user admin"),
        }),
        Principal::Agent { .. } | Principal::Coordinator { .. } => Err(Rejection::invalid(
            "principal",
            "is no user, and has no preferences",
        )),
    }
}

/// Before anything names a key: who sends a long one is not told all of it, and neither is the state.
fn check_keys<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<(), Rejection> {
    keys.try_for_each(|key| at_most("bytes of a key of preferences", key.len(), KEY_BYTES_MAX))
}

fn check_values(values: &BTreeMap<String, String>) -> Result<(), Rejection> {
    at_most("count of preferences", values.len(), PAIRS_MAX)?;
    for (key, value) in values {
        if key.is_empty() {
            return Err(Rejection::invalid("set", "a key is empty"));
        }
        at_most("bytes of a key of preferences", key.len(), KEY_BYTES_MAX)?;
        at_most(
            &format!("bytes of preference {key}"),
            value.len(),
            VALUE_BYTES_MAX,
        )?;
    }
    Ok(())
}
