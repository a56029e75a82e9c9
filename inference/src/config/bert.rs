//! config.json of a BERT encoder, with the two files of sentence-transformers that change what it means.

use super::{check_dimensions, check_divides, check_eps, check_is, optional_json, parse};
use crate::error::LoadError;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A BERT encoder, fields as in Hugging Face's `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BertConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "two")]
    pub(crate) type_vocab_size: usize,
    #[serde(default = "bert_eps")]
    pub(crate) layer_norm_eps: f64,
    #[serde(default)]
    position_embedding_type: Option<String>,
    /// Tokens of one text at most: positions, or less if sentence_bert_config.json says so.
    #[serde(skip)]
    pub(crate) max_tokens: usize,
}

fn gelu() -> String {
    "gelu".to_owned()
}
fn two() -> usize {
    2
}
fn bert_eps() -> f64 {
    1e-12
}

/// Reads and checks the config.
pub(super) fn read(dir: &Path, file: &Path, value: Value) -> Result<BertConfig, LoadError> {
    let mut config: BertConfig = parse(file, value)?;
    check_dimensions(
        file,
        &[
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
            ("max_position_embeddings", config.max_position_embeddings),
            ("type_vocab_size", config.type_vocab_size),
        ],
        config.num_hidden_layers,
    )?;
    check_divides(
        file,
        "hidden_size",
        config.hidden_size,
        "num_attention_heads",
        config.num_attention_heads,
    )?;
    check_is(file, "hidden_act", &config.hidden_act, "gelu")?;
    check_is(
        file,
        "position_embedding_type",
        config.position_embedding_type.as_deref().unwrap_or("absolute"),
        "absolute",
    )?;
    check_eps(file, "layer_norm_eps", config.layer_norm_eps)?;
    config.max_tokens = sentence_limit(dir)?
        .unwrap_or(usize::MAX)
        .min(config.max_position_embeddings);
    check_pooling(dir)?;
    Ok(config)
}

/// `max_seq_length` of sentence_bert_config.json, where there is one.
fn sentence_limit(dir: &Path) -> Result<Option<usize>, LoadError> {
    let Some((file, value)) = optional_json(dir, "sentence_bert_config.json")? else {
        return Ok(None);
    };
    let limit = value
        .get("max_seq_length")
        .and_then(Value::as_u64)
        .and_then(|limit| usize::try_from(limit).ok());
    match limit {
        // Two special tokens and one of the text.
        Some(limit) if limit < 3 => Err(LoadError::malformed(
            &file,
            format!("max_seq_length is {limit}, at least 3 is needed"),
        )),
        limit => Ok(limit),
    }
}

/// Mean pooling is what this crate does; a directory that asks for another would give other vectors silently.
fn check_pooling(dir: &Path) -> Result<(), LoadError> {
    let Some((file, value)) = optional_json(dir, "1_Pooling/config.json")? else {
        return Ok(());
    };
    if value.get("pooling_mode_mean_tokens").and_then(Value::as_bool) == Some(false) {
        return Err(LoadError::unsupported(
            &file,
            "pooling_mode_mean_tokens is false",
            "only mean pooling is served",
        ));
    }
    Ok(())
}
