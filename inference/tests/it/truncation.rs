//! Cut and scrambled safetensors: an error that says so, and never a panic.

use crate::support::{MODELS, copy_of};
use inference::{LoadErrorKind, LoadOptions, load, validate_dir};

#[test]
fn a_cut_safetensors_file_is_refused_at_every_length() {
    for name in MODELS {
        let copy = copy_of(name);
        let file = copy.path().join("model.safetensors");
        let whole = std::fs::read(&file).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let lengths = [
            0,
            1,
            7,
            8,
            9,
            100,
            header - 1,
            header,
            header + 1,
            whole.len() / 2,
            whole.len() - 4,
            whole.len() - 1,
        ];
        for length in lengths {
            std::fs::write(&file, &whole[..length]).unwrap();
            let error = validate_dir(copy.path()).unwrap_err();
            assert_eq!(
                error.kind,
                LoadErrorKind::Truncated,
                "{name} cut at {length}: {error}"
            );
            assert_eq!(error.file, file);
            assert!(error.to_string().contains("copy or download it again"), "{error}");
            assert!(load(copy.path(), &LoadOptions::default()).is_err());
        }
    }
}

#[test]
fn a_longer_safetensors_file_is_refused() {
    let copy = copy_of("digits");
    let file = copy.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.push(0);
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(
        validate_dir(copy.path()).unwrap_err().kind,
        LoadErrorKind::Truncated
    );
}

#[test]
fn a_scrambled_header_never_panics() {
    let copy = copy_of("digits");
    let file = copy.path().join("model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for position in 0..header {
        for flip in [0x01, 0x10, 0xff] {
            let mut bytes = whole.clone();
            bytes[position] ^= flip;
            std::fs::write(&file, &bytes).unwrap();
            if validate_dir(copy.path()).is_ok() {
                // A flip in the metadata or between equal shapes may do no harm; loading must hold as well.
                let _ = load(copy.path(), &LoadOptions::default());
            }
        }
    }
}

#[test]
fn a_header_length_beyond_reason_allocates_nothing() {
    let copy = copy_of("digits");
    let file = copy.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let error = validate_dir(copy.path()).unwrap_err();
    assert_eq!(error.kind, LoadErrorKind::Malformed);
    assert!(error.to_string().contains("18446744073709551615"), "{error}");
}
