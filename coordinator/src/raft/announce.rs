//! L20: a coordinator tells the others at each start what it has on its disk, and is let in only where none of them
//! remembers more of it; and then goes on telling, so that they remember.
//!
//! What is compared, and why legal cuts of the log are not taken for an older disk, is in [`policy::standing`] and in
//! `docs/protocol/membership.md`. Nobody needs to have been let in to answer, so that all may start at once.
//!
//! Absent on purpose: any part in elections other than to hold them off.
//! Invariant: until it is let in a node votes for nobody, stores nothing for a leader and does not campaign; once it was
//! turned away it never does again.

mod answer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use openraft::{async_runtime::WatchReceiver as _, storage::RaftLogStorage};
use policy::standing::{self, Boot, LogPoint, Remembered, Shown, Stored};
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::{Code, transport::Channel};
use tracing::{error, info, warn};
use types::{
    DiskId, NodeId,
    reason::{Reason, Refusal},
};

use super::{
    RaftNode, convert,
    log_store::LogStore,
    network::{CallError, Lane},
    types::{LogId, raft_id, term_of},
};

/// How often a node that was let in says what it has stored.
const EXCHANGE: Duration = Duration::from_millis(500);
/// How often one that was not says it again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a peer has for its answer.
const ANSWER: Duration = Duration::from_millis(500);
/// How often what is remembered of others is written down.
const SAVE: Duration = Duration::from_secs(5);
/// After this long it is said who holds the node off, and then again as often.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a node may act in Raft.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Door {
    /// A member that has just started.
    Closed,
    /// No member as far as its own log goes: the first that speaks to it says whether it knows better.
    New,
    /// Let in.
    Open,
    /// Turned away, for good.
    TurnedAway(Refusal),
}

/// What stands between a start and Raft.
pub(crate) struct Admission {
    shown: Shown,
    door: watch::Sender<Door>,
    /// Members that remember nothing against it: a voice each.
    accepting: Mutex<BTreeSet<u64>>,
}

impl Admission {
    /// Before Raft has started; nobody is let in by it.
    pub(crate) fn new(shown: Shown) -> Self {
        Self {
            shown,
            door: watch::Sender::new(Door::Closed),
            accepting: Mutex::default(),
        }
    }

    fn accepting(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it votes and stores, so that what it showed at its start is not all that it has.
    fn acts(&self) -> bool {
        matches!(*self.door.borrow(), Door::New | Door::Open)
    }

    fn door(&self) -> Door {
        self.door.borrow().clone()
    }

    /// Why it was turned away, if it was.
    pub(crate) fn turned_away(&self) -> Option<Refusal> {
        match &*self.door.borrow() {
            Door::TurnedAway(refusal) => Some(refusal.clone()),
            Door::Closed | Door::New | Door::Open => None,
        }
    }
}

/// What is on the disk before Raft touches it. A snapshot that has just been installed may reach further than the log.
pub(crate) async fn shown_at_start(
    boot: Boot,
    log: &mut LogStore,
    snapshot: Option<LogId>,
) -> std::io::Result<Shown> {
    use openraft::RaftLogReader as _;
    let vote = log.read_vote().await?;
    let last = log.get_log_state().await?.last_log_id;
    Ok(Shown {
        boot,
        ballot: vote.as_ref().map(convert::ballot_of),
        last: last.as_ref().map(point).max(snapshot.as_ref().map(point)),
    })
}

pub(super) fn point(id: &LogId) -> LogPoint {
    LogPoint {
        term: term_of(id),
        index: id.index(),
    }
}

impl RaftNode {
    /// Lets this node act at once where nobody else could know better, and has it ask the others otherwise. Raft has
    /// started, with its elections held off.
    pub(super) async fn begin_admission(&self) -> Result<(), String> {
        let raft = self.raft();
        let at_start = raft.with_raft_state(|s| s.membership_state.effective().membership().clone());
        let membership = at_start.await.map_err(|e| e.to_string())?;
        let member = membership.get_node(&self.own_id()).is_some();
        let alone = standing::is_let_in(&sets(&membership), self.own_id(), |_| false);
        match (member, alone) {
            (true, false) => info!("asking the other members whether this disk is the newest that they know"),
            (true, true) => self.open(),
            (false, _) => {
                self.admission().door.send_replace(Door::New);
                self.steer_elections();
            }
        }
        self.spawn(Self::announce);
        Ok(())
    }

    /// Whether this node votes and stores.
    pub(super) fn acts(&self) -> bool {
        self.admission().acts()
    }

    /// Lets elections here run, or not, as far as this node was let in and is no witness that holds back; an openraft node that was made meanwhile may not know.
    pub(super) fn steer_elections(&self) {
        self.raft().runtime_config().elect(self.may_elect());
    }

    fn open(&self) {
        let opened = self.admission().door.send_if_modified(|door| {
            let may = matches!(door, Door::Closed | Door::New);
            if may {
                *door = Door::Open;
            }
            may
        });
        if opened {
            self.steer_elections();
        }
    }

    /// Ends this node's part in the cluster, for good: Raft stops, and it is written down, which a stop waits for.
    pub(super) fn turn_away(&self, refusal: Refusal) {
        let first = self.admission().door.send_if_modified(|door| {
            let first = !matches!(door, Door::TurnedAway(_));
            if first {
                *door = Door::TurnedAway(refusal.clone());
            }
            first
        });
        if !first {
            return;
        }
        self.steer_elections();
        error!(%refusal, "this coordinator's disk is not let in");
        let (identity, why) = (Arc::clone(self.identity()), refusal.message.clone());
        let written = tokio::task::spawn_blocking(move || identity.turn_away(&why));
        self.spawn_to_its_end(async move {
            if let Ok(Err(error)) = written.await {
                error!(%error, "that could not be written down; the others go on refusing it");
            }
        });
        self.stopped_with(refusal.message);
        self.spawn(|node| async move {
            // What it says is known already.
            drop(node.engine().close().await);
        });
    }

    /// Why this node was turned away, if it was: its disk is older than others remember, or it was taken out.
    pub fn turned_away(&self) -> Option<Refusal> {
        self.admission().turned_away()
    }

    /// How this node addresses another member, with what it remembers of its disk.
    pub fn route_to(&self, node: &NodeId) -> pb::Route {
        self.connections().route(raft_id(node))
    }

    /// Waits until this node may act in Raft, or was turned away.
    pub async fn let_in(&self) -> Result<(), Refusal> {
        let mut door = self.admission().door.subscribe();
        let decided = door.wait_for(|door| !matches!(door, Door::Closed)).await;
        match decided.as_deref() {
            Ok(Door::TurnedAway(refusal)) => Err(refusal.clone()),
            Ok(Door::Closed | Door::New | Door::Open) => Ok(()),
            Err(_) => Err(Refusal::new(Reason::NotServing, "stopping")),
        }
    }

    /// Tells the others, until the node stops.
    async fn announce(self) {
        let mut saved = Instant::now();
        let mut told = Instant::now();
        loop {
            let began = Instant::now();
            let silent = self.announce_to_all().await;
            self.decide();
            self.note_matched();
            let waiting = match self.admission().door() {
                Door::Closed => true,
                Door::New | Door::Open => false,
                Door::TurnedAway(_) => return,
            };
            if waiting && told.elapsed() >= PATIENCE {
                told = Instant::now();
                let silent: Vec<_> = silent
                    .into_iter()
                    .map(|(node, why)| format!("{node}: {why}"))
                    .collect();
                warn!(
                    "waits for a majority of the voters to say that this disk is not older than they remember; {}",
                    silent.join("; ")
                );
            }
            if saved.elapsed() >= SAVE {
                saved = Instant::now();
                self.save_memory().await;
            }
            sleep_until(began + if waiting { AGAIN } else { EXCHANGE }).await;
        }
    }

    /// Writes down what is remembered of the others.
    pub(super) async fn save_memory(&self) {
        let disks = self
            .membership()
            .nodes()
            .filter_map(|(_, peer)| peer.disk)
            .collect();
        let (memory, identity) = (Arc::clone(self.memory()), Arc::clone(self.identity()));
        // Nothing that ends a task ends this.
        let save = move || {
            let _locked = identity.hold()?;
            memory.save(&disks)
        };
        let saved = tokio::task::spawn_blocking(save).await;
        if let Ok(Err(error)) = saved {
            warn!(%error, "what is remembered of the other members' disks is not written down");
        }
    }

    /// Who gave no answer, and why.
    async fn announce_to_all(&self) -> BTreeMap<String, String> {
        let membership = self.membership();
        if membership.get_node(&self.own_id()).is_none() {
            return BTreeMap::new();
        }
        let peers = membership.nodes().filter(|(id, _)| **id != self.own_id());
        let asked = peers.map(|(id, peer)| async move {
            let answer = self.announce_to(*id).await;
            let why = self.take_answer(*id, peer.disk, answer)?;
            Some((peer.node.to_string(), why))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn announce_to(&self, to: u64) -> Result<pb::AnnounceResponse, CallError> {
        let request = self.announcement(to);
        let send = async |mut client: RaftServiceClient<Channel>| client.announce(request).await;
        let ttl = ANSWER.max(self.timing().heartbeat);
        self.connections().call(to, Lane::Read, ttl, send).await
    }

    fn announcement(&self, to: u64) -> pb::AnnounceRequest {
        let shown = self.admission().shown;
        let let_in = self.admission().acts();
        let membership = self
            .raft()
            .metrics()
            .borrow_watched()
            .membership_config
            .log_id()
            .as_ref()
            .map(convert::log_id_out);
        pb::AnnounceRequest {
            route: Some(self.connections().route(to)),
            peer: Some(convert::peer_out(self.own_id(), self.own_peer())),
            boot: Some(convert::boot_out(shown.boot)),
            vote: shown.ballot.map(convert::ballot_out),
            last_log_id: shown.last.map(convert::point_out),
            membership_log_id: membership,
            let_in,
            now: let_in.then(|| convert::remembered_out(&self.stored_now())),
        }
    }

    /// What is durable on the own disk now.
    pub(super) fn stored_now(&self) -> Remembered {
        let shown = self.admission().shown;
        let flushed = self.raft().watch_log_progress().get();
        let ballot = flushed.as_ref().map(|flushed| convert::ballot_of(&flushed.vote));
        let stored = flushed.as_ref().and_then(|flushed| {
            let upto = flushed.last_log_id.as_ref().filter(|_| flushed.vote.committed)?;
            Some(Stored {
                under: flushed.vote.leader_id.term,
                upto: point(upto),
            })
        });
        Remembered {
            boot: Some(shown.boot),
            ballot: ballot.or(shown.ballot),
            stored,
        }
    }

    /// Why there is no answer, if there is none.
    fn take_answer(
        &self,
        from: u64,
        disk: Option<DiskId>,
        answer: Result<pb::AnnounceResponse, CallError>,
    ) -> Option<String> {
        let answer = match answer {
            Ok(answer) => answer,
            // An older build: it remembers nothing.
            Err(CallError::Status(status)) if status.code() == Code::Unimplemented => {
                self.accept(from);
                return None;
            }
            Err(CallError::Status(status)) => return Some(status.message().to_owned()),
            Err(CallError::Unreachable(why)) => return Some(why),
            Err(CallError::TimedOut) => return Some("it does not answer".to_owned()),
        };
        if let (Some(disk), Some(own)) = (disk, answer.own.as_ref()) {
            self.memory().learn(disk, convert::remembered_in(own));
        }
        match answer.verdict() {
            pb::Verdict::Accepted => self.accept(from),
            pb::Verdict::Older => self.turn_away(self.older(from, &answer.why)),
            pb::Verdict::Removed => self.turn_away(self.removed()),
            pb::Verdict::Unspecified => return Some("it says neither yes nor no".to_owned()),
        }
        None
    }

    fn accept(&self, from: u64) {
        self.admission().accepting().insert(from);
    }

    /// Only after everybody had the time to answer: who answers first may know less than who answers last.
    fn decide(&self) {
        if self.admission().door() != Door::Closed {
            return;
        }
        let accepting = self.admission().accepting().clone();
        let sets = sets(&self.membership());
        if standing::is_let_in(&sets, self.own_id(), |id| accepting.contains(&id)) {
            info!(
                by = accepting.len(),
                "let in: no member that answers remembers more of this disk"
            );
            self.open();
        }
    }
}

fn sets(membership: &super::types::Membership) -> Vec<Vec<u64>> {
    let sets = membership.get_joint_config().iter();
    sets.map(|set| set.iter().copied().collect()).collect()
}
