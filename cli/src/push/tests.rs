//! What a directory must be before anything is registered.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use types::{Digest, Reason, model::VersionState, reason::Refusal};

use super::scan::{Scanned, scan};
use crate::{error::Failure, exit::Exit};

/// A copy of a sample model that a test may damage.
fn digits() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
    for entry in fs::read_dir(sample).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

async fn scanned(dir: &Path) -> Result<Scanned, Failure> {
    scan(dir).await
}

/// The directory is refused, the text names all of these, and programs get reason, file and remedy by themselves.
async fn check_refused(dir: &Path, named: &[&str]) {
    let failure = scanned(dir).await.unwrap_err();
    let remedy = failure.remedy.as_str();
    assert!(
        !remedy.is_empty() && !failure.message.contains(remedy),
        "{failure}"
    );
    let document = &failure.to_json()["error"];
    assert!(document["reason"].is_string(), "{document}");
    assert!(document["operands"]["file"].is_string(), "{document}");
    let text = failure.to_string();
    for word in named {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

#[tokio::test]
async fn a_sample_model_passes_with_the_digest_of_every_file() {
    let dir = digits();
    let scanned = scanned(dir.path()).await.unwrap();
    assert_eq!(scanned.framework, "digits");
    for file in &scanned.files {
        let bytes = fs::read(dir.path().join(file.artifact.path.as_str())).unwrap();
        assert_eq!(file.artifact.digest, Digest::of(&bytes), "{}", file.artifact.path);
        assert_eq!(file.artifact.size.0, bytes.len() as u64);
    }
    let paths: Vec<&str> = scanned.files.iter().map(|f| f.artifact.path.as_str()).collect();
    assert!(paths.is_sorted(), "{paths:?}");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named() {
    check_refused(
        Path::new("/no/such/model"),
        &["/no/such/model", "name a directory"],
    )
    .await;
}

#[tokio::test]
async fn a_file_instead_of_a_directory_is_named() {
    let dir = digits();
    check_refused(&dir.path().join("config.json"), &["config.json", "no directory"]).await;
}

#[tokio::test]
async fn a_truncated_safetensors_file_is_refused() {
    let dir = digits();
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    check_refused(dir.path(), &["model.safetensors"]).await;
}

#[tokio::test]
async fn a_pickle_is_refused_whatever_it_is_called() {
    let dir = digits();
    fs::write(
        dir.path().join("notes.txt"),
        b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.",
    )
    .unwrap();
    check_refused(dir.path(), &["notes.txt", "pickle"]).await;
}

#[tokio::test]
async fn a_link_out_of_the_directory_is_refused() {
    let dir = digits();
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("extra.txt")).unwrap();
    check_refused(dir.path(), &["extra.txt", "/etc/hostname", "outside"]).await;
}

fn write_sums(dir: &Path, lines: &[(Digest, &str)]) {
    let lines = lines
        .iter()
        .map(|(digest, name)| format!("{}  {name}\n", digest.hex()));
    fs::write(dir.join("SHA256SUMS"), lines.collect::<String>()).unwrap();
}

fn digest_of(path: PathBuf) -> Digest {
    Digest::of(&fs::read(path).unwrap())
}

#[tokio::test]
async fn sums_that_match_pass() {
    let dir = digits();
    let config = digest_of(dir.path().join("config.json"));
    write_sums(dir.path(), &[(config, "./config.json")]);
    scanned(dir.path()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_does_not_match_its_sum_is_named_with_both_digests() {
    let dir = digits();
    let (wrong, actual) = (Digest::of(b"other"), digest_of(dir.path().join("config.json")));
    write_sums(dir.path(), &[(wrong, "config.json")]);
    check_refused(
        dir.path(),
        &["config.json", &wrong.to_string(), &actual.to_string()],
    )
    .await;
}

#[tokio::test]
async fn a_sum_of_a_file_that_is_not_there_is_named() {
    let dir = digits();
    write_sums(dir.path(), &[(Digest::of(b""), "weights.bin")]);
    check_refused(dir.path(), &["SHA256SUMS", "weights.bin"]).await;
}

#[tokio::test]
async fn a_line_that_is_no_sum_is_named_with_its_number() {
    let dir = digits();
    fs::write(dir.path().join("SHA256SUMS"), "\nnonsense\n").unwrap();
    check_refused(dir.path(), &["line 2", "nonsense"]).await;
}

/// "Nothing changed", as a lost quorum reads elsewhere, would be no answer.
#[tokio::test]
async fn what_fails_once_a_version_is_whole_says_that_it_is() {
    let key = "m@1".parse().unwrap();
    let unheard = async { Err::<(), _>(Refusal::new(Reason::NoQuorum, "no leader has a quorum")) };
    let failed = super::or_stopped(&key, VersionState::Ready, unheard).await;
    let failed = failed.unwrap_err();
    assert_eq!(failed.exit, Exit::Unknown, "{failed}");
    assert!(failed.message.starts_with("m@1 is READY; "), "{failed}");
}
