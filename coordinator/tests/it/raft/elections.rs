//! Leaders come and go; what was acknowledged stays.

use std::{collections::BTreeMap, time::Duration};

use coordinator::raft::{Member, ProposeError, RaftLimits, RaftRole, RaftStatus};
use state::Command;
use tokio::time::Instant;
use types::model::Placement;

use super::harness::{Cluster, create_model, deadline, has_model, request_id, timing, user, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_the_loss_of_the_leader() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    for i in 0..20 {
        cluster.write(&format!("m{i}")).await;
    }
    let old = cluster.leader_index().await;
    let old_term = cluster.node(old).leadership().borrow().term;
    cluster.sites[old].stop().await;
    let new = cluster.leader().await;
    assert!(new.leadership().borrow().term > old_term);
    cluster.write("after").await;
    new.linearize(deadline()).await.unwrap();
    assert!((0..20).all(|i| has_model(new, &format!("m{i}"))));
    cluster.sites[old].start().await.unwrap();
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_at_the_next_leader_gives_the_first_answer() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let id = request_id();
    let first = cluster.propose_as(id, create_model("once")).await;
    let old = cluster.leader_index().await;
    cluster.sites[old].stop().await;
    let again = cluster.propose_as(id, create_model("once")).await;
    assert_eq!(first.outcome, again.outcome);
    assert!(again.outcome.is_ok());
    assert!(!first.events.is_empty() && again.events.is_empty());
    assert!(again.revision > first.revision);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_quorum_refuses_writes_and_reads_within_a_bound() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("before").await;
    let leader = cluster.leader_index().await;
    for i in (0..3).filter(|i| *i != leader) {
        cluster.sites[i].stop().await;
    }
    let node = cluster.node(leader).clone();
    let began = Instant::now();
    // Nobody has noticed yet: this round is the first to miss the others.
    let unread = node.confirm_leadership(deadline()).await.unwrap_err().to_string();
    assert!(unread.contains("1 of 3 voters answered; "), "{unread}");
    // The first proposals may still be taken, within the lease; their outcome is unknown. Then it is sure.
    let refused = within("a sure refusal", async {
        loop {
            let by = Instant::now() + timing().election_max;
            match node.propose(user(), request_id(), create_model("lost"), by).await {
                Err(ProposeError::OutcomeUnknown { .. }) => {}
                Err(sure) => return sure,
                Ok(_) => panic!("a write was acknowledged without a quorum"),
            }
        }
    })
    .await;
    assert!(
        matches!(
            refused,
            ProposeError::NoQuorum { .. } | ProposeError::NotLeader { .. }
        ),
        "{refused}"
    );
    assert!(refused.to_refusal().reason.surely_no_effect());
    assert!(node.linearize(deadline()).await.is_err());
    assert!(node.confirm_leadership(deadline()).await.is_err());
    assert!(!node.status().has_quorum);
    assert!(
        began.elapsed() < timing().election_max * 12,
        "{:?}",
        began.elapsed()
    );
    assert!(has_model(&node, "before"));
    cluster.stop_all().await;
}

/// With pre-votes a node that is left alone names its last leader for ever; its word about a quorum must not rest on that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_speaks_of_a_quorum_only_while_it_hears_its_leader() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let leader = cluster.leader_index().await;
    let follower = cluster.node((leader + 1) % 3);
    within("a word of the leader", async {
        while !follower.status().has_quorum {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let status = follower.status();
    let (silent, due) = (status.leader_silent.unwrap(), status.election_due.unwrap());
    assert!(silent < timing().election_max && due + silent == timing().election_max * 2);
    // Nothing that is sent arrives any more, so nobody is elected either.
    cluster.distance.set(Duration::from_secs(600));
    within("doubt", async {
        while follower.status().has_quorum {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let status = follower.status();
    assert_eq!(status.role, RaftRole::Follower);
    assert!(status.leader.is_some(), "it names its last leader");
    assert!(status.leader_silent.unwrap() >= timing().election_max);
    cluster.distance.set(Duration::ZERO);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_knows_how_far_the_members_are() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("m").await;
    let known = |status: &RaftStatus| {
        let known = |m: &Member| (m.matched.is_some(), m.silent_millis.is_some(), m.lag.is_some());
        status.members.iter().map(known).collect::<Vec<_>>()
    };
    let (leader, status) = within("every member's answer", async {
        loop {
            let leader = cluster.leader_index().await;
            let status = cluster.node(leader).status();
            if status.role == RaftRole::Leader && known(&status) == [(true, true, true); 3] {
                return (leader, status);
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let own = status
        .members
        .iter()
        .find(|m| m.raft_id == status.raft_id)
        .unwrap();
    assert_eq!((own.silent_millis, status.leader_silent), (Some(0), None));
    assert_eq!(own.lag, Some(Duration::ZERO));
    let [behind, other] = [(leader + 1) % 3, (leader + 2) % 3];
    // Whoever follows by now.
    let follower = within("a follower", async {
        loop {
            let all = (0..3).map(|i| cluster.node(i).status());
            if let Some(status) = { all }.find(|s| s.role == RaftRole::Follower) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(known(&follower), [(false, false, false); 3]);

    // Nobody hears more of one that is gone, and it lacks what is written from then on.
    // By whoever leads: after a stall that is another one.
    let lags = async || {
        let members = cluster.leader().await.status().members;
        let lag = |i: usize| {
            let node = &cluster.sites[i].config.node;
            let lag = members.iter().find(|m| m.peer.node == *node)?.lag?;
            Some(lag >= Duration::from_secs(2))
        };
        [lag(leader), lag(behind), lag(other)]
    };
    for another in [leader, other] {
        cluster.distance.cut(another, behind);
    }
    cluster.write("meanwhile").await;
    within("a lag", async {
        while lags().await != [Some(false), Some(true), Some(false)] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    cluster.distance.heal();
    within("the end of the lag", async {
        while lags().await != [Some(false); 3] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_on_demand() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let old = cluster.leader_index().await;
    let to = cluster.node((old + 1) % 3).own_peer().node.clone();
    let node = cluster.node(old).clone();
    let hint = node
        .transfer_leadership(Some(to.clone()), deadline())
        .await
        .unwrap();
    assert_eq!(hint.node, to);
    let mut leadership = node.leadership();
    let now = within(
        "the old leader to step back",
        leadership.wait_for(|l| !l.is_leader),
    )
    .await;
    assert_eq!(now.unwrap().since, None);
    let refused = node
        .propose(user(), request_id(), create_model("m"), deadline())
        .await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { leader: Some(hint) }) if hint.node == to));
    cluster.write("after").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_over_the_bound_are_refused_and_surely_not_proposed() {
    let limits = RaftLimits {
        proposals_in_flight: 2,
        ..RaftLimits::default()
    };
    let mut cluster = Cluster::of(1, limits).await;
    let leader = cluster.leader().await.clone();
    let all =
        (0..50).map(|i| leader.propose(user(), request_id(), create_model(&format!("m{i}")), deadline()));
    let answers = futures::future::join_all(all).await;
    for (i, answer) in answers.iter().enumerate() {
        match answer {
            Ok(_) => assert!(has_model(&leader, &format!("m{i}"))),
            Err(ProposeError::Overloaded { in_flight: 2 }) => assert!(!has_model(&leader, &format!("m{i}"))),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(answers.iter().any(Result::is_ok) && answers.iter().any(Result::is_err));
    let huge = Command::CreateModel {
        name: "huge".parse().unwrap(),
        description: "x".repeat(2 << 20),
        tags: BTreeMap::new(),
        placement: Placement::default(),
    };
    let refused = leader.propose(user(), request_id(), huge, deadline()).await;
    assert!(
        matches!(refused, Err(ProposeError::TooLarge { .. })),
        "{refused:?}"
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_in_flight_are_bounded_in_bytes_too() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    let leader = cluster.leader().await.clone();
    let large = |i: usize| Command::CreateModel {
        name: format!("m{i}").parse().unwrap(),
        description: "x".repeat(1_000_000),
        tags: BTreeMap::new(),
        placement: Placement::default(),
    };
    // Far fewer than may be in flight, and 120 MB.
    let all = (0..120).map(|i| leader.propose(user(), request_id(), large(i), deadline()));
    let answers = futures::future::join_all(all).await;
    let refused = |answer: &Result<_, ProposeError>| match answer {
        Ok(_) => false,
        Err(ProposeError::OverloadedBytes { .. }) => true,
        Err(other) => panic!("{other}"),
    };
    let refused = answers.iter().filter(|answer| refused(answer)).count();
    // Some of the first may be through before the last are proposed.
    let at_most = 120 - (64 << 20) / 1_000_100;
    assert!((1..=at_most).contains(&refused), "{refused}");
    // What was taken has made room again.
    let after = leader.propose(user(), request_id(), large(120), deadline()).await;
    assert!(after.is_ok(), "{after:?}");
    cluster.stop_all().await;
}

/// What was decided under one leadership is no entry of a later one of the same node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_for_one_term_is_none_of_a_later_one() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let first = cluster.leader_index().await;
    let (node, other) = (cluster.node(first).clone(), cluster.node((first + 1) % 3).clone());
    let before = node.leadership().borrow().term;
    for (from, to) in [(&node, &other), (&other, &node)] {
        let next = Some(to.own_peer().node.clone());
        from.transfer_leadership(next, deadline()).await.unwrap();
        let mut leads = to.leadership();
        let leads = leads.wait_for(|l| l.since.is_some());
        within("the next one to lead", leads).await.unwrap();
    }
    let now = node.leadership().borrow().term;
    assert!(now > before);
    let propose = async |term, name: &str| {
        let command = create_model(name);
        node.propose_in(Some(term), user(), request_id(), command, deadline())
            .await
    };
    let late = propose(before, "late").await.unwrap_err();
    assert!(matches!(late, ProposeError::NotLeader { .. }), "{late}");
    propose(now, "timely").await.unwrap().outcome.unwrap();
    assert!(has_model(&node, "timely") && !has_model(&node, "late"));
    drop((node, other));
    cluster.stop_all().await;
}

/// To make a connection takes two round trips more than to use it; whoever is elected makes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_has_its_connections_ready_when_the_leader_is_lost() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("before").await;
    let old = cluster.leader_index().await;
    let left: Vec<usize> = (0..3).filter(|i| *i != old).collect();
    let made = |cluster: &Cluster| {
        let ways = [(left[0], left[1]), (left[1], left[0])];
        ways.map(|(from, to)| cluster.distance.connections(from, to))
    };
    // For distances, votes, entries, and reads.
    within("connections for all that an election takes", async {
        while made(&cluster).iter().any(|made| *made < 4) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let before = made(&cluster);
    cluster.sites[old].stop().await;
    cluster.write("after").await;
    let new = cluster.leader().await;
    new.linearize(deadline()).await.unwrap();
    assert_eq!(made(&cluster), before, "no more were made");
    cluster.stop_all().await;
}
