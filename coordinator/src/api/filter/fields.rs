//! The fields of models, versions and experiments that lists can be asked by, and what they hold.

use std::borrow::Cow;

use state::ControlState;
use types::{
    Micros, RegionId, VersionKey,
    experiment::ExperimentRecord,
    model::{ModelRecord, Placement, VersionRecord},
    replica::{ReplicaKey, ReplicaState},
};

/// What kind of value a field has, and so what it may be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Kind {
    /// Any text; `*` stands for any part of one.
    Text,
    /// As text, under a key: `metadata.owner`.
    Map,
    /// One of these words.
    Word(&'static [&'static str]),
    Number,
    /// Measured values, under a key: `metrics.accuracy`.
    Measures,
    /// Bytes, as in `64MiB`.
    Size,
    /// RFC 3339, or a day alone.
    Time,
}

impl Kind {
    /// Whether a field of this kind is asked for with a key.
    pub(super) fn has_keys(self) -> bool {
        matches!(self, Self::Map | Self::Measures)
    }
}

/// A measured value as a number that is as much larger or smaller than another one as the value is.
pub(super) fn in_order(value: Micros) -> u64 {
    value.0.cast_unsigned() ^ (1 << 63)
}

/// What a field of one record holds.
pub(in crate::api) enum Found<'a> {
    /// All texts of it: none, one, or several.
    Texts(Vec<Cow<'a, str>>),
    Number(u64),
}

pub(super) fn one<'a>(text: impl Into<Cow<'a, str>>) -> Found<'a> {
    Found::Texts(vec![text.into()])
}

fn maybe(text: Option<&String>) -> Found<'_> {
    Found::Texts(text.map(|text| text.as_str().into()).into_iter().collect())
}

/// A record whose fields can be asked for.
pub(in crate::api) trait Fields {
    /// All of them, as people name them.
    const FIELDS: &'static [(&'static str, Kind)];
    /// What one of [`Self::FIELDS`] holds; `key` is that of a map.
    fn find<'a>(&'a self, state: &'a ControlState, field: &str, key: &str) -> Found<'a>;
}

impl Fields for ModelRecord {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("name", Kind::Text),
        ("description", Kind::Text),
        ("tags", Kind::Map),
        ("region", Kind::Text),
        ("created_at", Kind::Time),
        ("created_by", Kind::Text),
    ];

    fn find<'a>(&'a self, state: &'a ControlState, field: &str, key: &str) -> Found<'a> {
        match field {
            "name" => one(self.name.as_str()),
            "description" => one(self.description.as_str()),
            "tags" => maybe(self.tags.get(key)),
            "region" => Found::Texts(match &self.placement {
                Placement::Everywhere => state.regions().map(|r| r.region.as_str().into()).collect(),
                Placement::Regions(regions) => regions.iter().map(|r| r.as_str().into()).collect(),
            }),
            "created_at" => Found::Number(self.created_at.0),
            _ => one(self.created_by.to_string()),
        }
    }
}

pub(super) const STATES: &[&str] = &["PENDING_UPLOAD", "VERIFYING", "READY", "DEPRECATED", "DELETED"];

impl Fields for VersionRecord {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("version", Kind::Number),
        ("state", Kind::Word(STATES)),
        ("framework", Kind::Text),
        ("size", Kind::Size),
        ("digest", Kind::Text),
        ("source_region", Kind::Text),
        ("region", Kind::Text),
        ("metadata", Kind::Map),
        ("dataset", Kind::Text),
        ("metrics", Kind::Measures),
        ("created_at", Kind::Time),
        ("created_by", Kind::Text),
    ];

    fn find<'a>(&'a self, state: &'a ControlState, field: &str, key: &str) -> Found<'a> {
        match field {
            "version" => Found::Number(self.key.version.0),
            "state" => one(self.state.to_string()),
            "framework" => one(self.framework.as_str()),
            "size" => Found::Number(self.total_size().0),
            "digest" => Found::Texts(
                self.artifacts
                    .iter()
                    .map(|a| a.digest.to_string().into())
                    .collect(),
            ),
            "source_region" => one(self.source_region.as_str()),
            // By key: a walk through all records for each version would hold everybody up.
            "region" => Found::Texts(
                state
                    .regions()
                    .filter(|r| is_verified(state, &self.key, &r.region))
                    .map(|r| r.region.as_str().into())
                    .collect(),
            ),
            "metadata" => maybe(self.metadata.get(key)),
            "dataset" => Found::Texts(self.datasets.iter().map(|d| d.as_str().into()).collect()),
            "metrics" => self.metrics.iter().find(|(name, _)| name.as_str() == key).map_or(
                // No number equals what was not measured, and none differs from it.
                Found::Texts(Vec::new()),
                |(_, m)| Found::Number(in_order(m.value)),
            ),
            "created_at" => Found::Number(self.created_at.0),
            _ => one(self.created_by.to_string()),
        }
    }
}

impl Fields for ExperimentRecord {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("model", Kind::Text),
        ("name", Kind::Text),
        ("description", Kind::Text),
        ("state", Kind::Word(&["RUNNING", "ENDED"])),
        ("version", Kind::Text),
        ("created_at", Kind::Time),
        ("created_by", Kind::Text),
    ];

    fn find<'a>(&'a self, _: &'a ControlState, field: &str, _: &str) -> Found<'a> {
        match field {
            "model" => one(self.model.as_str()),
            "name" => one(self.name.as_str()),
            "description" => one(self.description.as_str()),
            "state" => one(self.state.to_string()),
            "version" => Found::Texts(
                self.arms
                    .iter()
                    .map(|arm| arm.version.to_string().into())
                    .collect(),
            ),
            "created_at" => Found::Number(self.created_at.0),
            _ => one(self.created_by.to_string()),
        }
    }
}

pub(in crate::api) fn is_verified(state: &ControlState, version: &VersionKey, region: &RegionId) -> bool {
    let key = ReplicaKey {
        version: version.clone(),
        region: region.clone(),
    };
    state
        .replica(&key)
        .is_some_and(|r| r.state == ReplicaState::Verified)
}
