//! The sample models, carried in the binary, so that the demo runs outside the checkout; with questions whose answers
//! are known.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{dev::files, error::Failure};

macro_rules! sample_file {
    ($model:literal, $file:literal) => {
        (
            $file,
            include_bytes!(concat!("../../../models/", $model, "/", $file)),
        )
    };
}

/// A model that the demo pushes.
#[derive(Debug)]
pub(super) struct Sample {
    /// Its name in the registry.
    pub(super) name: &'static str,
    dir: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

/// A classifier of 8 × 8 images of digits.
pub(super) const DIGITS: Sample = Sample {
    name: "samples.digits",
    dir: "digits",
    files: &[
        sample_file!("digits", "config.json"),
        sample_file!("digits", "model.safetensors"),
    ],
};
/// A sentence embedder.
pub(super) const EMBEDDER: Sample = Sample {
    name: "samples.embedder",
    dir: "embedder",
    files: &[
        sample_file!("embedder", "config.json"),
        sample_file!("embedder", "tokenizer.json"),
        sample_file!("embedder", "model.safetensors"),
    ],
};
/// A small language model.
pub(super) const TINYLM: Sample = Sample {
    name: "samples.tinylm",
    dir: "tinylm",
    files: &[
        sample_file!("tinylm", "config.json"),
        sample_file!("tinylm", "tokenizer.json"),
        sample_file!("tinylm", "model.safetensors"),
    ],
};
/// All of them.
pub(super) const ALL: [&Sample; 3] = [&DIGITS, &EMBEDDER, &TINYLM];

impl Sample {
    /// Writes its files into a directory of its own below `root`.
    pub(super) fn unpack(&self, root: &Path) -> Result<PathBuf, Failure> {
        let dir = root.join(self.dir);
        files::make_dir(&dir)?;
        for (name, bytes) in self.files {
            let path = dir.join(name);
            std::fs::write(&path, bytes).map_err(|e| Failure::file("write", &path, e))?;
        }
        Ok(dir)
    }
}

/// Held-out inputs and what the training framework answered to them.
#[derive(Debug)]
pub(super) struct Fixtures {
    /// Of the digits classifier.
    pub(super) digits: DigitsFixture,
    /// Of the embedder.
    pub(super) embedder: EmbedderFixture,
    /// Of the language model.
    pub(super) tinylm: TinyLmFixture,
}

/// Held-out images with their labels; the reference's probabilities for the first ones.
#[derive(Debug, Deserialize)]
pub(super) struct DigitsFixture {
    pub(super) inputs: Vec<Vec<f32>>,
    pub(super) labels: Vec<i64>,
    pub(super) probabilities: Vec<Vec<f64>>,
}

/// Texts with their reference embeddings.
#[derive(Debug, Deserialize)]
pub(super) struct EmbedderFixture {
    pub(super) inputs: Vec<String>,
    pub(super) embeddings: Vec<Vec<f64>>,
}

/// Prompts with their greedy continuations.
#[derive(Debug, Deserialize)]
pub(super) struct TinyLmFixture {
    pub(super) cases: Vec<TinyLmCase>,
}

/// One prompt.
#[derive(Debug, Deserialize)]
pub(super) struct TinyLmCase {
    pub(super) prompt: String,
    pub(super) ids: Vec<u32>,
}

impl Fixtures {
    /// Reads those that the binary carries.
    pub(super) fn load() -> Result<Self, Failure> {
        Ok(Self {
            digits: parse("digits", include_str!("../../../models/digits/fixtures.json"))?,
            embedder: parse("embedder", include_str!("../../../models/embedder/fixtures.json"))?,
            tinylm: parse("tinylm", include_str!("../../../models/tinylm/fixtures.json"))?,
        })
    }
}

fn parse<T: for<'a> Deserialize<'a>>(model: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::other(format!("the fixtures of {model}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::{ALL, Fixtures};

    #[test]
    fn the_fixtures_hold_what_the_answers_are_checked_against() {
        let fixtures = Fixtures::load().unwrap();
        assert_eq!(fixtures.digits.inputs.len(), 100);
        assert_eq!(fixtures.digits.labels.len(), 100);
        assert_eq!(fixtures.embedder.inputs.len(), fixtures.embedder.embeddings.len());
        assert!(fixtures.tinylm.cases.iter().all(|case| case.ids.len() == 32));
    }

    #[test]
    fn the_samples_are_small_enough_to_carry() {
        let bytes: usize = ALL.iter().flat_map(|s| s.files).map(|(_, b)| b.len()).sum();
        assert!(bytes < 3 << 20, "{bytes}");
    }
}
