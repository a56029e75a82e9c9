//! The benchmark as people meet it: real processes, real disks, cells of a second. Whether the figures are good is not
//! what is tested.

use std::{
    path::Path,
    process::{Command, Output},
};

use prost::Message as _;

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bench"))
}

fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", part(&output.stdout), part(&output.stderr))
}

/// Its cells are too short for its figures to mean anything; its answers are checked all the same.
#[test]
fn a_short_run_has_every_row_of_both_systems() {
    if bench::etcd::find().is_none() {
        let must = std::env::var("REGENT_REQUIRE_TOOLS").as_deref() == Ok("1");
        assert!(!must, "{}", bench::etcd::INSTALL);
        eprintln!("skipped: {}", bench::etcd::INSTALL);
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let output = bench()
        .args([
            "consensus",
            "--rounds",
            "1",
            "--seconds",
            "1",
            "--keys",
            "300",
            "--output",
            "json",
        ])
        .arg("--dir")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(matches!(output.status.code(), Some(0 | 8)), "{}", text(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = document["rows"].as_array().unwrap();
    let row = |name: &str| {
        rows.iter()
            .find(|r| r["name"] == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    for name in [
        "put_64",
        "put_256",
        "read_64",
        "put_1_p50",
        "put_64_p99",
        "put_256_p99",
        "read_64_p99",
    ] {
        assert_eq!(row(name)["goal_ratio"], 1.0, "{name}");
        assert!(row(name)["ratio"].as_f64().unwrap() > 0.0, "{name}");
        assert!(
            row(name)["peer_name"].as_str().unwrap().starts_with("etcd 3"),
            "{name}"
        );
    }
    for name in [
        "put_64_cpu",
        "read_64_throughput",
        "put_1_cpu",
        "idle_cpu",
        "resident",
    ] {
        assert_eq!(row(name)["goal_ratio"], 0.0, "{name}");
    }
    let short = rows
        .iter()
        .any(|r| r["ratio"].as_f64() < r["goal_ratio"].as_f64());
    assert_eq!(output.status.code(), Some(if short { 8 } else { 0 }));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "data is left behind"
    );
}

/// Few, and for a second: whether the limits are kept is not what is tested.
#[test]
fn short_runs_without_a_peer_have_every_row_and_clean_up() {
    let runs: [(&[&str], &[&str]); 2] = [
        (
            &["agents", "--agents", "10", "--seconds", "1"],
            &["agents_leader_cpu", "agents_log_entries"],
        ),
        (
            &["scale", "--versions", "100"],
            &[
                "scale_page_models_p99",
                "scale_page_versions_p99",
                "scale_page_replicas_p99",
                "scale_resident",
                "scale_restart",
                "scale_restart_killed",
                "scale_resident_restarted",
            ],
        ),
    ];
    for (args, expected) in runs {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let output = bench()
            .args(args)
            .args(["--output", "json", "--dir"])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(matches!(output.status.code(), Some(0 | 8)), "{}", text(&output));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = document["rows"].as_array().unwrap();
        for name in expected {
            let row = rows
                .iter()
                .find(|r| r["name"] == *name)
                .unwrap_or_else(|| panic!("{name}"));
            assert_eq!(
                (&row["goal_ratio"], &row["peer_name"]),
                (&1.0.into(), &"limit".into()),
                "{name}"
            );
        }
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "data is left behind"
        );
    }
}

#[test]
fn without_etcd_it_says_how_to_get_it() {
    let output = bench().arg("consensus").env("PATH", "/nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(
        text(&output).contains("apt-get install etcd-server"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_file_system_in_memory_is_refused() {
    let shm = Path::new("/dev/shm");
    let is_memory = bench::machine::file_system(shm).is_err();
    if !is_memory || bench::etcd::find().is_none() {
        eprintln!("skipped: no tmpfs at /dev/shm, or no etcd");
        return;
    }
    let dir = tempfile::tempdir_in(shm).unwrap();
    let output = bench()
        .args(["consensus", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("tmpfs"), "{}", text(&output));
}

/// By etcd's published field numbers and types, byte by byte.
#[test]
fn etcd_is_spoken_to_with_its_own_field_numbers() {
    use bench::etcd::pb;
    let put = pb::PutRequest {
        key: b"k".to_vec(),
        value: b"v".to_vec(),
    };
    assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x01v");
    let range = pb::RangeRequest {
        key: b"k".to_vec(),
        range_end: b"l".to_vec(),
        limit: 3,
        serializable: true,
    };
    assert_eq!(range.encode_to_vec(), b"\x0a\x01k\x12\x01l\x18\x03\x38\x01");
    let compact = pb::CompactionRequest {
        revision: 5,
        physical: true,
    };
    assert_eq!(compact.encode_to_vec(), b"\x08\x05\x10\x01");
    // A range response of etcd: header {1, 2, 7, 2}, one key with its version, count 1.
    let answer =
        b"\x0a\x08\x08\x01\x10\x02\x18\x07\x20\x02\x12\x0c\x0a\x01k\x10\x05\x18\x07\x20\x03\x2a\x01v\x20\x01";
    let answer = pb::RangeResponse::decode(&answer[..]).unwrap();
    assert_eq!(answer.header.unwrap().revision, 7);
    assert_eq!(answer.count, 1);
    let kv = &answer.kvs[0];
    assert_eq!(
        (
            &kv.key[..],
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            &kv.value[..]
        ),
        (&b"k"[..], 5, 7, 3, &b"v"[..])
    );
}
