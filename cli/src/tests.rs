//! The command line as a whole: what it accepts, what its exit codes mean.

use clap::{CommandFactory as _, Parser as _};
use types::{
    Reason,
    reason::{Category, Refusal},
};

use crate::{args::Cli, error::Failure, exit::Exit, output, usage};

#[test]
fn the_arguments_hold_together() {
    Cli::command().debug_assert();
}

fn check_parse(line: &str, accepted: bool) {
    let outcome = Cli::try_parse_from(line.split_whitespace());
    assert_eq!(
        outcome.is_ok(),
        accepted,
        "{line}: {:?}",
        outcome.err().map(|e| e.to_string())
    );
}

#[test]
fn lines_are_accepted_or_refused() {
    check_parse("regent dev --regions 3", true);
    check_parse("regent dev --regions 0", false);
    check_parse("regent primary pause --for 168h", true);
    check_parse("regent primary pause --for 169h", false);
    check_parse("regent model list --timeout 1ms", true);
    check_parse("regent model list --timeout 0s", false);
    check_parse(
        "regent model push DIR --name fraud.scorer --wait-copies all",
        true,
    );
    check_parse("regent model push DIR --name fraud.scorer --wait-copies 2", true);
    check_parse("regent model push DIR --name fraud.scorer --wait-copies 0", false);
    check_parse("regent model push DIR --name Fraud", false);
    check_parse("regent model push DIR", false);
    check_parse("regent model unalias fraud.scorer candidate --etag 7", true);
    check_parse("regent model unalias fraud.scorer@3 candidate", false);
    check_parse(
        "regent model alias fraud.scorer@3 champion --etag 7 --validate-only",
        true,
    );
    check_parse(
        "regent model list --stale --max-staleness 5s --min-revision 9",
        true,
    );
    check_parse("regent model list --max-staleness 0s", false);
    check_parse(
        "regent primary resume --expect-epoch g1.e7 --etag 9 --validate-only",
        true,
    );
    check_parse("regent primary pause --expect-epoch 7", false);
    check_parse(
        "regent model report m@1 --metric accuracy=0.93 --metric loss=-1",
        true,
    );
    check_parse(
        "regent model report m@1 --remove loss --etag 9 --validate-only",
        true,
    );
    check_parse("regent model report m@1", false);
    check_parse("regent model report m --metric accuracy=0.93", false);
    check_parse("regent model report m@1 --metric accuracy=0.1234567", false);
    check_parse(
        "regent model push d --name m --dataset s3://lake/clicks/date=2026-03-01",
        true,
    );
    check_parse("regent model push d --name m --dataset -clicks", false);
    check_parse(
        "regent model dependents clicks@2026-03 --where state!=DELETED",
        true,
    );
    check_parse(
        "regent service register store --node a1 --port 7000 --address 10.0.0.7 --protocol grpc --label zone=a",
        true,
    );
    check_parse(
        "regent service register store --node a1 --port 0 --address 10.0.0.7",
        false,
    );
    check_parse(
        "regent service register store.v1 --node a1 --port 7 --address 10.0.0.7",
        false,
    );
    check_parse(
        "regent service register store --node a1 --port 7 --address h --protocol smtp",
        false,
    );
    check_parse("regent service deregister store/a1:7000 --etag 9", true);
    check_parse("regent service get store/a1", false);
    check_parse("regent service list store --where health=HEALTHY --stale", true);
    check_parse("regent model history m --where alias=champion", true);
    check_parse("regent region history eu --where to=UNHEALTHY --stale", true);
    check_parse("regent node history --where to=DOWN", true);
    check_parse(
        "regent preferences set output=json page=50 --remove colour --etag 9",
        true,
    );
    check_parse("regent cluster prefer us-west-2 eu-west-1", true);
    check_parse("regent cluster prefer --none --etag 9", true);
    check_parse("regent cluster transfer-leader --to c2 --validate-only", true);
    check_parse("regent cluster transfer-leader c2", false);
    check_parse("regent preferences set", false);
    // Without a word what was preferred would be gone.
    check_parse("regent cluster prefer", false);
    check_parse("regent cluster prefer us-west-2 --none", false);
    check_parse("regent preferences set output", false);
    check_parse("regent preferences get --user eve", true);
    check_parse("regent experiment create m march --arm 1=90 --arm 2=10", true);
    check_parse("regent experiment create m march --arm 1", false);
    check_parse("regent experiment create m march", false);
    check_parse("regent experiment create m March --arm 1=90", false);
    check_parse(
        "regent experiment set-split m march --arm 1=50 --arm 2=50 --etag 9",
        true,
    );
    check_parse("regent experiment set-split m march --arm 1=50 --arm 2=50", false);
    check_parse(
        "regent experiment report m march --arm 2 --metric p95_ms=31.5 --metric paid=-1",
        true,
    );
    check_parse(
        "regent experiment report m march --arm 2 --metric paid=0.1234567",
        false,
    );
    check_parse("regent experiment report m march --arm 2 --metric paid", false);
    check_parse(
        "regent experiment assign m march user-1 --region eu --stale",
        true,
    );
    check_parse(
        "regent switchover primaries/global --to eu --validate-only --wait",
        false,
    );
    check_parse(
        "regent watch --kind role --kind plan --model fraud.* --region eu-* --role primaries/*",
        true,
    );
    check_parse("regent watch --kind roles", false);
    check_parse("regent infer m --text a", true);
    check_parse("regent infer m --text a --prompt b", false);
    check_parse("regent infer m", false);
    check_parse(
        "regent switchover primaries/global --to eu-west-1 --expect-epoch g1.e7 --output json",
        true,
    );
    check_parse("regent switchover global --to eu-west-1", false);
    check_parse(
        "regent region create sa --provider gcp --cost-tag team=search --cost-tag env=test",
        true,
    );
    check_parse("regent region create sa --cost-tag team", false);
    check_parse("regent region create South", false);
    check_parse("regent region update sa", false);
    check_parse("regent region update sa --without-cost-tag team --etag 9", true);
    check_parse("regent region delete sa --validate-only", true);
    check_parse("regent node get a1 --stale", true);
    check_parse("regent node list --region sa --zone sa-1a", true);
    check_parse("regent node list --zone SA_1", false);
    check_parse("regent node remove a1 --etag 9", true);
    check_parse("regent region list --timeout 3", false);
    check_parse("regent --timeout 3s region list", true);
}

/// Scripts branch on these: a change here is a change of contract.
#[test]
fn exit_codes_follow_the_category() {
    for reason in Reason::ALL {
        let exit = Exit::of(*reason);
        let allowed: &[Exit] = match reason.category() {
            // What was made is not there any more.
            Category::NotFound if *reason == Reason::RecordGone => &[Exit::Findings],
            Category::NotFound => &[Exit::NotFound],
            Category::AlreadyExists | Category::Aborted | Category::OutOfRange => &[Exit::Precondition],
            Category::FailedPrecondition => &[Exit::Precondition, Exit::Safety, Exit::Error],
            Category::InvalidArgument => &[Exit::Usage],
            Category::PermissionDenied => &[Exit::Denied],
            Category::ResourceExhausted => &[Exit::Unavailable, Exit::Error],
            Category::Unavailable => &[Exit::Unavailable],
            Category::Unknown => &[Exit::Unknown],
            Category::Internal => &[Exit::Error],
        };
        assert!(allowed.contains(&exit), "{reason}: {exit:?}");
    }
    assert_eq!(Exit::of(Reason::StaleEpoch) as u8, 4);
    assert_eq!(Exit::of(Reason::TargetNotQualified) as u8, 5);
    assert_eq!(Exit::of(Reason::NoQuorum) as u8, 6);
}

#[test]
fn a_failure_reads_the_same_for_people_and_programs() {
    let refusal = Refusal::new(Reason::StaleEpoch, "epoch g1.e6 is below g1.e7").with("shown", "g1.e6");
    let failure = Failure::from(refusal).remedy("read the role again");
    assert_eq!(
        failure.to_string(),
        "epoch g1.e6 is below g1.e7 (STALE_EPOCH)\n  read the role again"
    );
    let document = failure.to_json();
    assert_eq!(document["error"]["exit_code"], 4);
    assert_eq!(document["error"]["reason"], "STALE_EPOCH");
    assert_eq!(document["error"]["operands"]["shown"], "g1.e6");
}

/// Both name a request id; only one of them is to be asked again under it.
#[test]
fn a_request_id_is_asked_again_only_where_the_outcome_is_unknown() {
    let of = |reason| Failure::from(Refusal::new(reason, "no").with("request_id", "0198"));
    let unknown = of(Reason::OutcomeUnknown);
    assert!(unknown.remedy.contains("--request-id 0198"), "{unknown}");
    assert!(
        unknown
            .or_ask_again("read it")
            .remedy
            .starts_with("read it (it was request 0198)")
    );
    let reused = of(Reason::RequestReused);
    assert!(reused.remedy.contains("leave --request-id out"), "{reused}");
    assert!(!reused.or_ask_again("read it").remedy.contains("read it"));
}

#[test]
fn a_failure_without_a_refusal_has_the_reason_of_its_code() {
    let document = Failure::usage("no").to_json();
    assert_eq!(document["error"]["reason"], "INVALID_ARGUMENT");
    assert_eq!(document["error"]["operands"], serde_json::json!({}));
    let all = [
        Exit::Usage,
        Exit::NotFound,
        Exit::Unavailable,
        Exit::Denied,
        Exit::Unknown,
    ];
    for exit in all {
        let reason = exit.usual_reason().unwrap();
        assert_eq!(Exit::of(reason), exit, "{reason}");
    }
}

#[test]
fn tables_line_up_and_end_without_blanks() {
    let text = output::table(
        ["A", "LONG"],
        [
            ["x".to_owned(), "y".to_owned()],
            ["xyz".to_owned(), String::new()],
        ],
    );
    assert_eq!(text, "A    LONG\nx    y\nxyz");
}

#[test]
fn ages_never_jump_between_units() {
    let shown = [0, 59, 119, 120, 718, 721, 7199, 7200, 172_799, 172_800].map(output::age);
    let expected = ["0s", "59s", "119s", "2m", "11m", "12m", "119m", "2h", "47h", "2d"];
    assert_eq!(shown, expected);
}

#[test]
fn sizes_have_one_decimal_from_kib_on() {
    let shown = [0, 1023, 1024, 1 << 20, 50 << 20, (50 << 20) + 40_000, 3 << 39]
        .map(|n| output::size(types::ByteCount(n)));
    let expected = [
        "0 B", "1023 B", "1.0 KiB", "1.0 MiB", "50.0 MiB", "50.0 MiB", "1.5 TiB",
    ];
    assert_eq!(shown, expected);
}

fn check_wants_json(line: &str, env: Option<&str>, expected: bool) {
    let args = line.split_whitespace().map(Into::into);
    assert_eq!(
        usage::wants_json(args, env.map(Into::into)),
        expected,
        "{line} {env:?}"
    );
}

#[test]
fn who_reads_is_known_although_the_line_cannot_be_read() {
    check_wants_json("regoin list", None, false);
    for line in [
        "regoin --output json",
        "--output=json x",
        "-o json x",
        "x -ojson",
        "x -o=json",
    ] {
        check_wants_json(line, None, true);
        check_wants_json(line, Some("table"), true);
    }
    check_wants_json("x", Some("json"), true);
    check_wants_json("x --output table", Some("json"), false);
    check_wants_json("x -- --output json", None, false);
}

#[test]
fn a_mistake_is_one_line_with_what_helps() {
    let failure = |line: &str| usage::failure(&Cli::try_parse_from(line.split_whitespace()).unwrap_err());
    let unknown = failure("regent regoin");
    assert_eq!(unknown.message, "unrecognized subcommand 'regoin'");
    assert!(unknown.remedy.contains("'region'"), "{}", unknown.remedy);
    let missing = failure("regent");
    assert_eq!(
        (missing.message.as_str(), missing.remedy.as_str()),
        ("a subcommand is missing", "try --help")
    );
}
