//! The configs that `dev` writes, with their explanations: the same text stands in `deploy/config` as examples.
//!
//! Text and not serialised structs, because a config is read by people first. A test parses every text with the code
//! of the process that reads it, so the two cannot drift.

use std::path::Path;

use client::{TlsFiles, context::StoreCredentials};
use types::{NodeId, RegionId};

/// What a coordinator's config says.
#[derive(Clone, Debug)]
pub(crate) struct CoordinatorConfig<'a> {
    pub(crate) node: NodeId,
    pub(crate) region: &'a RegionId,
    pub(crate) data_dir: &'a Path,
    pub(crate) tls: &'a TlsFiles,
    pub(crate) bootstrap: bool,
    pub(crate) join: &'a [String],
    pub(crate) timing: &'a str,
    /// The founder says how fast elections are: on one machine round trips measure how busy it is.
    pub(crate) fixes_elections: bool,
}

impl CoordinatorConfig<'_> {
    /// The text of the file.
    pub(crate) fn render(&self) -> String {
        let Self {
            node,
            region,
            bootstrap,
            ..
        } = self;
        let data_dir = quoted_path(self.data_dir);
        let tls = tls_section(self.tls);
        let join = list(self.join);
        let timing = quoted(self.timing);
        let derived = if self.fixes_elections { "" } else { "# " };
        format!(
            r#"# A coordinator: a Raft voter with the API. `regent coordinator --config FILE` reads this; unknown keys are refused.

# The machine's name in the cluster, and its region. Neither ever changes: a new disk is a new node.
node = "{node}"
region = "{region}"

# The availability zone of the region that the machine stands in; may be another at the next start. None unless it is said here.
# zone = "eu-west-1a"

# The log, snapshots and the vote. Never on tmpfs: what is acknowledged is on this disk.
data_dir = {data_dir}

# Where the API and the other coordinators reach this process. Port 0 lets the system pick at the first start; the port
# is then kept in listen.json in data_dir. The usual ports are 7460 and 7461.
listen_api = "127.0.0.1:0"
listen_raft = "127.0.0.1:0"

# Host name or address by which others reach this machine; the address of listen_api unless it is said here.
# advertise_host = "c1.eu-west-1.example.com"

# Metrics and health as plain HTTP, on a loopback address only; nowhere unless it is said here. The usual port is 7464.
# listen_metrics = "127.0.0.1:0"

# Exactly one coordinator of a new cluster says true; a disk that has seen a cluster never bootstraps again. With others in
# `join` it waits until each has said that it knows of no cluster, so that a founder whose disk was lost founds no second one.
bootstrap = {bootstrap}

# True for a witness, which votes and serves nobody: witness.toml beside this file. For ever: a data_dir is a witness's or not.
# witness = false

# APIs of other coordinators: whom to ask to be taken in. Needed once, harmless later: a coordinator that may neither found
# nor ask, and whose data_dir knows of no cluster, does not start.
join = {join}

# The timing policy that the bootstrap commits: fast, default or conservative. Later changes go through the API.
timing = {timing}

# The coordinators' log. How fast its elections are is derived from measured round trips, and `regent cluster timing` shows
# and fixes it. These three, in the config of the coordinator that founds a cluster, fix it from the start.
[raft]
{derived}heartbeat_millis = 50
{derived}election_min_millis = 250
{derived}election_max_millis = 400
# A snapshot is taken once the entries since the last one have this many bytes and as many as that snapshot has, or are
# this many; so many are kept behind it, for others that are not far behind.
# snapshot_log_bytes = 67108864
# snapshot_after = 250000
# logs_kept = 10000

{tls}"#
        )
    }
}

/// What an agent's config says.
#[derive(Clone, Debug)]
pub(crate) struct AgentConfig<'a> {
    pub(crate) node: NodeId,
    pub(crate) region: &'a RegionId,
    pub(crate) data_dir: &'a Path,
    pub(crate) coordinators: &'a [String],
    pub(crate) tls: &'a TlsFiles,
    pub(crate) store_endpoint: &'a str,
    pub(crate) keys: &'a StoreCredentials,
}

impl AgentConfig<'_> {
    /// The text of the file.
    pub(crate) fn render(&self) -> String {
        let Self { node, region, .. } = self;
        let data_dir = quoted_path(self.data_dir);
        let tls = tls_section(self.tls);
        let coordinators = list(self.coordinators);
        let endpoint = quoted(self.store_endpoint);
        let access = quoted_path(&self.keys.access_key_file);
        let secret = quoted_path(&self.keys.secret_key_file);
        format!(
            r#"# A node agent: copies models into its region's store, serves them, holds primary roles.
# `regent agent --config FILE` reads this; unknown keys are refused.

# The machine's name in the cluster, and its region.
node = "{node}"
region = "{region}"

# The availability zone of the region that the machine stands in; may be another at the next start. None unless it is said here.
# zone = "eu-west-1a"

# The fencing floors (fsync'd), the local catalog and the cache of model files.
data_dir = {data_dir}

# APIs of coordinators, any order; the leader is found by its hint.
coordinators = {coordinators}

# gRPC for the other agents and for privileged calls (mTLS); inference HTTP (plain, so loopback only); metrics and
# health. Port 0 lets the system pick once, kept in listen.json in data_dir. The usual ports are 7463, 7462 and 7464.
listen_agent = "127.0.0.1:0"
listen_inference = "127.0.0.1:0"
listen_metrics = "127.0.0.1:0"

# Host name or address by which others reach this machine; the address of listen_agent unless it is said here.
# advertise_host = "a1.eu-west-1.example.com"

# The region's object store. Its conditional writes are probed when it is attached: a store that fails the probe holds
# models, and is no fencing door.
[store]
endpoint = {endpoint}
bucket = "{BUCKET}"
access_key_file = {access}
secret_key_file = {secret}

# Stores of other regions are read with the same keys, unless a section says otherwise:
# [store_credentials.eu-west-1]
# access_key_file = "/etc/regent/eu-west-1/access-key"
# secret_key_file = "/etc/regent/eu-west-1/secret-key"

# Databases whose tables primary roles guard: PostgreSQL refuses writes under an epoch that is over, by itself. Name one in the
# config of every agent that may hold such a role, under the same name. docs/protocol/postgres.md says how to set it up.
# [[postgres]]
# name = "orders"
# url = "postgres://db.eu-west-1.example.com:5432/orders"
# password_file = "/etc/regent/postgres/orders"
# ca_file = "/etc/regent/postgres/ca.pem"
# roles = ["primaries/global"]
# patience = "1s"

# Services that run beside this agent, for callers to find (`regent service list`): registered under this run of it, healthy while the
# cluster hears from it, and gone with it. The address is advertise_host unless it is said here; the protocol is TCP, UDP, HTTP or GRPC.
# [[services]]
# name = "feature-store"
# port = 7000
# address = "features.eu-west-1.example.com"
# protocol = "GRPC"
# labels = {{ zone = "a" }}

# Bounds, with their defaults: versions copied or verified, and loaded, at a time; requests that wait before one model;
# the largest request; the deadline of one that names none, and the longest that one may ask for; the longest wait for
# requests in hand at shutdown and unload.
# [limits]
# parallel_copies = 4
# parallel_loads = 2
# inference_queue = 64
# body_max = "8MiB"
# request_timeout = "10s"
# request_timeout_max = "60s"
# drain_timeout = "30s"

{tls}"#
        )
    }
}

/// What the config of an S3 endpoint says.
#[derive(Clone, Debug)]
pub(crate) struct StoreConfig<'a> {
    pub(crate) data_dir: &'a Path,
    pub(crate) keys: &'a StoreCredentials,
}

/// The bucket of every store that `dev` makes.
pub(crate) const BUCKET: &str = "models";

impl StoreConfig<'_> {
    /// The text of the file.
    pub(crate) fn render(&self) -> String {
        let data_dir = quoted_path(self.data_dir);
        let access = quoted_path(&self.keys.access_key_file);
        let secret = quoted_path(&self.keys.secret_key_file);
        format!(
            r#"# An S3 endpoint over a directory, for `regent dev`, the demo and tests; not for production.
# `regent dev-s3 --config FILE` reads this; unknown keys are refused.

# The objects, and the record of every decision on a write.
data_dir = {data_dir}

# Plain HTTP, so a loopback address. Port 0 lets the system pick once, kept in listen.json in data_dir. Usual: 7465.
listen = "127.0.0.1:0"

# Made at the start where they are missing.
buckets = ["{BUCKET}"]

# The one key pair that requests must be signed with.
access_key_file = {access}
secret_key_file = {secret}
"#
        )
    }
}

/// The command line's context file.
#[derive(Clone, Debug)]
pub(crate) struct ContextConfig<'a> {
    pub(crate) endpoints: &'a [String],
    pub(crate) tls: &'a TlsFiles,
    pub(crate) keys: &'a StoreCredentials,
}

impl ContextConfig<'_> {
    /// The text of the file.
    pub(crate) fn render(&self) -> String {
        let endpoints = list(self.endpoints);
        let tls = tls_keys(self.tls);
        let access = quoted_path(&self.keys.access_key_file);
        let secret = quoted_path(&self.keys.secret_key_file);
        format!(
            r#"# How the command line reaches a cluster: `regent --context FILE`, or REGENT_CONTEXT. Flags and REGENT_… variables
# win over this file; unknown keys are refused. Relative paths count from the file's folder.

# APIs of coordinators, the nearest first; the leader is found by its hint.
endpoints = {endpoints}

# Who the command line is: the certificate's SAN names the user. The key must be readable by its owner alone.
[tls]
{tls}
# `model push` uploads to the store of the source region with these keys; the store's endpoint comes from the registry.
# Where regions have keys of their own: [stores.eu-west-1] with the same two lines.
[store]
access_key_file = {access}
secret_key_file = {secret}
"#
        )
    }
}

fn tls_section(files: &TlsFiles) -> String {
    let keys = tls_keys(files);
    format!(
        r#"# Mutual TLS, for every connection. The certificate's SAN says who this process is:
# spiffe://regent.local/region/REGION/coordinator/NODE, or …/node/NODE for an agent.
[tls]
{keys}"#
    )
}

fn tls_keys(files: &TlsFiles) -> String {
    let ca = quoted_path(&files.ca_file);
    let cert = quoted_path(&files.cert_file);
    let key = quoted_path(&files.key_file);
    format!("ca_file = {ca}\ncert_file = {cert}\nkey_file = {key}\n")
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|t| quoted(t)).collect();
    format!("[{}]", quoted.join(", "))
}
