//! JSON bodies: what came, or which field is not what it should be, in the words of JSON.
//!
//! Absent on purpose: limits on size and time ([`super::request`]), and what values mean. Invariant: no name of a type of
//! ours, and no word that only its library knows, is in an answer.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::HttpError;

/// Most characters of a value that are repeated to its sender.
const SHOWN_MAX: usize = 40;

/// Reads a body.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HttpError> {
    // The second look is for those who erred; it knows the place.
    let error = match serde_json::from_slice::<T>(bytes) {
        Ok(body) => return Ok(body),
        Err(error) => error,
    };
    let whole: Value = serde_json::from_slice(bytes).map_err(|e| no_json(&e))?;
    match from_value("", whole) {
        Err(named) => Err(named),
        // A document may name a field twice, and a value cannot.
        Ok::<T, _>(_) => {
            let text = error.to_string();
            let twice = quoted(&text, "duplicate field ").map(|name| format!("the body has {name:?} twice"));
            let problem = twice.unwrap_or_else(|| format!("the body cannot be read: {text}"));
            Err(HttpError::invalid(problem))
        }
    }
}

/// Reads what stands at `place` of a body, the body itself where that is empty.
pub(super) fn from_value<T: DeserializeOwned>(place: &str, value: Value) -> Result<T, HttpError> {
    serde_path_to_error::deserialize(&value).map_err(|error| {
        let found = at(&value, error.path());
        let place = join(place, error.path());
        HttpError::invalid(explain(&place, found, &error.inner().to_string()))
    })
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

fn at<'a>(whole: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(whole, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}

fn join(place: &str, path: &Path) -> String {
    let path = match path.iter().next() {
        None => String::new(),
        Some(_) => path.to_string(),
    };
    let dot = if place.is_empty() || path.is_empty() || path.starts_with('[') {
        ""
    } else {
        "."
    };
    match format!("{place}{dot}{path}") {
        whole if whole.is_empty() => "the body".to_owned(),
        place => place,
    }
}

/// What serde said of the value at `place`, without its words.
fn explain(place: &str, found: Option<&Value>, error: &str) -> String {
    if let Some(field) = quoted(error, "missing field ") {
        return format!("{place} has no {field:?}; add it");
    }
    let found = found.map_or_else(|| "another value".to_owned(), shown);
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
