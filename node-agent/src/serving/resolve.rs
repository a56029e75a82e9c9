//! From the name in a request to the version that answers, or to what is known instead.

use std::{collections::BTreeSet, sync::Arc};

use types::{ModelName, ModelVersion, VersionKey};

use super::{ServeError, Table, loaded::Ticket};

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
            None if self.expected.contains(&key) => Err(ServeError::NotReady { model: name }),
            None if self.expected.iter().any(|k| k.model == name) => Err(ServeError::UnknownVersion {
                model: name.clone(),
                version,
                loaded: self.versions_of(&name),
            }),
            None => Err(self.missing(&name)),
        }
    }

    fn missing(&self, model: &ModelName) -> ServeError {
        if self.expected.iter().any(|k| k.model == *model) {
            let model = model.clone();
            return ServeError::NotReady { model };
        }
        self.unknown(model.as_str())
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
