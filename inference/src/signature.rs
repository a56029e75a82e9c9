//! What a model takes and gives, and how much of it: the part of a model that callers may rely on.

use crate::tensor::{Datatype, TensorSpec};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds of model this crate runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Text to one unit vector: BERT encoder, mean pooling, L2 norm.
    Embedding,
    /// 8x8 grey images to one of ten digits.
    Digits,
    /// Text to more text: Llama architecture.
    Generator,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedding => "embedding",
            Self::Digits => "digits",
            Self::Generator => "generator",
        })
    }
}

/// Upper bounds that admission enforces. `None` where the family has no such thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Most rows (images, texts) in one request.
    pub max_batch: usize,
    /// Most bytes of one text. Bounds the work of tokenizing before the tokens can be counted.
    pub max_text_bytes: Option<usize>,
    /// Most tokens of one text, special tokens included; for a generator prompt and answer together.
    pub max_tokens: Option<usize>,
    /// Most tokens that one request may ask a generator for.
    pub max_new_tokens: Option<usize>,
    /// Smallest and largest value of a float input.
    pub value_range: Option<(f32, f32)>,
}

/// Inputs, outputs and limits of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// What kind of model it is.
    pub family: Family,
    /// All of them must be given, and no others.
    pub inputs: Vec<TensorSpec>,
    /// All of them are answered, in this order.
    pub outputs: Vec<TensorSpec>,
    /// Upper bounds.
    pub limits: Limits,
}

/// Bytes allowed for each token of a text: the longest words of real vocabularies stay well below it.
const BYTES_PER_TOKEN: usize = 32;

impl Signature {
    /// Images in, class and probabilities out. Shapes: `image` `[batch, pixels]` row by row, `class` `[batch]`,
    /// `probabilities` `[batch, classes]`.
    #[must_use]
    pub fn digits(pixels: usize, pixel_max: f32, classes: usize, max_batch: usize) -> Self {
        Self {
            family: Family::Digits,
            inputs: vec![TensorSpec::new("image", Datatype::Fp32, &[-1, axis(pixels)])],
            outputs: vec![
                TensorSpec::new("class", Datatype::Int64, &[-1]),
                TensorSpec::new("probabilities", Datatype::Fp32, &[-1, axis(classes)]),
            ],
            limits: Limits {
                max_batch,
                max_text_bytes: None,
                max_tokens: None,
                max_new_tokens: None,
                value_range: Some((0.0, pixel_max)),
            },
        }
    }

    /// Texts in, unit vectors out. Shapes: `text` `[batch]`, `embedding` `[batch, dimension]`.
    #[must_use]
    pub fn embedding(dimension: usize, max_tokens: usize, max_batch: usize) -> Self {
        Self {
            family: Family::Embedding,
            inputs: vec![TensorSpec::new("text", Datatype::Bytes, &[-1])],
            outputs: vec![TensorSpec::new(
                "embedding",
                Datatype::Fp32,
                &[-1, axis(dimension)],
            )],
            limits: Limits {
                max_batch,
                max_text_bytes: Some(max_tokens.saturating_mul(BYTES_PER_TOKEN)),
                max_tokens: Some(max_tokens),
                max_new_tokens: None,
                value_range: None,
            },
        }
    }

    /// One prompt in, its continuation out. Shapes: `prompt` `[1]`, `text` `[1]`, `tokens` `[new tokens]`.
    #[must_use]
    pub fn generator(max_tokens: usize, max_new_tokens: usize) -> Self {
        Self {
            family: Family::Generator,
            inputs: vec![TensorSpec::new("prompt", Datatype::Bytes, &[1])],
            outputs: vec![
                TensorSpec::new("text", Datatype::Bytes, &[1]),
                TensorSpec::new("tokens", Datatype::Int64, &[-1]),
            ],
            limits: Limits {
                max_batch: 1,
                max_text_bytes: Some(max_tokens.saturating_mul(BYTES_PER_TOKEN)),
                max_tokens: Some(max_tokens),
                max_new_tokens: Some(max_new_tokens.min(max_tokens.saturating_sub(1))),
                value_range: None,
            },
        }
    }
}

fn axis(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
