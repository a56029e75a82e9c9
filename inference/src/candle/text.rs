//! The tokenizer of a model directory.

use crate::admission::check_text_tokens;
use crate::error::{InputError, LoadError};
use crate::signature::Limits;
use std::path::Path;
use tokenizers::Tokenizer;

/// Text to token ids and back. Never cuts and never pads: too long is an error of the caller.
pub(super) struct TextCodec {
    tokenizer: Tokenizer,
    vocab_size: usize,
}

impl TextCodec {
    pub(super) fn load(dir: &Path, vocab_size: usize) -> Result<Self, LoadError> {
        let file = dir.join("tokenizer.json");
        let bytes = std::fs::read(&file).map_err(|error| LoadError::io(&file, &error))?;
        let malformed =
            |error: tokenizers::Error| LoadError::malformed(&file, format!("not a tokenizer: {error}"));
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(malformed)?;
        // Published files often cut at 128 tokens and pad: both would change the text behind the caller's back.
        tokenizer.with_truncation(None).map_err(malformed)?;
        tokenizer.with_padding(None);
        Ok(Self {
            tokenizer,
            vocab_size,
        })
    }

    /// Ids of one text, special tokens included, within the model's limit.
    pub(super) fn encode(&self, limits: &Limits, index: usize, text: &str) -> Result<Vec<u32>, InputError> {
        let untokenizable = |detail: String| InputError::Untokenizable { index, detail };
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|error| untokenizable(error.to_string()))?;
        let ids = encoding.get_ids();
        check_text_tokens(limits, index, ids.len())?;
        // Characters that the vocabulary lacks may vanish: a text of nothing else is empty for the model.
        if ids.is_empty() {
            return Err(InputError::EmptyText { index });
        }
        match ids.iter().find(|id| **id as usize >= self.vocab_size) {
            Some(id) => Err(untokenizable(format!(
                "token id {id} is beyond the vocabulary of {}",
                self.vocab_size
            ))),
            None => Ok(ids.to_vec()),
        }
    }

    /// Text of token ids, special tokens left out.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, String> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|error| error.to_string())
    }
}
