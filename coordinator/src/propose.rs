//! Hop 4 of every change: stamp time and actor, put the entry into the log, say what became of it.
//!
//! Proposals go into the log together: those that come while a batch is on its way are the next batch. One message to the log,
//! one sync and one message to each peer then serve all of them, and on a loaded node these are most of the work.
//!
//! Invariant: Raft's writes are called here alone; and an error other than `OutcomeUnknown` means that no entry of this
//! call is or will be in the log.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use openraft::{
    errors::{ClientWriteError, ForwardReason, ForwardToLeader},
    impls::ProgressResponder,
};
use state::{Command, Entry, Expects, Feature, Preview, codec};
use tokio::{
    sync::{SemaphorePermit, oneshot},
    time::{Instant, timeout_at},
};
use types::{
    Principal, RequestId, Revision,
    planted::{self, Bug},
};

use crate::raft::{
    LeaderHint, ProposeError, RaftNode,
    types::{Answer, EntryBytes, Proposed, TypeConfig},
};

/// An encoded entry may take this many bytes; Raft sends up to 64 of them in one message.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Bytes of all proposals in flight; one more is refused, or small memory would hold a thousand of the largest.
pub(crate) const PROPOSED_BYTES_MAX: usize = 64 << 20;

/// A command, and what whoever asks for it believes of the record that it addresses.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What they want.
    pub command: Command,
    /// Where it is otherwise, nothing is done.
    pub expects: Expects,
}

impl From<Command> for Asked {
    fn from(command: Command) -> Self {
        Self {
            command,
            expects: Expects::default(),
        }
    }
}

/// A command on its way into the log.
#[derive(Debug)]
pub(crate) struct Proposal {
    bytes: EntryBytes,
    deadline: Instant,
    written: oneshot::Sender<Written>,
}

/// What apply answered, or why it was not asked.
type Written = Result<Answer, ProposeError>;

impl RaftNode {
    /// Puts a command into the log and waits until it is applied here. Time is stamped here. Leader only.
    ///
    /// A rejection by rule is `Ok` with `outcome: Err(..)`. Every error but `OutcomeUnknown` is sure: nothing was
    /// proposed. After the deadline the answer is `OutcomeUnknown`, and the entry may still be applied.
    pub async fn propose(
        &self,
        actor: Principal,
        request_id: RequestId,
        asked: impl Into<Asked>,
        deadline: Instant,
    ) -> Result<Proposed, ProposeError> {
        self.propose_in(None, actor, request_id, asked, deadline).await
    }

    /// The same, only while this node leads `term`: what was decided by what that leadership knew is no entry of a later
    /// one of this node, which knows less. Refused as by a node that does not lead.
    pub async fn propose_in(
        &self,
        term: Option<u64>,
        actor: Principal,
        request_id: RequestId,
        asked: impl Into<Asked>,
        deadline: Instant,
    ) -> Result<Proposed, ProposeError> {
        self.check_serving()?;
        if deadline <= Instant::now() {
            let detail = "the deadline passed before the command was proposed".to_owned();
            return Err(ProposeError::NotServing { detail });
        }
        self.check_room()?;
        let bound = self.config().limits.proposals_in_flight;
        let overloaded = |_| ProposeError::Overloaded { in_flight: bound };
        let _permit = self.in_flight().try_acquire().map_err(overloaded)?;
        let Asked { command, expects } = asked.into();
        self.check_is_known(&command, &expects)?;
        let entry = Entry {
            proposed_at: self.stamp(deadline).await?,
            request_id,
            actor,
            command,
            expects,
        };
        if planted::has(Bug::AckBeforeCommit) && term.is_none() {
            return Ok(self.answer_first(entry, deadline));
        }
        self.put(&entry, term, deadline).await
    }

    /// What [`Bug::AckBeforeCommit`] does: the answer is what would come of it here, and whether it does is left open.
    fn answer_first(&self, entry: Entry, deadline: Instant) -> Proposed {
        let (revision, state) = self.view();
        let applied = state.preview(revision.next(), &entry).applied;
        self.spawn(move |node| async move { drop(node.put(&entry, None, deadline).await) });
        Proposed {
            revision: revision.next(),
            outcome: applied.outcome,
            events: applied.events.into(),
        }
    }

    /// Puts an entry that is stamped into the log.
    pub(crate) async fn put(
        &self,
        entry: &Entry,
        term: Option<u64>,
        deadline: Instant,
    ) -> Result<Proposed, ProposeError> {
        let bytes = encode(entry)?;
        let _room = self.room_for(&bytes)?;
        self.check_room()?;
        self.check_takes(&entry.actor)?;
        match timeout_at(deadline, self.write(bytes, term, deadline)).await {
            // What a state that is not believed answers is no answer.
            Ok(answer) => match self.store().suspicion().why() {
                Some(why) => answer.and_then(|_| Err(unknown(why))),
                None => answered(answer?),
            },
            Err(_) => Err(ProposeError::OutcomeUnknown {
                detail: "no answer before the deadline".to_owned(),
            }),
        }
    }

    fn room_for(&self, bytes: &EntryBytes) -> Result<SemaphorePermit<'_>, ProposeError> {
        let full = ProposeError::OverloadedBytes {
            limit: PROPOSED_BYTES_MAX,
        };
        let wanted = u32::try_from(bytes.0.len()).unwrap_or(u32::MAX);
        self.in_flight_bytes().try_acquire_many(wanted).map_err(|_| full)
    }

    /// What a command would come to, and nothing done: decided on all that was acknowledged before this call. At any node.
    /// The revision is that of the state on which it was decided.
    pub async fn preview(
        &self,
        actor: Principal,
        request_id: RequestId,
        asked: impl Into<Asked>,
        deadline: Instant,
    ) -> Result<(Revision, Preview), ProposeError> {
        let Asked { command, expects } = asked.into();
        self.linearize(deadline).await?;
        self.check_is_known(&command, &expects)?;
        let (proposed_at, mark) = self.would_stamp(deadline).await?;
        let entry = Entry {
            proposed_at,
            request_id,
            actor,
            command,
            expects,
        };
        encode(&entry)?;
        let (revision, state) = self.view();
        let next = revision.next();
        let preview = match mark {
            None => state.preview(next, &entry),
            Some(mark) => state.preview(next, &mark).then(next.next(), &entry),
        };
        Ok((revision, preview))
    }

    /// No entry has a command that some build cannot read, or expects anything that some build does not check, before the
    /// cluster's level says that all do: the level only grows.
    fn check_is_known(&self, command: &Command, expects: &Expects) -> Result<(), ProposeError> {
        let features = self.read(state::ControlState::features);
        let expectation =
            (!expects.is_nothing()).then_some(("an etag or expected epoch", Feature::Expectations));
        let command = command.needs().map(|needs| ("this", needs));
        let mut wanted = command.into_iter().chain(expectation);
        match wanted.find(|(_, needs)| !features.has(*needs)) {
            None => Ok(()),
            Some((what, needs)) => Err(ProposeError::BelowLevel {
                what,
                level: features.level(),
                needs: needs.level(),
            }),
        }
    }

    async fn write(&self, bytes: EntryBytes, term: Option<u64>, deadline: Instant) -> Written {
        if let Some(term) = term {
            return self.write_in(term, bytes).await;
        }
        let (written, answer) = oneshot::channel();
        self.proposals().add(Proposal {
            bytes,
            deadline,
            written,
        })?;
        // Nobody answers once the node stops; the entry may be in the log.
        answer.await.unwrap_or_else(|_| Err(unknown("the node stopped")))
    }

    /// By itself: only what is proposed under the same term could go with it.
    async fn write_in(&self, term: u64, bytes: EntryBytes) -> Written {
        let (responder, answer) = ProgressResponder::complete_only();
        let raft = self.raft();
        let write = raft.write(bytes).with_leader(term).responder(responder);
        write.await.map_err(unknown)?;
        // Nobody answers once Raft has stopped; the entry may be in the log.
        let written = answer.await.map_err(|_| unknown("raft stopped"))?;
        Ok(written.map_err(|e| self.classify_write(e))?.data)
    }

    /// Puts proposals into the log as they come; ends with the node.
    pub(crate) async fn serve_proposals(self) {
        self.proposals().serve(|batch| self.write_batch(batch)).await;
    }

    async fn write_batch(&self, mut batch: Vec<Proposal>) {
        // Whoever gave up was told that it does not know; there is no need to make it true.
        let now = Instant::now();
        batch.retain(|proposal| proposal.deadline > now && !proposal.written.is_closed());
        let (entries, waiting): (Vec<_>, Vec<_>) = batch.into_iter().map(|p| (p.bytes, p.written)).unzip();
        if entries.is_empty() {
            return;
        }
        let raft = self.raft();
        let mut answers = match raft.client_write_many(entries).await {
            Ok(answers) => answers,
            Err(fatal) => stream::once(async { Err(fatal) }).boxed(),
        };
        for written in waiting {
            let answer = match answers.next().await {
                Some(Ok(Ok(answer))) => Ok(answer.response),
                Some(Ok(Err(error))) => Err(self.classify_write(error)),
                Some(Err(fatal)) => Err(unknown(fatal)),
                None => Err(unknown("raft stopped")),
            };
            // Its caller may have given up meanwhile.
            let _ = written.send(answer);
        }
    }

    /// What is proposed while the disk is full would take the room that votes and the entries of elections need.
    fn check_room(&self) -> Result<(), ProposeError> {
        if !self.is_full() || !self.leadership().borrow().is_leader {
            return Ok(());
        }
        let room = self.room().room();
        Err(ProposeError::DiskFull {
            node: self.own_peer().node.clone(),
            path: room.path,
            free_bytes: room.free_bytes,
            needed_bytes: room.needed_bytes,
        })
    }

    /// More may be in flight than a disk has room for that is not full yet. What coordinators propose by themselves is little, and goes
    /// before what waits for it. Whoever does not lead puts nothing on its disk for it, and says who does.
    pub(crate) fn check_takes(&self, actor: &Principal) -> Result<(), ProposeError> {
        let leads = self.leadership().borrow().is_leader;
        if !leads || matches!(actor, Principal::Coordinator { .. }) || self.takes_proposals() {
            return Ok(());
        }
        Err(ProposeError::OverloadedDisk {
            node: self.own_peer().node.clone(),
            path: self.room().room().path,
            room_bytes: self.room().left_bytes(),
        })
    }

    fn classify_write(&self, error: ClientWriteError<TypeConfig>) -> ProposeError {
        match error {
            ClientWriteError::ForwardToLeader(forward) => self.forwarded(&forward),
            // The entry was in this node's log once; another leader may have it too.
            other => unknown(other),
        }
    }

    /// What Raft says instead of taking a call: somebody else leads, or this leader lost its quorum.
    pub(crate) fn forwarded(&self, forward: &ForwardToLeader<TypeConfig>) -> ProposeError {
        if forward.reason == ForwardReason::LeaseExpired {
            let detail = "this leader's lease ran out".to_owned();
            return ProposeError::NoQuorum { detail };
        }
        let hint = |(id, peer): (&u64, &crate::raft::Peer)| LeaderHint {
            node: peer.node.clone(),
            raft_id: *id,
            api_endpoint: peer.api_endpoint.clone(),
            witness: peer.witness,
        };
        // A leader that lost its quorum may name itself; whoever is sent there comes back.
        let leader = forward.leader_id.as_ref().filter(|id| **id != self.own_id());
        let leader = leader.zip(forward.leader_node.as_ref());
        ProposeError::NotLeader {
            leader: leader.map(hint),
        }
    }
}

/// The entry may be in the log.
fn unknown(what: impl std::fmt::Display) -> ProposeError {
    ProposeError::OutcomeUnknown {
        detail: what.to_string(),
    }
}

fn encode(entry: &Entry) -> Result<EntryBytes, ProposeError> {
    let bytes = codec::encode_entry(entry);
    if bytes.len() > ENTRY_BYTES_MAX {
        let (bytes, max) = (bytes.len(), ENTRY_BYTES_MAX);
        return Err(ProposeError::TooLarge { bytes, max });
    }
    Ok(EntryBytes(Bytes::from(bytes)))
}

fn answered(answer: Answer) -> Result<Proposed, ProposeError> {
    match answer {
        Answer::Applied(proposed) => Ok(proposed),
        Answer::Nothing => Err(ProposeError::OutcomeUnknown {
            detail: "another entry took the place of the command".to_owned(),
        }),
    }
}
