//! JSON bodies: what came, or which field is not what it should be, in the words of JSON.
//!
//! Absent on purpose: limits on size and time ([`super::request`]), and what values mean. Invariant: no name of a type of
//! ours, and no word that only its library knows, is in an answer.

use std::fmt;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use serde_path_to_error::{Path, Segment};

use super::HttpError;

/// Most characters of a value that are repeated to its sender.
const SHOWN_MAX: usize = 40;

/// Text up to this size is read as a value where it is repeated to its sender; of a larger one the beginning says enough.
const READ_MAX: usize = 4096;

/// Reads a body. Nothing but what `T` keeps is held in memory, also where the body is wrong.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, HttpError> {
    // The other looks are for those who erred; they know the place.
    let error = match serde_json::from_slice(bytes) {
        Ok(body) => return Ok(body),
        Err(error) => error,
    };
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|e| no_json(&e))?;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let placed: Result<T, _> = serde_path_to_error::deserialize(&mut json);
    let path = placed.err().map(|error| error.path().clone());
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    let place = path.as_ref().map_or_else(|| "the body".to_owned(), place_of);
    let found = path.as_ref().and_then(|path| at(bytes, path));
    Err(HttpError::invalid(explain(&place, found, text)))
}

/// A value as it is repeated to its sender: kind and beginning.
pub(super) fn shown(value: &Value) -> String {
    let cut = |text: String| match text.chars().count() > SHOWN_MAX {
        true => format!("{}…", text.chars().take(SHOWN_MAX).collect::<String>()),
        false => text,
    };
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => format!("the text {}", cut(value.to_string())),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => format!("the list {}", cut(value.to_string())),
        Value::Object(_) => format!("the object {}", cut(value.to_string())),
    }
}

fn no_json(error: &serde_json::Error) -> HttpError {
    HttpError::invalid(format!("the body is no JSON: {error}"))
}

/// The same for a value that may be large.
pub(super) fn shown_raw(json: &RawValue) -> String {
    let text = json.get();
    let value = match text.len() {
        ..=READ_MAX => serde_json::from_str(text).ok(),
        _ => None,
    };
    let kind = match text.as_bytes().first() {
        Some(b'[') => "list",
        Some(b'{') => "object",
        Some(b'"') => "text",
        _ => "number",
    };
    let cut = || text.chars().take(SHOWN_MAX).collect::<String>();
    value.map_or_else(|| format!("the {kind} {}…", cut()), |value| shown(&value))
}

/// The value at the end of a path, where the path leads to one.
fn at<'a>(bytes: &'a [u8], path: &Path) -> Option<&'a RawValue> {
    let steps: Vec<_> = path.iter().collect();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    At(&steps).deserialize(&mut json).ok()
}

/// Reads what is some steps below, and passes over all the rest.
struct At<'a>(&'a [&'a Segment]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = &'de RawValue;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<&'de RawValue, D::Error> {
        match self.0 {
            [] => Deserialize::deserialize(json),
            _ => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = &'de RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the path leads to")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<&'de RawValue, A::Error> {
        let mut found = None;
        while let Some(name) = fields.next_key::<String>()? {
            match self.0 {
                [Segment::Map { key }, rest @ ..] if *key == name => {
                    found = Some(fields.next_value_seed(At(rest))?);
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        found.ok_or_else(|| A::Error::custom("no such field"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<&'de RawValue, A::Error> {
        let (mut found, mut position) = (None, 0);
        loop {
            let item = match self.0 {
                [Segment::Seq { index }, rest @ ..] if *index == position => {
                    found = items.next_element_seed(At(rest))?;
                    found.map(|_| ())
                }
                _ => items.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if item.is_none() {
                return found.ok_or_else(|| A::Error::custom("no such item"));
            }
            position += 1;
        }
    }
}

fn place_of(path: &Path) -> String {
    match path.iter().next() {
        None => "the body".to_owned(),
        Some(_) => path.to_string(),
    }
}

/// What serde said of the value at `place`, without its words.
fn explain(place: &str, found: Option<&RawValue>, error: &str) -> String {
    if let Some(field) = quoted(error, "duplicate field ") {
        return format!("{place} has {field:?} twice");
    }
    if let Some(field) = quoted(error, "missing field ") {
        return format!("{place} has no {field:?}; add it");
    }
    let found = found.map_or_else(|| "another value".to_owned(), shown_raw);
    match error.split_once(", expected ") {
        Some((_, expected)) => format!("{place} is {found}; it must be {}", plain(expected)),
        None => format!("{place} is {found}; it cannot be used: {error}"),
    }
}

fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_prefix('`')?.split('`').next()
}

/// What serde expected, as somebody who knows only JSON calls it.
fn plain(expected: &str) -> String {
    let whole_number = ["usize", "u64", "u32", "u16", "u8"];
    match expected {
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "string or map" => "a text".to_owned(),
        number if whole_number.contains(&number) => "a whole number, 0 or more".to_owned(),
        name if name.starts_with("struct ") => "an object".to_owned(),
        // Names of variants come in backticks; the rest are our own words.
        other => other.replace('`', "\""),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "what is read does not matter here")]
    struct Body {
        name: String,
        rows: Vec<Row>,
        #[serde(default)]
        deep: Option<bool>,
        #[serde(default)]
        colour: Option<Colour>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "what is read does not matter here")]
    struct Row {
        size: usize,
        weight: f32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Blue,
    }

    fn check(body: &str, expected: &str) {
        let error = read::<Body>(body.as_bytes()).unwrap_err();
        assert_eq!(error.message, expected, "{body}");
    }

    #[test]
    fn each_mistake_is_named_by_its_place_in_the_words_of_json() {
        check(
            "{",
            "the body is no JSON: EOF while parsing an object at line 1 column 1",
        );
        check("7", "the body is the number 7; it must be an object");
        check("[]", "the body is an empty list; it must be an object");
        check("{}", "the body has no \"name\"; add it");
        check(
            r#"{"name": 1, "rows": []}"#,
            "name is the number 1; it must be a text",
        );
        check(
            r#"{"name": "a", "rows": {"b": 1}}"#,
            "rows is the object {\"b\":1}; it must be a list",
        );
        check(
            r#"{"name": "a", "rows": [{"size": 1, "weight": 1}, {"size": -1}]}"#,
            "rows[1].size is the number -1; it must be a whole number, 0 or more",
        );
        check(
            r#"{"name": "a", "rows": [{"size": 1}]}"#,
            "rows[0] has no \"weight\"; add it",
        );
        check(
            r#"{"name": "a", "rows": [{"size": 1.5, "weight": 1}]}"#,
            "rows[0].size is the number 1.5; it must be a whole number, 0 or more",
        );
        check(
            r#"{"name": "a", "rows": [{"size": 1, "weight": "1"}]}"#,
            "rows[0].weight is the text \"1\"; it must be a number",
        );
        check(
            r#"{"name": "a", "rows": [null]}"#,
            "rows[0] is null; it must be an object",
        );
        check(
            r#"{"name": "a", "rows": [], "deep": []}"#,
            "deep is an empty list; it must be true or false",
        );
        check(
            r#"{"name": "a", "rows": [], "colour": "green"}"#,
            "colour is the text \"green\"; it must be \"red\" or \"blue\"",
        );
        check(
            r#"{"name": "a", "name": "b", "rows": []}"#,
            "the body has \"name\" twice",
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let rows = vec!["x"; 100].join(",");
        check(
            &format!(r#"{{"name": ["{rows}"], "rows": []}}"#),
            "name is the list [\"x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,…; it must be a text",
        );
    }
}
