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

/// The version of the file that this code writes, and the only one that it reads.
const VERSION: u32 = 2;

/// A version that answers for its model's name here, whatever `champion` pointed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The version.
    pub version: ModelVersion,
    /// Revision of the last move of `champion` that this node knew of when it was pinned; a later move ends the pin.
    pub after: Revision,
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

impl Pins {
    /// Reads the file; none yet means no pins.
    ///
    /// # Errors
    /// Those of the file system, and a file of another shape.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut pins = BTreeMap::new();
        if let Some(bytes) = durable::read(path)? {
            let file: File = serde_json::from_slice(&bytes).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()))
            })?;
            if file.version != VERSION {
                let text = format!("{}: version {} is not {VERSION}", path.display(), file.version);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            pins = file.pins;
        }
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

    /// Drops a pin, on disk before it counts; one that was replaced meanwhile stays.
    ///
    /// # Errors
    /// Those of the file system; the pin stays.
    pub fn end(&mut self, model: &ModelName, pin: Pin) -> io::Result<()> {
        if self.pins.get(model) != Some(&pin) {
            return Ok(());
        }
        let mut pins = self.pins.clone();
        pins.remove(model);
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
