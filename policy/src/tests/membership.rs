//! Who may be taken out, and what it costs.

use types::NodeId;

use crate::membership::{Change, Membership, Refused, Survival, Voter, Warning, decide, majority, survival};

/// `a1/us` answers and has the log; `-` behind it: silent; `~`: behind; `w`: a witness.
fn voter(text: &str) -> Voter {
    let (name, marks) = text.split_once('/').unwrap();
    let region: String = marks.chars().take_while(|c| c.is_ascii_lowercase()).collect();
    Voter {
        node: name.parse().unwrap(),
        region: region.parse().unwrap(),
        answers: !marks.contains('-'),
        caught_up: !marks.contains('~') && !marks.contains('-'),
        witness: marks.contains('!'),
    }
}

fn members(voters: &str) -> Membership {
    Membership {
        voters: voters.split_whitespace().map(voter).collect(),
        learners: ["l1".parse().unwrap()].into(),
        changing: false,
    }
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn remove(voters: &str, name: &str, accept_region_loss: bool) -> Result<Vec<Warning>, Refused> {
    let change = Change::Remove {
        node: node(name),
        accept_region_loss,
    };
    decide(&members(voters), &change)
}

fn word(answer: &Result<Vec<Warning>, Refused>) -> String {
    match answer {
        Ok(warnings) => {
            let words = warnings.iter().map(|w| match w {
                Warning::EvenVoters { voters, spare } => format!("even({voters},{spare})"),
                Warning::DiesWithRegion { region } => format!("dies({region})"),
                Warning::RegionSurvivalGivenUp { region } => format!("given-up({region})"),
            });
            let words: Vec<_> = words.collect();
            format!("ok {}", words.join(" ")).trim_end().to_owned()
        }
        Err(Refused::NoMember { .. }) => "no-member".to_owned(),
        Err(Refused::UnderWay) => "under-way".to_owned(),
        Err(Refused::LastVoter { .. }) => "last".to_owned(),
        Err(Refused::LastServing { .. }) => "last-serving".to_owned(),
        Err(Refused::NoQuorum {
            needed, answering, ..
        }) => format!("no-quorum({answering}<{needed})"),
        Err(Refused::TooFewCaughtUp {
            needed, caught_up, ..
        }) => format!("behind({caught_up}<{needed})"),
        Err(Refused::RegionSurvival { region, left, .. }) => format!("region({region},{left})"),
    }
}

#[test]
fn who_may_be_removed() {
    let table = [
        // Three in three regions: taking a living one costs region survival.
        ("a/us b/eu c/ap", "c", false, "region(eu,1)"),
        ("a/us b/eu c/ap", "c", true, "ok given-up(eu) even(2,0)"),
        // A dead one: nothing is survived now, so nothing is lost.
        ("a/us b/eu c/ap-", "c", false, "ok dies(eu) even(2,0)"),
        ("a/us b/eu c/ap-", "a", false, "no-quorum(1<2)"),
        // Its successor votes already: the guided replacement.
        ("a/us b/eu c/ap- d/ap", "c", false, "ok"),
        ("a/us b/eu c/ap- d/ap~", "c", false, "ok"),
        ("a/us b/eu~ c/ap- d/ap~", "c", false, "behind(1<2)"),
        // Five.
        ("a/us b/us c/eu d/eu e/ap", "e", false, "region(eu,2)"),
        ("a/us b/us c/eu d/eu e/ap", "a", false, "region(eu,2)"),
        ("a/us b/us c/us d/eu e/eu", "d", false, "ok dies(us) even(4,1)"),
        // Too many silent ones.
        ("a/us b/eu- c/ap- d/sa e/af", "d", false, "no-quorum(2<3)"),
        ("a/us b/eu- c/ap- d/sa e/af", "b", false, "ok dies(af) even(4,1)"),
        ("a/us b/eu- c/ap d/sa e/af", "b", false, "ok even(4,1)"),
        // Two, one, none.
        ("a/us b/us", "b", false, "ok"),
        ("a/us b/us-", "b", false, "ok"),
        ("a/us-  b/us", "b", false, "no-quorum(0<1)"),
        ("a/us", "a", false, "last"),
        ("a/us", "a", true, "last"),
        // Witnesses lead nobody.
        ("a/us b/eu! c/ap!", "a", true, "last-serving"),
        ("a/us b/eu c/ap!", "c", false, "region(eu,1)"),
        // Who does not vote, or is not there.
        ("a/us b/eu c/ap", "l1", false, "ok"),
        ("a/us b/eu c/ap", "x", false, "no-member"),
    ];
    for (voters, name, accept, expected) in table {
        let answer = remove(voters, name, accept);
        assert_eq!(word(&answer), expected, "{name} of {voters}: {answer:?}");
    }
}

#[test]
fn one_change_at_a_time() {
    let mut now = members("a/us b/eu c/ap");
    now.changing = true;
    let change = Change::Remove {
        node: node("c"),
        accept_region_loss: true,
    };
    assert_eq!(decide(&now, &change), Err(Refused::UnderWay));
}

#[test]
fn a_promotion_says_what_it_leads_to() {
    let promote = |voters: &str, name: &str, region: &str| {
        let change = Change::Promote {
            node: node(name),
            region: region.parse().unwrap(),
            witness: false,
        };
        word(&decide(&members(voters), &change))
    };
    assert_eq!(promote("a/us", "l1", "eu"), "ok dies(eu) even(2,0)");
    assert_eq!(promote("a/us b/eu", "l1", "ap"), "ok");
    assert_eq!(promote("a/us b/eu c/ap", "l1", "ap"), "ok dies(ap) even(4,1)");
    assert_eq!(promote("a/us b/eu", "x", "ap"), "no-member");
}

/// By counting, for every spread of up to five voters over three regions.
#[test]
fn a_cluster_survives_regions_exactly_where_the_rest_is_a_majority() {
    let regions = ["us", "eu", "ap"];
    for n in 1..=5_usize {
        for spread in 0..3_usize.pow(u32::try_from(n).unwrap()) {
            for silent in 0..1_usize << n {
                let voters: Vec<Voter> = (0..n)
                    .map(|i| {
                        let region = regions[spread / 3_usize.pow(u32::try_from(i).unwrap()) % 3];
                        let mark = if silent >> i & 1 == 1 { "-" } else { "" };
                        voter(&format!("v{i}/{region}{mark}"))
                    })
                    .collect();
                let lives = regions.iter().all(|r| {
                    let has_voters = voters.iter().any(|v| v.region.as_str() == *r);
                    let rest = voters.iter().filter(|v| v.answers && v.region.as_str() != *r);
                    !has_voters || rest.count() >= majority(n)
                });
                let said = survival(&voters) == Survival::AnyRegion;
                assert_eq!(said, lives, "{voters:?}");
            }
        }
    }
}

#[test]
fn a_refusal_names_its_operands() {
    for (voters, name, words) in [
        (
            "a/us b/eu c/ap",
            "c",
            ["without c", "eu lost", "1 of 2", "majority is 2"],
        ),
        (
            "a/us b/eu- c/ap- d/sa e/af",
            "d",
            ["without d", "3 of 4", "only 2", "b, c do not"],
        ),
        (
            "a/us b/eu~ c/ap- d/ap~",
            "c",
            ["without c", "2 of 3", "only 1", "b, d have not"],
        ),
    ] {
        let text = remove(voters, name, false).unwrap_err().to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} in {text}");
        }
    }
}

/// Who is silent is not called behind: nobody knows.
#[test]
fn those_that_are_behind_are_named_and_no_others() {
    let refused = remove("a/us b/eu~ c/ap d/ap- e/sa~", "c", false).unwrap_err();
    let Refused::TooFewCaughtUp {
        voters,
        needed,
        caught_up,
        behind,
        ..
    } = &refused
    else {
        panic!("{refused}");
    };
    assert_eq!((*voters, *needed, *caught_up), (4, 3, 1));
    assert_eq!(*behind, [node("b"), node("e")]);
}

#[test]
fn a_warning_names_its_operands() {
    let texts = |voters, name| {
        let warnings = remove(voters, name, true).unwrap();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        texts("a/us b/eu c/ap", "c"),
        [
            "as asked, the cluster no longer survives the loss of any one region: without eu the rest of the voters is no majority",
            "2 voters are an even number: 0 of them may be lost, as of 1",
        ]
    );
    assert_eq!(
        texts("a/us b/eu c/ap-", "c")[0],
        "if region eu is lost, the rest of the voters is no majority"
    );
}
