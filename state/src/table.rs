//! Tables: ordered maps that share what they have in common, and know the hash of their records.
//!
//! A clone costs the same however many records there are; a later change of either copies only the few nodes on the way to
//! the changed record ([`imbl::OrdMap`], a B+tree; ADR 0003). So readers of long lists and builders of snapshots work on a
//! clone, and hold up nobody who applies.
//!
//! Absent on purpose: mutable references to records. [`Table::insert`] and [`Table::remove`] are the only way to change
//! one, so the sum of hashes cannot be forgotten. No hashing decides an order: records come in the order of their keys.
//! Invariant: `sum` is the sum of the hashes of the records that are there.

use std::{
    cmp::Ordering,
    fmt,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use equivalent::{Comparable, Equivalent};
use imbl::OrdMap;

use crate::hash::{self, Record, Sum};

/// A record with its hash, so that it is not hashed again when it goes. Shared by all clones of its table.
#[derive(Debug, PartialEq, Eq)]
struct Row<V> {
    value: V,
    hash: Sum,
}

/// One kind of records, by key.
#[derive(PartialEq, Eq)]
pub(crate) struct Table<K: Ord, V: PartialEq> {
    rows: OrdMap<K, Arc<Row<V>>>,
    sum: Sum,
}

impl<K: Ord, V: PartialEq> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self {
            rows: self.rows.clone(),
            sum: self.sum,
        }
    }
}

impl<K: Ord, V: PartialEq> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            rows: OrdMap::new(),
            sum: Sum::default(),
        }
    }
}

impl<K: Ord + fmt::Debug, V: PartialEq + fmt::Debug> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.rows.iter().map(|(key, row)| (key, &row.value)))
            .finish()
    }
}

/// Where a group of keys begins: before all keys of which `place` says that they are in it or behind it.
struct Beginning<F>(F);

impl<K, F: Fn(&K) -> Ordering> Equivalent<K> for Beginning<F> {
    fn equivalent(&self, _: &K) -> bool {
        false
    }
}
impl<K, F: Fn(&K) -> Ordering> Comparable<K> for Beginning<F> {
    fn compare(&self, key: &K) -> Ordering {
        match (self.0)(key) {
            Ordering::Less => Ordering::Greater,
            Ordering::Equal | Ordering::Greater => Ordering::Less,
        }
    }
}

impl<K: Ord + Clone, V: PartialEq + Record<K>> Table<K, V> {
    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The record of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(|row| &row.value)
    }

    /// The table's own copy of a key: names that are kept often share its text.
    pub(crate) fn key(&self, key: &K) -> Option<&K> {
        self.rows.get_key_value(key).map(|(key, _)| key)
    }

    /// Whether there is a record of this key.
    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    /// All records, in the order of their keys.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, row)| (key, &row.value))
    }

    /// All keys, in order.
    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.rows.keys()
    }

    /// All records without their keys.
    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.rows.values().map(|row| &row.value)
    }

    /// The records of a range of keys; finding its beginning costs the logarithm of the table's size.
    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range::<_, K>(range).map(|(key, row)| (key, &row.value))
    }

    /// The records whose keys `place` calls equal, in order. `place` says of a key whether it stands before the group, in
    /// it, or behind it, and must agree with the order of keys.
    pub(crate) fn group<'a>(
        &'a self,
        place: impl Fn(&K) -> Ordering + Clone + 'a,
    ) -> impl Iterator<Item = (&'a K, &'a V)> {
        let bounds = (Bound::Included(Beginning(place.clone())), Bound::Unbounded);
        self.rows
            .range::<_, Beginning<_>>(bounds)
            .map(|(key, row)| (key, &row.value))
            .take_while(move |(key, _)| place(key) == Ordering::Equal)
    }

    /// Puts a record in the place of the one that its key had; whether it had one.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        let hash = hash::of_record(&key, &value);
        let before = self.rows.insert(key, Arc::new(Row { value, hash }));
        self.sum.add(hash);
        if let Some(before) = &before {
            self.sum.subtract(before.hash);
        }
        before.is_some()
    }

    /// Removes a record; whether there was one.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        let before = self.rows.remove(key);
        if let Some(before) = &before {
            self.sum.subtract(before.hash);
        }
        before.is_some()
    }

    /// The sum of the hashes of all records.
    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    /// Breaks the invariant, as a damaged memory would.
    #[cfg(test)]
    pub(crate) fn forge_sum(&mut self) {
        self.sum.add(hash::of_bytes(0, b"something else"));
    }

    /// The same, of every record anew; for tests of the above.
    #[cfg(test)]
    pub(crate) fn sum_from_scratch(&self) -> Sum {
        let mut sum = Sum::default();
        for (key, value) in self.iter() {
            sum.add(hash::of_record(key, value));
        }
        sum
    }
}
