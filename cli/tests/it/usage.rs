//! The first thing that anybody types.

use std::time::{Duration, Instant};

use crate::harness::{regent, run, turn};

/// The bound. The fastest of some runs counts: the machine may be busy with other tests.
#[test]
fn help_comes_within_a_fifth_of_a_second() {
    let _turn = turn();
    let fastest = (0..5).map(|_| {
        let began = Instant::now();
        let ran = run(&["--help"]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("Usage: regent"), "{ran:?}");
        began.elapsed()
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < Duration::from_millis(200), "{fastest:?}");
}

#[test]
fn hidden_subcommands_stay_out_of_the_help() {
    let help = run(&["--help"]).stdout;
    assert!(
        !help.contains("zombie-writer") && !help.contains("dev-s3"),
        "{help}"
    );
}

#[test]
fn a_mistake_on_the_command_line_ends_with_2_and_nothing_on_stdout() {
    for args in [
        vec!["regoin"],
        vec!["model", "get", "Fraud!"],
        vec!["dev", "--regions", "9"],
        vec![],
    ] {
        let ran = run(&args);
        ran.failed_with(2, &["--help"]);
        assert_eq!(ran.stdout, "", "{args:?}");
        // A program gets the document that every failure has.
        let ran = run(&[&args[..], &["--output", "json"]].concat());
        ran.failed_with(2, &["--help"]);
        let error = ran.json()["error"].clone();
        assert_eq!(error["exit_code"], 2, "{args:?}");
        assert_ne!(error["message"], "", "{args:?}");
    }
}

#[test]
fn a_pause_that_outlives_everybody_who_knows_of_it_is_refused_with_the_bound() {
    for (asked, said) in [
        ("99999h", "7 days at most (168h)"),
        ("169h", "7 days at most"),
        ("0s", "no time"),
    ] {
        run(&["primary", "pause", "--for", asked]).failed_with(2, &["--for", asked, said]);
    }
}

#[test]
fn without_a_cluster_the_way_to_one_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let mut command = regent();
    command.current_dir(&empty).env("HOME", empty.path());
    let output = command
        .args(["region", "list", "--output", "json"])
        .output()
        .unwrap();
    let ran = crate::harness::Ran::of(output);
    ran.failed_with(2, &["context.toml", "regent dev"]);
    assert_eq!(ran.json()["error"]["exit_code"], 2);
}

#[test]
fn a_context_that_cannot_be_read_is_named() {
    let ran = run(&["--context", "/no/such/context.toml", "region", "list"]);
    ran.failed_with(2, &["/no/such/context.toml"]);
}
