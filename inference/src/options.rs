//! The limits of loading, which checks and engines share.

/// Limits that a loaded model is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Most rows in one request. Default 32: a forward pass of the sample models stays in milliseconds.
    pub max_batch: usize,
    /// Most tokens that one request may ask a generator for. Default 512.
    pub max_new_tokens: usize,
    /// Most tokens of prompt and answer together, where the model has more positions. Default 4096: bounds the memory
    /// of one generation.
    pub max_context: usize,
    /// Most bytes of weights on disk. Default 8 GiB. In memory 16-bit weights take twice their size on a CPU.
    pub max_weight_bytes: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            max_batch: 32,
            max_new_tokens: 512,
            max_context: 4096,
            max_weight_bytes: 8 << 30,
        }
    }
}
