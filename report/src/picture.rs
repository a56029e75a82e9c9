//! Where everything of a timeline lies, in units of the picture; no markup.
//!
//! Operations are many and a line has few places: those of one outcome that lie on each other are one stroke, so that a picture has a
//! size that does not grow with the run. A stroke is never so short that it cannot be seen.

use std::time::Duration;

use crate::{Mark, Outcome, Span, Timeline};

/// Of the names before the lanes.
pub(crate) const GUTTER: f64 = 150.0;
/// Of the axis.
pub(crate) const WIDTH: f64 = 1_050.0;
/// What can still be seen.
const LEAST: f64 = 0.8;
/// Intervals in which accepted operations are counted, along the axis.
const COUNTED: usize = 210;
/// Ticks of the axis, at most.
const TICKS: u32 = 12;
/// Of a letter, about.
const LETTER: f64 = 5.6;

/// From the left edge of the axis.
pub(crate) fn x(at: Duration, length: Duration) -> f64 {
    if length.is_zero() {
        return 0.0;
    }
    (at.as_secs_f64() / length.as_secs_f64()).clamp(0.0, 1.0) * WIDTH
}

/// Where the axis says how late it is: whole seconds, or tenths of a short run.
pub(crate) fn ticks(length: Duration) -> Vec<Duration> {
    let steps = [100, 200, 500].into_iter();
    let steps = steps.chain((0..6).flat_map(|power| [1, 2, 5].map(|n| n * 1_000 * 10_u64.pow(power))));
    let step = steps
        .map(Duration::from_millis)
        .find(|step| *step * TICKS >= length)
        .unwrap_or_else(|| length.max(Duration::from_millis(1)));
    (0..=TICKS)
        .map(|n| step * n)
        .take_while(|at| *at <= length)
        .collect()
}

/// One bar: its place and what stands in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar<'a> {
    pub(crate) x: f64,
    pub(crate) width: f64,
    /// None where there is no room for it.
    pub(crate) text: Option<&'a str>,
    pub(crate) span: &'a Span,
}

/// How much room a text takes.
fn room(text: &str) -> f64 {
    let letters = text.chars().count();
    f64::from(u32::try_from(letters).unwrap_or(u32::MAX)) * LETTER + 6.0
}

/// In which row each of these stands, with its text in it or behind it, so that none covers another; in the order of their
/// beginnings.
pub(crate) fn rows(spans: &[Span], length: Duration) -> Vec<(usize, &Span)> {
    let mut spans: Vec<_> = spans.iter().collect();
    spans.sort_by_key(|span| span.from);
    let mut taken: Vec<f64> = Vec::new();
    let mut rows = Vec::with_capacity(spans.len());
    for span in spans {
        let (from, until) = (x(span.from, length), x(span.until, length));
        let row = taken.iter().position(|taken| *taken <= from);
        let row = row.unwrap_or_else(|| {
            taken.push(0.0);
            taken.len() - 1
        });
        // A text that is too long for its bar stands behind it.
        let text = room(&span.label);
        taken[row] = if text <= until - from {
            until
        } else {
            until.max(from + LEAST) + text
        };
        rows.push((row, span));
    }
    rows
}

/// The bars of a lane.
pub(crate) fn bars(spans: &[Span], length: Duration) -> impl Iterator<Item = Bar<'_>> {
    spans.iter().map(move |span| {
        let from = x(span.from, length);
        let width = (x(span.until, length) - from).max(LEAST);
        Bar {
            x: from,
            width,
            text: (room(&span.label) <= width).then_some(span.label.as_str()),
            span,
        }
    })
}

/// Where operations of one outcome lie: (from, width), from left to right, none on another.
pub(crate) fn strokes(marks: &[Mark], outcome: Outcome, length: Duration) -> Vec<(f64, f64)> {
    let of = marks.iter().filter(|mark| mark.outcome == outcome);
    let mut ends: Vec<(f64, f64)> = of
        .map(|mark| {
            let from = x(mark.from, length);
            (from, x(mark.until, length).max(from + LEAST))
        })
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut strokes: Vec<(f64, f64)> = Vec::new();
    for (from, until) in ends {
        match strokes.last_mut() {
            Some((_, last)) if from <= *last => *last = last.max(until),
            _ => strokes.push((from, until)),
        }
    }
    strokes
        .iter()
        .map(|(from, until)| (*from, until - from))
        .collect()
}

/// How many operations ended in an interval, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) accepted: u32,
    pub(crate) refused: u32,
    pub(crate) unknown: u32,
}

impl Count {
    pub(crate) const fn of(self, outcome: Outcome) -> u32 {
        match outcome {
            Outcome::Accepted => self.accepted,
            Outcome::Refused => self.refused,
            Outcome::Unknown => self.unknown,
        }
    }

    const fn all(self) -> u32 {
        self.accepted + self.refused + self.unknown
    }
}

/// Operations of all lanes over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Of each interval, from left to right.
    pub(crate) all: Vec<Count>,
    /// The most of any.
    pub(crate) most: u32,
}

/// Counts them, each where it ended; none of a run without length.
pub(crate) fn counts(timeline: &Timeline) -> Counts {
    let mut all = vec![Count::default(); COUNTED];
    if timeline.length.is_zero() {
        all.clear();
    }
    let lanes = timeline.groups.iter().flat_map(|group| &group.lanes);
    for mark in lanes.flat_map(|lane| &lane.marks) {
        let place = x(mark.until, timeline.length) / width_of_count();
        #[expect(clippy::cast_possible_truncation, reason = "it lies within the picture")]
        let place = (place as usize).min(COUNTED - 1);
        if let Some(count) = all.get_mut(place) {
            match mark.outcome {
                Outcome::Accepted => count.accepted += 1,
                Outcome::Refused => count.refused += 1,
                Outcome::Unknown => count.unknown += 1,
            }
        }
    }
    let most = all.iter().map(|count| count.all()).max().unwrap_or(0);
    Counts { all, most }
}

/// Of one interval in which operations are counted.
pub(crate) fn width_of_count() -> f64 {
    WIDTH / f64::from(u32::try_from(COUNTED).unwrap_or(u32::MAX))
}
