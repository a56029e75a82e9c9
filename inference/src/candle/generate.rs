//! Text generation: tokenize, read the prompt, then one token after the other until a reason to stop.

use super::detokenize::Detokenizer;
use super::internal;
use super::llama::Decoder;
use super::source::WeightSource;
use super::text::TextCodec;
use crate::admission::{admit, check_context, check_sampling, check_text};
use crate::config::LlamaConfig;
use crate::engine::{Engine, TokenSink};
use crate::error::{InferError, InputError, LoadError};
use crate::request::{FinishReason, GenerateRequest, Generated, InferRequest, Output, TokenEvent, Usage};
use crate::sampling::{SeededRng, next_token};
use crate::signature::Signature;
use crate::tensor::Tensor as Plain;
use std::ops::ControlFlow;
use std::path::Path;

/// A prompt to its continuation.
pub(super) struct Generator {
    signature: Signature,
    codec: TextCodec,
    decoder: Decoder,
    eos: Vec<u32>,
}

impl Generator {
    pub(super) fn load(
        dir: &Path,
        config: &LlamaConfig,
        signature: Signature,
        source: &mut WeightSource,
    ) -> Result<Self, LoadError> {
        let codec = TextCodec::load(dir, config.vocab_size)?;
        let positions = signature
            .limits
            .max_tokens
            .unwrap_or(config.max_position_embeddings);
        Ok(Self {
            signature,
            codec,
            decoder: Decoder::load(config, positions, source)?,
            eos: config.eos_ids(),
        })
    }

    /// Ids of an admissible prompt.
    fn tokenize(&self, request: &GenerateRequest) -> Result<Vec<u32>, InputError> {
        let limits = &self.signature.limits;
        check_sampling(limits, &request.sampling)?;
        check_text(limits, 0, &request.prompt)?;
        let ids = self.codec.encode(limits, 0, &request.prompt)?;
        check_context(limits, ids.len(), request.sampling.max_tokens)?;
        Ok(ids)
    }

    fn as_generation(&self, request: &InferRequest) -> Result<GenerateRequest, InputError> {
        admit(&self.signature, request)?;
        let texts = request
            .inputs
            .first()
            .and_then(Plain::as_texts)
            .unwrap_or_default();
        let prompt = texts.first().cloned().unwrap_or_default();
        Ok(GenerateRequest {
            prompt,
            sampling: request.sampling,
        })
    }
}

/// What has been generated so far.
struct Progress {
    text: String,
    ids: Vec<u32>,
    detokenizer: Detokenizer,
}

impl Progress {
    fn push(&mut self, codec: &TextCodec, id: u32) -> Result<TokenEvent, InferError> {
        let text = self
            .detokenizer
            .push(codec, id)
            .map_err(|what| InferError::Internal { what })?;
        self.text.push_str(&text);
        self.ids.push(id);
        Ok(TokenEvent {
            index: self.ids.len() - 1,
            id,
            text,
        })
    }

    fn finish(
        mut self,
        codec: &TextCodec,
        input_tokens: usize,
        finish: FinishReason,
    ) -> Result<Generated, InferError> {
        let rest = self
            .detokenizer
            .finish(codec)
            .map_err(|what| InferError::Internal { what })?;
        self.text.push_str(&rest);
        let usage = Usage {
            input_tokens,
            output_tokens: self.ids.len(),
        };
        Ok(Generated {
            text: self.text,
            ids: self.ids,
            finish,
            usage,
        })
    }
}

impl Engine for Generator {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn admit(&self, request: &InferRequest) -> Result<(), InputError> {
        self.tokenize(&self.as_generation(request)?).map(|_| ())
    }

    fn infer(&self, request: &InferRequest) -> Result<Output, InferError> {
        let request = self.as_generation(request)?;
        self.generate(&request, &mut |_| ControlFlow::Continue(()))
            .map(Generated::into_output)
    }

    fn admit_generate(&self, request: &GenerateRequest) -> Result<(), InputError> {
        self.tokenize(request).map(|_| ())
    }

    fn generate(&self, request: &GenerateRequest, sink: &mut TokenSink<'_>) -> Result<Generated, InferError> {
        let prompt = self.tokenize(request)?;
        let mut session = self.decoder.session(prompt.len() + request.sampling.max_tokens);
        let mut rng = SeededRng::new(request.sampling.seed);
        let detokenizer = Detokenizer::new(&prompt);
        let mut progress = Progress {
            text: String::new(),
            ids: Vec::new(),
            detokenizer,
        };
        let mut next = prompt.clone();
        let finish = loop {
            let logits = self.decoder.forward(&next, &mut session).map_err(internal)?;
            let id =
                next_token(&logits, &request.sampling, &mut rng).ok_or_else(|| InferError::Internal {
                    what: "the logits are not finite".to_owned(),
                })?;
            if self.eos.contains(&id) {
                break FinishReason::Stop;
            }
            if sink(progress.push(&self.codec, id)?).is_break() {
                break FinishReason::Cancelled;
            }
            if progress.ids.len() == request.sampling.max_tokens {
                break FinishReason::Length;
            }
            next = vec![id];
        };
        progress.finish(&self.codec, prompt.len(), finish)
    }
}
