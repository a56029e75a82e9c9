//! tokenizer.json before a tokenizer is built from it: what the tokenizers crate takes on trust.
//!
//! Two things in the file end in a panic there, or in a read past the embedding here: a template that names a special
//! token or a sequence which is not there, and an id beyond the vocabulary. Found by flipping bytes (tests/it/damage.rs).

use crate::config;
use crate::error::{LoadError, LoadErrorKind};
use serde_json::Value;
use std::path::Path;

/// Checks tokenizer.json of a model whose embedding has `vocab_size` rows.
pub(crate) fn check(dir: &Path, vocab_size: usize) -> Result<(), LoadError> {
    let file = dir.join("tokenizer.json");
    let value = config::read_json(&file)?;
    check_ids(&file, &value, vocab_size)?;
    check_templates(&file, value.get("post_processor").unwrap_or(&Value::Null))
}

fn check_ids(file: &Path, tokenizer: &Value, vocab_size: usize) -> Result<(), LoadError> {
    let largest = largest_id(tokenizer)
        .ok_or_else(|| LoadError::malformed(file, "no vocabulary under model.vocab: not a tokenizer.json"))?;
    if u128::from(largest) < vocab_size as u128 {
        return Ok(());
    }
    let problem = format!("token id {largest} is beyond vocab_size {vocab_size} of config.json");
    let remedy = "use the tokenizer.json and the config.json of the same model";
    Err(LoadError::new(file, LoadErrorKind::Malformed, problem, remedy))
}

fn largest_id(tokenizer: &Value) -> Option<u64> {
    let vocab = match tokenizer.get("model")?.get("vocab")? {
        Value::Object(vocab) => vocab.values().filter_map(Value::as_u64).max(),
        // Unigram: a list, the position is the id.
        Value::Array(pieces) => (pieces.len() as u64).checked_sub(1),
        _ => None,
    }?;
    let added = tokenizer.get("added_tokens").and_then(Value::as_array);
    let added = added
        .into_iter()
        .flatten()
        .filter_map(|token| token.get("id")?.as_u64())
        .max();
    Some(vocab.max(added.unwrap_or(0)))
}

/// Templates may stand inside lists of processors; JSON that was parsed is not nested deeper than the parser allows.
fn check_templates(file: &Path, value: &Value) -> Result<(), LoadError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_templates(file, item)),
        Value::Object(fields) => {
            check_template(file, value, "single", &["A"])?;
            check_template(file, value, "pair", &["A", "B"])?;
            fields.values().try_for_each(|field| check_templates(file, field))
        }
        _ => Ok(()),
    }
}

fn check_template(file: &Path, processor: &Value, key: &str, sequences: &[&str]) -> Result<(), LoadError> {
    let Some(pieces) = processor.get(key).and_then(Value::as_array) else {
        return Ok(());
    };
    let known = processor.get("special_tokens");
    for piece in pieces {
        let id = |kind: &str| piece.get(kind)?.get("id")?.as_str();
        if let Some(token) =
            id("SpecialToken").filter(|token| known.and_then(|known| known.get(token)).is_none())
        {
            return Err(LoadError::malformed(
                file,
                format!("template {key} names unknown special token {token:?}"),
            ));
        }
        if let Some(sequence) = id("Sequence").filter(|sequence| !sequences.contains(sequence)) {
            return Err(LoadError::malformed(
                file,
                format!("template {key} names unknown sequence {sequence:?}"),
            ));
        }
    }
    Ok(())
}
