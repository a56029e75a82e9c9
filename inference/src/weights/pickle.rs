//! Refuses pickle. Unpickling runs whatever code the file says, so no such file is read, copied or served.

use crate::error::{LoadError, LoadErrorKind};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Endings under which pickles travel.
const ENDINGS: [&str; 9] = [
    "bin", "pt", "pth", "pkl", "pickle", "ckpt", "joblib", "dill", "npy",
];

/// Refuses `file` by its ending or its first bytes.
pub(crate) fn refuse(file: &Path) -> Result<(), LoadError> {
    let ending = file
        .extension()
        .and_then(|ending| ending.to_str())
        .map(str::to_ascii_lowercase);
    if let Some(ending) = ending.filter(|ending| ENDINGS.contains(&ending.as_str())) {
        return Err(refused(
            file,
            &format!("files ending in .{ending} hold Python pickles"),
        ));
    }
    let mut start = Vec::with_capacity(16);
    let opened = File::open(file).and_then(|reader| reader.take(16).read_to_end(&mut start));
    opened.map_err(|error| LoadError::io(file, &error))?;
    match kind_of(&start) {
        Some(kind) => Err(refused(file, kind)),
        None => Ok(()),
    }
}

/// What the first bytes say, if it is a pickle or an archive that may hold one.
fn kind_of(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return Some("the content is a zip archive, the container of PyTorch pickles");
    }
    if start.starts_with(b"\x93NUMPY") {
        return Some("the content is a NumPy file, which may hold pickled objects");
    }
    // The length of a safetensors header may begin with the same two bytes: its JSON follows right after it.
    let safetensors = start.len() > 8 && start[2..8] == [0; 6] && start[8] == b'{';
    match start {
        [0x80, 2..=5, ..] if !safetensors => Some("the content is a Python pickle"),
        _ => None,
    }
}

fn refused(file: &Path, problem: &str) -> LoadError {
    let problem = format!("{problem}, and loading a pickle can run any code it contains");
    let remedy = "convert the weights to safetensors and remove this file from the directory";
    LoadError::new(file, LoadErrorKind::Pickle, problem, remedy)
}

#[cfg(test)]
mod tests {
    use super::kind_of;

    #[test]
    fn a_safetensors_header_of_640_bytes_is_not_taken_for_a_pickle() {
        assert_eq!(kind_of(b"\x80\x02\0\0\0\0\0\0{\"a\":1"), None);
        assert!(kind_of(b"\x80\x02c__builtin__\neval").is_some());
        assert!(kind_of(b"\x80\x04\x95\0\0\0\0\0\0\0").is_some());
        assert!(kind_of(b"PK\x03\x04rest").is_some());
        assert_eq!(kind_of(b"{}"), None);
        assert_eq!(kind_of(b""), None);
    }
}
