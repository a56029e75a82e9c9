//! Versions that a fenced `ServeVersion` made the active ones of their models; they outlive a restart, and end when the
//! alias `champion` is moved.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use types::{ModelName, ModelVersion, Revision};

use crate::durable;

/// The version of the file that this code writes. Older ones stay readable for ever (`testdata`).
const VERSION: u32 = 2;

/// A version that answers for its model's name here, whatever `champion` pointed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The version.
    pub version: ModelVersion,
    /// Revision of the last move of `champion` that this node knew of when it was pinned; a later move ends the pin. None
    /// for a pin of a file of version 1, which did not keep it, until the registry is read.
    pub after: Option<Revision>,
}

/// The pins and their file.
#[derive(Debug)]
pub struct Pins {
    path: PathBuf,
    pins: BTreeMap<ModelName, Pin>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    pins: BTreeMap<ModelName, Pin>,
}

/// Version 1: a pin did not say which move of `champion` it overruled.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileV1 {
    #[serde(rename = "version")]
    _version: u32,
    pins: BTreeMap<ModelName, ModelVersion>,
}

/// The part that every version has.
#[derive(Deserialize)]
struct AnyFile {
    version: u32,
}

impl Pins {
    /// Reads the file; none yet means no pins.
    ///
    /// # Errors
    /// Those of the file system, and a file of another shape.
    pub fn open(path: &Path) -> io::Result<Self> {
        let pins = match durable::read(path)? {
            None => BTreeMap::new(),
            Some(bytes) => decode(&bytes).map_err(|problem| {
                let text = format!("{}: {problem}", path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?,
        };
        Ok(Self {
            path: path.to_owned(),
            pins,
        })
    }

    /// All pins.
    pub fn all(&self) -> &BTreeMap<ModelName, Pin> {
        &self.pins
    }

    /// Pins a version, on disk before it counts; nothing is written if it is pinned already.
    ///
    /// # Errors
    /// Those of the file system; the old pin stays.
    pub fn set(&mut self, model: &ModelName, pin: Pin) -> io::Result<()> {
        if self.pins.get(model) == Some(&pin) {
            return Ok(());
        }
        let mut pins = self.pins.clone();
        pins.insert(model.clone(), pin);
        self.replace(pins)
    }

    /// Replaces a pin by another or by none, on disk before it counts; one that was replaced meanwhile stays.
    ///
    /// # Errors
    /// Those of the file system; the pin stays.
    pub fn swap(&mut self, model: &ModelName, old: Pin, new: Option<Pin>) -> io::Result<()> {
        if self.pins.get(model) != Some(&old) {
            return Ok(());
        }
        let mut pins = self.pins.clone();
        match new {
            Some(new) => pins.insert(model.clone(), new),
            None => pins.remove(model),
        };
        self.replace(pins)
    }

    fn replace(&mut self, pins: BTreeMap<ModelName, Pin>) -> io::Result<()> {
        let file = File {
            version: VERSION,
            pins,
        };
        durable::write(&self.path, &serde_json::to_vec_pretty(&file)?)?;
        self.pins = file.pins;
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<ModelName, Pin>, String> {
    let malformed = |error: serde_json::Error| {
        format!("{error}; restore the file, or remove it: then the alias champion is followed")
    };
    let AnyFile { version } = serde_json::from_slice(bytes).map_err(malformed)?;
    match version {
        1 => {
            let file: FileV1 = serde_json::from_slice(bytes).map_err(malformed)?;
            let undated = |version| Pin { version, after: None };
            let pins = file.pins.into_iter();
            Ok(pins.map(|(model, version)| (model, undated(version))).collect())
        }
        VERSION => serde_json::from_slice(bytes)
            .map(|file: File| file.pins)
            .map_err(malformed),
        newer => Err(format!(
            "version {newer} is newer than {VERSION}, the newest that this release reads; upgrade this process"
        )),
    }
}
