//! Aliases: names that move between versions by compare-and-set.

use types::{AliasName, ModelName, ModelVersion, Revision, VersionKey, model::AliasRecord};

use super::{
    Outcome,
    change::Change,
    text::{at_most, check_etag, note},
};
use crate::{rejection::Rejection, reply::Reply};

/// Aliases that a model may have.
const ALIASES_MAX: u64 = 100;

/// Where an alias shall point.
pub(super) struct Move<'a> {
    pub(super) model: &'a ModelName,
    pub(super) alias: &'a AliasName,
    pub(super) version: ModelVersion,
    pub(super) reason: &'a str,
}

pub(super) fn set(change: &mut Change<'_>, to: &Move<'_>, etag: Option<Revision>) -> Outcome {
    change.model(to.model)?;
    let key = VersionKey {
        model: to.model.clone(),
        version: to.version,
    };
    let version = change.version(&key)?;
    if !version.is_replicated() {
        let needs = "READY or DEPRECATED".to_owned();
        return Err(Rejection::VersionState {
            version: key,
            state: version.state,
            needs,
        });
    }
    let known = change.state.alias(to.model, to.alias);
    let (modified, points_at) = (known.map(|a| a.modified), known.map(|a| a.version));
    check_etag(&format!("alias {} of {}", to.alias, to.model), etag, modified)?;
    if let (Some(modified), Some(version)) = (modified, points_at)
        && version == to.version
    {
        return Ok(Reply::Done { modified });
    }
    if modified.is_none() {
        at_most(
            "count of aliases",
            change.state.aliases(to.model).count() + 1,
            ALIASES_MAX,
        )?;
    }
    change.put_alias(AliasRecord {
        model: to.model.clone(),
        alias: to.alias.clone(),
        version: to.version,
        reason: note(to.reason),
        moved_at: change.now(),
        moved_by: change.actor().clone(),
        modified: change.revision(),
    });
    Ok(change.done())
}

pub(super) fn delete(
    change: &mut Change<'_>,
    model: &ModelName,
    alias: &AliasName,
    etag: Option<Revision>,
) -> Outcome {
    change.model(model)?;
    let known = change.state.alias(model, alias).map(|a| a.modified);
    let Some(modified) = known else {
        let (model, alias) = (model.clone(), alias.clone());
        return Err(Rejection::AliasNotFound { model, alias });
    };
    check_etag(&format!("alias {alias} of {model}"), etag, Some(modified))?;
    change.delete_alias(model, alias);
    Ok(change.done())
}
