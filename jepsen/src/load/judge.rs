//! What must hold of writes, whatever became of the cluster under them. Pure.

use std::collections::BTreeMap;

use types::RequestId;

/// One write: the announcement of a version that carries a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// In no other write of its model.
    pub(crate) name: String,
    /// Under which it is asked for, as often as need be.
    pub(crate) request_id: RequestId,
    /// The number that it was acknowledged with.
    pub(crate) acknowledged: Option<u64>,
}

/// The numbers of the versions that carry each name, as a list shows them.
pub(crate) type Found = BTreeMap<String, Vec<u64>>;

/// What is wrong with what was found.
pub(crate) fn check(model: &str, writes: &[Write], found: &Found) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut unknown = found.clone();
    for write in writes {
        let numbers = unknown.remove(&write.name).unwrap_or_default();
        let name = &write.name;
        match (write.acknowledged, numbers.as_slice()) {
            (None, [] | [_]) => {}
            (Some(number), [one]) if *one == number => {}
            (Some(number), []) => wrong.push(format!(
                "{model}: {name} was acknowledged as version {number}, and is not there"
            )),
            (Some(number), [other]) => wrong.push(format!(
                "{model}: {name} was acknowledged as version {number}, and is version {other}"
            )),
            (_, several) => wrong.push(format!("{model}: {name} is there as versions {several:?}")),
        }
    }
    wrong.extend(
        unknown
            .keys()
            .map(|name| format!("{model}: {name} is there, and nobody wrote it")),
    );
    wrong
}

/// What is wrong with the answer to a write that was asked for again; `before` is what was found of it before that.
pub(crate) fn check_again(model: &str, write: &Write, before: &Found, answer: u64) -> Option<String> {
    let there = before
        .get(&write.name)
        .and_then(|numbers| numbers.first().copied());
    let first = write.acknowledged.or(there)?;
    (first != answer).then(|| {
        format!(
            "{model}: {} was version {first}, and its request id is answered with version {answer} now",
            write.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(name: &str, acknowledged: Option<u64>) -> Write {
        Write {
            name: name.to_owned(),
            request_id: RequestId::from_u128(7),
            acknowledged,
        }
    }

    /// A name, and the versions that carry it.
    type There<'a> = (&'a str, &'a [u64]);

    fn found(of: &[There]) -> Found {
        of.iter()
            .map(|(name, numbers)| ((*name).to_owned(), numbers.to_vec()))
            .collect()
    }

    #[test]
    fn what_was_acknowledged_is_there_once_and_the_rest_at_most_once() {
        let writes = [write("a", Some(1)), write("b", Some(2)), write("c", None)];
        let cases: [(&[There], &[&str]); 8] = [
            (&[("a", &[1]), ("b", &[2])], &[]),
            (&[("a", &[1]), ("b", &[2]), ("c", &[3])], &[]),
            (
                &[("a", &[1])],
                &["b was acknowledged as version 2, and is not there"],
            ),
            (&[("a", &[1]), ("b", &[3])], &["version 2, and is version 3"]),
            (&[("a", &[1, 4]), ("b", &[2])], &["a is there as versions [1, 4]"]),
            (
                &[("a", &[1]), ("b", &[2]), ("c", &[3, 4])],
                &["c is there as versions [3, 4]"],
            ),
            (
                &[("a", &[1]), ("b", &[2]), ("d", &[5])],
                &["d is there, and nobody wrote it"],
            ),
            (&[], &["a was", "b was"]),
        ];
        for (there, expected) in cases {
            let wrong = check("m", &writes, &found(there));
            assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
            for (wrong, expected) in wrong.iter().zip(expected) {
                assert!(wrong.contains(expected), "{wrong}");
            }
        }
    }

    #[test]
    fn a_request_id_is_answered_with_its_first_answer() {
        let before = found(&[("a", &[1]), ("c", &[3])]);
        let cases = [
            (write("a", Some(1)), 1, true),
            (write("a", Some(1)), 9, false),
            (write("c", None), 3, true),
            (write("c", None), 9, false),
            // It had not happened, and does now.
            (write("d", None), 9, true),
        ];
        for (write, answer, holds) in cases {
            assert_eq!(
                check_again("m", &write, &before, answer).is_none(),
                holds,
                "{write:?}"
            );
        }
    }
}
