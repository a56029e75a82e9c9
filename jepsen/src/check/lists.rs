//! Lists that only grow (the versions of a model): every append is there once, at the place that it was told, in the order in which the
//! appends were made, and every read has all that was acknowledged or seen before it began.
//!
//! The longest read is the order: with elements that are told apart, and one list at a time, the rules below are all that
//! linearizability asks for (Kingsbury and Alvaro's Elle, 2020, needs a search for cycles because its transactions span several lists).
//! An append of which nobody knows whether it happened may stand anywhere, or nowhere.

use std::collections::BTreeMap;

use crate::history::{Action, Answer, Op, What};

/// An append of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Append {
    /// Told apart from all others.
    element: u64,
    /// When it began, in microseconds.
    began: u64,
    /// How it ended.
    end: End,
}

/// How an append ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Acknowledged, then, with this place in the list, from 1.
    Done {
        /// When.
        at: u64,
        /// Its place.
        place: u64,
    },
    /// Refused: it surely did not happen.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A read of the whole list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    /// When it began, in microseconds.
    began: u64,
    /// When it ended.
    ended: u64,
    /// The places and the elements, as they came.
    elements: Vec<(u64, u64)>,
}

/// Every broken promise about the lists of a history.
pub(crate) fn check(ops: &[Op<'_>]) -> Vec<String> {
    let mut lists: BTreeMap<&str, (Vec<Append>, Vec<Read>)> = BTreeMap::new();
    for op in ops {
        match (op.action, op.end) {
            (Action::Append { list, element }, end) => {
                let end = match end {
                    What::Ok {
                        answer: Answer::Placed { place },
                    } => End::Done {
                        at: op.ended,
                        place: *place,
                    },
                    What::Fail { .. } => End::Refused,
                    _ => End::Unknown,
                };
                let (appends, _) = lists.entry(list).or_default();
                appends.push(Append {
                    element: *element,
                    began: op.began,
                    end,
                });
            }
            (
                Action::Read { list },
                What::Ok {
                    answer: Answer::Listed { elements },
                },
            ) => {
                let (_, reads) = lists.entry(list).or_default();
                reads.push(Read {
                    began: op.began,
                    ended: op.ended,
                    elements: elements.clone(),
                });
            }
            _ => {}
        }
    }
    let lists = lists.into_iter();
    lists
        .flat_map(|(list, (appends, reads))| of_list(list, &appends, &reads))
        .collect()
}

/// Every broken promise about one list.
fn of_list(list: &str, appends: &[Append], reads: &[Read]) -> Vec<String> {
    let mut found = Vec::new();
    let mut tell = |what: String| found.push(format!("{list}: {what}"));
    let longest = reads.iter().max_by_key(|read| read.elements.len());
    let order: &[(u64, u64)] = longest.map_or(&[], |read| &read.elements);
    let mut places = BTreeMap::new();
    for (n, (place, element)) in (1..).zip(order) {
        if *place != n {
            tell(format!(
                "element {element} stands at place {place}, and is the {n}th of a read"
            ));
        }
        if let Some(before) = places.insert(*element, n) {
            tell(format!(
                "element {element} is there twice, at {before} and at {n}"
            ));
        }
    }
    for read in reads.iter().filter(|read| !order.starts_with(&read.elements)) {
        let same = read
            .elements
            .iter()
            .zip(order)
            .take_while(|(a, b)| a == b)
            .count();
        tell(format!(
            "a read that began at {} us differs from a longer one at place {}",
            read.began,
            same + 1
        ));
    }
    appended(appends, &places, &mut tell);
    in_time(appends, reads, &places, &mut tell);
    found
}

/// What is there was appended, and what was acknowledged has its place.
fn appended(appends: &[Append], places: &BTreeMap<u64, u64>, tell: &mut impl FnMut(String)) {
    let by_element: BTreeMap<u64, &Append> = appends.iter().map(|append| (append.element, append)).collect();
    for (element, place) in places {
        match by_element.get(element).map(|append| append.end) {
            None => tell(format!(
                "element {element} at place {place} was appended by nobody"
            )),
            Some(End::Refused) => tell(format!("element {element} at place {place} was refused")),
            Some(End::Done { place: told, .. }) if told != *place => {
                tell(format!(
                    "element {element} was acknowledged at place {told}, and stands at {place}"
                ));
            }
            Some(End::Done { .. } | End::Unknown) => {}
        }
    }
    let mut told = BTreeMap::new();
    for append in appends {
        if let End::Done { place, .. } = append.end
            && let Some(other) = told.insert(place, append.element)
        {
            tell(format!(
                "place {place} was given to elements {other} and {}",
                append.element
            ));
        }
    }
}

/// What was over before something began comes before it.
fn in_time(appends: &[Append], reads: &[Read], places: &BTreeMap<u64, u64>, tell: &mut impl FnMut(String)) {
    // By the end of what showed it: the list had at least so many elements.
    let mut shown: Vec<(u64, u64)> = reads
        .iter()
        .map(|read| (read.ended, read.elements.len() as u64))
        .collect();
    shown.extend(appends.iter().filter_map(|append| match append.end {
        End::Done { at, place } => Some((at, place)),
        End::Refused | End::Unknown => None,
    }));
    shown.sort_unstable();
    let mut longest = 0;
    for (_, length) in &mut shown {
        longest = longest.max(*length);
        *length = longest;
    }
    let before = |at: u64| match shown.partition_point(|(ended, _)| *ended < at) {
        0 => 0,
        n => shown[n - 1].1,
    };
    let began: BTreeMap<u64, u64> = appends
        .iter()
        .map(|append| (append.element, append.began))
        .collect();
    for read in reads {
        let (least, has) = (before(read.began), read.elements.len() as u64);
        if has < least {
            tell(format!(
                "a read that began at {} us has {has} elements, and {least} were known before",
                read.began
            ));
        }
        for (_, element) in &read.elements {
            if let Some(at) = began.get(element).filter(|at| **at > read.ended) {
                tell(format!(
                    "element {element} was read before its append began at {at} us"
                ));
            }
        }
    }
    for append in appends {
        let place = match append.end {
            End::Done { place, .. } => Some(place),
            End::Refused => None,
            End::Unknown => places.get(&append.element).copied(),
        };
        let least = before(append.began);
        if let Some(place) = place.filter(|place| *place <= least) {
            tell(format!(
                "element {}, whose append began at {} us, has place {place}, and {least} were known before",
                append.element, append.began
            ));
        }
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
