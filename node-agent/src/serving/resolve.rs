//! From the name in a request to the version that answers, or to what is known instead.

use std::{collections::BTreeSet, sync::Arc};

use types::{ModelName, ModelVersion, VersionKey};

use super::{ServeError, Table, Trouble, loaded::Ticket};

impl Table {
    pub(super) fn resolve(&self, model: &str, version: Option<ModelVersion>) -> Result<Ticket, ServeError> {
        if self.stopping {
            return Err(ServeError::Stopping);
        }
        let name = ModelName::new(model).map_err(|_| self.unknown(model))?;
        let Some(version) = version.or_else(|| self.active.get(&name).copied()) else {
            return Err(self.missing(&name));
        };
        let key = VersionKey {
            model: name.clone(),
            version,
        };
        match self.loaded.get(&key) {
            // Under the table's lock: whoever takes the version out sees this request.
            Some(loaded) => Ok(Ticket {
                _request: loaded.requests.token(),
                loaded: Arc::clone(loaded),
            }),
            None if self.expected.versions.contains_key(&key) => Err(self.not_here(&key)),
            None if self.is_expected(&name) => Err(ServeError::UnknownVersion {
                model: name.clone(),
                version,
                loaded: self.versions_of(&name),
            }),
            None => Err(self.missing(&name)),
        }
    }

    fn missing(&self, model: &ModelName) -> ServeError {
        let wanted = self.expected.active.get(model).map(|version| VersionKey {
            model: model.clone(),
            version: *version,
        });
        match wanted {
            Some(key) => self.not_here(&key),
            None if let Some(key) = self.put_aside(model) => ServeError::PutAside { key },
            None if self.is_on_its_way(model) => ServeError::NotReady { model: model.clone() },
            None if self.is_expected(model) => ServeError::NoChampion {
                model: model.clone(),
                loaded: self.versions_of(model),
            },
            None => self.unknown(model.as_str()),
        }
    }

    /// A version of the model that was unloaded by hand.
    fn put_aside(&self, model: &ModelName) -> Option<VersionKey> {
        let mut expected = self.expected.versions.iter();
        let found = expected.find(|(k, why)| k.model == *model && **why == Some(Trouble::PutAside));
        found.map(|(key, _)| key.clone())
    }

    fn is_expected(&self, model: &ModelName) -> bool {
        self.expected.versions.keys().any(|k| k.model == *model)
    }

    /// Whether a version that something names is not in memory yet.
    fn is_on_its_way(&self, model: &ModelName) -> bool {
        let mut of_model = self.expected.versions.iter().filter(|(k, _)| k.model == *model);
        of_model.any(|(key, trouble)| trouble.is_none() && !self.loaded.contains_key(key))
    }

    /// Why a version that belongs here does not answer.
    fn not_here(&self, key: &VersionKey) -> ServeError {
        let key = key.clone();
        match self.expected.versions.get(&key).cloned().flatten() {
            Some(Trouble::Load(why)) => ServeError::NotLoadable { key, why },
            Some(Trouble::Copy(why)) => ServeError::NotCopied { key, why },
            Some(Trouble::Unserved) => ServeError::NotServed { key },
            Some(Trouble::PutAside) => ServeError::PutAside { key },
            None => ServeError::NotReady { model: key.model },
        }
    }

    fn unknown(&self, model: &str) -> ServeError {
        let known: BTreeSet<_> = self.loaded.keys().map(|k| k.model.to_string()).collect();
        ServeError::UnknownModel {
            model: model.chars().take(200).collect(),
            known: known.into_iter().collect(),
        }
    }

    fn versions_of(&self, model: &ModelName) -> Vec<String> {
        let of_model = self.loaded.keys().filter(|k| k.model == *model);
        of_model.map(|k| k.version.to_string()).collect()
    }
}
