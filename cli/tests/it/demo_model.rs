//! `regent demo --model DIR` and `--regions N` with what cannot be: refused before anything is started.

use std::{fs, path::Path};

use crate::{
    harness::{Ran, regent},
    samples::copy_of,
};

/// Runs the demo with these arguments in a temporary directory of its own; the document says what was wrong, and
/// nothing was begun: no directory, no story.
fn check_refused(args: &[&str], code: i32, said: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let mut command = regent();
    command.arg("demo").args(args).env("TMPDIR", home.path());
    let ran = Ran::of(command.output().unwrap());
    ran.failed_with(code, said);
    assert!(!ran.stderr.contains("Starting"), "{ran:?}");
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "{ran:?}");
}

fn check_model(dir: &Path, said: &[&str]) {
    check_refused(&["--model", dir.to_str().unwrap()], 1, said);
}

#[test]
fn too_few_and_too_many_regions() {
    for regions in ["2", "8", "0", "three"] {
        check_refused(&["--regions", regions], 2, &[regions, "--regions"]);
    }
}

#[test]
fn a_model_directory_that_is_not_there() {
    let missing = ["--model", "/no/such/model"];
    check_refused(&missing, 3, &["--model", "/no/such/model", "name a directory"]);
}

#[test]
fn a_model_directory_without_config() {
    let dir = copy_of("embedder");
    fs::remove_file(dir.path().join("config.json")).unwrap();
    check_model(dir.path(), &["config.json", dir.path().to_str().unwrap()]);
}

#[test]
fn a_pickle_beside_the_weights() {
    for name in ["pytorch_model.bin", "weights.pt", "extra.pkl"] {
        let dir = copy_of("tinylm");
        let bytes = b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.";
        fs::write(dir.path().join(name), bytes).unwrap();
        check_model(dir.path(), &[name, "pickle", "safetensors"]);
    }
}

#[test]
fn truncated_weights() {
    let dir = copy_of("digits");
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
    check_model(
        dir.path(),
        &["model.safetensors", "cut or damaged", "copy or download"],
    );
}
