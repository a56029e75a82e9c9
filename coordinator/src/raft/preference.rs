//! The leader's side of who should lead: hands leadership to a voter of a more wanted region, or away from a
//! full disk, as soon as that is right.
//!
//! Absent on purpose: decisions (`policy::leader`), and any memory beyond since when each voter is fit.

use std::{collections::BTreeMap, time::Duration};

use policy::leader::{Seat, Voter, better, relief};
use tokio::time::{Instant, sleep};
use tracing::info;
use types::NodeId;

use super::{Leadership, Member, RaftNode, RaftTiming, membership::CAUGHT_UP_WITHIN};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long a hand-over may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Since when each voter has been fit without a break, in one leadership.
#[derive(Debug, Default)]
struct Fitness {
    term: u64,
    since: BTreeMap<NodeId, Instant>,
}

impl Fitness {
    /// Takes in who is fit now. What an earlier leadership saw says nothing about this one.
    fn note(&mut self, term: u64, fit: &[NodeId], now: Instant) {
        if self.term != term {
            *self = Self {
                term,
                ..Self::default()
            };
        }
        self.since.retain(|node, _| fit.contains(node));
        for node in fit {
            self.since.entry(node.clone()).or_insert(now);
        }
    }

    fn of(&self, member: &Member, goes_by_timing: bool, now: Instant) -> Voter {
        let since = self.since.get(&member.peer.node);
        Voter {
            node: member.peer.node.clone(),
            region: member.peer.region.clone(),
            fit_for: since.map(|since| now.saturating_duration_since(*since)),
            may_lead: !member.peer.witness,
            goes_by_timing,
        }
    }
}

/// Whether a member has answered within `lately` and has nearly all of a log that ends at `last`.
pub(super) fn is_fit(member: &Member, last: u64, lately: Duration) -> bool {
    let silent = member.silent_millis.map(Duration::from_millis);
    let answers = silent.is_some_and(|silent| silent < lately);
    answers
        && member
            .matched
            .is_some_and(|at| at.0.saturating_add(CAUGHT_UP_WITHIN) >= last)
}

impl RaftNode {
    /// While this node leads: hands over where another voter should. Until the node stops.
    pub(crate) async fn prefer_leader(self) {
        let mut leadership = self.leadership();
        let mut fitness = Fitness::default();
        while leadership.wait_for(|l| l.is_leader).await.is_ok() {
            let now = leadership.borrow().clone();
            if let Some(to) = self.successor_now(&mut fitness, &now) {
                self.hand_over_to(to).await;
            }
            sleep(LOOK).await;
        }
    }

    async fn hand_over_to(&self, to: NodeId) {
        // No change of membership begins meanwhile; where one runs, the next look comes soon.
        let Ok(_changing) = self.membership_changes().try_lock() else {
            return;
        };
        info!(%to, "leadership goes to a voter that should lead");
        let deadline = Instant::now() + PATIENCE;
        if let Err(error) = self.transfer_leadership(Some(to), deadline).await {
            info!(%error, "leadership was not handed over");
        }
    }

    fn successor_now(&self, fitness: &mut Fitness, leadership: &Leadership) -> Option<NodeId> {
        let now = Instant::now();
        let status = self.status();
        let (last, lately) = (status.last_log.0, status.timing.election_max);
        let mut others = status.members;
        // One whose state is being replaced hands back at once.
        let wrong = status.compared.differing;
        let may = |m: &Member| self.is_well(m, now) && !wrong.contains(&m.peer.node);
        others.retain(|m| m.voter && m.raft_id != self.own_id() && may(m));
        let fit = others.iter().filter(|m| is_fit(m, last, lately));
        let fit: Vec<NodeId> = fit.map(|m| m.peer.node.clone()).collect();
        fitness.note(leadership.term, &fit, now);
        let voter = |m: &Member| {
            let goes_by_timing = self.is_set_timing(self.round_trips().timing_of(m.raft_id, now));
            fitness.of(m, goes_by_timing, now)
        };
        if self.is_full() {
            // It refuses every change, also those of plans; one with room goes on with them.
            let others: Vec<(Voter, u64)> = others
                .iter()
                .map(|m| (voter(m), m.matched.map_or(0, |at| at.0)))
                .collect();
            return relief(others.iter().map(|(voter, matched)| (voter, *matched)));
        }
        let preferred = self.read(|s| s.cluster().map(|c| c.elections.preferred.clone()))?;
        let seat = Seat {
            region: self.own_peer().region.clone(),
            led_for: now.saturating_duration_since(leadership.since?),
            goes_by_timing: self.is_set_timing(Some(self.timing())),
            busy: self.is_changing_membership() || self.moves_a_role(),
        };
        let others: Vec<Voter> = others.iter().map(voter).collect();
        better(&preferred, &seat, &others)
    }

    /// Whether a member has room on its disk and believes its state, as far as it said lately.
    pub(super) fn is_well(&self, member: &Member, now: Instant) -> bool {
        let said = self.round_trips();
        !said.is_full(member.raft_id, now) && !said.is_suspect(member.raft_id, now)
    }

    /// Whether who says this goes by the timing that the log names, where it names one.
    fn is_set_timing(&self, said: Option<RaftTiming>) -> bool {
        let set = self.timing_setting();
        set.is_none_or(|(setting, _)| said == Some(setting.timing))
    }

    /// Whether a plan runs.
    pub(super) fn moves_a_role(&self) -> bool {
        self.read(|s| s.roles().any(|role| s.running_plan(&role.role).is_some()))
    }
}

#[cfg(test)]
mod tests {
    use types::Revision;

    use super::{super::Peer, *};

    fn member(silent_millis: Option<u64>, matched: Option<u64>) -> Member {
        Member {
            raft_id: 1,
            peer: Peer::default(),
            voter: true,
            leader: false,
            matched: matched.map(Revision),
            silent_millis,
            lag: None,
        }
    }

    #[test]
    fn who_is_silent_or_behind_is_not_fit() {
        let (last, lately) = (1_000, Duration::from_millis(400));
        for (silent, matched, expected) in [
            (Some(0), Some(1_000), true),
            (Some(399), Some(1_000 - CAUGHT_UP_WITHIN), true),
            (Some(400), Some(1_000), false),
            (None, Some(1_000), false),
            (Some(0), Some(999 - CAUGHT_UP_WITHIN), false),
            (Some(0), None, false),
        ] {
            let member = member(silent, matched);
            assert_eq!(is_fit(&member, last, lately), expected, "{silent:?} {matched:?}");
        }
    }

    #[test]
    fn fitness_begins_anew_after_a_break_and_with_each_leadership() {
        let node = Peer::default().node;
        let (mut fitness, began) = (Fitness::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let for_now = |fitness: &Fitness, now| fitness.of(&member(None, None), true, now).fit_for;
        fitness.note(1, std::slice::from_ref(&node), at(0));
        fitness.note(1, std::slice::from_ref(&node), at(5));
        assert_eq!(for_now(&fitness, at(7)), Some(Duration::from_secs(7)));
        fitness.note(1, &[], at(8));
        assert_eq!(for_now(&fitness, at(8)), None);
        fitness.note(1, std::slice::from_ref(&node), at(9));
        assert_eq!(for_now(&fitness, at(10)), Some(Duration::from_secs(1)));
        fitness.note(2, std::slice::from_ref(&node), at(11));
        assert_eq!(for_now(&fitness, at(11)), Some(Duration::ZERO));
    }
}
