//! Sentence embeddings: BERT encoder, mean over the tokens, L2 norm.
//!
//! One text a forward and no padding, hence no mask. Query, key and value are one matrix: three small products cost
//! more than one of their size together.

use super::internal;
use super::product::product;
use super::source::WeightSource;
use super::text::TextCodec;
use crate::admission::admit;
use crate::config::BertConfig;
use crate::engine::Engine;
use crate::error::{InferError, InputError, LoadError};
use crate::request::{InferRequest, Output, Usage};
use crate::signature::Signature;
use crate::tensor::Tensor as Plain;
use candle_core::{Device, Result, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};
use std::path::Path;

/// Texts `[batch]` to unit vectors `[batch, hidden]`.
pub(super) struct Embedder {
    signature: Signature,
    codec: TextCodec,
    encoder: Encoder,
}

struct Encoder {
    words: Tensor,
    /// Position and token-type embedding added up: all tokens of a single text have type 0.
    positions: Tensor,
    norm: Norm,
    layers: Vec<EncoderLayer>,
    heads: usize,
    hidden: usize,
}

struct EncoderLayer {
    /// `[3 * hidden, hidden]`: query, key, value.
    attention: Dense,
    attention_output: Dense,
    attention_norm: Norm,
    intermediate: Dense,
    output: Dense,
    output_norm: Norm,
}

struct Dense {
    /// `[output, input]`.
    weight: Tensor,
    bias: Tensor,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

type Loaded<T> = std::result::Result<T, LoadError>;

impl Dense {
    fn load(source: &mut WeightSource, name: &str) -> Loaded<Self> {
        Ok(Self {
            weight: source.dense(&format!("{name}.weight"))?,
            bias: source.dense(&format!("{name}.bias"))?,
        })
    }

    fn stacked(source: &mut WeightSource, names: [&str; 3], at: &str) -> Loaded<Self> {
        let parts = names.map(|name| Self::load(source, &format!("{at}.{name}")));
        let [query, key, value] = parts;
        let (query, key, value) = (query?, key?, value?);
        let weight = Tensor::cat(&[&query.weight, &key.weight, &value.weight], 0);
        let bias = Tensor::cat(&[&query.bias, &key.bias, &value.bias], 0);
        let failed =
            |error: candle_core::Error| LoadError::malformed(&source.index().file, error.to_string());
        Ok(Self {
            weight: weight.map_err(failed)?,
            bias: bias.map_err(failed)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        product(x, &self.weight.t()?)?.broadcast_add(&self.bias)
    }
}

impl Norm {
    fn load(source: &mut WeightSource, name: &str, eps: f64) -> Loaded<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "candle takes the epsilon as f32")]
        let eps = eps as f32;
        let (weight, bias) = (
            source.dense(&format!("{name}.weight"))?,
            source.dense(&format!("{name}.bias"))?,
        );
        Ok(Self { weight, bias, eps })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

impl EncoderLayer {
    fn load(source: &mut WeightSource, index: usize, eps: f64) -> Loaded<Self> {
        let at = format!("encoder.layer.{index}");
        Ok(Self {
            attention: Dense::stacked(source, ["query", "key", "value"], &format!("{at}.attention.self"))?,
            attention_output: Dense::load(source, &format!("{at}.attention.output.dense"))?,
            attention_norm: Norm::load(source, &format!("{at}.attention.output.LayerNorm"), eps)?,
            intermediate: Dense::load(source, &format!("{at}.intermediate.dense"))?,
            output: Dense::load(source, &format!("{at}.output.dense"))?,
            output_norm: Norm::load(source, &format!("{at}.output.LayerNorm"), eps)?,
        })
    }

    /// `x` `[tokens, hidden]` to the same shape.
    fn forward(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let x = self.attention_norm.forward(&(x + self.attend(x, heads)?)?)?;
        let inner = self.intermediate.forward(&x)?.gelu_erf()?;
        self.output_norm.forward(&(&x + self.output.forward(&inner)?)?)
    }

    fn attend(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let (tokens, hidden) = x.dims2()?;
        let width = hidden / heads;
        // [tokens, 3, heads, width] to three times [heads, tokens, width].
        let all = self
            .attention
            .forward(x)?
            .reshape((tokens, 3, heads, width))?
            .permute((1, 2, 0, 3))?
            .contiguous()?;
        let (query, key, value) = (all.get(0)?, all.get(1)?, all.get(2)?);
        let scores = (product(&query, &key.t()?)? * (1.0 / (width as f64).sqrt()))?;
        let context = product(&softmax_last_dim(&scores)?, &value)?;
        self.attention_output
            .forward(&context.transpose(0, 1)?.reshape((tokens, hidden))?)
    }
}

impl Encoder {
    fn load(config: &BertConfig, source: &mut WeightSource) -> Loaded<Self> {
        let words = source.dense("embeddings.word_embeddings.weight")?;
        let positions = source.dense("embeddings.position_embeddings.weight")?;
        let kinds = source.dense("embeddings.token_type_embeddings.weight")?;
        let positions = kinds
            .narrow(0, 0, 1)
            .and_then(|kind| positions.broadcast_add(&kind));
        let failed =
            |error: candle_core::Error| LoadError::malformed(&source.index().file, error.to_string());
        let positions = positions.map_err(failed)?;
        let norm = Norm::load(source, "embeddings.LayerNorm", config.layer_norm_eps)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| EncoderLayer::load(source, index, config.layer_norm_eps));
        let layers = layers.collect::<Loaded<_>>()?;
        Ok(Self {
            words,
            positions,
            norm,
            layers,
            heads: config.num_attention_heads,
            hidden: config.hidden_size,
        })
    }

    /// Ids of one text to its unit vector.
    fn forward(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let ids = Tensor::from_slice(ids, ids.len(), &Device::Cpu)?;
        let words = self.words.embedding(&ids)?;
        let mut x = self
            .norm
            .forward(&(words + self.positions.narrow(0, 0, ids.elem_count())?)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, self.heads)?;
        }
        Ok(normalised(&x.mean(0)?.to_vec1()?))
    }
}

/// The vector at length 1; zeros stay zeros.
fn normalised(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    // The floor is the one that PyTorch's normalize uses.
    vector.iter().map(|value| value / length.max(1e-12)).collect()
}

impl Embedder {
    pub(super) fn load(
        dir: &Path,
        config: &BertConfig,
        signature: Signature,
        source: &mut WeightSource,
    ) -> Loaded<Self> {
        let codec = TextCodec::load(dir, config.vocab_size)?;
        Ok(Self {
            signature,
            codec,
            encoder: Encoder::load(config, source)?,
        })
    }

    fn tokenize(&self, request: &InferRequest) -> std::result::Result<Vec<Vec<u32>>, InputError> {
        admit(&self.signature, request)?;
        let texts = request
            .inputs
            .first()
            .and_then(Plain::as_texts)
            .unwrap_or_default();
        let encode = |(index, text): (usize, &String)| self.codec.encode(&self.signature.limits, index, text);
        texts.iter().enumerate().map(encode).collect()
    }
}

impl Engine for Embedder {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn admit(&self, request: &InferRequest) -> std::result::Result<(), InputError> {
        self.tokenize(request).map(|_| ())
    }

    fn infer(&self, request: &InferRequest) -> std::result::Result<Output, InferError> {
        let rows = self.tokenize(request)?;
        let mut values = Vec::with_capacity(rows.len() * self.encoder.hidden);
        for ids in &rows {
            values.extend(self.encoder.forward(ids).map_err(internal)?);
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(InferError::Internal {
                what: "the embedding is not finite".to_owned(),
            });
        }
        let usage = Usage {
            input_tokens: rows.iter().map(Vec::len).sum(),
            output_tokens: 0,
        };
        let tensors = vec![Plain::fp32(
            "embedding",
            &[rows.len(), self.encoder.hidden],
            values,
        )];
        Ok(Output { tensors, usage })
    }
}
