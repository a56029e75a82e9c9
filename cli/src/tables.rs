//! Tables that several verbs end with.

use types::model::{AliasRecord, VersionRecord};

use crate::output::{ago, or_dash, size, table};

/// The alias of the version that answers requests which name none.
pub(crate) const CHAMPION: &str = "champion";

/// Aliases as a table.
pub(crate) fn alias_table(aliases: &[AliasRecord]) -> String {
    let headings = ["ALIAS", "VERSION", "MOVED", "ETAG", "WHY"];
    table(
        headings,
        aliases.iter().map(|alias| {
            [
                alias.alias.to_string(),
                alias.version.to_string(),
                ago(alias.moved_at),
                alias.modified.0.to_string(),
                or_dash(alias.reason.as_str()),
            ]
        }),
    )
}

/// Versions as a table.
pub(crate) fn version_table(versions: &[VersionRecord]) -> String {
    let headings = [
        "VERSION",
        "STATE",
        "FRAMEWORK",
        "FILES",
        "SIZE",
        "SOURCE",
        "CREATED",
        "WHY",
    ];
    table(
        headings,
        versions.iter().map(|version| {
            [
                version.key.to_string(),
                version.state.to_string(),
                version.framework.clone(),
                version.artifacts.len().to_string(),
                size(version.total_size()),
                version.source_region.to_string(),
                ago(version.created_at),
                or_dash(version.state_reason.as_str()),
            ]
        }),
    )
}
