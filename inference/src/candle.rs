//! The engines that run on candle: an embedding encoder, a digits classifier, a text generator.
//!
//! Everything computes in f32 on the CPU; 16-bit weights are widened once, at load (candle has no sound 16-bit
//! arithmetic there). Each row of a request is one forward without padding, so an answer never depends on what else was
//! in the request. Deliberately absent: any check of input beyond [`crate::admission`], queues, threads.

mod bert;
mod detokenize;
mod digits;
mod generate;
mod llama;
mod product;
mod source;
mod text;

use crate::config::ModelConfig;
use crate::engine::Engine;
use crate::error::{InferError, LoadError};
use crate::validate::Checked;
use source::WeightSource;
use std::path::Path;
use std::sync::Arc;

/// Reads the weights of a checked directory and builds its engine.
pub(crate) fn load(dir: &Path, checked: Checked) -> Result<Arc<dyn Engine>, LoadError> {
    let mut source = WeightSource::open(checked.weights, checked.prefix)?;
    let signature = checked.summary.signature;
    Ok(match checked.config {
        ModelConfig::Bert(config) => Arc::new(bert::Embedder::load(dir, &config, signature, &mut source)?),
        ModelConfig::Digits(config) => Arc::new(digits::Digits::load(&config, signature, &mut source)?),
        ModelConfig::Llama(config) => {
            Arc::new(generate::Generator::load(dir, &config, signature, &mut source)?)
        }
    })
}

/// A failure of candle during a forward pass.
fn internal(error: candle_core::Error) -> InferError {
    InferError::Internal {
        what: error.to_string(),
    }
}
