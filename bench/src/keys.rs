//! The keys, and what each must hold: every value says which key it is for and which write of that key it is.
//!
//! Invariant: one client at a time writes a key, so a key holds its last acknowledged write, or one whose answer was lost.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a value.
pub const VALUE_BYTES: usize = 256;

/// What is known of each key.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

#[derive(Debug, Default)]
struct Key {
    tried: AtomicU64,
    acknowledged: AtomicU64,
}

impl Keys {
    /// So many keys, none of them made.
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| Key::default()).collect())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The number of a key's next write.
    pub fn next_write(&self, key: usize) -> u64 {
        self.0[key].tried.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A write was acknowledged.
    pub fn acknowledge(&self, key: usize, write: u64) {
        self.0[key].acknowledged.store(write, Ordering::Relaxed);
    }

    /// Why this cannot be what the key holds, if it cannot: nobody writes the key meanwhile.
    pub fn check(&self, key: usize, value: &str) -> Result<(), String> {
        let known = &self.0[key];
        let tried = known.tried.load(Ordering::Relaxed);
        let acknowledged = known.acknowledged.load(Ordering::Relaxed);
        match write_in(value) {
            Some((of, write))
                if of == key && (acknowledged..=tried).contains(&write) && value == value_of(key, write) =>
            {
                Ok(())
            }
            read => Err(format!(
                "key {key} holds {read:?}, and write {acknowledged} of {tried} was the last that was acknowledged"
            )),
        }
    }

    /// Writes that were acknowledged, of all keys.
    pub fn acknowledged(&self) -> u64 {
        self.0
            .iter()
            .map(|k| k.acknowledged.load(Ordering::Relaxed))
            .sum()
    }
}

/// The value of a key's `write`-th write, of [`VALUE_BYTES`] bytes; no two are alike.
pub fn value_of(key: usize, write: u64) -> String {
    let mut value = format!("{key:06}:{write:012}:");
    // Some other text for each, so that nothing gains from values being alike.
    let mut state = (key as u64) << 32 | write | 1;
    while value.len() < VALUE_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let letter = b'a' + u8::try_from((state >> 40) % 26).unwrap_or(0);
        value.push(char::from(letter));
    }
    value
}

fn write_in(value: &str) -> Option<(usize, u64)> {
    let mut parts = value.split(':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_what_it_is_and_has_its_size() {
        let value = value_of(17, 9_000_000);
        assert_eq!(value.len(), VALUE_BYTES);
        assert_eq!(write_in(&value), Some((17, 9_000_000)));
        assert_ne!(value_of(17, 1)[20..], value_of(17, 2)[20..]);
        assert_ne!(value_of(17, 1)[20..], value_of(18, 1)[20..]);
    }

    #[test]
    fn an_acknowledged_write_that_is_not_there_is_found() {
        let keys = Keys::new(2);
        for expected in 1..=3 {
            let write = keys.next_write(1);
            assert_eq!(write, expected);
            keys.acknowledge(1, write);
        }
        assert_eq!(keys.check(1, &value_of(1, 3)), Ok(()));
        for lost in [
            value_of(1, 2),
            value_of(0, 3),
            value_of(1, 4),
            String::new(),
            value_of(1, 3).to_uppercase(),
        ] {
            assert!(keys.check(1, &lost).is_err(), "{lost}");
        }
        // Its answer never came.
        keys.next_write(1);
        assert_eq!(keys.check(1, &value_of(1, 3)), Ok(()));
        assert_eq!(keys.check(1, &value_of(1, 4)), Ok(()));
        assert_eq!(keys.acknowledged(), 3);
    }
}
