//! What time it is does not depend on the clock of whoever leads (L10).

use std::{sync::Arc, time::Duration};

use coordinator::raft::{RaftLimits, WallClock};
use state::{Command, features::SUPPORTED};
use types::{
    UnixMillis,
    time::{Clock as _, ManualClock, SystemClock},
};

use super::harness::{Cluster, deadline, request_id, timing};

const HOUR: Duration = Duration::from_secs(3600);
/// More than any of these tests takes.
const A_WHILE: Duration = Duration::from_secs(600);

/// Three voters whose clocks stand where the test puts them; the first leads.
struct Clocks {
    cluster: Cluster,
    clocks: [Arc<ManualClock>; 3],
    start: UnixMillis,
}

impl Clocks {
    async fn new() -> Self {
        let start = SystemClock.now();
        let clocks = [(); 3].map(|()| Arc::new(ManualClock::new(start)));
        let walls = clocks.iter().map(|clock| WallClock(clock.clone())).collect();
        let cluster = Cluster::clocked(3, RaftLimits::default(), timing(), walls).await;
        let raise = Command::SetFeatureLevel { level: SUPPORTED };
        let raised = cluster.propose_as(request_id(), raise).await;
        raised.outcome.unwrap();
        Self {
            cluster,
            clocks,
            start,
        }
    }

    /// A write under whoever leads; how far state time is from the start then.
    async fn write(&self, name: &str) -> Duration {
        self.cluster.write(name).await;
        let leader = self.cluster.leader().await;
        leader.read(|state| state.time()).since(self.start)
    }

    /// Another leadership, under which the voters are asked anew: of node `to`.
    async fn hand_to(&self, to: usize) {
        let leader = self.cluster.leader().await;
        let node = self.cluster.node(to).own_peer().node.clone();
        if leader.own_peer().node != node {
            leader.transfer_leadership(Some(node), deadline()).await.unwrap();
            let mut leadership = self.cluster.node(to).leadership();
            let leads = leadership.wait_for(|l| l.since.is_some());
            super::harness::within("a hand-over", leads).await.unwrap();
        }
    }

    async fn end(mut self) {
        self.cluster.assert_converged().await;
        self.cluster.stop_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_is_hours_off_stamps_what_the_others_would() {
    let world = Clocks::new().await;
    world.clocks[0].set(world.start.plus(HOUR * 5));
    assert!(world.write("forward").await < A_WHILE);
    // Its next leaderships ask anew, with its own clock among those that answer.
    world.hand_to(1).await;
    world.hand_to(0).await;
    assert!(world.write("still-forward").await < A_WHILE);
    world.clocks[0].set(UnixMillis(0));
    world.hand_to(1).await;
    world.hand_to(0).await;
    assert!(world.write("back").await < A_WHILE);
    world.end().await;
}

/// Nothing is written while nothing changes, so after a quiet hour state time lags; the first write marks it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_write_after_a_quiet_hour_marks_the_time() {
    let world = Clocks::new().await;
    assert!(world.write("before").await < A_WHILE);
    for clock in &world.clocks {
        clock.advance(HOUR);
    }
    world.hand_to(1).await;
    let at = world.write("after").await;
    assert!(at >= HOUR && at < HOUR + A_WHILE, "{at:?}");
    world.end().await;
}

/// Two of three suffice, and their lower one is taken: the one that is off cannot pull the time along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_without_the_third_voter_knows_the_time() {
    let mut world = Clocks::new().await;
    world.hand_to(0).await;
    world.cluster.sites[2].stop().await;
    world.clocks[0].set(world.start.plus(HOUR * 5));
    world.cluster.sites[0].stop().await;
    world.cluster.sites[0].start().await.unwrap();
    assert!(world.write("two").await < A_WHILE);
    world.end().await;
}
