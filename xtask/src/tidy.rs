//! House rules that a machine can check: who may depend on whom, module docs, file names of protos, metric names.
//!
//! The table of edges is the one of ARCHITECTURE.md; a new edge is a decision, made here and there together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// Each crate, and the crates of ours that it may depend on (not counting tests).
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("policy", &["types"]),
    ("state", &["types", "policy"]),
    ("proto", &["types"]),
    ("client", &["types", "proto"]),
    ("wal", &[]),
    (
        "coordinator",
        &["types", "policy", "state", "proto", "client", "wal"],
    ),
    ("artifact-store", &["types"]),
    ("dev-s3", &["types"]),
    ("inference", &[]),
    ("adapters", &["types"]),
    (
        "node-agent",
        &[
            "types",
            "policy",
            "proto",
            "client",
            "artifact-store",
            "inference",
            "adapters",
        ],
    ),
    ("chaos", &["types"]),
    ("report", &[]),
    ("jepsen", &["types", "policy", "client", "chaos", "report"]),
    (
        "cli",
        &[
            "types",
            "policy",
            "proto",
            "client",
            "chaos",
            "report",
            "artifact-store",
            "inference",
            "coordinator",
            "node-agent",
            "dev-s3",
        ],
    ),
    ("bench", &["types", "state", "proto", "client", "coordinator"]),
    ("xtask", &[]),
];

/// Third-party crates that must stay out of a crate, also by way of others. The reason is printed.
const NEVER: &[(&str, &[&str], &str)] = &[
    (
        "types",
        &["tokio", "tonic", "prost", "serde_json"],
        "everything can use it; it compiles in seconds",
    ),
    (
        "policy",
        &["tokio", "tonic", "tracing", "rand"],
        "every decision can be called from apply, agent and CLI alike",
    ),
    (
        "state",
        &["tokio", "tonic", "openraft", "tracing", "rand"],
        "the rules are tested with few crates in the graph",
    ),
    ("proto", &["openraft"], "client tools never build the server"),
    (
        "wal",
        &["tokio", "tonic", "openraft", "tracing", "raft-log"],
        "the log is tested by itself, with few crates in the graph",
    ),
    (
        "client",
        &["openraft", "aws-sdk-s3", "candle-core"],
        "chaos, jepsen and other programs stay light",
    ),
    (
        "artifact-store",
        &["tonic", "candle-core"],
        "S3 code is type-checked once, behind a non-generic trait",
    ),
    (
        "inference",
        &["tonic", "openraft", "aws-sdk-s3"],
        "candle is seen by one crate, behind one feature",
    ),
    (
        "coordinator",
        &["aws-sdk-s3", "candle-core"],
        "the control plane never touches artifact bytes",
    ),
    (
        "node-agent",
        &["openraft"],
        "an agent acts on desired state, never on rules",
    ),
    (
        "jepsen",
        &["openraft", "aws-sdk-s3", "candle-core"],
        "it starts regent as processes and links no server",
    ),
    (
        "bench",
        &["aws-sdk-s3", "candle-core"],
        "what is measured here is the coordinator; the rest need not be built for it",
    ),
];

/// Crates that would bring a second TLS provider or TLS stack.
const BANNED: &[&str] = &["aws-lc-rs", "openssl", "native-tls"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_members: Vec<String>,
}
#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}
#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}
#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}
#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}
#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

/// Runs every rule, prints each breach, and fails if there was one.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let metadata = metadata(root)?;
    let mut breaches = edges(&metadata);
    breaches.extend(banned(&metadata));
    breaches.extend(files(root)?);
    breaches.extend(metric_names(root)?);
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    breaches.extend(planted(&manifest.parse()?));
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("{} rules broken:\n  {}", breaches.len(), breaches.join("\n  "))
}

fn metadata(root: &Path) -> anyhow::Result<Metadata> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata gave something else than its format 1")
}

fn edges(metadata: &Metadata) -> Vec<String> {
    let names: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|p| (p.id.as_str(), p.name.as_str()))
        .collect();
    let members: BTreeSet<_> = metadata.workspace_members.iter().map(String::as_str).collect();
    let normal: BTreeMap<&str, Vec<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|n| (n.id.as_str(), shipped(n)))
        .collect();
    let mut breaches = Vec::new();
    for &id in &members {
        let name = names[id];
        let Some((_, allowed)) = MAY_DEPEND.iter().find(|(n, _)| *n == name) else {
            breaches.push(format!(
                "crate {name} has no row in xtask/src/tidy.rs: who may it depend on?"
            ));
            continue;
        };
        for dep in normal[id].iter().filter(|d| members.contains(*d)) {
            if !allowed.contains(&names[dep]) {
                breaches.push(format!(
                    "{name} depends on {}, which the table of edges does not allow",
                    names[dep]
                ));
            }
        }
        let reached = reach(id, &normal, &members);
        for (_, never, why) in NEVER.iter().filter(|(n, _, _)| *n == name) {
            for banned in reached.iter().map(|d| names[d]).filter(|d| never.contains(d)) {
                breaches.push(format!("{name} reaches {banned}, and must not: {why}"));
            }
        }
    }
    breaches
}

/// Dependencies that ship: neither for tests nor for build scripts.
fn shipped(node: &Node) -> Vec<&str> {
    let ships = |d: &&Dep| d.dep_kinds.iter().any(|k| k.kind.is_none());
    node.deps.iter().filter(ships).map(|d| d.pkg.as_str()).collect()
}

/// Third-party packages that a member ships with, also by way of other members.
fn reach<'a>(
    start: &'a str,
    normal: &BTreeMap<&'a str, Vec<&'a str>>,
    members: &BTreeSet<&'a str>,
) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut queue = vec![start];
    while let Some(id) = queue.pop() {
        for &dep in &normal[id] {
            if seen.insert(dep) {
                queue.push(dep);
            }
        }
    }
    seen.retain(|id| !members.contains(id));
    seen
}

fn banned(metadata: &Metadata) -> Vec<String> {
    let found = metadata
        .packages
        .iter()
        .map(|p| p.name.as_str())
        .filter(|n| BANNED.contains(n));
    found
        .map(|n| format!("{n} is in the tree: Regent has one TLS stack, rustls with ring"))
        .collect()
}

/// Every Rust source file of a crate.
fn sources(root: &Path, krate: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut queue = vec![root.join(krate).join("src")];
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                queue.push(entry?.path());
            }
        } else if path.extension().is_some_and(|e| e == "rs") && !is_generated(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Every file says in its module doc what it is for.
fn files(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut breaches = Vec::new();
    for (krate, _) in MAY_DEPEND {
        for path in sources(root, krate)? {
            if !fs::read_to_string(&path)?.trim_start().starts_with("//!") {
                let shown = path.strip_prefix(root).unwrap_or(&path).display();
                breaches.push(format!(
                    "{shown} has no module doc: what is it for, what is absent, what does it keep?"
                ));
            }
        }
    }
    Ok(breaches)
}

fn is_generated(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "gen")
}

/// Metric names stand in types/src/metrics.rs and nowhere else in what ships.
fn metric_names(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut breaches = Vec::new();
    for (krate, _) in MAY_DEPEND
        .iter()
        .filter(|(n, _)| !matches!(*n, "types" | "xtask"))
    {
        for path in sources(root, krate)?.into_iter().filter(|p| !is_test(p)) {
            let text = fs::read_to_string(&path)?;
            let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
            let names_one = |l: &&str| l.contains("\"regent_") && !l.trim_start().starts_with("//");
            for line in shipped.lines().filter(names_one) {
                let shown = path.strip_prefix(root).unwrap_or(&path).display();
                breaches.push(format!(
                    "{shown} names a metric itself, types/src/metrics.rs must: {}",
                    line.trim()
                ));
            }
        }
    }
    Ok(breaches)
}

/// `tests.rs`, or a file in a folder `tests`.
fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|c| c.as_os_str() == "tests")
}

/// What tests plant in real processes is compiled under debug assertions: a profile that people get has none.
fn planted(manifest: &toml::Table) -> Vec<String> {
    let profile = |name: &str| manifest.get("profile")?.get(name)?.get("debug-assertions");
    let asserts = ["release", "dist", "bench"].into_iter();
    let asserts = asserts.filter(|name| profile(name).is_some_and(|value| value.as_bool() != Some(false)));
    asserts
        .map(|name| format!("profile {name} has debug-assertions: packages would hold what tests plant"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_packages_has_no_debug_assertions() {
        for (text, expected) in [
            (
                "[profile.release]\nlto = false\n[profile.dev]\ndebug-assertions = true",
                0,
            ),
            ("[profile.release]\ndebug-assertions = false", 0),
            ("[profile.release]\ndebug-assertions = true", 1),
            (
                "[profile.dist]\ninherits = \"release\"\ndebug-assertions = true",
                1,
            ),
        ] {
            assert_eq!(planted(&text.parse().unwrap()).len(), expected, "{text}");
        }
    }
}
