//! A model directory before anything is registered: what is in it, whether it can be a model, the digest of each file.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use types::{
    ByteCount, Digest, DigestHasher, Reason,
    model::{Artifact, ArtifactPath},
};

use super::{progress::Bar, sums};
use crate::error::Failure;

/// Bytes read at a time while hashing.
const READ_BYTES: usize = 256 * 1024;

/// A file to upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalFile {
    /// Where it stands.
    pub(super) path: PathBuf,
    /// What the registry will say of it.
    pub(super) artifact: Artifact,
}

/// A directory that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// The kind of model, as the registry keeps it.
    pub(super) framework: String,
    /// Every file, by path.
    pub(super) files: Vec<LocalFile>,
}

impl Scanned {
    /// Bytes of all files.
    pub(super) fn total(&self) -> u64 {
        self.files.iter().map(|f| f.artifact.size.0).sum()
    }
}

/// Checks and hashes a directory; the first defect is the error, with file, finding and remedy.
pub(super) async fn scan(dir: &Path) -> Result<Scanned, Failure> {
    let dir = dir.to_owned();
    let scanned = tokio::task::spawn_blocking(move || scan_blocking(&dir)).await;
    scanned.map_err(|e| Failure::other(format!("the check of the directory broke off: {e}")))?
}

fn scan_blocking(dir: &Path) -> Result<Scanned, Failure> {
    let root = std::fs::canonicalize(dir)
        .map_err(|e| Failure::file("read", dir, e).remedy("name a directory with a model in it"))?;
    if !root.is_dir() {
        return Err(Failure::usage(format!("{} is no directory", dir.display()))
            .with("file", dir.display())
            .remedy("name the directory that holds config.json and the weights"));
    }
    let summary = inference::validate_dir(&root).map_err(|e| invalid(&e))?;
    let bar = Bar::bytes(summary.files.iter().map(|f| f.bytes).sum());
    let mut files = Vec::with_capacity(summary.files.len());
    for file in &summary.files {
        files.push(local_file(&root, &file.path, &bar)?);
    }
    bar.done();
    sums::check(&root, &files)?;
    Ok(Scanned {
        framework: summary.family.to_string(),
        files,
    })
}

/// A directory that the model library refuses: file, finding and remedy.
fn invalid(error: &inference::LoadError) -> Failure {
    let file = error.file.display();
    Failure::other(format!("{file}: {}", error.problem))
        .because(Reason::ModelInvalid)
        .with("file", file)
        .remedy(&error.remedy)
}

fn local_file(root: &Path, relative: &str, bar: &Bar) -> Result<LocalFile, Failure> {
    let path = root.join(relative);
    let real = std::fs::canonicalize(&path).map_err(|e| Failure::file("read", &path, e))?;
    if !real.starts_with(root) {
        return Err(Failure::other(format!(
            "{} is a link to {}, outside the model directory",
            path.display(),
            real.display()
        ))
        .because(Reason::ModelInvalid)
        .with("file", path.display())
        .remedy("copy the file into the directory"));
    }
    let (size, digest) = hash(&real, bar).map_err(|e| Failure::file("read", &path, e))?;
    let artifact = Artifact {
        path: ArtifactPath::new(relative)?,
        size,
        digest,
        media_type: media_type(relative).to_owned(),
    };
    Ok(LocalFile { path: real, artifact })
}

fn hash(path: &Path, bar: &Bar) -> io::Result<(ByteCount, Digest)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let (mut hasher, mut size) = (DigestHasher::new(), 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((ByteCount(size), hasher.finish()));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
        bar.add(read as u64);
    }
}

fn media_type(path: &str) -> &'static str {
    match Path::new(path).extension().and_then(|e| e.to_str()) {
        Some("json") => "application/json",
        Some("md") => "text/markdown",
        Some("txt") => "text/plain",
        Some("safetensors" | "gguf") => "application/octet-stream",
        _ => "",
    }
}
