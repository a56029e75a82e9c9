//! What this agent counts. Names come from the one table (`types::metrics`); nothing else makes a metric here.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use types::{
    DatabaseName, Epoch, ModelName, Reason, RegionId, RoleName,
    metrics::{self as table, MetricDef, MetricKind},
};

type Labels = Vec<(&'static str, String)>;

/// The agent's metrics; clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    fenced: Family<Labels, Counter>,
    replication_bytes: Family<Labels, Counter>,
    replications: Family<Labels, Counter>,
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram>,
    loaded: Family<Labels, Gauge>,
    unloaded: Family<Labels, Gauge>,
    floor: Family<Labels, Gauge>,
    lease: Family<Labels, Gauge>,
    probes: Family<Labels, Counter>,
    database_fit: Family<Labels, Gauge>,
    database_ended: Family<Labels, Counter>,
    stays_behind: Gauge,
    rebinds: Counter,
}

/// Seconds; a model of the sample size answers in milliseconds, a long generation in seconds.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let inner = Inner {
            fenced: register(&mut registry, table::FENCED_REJECTIONS, Family::default()),
            replication_bytes: register(&mut registry, table::REPLICATION_BYTES, Family::default()),
            replications: register(&mut registry, table::REPLICATIONS, Family::default()),
            requests: register(&mut registry, table::INFERENCE_REQUESTS, Family::default()),
            seconds: register(&mut registry, table::INFERENCE_SECONDS, seconds),
            loaded: register(&mut registry, table::MODELS_LOADED, Family::default()),
            unloaded: register(&mut registry, table::MODELS_UNLOADED, Family::default()),
            floor: register(&mut registry, table::AGENT_FLOOR, Family::default()),
            lease: register(&mut registry, table::LEASE_HELD, Family::default()),
            probes: register(&mut registry, table::PROBES, Family::default()),
            database_fit: register(&mut registry, table::DATABASE_FIT, Family::default()),
            database_ended: register(&mut registry, table::DATABASE_ENDED, Family::default()),
            stays_behind: register(&mut registry, table::AGENT_STAYS_BEHIND, Gauge::default()),
            rebinds: register(&mut registry, table::AGENT_REBINDS, Counter::default()),
            registry,
        };
        Self(Arc::new(inner))
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

fn register<M>(registry: &mut Registry, def: MetricDef, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    // The library adds `_total` to counters and a full stop to every help text.
    let name = match def.kind {
        MetricKind::Counter => def.name.trim_end_matches("_total"),
        MetricKind::Gauge | MetricKind::Histogram => def.name,
    };
    registry.register(name, def.help.trim_end_matches('.'), metric.clone());
    metric
}

impl Metrics {
    /// The OpenMetrics text of all of them.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string fails only if a metric's own encoding does, which would be a defect of the library.
        if let Err(error) = encode(&mut text, &self.0.registry) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
    /// A privileged call was refused; only a stale epoch counts as fenced.
    pub fn fenced(&self, reason: Reason) {
        if reason == Reason::StaleEpoch {
            self.0
                .fenced
                .get_or_create(&vec![("door", "agent".to_owned())])
                .inc();
        }
    }
    /// Bytes were pulled from a region's store.
    pub fn pulled(&self, source: &RegionId, bytes: u64) {
        let labels = vec![("source_region", source.to_string())];
        self.0.replication_bytes.get_or_create(&labels).inc_by(bytes);
    }
    /// A copy ended.
    pub fn replicated(&self, outcome: &'static str) {
        let labels = vec![("outcome", outcome.to_owned())];
        self.0.replications.get_or_create(&labels).inc();
    }
    /// An inference request was answered.
    pub fn request(&self, model: &ModelName, outcome: &'static str, took: Duration) {
        let labels = vec![("model", model.to_string()), ("outcome", outcome.to_owned())];
        self.0.requests.get_or_create(&labels).inc();
        let labels = vec![("model", model.to_string())];
        self.0.seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }
    /// No version answered an inference request.
    pub fn refused(&self, model: &ModelName, outcome: &'static str) {
        let labels = vec![("model", model.to_string()), ("outcome", outcome.to_owned())];
        self.0.requests.get_or_create(&labels).inc();
    }
    /// How many versions are in memory.
    pub fn loaded(&self, count: usize) {
        self.0
            .loaded
            .get_or_create(&Vec::new())
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    /// How many versions should be in memory and are not: those that do not load, and those on their way.
    pub fn unloaded(&self, failed: usize, waiting: usize) {
        for (why, count) in [("failed", failed), ("waiting", waiting)] {
            let labels = vec![("why", why.to_owned())];
            let gauge = self.0.unloaded.get_or_create(&labels);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    /// Whether coordinators of another cluster answer that this agent may not follow.
    pub fn stays_behind(&self, stays: bool) {
        self.0.stays_behind.set(i64::from(stays));
    }
    /// This agent followed another cluster.
    pub fn followed(&self) {
        self.0.rebinds.inc();
    }
    /// A floor stands at this epoch.
    pub fn floor(&self, role: &RoleName, epoch: Epoch) {
        let labels = vec![("role", role.to_string())];
        self.0
            .floor
            .get_or_create(&labels)
            .set(i64::from(epoch.counter()));
    }
    /// Whether a role's lease is held.
    pub fn lease(&self, role: &RoleName, held: bool) {
        let labels = vec![("role", role.to_string())];
        self.0.lease.get_or_create(&labels).set(i64::from(held));
    }
    /// A probe of another region's agent ended.
    pub fn probe(&self, region: &RegionId, ok: bool) {
        let outcome = if ok { "ok" } else { "failed" };
        let labels = vec![("region", region.to_string()), ("outcome", outcome.to_owned())];
        self.0.probes.get_or_create(&labels).inc();
    }
    /// Whether a database was seen to refuse writes under epochs that are over.
    pub fn database_fit(&self, database: &DatabaseName, fit: bool) {
        let labels = vec![("database", database.to_string())];
        self.0.database_fit.get_or_create(&labels).set(i64::from(fit));
    }
    /// So many connections were ended because they held up a raise.
    pub fn database_ended(&self, database: &DatabaseName, ended: usize) {
        let labels = vec![("database", database.to_string())];
        let count = u64::try_from(ended).unwrap_or(u64::MAX);
        self.0.database_ended.get_or_create(&labels).inc_by(count);
    }
}
