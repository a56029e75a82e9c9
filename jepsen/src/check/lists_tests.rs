//! Lists that are right, and each way in which one can be wrong.

use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

fn done(element: u64, began: u64, at: u64, place: u64) -> Append {
    Append {
        element,
        began,
        end: End::Done { at, place },
    }
}

fn other(element: u64, began: u64, end: End) -> Append {
    Append { element, began, end }
}

/// Elements in their places.
fn read(began: u64, ended: u64, elements: &[u64]) -> Read {
    Read {
        began,
        ended,
        elements: (1..).zip(elements.iter().copied()).collect(),
    }
}

#[test]
fn each_broken_promise_is_told_and_nothing_else() {
    let two = || vec![done(10, 0, 1, 1), done(20, 2, 3, 2)];
    for (appends, reads, expected) in [
        (two(), vec![read(4, 5, &[10, 20])], vec![]),
        (
            two(),
            vec![read(0, 5, &[]), read(0, 5, &[10]), read(4, 5, &[10, 20])],
            vec![],
        ),
        (two(), vec![], vec![]),
        // Lost.
        (
            two(),
            vec![read(4, 5, &[10])],
            vec!["has 1 elements, and 2 were known before"],
        ),
        (
            two(),
            vec![read(4, 5, &[20])],
            vec![
                "20 was acknowledged at place 2, and stands at 1",
                "has 1 elements",
            ],
        ),
        // Twice.
        (
            two(),
            vec![read(4, 5, &[10, 20, 10])],
            vec![
                "element 10 is there twice",
                "10 was acknowledged at place 1, and stands at 3",
            ],
        ),
        // In another order.
        (
            vec![done(10, 0, 1, 2), done(20, 2, 3, 1)],
            vec![read(4, 5, &[20, 10])],
            vec!["element 20, whose append began at 2 us, has place 1, and 2 were known before"],
        ),
        // A place for two.
        (
            vec![done(10, 0, 3, 1), done(20, 0, 3, 1)],
            vec![],
            vec!["place 1 was given to elements 10 and 20"],
        ),
        // A gap.
        (
            vec![done(10, 0, 1, 2)],
            vec![Read {
                began: 2,
                ended: 3,
                elements: vec![(2, 10)],
            }],
            vec![
                "element 10 stands at place 2, and is the 1th",
                "acknowledged at place 2, and stands at 1",
                "has 1 elements, and 2",
            ],
        ),
        // Two reads that are no beginning of each other.
        (
            vec![other(10, 0, End::Unknown), other(20, 0, End::Unknown)],
            vec![read(0, 1, &[10]), read(0, 1, &[20, 10])],
            vec!["a read that began at 0 us differs from a longer one at place 1"],
        ),
        // Shorter than what was read before.
        (
            vec![other(10, 0, End::Unknown)],
            vec![read(0, 1, &[10]), read(2, 3, &[])],
            vec!["a read that began at 2 us has 0 elements, and 1 were known before"],
        ),
        (
            vec![other(10, 0, End::Unknown)],
            vec![read(0, 2, &[10]), read(2, 3, &[])],
            vec![],
        ),
        // From nobody, from one that was refused, from the future.
        (
            vec![],
            vec![read(0, 1, &[10])],
            vec!["element 10 at place 1 was appended by nobody"],
        ),
        (
            vec![other(10, 0, End::Refused)],
            vec![read(2, 3, &[10])],
            vec!["element 10 at place 1 was refused"],
        ),
        (
            vec![other(10, 2, End::Unknown)],
            vec![read(0, 1, &[10])],
            vec![
                "element 10 was read before its append began at 2 us",
                "element 10, whose append began at 2 us, has place 1, and 1 were known before",
            ],
        ),
    ] {
        let found = of_list("m", &appends, &reads);
        let all_told =
            expected.len() == found.len() && expected.iter().all(|e| found.iter().any(|f| f.contains(e)));
        assert!(all_told, "{appends:?} {reads:?}: {found:#?}");
    }
}

proptest! {
    /// Appends and reads that took effect at one instant each.
    #[test]
    fn what_was_made_right_is_found_right(seed in any::<u64>(), count in 0usize..200) {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut list, mut appends, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for n in 1..=count as u64 {
            let instant = n * 10;
            let (began, ended) = (instant - random.random_range(0..10.min(instant)), instant + random.random_range(0..60));
            match random.random_range(0..10) {
                0 => appends.push(other(n, began, End::Refused)),
                1 => appends.push(other(n, began, End::Unknown)),
                2..6 => {
                    list.push(n);
                    let place = list.len() as u64;
                    let is_known = random.random_range(0..10) > 0;
                    appends.push(if is_known { done(n, began, ended, place) } else { other(n, began, End::Unknown) });
                }
                _ => reads.push(read(began, ended, &list)),
            }
        }
        prop_assert_eq!(of_list("m", &appends, &reads), Vec::<String>::new());
        // One acknowledged append that is taken out of every later read is missed, wherever a later read could have it.
        let lost = appends.iter().find_map(|append| match append.end {
            End::Done { at, .. } if reads.iter().any(|read| read.began > at) => Some(append.element),
            _ => None,
        });
        if let Some(lost) = lost {
            for read in &mut reads {
                read.elements.retain(|(_, element)| *element != lost);
            }
            prop_assert!(!of_list("m", &appends, &reads).is_empty());
        }
    }
}
