//! Of services and preferences.

use super::{World, check};

/// The standing world at the level that knows services, and one instance.
const SERVICES: &str = "SetFeatureLevel level=9\nRegisterService key=store/a1:7000";

#[test]
fn services_are_refused_below_their_level() {
    for line in [
        "RegisterService key=store/a1:7000",
        "DeregisterService key=store/a1:7000",
    ] {
        check(
            "SetFeatureLevel level=8",
            line,
            "INVALID_ARGUMENT",
            "is 8, and this takes 9",
        );
    }
}

#[test]
fn services_refuse() {
    let many = |n: u32| (0..n).map(|n| format!("k{n}:v")).collect::<Vec<_>>().join(",");
    for (line, reason, words) in [
        ("RegisterService key=store/zz:7000", "NODE_NOT_FOUND", "zz"),
        (
            "RegisterService key=store/c1:7000",
            "ILLEGAL_TRANSITION",
            "node c1 is no agent, and cannot become the host",
        ),
        (
            "RegisterService key=store/a1:7000 run=9",
            "STALE_INCARNATION",
            "runs as",
        ),
        (
            "DeregisterService key=store/a1:7000 run=9",
            "STALE_INCARNATION",
            "runs as",
        ),
        (
            "DeregisterService key=store/a1:7001",
            "SERVICE_NOT_FOUND",
            "no service store/a1:7001",
        ),
        (
            "RegisterService key=x/a1:1 address=",
            "INVALID_ARGUMENT",
            "address: must be a host name",
        ),
        (
            "RegisterService key=x/a1:1 address=[::1]",
            "INVALID_ARGUMENT",
            "without port or brackets",
        ),
        (
            &*format!("RegisterService key=x/a1:1 address={}", "h".repeat(254)),
            "LIMIT_EXCEEDED",
            "bytes of the address may be 253 at most",
        ),
        (
            &format!("RegisterService key=x/a1:1 labels={}", many(17)),
            "LIMIT_EXCEEDED",
            "count of labels may be 16 at most, not 17",
        ),
        (
            "RegisterService key=x/a1:1 labels=:v",
            "INVALID_ARGUMENT",
            "labels: a key is empty",
        ),
        (
            &format!("RegisterService key=x/a1:1 labels=k:{}", "v".repeat(129)),
            "LIMIT_EXCEEDED",
            "bytes of label k may be 128 at most",
        ),
        (
            &format!("RegisterService key=x/a1:1 labels={}:v", "k".repeat(129)),
            "LIMIT_EXCEEDED",
            "bytes of a key of labels may be 128 at most",
        ),
    ] {
        check(SERVICES, line, reason, words);
    }
    let down = format!("{SERVICES}\nSetNodeStatus node=a1 status=DOWN");
    check(
        &down,
        "RegisterService key=store/a1:7001",
        "ILLEGAL_TRANSITION",
        "node a1 is DOWN",
    );
    // What is there may be taken away all the same.
    World::standing().lines(&format!("{down}\nDeregisterService key=store/a1:7000"));
}

#[test]
fn an_agent_speaks_of_its_own_node_and_run_alone() {
    let own = format!("{SERVICES}\nactor eu/a1");
    let (line, denied) = ("RegisterService key=store/a1:7001", "PERMISSION_DENIED");
    check(&own, line, denied, "which run of its node it is");
    check(&own, "DeregisterService key=store/a1:7000", denied, "which run");
    check(
        &own,
        "RegisterService key=store/b1:7001 run=1",
        denied,
        "the agent of node b1",
    );
    check(
        &own,
        "RegisterService key=store/a1:7001 run=2",
        "STALE_INCARNATION",
        "runs as",
    );
    for other in ["us/a1", "us/b1", "coordinator/c1"] {
        let setup = format!("{SERVICES}\nactor {other}");
        check(&setup, &format!("{line} run=1"), denied, "the agent of node a1");
    }
    World::standing().lines(&format!(
        "{own}\n{line} run=1\nDeregisterService key=store/a1:7000 run=1"
    ));
}

#[test]
fn a_node_hosts_sixty_four_instances() {
    let more = |n: u32| format!("\nRegisterService key=store/a1:{}", 7000 + n);
    let full: String = (1..64).map(more).collect();
    let full = format!("{SERVICES}{full}");
    check(
        &full,
        more(64).trim(),
        "LIMIT_EXCEEDED",
        "count of services of a node may be 64 at most, not 65",
    );
    World::standing().lines(&format!(
        "{full}\nRegisterService key=store/a1:7000 address=h\nRegisterService key=store/b1:7064"
    ));
}

#[test]
fn preferences_refuse() {
    let level = "SetFeatureLevel level=10";
    check(
        "SetFeatureLevel level=9",
        "SetPreferences of=admin set=output:json",
        "INVALID_ARGUMENT",
        "is 9, and this takes 10",
    );
    let many = |n: u32| (0..n).map(|n| format!("k{n}:v")).collect::<Vec<_>>().join(",");
    for (line, reason, words) in [
        (
            "SetPreferences of=eu/a1 set=output:json",
            "INVALID_ARGUMENT",
            "principal: is no user",
        ),
        (
            "SetPreferences of=eve set=output:json remove=output",
            "INVALID_ARGUMENT",
            "remove: output is also to be set",
        ),
        (
            "SetPreferences of=eve set=:v",
            "INVALID_ARGUMENT",
            "set: a key is empty",
        ),
        (
            &*format!("SetPreferences of=eve set={}", many(65)),
            "LIMIT_EXCEEDED",
            "count of preferences may be 64 at most, not 65",
        ),
        (
            &format!("SetPreferences of=eve set={}:v", "k".repeat(129)),
            "LIMIT_EXCEEDED",
            "bytes of a key of preferences may be 128 at most",
        ),
        (
            &format!("SetPreferences of=eve set=k:{}", "v".repeat(1025)),
            "LIMIT_EXCEEDED",
            "bytes of preference k may be 1024 at most",
        ),
    ] {
        check(level, line, reason, words);
    }
    let denied = "PERMISSION_DENIED";
    for (other, line) in [
        ("mallory", "SetPreferences of=eve set=k:v"),
        ("eve", "SetPreferences of=admin set=k:v"),
        ("eu/a1", "SetPreferences of=eve set=k:v"),
        ("coordinator/c1", "SetPreferences of=admin set=k:v"),
    ] {
        check(
            &format!("{level}\nactor {other}"),
            line,
            denied,
            "or the user admin",
        );
    }
    World::standing().lines(&format!(
        "{level}\nSetPreferences of=eve set=k:v\nactor eve\nSetPreferences of=eve remove=k"
    ));
}
