//! Reads checked weights, one tensor at a time, so that loading holds one copy and one tensor more.

use super::product::product;
use crate::error::{LoadError, LoadErrorKind};
use crate::weights::{Stored, StoredType, WeightsIndex};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device, Tensor};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// An open weights file whose header passed the checks.
pub(super) struct WeightSource {
    index: WeightsIndex,
    prefix: &'static str,
    reader: File,
}

/// A matrix `[output, input]` without bias: dense, or in the quantised blocks of the file.
pub(super) enum Matrix {
    Dense(Tensor),
    Quantised(QMatMul),
}

impl Matrix {
    /// `x` `[rows, input]` to `[rows, output]`.
    pub(super) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Dense(weight) => product(x, &weight.t()?),
            Self::Quantised(weight) => candle_core::Module::forward(weight, x),
        }
    }
}

impl WeightSource {
    pub(super) fn open(index: WeightsIndex, prefix: &'static str) -> Result<Self, LoadError> {
        let reader = File::open(&index.file).map_err(|error| LoadError::io(&index.file, &error))?;
        Ok(Self {
            index,
            prefix,
            reader,
        })
    }

    pub(super) fn index(&self) -> &WeightsIndex {
        &self.index
    }

    /// The tensor as f32, whatever its type in the file.
    pub(super) fn dense(&mut self, name: &str) -> Result<Tensor, LoadError> {
        let (stored, bytes) = self.read(name)?;
        let tensor = match stored.kind {
            StoredType::F32 => Tensor::from_raw_buffer(&bytes, DType::F32, &stored.shape, &Device::Cpu),
            StoredType::F16 => Tensor::from_raw_buffer(&bytes, DType::F16, &stored.shape, &Device::Cpu),
            StoredType::Bf16 => Tensor::from_raw_buffer(&bytes, DType::BF16, &stored.shape, &Device::Cpu),
            StoredType::Block(kind) => {
                return quantised(kind, &bytes, &stored)
                    .and_then(|tensor| tensor.dequantize(&Device::Cpu))
                    .map_err(|error| self.failed(name, &error));
            }
            StoredType::Other(kind) => {
                return Err(self.failed(name, &format!("type {kind} holds no weights")));
            }
        };
        tensor
            .and_then(|tensor| tensor.to_dtype(DType::F32))
            .map_err(|error| self.failed(name, &error))
    }

    /// A matrix, left in its quantised blocks if it has them.
    pub(super) fn matrix(&mut self, name: &str) -> Result<Matrix, LoadError> {
        let kind = self
            .index
            .tensors
            .get(&format!("{}{name}", self.prefix))
            .map(|stored| stored.kind);
        let Some(StoredType::Block(kind)) = kind else {
            return self.dense(name).map(Matrix::Dense);
        };
        let (stored, bytes) = self.read(name)?;
        let matrix = quantised(kind, &bytes, &stored).and_then(QMatMul::from_qtensor);
        matrix
            .map(Matrix::Quantised)
            .map_err(|error| self.failed(name, &error))
    }

    fn read(&mut self, name: &str) -> Result<(Stored, Vec<u8>), LoadError> {
        let stored = self.index.tensors.get(&format!("{}{name}", self.prefix)).cloned();
        let stored = stored.ok_or_else(|| self.failed(name, &"the tensor is not in the file"))?;
        let length = usize::try_from(stored.bytes).map_err(|_| self.failed(name, &"larger than memory"))?;
        let mut bytes = vec![0; length];
        let read = self
            .reader
            .seek(SeekFrom::Start(stored.offset))
            .and_then(|_| self.reader.read_exact(&mut bytes));
        // The header was checked against the size, so a short read means that the file changed since.
        read.map_err(|error| self.failed(name, &format!("cannot be read: {error}")))?;
        Ok((stored, bytes))
    }

    fn failed(&self, name: &str, error: &dyn std::fmt::Display) -> LoadError {
        let problem = format!("tensor {name}: {error}");
        LoadError::new(
            &self.index.file,
            LoadErrorKind::WrongTensor,
            problem,
            "copy or export the file again",
        )
    }
}

fn quantised(kind: u32, bytes: &[u8], stored: &Stored) -> candle_core::Result<QTensor> {
    let kind = match kind {
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        other => candle_core::bail!("block type {other} is not served"),
    };
    qtensor_from_ggml(kind, bytes, stored.shape.clone(), &Device::Cpu)
}
