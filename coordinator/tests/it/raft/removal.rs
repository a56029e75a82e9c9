//! Coordinators that are taken out: when that is refused, and what becomes of them and of those who stay.

use std::{fs, time::Duration};

use coordinator::raft::{
    JoinError, ProposeError, RaftLimits, RaftTiming, Removal, RemovalStep, RemoveError, RemoveRequest,
    StartError,
};
use policy::membership::Refused;
use state::{Command, features::SUPPORTED};
use tokio::time::Instant;
use types::{DiskId, reason::Reason, region::NodeStatus};

use super::harness::{Cluster, create_model, deadline, request_id, user, within};

impl Cluster {
    /// At the level from which on disks are barred, as the leader's loop brings it about in a whole coordinator.
    pub(super) async fn level_up(&self) {
        let raised = self
            .propose_as(request_id(), Command::SetFeatureLevel { level: SUPPORTED })
            .await;
        raised.outcome.unwrap();
    }

    pub(super) fn request(&self, i: usize) -> RemoveRequest {
        RemoveRequest {
            node: self.sites[i].config.node.clone(),
            disk: None,
            accept_region_loss: true,
            validate_only: false,
            actor: user(),
            request_id: request_id(),
        }
    }

    /// Asks whoever leads until there is an answer.
    pub(super) async fn remove(&self, request: RemoveRequest) -> Result<Removal, RemoveError> {
        let removed = async {
            loop {
                let leader = self.leader().await;
                match leader.remove_member(request.clone(), deadline()).await {
                    Err(RemoveError::Raft(error)) => {
                        assert!(error.to_refusal().reason.retryable(), "{error}");
                        tokio::task::yield_now().await;
                    }
                    answer => return answer,
                }
            }
        };
        within("a removal", removed).await
    }

    fn names(&self, removal: &Removal) -> Vec<String> {
        removal.members.iter().map(|m| m.peer.node.to_string()).collect()
    }

    fn disk(&self, i: usize) -> DiskId {
        self.sites[i].node().own_peer().disk.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_is_taken_out_and_its_disk_does_not_come_back() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.level_up().await;
    let leader = cluster.leader_index().await;
    let gone = (leader + 1) % 3;
    let disk = cluster.disk(gone);
    cluster.sites[gone].stop().await;
    let removal = cluster.remove(cluster.request(gone)).await.unwrap();
    assert_eq!(
        removal.steps,
        [RemovalStep::Bar(Some(disk)), RemovalStep::TakeOut]
    );
    assert_eq!(removal.members.len(), 2);
    assert!(!cluster.names(&removal).contains(&format!("c{gone}")));
    assert!(
        removal.warnings.iter().any(|w| w.contains("even number")),
        "{:?}",
        removal.warnings
    );
    // Both of the rest are needed, and enough.
    cluster.write("after").await;
    // With its disk it is refused, whoever leads; asking for it again is no error.
    let again = cluster.remove(cluster.request(gone)).await.unwrap();
    assert!(again.steps.is_empty(), "{again:?}");
    cluster.sites[gone].start().await.unwrap();
    let refused = cluster.try_join(gone).await.unwrap_err();
    assert!(matches!(refused, JoinError::Removed { .. }), "{refused}");
    let told = within("the others' answer", cluster.node(gone).let_in()).await;
    assert_eq!(told.unwrap_err().reason, Reason::NodeRemoved);
    // Its name comes back with another disk.
    cluster.sites[gone].stop().await;
    fs::remove_dir_all(cluster.sites[gone].dir()).unwrap();
    cluster.sites[gone].config.bootstrap = None;
    cluster.sites[gone].start().await.unwrap();
    cluster.join(gone).await;
    cluster.write("whole").await;
    cluster.assert_converged().await;
    assert!(cluster.leader().await.read(|s| s.is_barred(disk)));
    assert_ne!(cluster.disk(gone), disk);
    cluster.stop_all().await;
}

/// It runs, and hears of it from the others: the entry that took it out never reached it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_taken_out_stops_by_itself_and_does_not_start_again() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.level_up().await;
    let gone = (cluster.leader_index().await + 1) % 3;
    cluster.remove(cluster.request(gone)).await.unwrap();
    let cause = within("its end", cluster.node(gone).stopped()).await;
    assert!(cause.contains("was taken out of this cluster"), "{cause}");
    let refusal = cluster.node(gone).turned_away().unwrap();
    assert_eq!(refusal.reason, Reason::NodeRemoved);
    cluster.sites[gone].stop().await;
    let refused = cluster.sites[gone].start().await.unwrap_err();
    assert!(matches!(refused, StartError::TurnedAway { .. }), "{refused}");
    assert!(refused.to_string().contains("empty data_dir"), "{refused}");
    cluster.write("after").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_hands_over_before_it_goes() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.level_up().await;
    let leader = cluster.leader_index().await;
    let mut look = cluster.request(leader);
    look.validate_only = true;
    let would = cluster.remove(look).await.unwrap();
    assert_eq!(would.steps.first(), Some(&RemovalStep::HandOver));
    assert_eq!(would.members.len(), 3);
    let asked = cluster
        .node(leader)
        .remove_member(cluster.request(leader), deadline())
        .await;
    let Err(RemoveError::Raft(ProposeError::NotLeader { leader: Some(next) })) = &asked else {
        panic!("{asked:?}");
    };
    assert_ne!(next.node, cluster.sites[leader].config.node);
    let removal = cluster.remove(cluster.request(leader)).await.unwrap();
    assert_eq!(removal.members.len(), 2);
    cluster.sites[leader].stop().await;
    cluster.write("after").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_cost_region_survival_or_the_quorum_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.level_up().await;
    let leader = cluster.leader_index().await;
    let (dead, living) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut asked = cluster.request(living);
    asked.accept_region_loss = false;
    let refused = cluster.remove(asked).await.unwrap_err();
    assert!(
        matches!(refused, RemoveError::Refused(Refused::RegionSurvival { .. })),
        "{refused}"
    );
    assert_eq!(refused.to_refusal().operand("rule"), Some("region_survival"));
    cluster.sites[dead].stop().await;
    // Of leader and dead one no majority would answer.
    let refused = cluster.remove(cluster.request(living)).await.unwrap_err();
    let RemoveError::Refused(Refused::NoQuorum { silent, .. }) = &refused else {
        panic!("{refused}");
    };
    assert_eq!(silent, &[cluster.sites[dead].config.node.clone()]);
    assert_eq!(cluster.node(leader).members().len(), 3);
    assert!(cluster.node(leader).read(|s| s.removed_coordinators().is_empty()));
    // The dead one itself: nothing is survived now, so nothing is lost by it.
    let mut asked = cluster.request(dead);
    asked.accept_region_loss = false;
    let removal = cluster.remove(asked).await.unwrap();
    assert_eq!(removal.members.len(), 2);
    cluster.write("after").await;
    cluster.stop_all().await;
}

/// Elections are as slow as that between far regions; a caller's time is not longer there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_voter_is_taken_out_within_its_callers_time_where_elections_take_longer() {
    let slow = RaftTiming {
        heartbeat: Duration::from_millis(200),
        election_min: Duration::from_millis(1_000),
        election_max: Duration::from_millis(2_000),
    };
    let mut cluster = Cluster::timed(3, RaftLimits::default(), slow).await;
    cluster.level_up().await;
    let leader = cluster.leader_index().await;
    let gone = (leader + 1) % 3;
    cluster.sites[gone].stop().await;
    let until = Instant::now() + slow.election_max * 3 / 2;
    let removed = cluster.node(leader).remove_member(cluster.request(gone), until);
    assert_eq!(removed.await.unwrap().members.len(), 2);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_voter_stays_and_nobody_is_a_member_by_any_other_name() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    let refused = cluster.remove(cluster.request(0)).await.unwrap_err();
    assert!(
        matches!(refused, RemoveError::Refused(Refused::LastVoter { .. })),
        "{refused}"
    );
    let mut nobody = cluster.request(0);
    nobody.node = "c9".parse().unwrap();
    let refused = cluster.remove(nobody).await.unwrap_err();
    assert_eq!(refused.to_refusal().reason.as_str(), "NODE_NOT_FOUND");
    cluster.stop_all().await;
}

/// A retry that comes late must not take the successor of the same name out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_one_disk_takes_no_other_out() {
    let mut cluster = Cluster::of(2, RaftLimits::default()).await;
    cluster.level_up().await;
    let follower = 1 - cluster.leader_index().await;
    let mut asked = cluster.request(follower);
    asked.disk = Some(DiskId::from_u128(7));
    let refused = cluster.remove(asked.clone()).await.unwrap_err();
    assert!(matches!(refused, RemoveError::OtherDisk { .. }), "{refused}");
    asked.disk = Some(cluster.disk(follower));
    // Whoever names no disk means the one that was there at the first try.
    let unnamed = RemoveRequest {
        disk: None,
        ..asked.clone()
    };
    cluster.remove(unnamed.clone()).await.unwrap();
    cluster.sites[follower].stop().await;
    fs::remove_dir_all(cluster.sites[follower].dir()).unwrap();
    cluster.sites[follower].config.bootstrap = None;
    cluster.sites[follower].start().await.unwrap();
    cluster.join(follower).await;
    // The same request once more: it is done.
    for again in [asked.clone(), unnamed.clone()] {
        let again = cluster.remove(again).await.unwrap();
        assert!(again.steps.is_empty() && again.members.len() == 2, "{again:?}");
    }
    // An id that was good for something else, or for another caller, is no retry of a removal.
    let foreign = cluster.request(follower);
    let other = cluster
        .propose_as(foreign.request_id, create_model("another"))
        .await;
    other.outcome.unwrap();
    let anothers = RemoveRequest {
        actor: "spiffe://regent.local/user/another".parse().unwrap(),
        ..unnamed
    };
    // Nor is it for a disk that is gone, or for who leads, who stays the leader.
    let leader = cluster.leader_index().await;
    let gone = RemoveRequest {
        disk: asked.disk,
        ..foreign.clone()
    };
    let leads = RemoveRequest {
        request_id: foreign.request_id,
        ..cluster.request(leader)
    };
    for reused in [foreign, anothers, gone, leads] {
        let refused = cluster.remove(reused).await.unwrap_err().to_refusal();
        assert_eq!(refused.reason, Reason::RequestReused, "{refused:?}");
    }
    assert_eq!(cluster.leader().await.members().len(), 2);
    assert_eq!(cluster.leader_index().await, leader);
    cluster.stop_all().await;
}

/// Whoever asked is gone, and the leader that began it, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_its_leader_left_half_made_is_ended_by_the_next() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.level_up().await;
    let leader = cluster.leader_index().await;
    let gone = (leader + 1) % 3;
    // Said in the log, and nothing more.
    let command = Command::RemoveCoordinator {
        node: cluster.sites[gone].config.node.clone(),
        disk: Some(cluster.disk(gone)),
    };
    let said = cluster.propose_as(request_id(), command).await;
    said.outcome.unwrap();
    let next = (leader + 2) % 3;
    let to = cluster.sites[next].config.node.clone();
    // The leader's own loop may have been faster.
    let _ = cluster
        .node(leader)
        .transfer_leadership(Some(to), deadline())
        .await;
    let ended = async {
        while cluster.leader().await.members().len() > 2 {
            tokio::task::yield_now().await;
        }
    };
    within("the end of the removal", ended).await;
    cluster.write("after").await;
    cluster.stop_all().await;
}

/// A caller that gives up early leaves nothing half made for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_does_not_stop_a_removal_that_has_begun() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.level_up().await;
    let leader = cluster.leader_index().await;
    let gone = (leader + 1) % 3;
    let (request, disk) = (cluster.request(gone), cluster.disk(gone));
    let leader = cluster.node(leader).clone();
    let begun = async {
        while !leader.read(|state| state.is_barred(disk)) {
            tokio::task::yield_now().await;
        }
    };
    // Whoever is not first is dropped, and nobody asks again.
    tokio::select! {
        biased;
        () = within("the removal's entry", begun) => {}
        ended = leader.remove_member(request, deadline()) => drop(ended.unwrap()),
    }
    let ended = async {
        while cluster.leader().await.members().len() > 2 {
            tokio::task::yield_now().await;
        }
    };
    within("the end of the removal", ended).await;
    cluster.write("after").await;
    cluster.stop_all().await;
}

/// The registry shows it, with the run that is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_coordinator_that_was_registered_is_marked() {
    let mut cluster = Cluster::of(2, RaftLimits::default()).await;
    cluster.level_up().await;
    let follower = 1 - cluster.leader_index().await;
    let site = &cluster.sites[follower];
    let region = site.config.region.clone();
    let node = site.config.node.clone();
    let commands = [
        Command::RegisterRegion {
            region: region.clone(),
        },
        Command::RegisterNode {
            node: node.clone(),
            region,
            kind: types::region::NodeKind::Coordinator,
            incarnation: types::NodeIncarnation::from_u128(1),
            endpoints: types::region::Endpoints::default(),
            zone: None,
        },
    ];
    for command in commands {
        cluster.propose_as(request_id(), command).await.outcome.unwrap();
    }
    cluster.remove(cluster.request(follower)).await.unwrap();
    let status = cluster.leader().await.read(|s| s.node(&node).map(|n| n.status));
    assert_eq!(status, Some(NodeStatus::Removed));
    cluster.stop_all().await;
}
