//! The pointer door: PUT If-Match with the ETag of the own last accepted write, then read again.
//!
//! What is read again teaches the epoch that stands there, for the log; it does not teach a new ETag, unless the body
//! was written under the writer's own token. A writer that took over the ETag of a newer body and ignored its epoch
//! is beyond a conditional PUT (design.md L15), and no writer of Regent does that.

use std::path::PathBuf;

use artifact_store::{keys, pointer::PointerBody};
use types::{FencingToken, RegionId};
use uuid::Uuid;

use super::{
    DEADLINE,
    config::{StoreAddress, ZombieConfig},
    doors::Door,
    log::{Begun, Line, LogHandle, Told},
};
use crate::{
    demo::{
        doors::{Attempt, Outcome, pointer_door},
        micros::Micros,
        s3::{Bucket, Keys, NoAnswer, PutAnswer},
    },
    error::Failure,
};

/// The store's end of a pointer and what a writer needs to write there.
#[derive(Debug)]
pub(super) struct PointerStore {
    pub(super) bucket: Bucket,
    pub(super) key: String,
}

/// A pointer as it stands.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) etag: String,
    pub(super) body: PointerBody,
}

impl PointerStore {
    pub(super) fn new(address: &StoreAddress, config: &ZombieConfig) -> Result<Self, Failure> {
        let keys = Keys::load(&config.keys.access_key_file, &config.keys.secret_key_file)?;
        Ok(Self {
            bucket: Bucket::new(&address.endpoint, &address.bucket, keys, DEADLINE)?,
            key: keys::pointer(&config.role).to_string(),
        })
    }

    /// What stands there, if it could be read.
    pub(super) async fn read(&self) -> Option<Standing> {
        let object = self.bucket.get(&self.key).await.ok()??;
        let body = PointerBody::from_bytes(&object.bytes).ok()?;
        Some(Standing {
            etag: object.etag,
            body,
        })
    }
}

/// The body that `token` writes over `old`.
pub(super) fn next_body(old: &PointerBody, token: &FencingToken, nonce: &str) -> PointerBody {
    PointerBody {
        cluster_id: token.cluster_id,
        role: token.role.clone(),
        epoch: token.epoch,
        holder: token.holder.clone(),
        sequence: old.sequence + 1,
        nonce: nonce.to_owned(),
        target: old.target,
        tombstone: false,
    }
}

/// The writer of one region's pointer.
#[derive(Debug)]
pub(super) struct PointerDoor {
    door: String,
    store: PointerStore,
    /// The own last accepted write, or a body of the own token that was read.
    own: Option<Standing>,
    /// Set where the writer must leave the pointer alone while the file exists.
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Hold {
    file: PathBuf,
    log: LogHandle,
    said: bool,
}

impl PointerDoor {
    pub(super) fn new(
        region: &RegionId,
        address: &StoreAddress,
        config: &ZombieConfig,
        log: &LogHandle,
    ) -> Result<Self, Failure> {
        let hold = (region == &config.region).then(|| Hold {
            file: config.hold.clone(),
            log: log.clone(),
            said: false,
        });
        Ok(Self {
            door: pointer_door(region),
            store: PointerStore::new(address, config)?,
            own: None,
            hold,
        })
    }

    async fn is_held(&mut self) -> bool {
        let Some(hold) = &mut self.hold else {
            return false;
        };
        let held = hold.file.exists();
        if held && !hold.said {
            hold.log.put(Line::Held { at: Micros::now() }).await;
        }
        hold.said = held;
        held
    }

    /// Takes over what was read if it stands under the own token.
    fn adopt(&mut self, found: Standing, token: &FencingToken) {
        if found.body.epoch == token.epoch && found.body.holder == token.holder {
            self.own = Some(found);
        }
    }

    /// Writes, then reads again, as L14 has it: what came of a write in doubt, and who rules by now.
    async fn put(&mut self, own: Standing, token: &FencingToken) -> Attempt {
        let nonce = Uuid::now_v7().to_string();
        let body = next_body(&own.body, token, &nonce);
        let begun = Begun::now(&self.door, &nonce, token);
        let (bucket, key) = (&self.store.bucket, &self.store.key);
        let answer = bucket.put(key, &own.etag, body.to_bytes()).await;
        let mut attempt = begun.ended(told(&answer));
        self.own = Some(match answer {
            Ok(PutAnswer { etag: Some(etag), .. }) if attempt.outcome == Outcome::Accepted => {
                Standing { etag, body }
            }
            Ok(_) | Err(_) => own,
        });
        if let Some(found) = self.store.read().await {
            learn(&mut attempt, &found);
            self.adopt(found, token);
        }
        attempt
    }
}

/// What the answer alone says. 409, 412 and 404 are surely no write; a 5xx, or none, says nothing.
fn told(answer: &Result<PutAnswer, NoAnswer>) -> Told {
    match answer {
        Ok(answer) => match answer.status {
            200..300 => Told::new(Outcome::Accepted, ""),
            400..500 => Told::new(Outcome::NoEffect, answer.status),
            other => Told::new(Outcome::Unknown, other),
        },
        Err(error) if error.never_sent => Told::new(Outcome::NoEffect, &error.why),
        Err(error) => Told::new(Outcome::Unknown, &error.why),
    }
}

/// A failed If-Match behind which a newer epoch stands was a refusal by that epoch.
fn learn(attempt: &mut Attempt, found: &Standing) {
    if attempt.reason == "412" && found.body.epoch > attempt.shown {
        attempt.outcome = Outcome::Refused;
        attempt.named = Some(found.body.epoch);
    }
}

impl Door for PointerDoor {
    async fn write(&mut self, token: &FencingToken) -> Option<Attempt> {
        if self.is_held().await {
            return None;
        }
        if self
            .own
            .as_ref()
            .is_none_or(|own| own.body.epoch != token.epoch || own.body.holder != token.holder)
        {
            self.own = None;
            let found = self.store.read().await?;
            self.adopt(found, token);
        }
        let own = self.own.take()?;
        Some(self.put(own, token).await)
    }
}
