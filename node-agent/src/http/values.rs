//! Numbers and texts of a request, straight from its JSON into vectors of their type.
//!
//! Absent on purpose: what they mean. A JSON value in memory is many times larger than its text, so none is built;
//! invariant: no more values are kept than the model could take, whatever the body holds.

use std::fmt;

use inference::Signature;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, value::RawValue};

use super::{HttpError, body};

/// A little more than a model takes is for the model to refuse, in its own words.
const SLACK: usize = 4;

/// Most values that are read of one input for a model with this signature.
pub(super) fn values_max(signature: &Signature) -> usize {
    let axis = |axis: &i64| usize::try_from(*axis).unwrap_or(signature.limits.max_batch);
    let count = |shape: &[i64]| shape.iter().map(axis).fold(1, usize::saturating_mul);
    let counts = signature.inputs.iter().map(|spec| count(&spec.shape));
    counts.max().unwrap_or(1).saturating_mul(SLACK)
}

/// What a tensor may hold.
pub(super) trait Element: Sized {
    fn of_int(_: i64) -> Option<Self> {
        None
    }
    fn of_float(_: f64) -> Option<Self> {
        None
    }
    fn of_text(_: &str) -> Option<Self> {
        None
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "FP32 is what the caller asked for; admission refuses infinities"
)]
impl Element for f32 {
    fn of_int(value: i64) -> Option<Self> {
        Some(value as f32)
    }
    fn of_float(value: f64) -> Option<Self> {
        Some(value as f32)
    }
}

impl Element for i64 {
    fn of_int(value: i64) -> Option<Self> {
        Some(value)
    }
}

impl Element for String {
    fn of_text(value: &str) -> Option<Self> {
        Some(value.to_owned())
    }
}

/// Values row by row.
#[derive(Debug, PartialEq)]
pub(super) struct Flat<T> {
    pub(super) values: Vec<T>,
    /// Lengths of lists within lists, the outermost first, those of the first one of each level; empty for a value that
    /// stands alone.
    pub(super) axes: Vec<usize>,
    /// Whether lists of one level have one length and values are on one level only.
    pub(super) even: bool,
}

/// Why there are no values.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// More than `max`.
    TooMany { max: usize },
    /// One of another type, how many came before it, and whether it is in a list at all.
    Wrong {
        shown: String,
        index: usize,
        listed: bool,
    },
    /// Not readable, in words.
    Unreadable(String),
}

impl Refused {
    /// The answer about `what`; `wrong` is for one of another type.
    pub(super) fn of(self, what: &str, wrong: impl FnOnce(&str, usize, bool) -> String) -> HttpError {
        HttpError::invalid(match self {
            Self::TooMany { max } => {
                format!(
                    "{what} holds more than {max} values, far more than this model takes; split the request"
                )
            }
            Self::Wrong { shown, index, listed } => wrong(&shown, index, listed),
            Self::Unreadable(error) => format!("{what} cannot be read: {error}"),
        })
    }
}

/// Reads values of one type, at most `max` of them; lists within lists are flattened row by row.
pub(super) fn read<T: Element>(json: &RawValue, max: usize) -> Result<Flat<T>, Refused> {
    let mut sink = Sink {
        values: Vec::new(),
        axes: Vec::new(),
        even: true,
        max,
        refused: None,
    };
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    let seed = Nested {
        sink: &mut sink,
        depth: 0,
    };
    match seed.deserialize(&mut deserializer) {
        Ok(()) => Ok(Flat {
            values: sink.values,
            axes: sink.axes.into_iter().flatten().collect(),
            even: sink.even,
        }),
        Err(error) => Err(sink
            .refused
            .unwrap_or_else(|| Refused::Unreadable(error.to_string()))),
    }
}

/// Where values go.
struct Sink<T> {
    values: Vec<T>,
    /// Lengths by level, each known once the first list of its level ended.
    axes: Vec<Option<usize>>,
    even: bool,
    max: usize,
    refused: Option<Refused>,
}

/// A value, or a list of such.
struct Nested<'a, T> {
    sink: &'a mut Sink<T>,
    depth: usize,
}

impl<T: Element> Nested<'_, T> {
    fn push<E: serde::de::Error>(self, value: Option<T>, shown: impl FnOnce() -> Value) -> Result<(), E> {
        let Self { sink, depth } = self;
        let (index, max) = (sink.values.len(), sink.max);
        let Some(value) = value else {
            let (shown, listed) = (body::shown(&shown()), depth > 0);
            return sink.refuse(Refused::Wrong { shown, index, listed });
        };
        if index == max {
            return sink.refuse(Refused::TooMany { max });
        }
        // Beside it there is a list.
        sink.even &= sink.axes.len() == depth;
        sink.values.push(value);
        Ok(())
    }
}

impl<T> Sink<T> {
    fn refuse<E: serde::de::Error>(&mut self, why: Refused) -> Result<(), E> {
        self.refused = Some(why);
        Err(E::custom("refused"))
    }

    fn begin(&mut self, depth: usize) {
        if self.axes.len() == depth {
            // Beside it there may be values; lists above it count as one item of theirs either way.
            self.even &= self.values.is_empty();
            self.axes.push(None);
        }
    }

    fn end(&mut self, depth: usize, length: usize) {
        if let Some(axis) = self.axes.get_mut(depth) {
            self.even &= *axis.get_or_insert(length) == length;
        }
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Nested<'_, T> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Nested<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values, or lists of them")
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.push(T::of_int(value), || value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "so large a number is a float or refused"
        )]
        let large = || T::of_float(value as f64);
        let read = i64::try_from(value).map_or_else(|_| large(), T::of_int);
        self.push(read, || value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.push(T::of_float(value), || value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.push(T::of_text(value), || value.into())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.push(None, || value.into())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.push(None, || Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        // A field may hold megabytes; its name says enough.
        let name = fields.next_key::<String>()?;
        self.push(None, || match name {
            Some(name) => serde_json::json!({ name: "…" }),
            None => serde_json::json!({}),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let Self { sink, depth } = self;
        sink.begin(depth);
        let (mut length, below) = (0, depth + 1);
        while let Some(()) = values.next_element_seed(Nested {
            sink: &mut *sink,
            depth: below,
        })? {
            length += 1;
        }
        sink.end(depth, length);
        Ok(())
    }
}

/// The lengths of a tensor's axes: no tensor has more than a few.
pub(super) fn shape<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    deserializer.deserialize_seq(Shape)
}

/// Most axes of a tensor.
const AXES_MAX: usize = 16;

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Vec<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the lengths of at most {AXES_MAX} axes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut lengths: A) -> Result<Vec<usize>, A::Error> {
        let mut shape = Vec::new();
        while shape.len() < AXES_MAX {
            match lengths.next_element()? {
                Some(length) => shape.push(length),
                None => return Ok(shape),
            }
        }
        match lengths.next_element::<IgnoredAny>()? {
            None => Ok(shape),
            Some(_) => Err(A::Error::invalid_length(AXES_MAX + 1, &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn nested_values_are_flattened_into_their_type() {
        let flat = read::<f32>(&raw("[[1, 2.5], [-3, 18446744073709551615]]"), 4).unwrap();
        assert_eq!(flat.values, [1.0, 2.5, -3.0, 18_446_744_073_709_551_615.0]);
        assert_eq!(flat.axes, [2, 2]);
        assert_eq!(read::<i64>(&raw("7"), 1).unwrap().axes, [] as [usize; 0]);
        assert_eq!(
            read::<String>(&raw(r#"["a", "\n"]"#), 2).unwrap().values,
            ["a", "\n"]
        );
        assert_eq!(read::<i64>(&raw("[[], [1]]"), 2).unwrap().axes, [2, 0]);
    }

    #[test]
    fn a_value_of_another_type_is_shown_with_its_place() {
        fn wrong<T>(shown: &str, index: usize) -> Result<Flat<T>, Refused> {
            let shown = shown.to_owned();
            Err(Refused::Wrong {
                shown,
                index,
                listed: true,
            })
        }
        assert_eq!(read::<i64>(&raw("[1, [2, 2.5]]"), 9), wrong("the number 2.5", 2));
        assert_eq!(
            read::<i64>(&raw("[9223372036854775808]"), 9),
            wrong("the number 9223372036854775808", 0)
        );
        assert_eq!(read::<f32>(&raw(r#"[1, "x"]"#), 9), wrong("the text \"x\"", 1));
        assert_eq!(read::<f32>(&raw("[null]"), 9), wrong("null", 0));
        assert_eq!(read::<String>(&raw("[true]"), 9), wrong("true", 0));
        assert_eq!(read::<String>(&raw("[{}]"), 9), wrong("the object {}", 0));
        let long = format!("[{:?}]", "x".repeat(100));
        assert!(
            matches!(read::<i64>(&raw(&long), 9), Err(Refused::Wrong { shown, .. }) if shown.chars().count() == 50)
        );
    }

    #[test]
    fn lists_are_even_if_those_of_one_level_have_one_length() {
        let even = |text: &str| read::<f32>(&raw(text), 9).unwrap().even;
        for text in [
            "1",
            "[]",
            "[1, 2]",
            "[[1], [2]]",
            "[[], []]",
            "[[[1, 2]], [[3, 4]]]",
        ] {
            assert!(even(text), "{text}");
        }
        for text in [
            "[[1, 2], [3]]",
            "[1, [2]]",
            "[[1], 2]",
            "[[], [1]]",
            "[[], 1]",
            "[[1], [[2]]]",
            "[[[1]], [2]]",
        ] {
            assert!(!even(text), "{text}");
        }
    }

    #[test]
    fn no_more_values_are_kept_than_the_model_could_take() {
        assert_eq!(
            read::<f32>(&raw("[[0, 0], [0, 0]]"), 3),
            Err(Refused::TooMany { max: 3 })
        );
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        assert!(matches!(read::<f32>(&raw(&deep), 3), Err(Refused::Unreadable(_))));
        assert_eq!(values_max(&Signature::digits(64, 16.0, 10, 32)), 32 * 64 * SLACK);
        assert_eq!(values_max(&Signature::generator(64, 32)), SLACK);
    }

    #[test]
    fn a_shape_has_a_few_axes() {
        let read = |text: &str| shape(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read("[2, 64]").unwrap(), [2, 64]);
        assert_eq!(read("[]").unwrap(), [] as [usize; 0]);
        read("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]").unwrap();
        read("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]").unwrap_err();
        read("[-1]").unwrap_err();
    }
}
