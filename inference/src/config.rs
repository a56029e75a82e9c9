//! config.json of each family: what is read from it, and what is refused because it would not run.

mod bert;
mod digits;
mod llama;

pub(crate) use bert::BertConfig;
pub(crate) use digits::DigitsConfig;
pub(crate) use llama::LlamaConfig;

use crate::error::{LoadError, LoadErrorKind};
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

/// Reads and checks `config.json` of a model directory.
pub(crate) fn read(dir: &Path) -> Result<ModelConfig, LoadError> {
    let file = dir.join("config.json");
    let value = read_json(&file)?;
    match family_of(&value).as_deref() {
        Some("bert") => bert::read(dir, &file, value).map(ModelConfig::Bert),
        Some("digits-cnn") => digits::read(&file, value).map(ModelConfig::Digits),
        Some("llama") => llama::read(&file, value).map(ModelConfig::Llama),
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

fn optional_json(dir: &Path, name: &str) -> Result<Option<(PathBuf, Value)>, LoadError> {
    let file = dir.join(name);
    match read_json(&file) {
        Ok(value) => Ok(Some((file, value))),
        Err(error) if error.kind == LoadErrorKind::MissingFile => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse<T: serde::de::DeserializeOwned>(file: &Path, value: Value) -> Result<T, LoadError> {
    serde_json::from_value(value)
        .map_err(|error| LoadError::malformed(file, format!("not a usable config: {error}")))
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
