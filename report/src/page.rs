//! The document: HTML with one SVG, its style within it.

use std::{fmt::Write as _, time::Duration};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    Lane, Outcome, Page, Table, Timeline,
    picture::{self, GUTTER, WIDTH},
};

/// Nothing is loaded and nothing runs, whatever stands in a label.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Heights in units of the picture.
const HEADING: f64 = 20.0;
const BAR: f64 = 16.0;
const LANE: f64 = 11.0;
/// From the upper edge of a bar down to the line that its text stands on.
const TEXT: f64 = 11.5;
const COUNTS: f64 = 60.0;
const AXIS: f64 = 18.0;
/// Colours that bars have.
const COLOURS: u64 = 8;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#656d76;--paper:#fff;--line:#d8dee4;--good:#1a7f37;--bad:#cf222e;--dim:#9a6700;
--fault:#cf222e;--b0:#0969da;--b1:#8250df;--b2:#1a7f37;--b3:#bc4c00;--b4:#bf3989;--b5:#1b7c83;--b6:#9a6700;--b7:#57606a}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#8d96a0;--paper:#0d1117;--line:#30363d;--good:#3fb950;--bad:#ff7b72;
--dim:#d29922;--fault:#ff7b72;--b0:#1f6feb;--b1:#8957e5;--b2:#238636;--b3:#bd561d;--b4:#bf4b8a;--b5:#1b7c83;--b6:#9e6a03;--b7:#6e7681}}
body{margin:2rem auto;max-width:78rem;padding:0 1rem;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
a{color:inherit}h1{margin:0;font-size:1.5rem}h2{margin:2rem 0 .5rem;font-size:1.1rem}code{font-size:.85em;overflow-wrap:anywhere}
.verdict{display:inline-block;padding:0 .6em;border-radius:1em;color:#fff;font-weight:600;font-size:1rem}
.holds{background:#1a7f37}.broken{background:#cf222e}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(12rem,1fr));gap:.6rem 1.5rem;margin:1.2rem 0}
dt{color:var(--soft);font-size:.85em}dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.2rem 1.2rem .2rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line)}.wide{overflow-x:auto}
svg{width:100%;min-width:60rem;height:auto;font:10px system-ui,sans-serif}
svg text{fill:var(--ink)}svg .soft{fill:var(--soft)}svg .head{font-weight:600;font-size:11px}svg .in{fill:#fff}
.tick{stroke:var(--line)}.behind{fill:var(--fault);opacity:.1}.fault{fill:var(--fault);opacity:.75}
.accepted{fill:var(--good)}.refused{fill:var(--dim)}.unknown{fill:var(--bad)}
.b0{fill:var(--b0)}.b1{fill:var(--b1)}.b2{fill:var(--b2)}.b3{fill:var(--b3)}.b4{fill:var(--b4)}.b5{fill:var(--b5)}.b6{fill:var(--b6)}.b7{fill:var(--b7)}
.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}.key.accepted{background:var(--good)}.key.refused{background:var(--dim)}
.key.unknown{background:var(--bad)}.key.fault{background:var(--fault)}
";

pub(crate) fn document(page: &Page) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (page.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (page.title) " " (verdict(page)) }
                @if !page.command.is_empty() {
                    p { code { (page.command) } }
                }
                (findings(page))
                dl {
                    @for fact in &page.facts {
                        div { dt { (fact.name) } dd { (fact.value) } }
                    }
                }
                @if let Some(timeline) = &page.timeline {
                    h2 { "What happened when" }
                    (legend())
                    div.wide { (drawn(timeline)) }
                }
                @for one in &page.tables { (table(one)) }
            }
        }
    }
}

fn verdict(page: &Page) -> Markup {
    match page.holds {
        true => html! { span.verdict.holds { "every promise was kept" } },
        false => html! { span.verdict.broken { "a promise was broken" } },
    }
}

fn findings(page: &Page) -> Markup {
    html! {
        @if !page.findings.is_empty() {
            h2 { "What was found" }
            ol { @for found in &page.findings { li { (found) } } }
        }
    }
}

fn legend() -> Markup {
    html! {
        p {
            "Time runs from left to right. Operations: "
            @for outcome in Outcome::ALL {
                span.key.(outcome.as_str()) {} (outcome.as_str())
            }
            span.key.fault {} "while something was broken on purpose"
        }
    }
}

fn table(table: &Table) -> Markup {
    html! {
        h2 { (table.title) }
        div.wide {
            table {
                thead { tr { @for heading in &table.headings { th { (heading) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for cell in row {
                                td {
                                    @match &cell.link {
                                        Some(link) => { a href=(link) { (cell.text) } }
                                        None => { (cell.text) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The picture, part by part from top to bottom.
struct Drawing<'a> {
    timeline: &'a Timeline,
    parts: Vec<Markup>,
    /// Where the next part begins.
    y: f64,
}

fn drawn(timeline: &Timeline) -> Markup {
    let mut drawing = Drawing {
        timeline,
        parts: Vec::new(),
        y: 0.0,
    };
    drawing.faults();
    drawing.counts();
    for group in &timeline.groups {
        drawing.heading(&group.name);
        for lane in &group.lanes {
            drawing.lane(lane);
        }
    }
    drawing.axis()
}

impl Drawing<'_> {
    fn length(&self) -> Duration {
        self.timeline.length
    }

    fn heading(&mut self, name: &str) {
        let y = self.y + HEADING - 6.0;
        self.parts
            .push(html! { text.head x="0" y=(number(y)) { (name) } });
        self.y += HEADING;
    }

    fn name(&self, name: &str, height: f64) -> Markup {
        html! { text.soft x=(number(GUTTER - 6.0)) y=(number(self.y + height / 2.0 + 3.5)) text-anchor="end" { (name) } }
    }

    fn faults(&mut self) {
        if self.timeline.faults.is_empty() {
            return;
        }
        self.heading("Faults");
        let mut bottom = self.y;
        for (row, fault) in picture::rows(&self.timeline.faults, self.timeline.length) {
            let y = self.y + BAR * f64::from(u32::try_from(row).unwrap_or(0));
            bottom = bottom.max(y + BAR);
            for bar in picture::bars(std::slice::from_ref(fault), self.timeline.length) {
                self.parts.push(bar_at(&bar, y, "fault"));
                if bar.text.is_none() {
                    let x = number(GUTTER + bar.x + bar.width + 3.0);
                    self.parts
                        .push(html! { text x=(x) y=(number(y + TEXT)) { (fault.label) } });
                }
            }
        }
        self.y = bottom + 2.0;
    }

    /// How many operations ended when, the accepted ones at the bottom.
    fn counts(&mut self) {
        let counts = picture::counts(self.timeline);
        if counts.most == 0 {
            return;
        }
        self.heading("Operations");
        let (bottom, width) = (self.y + COUNTS, picture::width_of_count());
        let height = |count: u32| f64::from(count) / f64::from(counts.most) * COUNTS;
        let mut below = vec![0.0; counts.all.len()];
        for outcome in Outcome::ALL {
            let mut path = String::new();
            for (n, (count, below)) in counts.all.iter().zip(&mut below).enumerate() {
                let high = height(count.of(outcome));
                if high > 0.0 {
                    let left = GUTTER + width * f64::from(u32::try_from(n).unwrap_or(0));
                    rectangle(&mut path, left, bottom - *below - high, width - 0.4, high);
                    *below += high;
                }
            }
            if !path.is_empty() {
                self.parts.push(html! { path.(outcome.as_str()) d=(path) {} });
            }
        }
        let interval = self.length().as_secs_f64() * width / WIDTH;
        let per_second = f64::from(counts.most) / interval.max(f64::EPSILON);
        let label = format!("up to {per_second:.0} a second");
        self.parts.push(self.name(&label, COUNTS));
        self.y = bottom + 4.0;
    }

    fn lane(&mut self, lane: &Lane) {
        let height = if lane.spans.is_empty() { LANE } else { BAR };
        self.parts.push(self.name(&lane.name, height));
        for bar in picture::bars(&lane.spans, self.length()) {
            let colour = format!("b{}", bar.span.colour % COLOURS);
            self.parts.push(bar_at(&bar, self.y, &colour));
        }
        for outcome in Outcome::ALL {
            let mut path = String::new();
            // What was accepted stands below what was not, and can be told from it without its colour.
            let (above, high) = match outcome {
                Outcome::Accepted => (height / 2.0, height / 2.0 - 1.0),
                Outcome::Refused => (1.0, height / 2.0 - 2.0),
                Outcome::Unknown => (1.0, height - 2.0),
            };
            for (left, width) in picture::strokes(&lane.marks, outcome, self.length()) {
                rectangle(&mut path, GUTTER + left, self.y + above, width, high);
            }
            if !path.is_empty() {
                self.parts.push(html! { path.(outcome.as_str()) d=(path) {} });
            }
        }
        self.y += height;
    }

    /// The end: the axis below all, and behind all what was done.
    fn axis(self) -> Markup {
        let (length, bottom) = (self.length(), self.y + 2.0);
        let ticks: Vec<_> = picture::ticks(length)
            .into_iter()
            .map(|at| (number(GUTTER + picture::x(at, length)), seconds(at)))
            .collect();
        let view = format!("0 0 {} {}", GUTTER + WIDTH + 20.0, number(bottom + AXIS));
        html! {
            svg role="img" aria-label="timeline" viewBox=(view) xmlns="http://www.w3.org/2000/svg" {
                @for bar in picture::bars(&self.timeline.faults, length) {
                    rect.behind x=(number(GUTTER + bar.x)) y="0" width=(number(bar.width)) height=(number(bottom)) {}
                }
                @for (x, _) in &ticks {
                    line.tick x1=(x) x2=(x) y1="0" y2=(number(bottom)) {}
                }
                @for part in &self.parts { (part) }
                @for (x, text) in &ticks {
                    text.soft x=(x) y=(number(bottom + AXIS - 5.0)) text-anchor="middle" { (text) }
                }
            }
        }
    }
}

fn bar_at(bar: &picture::Bar<'_>, y: f64, class: &str) -> Markup {
    let span = bar.span;
    let told = format!(
        "{} ({} to {})",
        span.label,
        seconds(span.from),
        seconds(span.until)
    );
    html! {
        g {
            title { (told) }
            rect.(class) x=(number(GUTTER + bar.x)) y=(number(y + 1.0)) width=(number(bar.width)) height=(number(BAR - 2.0)) rx="2" {}
            @if let Some(text) = bar.text {
                text.in x=(number(GUTTER + bar.x + 3.0)) y=(number(y + TEXT)) { (text) }
            }
        }
    }
}

fn rectangle(path: &mut String, x: f64, y: f64, width: f64, height: f64) {
    let (x, y, width, height) = (number(x), number(y), number(width), number(height));
    // A string takes everything.
    let _ = write!(path, "M{x},{y}h{width}v{height}h-{width}z");
}

fn number(of: f64) -> String {
    let text = format!("{of:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn seconds(of: Duration) -> String {
    format!("{} s", number(of.as_secs_f64()))
}
