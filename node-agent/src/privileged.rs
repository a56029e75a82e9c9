//! What a privileged `ServeVersion` changes on this node, and that a refused one changes nothing.
//!
//! Absent on purpose: who may call; the door says that. Invariant: the wish of a call ends with the call, whichever way it
//! ends, and a pin is on disk, in memory and in effect, or nowhere. A pin lasts until the alias `champion` moves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;
use types::{ModelName, Reason, Revision, VersionKey, reason::Refusal};

use crate::{
    desired::LocalWishes,
    pins::{Pin, Pins},
    serving::Serving,
};

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

/// The effect of the call: the version is the active one from now on, also after a restart, until `champion` is moved
/// after the revision `after`.
pub(crate) fn activate(
    serving: &Serving,
    pins: &Mutex<Pins>,
    wishes: &watch::Sender<LocalWishes>,
    key: &VersionKey,
    after: Revision,
) -> Result<(), Refusal> {
    let pin = Pin {
        version: key.version,
        after,
    };
    let before = serving.active().get(&key.model).copied();
    if !serving.activate(&key.model, key.version) {
        let text = format!("{key} was unloaded meanwhile; try again");
        return Err(Refusal::new(Reason::ModelNotLoaded, text).with("version", key));
    }
    let pinned = {
        let mut pins = pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.set(&key.model, pin)
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
        let moved = wishes.pins.insert(key.model.clone(), pin) != Some(pin);
        let freed = wishes.unload.remove(key);
        moved || freed
    });
    Ok(())
}

/// Drops pins that a later move of `champion` ended. One that stays on a failing disk is not followed either, and is
/// dropped with the next change.
pub(crate) fn unpin(
    pins: &Mutex<Pins>,
    wishes: &watch::Sender<LocalWishes>,
    ended: &BTreeMap<ModelName, Pin>,
) {
    for (model, pin) in ended {
        let dropped = {
            let mut pins = pins.lock().unwrap_or_else(PoisonError::into_inner);
            pins.end(model, *pin)
        };
        if let Err(error) = dropped {
            tracing::warn!(%model, version = %pin.version, %error, "a pin that is over stays on the disk");
            continue;
        }
        tracing::info!(%model, version = %pin.version, "pin ended: the alias champion was moved");
        wishes.send_if_modified(|wishes| {
            let same = wishes.pins.get(model) == Some(pin);
            same && wishes.pins.remove(model).is_some()
        });
    }
}
