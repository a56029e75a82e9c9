//! Models in memory: what a model takes and gives, what is refused before it runs, and how it is run.
//!
//! Deliberately absent: the network, the registry, fencing, and any decision which version serves. The crate reads one
//! directory and answers requests. No type of candle appears in a public signature, so the heavy half stays behind
//! the feature `candle`; without it the crate still checks directories and inputs and runs the fake engine.
//!
//! Invariant: nothing that comes from a file or a caller can panic. Sizes, shapes, types and offsets are checked first
//! and refused by an error that names the value and the remedy.
//!
//! Reading order: [`tensor`] and [`signature`] (what a model takes and gives), [`request`], [`engine`] (the trait),
//! [`admission`] (what is refused), [`validate`] (a directory before it is registered), [`actor`] (one queue and one
//! thread per model), then `candle/` for the three families.

#![warn(missing_docs)]

pub mod actor;
pub mod admission;
#[cfg(feature = "candle")]
mod candle;
mod config;
pub mod engine;
pub mod error;
pub mod fake;
mod json;
mod layout;
mod load;
mod options;
pub mod request;
pub mod sampling;
pub mod signature;
pub mod tensor;
mod tokenizer_file;
pub mod validate;
mod weights;
mod worker;

pub use actor::{ActorLoad, ActorOptions, ModelActor, StreamItem, TokenStream};
pub use engine::{Engine, TokenSink, warm};
pub use error::{InferError, InputError, LoadError, LoadErrorKind};
pub use load::load;
pub use options::LoadOptions;
pub use request::{
    FinishReason, GenerateRequest, Generated, InferRequest, Output, Sampling, TokenEvent, Usage,
};
pub use signature::{Family, Limits, Signature};
pub use tensor::{Datatype, Tensor, TensorData, TensorSpec};
pub use validate::{ModelFile, ModelSummary, validate_dir};
