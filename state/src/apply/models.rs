//! Models and their tags.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    FencingToken, ModelName, ModelVersion, Revision,
    model::{ModelRecord, Placement},
};

use super::{
    Outcome,
    change::Change,
    door,
    text::{VALUE_BYTES_MAX, at_most, check_etag, check_pairs},
};
use crate::{rejection::Rejection, reply::Reply};

pub(super) fn create(
    change: &mut Change<'_>,
    name: &ModelName,
    description: &str,
    tags: &BTreeMap<String, String>,
    placement: &Placement,
) -> Outcome {
    if change.state.models.contains_key(name) {
        let (what, name) = ("model".to_owned(), name.to_string());
        return Err(Rejection::AlreadyExists { what, name });
    }
    at_most("bytes of the description", description.len(), VALUE_BYTES_MAX)?;
    check_pairs("tags", tags)?;
    check_placement(change, placement)?;
    let record = ModelRecord {
        description: description.to_owned(),
        tags: tags.clone(),
        placement: placement.clone(),
        ..new_model(change, name)
    };
    change.put_model(record);
    Ok(change.done())
}

/// A model without anything that a caller says of it.
pub(super) fn new_model(change: &Change<'_>, name: &ModelName) -> ModelRecord {
    ModelRecord {
        name: name.clone(),
        description: String::new(),
        tags: BTreeMap::new(),
        placement: Placement::Everywhere,
        next_version: ModelVersion(1),
        created_at: change.now(),
        created_by: change.actor().clone(),
        modified: change.revision(),
    }
}

fn check_placement(change: &Change<'_>, placement: &Placement) -> Result<(), Rejection> {
    match placement {
        Placement::Everywhere => Ok(()),
        Placement::Regions(regions) => {
            if regions.is_empty() {
                return Err(Rejection::invalid("placement", "names no region"));
            }
            change.check_region_list("placement", regions)
        }
    }
}

/// Pairs to set and keys to remove.
pub(super) struct TagEdit<'a> {
    pub(super) set: &'a BTreeMap<String, String>,
    pub(super) remove: &'a BTreeSet<String>,
}

/// The door comes first: a stale writer learns that it is stale, whatever else is wrong with its write.
pub(super) fn set_tags(
    change: &mut Change<'_>,
    model: &ModelName,
    edit: &TagEdit<'_>,
    etag: Option<Revision>,
    token: Option<&FencingToken>,
) -> Outcome {
    match token {
        Some(token) => door::check(change, model, token)?,
        None => door::may_write_without_token(change)?,
    }
    let record = change.model(model)?;
    check_etag(&format!("model {model}"), etag, Some(record.modified))?;
    let mut tags = record.tags.clone();
    tags.retain(|key, _| !edit.remove.contains(key));
    tags.extend(edit.set.clone());
    check_pairs("tags", &tags)?;
    if tags == record.tags {
        return Ok(Reply::Done {
            modified: record.modified,
        });
    }
    change.put_model(ModelRecord { tags, ..record });
    Ok(change.done())
}
