//! The crate from outside: directories, inputs, the actor, and (with the feature `candle`) the sample models.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panic and say why it skips, and its numbers are small"
)]

mod actor;
#[cfg(feature = "candle")]
mod damage;
#[cfg(feature = "candle")]
mod gguf;
#[cfg(feature = "candle")]
mod golden;
mod inputs;
mod load_errors;
#[cfg(feature = "candle")]
mod minilm;
mod support;
mod truncation;
