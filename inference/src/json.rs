//! Tensors as JSON, in the form of the Open Inference Protocol v2: `{"name", "shape", "datatype", "data"}`.
//!
//! `data` may be flat or nested as the shape is. Only the values are judged here; whether names, shapes and counts fit a
//! model is for [`crate::admission`].

use crate::error::InputError;
use crate::tensor::{Datatype, Tensor, TensorData};
use serde_json::{Value, json};

/// Deepest nesting of `data`: more axes than any tensor of ours has.
const DEPTH_MAX: usize = 8;

impl Tensor {
    /// Reads one tensor of a request.
    ///
    /// # Errors
    /// [`InputError::Json`] names the key or the index, what was found, and what would be right.
    pub fn from_json(value: &Value) -> Result<Self, InputError> {
        let name = value
            .get("name")
            .and_then(Value::as_str)
            .ok_or_else(|| wrong("inputs", "name", value, "a string"))?;
        let shape = value
            .get("shape")
            .and_then(Value::as_array)
            .map(|axes| axes.iter().map(axis).collect());
        let shape: Option<Vec<usize>> = shape.flatten();
        let shape = shape.ok_or_else(|| wrong(name, "shape", value, "a list of lengths"))?;
        let datatype = datatype(name, value)?;
        let data = value.get("data").filter(|data| data.is_array());
        let data = data.ok_or_else(|| wrong(name, "data", value, "a list of values"))?;
        let mut flat = Vec::new();
        flatten(name, data, DEPTH_MAX, &mut flat)?;
        Ok(Self {
            name: name.to_owned(),
            shape,
            data: typed(name, datatype, &flat)?,
        })
    }

    /// Writes one tensor of an answer, `data` flat and row-major.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let data = match &self.data {
            TensorData::Fp32(values) => json!(values),
            TensorData::Int64(values) => json!(values),
            TensorData::Bytes(values) => json!(values),
        };
        json!({ "name": self.name, "datatype": self.data.datatype(), "shape": self.shape, "data": data })
    }
}

fn axis(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|length| usize::try_from(length).ok())
}

fn datatype(name: &str, value: &Value) -> Result<Datatype, InputError> {
    match value.get("datatype").and_then(Value::as_str) {
        // Clients send what their arrays hold; the values are checked one by one.
        Some("FP32" | "FP64") => Ok(Datatype::Fp32),
        Some("INT64" | "INT32" | "UINT8") => Ok(Datatype::Int64),
        Some("BYTES") => Ok(Datatype::Bytes),
        _ => Err(wrong(name, "datatype", value, "one of FP32, INT64, BYTES")),
    }
}

fn flatten<'a>(
    name: &str,
    value: &'a Value,
    depth: usize,
    flat: &mut Vec<&'a Value>,
) -> Result<(), InputError> {
    let Value::Array(items) = value else {
        flat.push(value);
        return Ok(());
    };
    if depth == 0 {
        let expected = format!("nested at most {DEPTH_MAX} deep");
        return Err(InputError::Json {
            name: name.to_owned(),
            what: "data".to_owned(),
            found: "more".to_owned(),
            expected,
        });
    }
    items
        .iter()
        .try_for_each(|item| flatten(name, item, depth - 1, flat))
}

fn typed(name: &str, datatype: Datatype, flat: &[&Value]) -> Result<TensorData, InputError> {
    match datatype {
        Datatype::Fp32 => each(name, flat, "a number", float).map(TensorData::Fp32),
        Datatype::Int64 => each(name, flat, "a whole number", Value::as_i64).map(TensorData::Int64),
        Datatype::Bytes => {
            each(name, flat, "a string", |value| value.as_str().map(str::to_owned)).map(TensorData::Bytes)
        }
    }
}

/// A number beyond the range of f32 becomes infinite, which admission refuses by its index.
fn float(value: &Value) -> Option<f32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "models compute in f32; the nearest one is meant"
    )]
    value.as_f64().map(|number| number as f32)
}

fn each<T>(
    name: &str,
    flat: &[&Value],
    expected: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, InputError> {
    let cell = |(index, value): (usize, &&Value)| {
        read(value).ok_or_else(|| InputError::Json {
            name: name.to_owned(),
            what: format!("data[{index}]"),
            found: shortened(value),
            expected: expected.to_owned(),
        })
    };
    flat.iter().enumerate().map(cell).collect()
}

fn wrong(name: &str, key: &str, tensor: &Value, expected: &str) -> InputError {
    let found = tensor.get(key).map_or_else(|| "absent".to_owned(), shortened);
    InputError::Json {
        name: name.to_owned(),
        what: key.to_owned(),
        found,
        expected: expected.to_owned(),
    }
}

/// A value short enough for a message.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 {
        text
    } else {
        text.chars().take(40).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;
    use serde_json::json;

    #[test]
    fn flat_and_nested_data_are_the_same_tensor() {
        let flat = json!({ "name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4] });
        let nested = json!({ "name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [3, 4]] });
        let tensor = Tensor::fp32("x", &[2, 2], vec![1.0, 2.5, 3.0, 4.0]);
        assert_eq!(Tensor::from_json(&flat), Ok(tensor.clone()));
        assert_eq!(Tensor::from_json(&nested), Ok(tensor.clone()));
        assert_eq!(Tensor::from_json(&tensor.to_json()), Ok(tensor));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |value: serde_json::Value, expected: &str| {
            assert_eq!(Tensor::from_json(&value).unwrap_err().to_string(), expected);
        };
        check(
            json!({ "shape": [1] }),
            "input \"inputs\": name is absent, expected a string",
        );
        check(
            json!({ "name": "x", "shape": [-1] }),
            "input \"x\": shape is [-1], expected a list of lengths",
        );
        let text = json!({ "name": "x", "shape": [1], "datatype": "FP32", "data": ["a"] });
        check(text, "input \"x\": data[0] is \"a\", expected a number");
        let half = json!({ "name": "x", "shape": [1], "datatype": "FP16", "data": [1] });
        check(
            half,
            "input \"x\": datatype is \"FP16\", expected one of FP32, INT64, BYTES",
        );
        let null = json!({ "name": "x", "shape": [1], "datatype": "BYTES", "data": [null] });
        check(null, "input \"x\": data[0] is null, expected a string");
    }
}
