//! Llama decoder with grouped query heads, rotary positions and a key-value cache.
//!
//! Weights come from safetensors in the layout of Hugging Face, or from GGUF in that of llama.cpp. The two differ in how
//! the halves of a rotary pair lie in a head: apart in the first, side by side in the second.

use super::product::product;
use super::source::{Matrix, WeightSource};
use crate::config::LlamaConfig;
use crate::error::LoadError;
use crate::layout::LayerWeight;
use crate::weights::Format;
use candle_core::{Device, Result, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_i};

type Loaded<T> = std::result::Result<T, LoadError>;

/// Embedding, layers, head.
pub(super) struct Decoder {
    embedding: Tensor,
    layers: Vec<DecoderLayer>,
    norm: Tensor,
    /// `None`: the embedding is also the output head.
    head: Option<Matrix>,
    shape: Shape,
    rotary: Rotary,
}

/// Numbers that every layer needs.
#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    width: usize,
    eps: f32,
}

struct Rotary {
    /// `[positions, width / 2]`.
    cos: Tensor,
    sin: Tensor,
    interleaved: bool,
}

struct DecoderLayer {
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
    attention_norm: Tensor,
    feed_forward_norm: Tensor,
}

/// Keys and values of one generation.
pub(super) struct Session {
    caches: Vec<KvCache>,
    position: usize,
}

impl Rotary {
    fn new(config: &LlamaConfig, positions: usize, interleaved: bool) -> Result<Self> {
        let (width, theta) = (config.head_dim(), config.rope_theta);
        let angle =
            |position: usize, pair: usize| position as f64 / theta.powf(2.0 * pair as f64 / width as f64);
        let table = |f: fn(f64) -> f64| {
            let cells = (0..positions).flat_map(|position| (0..width / 2).map(move |pair| (position, pair)));
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a sine or cosine, rounded to the precision of the model"
            )]
            let values: Vec<f32> = cells
                .map(|(position, pair)| f(angle(position, pair)) as f32)
                .collect();
            Tensor::from_vec(values, (positions, width / 2), &Device::Cpu)
        };
        Ok(Self {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
            interleaved,
        })
    }

    /// Turns `x` `[heads, tokens, width]` whose first token stands at `position`.
    fn turn(&self, x: &Tensor, position: usize) -> Result<Tensor> {
        let (_, tokens, _) = x.dims3()?;
        let (cos, sin) = (
            self.cos.narrow(0, position, tokens)?,
            self.sin.narrow(0, position, tokens)?,
        );
        let x = x.unsqueeze(0)?.contiguous()?;
        if self.interleaved {
            rope_i(&x, &cos, &sin)?
        } else {
            rope(&x, &cos, &sin)?
        }
        .squeeze(0)
    }
}

impl DecoderLayer {
    fn load(source: &mut WeightSource, index: usize) -> Loaded<Self> {
        let gguf = source.index().format == Format::Gguf;
        let name = |weight: LayerWeight| match gguf {
            true => format!("blk.{index}.{}.weight", weight.gguf()),
            false => format!("model.layers.{index}.{}.weight", weight.hugging_face()),
        };
        Ok(Self {
            query: source.matrix(&name(LayerWeight::Query))?,
            key: source.matrix(&name(LayerWeight::Key))?,
            value: source.matrix(&name(LayerWeight::Value))?,
            output: source.matrix(&name(LayerWeight::Output))?,
            gate: source.matrix(&name(LayerWeight::Gate))?,
            up: source.matrix(&name(LayerWeight::Up))?,
            down: source.matrix(&name(LayerWeight::Down))?,
            attention_norm: source.dense(&name(LayerWeight::AttentionNorm))?,
            feed_forward_norm: source.dense(&name(LayerWeight::FeedForwardNorm))?,
        })
    }

    /// `x` `[tokens, hidden]` to the same shape; keys and values go into the cache.
    fn forward(&self, x: &Tensor, decoder: &Decoder, position: usize, cache: &mut KvCache) -> Result<Tensor> {
        let eps = decoder.shape.eps;
        let normed = rms_norm(x, &self.attention_norm, eps)?;
        let x = (x + self.attend(&normed, decoder, position, cache)?)?;
        let normed = rms_norm(&x, &self.feed_forward_norm, eps)?;
        let inner = (silu(&self.gate.forward(&normed)?)? * self.up.forward(&normed)?)?;
        &x + self.down.forward(&inner)?
    }

    fn attend(&self, x: &Tensor, decoder: &Decoder, position: usize, cache: &mut KvCache) -> Result<Tensor> {
        let Shape {
            heads,
            kv_heads,
            width,
            ..
        } = decoder.shape;
        let (tokens, _) = x.dims2()?;
        let split = |matrix: &Matrix, heads| {
            matrix
                .forward(x)?
                .reshape((tokens, heads, width))?
                .transpose(0, 1)
        };
        let query = decoder.rotary.turn(&split(&self.query, heads)?, position)?;
        let key = decoder.rotary.turn(&split(&self.key, kv_heads)?, position)?;
        let (keys, values) = cache.append(&key, &split(&self.value, kv_heads)?.contiguous()?)?;
        // Query heads that share a key head are stacked as rows, so keys are never copied for them.
        let query = query.reshape((kv_heads, heads / kv_heads * tokens, width))?;
        let scores = (product(&query, &keys.t()?)? * (1.0 / (width as f64).sqrt()))?;
        let scores = softmax_last_dim(&causal(&scores, heads, tokens, position)?)?;
        let context = product(&scores, &values)?.reshape((heads, tokens, width))?;
        self.output
            .forward(&context.transpose(0, 1)?.reshape((tokens, heads * width))?)
    }
}

/// Hides later tokens from earlier ones. A single token sees everything, so it needs no mask.
fn causal(scores: &Tensor, heads: usize, tokens: usize, position: usize) -> Result<Tensor> {
    if tokens == 1 {
        return Ok(scores.clone());
    }
    let (seen, shape) = (position + tokens, scores.shape().clone());
    let cell = |row: usize, column: usize| {
        if column > position + row {
            f32::NEG_INFINITY
        } else {
            0.0
        }
    };
    let mask: Vec<f32> = (0..tokens)
        .flat_map(|row| (0..seen).map(move |column| cell(row, column)))
        .collect();
    let mask = Tensor::from_vec(mask, (tokens, seen), &Device::Cpu)?;
    scores
        .reshape((heads, tokens, seen))?
        .broadcast_add(&mask)?
        .reshape(shape)
}

impl Decoder {
    pub(super) fn load(config: &LlamaConfig, positions: usize, source: &mut WeightSource) -> Loaded<Self> {
        let (gguf, file) = (source.index().format == Format::Gguf, source.index().file.clone());
        let name = |hugging_face: &'static str, other: &'static str| if gguf { other } else { hugging_face };
        let embedding = source.dense(name("model.embed_tokens.weight", "token_embd.weight"))?;
        let norm = source.dense(name("model.norm.weight", "output_norm.weight"))?;
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(source.matrix(name("lm_head.weight", "output.weight"))?),
        };
        let layers = (0..config.num_hidden_layers).map(|index| DecoderLayer::load(source, index));
        let layers = layers.collect::<Loaded<_>>()?;
        #[expect(clippy::cast_possible_truncation, reason = "candle takes the epsilon as f32")]
        let eps = config.rms_norm_eps as f32;
        let (heads, kv_heads, width) = (config.num_attention_heads, config.kv_heads(), config.head_dim());
        let rotary = Rotary::new(config, positions, gguf);
        let rotary = rotary.map_err(|error| LoadError::malformed(&file, error.to_string()))?;
        Ok(Self {
            embedding,
            layers,
            norm,
            head,
            shape: Shape {
                heads,
                kv_heads,
                width,
                eps,
            },
            rotary,
        })
    }

    /// Room for `tokens` tokens.
    pub(super) fn session(&self, tokens: usize) -> Session {
        // Axis 1 of [kv_heads, tokens, width] grows.
        Session {
            caches: self.layers.iter().map(|_| KvCache::new(1, tokens)).collect(),
            position: 0,
        }
    }

    /// Reads `ids` and gives the logits `[vocabulary]` after the last.
    pub(super) fn forward(&self, ids: &[u32], session: &mut Session) -> Result<Vec<f32>> {
        let mut x = self
            .embedding
            .embedding(&Tensor::from_slice(ids, ids.len(), &Device::Cpu)?)?;
        for (layer, cache) in self.layers.iter().zip(&mut session.caches) {
            x = layer.forward(&x, self, session.position, cache)?;
        }
        session.position += ids.len();
        let last = rms_norm(
            &x.narrow(0, ids.len() - 1, 1)?.contiguous()?,
            &self.norm,
            self.shape.eps,
        )?;
        let logits = match &self.head {
            Some(head) => head.forward(&last)?,
            None => product(&last, &self.embedding.t()?)?,
        };
        logits.flatten_all()?.to_vec1()
    }
}
