//! Requests and answers.

use crate::signature::Signature;
use crate::tensor::{Datatype, Tensor};
use serde::{Deserialize, Serialize};

/// Tensors for one call of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct InferRequest {
    /// One tensor for each input of the signature, in any order.
    pub inputs: Vec<Tensor>,
    /// How a generator samples; other families ignore it.
    pub sampling: Sampling,
}

impl InferRequest {
    /// A request from its tensors, with the default sampling.
    #[must_use]
    pub fn new(inputs: Vec<Tensor>) -> Self {
        Self {
            inputs,
            sampling: Sampling::default(),
        }
    }

    /// Texts for an embedding model.
    #[must_use]
    pub fn texts(texts: Vec<String>) -> Self {
        Self::new(vec![Tensor::texts("text", texts)])
    }

    /// Images for the digits model, `pixels.len() / 64` of them.
    #[must_use]
    pub fn images(pixels: Vec<f32>) -> Self {
        let rows = pixels.len() / 64;
        Self::new(vec![Tensor::fp32("image", &[rows, 64], pixels)])
    }

    /// The smallest request that the signature admits: zeros, and a word of text. For warming and probing.
    #[must_use]
    pub fn sample(signature: &Signature) -> Self {
        let inputs = signature.inputs.iter().map(|spec| {
            let shape: Vec<usize> = spec
                .shape
                .iter()
                .map(|axis| usize::try_from(*axis).unwrap_or(1))
                .collect();
            let count = shape.iter().product();
            match spec.datatype {
                Datatype::Fp32 => Tensor::fp32(&spec.name, &shape, vec![0.0; count]),
                Datatype::Int64 => Tensor::int64(&spec.name, &shape, vec![0; count]),
                Datatype::Bytes => Tensor::texts(&spec.name, vec!["a".to_owned(); count]),
            }
        });
        Self {
            inputs: inputs.collect(),
            sampling: Sampling {
                max_tokens: 1,
                ..Sampling::default()
            },
        }
    }
}

/// How tokens are chosen, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Tokens to generate at most, at least 1. Default 32.
    pub max_tokens: usize,
    /// 0 takes the likeliest token each time (ties: the lowest id); above, up to 2, samples. Default 0.
    pub temperature: f32,
    /// Samples only among the likeliest tokens that hold this share of the probability, (0, 1]. Default 1.
    pub top_p: f32,
    /// Seed of the sampling: the same seed, model and prompt give the same text. Default 0.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 32,
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
        }
    }
}

/// A prompt to continue.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// Text to go on from. Not empty.
    pub prompt: String,
    /// How tokens are chosen, and how many.
    pub sampling: Sampling,
}

impl GenerateRequest {
    /// Greedy continuation by `max_tokens` tokens.
    #[must_use]
    pub fn greedy(prompt: &str, max_tokens: usize) -> Self {
        Self {
            prompt: prompt.to_owned(),
            sampling: Sampling {
                max_tokens,
                ..Sampling::default()
            },
        }
    }
}

/// Tokens counted for billing and limits, special tokens included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: usize,
    /// Tokens generated.
    pub output_tokens: usize,
}

/// Answer of one call: a tensor for each output of the signature, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The outputs.
    pub tensors: Vec<Tensor>,
    /// Tokens read and generated; zero for models without text.
    pub usage: Usage,
}

impl Output {
    /// The output of that name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

/// One generated token, as soon as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEvent {
    /// Position among the generated tokens, from 0.
    pub index: usize,
    /// Token id in the model's vocabulary.
    pub id: u32,
    /// Text that this token completed. May be empty: bytes of an unfinished character wait for the next token.
    pub text: String,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended the text.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The receiver of the tokens asked to stop.
    Cancelled,
}

/// A finished generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The text after the prompt: all [`TokenEvent::text`] together.
    pub text: String,
    /// Ids of the generated tokens, without the end marker.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens read and generated.
    pub usage: Usage,
}

impl Generated {
    /// The answer in the shape of a generator's signature: `text` `[1]`, `tokens` `[new tokens]`.
    #[must_use]
    pub fn into_output(self) -> Output {
        let ids: Vec<i64> = self.ids.iter().map(|id| i64::from(*id)).collect();
        let tensors = vec![
            Tensor::texts("text", vec![self.text]),
            Tensor::int64("tokens", &[ids.len()], ids),
        ];
        Output {
            tensors,
            usage: self.usage,
        }
    }
}
