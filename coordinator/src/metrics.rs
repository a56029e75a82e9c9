//! What a coordinator measures: typed functions; names come from `types::metrics` alone.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use state::Event;
use types::{
    NodeId,
    metrics::{self as names, MetricDef},
    plan::PlanState,
    region::Health,
};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter<u64, AtomicU64>>;
type Gauges = Family<Labels, Gauge<i64, AtomicI64>>;
type Seconds = Family<Labels, Gauge<f64, AtomicU64>>;

struct Metrics {
    registry: Registry,
    has_leader: Gauge<i64, AtomicI64>,
    has_quorum: Gauge<i64, AtomicI64>,
    is_leader: Gauge<i64, AtomicI64>,
    is_witness: Gauge<i64, AtomicI64>,
    term: Gauge<i64, AtomicI64>,
    applied: Gauge<i64, AtomicI64>,
    replication_lag: Seconds,
    proposals: Counters,
    propose_seconds: Histogram,
    fsync_seconds: Histogram,
    fsync_bytes: Counter<u64, AtomicU64>,
    log_queue: Gauge<i64, AtomicI64>,
    log_queue_bytes: Gauge<i64, AtomicI64>,
    disk_free: Gauge<i64, AtomicI64>,
    disk_full: Gauge<i64, AtomicI64>,
    divergences: Counters,
    state_suspect: Gauge<i64, AtomicI64>,
    fence_epoch: Gauges,
    fenced: Counters,
    renewals: Counters,
    sessions: Gauge<i64, AtomicI64>,
    watchers: Gauge<i64, AtomicI64>,
    healthy: Gauges,
    plans: Counters,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::default();
        let propose_seconds = Histogram::new([0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]);
        register(
            &mut registry,
            &names::RAFT_PROPOSE_SECONDS,
            propose_seconds.clone(),
        );
        // From a tenth of a millisecond to some seconds, each twice the one before.
        let fsync_seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 16));
        register(&mut registry, &names::RAFT_FSYNC_SECONDS, fsync_seconds.clone());
        Self {
            fsync_seconds,
            fsync_bytes: gauge(&mut registry, &names::RAFT_FSYNC_BYTES),
            log_queue: gauge(&mut registry, &names::RAFT_LOG_QUEUE),
            log_queue_bytes: gauge(&mut registry, &names::RAFT_LOG_QUEUE_BYTES),
            disk_free: gauge(&mut registry, &names::RAFT_DISK_FREE_BYTES),
            disk_full: gauge(&mut registry, &names::RAFT_DISK_FULL),
            has_leader: gauge(&mut registry, &names::RAFT_HAS_LEADER),
            has_quorum: gauge(&mut registry, &names::RAFT_HAS_QUORUM),
            is_leader: gauge(&mut registry, &names::RAFT_IS_LEADER),
            is_witness: gauge(&mut registry, &names::RAFT_IS_WITNESS),
            term: gauge(&mut registry, &names::RAFT_TERM),
            applied: gauge(&mut registry, &names::RAFT_APPLIED_INDEX),
            replication_lag: gauge(&mut registry, &names::RAFT_REPLICATION_LAG),
            proposals: counter(&mut registry, &names::RAFT_PROPOSALS),
            propose_seconds,
            divergences: counter(&mut registry, &names::RAFT_STATE_DIVERGENCES),
            state_suspect: gauge(&mut registry, &names::RAFT_STATE_SUSPECT),
            fence_epoch: gauge(&mut registry, &names::FENCE_EPOCH),
            fenced: counter(&mut registry, &names::FENCED_REJECTIONS),
            renewals: counter(&mut registry, &names::LEASE_RENEWALS),
            sessions: gauge(&mut registry, &names::SESSIONS),
            watchers: gauge(&mut registry, &names::WATCHERS),
            healthy: gauge(&mut registry, &names::REGION_HEALTHY),
            plans: counter(&mut registry, &names::PLANS),
            registry,
        }
    }
}

fn register(registry: &mut Registry, def: &MetricDef, metric: impl prometheus_client::registry::Metric) {
    // The exposition adds `_total` to counters, and a full stop to the help.
    let name = def.name.strip_suffix("_total").unwrap_or(def.name);
    registry.register(name, def.help.trim_end_matches('.'), metric);
}

fn gauge<G>(registry: &mut Registry, def: &MetricDef) -> G
where
    G: Default + Clone + prometheus_client::registry::Metric,
{
    let gauges = G::default();
    register(registry, def, gauges.clone());
    gauges
}

fn counter(registry: &mut Registry, def: &MetricDef) -> Counters {
    let counters = Counters::default();
    register(registry, def, counters.clone());
    counters
}

fn set(gauge: &Gauge<i64, AtomicI64>, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// How this node stands in Raft.
pub fn set_raft(has_leader: bool, has_quorum: bool, is_leader: bool, term: u64, applied: u64) {
    set(&METRICS.has_leader, u64::from(has_leader));
    set(&METRICS.has_quorum, u64::from(has_quorum));
    set(&METRICS.is_leader, u64::from(is_leader));
    set(&METRICS.term, term);
    set(&METRICS.applied, applied);
}

/// How far the members are behind, as the leader knows it; none of anybody else.
pub fn set_replication_lags<'a>(lags: impl Iterator<Item = (&'a NodeId, Duration)>) {
    // Who is gone is told of no more.
    METRICS.replication_lag.clear();
    for (node, lag) in lags {
        let labels = vec![("node", node.to_string())];
        METRICS
            .replication_lag
            .get_or_create(&labels)
            .set(lag.as_secs_f64());
    }
}

/// Whether this node votes and serves nobody.
pub fn set_witness(witness: bool) {
    set(&METRICS.is_witness, u64::from(witness));
}

/// The log's writer synced so many bytes.
pub fn observe_log_sync(seconds: f64, bytes: usize) {
    METRICS.fsync_seconds.observe(seconds);
    METRICS.fsync_bytes.inc_by(bytes as u64);
}

/// What waits for the disk of the log, and how full that is. `refuses`: it had no room for what a leader sent lately.
pub fn set_log(view: &wal::View, refuses: bool) {
    let (queued, bytes) = view.queued();
    let room = view.room();
    set(&METRICS.log_queue, queued as u64);
    set(&METRICS.log_queue_bytes, bytes as u64);
    set(&METRICS.disk_free, room.free_bytes);
    set(&METRICS.disk_full, u64::from(refuses || room.is_full));
}

/// A proposal ended after so many seconds: `applied`, or the reason's text.
pub fn observe_proposal(outcome: &str, seconds: f64) {
    METRICS
        .proposals
        .get_or_create(&vec![("outcome", outcome.to_owned())])
        .inc();
    METRICS.propose_seconds.observe(seconds);
}

/// A renewal was answered.
pub fn observe_renewal<T>(result: &Result<T, types::reason::Refusal>) {
    let outcome = match result {
        Ok(_) => "granted".to_owned(),
        Err(refusal) => refusal.reason.to_string(),
    };
    METRICS.renewals.get_or_create(&vec![("outcome", outcome)]).inc();
}

/// States were found to differ: `differs` (this one from the majority's), `replaced` (this one was), `doubted` (it is open who
/// is right), `other` (another one from the majority's), `no_majority`.
pub fn observe_divergence(outcome: &str) {
    METRICS
        .divergences
        .get_or_create(&vec![("outcome", outcome.to_owned())])
        .inc();
}

/// Whether this node serves nobody because it does not believe its own state.
pub fn set_state_suspect(suspect: bool) {
    METRICS.state_suspect.set(i64::from(suspect));
}

/// The registry's door refused a stale epoch.
pub fn observe_fenced() {
    METRICS
        .fenced
        .get_or_create(&vec![("door", "registry".to_owned())])
        .inc();
}

/// What an applied entry changed.
pub fn observe_events(events: &[Event]) {
    for event in events {
        match event {
            Event::Role(r) => {
                let labels = vec![("role", r.role.to_string())];
                set(
                    &METRICS.fence_epoch.get_or_create(&labels),
                    u64::from(r.epoch.counter()),
                );
            }
            Event::Region(r) => {
                let labels = vec![("region", r.region.to_string())];
                set(
                    &METRICS.healthy.get_or_create(&labels),
                    u64::from(r.health == Health::Healthy),
                );
            }
            Event::RegionDeleted { region } => {
                METRICS.healthy.remove(&vec![("region", region.to_string())]);
            }
            Event::Plan(p) if p.state != PlanState::Running => {
                let labels = vec![("kind", p.kind.to_string()), ("outcome", p.state.to_string())];
                METRICS.plans.get_or_create(&labels).inc();
            }
            Event::Plan(_)
            | Event::Cluster(_)
            | Event::Node(_)
            | Event::NodeDeleted { .. }
            | Event::Model(_)
            | Event::Version(_)
            | Event::Alias(_)
            | Event::AliasDeleted { .. }
            | Event::Replica(_)
            | Event::ReplicaDeleted(_)
            | Event::PlanDeleted { .. }
            | Event::Experiment(_)
            | Event::ExperimentDeleted { .. }
            | Event::Service(_)
            | Event::ServiceDeleted { .. } => {}
        }
    }
}

/// Live sessions on this coordinator.
pub fn set_sessions(open: usize) {
    set(&METRICS.sessions, open as u64);
}

/// A watch stream, counted while it lives.
#[derive(Debug)]
pub struct Watcher(());

impl Watcher {
    /// Counts one more.
    pub fn open() -> Self {
        METRICS.watchers.inc();
        Self(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        METRICS.watchers.dec();
    }
}

/// All of it as text, as Prometheus reads it.
pub fn exposition() -> String {
    let mut text = String::new();
    match encode(&mut text, &METRICS.registry) {
        Ok(()) => text,
        Err(error) => format!("# {error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn the_exposition_names_only_metrics_of_the_table() {
        super::set_raft(true, true, false, 3, 7);
        super::observe_proposal("applied", 0.002);
        let nodes = ["a", "b"].map(|name| name.parse().unwrap());
        super::set_replication_lags(nodes.iter().map(|node| (node, Duration::from_millis(31_500))));
        super::set_replication_lags(nodes[1..].iter().map(|node| (node, Duration::from_millis(500))));
        let text = super::exposition();
        assert!(text.contains("regent_raft_term 3"), "{text}");
        let lags = (text.lines()).filter(|line| line.starts_with("regent_raft_replication_lag_seconds"));
        assert_eq!(
            lags.collect::<Vec<_>>(),
            ["regent_raft_replication_lag_seconds{node=\"b\"} 0.5"]
        );
        assert!(
            text.contains("regent_raft_proposals_total{outcome=\"applied\"} 1"),
            "{text}"
        );
        let names = text
            .lines()
            .filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next());
        for name in names {
            let known = types::metrics::ALL
                .iter()
                .any(|m| m.name.strip_suffix("_total").unwrap_or(m.name) == name);
            assert!(known, "{name}");
        }
    }
}
