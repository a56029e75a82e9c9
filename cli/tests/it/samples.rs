//! The sample models as directories of a test's own, and pushes of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use tempfile::TempDir;

use crate::{dev::Dev, harness::regent};

/// Where a sample stands in the checkout.
pub(crate) fn sample(model: &str) -> String {
    sample_dir(model).display().to_string()
}

fn sample_dir(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models")
        .join(model)
}

/// A copy of a sample model that a test may damage.
pub(crate) fn copy_of(model: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(sample_dir(model)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

/// A model of a test's own, under a name that nobody else has.
pub(crate) struct OwnModel {
    pub(crate) dir: TempDir,
    pub(crate) name: &'static str,
}

impl OwnModel {
    /// A copy of a sample, whose bytes no store has yet: the card is another.
    pub(crate) fn of(model: &str, name: &'static str) -> Self {
        let dir = copy_of(model);
        fs::write(dir.path().join("MODEL_CARD.md"), format!("the card of {name}\n")).unwrap();
        Self { dir, name }
    }
    /// The verb that pushes it.
    pub(crate) fn push(&self) -> [&str; 5] {
        let dir = self.dir.path().to_str().unwrap();
        ["model", "push", dir, "--name", self.name]
    }
}

/// Starts a verb, and goes on.
pub(crate) fn start(dev: &Dev, args: &[&str]) -> Child {
    let mut command = regent();
    command.env("REGENT_CONTEXT", dev.context_file()).args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}
