//! What a privileged `ServeVersion` changes on this node, and that a refused one changes nothing.
//!
//! Absent on purpose: who may call; the door says that. Invariant: the wish of a call ends with the call, whichever way it
//! ends, and a pin is on disk, in memory and in effect, or nowhere.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use types::{Reason, VersionKey, reason::Refusal};

use crate::{desired::LocalWishes, pins::Pins, serving::Serving};

/// Has a version in memory for as long as this lives, also one that an operator unloaded.
pub(crate) struct Called<'a> {
    wishes: &'a watch::Sender<LocalWishes>,
    key: VersionKey,
}

impl<'a> Called<'a> {
    pub(crate) fn new(wishes: &'a watch::Sender<LocalWishes>, key: &VersionKey) -> Self {
        wishes.send_modify(|wishes| *wishes.called.entry(key.clone()).or_default() += 1);
        Self {
            wishes,
            key: key.clone(),
        }
    }
}

impl Drop for Called<'_> {
    fn drop(&mut self) {
        self.wishes.send_modify(|wishes| {
            let last = wishes.called.get_mut(&self.key).is_none_or(|calls| {
                *calls = calls.saturating_sub(1);
                *calls == 0
            });
            if last {
                wishes.called.remove(&self.key);
            }
        });
    }
}

/// The effect of the call: the version is the active one from now on, also after a restart.
pub(crate) fn activate(
    serving: &Serving,
    pins: &Mutex<Pins>,
    wishes: &watch::Sender<LocalWishes>,
    key: &VersionKey,
) -> Result<(), Refusal> {
    let before = serving.active().get(&key.model).copied();
    if !serving.activate(&key.model, key.version) {
        let text = format!("{key} was unloaded meanwhile; try again");
        return Err(Refusal::new(Reason::ModelNotLoaded, text).with("version", key));
    }
    let pinned = {
        let mut pins = pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.set(&key.model, key.version)
    };
    if let Err(error) = pinned {
        match before {
            Some(version) => drop(serving.activate(&key.model, version)),
            None => serving.deactivate(&key.model),
        }
        return Err(Refusal::new(
            Reason::Internal,
            format!("the pin of {key} was not kept: {error}"),
        ));
    }
    wishes.send_if_modified(|wishes| {
        let moved = wishes.pins.insert(key.model.clone(), key.version) != Some(key.version);
        let freed = wishes.unload.remove(key);
        moved || freed
    });
    Ok(())
}
