//! The fields of models, versions, experiments and services that lists can be asked by, and what they hold.

use std::borrow::Cow;

use state::ControlState;
use types::{
    Micros, ModelVersion, RegionId, VersionKey,
    experiment::ExperimentRecord,
    history::{DeploymentRecord, HealthChange},
    model::{ModelRecord, Placement, VersionRecord},
    replica::{ReplicaKey, ReplicaState},
    service::ServiceRecord,
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

impl Fields for ServiceRecord {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("service", Kind::Text),
        ("node", Kind::Text),
        ("region", Kind::Text),
        ("port", Kind::Number),
        ("address", Kind::Text),
        ("protocol", Kind::Word(&["TCP", "UDP", "HTTP", "GRPC"])),
        ("health", Kind::Word(&["HEALTHY", "UNHEALTHY"])),
        ("labels", Kind::Map),
        ("registered_at", Kind::Time),
        ("registered_by", Kind::Text),
    ];

    fn find<'a>(&'a self, _: &'a ControlState, field: &str, key: &str) -> Found<'a> {
        match field {
            "service" => one(self.key.service.as_str()),
            "node" => one(self.key.node.as_str()),
            "region" => one(self.region.as_str()),
            "port" => Found::Number(self.key.port.get().into()),
            "address" => one(self.address.as_str()),
            "protocol" => one(self.protocol.as_str()),
            "health" => one(self.health.to_string()),
            "labels" => maybe(self.labels.get(key)),
            "registered_at" => Found::Number(self.registered_at.0),
            _ => one(self.registered_by.to_string()),
        }
    }
}

fn version(version: Option<ModelVersion>) -> Found<'static> {
    Found::Texts(version.map(|v| v.to_string().into()).into_iter().collect())
}

impl Fields for DeploymentRecord {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("model", Kind::Text),
        ("alias", Kind::Text),
        ("from", Kind::Text),
        ("to", Kind::Text),
        ("reason", Kind::Text),
        ("at", Kind::Time),
        ("by", Kind::Text),
    ];

    fn find<'a>(&'a self, _: &'a ControlState, field: &str, _: &str) -> Found<'a> {
        match field {
            "model" => one(self.model.as_str()),
            "alias" => one(self.alias.as_str()),
            "from" => version(self.from),
            "to" => version(self.to),
            "reason" => one(self.reason.as_str()),
            "at" => Found::Number(self.at.0),
            _ => one(self.by.to_string()),
        }
    }
}

const STANDINGS: &[&str] = &["HEALTHY", "UNHEALTHY", "RECOVERING", "UP", "DOWN", "REMOVED"];

impl Fields for HealthChange {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("subject", Kind::Text),
        ("from", Kind::Word(STANDINGS)),
        ("to", Kind::Word(STANDINGS)),
        ("evidence", Kind::Text),
        ("at", Kind::Time),
        ("by", Kind::Text),
    ];

    fn find<'a>(&'a self, _: &'a ControlState, field: &str, _: &str) -> Found<'a> {
        match field {
            "subject" => one(self.subject.to_string()),
            "from" => Found::Texts(
                self.from
                    .map(|from| from.to_string().into())
                    .into_iter()
                    .collect(),
            ),
            "to" => one(self.to.to_string()),
            "evidence" => one(self.evidence.as_str()),
            "at" => Found::Number(self.at.0),
            _ => one(self.by.to_string()),
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
