//! What coordinators confirm of roles, for readers of pointers: one question for all who wait for it.
//!
//! Absent on purpose: what is confirmed and where it is kept ([`crate::door`]), and what a reader does with it.
//! Invariant: a reader is answered by a question that was asked after it came. One that comes while a question is under way
//! waits for the next one; all who wait by then share that one, also where it failed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use policy::fence::Floor;
use tokio::sync::Mutex as AsyncMutex;
use types::{ClusterId, FencingToken, RoleName, reason::Refusal};

use crate::door::{Committed, Door};

/// The questions of each role; clones share them.
#[derive(Clone)]
pub struct Confirmations {
    door: Door,
    roles: Arc<Mutex<ByRole>>,
}

/// As many as there are roles: whoever asks has looked whether there is such a role.
type ByRole = BTreeMap<(ClusterId, RoleName), Arc<Questions>>;

/// The questions of one role, numbered from 1.
#[derive(Default)]
struct Questions {
    /// How many were begun.
    begun: AtomicU64,
    /// The last one that was answered. Its lock is held by who asks, and is the queue of those who wait.
    answered: AsyncMutex<Option<Answered>>,
}

struct Answered {
    question: u64,
    said: Result<Committed, Refusal>,
}

impl Confirmations {
    /// Asks by this door, which learns from each answer.
    pub fn new(door: Door) -> Self {
        Self {
            door,
            roles: Arc::default(),
        }
    }

    /// What is committed of a token's role, by a linearizable read that begins after this call. Dropping it leaves the
    /// question to whoever waits next.
    ///
    /// # Errors
    /// As for [`Door::committed`] and [`Door::still_counts`].
    pub async fn committed(&self, token: &FencingToken) -> Result<Floor, Refusal> {
        let questions = self.questions(token);
        // What has begun by now may have been answered from before this reader came.
        let too_early = questions.begun.load(Ordering::SeqCst);
        let mut answered = questions.answered.lock().await;
        let said = match answered.as_ref().filter(|last| last.question > too_early) {
            Some(last) => last.said.clone(),
            None => {
                let question = questions.begun.fetch_add(1, Ordering::SeqCst) + 1;
                let said = self.door.committed(token).await;
                *answered = Some(Answered {
                    question,
                    said: said.clone(),
                });
                said
            }
        };
        drop(answered);
        self.door.still_counts(said?)
    }

    fn questions(&self, token: &FencingToken) -> Arc<Questions> {
        let key = (token.cluster_id, token.role.clone());
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(roles.entry(key).or_default())
    }
}
