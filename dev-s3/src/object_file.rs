//! One file per object or part: the body, then its metadata, so that one rename publishes both.
//!
//! Layout: body, JSON, length of the JSON (u32, little endian), eight bytes of magic.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

const MAGIC: &[u8; 8] = b"RGNTOBJ1";
/// Length and magic.
const TAIL: usize = 12;

/// Appends the metadata to a body and makes the file durable.
pub(crate) fn seal<T: Serialize>(file: &mut File, meta: &T) -> io::Result<()> {
    let json = serde_json::to_vec(meta)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(&json)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(MAGIC)?;
    file.sync_all()
}

/// Reads the metadata of a sealed file.
pub(crate) fn read_meta<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut tail = [0; TAIL];
    let behind_json = size.checked_sub(TAIL as u64).ok_or_else(truncated)?;
    file.seek(SeekFrom::Start(behind_json))?;
    file.read_exact(&mut tail)?;
    let (length, magic) = tail.split_at(4);
    if magic != MAGIC {
        return Err(truncated());
    }
    let length = u32::from_le_bytes(length.try_into().map_err(io::Error::other)?);
    let start = behind_json.checked_sub(u64::from(length)).ok_or_else(truncated)?;
    file.seek(SeekFrom::Start(start))?;
    Ok(serde_json::from_reader(file.take(u64::from(length)))?)
}

fn truncated() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the file does not end as a sealed object does",
    )
}
