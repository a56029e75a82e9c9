//! Plain tensors as they cross the crate's border: a name, a shape, and the values in row-major order.
//!
//! The names of the types are those of the Open Inference Protocol v2, so that the HTTP side only renames nothing.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Element type of a tensor, named as in the Open Inference Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// 32-bit floats.
    Fp32,
    /// 64-bit signed integers.
    Int64,
    /// UTF-8 text, one string an element.
    Bytes,
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "FP32",
            Self::Int64 => "INT64",
            Self::Bytes => "BYTES",
        })
    }
}

/// The values of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// 32-bit floats.
    Fp32(Vec<f32>),
    /// 64-bit signed integers.
    Int64(Vec<i64>),
    /// UTF-8 text, one string an element.
    Bytes(Vec<String>),
}

impl TensorData {
    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Fp32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Fp32(_) => Datatype::Fp32,
            Self::Int64(_) => Datatype::Int64,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }
}

/// One named tensor. `shape` and the number of values are not tied together by the constructor: a caller's claim is
/// checked by [`crate::admission::admit`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name as in the model's signature.
    pub name: String,
    /// Length of each axis, the batch first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub data: TensorData,
}

impl Tensor {
    /// A tensor of floats.
    #[must_use]
    pub fn fp32(name: &str, shape: &[usize], values: Vec<f32>) -> Self {
        Self {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data: TensorData::Fp32(values),
        }
    }

    /// A tensor of integers.
    #[must_use]
    pub fn int64(name: &str, shape: &[usize], values: Vec<i64>) -> Self {
        Self {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data: TensorData::Int64(values),
        }
    }

    /// A vector of texts, shape `[texts]`.
    #[must_use]
    pub fn texts(name: &str, texts: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            shape: vec![texts.len()],
            data: TensorData::Bytes(texts),
        }
    }

    /// The floats, if that is what it holds.
    #[must_use]
    pub fn as_fp32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::Fp32(values) => Some(values),
            TensorData::Int64(_) | TensorData::Bytes(_) => None,
        }
    }

    /// The integers, if that is what it holds.
    #[must_use]
    pub fn as_int64(&self) -> Option<&[i64]> {
        match &self.data {
            TensorData::Int64(values) => Some(values),
            TensorData::Fp32(_) | TensorData::Bytes(_) => None,
        }
    }

    /// The texts, if that is what it holds.
    #[must_use]
    pub fn as_texts(&self) -> Option<&[String]> {
        match &self.data {
            TensorData::Bytes(values) => Some(values),
            TensorData::Fp32(_) | TensorData::Int64(_) => None,
        }
    }
}

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name, unique among the inputs or among the outputs.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Length of each axis; -1 where any length goes (the batch, mostly).
    pub shape: Vec<i64>,
}

impl TensorSpec {
    /// A spec from its parts.
    #[must_use]
    pub fn new(name: &str, datatype: Datatype, shape: &[i64]) -> Self {
        Self {
            name: name.to_owned(),
            datatype,
            shape: shape.to_vec(),
        }
    }

    /// Whether `shape` fits: the same number of axes, and equal lengths where this spec fixes one.
    #[must_use]
    pub fn accepts_shape(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(want, have)| *want < 0 || i64::try_from(*have) == Ok(*want))
    }
}
