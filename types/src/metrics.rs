//! The table of all metric names. Crates observe by typed functions in their own `metrics.rs`, which take the names
//! from here; dashboards and alerts may use only names that stand here (tested).

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Buckets of seconds or bytes.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct MetricDef {
    /// Full name with the prefix `regent_` and the unit as suffix.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// Label names; never ids of requests or people.
    pub labels: &'static [&'static str],
    /// One sentence for `# HELP`.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $ident:ident = $name:literal $kind:ident $labels:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $ident: MetricDef =
                MetricDef { name: $name, kind: MetricKind::$kind, labels: &$labels, help: $help };
        )*
        /// Every metric.
        pub const ALL: &[MetricDef] = &[$($ident,)*];
    };
}

metrics! {
    RAFT_HAS_LEADER = "regent_raft_has_leader" Gauge [], "1 while this coordinator knows a leader; one that is cut off goes on naming its last one.";
    RAFT_HAS_QUORUM = "regent_raft_has_quorum" Gauge [], "1 while a quorum, or the leader, spoke to this coordinator within an election timeout.";
    RAFT_IS_LEADER = "regent_raft_is_leader" Gauge [], "1 while this coordinator leads.";
    RAFT_IS_WITNESS = "regent_raft_is_witness" Gauge [], "1 where this coordinator votes and serves nobody.";
    RAFT_TERM = "regent_raft_term" Gauge [], "Raft election number.";
    RAFT_APPLIED_INDEX = "regent_raft_applied_index" Gauge [], "Revision of the last applied entry.";
    RAFT_REPLICATION_LAG = "regent_raft_replication_lag_seconds" Gauge ["node"], "Of a leader: for how long, since it leads, the member has lacked an entry of its log, or was silent if that is longer.";
    RAFT_PROPOSALS = "regent_raft_proposals_total" Counter ["outcome"], "Proposals by outcome.";
    RAFT_PROPOSE_SECONDS = "regent_raft_propose_seconds" Histogram [], "Time from proposal to applied answer.";
    RAFT_FSYNC_SECONDS = "regent_raft_fsync_seconds" Histogram [], "Time of one flush of the log to disk.";
    RAFT_FSYNC_BYTES = "regent_raft_fsync_bytes_total" Counter [], "Bytes of the log written and flushed to disk.";
    RAFT_LOG_QUEUE = "regent_raft_log_queue" Gauge [], "Writes of the log that wait for the disk.";
    RAFT_LOG_QUEUE_BYTES = "regent_raft_log_queue_bytes" Gauge [], "Bytes of the writes that wait for the disk.";
    RAFT_DISK_FREE_BYTES = "regent_raft_disk_free_bytes" Gauge [], "Bytes free on the disk of the log, as of its last look.";
    RAFT_DISK_FULL = "regent_raft_disk_full" Gauge [], "1 while the disk of the log has no room for its next segments, when new proposals are refused, or had none for what a leader sent in the last 5 s.";
    RAFT_STATE_DIVERGENCES = "regent_raft_state_divergences_total" Counter ["outcome"], "Times that coordinators' states were found to differ, by what came of it.";
    RAFT_STATE_SUSPECT = "regent_raft_state_suspect" Gauge [], "1 while this coordinator serves nobody because its state differs from others', or may.";
    FENCE_EPOCH = "regent_fence_epoch" Gauge ["role"], "Counter of the role's current epoch.";
    FENCED_REJECTIONS = "regent_fenced_rejections_total" Counter ["door"], "Writes refused for a stale epoch.";
    LEASE_RENEWALS = "regent_lease_renewals_total" Counter ["outcome"], "Lease renewals answered, by outcome.";
    SESSIONS = "regent_sessions" Gauge [], "Live agent sessions on this leader.";
    WATCHERS = "regent_watchers" Gauge [], "Open watch streams on this coordinator.";
    REGION_HEALTHY = "regent_region_healthy" Gauge ["region"], "1 while the region's committed verdict is HEALTHY.";
    PLANS = "regent_plans_total" Counter ["kind", "outcome"], "Plans ended, by kind and outcome.";
    REPLICATION_BYTES = "regent_replication_bytes_total" Counter ["source_region"], "Bytes pulled from a region's store.";
    REPLICATIONS = "regent_replications_total" Counter ["outcome"], "Copies ended, by outcome.";
    INFERENCE_REQUESTS = "regent_inference_requests_total" Counter ["model", "outcome"], "Inference requests by outcome.";
    INFERENCE_SECONDS = "regent_inference_seconds" Histogram ["model"], "Time from admission to answer.";
    MODELS_LOADED = "regent_models_loaded" Gauge [], "Model versions in memory.";
    MODELS_UNLOADED = "regent_models_unloaded" Gauge ["why"], "Model versions that should be in memory and are not: failed or waiting.";
    AGENT_STAYS_BEHIND = "regent_agent_stays_behind" Gauge [], "1 while coordinators of another cluster answer and no signed statement lets this agent follow.";
    AGENT_REBINDS = "regent_agent_rebinds_total" Counter [], "Times this agent followed another cluster by a statement that the CA signed.";
    AGENT_FLOOR = "regent_agent_floor_epoch" Gauge ["role"], "Counter of the lowest epoch this agent's door accepts.";
    LEASE_HELD = "regent_lease_held" Gauge ["role"], "1 while this agent holds the role's lease.";
    DATABASE_FIT = "regent_database_fit" Gauge ["database"], "1 while the database was seen to refuse writes under epochs that are over.";
    DATABASE_ENDED = "regent_database_ended_connections_total" Counter ["database"], "Connections that were ended because they held up the raise of an epoch.";
    PROBES = "regent_probes_total" Counter ["region", "outcome"], "Shallow probes of other regions, by outcome.";
}
