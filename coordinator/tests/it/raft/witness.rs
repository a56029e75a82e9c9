//! Two voters with a state and a witness: either of the two may be lost, the witness serves nobody, and nothing that was
//! acknowledged is lost where only it had stored it.

use coordinator::raft::{CannotLead, JoinError, JoinRequest, ProposeError, RaftLimits, StartError};
use policy::membership::Survival;
use state::{Command, features::SUPPORTED};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{Revision, reason::Reason};

use super::harness::{
    Cluster, PATIENCE, create_model, deadline, files, has_model, request_id, timing, user, within,
};
use super::integrity::tampered;

const WITNESS: usize = 2;

/// Snapshots often, and a log too short to catch up from.
fn short_log() -> RaftLimits {
    RaftLimits {
        snapshot_after: 20,
        logs_kept: 5,
        ..RaftLimits::default()
    }
}

impl Cluster {
    /// Of the two that serve, which one leads.
    async fn serving_leader(&self) -> usize {
        let leads = async {
            loop {
                match self.leader_index().await {
                    WITNESS => tokio::task::yield_now().await,
                    leader => return leader,
                }
            }
        };
        within("a leader that serves", leads).await
    }

    /// The other one of the two.
    async fn serving_follower(&self) -> usize {
        1 - self.serving_leader().await
    }

    /// Makes so many models, whoever leads.
    async fn write_many(&self, name: &str, count: usize) {
        for n in 0..count {
            self.write(&format!("{name}{n}")).await;
        }
    }

    /// Waits until one of the two leads, by an event of its own.
    async fn leads(&self, i: usize) {
        let mut leadership = self.node(i).leadership();
        let leads = leadership.wait_for(|l| l.since.is_some());
        within("it to lead", leads).await.unwrap();
    }

    /// Waits until a node has a snapshot that reaches further than `from`; looks at whatever moves here.
    async fn snapshot_beyond(&self, i: usize, from: Revision) -> Revision {
        let reached = async {
            loop {
                let at = self.node(i).status().snapshot;
                if at > from {
                    return at;
                }
                // The next entry is an event; there is none for a snapshot.
                self.propose_as(request_id(), create_model(&format!("s{}", request_id())))
                    .await;
            }
        };
        within("a snapshot", reached).await
    }

    /// What a leader that may lead does within a heartbeat or two does not happen in many of them: the witness leads, refuses whatever
    /// it is asked, and hands over to nobody.
    async fn witness_leads_on(&self) {
        let mut leads = self.node(WITNESS).leadership();
        within("the witness to lead", leads.wait_for(|l| l.since.is_some()))
            .await
            .unwrap();
        let led_until = Instant::now() + timing().election_max * 4;
        while Instant::now() < led_until {
            let answer = self
                .node(WITNESS)
                .propose(user(), request_id(), create_model("x"), deadline())
                .await;
            let error = answer.unwrap_err();
            assert_eq!(error.to_refusal().reason, Reason::NotServing, "{error}");
            assert!(error.to_string().contains("hands leadership over"), "{error}");
            tokio::task::yield_now().await;
        }
    }

    fn assert_all_have(&self, who: usize, name: &str, count: usize) {
        let node = self.node(who);
        let missing: Vec<usize> = (0..count)
            .filter(|n| !has_model(node, &format!("{name}{n}")))
            .collect();
        assert!(missing.is_empty(), "{who} lacks {name}{missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_stores_and_votes_and_serves_nobody() {
    let mut cluster = Cluster::with_witness(RaftLimits::default(), Vec::new()).await;
    let leader = cluster.serving_leader().await;
    cluster.write_many("m", 10).await;
    let at = cluster.node(leader).linearize(deadline()).await.unwrap();
    let witness = cluster.node(WITNESS);
    witness.wait_applied(at, deadline()).await.unwrap();
    assert_eq!(witness.status().last_log, cluster.node(leader).status().last_log);
    assert!(!has_model(witness, "m0"), "it has no state");
    // Whoever asks for anything is told what it is, and who leads.
    let proposed = witness
        .propose(user(), request_id(), create_model("x"), deadline())
        .await;
    let refused = [
        proposed.unwrap_err(),
        witness.linearize(deadline()).await.unwrap_err(),
        witness.confirm_leadership(deadline()).await.unwrap_err(),
    ];
    let endpoint = cluster.sites[leader].config.api_endpoint.clone();
    for error in refused {
        let refusal = error.to_refusal();
        assert!(refusal.message.contains("c2 is a witness"), "{refusal}");
        assert_eq!(
            refusal.operand("leader_api"),
            Some(endpoint.as_str()),
            "{refusal}"
        );
        assert_eq!(refusal.reason, Reason::NotLeader);
    }
    // It is a voter for quorum and region survival, and never a successor.
    assert_eq!(cluster.node(leader).region_survival(), Some(Survival::AnyRegion));
    let named = cluster.sites[WITNESS].config.node.clone();
    let moved = cluster
        .node(leader)
        .transfer_leadership(Some(named.clone()), deadline())
        .await;
    assert_eq!(
        moved,
        Err(ProposeError::CannotLead {
            node: named,
            why: CannotLead::Witness
        })
    );
    let unnamed = cluster
        .node(leader)
        .transfer_leadership(None, deadline())
        .await
        .unwrap();
    assert!(!unnamed.witness, "{unnamed:?}");
    // Without its vote the two could not have lost anybody; its state is no voice among states.
    let agreed = async {
        while cluster.node(leader).status().compared.agreed < at {
            cluster.write(&format!("a{}", request_id())).await;
        }
    };
    within("the two to agree on their states", agreed).await;
    assert_eq!(witness.status().compared.agreed, Revision::default());
    assert_eq!(witness.status().suspicion, None);
    cluster.stop_all().await;
}

/// Two states that differ are both half of those that there are: nobody can say which is the log's. The witness has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_is_no_voice_among_states() {
    let mut cluster = Cluster::with_witness(RaftLimits::default(), Vec::new()).await;
    cluster.write("m").await;
    let at = cluster.leader().await.applied();
    for i in 0..2 {
        cluster.node(i).wait_applied(at, deadline()).await.unwrap();
    }
    cluster.node(0).tamper(|state| tampered(state, b'y'));
    for i in 0..2 {
        let cause = within("its stop", cluster.node(i).stopped()).await;
        assert!(cause.contains("no majority of the voters agrees"), "{cause}");
    }
    let witness = cluster.node(WITNESS).status();
    assert_eq!((witness.stopped, witness.suspicion), (None, None));
    cluster.stop_all().await;
}

/// Each region in turn, while it leads and while it follows: writes go on, and it catches up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_without_either_region_and_it_comes_back() {
    let mut cluster = Cluster::with_witness(RaftLimits::default(), Vec::new()).await;
    cluster.write("before").await;
    for round in 0..4 {
        let lost = match round % 2 {
            0 => cluster.serving_leader().await,
            _ => cluster.serving_follower().await,
        };
        cluster.sites[lost].stop().await;
        let name = format!("round{round}-");
        cluster.write_many(&name, 5).await;
        let left = 1 - lost;
        cluster.leads(left).await;
        cluster.assert_all_have(left, &name, 5);
        let at = cluster.node(left).linearize(deadline()).await.unwrap();
        cluster.sites[lost].start().await.unwrap();
        cluster.node(lost).wait_applied(at, deadline()).await.unwrap();
        cluster.assert_all_have(lost, &name, 5);
    }
    let states = [0, 1].map(|i| cluster.node(i).read(Clone::clone));
    assert!(
        states
            .iter()
            .all(|s| s.model(&"before".parse().unwrap()).is_some())
    );
    cluster.stop_all().await;
}

/// The follower is cut off from the leader, so only the witness stores what is acknowledged then; the leader is lost, with its
/// whole log. The witness wins the election, brings the follower up, from its snapshot where its log begins too late, and hands
/// leadership over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_witness_stored_reaches_the_other_region() {
    for (limits, count) in [(RaftLimits::default(), 10), (short_log(), 120)] {
        let mut cluster = Cluster::with_witness(limits, Vec::new()).await;
        cluster.write("before").await;
        let (lost, left) = (cluster.serving_leader().await, cluster.serving_follower().await);
        let stood_at = cluster.node(left).applied();
        cluster.sites[left].stop().await;
        cluster.write_many("only", count).await;
        if u64::try_from(count).unwrap() > limits.snapshot_after {
            cluster.snapshot_beyond(WITNESS, stood_at.next()).await;
        }
        cluster.sites[lost].stop().await;
        cluster.sites[left].start().await.unwrap();
        cluster.leads(left).await;
        cluster.assert_all_have(left, "only", count);
        cluster.write("after").await;
        assert!(
            cluster.node(left).leadership().borrow().is_leader,
            "the witness does not lead again"
        );
        cluster.sites[lost].start().await.unwrap();
        let at = cluster.node(left).applied();
        cluster.node(lost).wait_applied(at, deadline()).await.unwrap();
        assert!(has_model(cluster.node(lost), "after"));
        cluster.stop_all().await;
    }
}

/// It has no state to write one of. What it keeps are the bytes of one that has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_takes_its_snapshots_from_others() {
    let mut cluster = Cluster::with_witness(short_log(), Vec::new()).await;
    cluster.write_many("m", 60).await;
    let at = cluster.snapshot_beyond(WITNESS, Revision::default()).await;
    assert_kept(&cluster);
    // Its log went with it: once it has missed more, it is brought up by a snapshot, and begins with it.
    cluster.sites[WITNESS].stop().await;
    cluster.write_many("n", 60).await;
    let leader = cluster.serving_leader().await;
    let target = cluster.node(leader).linearize(deadline()).await.unwrap();
    cluster.sites[WITNESS].start().await.unwrap();
    cluster
        .node(WITNESS)
        .wait_applied(target, deadline())
        .await
        .unwrap();
    let again = cluster.snapshot_beyond(WITNESS, at).await;
    cluster.sites[WITNESS].stop().await;
    assert_kept(&cluster);
    cluster.sites[WITNESS].start().await.unwrap();
    assert!(cluster.node(WITNESS).applied() >= again);
    assert!(!has_model(cluster.node(WITNESS), "n0"));
    cluster.write("after").await;
    cluster.stop_all().await;
}

/// The witness has one snapshot, and a state comes out of it.
fn assert_kept(cluster: &Cluster) {
    let kept = files(&cluster.sites[WITNESS].dir().join("snapshots"));
    let kept: Vec<_> = kept
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "snap"))
        .collect();
    let [kept] = kept.as_slice() else {
        panic!("{kept:?}");
    };
    let read = state::codec::read_snapshot(std::fs::File::open(kept).unwrap()).unwrap();
    assert!(read.state.model(&"m0".parse().unwrap()).is_some());
}

/// Where the others can elect a leader, they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_leaves_elections_to_others() {
    let mut cluster = Cluster::with_witness(RaftLimits::default(), Vec::new()).await;
    let mut seen = cluster.node(WITNESS).leadership();
    let over = CancellationToken::new();
    let led = async move { seen.wait_for(|l| l.is_leader).await.is_ok() };
    let led = tokio::spawn(over.clone().run_until_cancelled_owned(led));
    for round in 0..6 {
        let leader = cluster.serving_leader().await;
        cluster.write(&format!("m{round}")).await;
        // Both have it, so both can win.
        let at = cluster.node(leader).applied();
        cluster
            .node(1 - leader)
            .wait_applied(at, deadline())
            .await
            .unwrap();
        cluster.sites[leader].stop().await;
        cluster.leads(1 - leader).await;
        cluster.sites[leader].start().await.unwrap();
        cluster.node(leader).wait_applied(at, deadline()).await.unwrap();
    }
    over.cancel();
    assert_eq!(led.await.unwrap(), None, "the witness has led");
    cluster.stop_all().await;
}

/// A full disk takes no changes: leadership waits for room there, and whatever else is asked is refused meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_hands_over_to_nobody_whose_disk_is_full() {
    let disks: Vec<_> = (0..2).map(|_| wal::faulty::FaultyDisk::new()).collect();
    let mut cluster = Cluster::with_witness(RaftLimits::default(), disks.clone()).await;
    cluster.write("before").await;
    let (lost, left) = (cluster.serving_leader().await, cluster.serving_follower().await);
    let at = cluster.node(lost).linearize(deadline()).await.unwrap();
    cluster.node(left).wait_applied(at, deadline()).await.unwrap();
    cluster.sites[left].stop().await;
    cluster.write("only-at-the-witness").await;
    cluster.sites[lost].stop().await;
    disks[left].set_capacity(Some(disks[left].used()));
    cluster.sites[left].start().await.unwrap();
    cluster.witness_leads_on().await;
    disks[left].set_capacity(None);
    cluster.leads(left).await;
    assert!(has_model(cluster.node(left), "only-at-the-witness"));
    cluster.write("after").await;
    cluster.sites[lost].start().await.unwrap();
    cluster.stop_all().await;
}

/// A voter that does not believe its own state serves nobody: leadership waits for the other one, however caught up this one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_passes_a_voter_over_that_does_not_believe_its_state() {
    let mut cluster = Cluster::with_witness(RaftLimits::default(), Vec::new()).await;
    cluster.write("before").await;
    let (lost, left) = (cluster.serving_leader().await, cluster.serving_follower().await);
    cluster.sites[left].stop().await;
    cluster.write("only-at-the-witness").await;
    cluster.sites[lost].stop().await;
    // As it stands on a disk whose state was found wrong: until a comparison says otherwise, and there is nobody to compare with.
    let why = "its state is not that of the majority";
    std::fs::write(cluster.sites[left].dir().join("state-suspect"), why).unwrap();
    cluster.sites[left].start().await.unwrap();
    cluster.witness_leads_on().await;
    let at = cluster.node(WITNESS).status().last_log;
    cluster.node(left).wait_applied(at, deadline()).await.unwrap();
    cluster.witness_leads_on().await;
    assert_eq!(cluster.node(left).status().suspicion.as_deref(), Some(why));
    cluster.sites[lost].start().await.unwrap();
    cluster.leads(lost).await;
    cluster.write("after").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_never_changes_between_witness_and_not() {
    let mut cluster = Cluster::with_witness(RaftLimits::default(), Vec::new()).await;
    for (site, witness) in [(WITNESS, false), (cluster.serving_follower().await, true)] {
        cluster.sites[site].stop().await;
        cluster.sites[site].config.witness = witness;
        let refused = cluster.sites[site].start().await.err().unwrap();
        assert!(
            matches!(refused, StartError::OtherKind { witness: was, .. } if was != witness),
            "{refused}"
        );
        let (node, text) = (cluster.sites[site].config.node.clone(), refused.to_string());
        let ways = [
            format!("write `witness = {}` again", !witness),
            format!("cluster replace {node}"),
        ];
        assert!(
            ways.iter()
                .all(|way| text.to_lowercase().contains(&way.to_lowercase())),
            "{text}"
        );
        cluster.sites[site].config.witness = !witness;
        cluster.sites[site].start().await.unwrap();
    }
    // The membership remembers it, too.
    let mut peer = cluster.sites[WITNESS].peer();
    peer.witness = false;
    let request = JoinRequest {
        peer,
        cluster_id: cluster.node(WITNESS).cluster_id().unwrap(),
        supported_level: SUPPORTED,
    };
    let leader = cluster.serving_leader().await;
    let refused = cluster
        .node(leader)
        .add_member(request, deadline())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, JoinError::OtherKind { witness: true, .. }),
        "{refused}"
    );
    cluster.stop_all().await;
}

/// A build that does not know of witnesses would hand leadership over to one, and wait for its state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_witness_is_taken_in_below_its_level() {
    let mut cluster = Cluster::with_witness_from(RaftLimits::default(), 3).await;
    let refused = cluster.try_join(WITNESS).await.unwrap_err();
    assert!(matches!(refused, JoinError::NotYet { .. }), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("takes feature level 4, and the cluster is at 3"),
        "{refused}"
    );
    let level = Command::SetFeatureLevel { level: 4 };
    cluster.propose_as(request_id(), level).await.outcome.unwrap();
    cluster.join(WITNESS).await;
    cluster.stop_all().await;
}

/// It has no state in which it could look up by which timing elections go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_follows_the_timing_of_elections() {
    let mut cluster = Cluster::with_witness(RaftLimits::default(), Vec::new()).await;
    let slower = coordinator::raft::RaftTiming {
        heartbeat: timing().heartbeat * 2,
        election_min: timing().election_min * 2,
        election_max: timing().election_max * 2,
    };
    let command = Command::SetElectionTiming {
        timing: Some(slower),
        derived: false,
        reason: String::new(),
    };
    cluster.propose_as(request_id(), command).await.outcome.unwrap();
    let follows = async {
        while (0..3).any(|i| cluster.node(i).status().timing != slower) {
            let soon = Instant::now() + PATIENCE / 20;
            let _ = cluster.leader().await.linearize(soon).await;
            tokio::task::yield_now().await;
        }
    };
    within("all to follow", follows).await;
    cluster.write("after").await;
    cluster.stop_all().await;
}
