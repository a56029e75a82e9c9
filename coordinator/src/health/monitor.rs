//! The leader's loop over regions and nodes: what sessions and probes say, through [`policy::health`], becomes
//! transitions with their evidence.
//!
//! Absent on purpose: verdicts. Nothing is proposed while nothing changes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use policy::health::{Probe, RegionView, Transition, detection_window, session_window, verdicts};
use state::{Command, ControlState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;
use types::{
    NodeId, RegionId,
    region::{NodeKind, NodeRecord, NodeStatus},
    role::TimingPolicy,
};

use crate::{api::Api, lead::Term, raft::Member, sessions::Seen};

/// Looks, proposes what is due, and sleeps until something changes; until `shutdown`.
pub async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    while let Some(mut term) = Term::begin(&api, &shutdown).await {
        loop {
            let tick = look(&term).await;
            if !term.next(Instant::now() + tick).await {
                break;
            }
        }
    }
}

/// One look; the time until a silence could mean something new.
async fn look(term: &Term) -> Duration {
    let Some(timing) = term.api.raft.read(|s| s.cluster().map(|c| c.timing.clone())) else {
        return Duration::from_millis(100);
    };
    let look = Look::take(term, timing);
    for change in look.node_changes() {
        term.propose(change).await;
    }
    for transition in look.transitions() {
        let Transition {
            region,
            from,
            to,
            evidence,
        } = transition;
        info!(%region, %from, %to, %evidence, "region health");
        let command = Command::SetRegionHealth {
            region,
            from,
            to,
            evidence,
        };
        term.propose(command).await;
    }
    crate::metrics::set_sessions(term.api.sessions.open_count());
    (look.timing.heartbeat_interval / 2).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

/// Everything that the leader sees at one moment.
struct Look {
    timing: TimingPolicy,
    since: Instant,
    now: Instant,
    /// Agents that were heard, in the run that the registry knows.
    seen: BTreeMap<NodeId, Seen>,
    members: Vec<Member>,
    own: NodeId,
    nodes: Vec<NodeRecord>,
    regions: Vec<RegionView>,
}

impl Look {
    fn take(term: &Term, timing: TimingPolicy) -> Self {
        let api = &term.api;
        let now = Instant::now();
        let nodes: Vec<NodeRecord> = api.raft.read(|s| s.nodes().cloned().collect());
        let runs: BTreeMap<_, _> = nodes.iter().map(|n| (&n.node, n.incarnation)).collect();
        let all = api.sessions.all().into_iter();
        let seen: BTreeMap<NodeId, Seen> = all
            .filter(|s| runs.get(&s.node) == Some(&s.incarnation))
            .map(|s| (s.node.clone(), s))
            .collect();
        let window = session_window(&timing);
        let regions = api.raft.read(|s| region_views(s, &seen, now, window));
        Self {
            since: term.since,
            now,
            members: api.raft.members(),
            own: api.raft.own_peer().node.clone(),
            nodes,
            regions,
            seen,
            timing,
        }
    }

    fn transitions(&self) -> Vec<Transition> {
        let since_election = self.now.saturating_duration_since(self.since);
        verdicts(&self.regions, &self.probes(), since_election, &self.timing)
    }

    /// What each region says of each other one. A region with two agents has one voice, the one that reaches more: a
    /// vantage that can still reach any agent does not condemn.
    fn probes(&self) -> Vec<Probe> {
        let mut voices: BTreeMap<(RegionId, RegionId), Probe> = BTreeMap::new();
        for seen in self.seen.values() {
            let age = self.now.saturating_duration_since(seen.last_heard);
            for probe in seen.report.iter().flat_map(|r| &r.probes) {
                let voice = Probe {
                    from: seen.region.clone(),
                    to: probe.region.clone(),
                    failures: probe.consecutive_failures,
                    age,
                };
                voices
                    .entry((voice.from.clone(), voice.to.clone()))
                    .and_modify(|v| {
                        v.failures = v.failures.min(voice.failures);
                        v.age = v.age.min(voice.age);
                    })
                    .or_insert(voice);
            }
        }
        voices.into_values().collect()
    }

    /// Nodes whose standing differs from what was heard of them. Silence counts from the election at the earliest.
    fn node_changes(&self) -> Vec<Command> {
        let due = |node: &NodeRecord| {
            let silence = self.silence(node)?;
            let status = match node.status {
                NodeStatus::Up if silence >= detection_window(&self.timing) => NodeStatus::Down,
                NodeStatus::Down if silence < session_window(&self.timing) && self.was_heard(node) => {
                    NodeStatus::Up
                }
                NodeStatus::Up | NodeStatus::Down | NodeStatus::Removed => return None,
            };
            info!(node = %node.node, %status, ?silence, "node standing");
            Some(Command::SetNodeStatus {
                node: node.node.clone(),
                incarnation: node.incarnation,
                status,
            })
        };
        self.nodes.iter().filter_map(due).collect()
    }

    fn silence(&self, node: &NodeRecord) -> Option<Duration> {
        let since_election = self.now.saturating_duration_since(self.since);
        match node.kind {
            NodeKind::Agent => {
                let heard = self
                    .seen
                    .get(&node.node)
                    .map(|s| self.now.saturating_duration_since(s.last_heard));
                Some(heard.unwrap_or(since_election).min(since_election))
            }
            NodeKind::Coordinator | NodeKind::Witness if node.node == self.own => Some(Duration::ZERO),
            // Raft tells only a leader whom it hears; one that hands over learns here first that it leads no more.
            NodeKind::Coordinator | NodeKind::Witness if !self.leads() => None,
            NodeKind::Coordinator | NodeKind::Witness => {
                let member = self.members.iter().find(|m| m.peer.node == node.node)?;
                let heard = member.silent_millis.map(Duration::from_millis);
                Some(heard.unwrap_or(since_election).min(since_election))
            }
        }
    }

    fn leads(&self) -> bool {
        self.members.iter().any(|m| m.leader && m.peer.node == self.own)
    }

    fn was_heard(&self, node: &NodeRecord) -> bool {
        match node.kind {
            NodeKind::Agent => self.seen.get(&node.node).is_some_and(|s| s.open),
            NodeKind::Coordinator | NodeKind::Witness => {
                node.node == self.own
                    || self
                        .members
                        .iter()
                        .any(|m| m.peer.node == node.node && m.silent_millis.is_some())
            }
        }
    }
}

fn region_views(
    state: &ControlState,
    seen: &BTreeMap<NodeId, Seen>,
    now: Instant,
    window: Duration,
) -> Vec<RegionView> {
    let view = |region: &types::region::RegionRecord| {
        let agents = || seen.values().filter(|s| s.region == region.region);
        let silence = |s: &Seen| now.saturating_duration_since(s.last_heard);
        let ready = |s: &Seen| s.open && silence(s) <= window && s.report.as_ref().is_some_and(|r| r.ready);
        RegionView {
            region: region.region.clone(),
            health: region.health,
            silent_for: agents().map(silence).min(),
            ready: agents().any(ready),
            coverage: state.coverage(&region.region),
        }
    };
    state.regions().map(view).collect()
}

#[cfg(test)]
mod tests {
    use types::{NodeIncarnation, Revision, UnixMillis, region::Endpoints};

    use super::*;
    use crate::raft::Peer;

    /// What c1 sees a minute after its election, of a coordinator c2 that it heard `silent` milliseconds ago.
    fn of_c2(leads: bool, status: NodeStatus, silent: Option<u64>) -> Vec<NodeStatus> {
        let member = |name: &str, leader, silent_millis| Member {
            raft_id: 0,
            peer: Peer {
                node: NodeId::new(name).unwrap(),
                ..Peer::default()
            },
            voter: true,
            leader,
            matched: None,
            silent_millis,
            lag: None,
        };
        let now = Instant::now() + Duration::from_secs(60);
        let look = Look {
            timing: TimingPolicy::fast(),
            since: now - Duration::from_secs(60),
            now,
            seen: BTreeMap::new(),
            members: vec![member("c1", leads, Some(0)), member("c2", false, silent)],
            own: NodeId::new("c1").unwrap(),
            nodes: vec![NodeRecord {
                node: NodeId::new("c2").unwrap(),
                region: RegionId::new("eu").unwrap(),
                zone: None,
                kind: NodeKind::Coordinator,
                incarnation: NodeIncarnation::from_u128(1),
                endpoints: Endpoints::default(),
                status,
                changed_at: UnixMillis(1),
                modified: Revision(1),
            }],
            regions: Vec::new(),
        };
        let changes = look.node_changes().into_iter();
        let status = |change| match change {
            Command::SetNodeStatus { status, .. } => status,
            other => panic!("{other:?}"),
        };
        changes.map(status).collect()
    }

    #[test]
    fn a_coordinator_that_its_leader_does_not_hear_is_down() {
        use NodeStatus::{Down, Up};
        assert_eq!(of_c2(true, Up, Some(60_000)), [Down]);
        assert_eq!(of_c2(true, Up, None), [Down], "not heard since the election");
        assert_eq!(of_c2(true, Up, Some(10)), []);
        assert_eq!(of_c2(true, Down, Some(10)), [Up]);
        assert_eq!(of_c2(true, Down, None), []);
    }

    /// On a hand-over Raft forgets at once whom it heard.
    #[test]
    fn who_leads_no_more_calls_nobody_down() {
        assert_eq!(of_c2(false, NodeStatus::Up, None), []);
        assert_eq!(of_c2(false, NodeStatus::Up, Some(60_000)), []);
    }
}
