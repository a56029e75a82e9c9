//! What a page says, where things lie on it, and that nothing that is said becomes markup.

use std::time::Duration;

use proptest::prelude::*;

use crate::{
    Cell, Fact, Group, Lane, Mark, Outcome, Page, Span, Table, Timeline,
    picture::{self, WIDTH},
};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn span(label: &str, from: u64, until: u64, colour: u64) -> Span {
    Span {
        label: label.to_owned(),
        from: millis(from),
        until: millis(until),
        colour,
    }
}

fn mark(from: u64, until: u64, outcome: Outcome) -> Mark {
    Mark {
        from: millis(from),
        until: millis(until),
        outcome,
    }
}

fn page() -> Page {
    let holder = Lane {
        name: "us-west-2".to_owned(),
        spans: vec![span("g1.e4", 0, 4_000, 4), span("g1.e6", 6_000, 10_000, 6)],
        marks: Vec::new(),
    };
    let client = Lane {
        name: "client 0".to_owned(),
        spans: Vec::new(),
        marks: vec![
            mark(100, 150, Outcome::Accepted),
            mark(4_000, 4_100, Outcome::Refused),
            mark(5_000, 7_000, Outcome::Unknown),
        ],
    };
    let group = |name: &str, lane| Group {
        name: name.to_owned(),
        lanes: vec![lane],
    };
    Page {
        title: "registers under kill".to_owned(),
        command: "jepsen run --workload registers".to_owned(),
        holds: false,
        findings: vec!["an acknowledged write is lost".to_owned()],
        facts: vec![Fact::new("operations", "6,450")],
        timeline: Some(Timeline {
            length: millis(10_000),
            faults: vec![
                span("kill us-west-2", 2_000, 4_000, 0),
                span("cut", 3_000, 5_000, 0),
            ],
            groups: vec![group("Holders", holder), group("Clients", client)],
        }),
        tables: vec![Table {
            title: "Doors".to_owned(),
            headings: vec!["door".to_owned(), "refused".to_owned()],
            rows: vec![vec!["registry".into(), "12".into()]],
        }],
    }
}

#[test]
fn a_page_says_everything_and_needs_nothing_from_anywhere() {
    let html = page().to_html();
    for said in [
        "registers under kill",
        "a promise was broken",
        "an acknowledged write is lost",
        "6,450",
        "kill us-west-2 (2 s to 4 s)",
        "g1.e6 (6 s to 10 s)",
        "client 0",
        "Doors",
        "<td>12</td>",
    ] {
        assert!(html.contains(said), "{said}");
    }
    for foreign in ["<script", "src=", "href=", "url(", "@import"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert_eq!(html, page().to_html());
    let kept = Page {
        holds: true,
        findings: Vec::new(),
        ..page()
    };
    let html = kept.to_html();
    assert!(html.contains("every promise was kept") && !html.contains("What was found"));
}

#[test]
fn what_a_label_says_is_never_markup() {
    let mut page = page();
    let evil = "</title><script>alert(1)</script>\"'&";
    page.title = evil.to_owned();
    page.command = evil.to_owned();
    page.findings = vec![evil.to_owned()];
    page.facts = vec![Fact::new(evil, evil)];
    let timeline = page.timeline.as_mut().unwrap();
    timeline.faults[0].label = evil.to_owned();
    timeline.groups[0].name = evil.to_owned();
    timeline.groups[0].lanes[0].name = evil.to_owned();
    timeline.groups[0].lanes[0].spans[0].label = evil.to_owned();
    page.tables[0].rows[0][0] = Cell {
        text: evil.to_owned(),
        link: Some(evil.to_owned()),
    };
    let html = page.to_html();
    assert!(!html.contains("<script") && html.contains("&lt;script"));
}

#[test]
fn a_run_in_which_nothing_happened_has_a_picture_and_a_page_of_pages_has_none() {
    let mut page = Page::default();
    assert!(!page.to_html().contains("<svg"));
    page.timeline = Some(Timeline::default());
    assert!(page.to_html().contains("<svg"));
    let cell = Cell {
        text: "a run".to_owned(),
        link: Some("a/report.html".to_owned()),
    };
    page.tables = vec![Table {
        rows: vec![vec![cell]],
        ..Table::default()
    }];
    assert!(page.to_html().contains("<a href=\"a/report.html\">a run</a>"));
}

#[test]
fn neither_a_bar_nor_its_text_covers_another() {
    let rows = |spans: &[Span]| -> Vec<usize> {
        picture::rows(spans, millis(10_000))
            .into_iter()
            .map(|(row, _)| row)
            .collect()
    };
    // They overlap, and then not.
    assert_eq!(
        rows(&[span("cut", 2_000, 4_000, 0), span("cut", 3_000, 5_000, 0)]),
        [0, 1]
    );
    assert_eq!(
        rows(&[span("cut", 2_000, 4_000, 0), span("cut", 4_000, 5_000, 0)]),
        [0, 0]
    );
    // A text behind a bar that is too short for it.
    let name = "kill us-west-2/coordinator";
    assert_eq!(
        rows(&[span(name, 2_000, 2_010, 0), span(name, 3_000, 3_010, 0)]),
        [0, 1]
    );
    assert_eq!(
        rows(&[span(name, 5_000, 5_010, 0), span(name, 2_000, 2_010, 0)]),
        [0, 0]
    );
}

#[test]
fn the_axis_is_told_in_round_numbers() {
    let table: [(u64, &[u64]); 5] = [
        (0, &[0]),
        (1_000, &[0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1_000]),
        (2_500, &[0, 500, 1_000, 1_500, 2_000, 2_500]),
        (25_000, &[0, 5_000, 10_000, 15_000, 20_000, 25_000]),
        (
            60_000,
            &[
                0, 5_000, 10_000, 15_000, 20_000, 25_000, 30_000, 35_000, 40_000, 45_000, 50_000, 55_000,
                60_000,
            ],
        ),
    ];
    for (length, expected) in table {
        let ticks: Vec<Duration> = expected.iter().map(|at| millis(*at)).collect();
        assert_eq!(picture::ticks(millis(length)), ticks, "{length}");
    }
}

#[test]
fn a_bar_says_what_it_is_where_there_is_room() {
    let spans = [span("g1.e4", 0, 5_000, 0), span("g1.e6", 5_000, 5_010, 0)];
    let texts: Vec<_> = picture::bars(&spans, millis(10_000))
        .map(|bar| bar.text)
        .collect();
    assert_eq!(texts, [Some("g1.e4"), None]);
}

#[test]
fn operations_are_counted_where_they_ended() {
    let timeline = page().timeline.unwrap();
    let counts = picture::counts(&timeline);
    let sum = |of: Outcome| counts.all.iter().map(|count| count.of(of)).sum::<u32>();
    assert_eq!(Outcome::ALL.map(sum), [1, 1, 1]);
    let at = |of: Outcome| counts.all.iter().position(|count| count.of(of) > 0);
    assert_eq!(at(Outcome::Unknown), Some(counts.all.len() * 7 / 10));
    assert_eq!(counts.most, 1);
}

proptest! {
    /// Every operation lies under a stroke of its outcome, strokes lie beside each other within the picture, and there are no more
    /// than have room.
    #[test]
    fn strokes_show_every_operation(ops in proptest::collection::vec((0_u64..20_000, 0_u64..2_000, 0_usize..3), 0..400)) {
        let length = millis(20_000);
        let marks: Vec<Mark> = ops
            .iter()
            .map(|(from, lasts, outcome)| mark(*from, from + lasts, Outcome::ALL[*outcome]))
            .collect();
        for outcome in Outcome::ALL {
            let strokes = picture::strokes(&marks, outcome, length);
            for pair in strokes.windows(2) {
                prop_assert!(pair[0].0 + pair[0].1 < pair[1].0);
            }
            for mark in marks.iter().filter(|mark| mark.outcome == outcome) {
                let (from, until) = (picture::x(mark.from, length), picture::x(mark.until, length));
                let near = 1e-6;
                prop_assert!(strokes.iter().any(|(x, width)| *x <= from + near && until <= x + width + near));
            }
            prop_assert!(strokes.iter().all(|(x, width)| *x >= 0.0 && x + width <= WIDTH + 1.0 && *width >= 0.79));
        }
    }
}
