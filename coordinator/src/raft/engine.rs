//! The openraft node of now, made anew over the same log and state machine where its timing changes.
//!
//! openraft fixes heartbeats, election timeouts and the leader's lease when it is made. Nothing is read from disk again: log
//! store and state machine are shared. Absent on purpose: when to change (`timing`).
//! Invariants: one openraft node at a time writes the log and applies entries; and what the next one finds in the log is on
//! disk, because openraft takes it for that.

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use openraft::{Config, RaftLogReader as _, storage::RaftLogStorage as _};
use tokio::{
    sync::{Mutex as AsyncMutex, oneshot, watch},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    held::Held,
    log_store::LogStore,
    network::{Connections, Factory},
    state_machine::{StateMachine, Store},
    types::TypeConfig,
};

/// A handle on an openraft node.
pub(crate) type Raft = openraft::Raft<TypeConfig, Held<StateMachine>>;

/// How long between two complaints about a state machine that does not come free.
const COMPLAIN_AFTER: Duration = Duration::from_secs(5);

/// How long a node that is to end may take with what waits for its disk, before the log is closed under it.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// What a node is made of, and the one of now.
pub(crate) struct Engine {
    own_id: u64,
    /// Keeps the log from nobody, and closes it.
    view: wal::View,
    /// None once no node follows the one of now.
    parts: Mutex<Option<Parts>>,
    current: RwLock<Raft>,
    /// Ends once nothing of the current node can apply entries.
    released: AsyncMutex<oneshot::Receiver<()>>,
    run: watch::Sender<Run>,
}

#[derive(Clone)]
struct Parts {
    log: LogStore,
    store: Arc<Store>,
    connections: Arc<Connections>,
}

/// Which node it is, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    number: u64,
    /// The next one is being made.
    changing: bool,
}

impl Engine {
    /// Makes the first node. `log` is closed once the engine is, too.
    pub(crate) async fn start(
        own_id: u64,
        config: Arc<Config>,
        log: LogStore,
        store: Arc<Store>,
        connections: Arc<Connections>,
    ) -> Result<Self, String> {
        let view = log.view();
        let parts = Parts {
            log,
            store,
            connections,
        };
        let (raft, released) = parts.make(own_id, config).await?;
        Ok(Self {
            own_id,
            view,
            parts: Mutex::new(Some(parts)),
            current: RwLock::new(raft),
            released: AsyncMutex::new(released),
            run: watch::Sender::new(Run {
                number: 0,
                changing: false,
            }),
        })
    }

    /// The node of now. It may stop at any moment because the next one is made; the caller then hears what it would hear
    /// from a node that stopped.
    pub(crate) fn raft(&self) -> Raft {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The node of now, and its number for [`Self::follows`].
    pub(crate) fn numbered(&self) -> (u64, Raft) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (self.run.borrow().number, current.clone())
    }

    /// Once node `number` has stopped: whether another one follows it. Waits while one is being made.
    pub(crate) async fn follows(&self, number: u64) -> bool {
        let mut run = self.run.subscribe();
        let settled = run.wait_for(|run| run.number > number || !run.changing).await;
        settled.is_ok_and(|run| run.number > number)
    }

    /// Ends the node of now and makes the next one, with another configuration. On an error there is none any more. Not to
    /// be cancelled: the caller lets it run to its end. One that outlasts [`Self::close`] leaves no node behind.
    pub(crate) async fn change(&self, config: Arc<Config>) -> Result<(), String> {
        let mut released = self.released.lock().await;
        let parts = self.parts().ok_or_else(stopping)?;
        self.run.send_modify(|run| run.changing = true);
        let made = self.replace(&parts, &mut released, config).await;
        self.run.send_modify(|run| {
            run.changing = false;
            run.number += u64::from(made.is_ok());
        });
        made
    }

    async fn replace(
        &self,
        parts: &Parts,
        released: &mut oneshot::Receiver<()>,
        config: Arc<Config>,
    ) -> Result<(), String> {
        self.raft().shutdown().await.map_err(|e| e.to_string())?;
        while timeout(COMPLAIN_AFTER, &mut *released).await.is_err() {
            warn!("the state machine still applies what it has begun; no election takes part here meanwhile");
        }
        parts.settle().await.map_err(|e| e.to_string())?;
        self.check_open()?;
        let (raft, next) = parts.make(self.own_id, config).await?;
        *released = next;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = raft.clone();
        if let Err(closing) = self.check_open() {
            // Whoever closes may have given up waiting for this change.
            raft.shutdown().await.map_err(|e| e.to_string())?;
            return Err(closing);
        }
        info!("raft goes on with another timing");
        Ok(())
    }

    fn check_open(&self) -> Result<(), String> {
        self.parts().map(drop).ok_or_else(stopping)
    }

    /// Ends the node for good, and lets go of the log. A node that waits for its disk does not hear that it is to end, so the log is
    /// closed under it: what waited was acknowledged to nobody. A disk that does not answer at all holds it up for ever.
    pub(crate) async fn close(&self) -> Result<(), String> {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut stops = pin!(self.stop());
        if let Ok(stopped) = timeout(STOPS_WITHIN, &mut stops).await {
            return stopped;
        }
        warn!(
            "raft waits for its disk: its log is closed without what waits there, which was acknowledged to nobody"
        );
        self.view.close();
        stops.await
    }

    /// The same after a change that is under way, whatever the disk does.
    async fn stop(&self) -> Result<(), String> {
        let _after_a_change = self.released.lock().await;
        self.raft().shutdown().await.map_err(|e| e.to_string())
    }

    /// The log, while the engine is open. Whoever has it lets it go soon: it closes with the last one.
    pub(crate) fn log(&self) -> Option<LogStore> {
        self.parts().map(|parts| parts.log)
    }

    fn parts(&self) -> Option<Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn stopping() -> String {
    "the node is stopping".to_owned()
}

impl Parts {
    async fn make(&self, own_id: u64, config: Arc<Config>) -> Result<(Raft, oneshot::Receiver<()>), String> {
        let (machine, released) = Held::new(StateMachine(self.store.clone()));
        let network = Factory(self.connections.clone());
        let raft = Raft::new(own_id, config, network, self.log.clone(), machine).await;
        Ok((raft.map_err(|e| e.to_string())?, released))
    }

    /// What the former node appended may not be on disk yet; the next one takes all that it finds for acknowledged. Saving
    /// the vote syncs everything before it: there is one write-ahead log.
    async fn settle(&self) -> io::Result<()> {
        let mut log = self.log.clone();
        if let Some(vote) = log.read_vote().await? {
            log.save_vote(&vote).await?;
        }
        Ok(())
    }
}
