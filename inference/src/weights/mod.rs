//! Headers of weight files: what tensors a file claims to hold, checked against the bytes that are there.
//!
//! Nothing here reads tensor data. A directory that passes can be read by offset without a surprise.

pub(crate) mod gguf;
pub(crate) mod pickle;
pub(crate) mod safetensors;

use crate::error::{LoadError, LoadErrorKind};
use crate::layout::Expected;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredType {
    F32,
    F16,
    Bf16,
    /// A quantised block format of GGUF, by its number there.
    Block(u32),
    /// Anything else: no harm beside the weights (position ids), an error where a weight is expected.
    Other(::safetensors::Dtype),
}

/// Where a tensor lies in its file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) kind: StoredType,
    /// Lengths of the axes, slowest first (GGUF writes them the other way round).
    pub(crate) shape: Vec<usize>,
    /// Bytes from the start of the file.
    #[cfg_attr(not(feature = "candle"), expect(dead_code, reason = "only engines read it"))]
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A checked weights file.
#[derive(Clone, Debug)]
pub(crate) struct WeightsIndex {
    pub(crate) file: PathBuf,
    pub(crate) format: Format,
    pub(crate) tensors: BTreeMap<String, Stored>,
}

/// File formats of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Safetensors,
    Gguf,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
        }
    }
}

impl WeightsIndex {
    /// Checks that every expected tensor is there with the expected shape, under `prefix`.
    pub(crate) fn check(&self, prefix: &str, expected: &[Expected]) -> Result<(), LoadError> {
        expected
            .iter()
            .try_for_each(|tensor| self.check_one(prefix, tensor))
    }

    fn check_one(&self, prefix: &str, expected: &Expected) -> Result<(), LoadError> {
        let name = format!("{prefix}{}", expected.name);
        let remedy = "use the config.json that belongs to these weights, or export both again";
        let Some(found) = self.tensors.get(&name) else {
            let problem = format!(
                "tensor {name} is missing; config.json needs it with shape {:?}",
                expected.shape
            );
            return Err(LoadError::new(
                &self.file,
                LoadErrorKind::WrongTensor,
                problem,
                remedy,
            ));
        };
        if let StoredType::Other(kind) = found.kind {
            return Err(wrong_type(
                &self.file,
                &name,
                &kind.to_string(),
                "F32, F16 or BF16",
            ));
        }
        if found.shape == expected.shape {
            return Ok(());
        }
        let problem = format!(
            "tensor {name} has shape {:?}, config.json needs {:?}",
            found.shape, expected.shape
        );
        Err(LoadError::new(
            &self.file,
            LoadErrorKind::WrongTensor,
            problem,
            remedy,
        ))
    }

    /// Number of weights under `prefix` that the list names.
    pub(crate) fn parameters(expected: &[Expected]) -> u64 {
        expected
            .iter()
            .map(|tensor| tensor.shape.iter().map(|axis| *axis as u64).product::<u64>())
            .sum()
    }
}

/// Names a type that cannot be served.
pub(crate) fn wrong_type(file: &Path, tensor: &str, found: &str, served: &str) -> LoadError {
    let problem = format!("tensor {tensor} has type {found}");
    LoadError::new(
        file,
        LoadErrorKind::WrongTensor,
        problem,
        format!("convert the weights to {served}"),
    )
}
