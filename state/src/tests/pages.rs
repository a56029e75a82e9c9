//! How far a list looks for one page.

use std::{cell::Cell, collections::BTreeMap};

use crate::query::{LOOKED_AT_MAX, page};

/// Whoever reads a page holds up whoever applies: what matches nothing ends it too.
#[test]
fn a_page_ends_after_so_many_records_whether_they_are_wanted_or_not() {
    let records: BTreeMap<usize, usize> = (1..=2 * LOOKED_AT_MAX + 1).map(|n| (n, n)).collect();
    let looked = Cell::new(0);
    let rare = |n: &usize| {
        looked.set(looked.get() + 1);
        [7, LOOKED_AT_MAX + 1].contains(n)
    };
    let first = page(records.iter(), 5, rare);
    assert_eq!((first.items, first.next), (vec![&7], Some(LOOKED_AT_MAX)));
    assert_eq!(looked.get(), LOOKED_AT_MAX);
    // Nothing else is known of the rest than that there is one.
    let none = page(records.range(LOOKED_AT_MAX + 2..), 5, rare);
    assert_eq!((none.items, none.next), (vec![], None));
    let none = page(records.iter(), 5, |_| false);
    assert_eq!((none.items, none.next), (vec![], Some(LOOKED_AT_MAX)));
    let last = page(records.range(LOOKED_AT_MAX + 1..), 1, rare);
    assert_eq!(
        (last.items, last.next),
        (vec![&(LOOKED_AT_MAX + 1)], Some(LOOKED_AT_MAX + 1))
    );
    let whole = page(records.iter(), usize::MAX, |_| true);
    assert_eq!((whole.items.len(), whole.next), (records.len(), None));
}
