//! Header of a GGUF file (versions 2 and 3, little endian): key-value pairs, tensor descriptions, aligned data.
//!
//! Every count and length in it is a claim: each is held against the bytes left before anything is allocated.

use super::{Format, Stored, StoredType, WeightsIndex, wrong_type};
use crate::error::{LoadError, LoadErrorKind};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Most tensors and most keys in one file.
const COUNT_MAX: u64 = 65_536;
/// Longest name or key.
const NAME_MAX: u64 = 4_096;
/// Deepest nesting of arrays in values.
const DEPTH_MAX: usize = 4;

/// A quantised format: its number in GGUF, weights in a block, bytes in a block.
const BLOCKS: [(u32, u64, u64); 9] = [
    (2, 32, 18),    // Q4_0
    (3, 32, 20),    // Q4_1
    (6, 32, 22),    // Q5_0
    (7, 32, 24),    // Q5_1
    (8, 32, 34),    // Q8_0
    (12, 256, 144), // Q4_K
    (13, 256, 176), // Q5_K
    (14, 256, 210), // Q6_K
    (11, 256, 110), // Q3_K
];

/// Reads the header of `file` and checks every tensor against the size of the file.
pub(crate) fn index(file: &Path) -> Result<WeightsIndex, LoadError> {
    let io = |error: std::io::Error| LoadError::io(file, &error);
    let opened = File::open(file).map_err(io)?;
    let size = opened.metadata().map_err(io)?.len();
    let mut reader = Header {
        file,
        reader: BufReader::new(opened),
        size,
        read: 0,
        alignment: 32,
        architecture: None,
    };
    let (tensors, keys) = reader.counts()?;
    for _ in 0..keys {
        reader.key_value()?;
    }
    let claims = (0..tensors)
        .map(|_| reader.tensor())
        .collect::<Result<Vec<_>, _>>()?;
    reader.check_architecture()?;
    let start = reader.read.next_multiple_of(reader.alignment);
    let tensors = claims.into_iter().map(|claim| claim.place(file, start, size));
    Ok(WeightsIndex {
        file: file.to_owned(),
        format: Format::Gguf,
        tensors: tensors.collect::<Result<_, _>>()?,
    })
}

/// A tensor as the header describes it.
struct Claim {
    name: String,
    shape: Vec<usize>,
    kind: u32,
    offset: u64,
}

impl Claim {
    fn place(self, file: &Path, start: u64, size: u64) -> Result<(String, Stored), LoadError> {
        let (kind, block, width) = block_of(self.kind).ok_or_else(|| {
            wrong_type(
                file,
                &self.name,
                &format!("number {}", self.kind),
                "F32, F16, Q8_0 or Q4_K",
            )
        })?;
        let row = self.shape.last().copied().unwrap_or(1) as u64;
        let elements = self
            .shape
            .iter()
            .try_fold(1u64, |all, axis| all.checked_mul(*axis as u64));
        let bytes = elements.and_then(|elements| (elements / block).checked_mul(width));
        let (Some(bytes), true) = (bytes, row.is_multiple_of(block)) else {
            let problem = format!(
                "tensor {} has shape {:?}, which its type cannot hold",
                self.name, self.shape
            );
            return Err(LoadError::new(
                file,
                LoadErrorKind::WrongTensor,
                problem,
                "export the file again",
            ));
        };
        let offset = start.saturating_add(self.offset);
        if offset.saturating_add(bytes) > size {
            let end = offset.saturating_add(bytes);
            return Err(truncated(
                file,
                format!("tensor {} ends at byte {end}, the file has {size}", self.name),
            ));
        }
        Ok((
            self.name,
            Stored {
                kind,
                shape: self.shape,
                offset,
                bytes,
            },
        ))
    }
}

fn block_of(kind: u32) -> Option<(StoredType, u64, u64)> {
    match kind {
        0 => Some((StoredType::F32, 1, 4)),
        1 => Some((StoredType::F16, 1, 2)),
        30 => Some((StoredType::Bf16, 1, 2)),
        _ => BLOCKS
            .iter()
            .find(|block| block.0 == kind)
            .map(|&(kind, block, width)| (StoredType::Block(kind), block, width)),
    }
}

struct Header<'a> {
    file: &'a Path,
    reader: BufReader<File>,
    size: u64,
    read: u64,
    alignment: u64,
    architecture: Option<String>,
}

impl Header<'_> {
    fn counts(&mut self) -> Result<(u64, u64), LoadError> {
        let magic = self.bytes(4)?;
        if magic != b"GGUF" {
            return Err(LoadError::malformed(
                self.file,
                format!("starts with {magic:02x?}, not with the magic GGUF"),
            ));
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(LoadError::malformed(
                self.file,
                format!("GGUF version {version}, 2 and 3 are read"),
            ));
        }
        let (tensors, keys) = (self.u64()?, self.u64()?);
        if tensors > COUNT_MAX || keys > COUNT_MAX {
            let problem =
                format!("claims {tensors} tensors and {keys} keys, at most {COUNT_MAX} of each are read");
            return Err(LoadError::malformed(self.file, problem));
        }
        Ok((tensors, keys))
    }

    fn key_value(&mut self) -> Result<(), LoadError> {
        let key = self.name()?;
        let kind = self.u32()?;
        match (key.as_str(), kind) {
            ("general.alignment", 4) => self.set_alignment(),
            ("general.architecture", 8) => {
                self.architecture = Some(self.name()?);
                Ok(())
            }
            _ => self.skip_value(kind, 0),
        }
    }

    fn set_alignment(&mut self) -> Result<(), LoadError> {
        let alignment = self.u32()?;
        if !alignment.is_power_of_two() || alignment > 1 << 16 {
            return Err(LoadError::malformed(
                self.file,
                format!("general.alignment is {alignment}"),
            ));
        }
        self.alignment = u64::from(alignment);
        Ok(())
    }

    fn check_architecture(&self) -> Result<(), LoadError> {
        match self.architecture.as_deref() {
            Some("llama") => Ok(()),
            other => {
                let problem = format!("general.architecture is {:?}", other.unwrap_or("absent"));
                let remedy = "only GGUF files of architecture \"llama\" are served";
                Err(LoadError::new(
                    self.file,
                    LoadErrorKind::UnknownArchitecture,
                    problem,
                    remedy,
                ))
            }
        }
    }

    fn skip_value(&mut self, kind: u32, depth: usize) -> Result<(), LoadError> {
        match kind {
            0 | 1 | 7 => self.skip(1),
            2 | 3 => self.skip(2),
            4..=6 => self.skip(4),
            10..=12 => self.skip(8),
            8 => {
                let length = self.u64()?;
                self.skip(length)
            }
            9 if depth < DEPTH_MAX => self.skip_array(depth),
            _ => Err(LoadError::malformed(
                self.file,
                format!("value of unknown type {kind} at byte {}", self.read),
            )),
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), LoadError> {
        let (kind, count) = (self.u32()?, self.u64()?);
        // Each element takes a byte at least, so a longer array cannot be true.
        if count > self.left() {
            return Err(truncated(
                self.file,
                format!("an array claims {count} elements, {} bytes are left", self.left()),
            ));
        }
        (0..count).try_for_each(|_| self.skip_value(kind, depth + 1))
    }

    fn tensor(&mut self) -> Result<Claim, LoadError> {
        let name = self.name()?;
        let axes = self.u32()?;
        if axes == 0 || axes > 4 {
            return Err(LoadError::malformed(
                self.file,
                format!("tensor {name} claims {axes} axes"),
            ));
        }
        let shape = (0..axes).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        let shape = shape
            .into_iter()
            .rev()
            .map(usize::try_from)
            .collect::<Result<Vec<_>, _>>();
        let shape = shape
            .map_err(|_| LoadError::malformed(self.file, format!("tensor {name} is larger than memory")))?;
        Ok(Claim {
            name,
            shape,
            kind: self.u32()?,
            offset: self.u64()?,
        })
    }

    fn name(&mut self) -> Result<String, LoadError> {
        let length = self.u64()?;
        if length > NAME_MAX {
            return Err(LoadError::malformed(
                self.file,
                format!("a name claims {length} bytes, at most {NAME_MAX} are read"),
            ));
        }
        let bytes = self.bytes(length)?;
        String::from_utf8(bytes).map_err(|_| LoadError::malformed(self.file, "a name is not UTF-8"))
    }

    fn u32(&mut self) -> Result<u32, LoadError> {
        let mut buffer = [0; 4];
        buffer.copy_from_slice(&self.bytes(4)?);
        Ok(u32::from_le_bytes(buffer))
    }

    fn u64(&mut self) -> Result<u64, LoadError> {
        let mut buffer = [0; 8];
        buffer.copy_from_slice(&self.bytes(8)?);
        Ok(u64::from_le_bytes(buffer))
    }

    fn left(&self) -> u64 {
        self.size.saturating_sub(self.read)
    }

    /// Exactly `count` bytes; callers bound `count` or it is held against the bytes left.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, LoadError> {
        self.advance(count)?;
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(count).read_to_end(&mut bytes);
        read.map_err(|error| LoadError::io(self.file, &error))?;
        if bytes.len() as u64 == count {
            return Ok(bytes);
        }
        Err(truncated(
            self.file,
            format!("the file ended at byte {}", self.read),
        ))
    }

    fn skip(&mut self, count: u64) -> Result<(), LoadError> {
        self.advance(count)?;
        let skipped = std::io::copy(&mut self.reader.by_ref().take(count), &mut std::io::sink());
        skipped
            .map(|_| ())
            .map_err(|error| LoadError::io(self.file, &error))
    }

    fn advance(&mut self, count: u64) -> Result<(), LoadError> {
        if count > self.left() {
            let problem = format!(
                "the header needs {count} bytes at byte {}, the file has {}",
                self.read, self.size
            );
            return Err(truncated(self.file, problem));
        }
        self.read += count;
        Ok(())
    }
}

fn truncated(file: &Path, problem: String) -> LoadError {
    let remedy = "the file is cut or damaged; copy or download it again";
    LoadError::new(file, LoadErrorKind::Truncated, problem, remedy)
}
