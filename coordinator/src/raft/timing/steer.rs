//! The leader's side of the timing: proposes what follows from the distances, and tells the members one after the other to
//! go by it.
//!
//! Absent on purpose: decisions (`policy::timing`).
//! Invariant: one member at a time is told; the next only after the one before has answered with the new timing, is silent, or
//! is stuck.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use policy::timing::{self as decide, Choice, Pair, Standing, TURN, Turn};
use state::{Command, Feature};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};
use types::{NodeId, Principal, RequestId, election::TimingSetting};
use uuid::Uuid;

use super::super::{Member, RaftNode, config::RaftTiming, preference::is_fit, raft_id, types::Peer};

/// Between two looks at most.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks at least: answers come in one by one.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two looks while only members are left that do not change, though it is their turn.
const STUCK_PAUSE: Duration = LOOK;
/// How long what a leader does by itself may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What helps where a person fixed the timing.
const DERIVE: &str = "have it derived with `regent cluster timing set --derived`, or fix a longer one";

/// Why a newcomer does not vote.
enum NotYet {
    /// The next look may find another answer.
    Soon(String),
    /// Only a person can change it.
    Never(String),
}

/// What a leader remembers between two looks.
#[derive(Debug, Default)]
struct Memory {
    /// Which leadership it is.
    since: Option<Instant>,
    /// Since when a shorter timing would have done.
    calm: Option<Instant>,
    /// Whom it told, itself included, that it is its turn to go by the setting of this revision.
    told: BTreeMap<NodeId, Told>,
    revision: u64,
}

/// When a member was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// First, without a silence of its own since.
    since: Instant,
    last: Instant,
}

impl Memory {
    /// Which members that were told have not changed for [`TURN`]; who was silent is told anew.
    fn mark_stuck(&mut self, standings: &mut BTreeMap<NodeId, Standing>, now: Instant) {
        let answers = |node: &NodeId| standings.get(node).is_some_and(|m| m.timing.is_some());
        self.told.retain(|node, _| answers(node));
        for (node, standing) in standings {
            let told = self.told.get(node);
            let told = told.filter(|told| now.saturating_duration_since(told.since) >= TURN);
            standing.stuck = told.map(|told| now.saturating_duration_since(told.last));
        }
    }

    fn tell(&mut self, node: &NodeId, now: Instant) {
        let told = self.told.entry(node.clone());
        told.or_insert(Told {
            since: now,
            last: now,
        })
        .last = now;
    }

    /// Another leadership begins anew.
    fn lead(&mut self, since: Option<Instant>) {
        if self.since != since {
            *self = Self {
                since,
                ..Self::default()
            };
        }
    }

    /// Another setting, too.
    fn go_by(&mut self, revision: u64) {
        if self.revision != revision {
            self.told.clear();
            self.revision = revision;
        }
    }
}

impl RaftNode {
    /// While this node leads: keeps the setting in the log true to the distances, and the members to the setting.
    pub(crate) async fn steer_timing(self) {
        let mut leadership = self.leadership();
        let mut memory = Memory::default();
        let mut news = self.round_trips().changes();
        while let Ok(since) = leadership.wait_for(|l| l.since.is_some()).await.map(|l| l.since) {
            memory.lead(since);
            let pause = self.look_at_timing(&mut memory).await;
            tokio::time::sleep(pause).await;
            let _ = timeout(LOOK, news.changed()).await;
        }
    }

    /// One look; how long until the next at least.
    async fn look_at_timing(&self, memory: &mut Memory) -> Duration {
        if !self.read(|state| state.features().has(Feature::ElectionSettings)) {
            return PAUSE;
        }
        let Some((setting, revision)) = self.timing_setting() else {
            self.set_first_timing().await;
            return PAUSE;
        };
        if setting.derived && self.derive(&setting, &mut memory.calm).await {
            return PAUSE;
        }
        memory.go_by(revision);
        self.next_turn(&setting, memory).await
    }

    /// The log says nothing yet: what this cluster was founded with counts, fixed where the config names it.
    async fn set_first_timing(&self) {
        let own = self.timing();
        let derived = !self.config().timing_fixed;
        let reason = if derived {
            "the defaults, until round trips say otherwise".to_owned()
        } else {
            format!("from the config of {}", self.own_peer().node)
        };
        self.set_timing(own, derived, reason).await;
    }

    /// Whether another timing was proposed.
    async fn derive(&self, setting: &TimingSetting, calm: &mut Option<Instant>) -> bool {
        let now = Instant::now();
        let calm_for = calm.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        match decide::choose(&setting.timing, &self.pairs(&self.members()), calm_for) {
            Choice::Keep => *calm = None,
            Choice::Shorter => {
                calm.get_or_insert(now);
            }
            Choice::Change { timing, .. } if self.waits(&setting.timing, &timing) => {}
            Choice::Change { timing, reason } => {
                *calm = None;
                self.set_timing(timing, true, reason).await;
                return true;
            }
        }
        false
    }

    async fn set_timing(&self, timing: RaftTiming, derived: bool, reason: String) {
        let actor = Principal::Coordinator {
            region: self.own_peer().region.clone(),
            node: self.own_peer().node.clone(),
        };
        let command = Command::SetElectionTiming {
            timing: Some(timing),
            derived,
            reason: reason.clone(),
        };
        let request_id = RequestId::from_u128(Uuid::now_v7().as_u128());
        let deadline = Instant::now() + PATIENCE;
        match self.propose(actor, request_id, command, deadline).await {
            Ok(proposed) => match proposed.outcome {
                Ok(_) => info!(%timing, reason, "election timing of the cluster"),
                Err(rejection) => warn!(%rejection, "the election timing was refused"),
            },
            Err(error) => warn!(%error, "the election timing is not set yet"),
        }
    }

    /// Whether a change from one timing to the other waits for a plan.
    pub(super) fn waits(&self, from: &RaftTiming, to: &RaftTiming) -> bool {
        decide::waits(from, to, self.moves_a_role())
    }

    async fn next_turn(&self, setting: &TimingSetting, memory: &mut Memory) -> Duration {
        if self.waits(&self.timing(), &setting.timing) {
            memory.told.clear();
            return PAUSE;
        }
        let (mut standings, now) = (self.standings(), Instant::now());
        memory.mark_stuck(&mut standings, now);
        let own = &self.own_peer().node;
        let turn = decide::next_turn(&setting.timing, own, &standings);
        // Who is fit to lead has answered by then.
        let led_for = memory.since.map_or(Duration::ZERO, |since| since.elapsed());
        let knows_who_is_fit = led_for >= self.timing().election_max;
        if !knows_who_is_fit && decide::asks_who_is_fit(&turn, &self.timing(), &setting.timing) {
            return PAUSE;
        }
        let told = match &turn {
            Turn::Nobody => {
                memory.told.clear();
                return PAUSE;
            }
            Turn::HandOver(node) => {
                info!(to = %node, timing = %setting.timing, "leadership goes to one with the new election timing");
                let deadline = now + PATIENCE;
                if let Err(error) = self.transfer_leadership(Some(node.clone()), deadline).await {
                    info!(%error, "leadership was not handed over");
                }
                return PAUSE;
            }
            Turn::Tell(node) => {
                self.ping(raft_id(node), Some((memory.revision, &setting.timing)))
                    .await;
                node
            }
            Turn::Here => {
                let node = self.clone();
                let timing = setting.timing;
                let adopts = self.spawn_to_its_end(async move { node.adopt(timing, true).await });
                // What a panic there says was said; one that waits for its disk goes on, and others are told meanwhile.
                let _ = timeout(PATIENCE, adopts).await;
                own
            }
        };
        memory.tell(told, now);
        match standings.get(told).is_some_and(|m| m.stuck.is_some()) {
            true => STUCK_PAUSE,
            false => PAUSE,
        }
    }

    fn standings(&self) -> BTreeMap<NodeId, Standing> {
        let (now, status) = (Instant::now(), self.status());
        let (last, lately) = (status.last_log.0, status.timing.election_max);
        let standing = |m: Member| {
            let own = m.raft_id == self.own_id();
            let timing = match own {
                true => Some(self.timing()),
                false => self.round_trips().timing_of(m.raft_id, now),
            };
            let standing = Standing {
                voter: m.voter,
                may_lead: !m.peer.witness,
                fit: is_fit(&m, last, lately) && self.is_well(&m, now),
                timing,
                stuck: None,
                matched: m.matched.map_or(0, |m| m.0),
            };
            (m.peer.node, standing)
        };
        status.members.into_iter().map(standing).collect()
    }

    /// Every two members, with what is known of the distance between them.
    pub(crate) fn pairs(&self, members: &[Member]) -> Vec<Pair> {
        let now = Instant::now();
        let mut pairs = Vec::new();
        for (i, a) in members.iter().enumerate() {
            for b in &members[i + 1..] {
                pairs.push(Pair {
                    a: a.peer.node.clone(),
                    b: b.peer.node.clone(),
                    round_trip: self
                        .round_trips()
                        .between(self.own_id(), a.raft_id, b.raft_id, now),
                });
            }
        }
        pairs
    }

    /// Waits until a newcomer may vote: how far it is from every voter is known, and the timing that the leader and it go by
    /// allows for that. An error, with what is missing, at the deadline or once this node leads no more. Before the log can
    /// name a timing nothing is waited for, and one that is known to be too far is refused.
    pub(crate) async fn admits(&self, newcomer: &Peer, deadline: Instant) -> Result<(), String> {
        let mut news = self.round_trips().changes();
        loop {
            let missing = match self.admits_now(newcomer) {
                Ok(()) => return Ok(()),
                Err(NotYet::Never(missing)) => return Err(missing),
                Err(NotYet::Soon(missing)) => missing,
            };
            let woken = timeout_at(deadline, async {
                let _ = timeout(LOOK, news.changed()).await;
            });
            if woken.await.is_err() || !self.leadership().borrow().is_leader {
                return Err(missing);
            }
        }
    }

    fn admits_now(&self, newcomer: &Peer) -> Result<(), NotYet> {
        let node = &newcomer.node;
        let members = self.members();
        let votes = |name: &NodeId| members.iter().any(|m| m.voter && m.peer.node == *name);
        let mut pairs = self.pairs(&members);
        pairs.retain(|p| (p.a == *node && votes(&p.b)) || (p.b == *node && votes(&p.a)));
        let own = self.timing();
        let set = self.read(|state| state.features().has(Feature::ElectionSettings));
        let fixed = self.timing_setting().is_some_and(|(setting, _)| !setting.derived);
        match decide::admits(&own, node, &pairs) {
            Err(decide::NotYet::Unmeasured(_)) if !set => return Ok(()),
            Ok(()) if !set => return Ok(()),
            Ok(()) => {}
            Err(decide::NotYet::Unmeasured(other)) => {
                return Err(NotYet::Soon(format!(
                    "how far it is from {other} is not known yet"
                )));
            }
            Err(decide::NotYet::TooFar(other, far)) => {
                let text = format!(
                    "it takes {far:?} to {other} and back, and the heartbeat of {:?} is not long enough for that",
                    own.heartbeat
                );
                return Err(match fixed {
                    true => NotYet::Never(format!("{text}; {DERIVE}")),
                    false => NotYet::Soon(text),
                });
            }
        }
        // It would campaign, or not answer in time, by another timing than the leader's.
        let theirs = self.round_trips().timing_of(raft_id(node), Instant::now());
        if theirs == Some(own) {
            return Ok(());
        }
        let text = "it does not go by the cluster's election timing yet";
        Err(NotYet::Soon(text.to_owned()))
    }
}
