//! What time the leader says it is (L10): the median of the voters' wall clocks, and from there on a monotonic clock.
//!
//! Absent on purpose: decisions (`policy::clock`), and leases, which no wall clock decides (L9).
//! Invariant: what this node stamps while it leads follows a majority of the voters' clocks; its own counts as one of them.
//! So a leader whose clock is hours off stamps what the others would.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use policy::clock::{median, needs_mark};
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use state::{Command, ControlState, Entry, Expects, Feature};
use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard},
    time::{Instant, timeout_at},
};
use tonic::transport::Channel;
use tracing::warn;
use types::{NodeId, Principal, RequestId, UnixMillis, time::ClockReading};

use super::{ProposeError, RaftNode, network::Lane};

/// After this long the voters are asked again: clocks drift apart, also a monotonic one.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// What a voter's clock said longer ago counts no more, where it does not answer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(150);

/// The leader's reckoning; elsewhere what the leader said of it.
#[derive(Debug, Default)]
pub(crate) struct Reckoning {
    base: Mutex<Option<Base>>,
    /// What each voter's clock said last, and when.
    heard: Mutex<Heard>,
    /// Whoever asks the voters holds it: one question serves all who wait.
    asking: AsyncMutex<()>,
}

/// Readings of one leadership.
#[derive(Debug, Default)]
struct Heard {
    term: u64,
    readings: BTreeMap<NodeId, (UnixMillis, Instant)>,
}

/// What the voters' clocks said.
#[derive(Clone, Copy, Debug)]
struct Base {
    /// Of the leadership that asked.
    term: u64,
    time: UnixMillis,
    at: Instant,
}

impl Base {
    fn now(self) -> UnixMillis {
        self.time.plus(self.at.elapsed())
    }
}

impl Reckoning {
    fn base(&self, term: u64) -> Option<Base> {
        let base = *self.base.lock().unwrap_or_else(PoisonError::into_inner);
        base.filter(|base| base.term == term)
    }

    /// What a former leadership heard comes late, and says nothing of the one of now.
    fn set(&self, base: Base) {
        let mut known = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|known| known.term <= base.term) {
            *known = Some(base);
        }
    }

    /// Reckons anew from what was heard now, and from what the other `voters` said lately; their clocks as of now. None where a later
    /// leadership has asked by now.
    fn note(
        &self,
        term: u64,
        voters: &BTreeMap<NodeId, u64>,
        heard: impl IntoIterator<Item = (NodeId, (UnixMillis, Instant))>,
    ) -> Option<Vec<ClockReading>> {
        let at = Instant::now();
        let mut all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if all.term > term {
            return None;
        }
        if all.term < term {
            *all = Heard {
                term,
                ..Heard::default()
            };
        }
        all.readings.extend(heard);
        all.readings.retain(|node, (_, asked)| {
            voters.contains_key(node) && at.saturating_duration_since(*asked) < FORGOTTEN_AFTER
        });
        let reading = |(node, (time, asked)): (&NodeId, &(UnixMillis, Instant))| ClockReading {
            node: node.clone(),
            time: time.plus(at.saturating_duration_since(*asked)),
        };
        let readings: Vec<ClockReading> = all.readings.iter().map(reading).collect();
        if let Some(time) = median(&readings) {
            self.set(Base { term, time, at });
        }
        Some(readings)
    }
}

impl RaftNode {
    /// What an entry that is proposed now is stamped with; the time is marked first where it has to be. A node that does
    /// not lead says its own time: Raft refuses its entry.
    pub(crate) async fn stamp(&self, deadline: Instant) -> Result<UnixMillis, ProposeError> {
        let (state_time, features) = self.read(|state| (state.time(), state.features()));
        let Some(term) = self.leads().filter(|_| features.has(Feature::TimeMarks)) else {
            return Ok(self.config().clock.now());
        };
        let now = self.reckon(term, deadline).await?;
        if needs_mark(now, state_time) {
            self.mark(term, deadline).await?;
        }
        Ok(now)
    }

    /// What an entry would be stamped with, and the time mark that would be applied before it, if it takes one. Nothing is
    /// proposed: the mark has what this node reckons as its one reading.
    pub(crate) async fn would_stamp(
        &self,
        deadline: Instant,
    ) -> Result<(UnixMillis, Option<Entry>), ProposeError> {
        let (state_time, features) = self.read(|state| (state.time(), state.features()));
        let now = match self.leads().filter(|_| features.has(Feature::TimeMarks)) {
            Some(term) => self.reckon(term, deadline).await?,
            None => self.config().clock.now(),
        };
        let is_marked = features.has(Feature::TimeMarks) && needs_mark(now, state_time);
        let node = self.own_peer().node.clone();
        let mark = || self.mark_of(now, vec![ClockReading { node, time: now }]);
        Ok((now, is_marked.then(mark)))
    }

    /// What time it is for decisions that people have set a time for: what an entry would be stamped with. Never before state time.
    pub(crate) async fn time(&self, deadline: Instant) -> Result<UnixMillis, ProposeError> {
        let (now, _) = self.would_stamp(deadline).await?;
        Ok(now.max(self.read(ControlState::time)))
    }

    /// The same as far as it is known without asking anybody, for whoever looks at a state. By no clock of this node: where nothing
    /// is known, what was set to end later has not ended.
    pub(crate) fn known_time(&self, state: &ControlState) -> UnixMillis {
        self.reckoned().unwrap_or_default().max(state.time())
    }

    /// By what the leader of this term heard of the voters' clocks, however long ago: from there on a monotonic clock counts.
    pub(crate) fn reckoned(&self) -> Option<UnixMillis> {
        let term = self.leadership_sender().borrow().term;
        self.reckoning().base(term).map(Base::now)
    }

    /// What the leader of a term said of the time, on the way here until now.
    pub(crate) fn note_time(&self, term: u64, time: UnixMillis) {
        if time > UnixMillis::default() {
            let at = Instant::now();
            self.reckoning().set(Base { term, time, at });
        }
    }

    /// A request id for what this coordinator proposes by itself, made at the time that the others would name: one that its
    /// own clock made might be refused as too early or too late.
    pub(crate) async fn own_request_id(&self, deadline: Instant) -> RequestId {
        let reckoned = match self.leads() {
            Some(term) => self.reckon(term, deadline).await.ok(),
            None => None,
        };
        request_id(reckoned.unwrap_or_else(|| self.config().clock.now()))
    }

    fn leads(&self) -> Option<u64> {
        let leadership = self.leadership();
        let now = leadership.borrow();
        now.is_leader.then_some(now.term)
    }

    async fn reckon(&self, term: u64, deadline: Instant) -> Result<UnixMillis, ProposeError> {
        let reckoning = self.reckoning();
        let base = match reckoning.base(term) {
            Some(base) if base.at.elapsed() < ASK_AGAIN => return Ok(base.now()),
            other => other,
        };
        match (base, reckoning.asking.try_lock()) {
            // Somebody asks already; what is known will do meanwhile.
            (Some(base), Err(_)) => return Ok(base.now()),
            (Some(base), Ok(_asking)) => {
                // One that cannot ask again goes on with what it heard.
                let _ = self.ask(term, deadline).await;
                return Ok(reckoning.base(term).unwrap_or(base).now());
            }
            (None, _) => {}
        }
        let _asking = self.alone(deadline).await?;
        if let Some(base) = reckoning.base(term) {
            return Ok(base.now());
        }
        self.ask(term, deadline).await?;
        let base = reckoning.base(term);
        base.map(Base::now).ok_or_else(no_time)
    }

    async fn alone(&self, deadline: Instant) -> Result<MutexGuard<'_, ()>, ProposeError> {
        let asking = timeout_at(deadline, self.reckoning().asking.lock());
        asking.await.map_err(|_| no_time())
    }

    /// Commits what the voters' clocks say. Readings are of this leadership, and the entry is none of a later one.
    async fn mark(&self, term: u64, deadline: Instant) -> Result<(), ProposeError> {
        let _asking = self.alone(deadline).await?;
        let now = self.reckoning().base(term).ok_or_else(no_time)?.now();
        if !needs_mark(now, self.read(ControlState::time)) {
            return Ok(());
        }
        let readings = self.ask(term, deadline).await?;
        let now = self.reckoning().base(term).ok_or_else(no_time)?.now();
        let entry = self.mark_of(now, readings);
        match self.put(&entry, Some(term), deadline).await?.outcome {
            Ok(_) => Ok(()),
            Err(rejection) => {
                warn!(%rejection, "a time mark was refused");
                Err(no_time())
            }
        }
    }

    fn mark_of(&self, now: UnixMillis, readings: Vec<ClockReading>) -> Entry {
        Entry {
            proposed_at: now,
            request_id: request_id(now),
            actor: Principal::Coordinator {
                region: self.own_peer().region.clone(),
                node: self.own_peer().node.clone(),
            },
            command: Command::MarkTime { readings },
            expects: Expects::default(),
        }
    }

    /// Asks the voters for their time until a majority has answered, and reckons from there. Whoever answers later moves the reckoning:
    /// of two clocks, one of them this node's, the earlier one counts, whichever is wrong.
    async fn ask(&self, term: u64, deadline: Instant) -> Result<Vec<ClockReading>, ProposeError> {
        let voters = self.voters();
        let majority = voters.len() / 2 + 1;
        let questions = voters.clone().into_iter().map(|(voter, id)| {
            let node = self.clone();
            async move {
                let offset = node.offset_of(id, deadline).await?;
                Some((voter, offset))
            }
        });
        let mut questions: FuturesUnordered<_> = questions.collect();
        let mut heard = Vec::with_capacity(majority);
        while heard.len() < majority
            && let Some(answer) = questions.next().await
        {
            heard.extend(answer);
        }
        if heard.len() < majority {
            return Err(no_time());
        }
        let readings = self.reckoning().note(term, &voters, heard).ok_or_else(no_time)?;
        if !questions.is_empty() {
            self.spawn(move |node| async move {
                while let Some(answer) = questions.next().await {
                    node.reckoning().note(term, &voters, answer);
                }
            });
        }
        Ok(readings)
    }

    /// What a voter's clock said, and when: half-way between question and answer.
    async fn offset_of(&self, voter: u64, deadline: Instant) -> Option<(UnixMillis, Instant)> {
        let asked = Instant::now();
        if voter == self.own_id() {
            return Some((self.config().clock.now(), asked));
        }
        let request = pb::ReadClockRequest {
            route: Some(self.connections().route(voter)),
        };
        let ttl = deadline
            .saturating_duration_since(asked)
            .min(self.timing().election_max * 3);
        let send = async |mut client: RaftServiceClient<Channel>| client.read_clock(request).await;
        let answer = self.connections().call(voter, Lane::Read, ttl, send).await.ok()?;
        Some((UnixMillis(answer.time), asked + asked.elapsed() / 2))
    }
}

fn request_id(now: UnixMillis) -> RequestId {
    RequestId::v7_from_parts(now.0, rand::random())
}

fn no_time() -> ProposeError {
    ProposeError::NoQuorum {
        detail: "too few voters say what time it is".to_owned(),
    }
}
