//! A directory before it is registered or loaded: the cheap checks, by headers and config alone.
//!
//! Runs without the feature `candle` and reads no tensor data, so a command line can call it before a byte is sent.

use crate::config::{self, ModelConfig};
use crate::error::{LoadError, LoadErrorKind};
use crate::layout;
use crate::options::LoadOptions;
use crate::signature::{Family, Signature};
use crate::tokenizer_file;
use crate::weights::{WeightsIndex, gguf, pickle, safetensors};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Most files in a model directory.
const FILES_MAX: usize = 1_000;
/// Deepest folder below the model directory.
const DEPTH_MAX: usize = 4;

/// What a model directory holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSummary {
    /// What runs it: always `candle`.
    pub framework: &'static str,
    /// Kind of model.
    pub family: Family,
    /// Format of the weights: `safetensors` or `gguf`.
    pub format: &'static str,
    /// Number of weights.
    pub parameters: u64,
    /// Inputs, outputs, limits.
    pub signature: Signature,
    /// All files, sorted by path: what a version of this model consists of.
    pub files: Vec<ModelFile>,
}

/// One file of a model directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelFile {
    /// Path below the directory, with `/`.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// Checks a directory with the default limits.
///
/// # Errors
/// The first defect: file, what was found, remedy. Nothing is changed.
pub fn validate_dir(dir: &Path) -> Result<ModelSummary, LoadError> {
    check(dir, &LoadOptions::default()).map(|checked| checked.summary)
}

/// A directory that passed, with what loading it needs.
#[cfg_attr(not(feature = "candle"), expect(dead_code, reason = "only engines read it"))]
pub(crate) struct Checked {
    pub(crate) summary: ModelSummary,
    pub(crate) config: ModelConfig,
    pub(crate) weights: WeightsIndex,
    /// Before each tensor name in the file: `bert.` in checkpoints of whole tasks, else nothing.
    pub(crate) prefix: &'static str,
}

/// All checks that need no engine.
pub(crate) fn check(dir: &Path, options: &LoadOptions) -> Result<Checked, LoadError> {
    let files = list_files(dir)?;
    for file in &files {
        pickle::refuse(&dir.join(&file.path))?;
    }
    let config = config::read(dir)?;
    let weights = find_weights(dir, &files, &config)?;
    check_bytes(&weights, options)?;
    let prefix = prefix_of(&weights);
    let expected = expected_tensors(&config, &weights);
    weights.check(prefix, &expected)?;
    check_tokenizer(dir, &config)?;
    let summary = ModelSummary {
        framework: "candle",
        family: family_of(&config),
        format: weights.format.name(),
        parameters: WeightsIndex::parameters(&expected),
        signature: signature_of(&config, options),
        files,
    };
    Ok(Checked {
        summary,
        config,
        weights,
        prefix,
    })
}

fn family_of(config: &ModelConfig) -> Family {
    match config {
        ModelConfig::Bert(_) => Family::Embedding,
        ModelConfig::Digits(_) => Family::Digits,
        ModelConfig::Llama(_) => Family::Generator,
    }
}

fn signature_of(config: &ModelConfig, options: &LoadOptions) -> Signature {
    match config {
        ModelConfig::Bert(config) => {
            Signature::embedding(config.hidden_size, config.max_tokens, options.max_batch)
        }
        ModelConfig::Digits(config) => {
            let [height, width] = config.image_size;
            Signature::digits(
                height * width,
                config.pixel_max,
                config.classes,
                options.max_batch,
            )
        }
        ModelConfig::Llama(config) => Signature::generator(
            config.max_position_embeddings.min(options.max_context),
            options.max_new_tokens,
        ),
    }
}

fn expected_tensors(config: &ModelConfig, weights: &WeightsIndex) -> Vec<layout::Expected> {
    match (config, weights.format) {
        (ModelConfig::Llama(config), crate::weights::Format::Gguf) => layout::gguf(config),
        _ => layout::safetensors(config),
    }
}

fn prefix_of(weights: &WeightsIndex) -> &'static str {
    if weights
        .tensors
        .contains_key("bert.embeddings.word_embeddings.weight")
    {
        "bert."
    } else {
        ""
    }
}

fn find_weights(dir: &Path, files: &[ModelFile], config: &ModelConfig) -> Result<WeightsIndex, LoadError> {
    let safe = dir.join("model.safetensors");
    if safe.exists() {
        return safetensors::index(&safe);
    }
    let ggufs: Vec<_> = files
        .iter()
        .filter(|file| file.path.ends_with(".gguf") && !file.path.contains('/'))
        .collect();
    match (config, ggufs.as_slice()) {
        (ModelConfig::Llama(_), [only]) => gguf::index(&dir.join(&only.path)),
        (ModelConfig::Llama(_), [_, second, ..]) => {
            let remedy = "leave exactly one weights file in the directory";
            let problem = format!("{} GGUF files, and no way to choose", ggufs.len());
            Err(LoadError::new(
                &dir.join(&second.path),
                LoadErrorKind::Malformed,
                problem,
                remedy,
            ))
        }
        _ => Err(missing_weights(dir, &safe)),
    }
}

fn missing_weights(dir: &Path, file: &Path) -> LoadError {
    if dir.join("model.safetensors.index.json").exists() {
        let problem = "the weights are split over several files";
        return LoadError::unsupported(file, problem, "merge the parts into one model.safetensors");
    }
    LoadError::new(
        file,
        LoadErrorKind::MissingFile,
        "the file is missing",
        "add the weights to the model directory",
    )
}

fn check_bytes(weights: &WeightsIndex, options: &LoadOptions) -> Result<(), LoadError> {
    let bytes: u64 = weights.tensors.values().map(|tensor| tensor.bytes).sum();
    if bytes <= options.max_weight_bytes {
        return Ok(());
    }
    let problem = format!(
        "{bytes} bytes of weights, the limit is {}",
        options.max_weight_bytes
    );
    let remedy = "raise the limit for weights, or quantise the model";
    Err(LoadError::new(
        &weights.file,
        LoadErrorKind::TooLarge,
        problem,
        remedy,
    ))
}

/// Families that read text need a tokenizer that fits the embedding.
fn check_tokenizer(dir: &Path, config: &ModelConfig) -> Result<(), LoadError> {
    match config {
        ModelConfig::Bert(config) => tokenizer_file::check(dir, config.vocab_size),
        ModelConfig::Llama(config) => tokenizer_file::check(dir, config.vocab_size),
        ModelConfig::Digits(_) => Ok(()),
    }
}

fn list_files(dir: &Path) -> Result<Vec<ModelFile>, LoadError> {
    let mut files = Vec::new();
    walk(dir, &mut Vec::new(), &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(dir: &Path, below: &mut Vec<String>, files: &mut Vec<ModelFile>) -> Result<(), LoadError> {
    let io = |error: std::io::Error| LoadError::io(dir, &error);
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = file_name(&path)?;
        let metadata = std::fs::metadata(&path).map_err(|error| LoadError::io(&path, &error))?;
        below.push(name);
        if metadata.is_dir() {
            check_depth(&path, below.len())?;
            walk(&path, below, files)?;
        } else if metadata.is_file() {
            push_file(
                &path,
                ModelFile {
                    path: below.join("/"),
                    bytes: metadata.len(),
                },
                files,
            )?;
        } else {
            return Err(LoadError::malformed(&path, "neither a file nor a folder"));
        }
        below.pop();
    }
    Ok(())
}

fn file_name(path: &Path) -> Result<String, LoadError> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| LoadError::malformed(path, "the name is not UTF-8"))
}

fn check_depth(path: &Path, depth: usize) -> Result<(), LoadError> {
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    let problem = format!("folders are nested deeper than {DEPTH_MAX}");
    Err(LoadError::new(
        path,
        LoadErrorKind::TooLarge,
        problem,
        "name the folder that holds config.json itself",
    ))
}

fn push_file(path: &Path, file: ModelFile, files: &mut Vec<ModelFile>) -> Result<(), LoadError> {
    if files.len() < FILES_MAX {
        files.push(file);
        return Ok(());
    }
    let problem = format!("more than {FILES_MAX} files");
    let remedy = "name the folder that holds config.json itself";
    let parent: PathBuf = path.parent().unwrap_or(path).to_owned();
    Err(LoadError::new(&parent, LoadErrorKind::TooLarge, problem, remedy))
}
