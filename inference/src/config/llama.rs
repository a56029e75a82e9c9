//! config.json of a Llama decoder.

use super::{check_dimensions, check_divides, check_eps, check_is, parse};
use crate::error::LoadError;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A Llama decoder, fields as in Hugging Face's `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LlamaConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default = "llama_eps")]
    pub(crate) rms_norm_eps: f64,
    #[serde(default = "theta")]
    pub(crate) rope_theta: f64,
    #[serde(default)]
    rope_scaling: Value,
    /// Where newer files keep the rotary settings; it wins over `rope_theta`.
    #[serde(default)]
    rope_parameters: Value,
    pub(crate) max_position_embeddings: usize,
    #[serde(default)]
    pub(crate) tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    eos_token_id: Value,
}

fn silu() -> String {
    "silu".to_owned()
}
fn llama_eps() -> f64 {
    1e-6
}
fn theta() -> f64 {
    10_000.0
}

impl LlamaConfig {
    /// Key and value heads; as many as query heads where the file says nothing.
    pub(crate) fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of one head.
    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
            .unwrap_or_else(|| self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Ids that end a text.
    #[cfg_attr(not(feature = "candle"), expect(dead_code, reason = "only engines read it"))]
    pub(crate) fn eos_ids(&self) -> Vec<u32> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match &self.eos_token_id {
            Value::Array(ids) => ids.iter().filter_map(id).collect(),
            other => id(other).into_iter().collect(),
        }
    }
}

/// Reads and checks the config.
pub(super) fn read(file: &Path, value: Value) -> Result<LlamaConfig, LoadError> {
    let mut config: LlamaConfig = parse(file, value)?;
    read_rope_parameters(file, &mut config)?;
    let dimensions = [
        ("vocab_size", config.vocab_size),
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
        ("num_attention_heads", config.num_attention_heads),
        ("num_key_value_heads", config.kv_heads()),
        ("head_dim", config.head_dim()),
        ("max_position_embeddings", config.max_position_embeddings),
    ];
    check_dimensions(file, &dimensions, config.num_hidden_layers)?;
    if config.head_dim.is_none() {
        check_divides(
            file,
            "hidden_size",
            config.hidden_size,
            "num_attention_heads",
            config.num_attention_heads,
        )?;
    }
    check_divides(
        file,
        "num_attention_heads",
        config.num_attention_heads,
        "num_key_value_heads",
        config.kv_heads(),
    )?;
    check_divides(file, "head_dim", config.head_dim(), "2 (rotary halves)", 2)?;
    check_is(file, "hidden_act", &config.hidden_act, "silu")?;
    check_eps(file, "rms_norm_eps", config.rms_norm_eps)?;
    check_llama_extras(file, &config)?;
    Ok(config)
}

/// Takes the rotary base from `rope_parameters` where it stands there; other kinds than the plain one are refused.
fn read_rope_parameters(file: &Path, config: &mut LlamaConfig) -> Result<(), LoadError> {
    if let Some(theta) = config.rope_parameters.get("rope_theta").and_then(Value::as_f64) {
        config.rope_theta = theta;
    }
    match config.rope_parameters.get("rope_type").and_then(Value::as_str) {
        None | Some("default") => Ok(()),
        Some(kind) => {
            let remedy = "only models without rope scaling are served";
            Err(LoadError::unsupported(
                file,
                format!("rope_parameters.rope_type is {kind:?}"),
                remedy,
            ))
        }
    }
}

fn check_llama_extras(file: &Path, config: &LlamaConfig) -> Result<(), LoadError> {
    if !config.rope_scaling.is_null() {
        let problem = format!("rope_scaling is {}", config.rope_scaling);
        return Err(LoadError::unsupported(
            file,
            problem,
            "only models without rope scaling are served",
        ));
    }
    if config.attention_bias || config.mlp_bias {
        let remedy = "only Llama models without biases are served";
        return Err(LoadError::unsupported(
            file,
            "attention_bias or mlp_bias is true",
            remedy,
        ));
    }
    if !(config.rope_theta.is_finite() && config.rope_theta > 0.0) {
        return Err(LoadError::malformed(
            file,
            format!("rope_theta is {}, it must be above 0", config.rope_theta),
        ));
    }
    Ok(())
}
