//! Header of a safetensors file: eight bytes of length, JSON, then the data without a gap.

use super::{Format, Stored, StoredType, WeightsIndex};
use crate::error::{LoadError, LoadErrorKind};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of the length before the header.
const PREFIX_BYTES: usize = 8;
const PREFIX: u64 = PREFIX_BYTES as u64;
/// Largest header read: a thousand layers stay far below.
const HEADER_MAX: u64 = 32 << 20;

/// Reads the header of `file` and checks it against the size of the file.
pub(crate) fn index(file: &Path) -> Result<WeightsIndex, LoadError> {
    let io = |error: std::io::Error| LoadError::io(file, &error);
    let mut reader = File::open(file).map_err(io)?;
    let size = reader.metadata().map_err(io)?.len();
    let header = read_header(file, &mut reader, size)?;
    // Parsing checks names, shapes and types against the offsets, and the offsets for gaps.
    let metadata: Metadata = serde_json::from_slice(&header[PREFIX_BYTES..]).map_err(|error| {
        LoadError::malformed(file, format!("the header is not valid safetensors: {error}"))
    })?;
    let data_start = header.len() as u64;
    check_size(file, size, data_start, &metadata)?;
    let tensors = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| (name, stored(info, data_start)));
    Ok(WeightsIndex {
        file: file.to_owned(),
        format: Format::Safetensors,
        tensors: tensors.collect(),
    })
}

/// The length and the header itself, together. Lengths are checked before anything is allocated.
fn read_header(file: &Path, reader: &mut File, size: u64) -> Result<Vec<u8>, LoadError> {
    let io = |error: std::io::Error| LoadError::io(file, &error);
    if size < PREFIX {
        return Err(truncated(
            file,
            format!("the file has {size} bytes, not even the {PREFIX} of the header's length"),
        ));
    }
    let mut prefix = [0; 8];
    reader.read_exact(&mut prefix).map_err(io)?;
    let length = u64::from_le_bytes(prefix);
    if length > HEADER_MAX {
        let problem = format!(
            "the header claims {length} bytes, at most {HEADER_MAX} are read: not a safetensors file"
        );
        return Err(LoadError::malformed(file, problem));
    }
    if PREFIX + length > size {
        return Err(truncated(
            file,
            format!("the header claims {length} bytes, the file has {size}"),
        ));
    }
    let mut header = prefix.to_vec();
    reader.take(length).read_to_end(&mut header).map_err(io)?;
    if header.len() as u64 != PREFIX + length {
        return Err(truncated(
            file,
            format!("the file ended after {} bytes of header", header.len()),
        ));
    }
    Ok(header)
}

fn check_size(file: &Path, size: u64, data_start: u64, metadata: &Metadata) -> Result<(), LoadError> {
    let needed = data_start.saturating_add(metadata.data_len() as u64);
    if needed == size {
        return Ok(());
    }
    Err(truncated(
        file,
        format!("the header describes {needed} bytes, the file has {size}"),
    ))
}

fn stored(info: &TensorInfo, data_start: u64) -> Stored {
    let kind = match info.dtype {
        Dtype::F32 => StoredType::F32,
        Dtype::F16 => StoredType::F16,
        Dtype::BF16 => StoredType::Bf16,
        other => StoredType::Other(other),
    };
    let (from, to) = info.data_offsets;
    let (offset, bytes) = (data_start + from as u64, to.saturating_sub(from) as u64);
    Stored {
        kind,
        shape: info.shape.clone(),
        offset,
        bytes,
    }
}

fn truncated(file: &Path, problem: String) -> LoadError {
    let remedy = "the file is cut or damaged; copy or download it again";
    LoadError::new(file, LoadErrorKind::Truncated, problem, remedy)
}
