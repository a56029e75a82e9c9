//! Measures how far every other member is, all the time, keeps connections to it ready, and answers those who measure.
//!
//! Invariant: at most one question of those that measure is on its way to a member, and each has a deadline.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;

use super::{
    super::{RaftNode, config::RaftTiming, network::Lane},
    round_trips::Said,
};

/// Between two questions to a member whose distance is known.
const EVERY: Duration = Duration::from_secs(1);
/// Between the first ones, so that a newcomer need not wait.
const AT_FIRST: Duration = Duration::from_millis(50);
/// Longer than any distance that elections can span.
const ANSWER: Duration = Duration::from_secs(3);

impl RaftNode {
    /// Asks every other member again and again, until the node stops.
    pub(crate) async fn measure(self) {
        let mut due: BTreeMap<u64, Instant> = BTreeMap::new();
        let mut asking = FuturesUnordered::new();
        let mut asked: BTreeSet<u64> = BTreeSet::new();
        loop {
            let others = self.other_members();
            self.round_trips().keep(|id| others.contains(&id));
            due.retain(|id, _| others.contains(id));
            let now = Instant::now();
            for id in &others {
                if !asked.contains(id) && *due.entry(*id).or_insert(now) <= now {
                    asked.insert(*id);
                    let (node, id) = (&self, *id);
                    asking.push(async move { (id, node.look_at(id).await) });
                }
            }
            let waiting = due.iter().filter(|(id, _)| !asked.contains(id));
            let next = waiting.map(|(_, at)| *at).min().unwrap_or(now + EVERY);
            tokio::select! {
                // A newcomer is noticed by then, too.
                () = sleep_until(next.min(now + EVERY)) => {}
                Some((id, answered)) = asking.next() => {
                    asked.remove(&id);
                    let now = Instant::now();
                    let soon = answered && !self.round_trips().knows(id, now);
                    due.insert(id, now + if soon { AT_FIRST } else { EVERY });
                }
            }
        }
    }

    fn other_members(&self) -> BTreeSet<u64> {
        if self.cluster_id().is_none() {
            return BTreeSet::new();
        }
        let membership = self.membership();
        let ids = membership.nodes().map(|(id, _)| *id);
        ids.filter(|id| *id != self.own_id()).collect()
    }

    /// Measures how far a member is, and has connections to it ready; whether it answered. One connection at a time: what it takes to
    /// make them all at once would look like distance.
    ///
    /// To make a connection takes two round trips more than to use it. A follower that finds no leader would make three in a row: for its
    /// votes, for its first entry, and for the time that it stamps on it.
    async fn look_at(&self, member: u64) -> bool {
        let answered = self.ping(member, None).await;
        if !answered {
            self.connections().doubt(member);
        } else if self.round_trips().knows(member, Instant::now())
            && let Some(lane) = self.connections().cold(member)
        {
            let request = self.question(member, None);
            let send = async |mut client: RaftServiceClient<Channel>| client.ping(request).await;
            // What is not ready now is tried again with the next question.
            let _ = self.connections().call(member, lane, ANSWER, send).await;
        }
        answered
    }

    fn question(&self, member: u64, adopt: Option<(u64, &RaftTiming)>) -> pb::PingRequest {
        pb::PingRequest {
            route: Some(self.connections().route(member)),
            adopt_revision: adopt.map_or(0, |(revision, _)| revision),
            adopt_timing: adopt.map(|(_, timing)| timing_out(timing)),
        }
    }

    /// One question and its answer; whether there was one. `adopt`: the setting that it is its turn for, and its revision.
    pub(super) async fn ping(&self, member: u64, adopt: Option<(u64, &RaftTiming)>) -> bool {
        let request = self.question(member, adopt);
        let stands = self.connections().stands(member, Lane::Distance);
        let began = Instant::now();
        let send = async |mut client: RaftServiceClient<Channel>| client.ping(request).await;
        let answer = self
            .connections()
            .call(member, Lane::Distance, ANSWER, send)
            .await;
        let said = answer.ok().and_then(|answer| said(&answer, began));
        let Some(said) = said else {
            self.round_trips().miss(member);
            return false;
        };
        // To make a connection takes three round trips.
        let took = stands.then(|| began.elapsed());
        self.round_trips().note(member, took, said);
        true
    }

    /// What this node answers to [`Self::ping`].
    pub(crate) fn pong(&self) -> pb::PingResponse {
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let own = self.round_trips().own(Instant::now()).into_iter();
        pb::PingResponse {
            timing: Some(timing_out(&self.timing())),
            disk_full: self.is_full() || self.refuses_entries(),
            state_suspect: self.store().suspicion().is_held(),
            round_trips: own
                .map(|(raft_id, far)| pb::RoundTrip {
                    raft_id,
                    micros: micros(far),
                })
                .collect(),
        }
    }
}

fn said(answer: &pb::PingResponse, began: Instant) -> Option<Said> {
    let far = |r: &pb::RoundTrip| (r.raft_id, Duration::from_micros(r.micros));
    Some(Said {
        at: began,
        timing: timing_in(answer.timing.as_ref()?),
        disk_full: answer.disk_full,
        state_suspect: answer.state_suspect,
        round_trips: answer.round_trips.iter().map(far).collect(),
    })
}

fn timing_out(timing: &RaftTiming) -> pb::ElectionTiming {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    pb::ElectionTiming {
        heartbeat_millis: millis(timing.heartbeat),
        election_min_millis: millis(timing.election_min),
        election_max_millis: millis(timing.election_max),
    }
}

pub(super) fn timing_in(timing: &pb::ElectionTiming) -> RaftTiming {
    RaftTiming {
        heartbeat: Duration::from_millis(timing.heartbeat_millis),
        election_min: Duration::from_millis(timing.election_min_millis),
        election_max: Duration::from_millis(timing.election_max_millis),
    }
}
