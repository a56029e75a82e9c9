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
        after: Some(after),
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

/// Replaces pins: those that a later move of `champion` ended by none. One that stays on a failing disk is not followed
/// either, and is replaced with the next change.
pub(crate) fn repin(
    pins: &Mutex<Pins>,
    wishes: &watch::Sender<LocalWishes>,
    changes: &BTreeMap<ModelName, (Pin, Option<Pin>)>,
) {
    for (model, (old, new)) in changes {
        let swapped = {
            let mut pins = pins.lock().unwrap_or_else(PoisonError::into_inner);
            pins.swap(model, *old, *new)
        };
        if let Err(error) = swapped {
            tracing::warn!(%model, version = %old.version, %error, "a pin that is over stays on the disk");
            continue;
        }
        if new.is_none() {
            tracing::info!(%model, version = %old.version, "pin ended: the alias champion was moved");
        }
        wishes.send_if_modified(|wishes| {
            let same = wishes.pins.get(model) == Some(old);
            if same {
                match new {
                    Some(new) => wishes.pins.insert(model.clone(), *new),
                    None => wishes.pins.remove(model),
                };
            }
            same
        });
    }
}
