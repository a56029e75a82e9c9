//! What the answers come to, case by case.

use std::time::Duration;

use client::calls::LeadershipTransfer;
use proto::v1::{GetStatusResponse, Member, ResponseHeader};
use types::{Reason, reason::Refusal};

use super::{
    elections, levels, show,
    verdict::{Asked, Round},
};
use crate::exit::Exit;

fn endpoint(node: &str) -> String {
    format!("https://{node}:1")
}

/// `us/a`, `eu/b` and `ap/c`; nobody who answers knows more of them.
fn members() -> Vec<Member> {
    let member = |(region, node): (&str, &str)| Member {
        node: node.to_owned(),
        region: region.to_owned(),
        api_endpoint: endpoint(node),
        voter: true,
        ..Member::default()
    };
    [("us", "a"), ("eu", "b"), ("ap", "c")].map(member).into()
}

/// One line: `a -` does not answer; `a leads 7 yes` leads term 7 with a quorum; `b a 7 yes 90` follows `a`, heard it 90 ms
/// ago and takes that for a quorum; `b ? 7 no` knows no leader.
fn asked(line: &str) -> Asked {
    let words: Vec<&str> = line.split(' ').collect();
    let endpoint_of_node = endpoint(words[0]);
    let [node, leader, term, quorum, ..] = words[..] else {
        return Asked {
            endpoint: endpoint_of_node,
            answer: Err(Refusal::new(
                Reason::Unreachable,
                format!("{} is silent", words[0]),
            )),
        };
    };
    let leader = match leader {
        "?" => "",
        "leads" => node,
        other => other,
    };
    let silent: Option<u64> = words.get(4).map(|millis| millis.parse().unwrap());
    let status = GetStatusResponse {
        node: node.to_owned(),
        term: term.parse().unwrap(),
        leader_node: leader.to_owned(),
        leader_api_endpoint: if leader.is_empty() {
            String::new()
        } else {
            endpoint(leader)
        },
        has_quorum: quorum == "yes",
        members: members(),
        leader_silent_millis: silent,
        election_due_millis: silent.map(|silent| 800_u64.saturating_sub(silent)),
        ..GetStatusResponse::default()
    };
    Asked {
        endpoint: endpoint_of_node,
        answer: Ok(status),
    }
}

fn round(lines: &str, after_millis: u64) -> Round {
    Round {
        asked: lines.split(" | ").map(asked).collect(),
        after: Duration::from_millis(after_millis),
    }
}

/// `quorum`, or the message of the failure; before it `open: ` where asking again can tell more.
fn check(lines: &str, after_millis: u64, expected: &str) {
    let round = round(lines, after_millis);
    let failure = round.failure();
    if let Some(failure) = &failure {
        assert_eq!(failure.exit, Exit::of(Reason::NoQuorum), "{lines}");
        assert!(!failure.remedy.is_empty(), "{lines}");
        let is_silence = failure.message.starts_with("no coordinator answers");
        let reason = if is_silence {
            Reason::Unreachable
        } else {
            Reason::NoQuorum
        };
        assert_eq!(failure.reason, Some(reason), "{lines}");
    }
    let open = if round.is_open() { "open: " } else { "" };
    let verdict = failure.map_or_else(|| "quorum".to_owned(), |f| f.message);
    assert_eq!(
        format!("{open}{verdict}"),
        expected,
        "{lines} after {after_millis} ms"
    );
}

#[test]
fn a_quorum_is_said_by_whoever_has_heard_its_leader() {
    check("a leads 7 yes | b a 7 yes 90 | c a 7 yes 20", 0, "quorum");
    check("a leads 7 yes | b a 7 yes 90 | c -", 0, "quorum");
    check("a leads 7 yes | b - | c -", 0, "quorum");
    // The leader was not asked.
    check("b a 7 yes 90", 0, "quorum");
    check(
        "b a 7 no 900",
        0,
        "open: no coordinator has a quorum: 1 of 1 answer",
    );
}

/// It hears its leader, and is too few to make a majority with it.
#[test]
fn a_leader_that_answers_speaks_for_itself() {
    let too_few = "no coordinator has a quorum: 2 of 4 answer";
    check("a leads 7 no | b a 7 yes 90 | c - | d -", 0, too_few);
    // It has stepped down since.
    check("a ? 8 no | b a 7 yes 90 | c - | d -", 0, too_few);
    check("a leads 7 yes | b a 7 no 900 | c - | d -", 0, "quorum");
    // It was elected a moment ago.
    check(
        "a leads 7 no | b a 7 yes 90 | c a 7 yes 20",
        0,
        "open: no coordinator has a quorum: 3 of 3 answer",
    );
    // It was elected after it answered.
    check("a ? 6 no | b a 7 yes 90 | c a 7 yes 20", 0, "quorum");
}

/// A follower repeats what it heard of a leader that has just gone; and it is not called a liar, but asked again.
#[test]
fn a_leader_that_does_not_answer_is_named_and_asked_about_again() {
    let gone = "the leader us/a does not answer; an election is due within";
    check(
        "a - | b a 7 yes 90 | c a 7 yes 20",
        0,
        &format!("open: {gone} 710ms"),
    );
    check(
        "a - | b a 7 yes 190 | c a 7 yes 120",
        100,
        &format!("open: {gone} 610ms"),
    );
    check(
        "a - | b a 7 no 500 | c a 7 no 480",
        480,
        &format!("open: {gone} 300ms"),
    );
    check(
        "a - | b a 7 no 900 | c a 7 no 880",
        880,
        "open: the leader us/a does not answer; an election is due",
    );
    // One of them leads.
    check("a - | b leads 8 yes | c b 8 yes 10", 600, "quorum");
    check(
        "a - | b leads 8 no | c a 7 no 10",
        600,
        "open: no coordinator has a quorum: 2 of 3 answer",
    );
    // They hear it, and we do not.
    check("a - | b a 7 yes 90 | c a 7 yes 20", 60, "quorum");
    // A coordinator of an older release does not say when it heard.
    check(
        "a - | b a 7 yes | c a 7 yes",
        500,
        "open: the leader us/a does not answer; an election is due",
    );
}

#[test]
fn too_few_and_nobody_are_told_apart() {
    check(
        "a - | b - | c a 7 no 900",
        900,
        "no coordinator has a quorum: 1 of 3 answer",
    );
    check(
        "a leads 7 no | b - | c -",
        0,
        "no coordinator has a quorum: 1 of 3 answer",
    );
    check(
        "a - | b ? 7 no | c ? 7 no",
        0,
        "open: no leader is elected yet: 2 of 3 answer",
    );
    check(
        "a - | b ? 8 no | c a 7 no 900",
        900,
        "open: no leader is elected yet: 2 of 3 answer",
    );
    check(
        "a - | b ? 7 no | c -",
        0,
        "no coordinator has a quorum: 1 of 3 answer",
    );
    check("a - | b -", 0, "no coordinator answers: a is silent; b is silent");
    check("a -", 0, "no coordinator answers: a is silent");
    let mut nobody = round("a -", 0);
    let told = "no coordinator answers at https://a";
    nobody.asked[0].answer = Err(Refusal::new(Reason::Unreachable, told));
    assert_eq!(nobody.failure().unwrap().message, told);
    // It vouches for a leader that may just have died, and will know soon.
    check(
        "a - | b - | c a 7 yes 90",
        0,
        "open: the leader us/a does not answer; an election is due within 710ms",
    );
}

#[test]
fn one_that_does_not_answer_keeps_its_name_and_nothing_is_made_up() {
    let round = round("a - | b leads 8 yes | c b 8 yes 10", 600);
    let members = round.members();
    let row = show::row(&round.asked[0], &members);
    assert_eq!(row[..3], ["us", "a", "UNREACHABLE"].map(str::to_owned));
    let document = show::document(&round.asked[0], &members);
    assert_eq!(
        (&document["node"], &document["region"]),
        (&"a".into(), &"us".into())
    );
    let member = show::member(&members[0]);
    assert!(
        member["silent"].is_null() && member["matched_index"].is_null() && member["lag"].is_null(),
        "{member}"
    );
    let heard = Member {
        silent_millis: Some(1_500),
        matched_index: Some(0),
        lag_millis: Some(31_000),
        ..members[0].clone()
    };
    let member = show::member(&heard);
    assert_eq!(
        (&member["silent"], &member["matched_index"], &member["lag"]),
        (&"1500ms".into(), &0.into(), &"31s".into())
    );
    let cells = [&members[0], &heard].map(|m| super::members::row(m)[4..7].join(" "));
    assert_eq!(cells, ["- - -", "1500ms 0 31s"]);
    assert_eq!(show::document(&round.asked[2], &members)["leader_silent"], "10ms");
}

/// Which would read as a lost quorum, if it were found once for each coordinator.
#[cfg(feature = "server")]
#[tokio::test]
async fn a_certificate_that_is_over_is_nobodys_silence() {
    use clap::Parser as _;
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = crate::context::tests::pair(dir.path(), "own", 2020);
    let [cert, key] = [&cert, &key].map(|path| path.display());
    let file = dir.path().join("context.toml");
    let text = format!(
        "endpoints = [\"https://127.0.0.1:1\"]\n[tls]\nca_file = \"{cert}\"\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let line = ["regent", "cluster", "status", "--context", file.to_str().unwrap()];
    let cli = crate::args::Cli::try_parse_from(line).unwrap();
    let failure = super::status(&cli.shared).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{failure}");
    assert!(failure.message.contains("expired"), "{failure}");
}

/// As after a restore or a recovery, where an old coordinator came back.
#[test]
fn coordinators_of_two_clusters_are_told_apart() {
    let mut round = round("a leads 7 yes | b a 7 yes 90 | c -", 0);
    assert_eq!((round.cluster_id(), round.clusters()), (None, None));
    for (asked, id) in round.asked.iter_mut().zip(["old", "old"]) {
        belongs(asked, id);
    }
    assert_eq!(round.cluster_id(), Some("old"));
    assert_eq!(round.clusters().as_deref(), Some("cluster old"));
    belongs(&mut round.asked[1], "new");
    assert_eq!(round.cluster_id(), Some("old"), "of the one that leads");
    let told = round.clusters().unwrap();
    assert!(
        told.starts_with("these endpoints are of different clusters"),
        "{told}"
    );
    assert!(
        told.contains("https://a:1 is of cluster old\n  https://b:1 is of cluster new"),
        "{told}"
    );
}

fn belongs(asked: &mut Asked, id: &str) {
    asked.answer.as_mut().unwrap().header = Some(ResponseHeader {
        cluster_id: id.to_owned(),
        ..ResponseHeader::default()
    });
}

#[test]
fn a_state_that_is_not_believed_is_told_with_its_reason_and_by_those_who_found_it() {
    let mut all = round("a leads 7 yes | b a 7 yes 90 | c -", 0).asked;
    assert!(show::states(&all).is_empty());
    let answer =
        |asked: &mut Asked, change: &dyn Fn(&mut GetStatusResponse)| change(asked.answer.as_mut().unwrap());
    answer(&mut all[0], &|s| s.state_differs_at = vec!["b".to_owned()]);
    answer(&mut all[1], &|s| {
        s.state_suspect = Some("its state is not that of a, c".to_owned())
    });
    let lines = show::states(&all);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], "b serves nobody: its state is not that of a, c");
    assert!(
        lines[1].starts_with("b has another state than the majority"),
        "{lines:?}"
    );
    let document = show::document(&all[1], &[]);
    assert_eq!(document["state_suspect"], "its state is not that of a, c");
}

#[test]
fn who_keeps_the_feature_level_from_rising_is_named() {
    // The level that is on; what the builds of a, b and c know, `-` where it does not answer.
    let cases = [
        (
            2,
            "2 2 2",
            "feature level 2: no coordinator's build knows a higher one",
            "",
        ),
        (
            1,
            "2 1 1",
            "level 2 waits for b (its build knows levels up to 1), c (its build knows levels up to 1)",
            r#"[{"node":"b","supported_level":1},{"node":"c","supported_level":1}]"#,
        ),
        (
            1,
            "2 2 -",
            "level 2 waits for c (it does not answer here)",
            r#"[{"node":"c","supported_level":null}]"#,
        ),
        (
            1,
            "2 2 2",
            "every voter's build knows level 2, so a leader of such a build raises it",
            "",
        ),
        // As far as all can go first.
        (0, "3 2 3", "every voter's build knows level 2", ""),
        (
            2,
            "1 2 -",
            "feature level 2: no coordinator's build knows a higher one",
            "",
        ),
    ];
    for (level, builds, line, waits_for) in cases {
        let mut round = round("a leads 7 yes | b a 7 yes 90 | c a 7 yes 90", 0);
        for (asked, build) in round.asked.iter_mut().zip(builds.split(' ')) {
            match build.parse() {
                Ok(supported) => {
                    let status = asked.answer.as_mut().unwrap();
                    (status.feature_level, status.supported_level) = (level, supported);
                }
                Err(_) => asked.answer = Err(Refusal::new(Reason::Unreachable, "silent")),
            }
        }
        let levels = levels::of(&round).unwrap();
        assert!(levels.line().contains(line), "{builds}: {}", levels.line());
        let document = levels.document();
        let expected = if waits_for.is_empty() { "[]" } else { waits_for };
        assert_eq!(document["waits_for"].to_string(), expected, "{document}");
        assert_eq!(document["level"], level);
    }
    assert_eq!(levels::of(&round("a - | b - | c -", 0)), None);
    assert_eq!(
        (levels::cell(2, 2), levels::cell(1, 2)),
        ("2".to_owned(), "1 (knows 2)".to_owned())
    );
}

/// Who led and leads, and who was named; what is told, or refused.
#[test]
fn a_transfer_to_somebody_who_does_not_lead_in_the_end_is_none() {
    let check = |from: &str, leader: &str, to: &str, told: Result<&str, &str>| {
        let done = LeadershipTransfer {
            from: from.to_owned(),
            leader: leader.to_owned(),
            elected_again: from == leader && to != leader,
        };
        let leads = elections::check_leads(&done, to.parse().ok().as_ref());
        let found = leads.map(|()| elections::transfer_text(&done, false));
        match (found, told) {
            (Ok(found), Ok(told)) => assert_eq!(found, told),
            (Err(failure), Err(told)) => {
                assert_eq!(
                    (failure.exit, failure.message.as_str()),
                    (Exit::Precondition, told)
                );
                assert!(failure.remedy.contains("ask again"), "{failure}");
                assert_eq!(failure.operands["leader"], leader);
            }
            (found, _) => panic!("{from} to {to}, {leader} leads: {found:?}"),
        }
    };
    assert_eq!(elections::preference_text("c2", Some(&[])), "");
    let warned = elections::preference_text("c2", Some(&["eu".to_owned(), "us".to_owned()]));
    let who = "a voter of a region that is wanted more than that of c2";
    assert!(
        warned.starts_with(&format!("\nleader preferred in: eu, us; {who}")),
        "{warned}"
    );
    assert!(elections::preference_text("c2", None).contains("is not known"));
    check("c1", "c2", "", Ok("c2 leads now; before, c1 did"));
    check("c1", "c2", "c2", Ok("c2 leads now; before, c1 did"));
    check("c2", "c2", "c2", Ok("c2 leads already"));
    check("", "c2", "c2", Ok("c2 leads now"));
    check("c1", "c3", "c2", Err("c3 leads now, and not c2; before, c1 did"));
    check("", "c3", "c2", Err("c3 leads now, and not c2"));
    let (c1, again) = ("c1", "c1 was elected again meanwhile, and leads");
    check(c1, c1, "", Err(again));
    check(c1, c1, "c2", Err("c1 leads now, and not c2; before, c1 did"));
}
