//! Conditions of lists, as in `framework=bert` or `created_at>=2026-11-21`: which records a list has. Pure.
//!
//! Absent on purpose: "or", and brackets; two lists say the same. Invariant: what cannot be understood is refused, and never
//! taken for a condition that everything, or nothing, meets.

pub(super) mod fields;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, str::FromStr};

use proto::convert::invalid;
use state::ControlState;
use tonic::Status;
use types::{ByteCount, UnixMillis, filter::is_of_form};

use self::fields::{Fields, Found, Kind, in_order};
use super::status;

/// Conditions of one list.
const CONDITIONS_MAX: usize = 16;
/// Bytes of one.
const LENGTH_MAX: usize = 512;

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// As they are written; of two that begin alike the longer one first.
const OPS: [(&str, Op); 6] = [
    ("!=", Op::Unequal),
    ("<=", Op::AtMost),
    (">=", Op::AtLeast),
    ("=", Op::Equal),
    ("<", Op::Less),
    (">", Op::Greater),
];

impl Op {
    fn takes(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::Unequal => order != Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::AtMost => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::AtLeast => order != Ordering::Less,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Pattern(String),
    Number(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    field: &'static str,
    key: String,
    op: Op,
    value: Value,
}

/// Conditions, all of which a record must meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions(Vec<Condition>);

impl Conditions {
    /// Reads the conditions of a list of such records.
    pub(super) fn of<R: Fields>(conditions: &[String]) -> Result<Self, Status> {
        if conditions.len() > CONDITIONS_MAX {
            let message = format!("{} conditions; there may be {CONDITIONS_MAX}", conditions.len());
            return Err(status(invalid("filter", message)));
        }
        let read = |text: &String| {
            Condition::of(R::FIELDS, text).map_err(|why| {
                let shown: String = text.chars().take(80).collect();
                status(invalid("filter", format!("{shown:?}: {why}")))
            })
        };
        conditions.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a record meets all of them.
    pub(super) fn takes<R: Fields>(&self, state: &ControlState, record: &R) -> bool {
        let mut conditions = self.0.iter();
        conditions.all(|c| c.takes(&record.find(state, c.field, &c.key)))
    }
}

impl Condition {
    fn of(fields: &'static [(&'static str, Kind)], text: &str) -> Result<Self, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("a condition has at most {LENGTH_MAX} bytes"));
        }
        let at = text.find(['!', '<', '>', '=']).unwrap_or(text.len());
        let (name, rest) = text.split_at(at);
        let op = OPS
            .iter()
            .find_map(|(sign, op)| Some((*op, rest.strip_prefix(sign)?)));
        let Some((op, value)) = op else {
            return Err("write FIELD=VALUE, or one of != < <= > >= in place of =".to_owned());
        };
        let (name, key) = name.split_once('.').unwrap_or((name, ""));
        let is_known = |(field, kind): &&(&str, Kind)| *field == name && kind.has_keys() != key.is_empty();
        let Some((field, kind)) = fields.iter().find(is_known) else {
            let named = fields.iter().map(|(field, kind)| match kind {
                kind if kind.has_keys() => format!("{field}.KEY"),
                _ => (*field).to_owned(),
            });
            return Err(format!("the fields are {}", named.collect::<Vec<_>>().join(", ")));
        };
        Ok(Self {
            field,
            key: key.to_owned(),
            op,
            value: kind.value(op, value)?,
        })
    }

    /// Of several texts one must equal, and none may where it says "unequal".
    fn takes(&self, found: &Found<'_>) -> bool {
        match (found, &self.value) {
            (Found::Number(number), Value::Number(value)) => self.op.takes(number.cmp(value)),
            (Found::Texts(texts), Value::Pattern(pattern)) => {
                let any = texts.iter().any(|text| is_of_form(pattern, text));
                any == (self.op == Op::Equal)
            }
            (Found::Number(_), Value::Pattern(_)) | (Found::Texts(_), Value::Number(_)) => false,
        }
    }
}

impl Kind {
    fn value(self, op: Op, text: &str) -> Result<Value, String> {
        let is_text = matches!(self, Self::Text | Self::Map | Self::Word(_));
        if is_text && !matches!(op, Op::Equal | Op::Unequal) {
            return Err("a text is compared with = or !=".to_owned());
        }
        match self {
            Self::Text | Self::Map => Ok(Value::Pattern(text.to_owned())),
            Self::Word(words) if words.contains(&text) => Ok(Value::Pattern(text.to_owned())),
            Self::Word(words) => Err(format!("the values are {}", words.join(", "))),
            Self::Number => number(text, |n: u64| n, "a whole number"),
            Self::Measures => number(
                text,
                in_order,
                "a decimal number with at most six digits behind the point",
            ),
            Self::Size => number(text, |size: ByteCount| size.0, "a size, as in 64MiB"),
            Self::Time => time(text),
        }
    }
}

/// As in documents, or with less: without parts of a second, or a day alone.
fn time(text: &str) -> Result<Value, String> {
    let whole = text.strip_suffix('Z').map(|text| format!("{text}.000Z"));
    let day = format!("{text}T00:00:00.000Z");
    let written = [Some(text.to_owned()), whole, Some(day)];
    let mut read = written.iter().flatten().filter_map(|text| text.parse().ok());
    read.next()
        .map(|at: UnixMillis| Value::Number(at.0))
        .ok_or_else(|| format!("{text:?} is not a time in UTC, as in 2026-11-21T07:28:34Z or 2026-11-21"))
}

fn number<T: FromStr>(text: &str, of: impl Fn(T) -> u64, what: &str) -> Result<Value, String> {
    let read = text.parse().map(|read| Value::Number(of(read)));
    read.map_err(|_| format!("{text:?} is not {what}"))
}
