//! The one trait behind which a loaded model stands.

use crate::error::{InferError, InputError};
use crate::request::{GenerateRequest, Generated, InferRequest, Output, TokenEvent};
use crate::signature::Signature;
use std::ops::ControlFlow;

/// Takes generated tokens one by one; `Break` ends the generation.
pub type TokenSink<'a> = dyn FnMut(TokenEvent) -> ControlFlow<()> + 'a;

/// A loaded model. Calls block the thread for the length of a forward pass and may come from several threads at once;
/// the same request gives the same answer on one machine. [`crate::ModelActor`] puts a queue before it.
pub trait Engine: Send + Sync {
    /// What the model takes and gives.
    fn signature(&self) -> &Signature;

    /// Refuses what [`Engine::infer`] would refuse, at the cost of tokenizing and no forward pass.
    ///
    /// # Errors
    /// The first thing wrong with the request.
    fn admit(&self, request: &InferRequest) -> Result<(), InputError>;

    /// Runs the model once over all rows of the request.
    ///
    /// # Errors
    /// [`InferError::Input`] for anything `admit` refuses, [`InferError::Internal`] when the forward pass fails.
    fn infer(&self, request: &InferRequest) -> Result<Output, InferError>;

    /// Refuses what [`Engine::generate`] would refuse, at the cost of tokenizing and no forward pass.
    ///
    /// # Errors
    /// [`InputError::NotAGenerator`] for the other families, else the first thing wrong with the request.
    fn admit_generate(&self, request: &GenerateRequest) -> Result<(), InputError> {
        let _ = request;
        Err(InputError::NotAGenerator {
            family: self.signature().family,
        })
    }

    /// Continues a prompt, handing each token to `sink` as soon as it is known.
    ///
    /// # Errors
    /// As for [`Engine::infer`].
    fn generate(&self, request: &GenerateRequest, sink: &mut TokenSink<'_>) -> Result<Generated, InferError> {
        let _ = sink;
        self.admit_generate(request)?;
        Err(InferError::Internal {
            what: "the engine admits generation and does none".to_owned(),
        })
    }
}

/// Runs the smallest admissible request once, so that the first caller does not pay for first touches.
///
/// # Errors
/// Those of [`Engine::infer`]: a model that cannot answer this must not be switched in.
pub fn warm(engine: &dyn Engine) -> Result<(), InferError> {
    engine
        .infer(&InferRequest::sample(engine.signature()))
        .map(|_| ())
}
