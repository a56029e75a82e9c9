//! config.json of each family: what is read from it, and what is refused because it would not run.

use crate::error::{LoadError, LoadErrorKind};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Largest count of anything in a config (rows, width, positions): far above real models, far below overflow.
const DIMENSION_MAX: usize = 1 << 22;
/// Most layers.
const LAYERS_MAX: usize = 1024;

/// A config of one of the families.
#[derive(Clone, Debug)]
pub(crate) enum ModelConfig {
    Bert(BertConfig),
    Digits(DigitsConfig),
    Llama(LlamaConfig),
}

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

/// Our own small CNN: two 3x3 convolutions, one 2x2 max pool, two dense layers.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DigitsConfig {
    pub(crate) image_size: [usize; 2],
    pub(crate) pixel_max: f32,
    pub(crate) channels: [usize; 2],
    pub(crate) hidden_size: usize,
    pub(crate) classes: usize,
}

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

fn gelu() -> String {
    "gelu".to_owned()
}
fn silu() -> String {
    "silu".to_owned()
}
fn two() -> usize {
    2
}
fn bert_eps() -> f64 {
    1e-12
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

/// Reads and checks `config.json` of a model directory.
pub(crate) fn read(dir: &Path) -> Result<ModelConfig, LoadError> {
    let file = dir.join("config.json");
    let value = read_json(&file)?;
    match family_of(&value).as_deref() {
        Some("bert") => bert(dir, &file, value).map(ModelConfig::Bert),
        Some("digits-cnn") => digits(&file, value).map(ModelConfig::Digits),
        Some("llama") => llama(&file, value).map(ModelConfig::Llama),
        _ => Err(unknown(&file, &value)),
    }
}

/// Parses a JSON file of at most 64 MiB (a tokenizer of a large vocabulary has about 10).
pub(crate) fn read_json(file: &Path) -> Result<Value, LoadError> {
    const LIMIT: u64 = 64 << 20;
    let size = std::fs::metadata(file)
        .map_err(|error| LoadError::io(file, &error))?
        .len();
    if size > LIMIT {
        return Err(LoadError::malformed(
            file,
            format!("{size} bytes of JSON, at most {LIMIT} are read"),
        ));
    }
    let bytes = std::fs::read(file).map_err(|error| LoadError::io(file, &error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| LoadError::malformed(file, format!("not valid JSON: {error}")))
}

/// `model_type` decides; `architectures` where it is absent.
fn family_of(value: &Value) -> Option<String> {
    if let Some(kind) = value.get("model_type").and_then(Value::as_str) {
        return Some(kind.to_owned());
    }
    let kind = match value.get("architectures")?.get(0)?.as_str()? {
        name if name.starts_with("Bert") => "bert",
        "LlamaForCausalLM" => "llama",
        _ => return None,
    };
    Some(kind.to_owned())
}

fn unknown(file: &Path, value: &Value) -> LoadError {
    let show = |key: &str| {
        value
            .get(key)
            .map_or_else(|| "absent".to_owned(), Value::to_string)
    };
    let problem = format!(
        "unknown architecture: model_type is {}, architectures is {}",
        show("model_type"),
        show("architectures")
    );
    let remedy = "served are model_type \"bert\" (embeddings), \"llama\" (text) and \"digits-cnn\"";
    LoadError::new(file, LoadErrorKind::UnknownArchitecture, problem, remedy)
}

fn parse<T: serde::de::DeserializeOwned>(file: &Path, value: Value) -> Result<T, LoadError> {
    serde_json::from_value(value)
        .map_err(|error| LoadError::malformed(file, format!("not a usable config: {error}")))
}

fn bert(dir: &Path, file: &Path, value: Value) -> Result<BertConfig, LoadError> {
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

fn optional_json(dir: &Path, name: &str) -> Result<Option<(PathBuf, Value)>, LoadError> {
    let file = dir.join(name);
    match read_json(&file) {
        Ok(value) => Ok(Some((file, value))),
        Err(error) if error.kind == LoadErrorKind::MissingFile => Ok(None),
        Err(error) => Err(error),
    }
}

fn digits(file: &Path, value: Value) -> Result<DigitsConfig, LoadError> {
    let config: DigitsConfig = parse(file, value)?;
    let [height, width] = config.image_size;
    let dimensions = [
        ("image_size[0]", height),
        ("image_size[1]", width),
        ("channels[0]", config.channels[0]),
        ("channels[1]", config.channels[1]),
        ("hidden_size", config.hidden_size),
        ("classes", config.classes),
    ];
    check_dimensions(file, &dimensions, 1)?;
    if config.image_size != [8, 8] {
        return Err(LoadError::unsupported(
            file,
            format!("image_size is {height}x{width}"),
            "only 8x8 is served",
        ));
    }
    if !(config.pixel_max.is_finite() && config.pixel_max > 0.0) {
        return Err(LoadError::malformed(
            file,
            format!("pixel_max is {}, it must be above 0", config.pixel_max),
        ));
    }
    Ok(config)
}

fn llama(file: &Path, value: Value) -> Result<LlamaConfig, LoadError> {
    let config: LlamaConfig = parse(file, value)?;
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

fn check_dimensions(file: &Path, dimensions: &[(&str, usize)], layers: usize) -> Result<(), LoadError> {
    for (name, value) in dimensions {
        if *value == 0 || *value > DIMENSION_MAX {
            return Err(LoadError::malformed(
                file,
                format!("{name} is {value}, it must be from 1 to {DIMENSION_MAX}"),
            ));
        }
    }
    if layers == 0 || layers > LAYERS_MAX {
        let problem = format!("num_hidden_layers is {layers}, it must be from 1 to {LAYERS_MAX}");
        return Err(LoadError::malformed(file, problem));
    }
    Ok(())
}

fn check_divides(file: &Path, whole: &str, value: usize, part: &str, by: usize) -> Result<(), LoadError> {
    if value.is_multiple_of(by) {
        return Ok(());
    }
    Err(LoadError::malformed(
        file,
        format!("{whole} {value} is not a multiple of {part} {by}"),
    ))
}

fn check_is(file: &Path, name: &str, found: &str, served: &str) -> Result<(), LoadError> {
    if found == served {
        return Ok(());
    }
    Err(LoadError::unsupported(
        file,
        format!("{name} is {found:?}"),
        format!("only {served:?} is served"),
    ))
}

fn check_eps(file: &Path, name: &str, value: f64) -> Result<(), LoadError> {
    if value.is_finite() && value > 0.0 && value < 1.0 {
        return Ok(());
    }
    Err(LoadError::malformed(
        file,
        format!("{name} is {value}, it must be above 0 and below 1"),
    ))
}
