//! Election timings follow the distances between the coordinators, and change under a running cluster.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use coordinator::raft::{JoinError, RaftLimits, RaftTiming};
use policy::timing::fits;
use rustix::fs::{CWD, Mode, mkfifoat};
use state::{Command, features::SUPPORTED};
use tokio::{io::AsyncReadExt as _, net::unix::pipe};
use types::election::TimingSetting;

use super::{
    harness::{Cluster, deadline, has_model, request_id, within},
    stop::{Hangs, assert_in_use, start_again},
};

/// One-way distances between five regions, by node: round trips of 80 to 250 ms.
const FAR: [(usize, usize, u64); 10] = [
    (0, 1, 40),
    (0, 2, 60),
    (0, 3, 75),
    (0, 4, 100),
    (1, 2, 45),
    (1, 3, 80),
    (1, 4, 110),
    (2, 3, 50),
    (2, 4, 125),
    (3, 4, 90),
];

fn set_distances(cluster: &Cluster) {
    for (a, b, millis) in FAR {
        let one_way = Duration::from_millis(millis);
        cluster.distance.set_way(a, b, one_way);
        cluster.distance.set_way(b, a, one_way);
    }
}

/// A founder whose log may say how fast elections are.
async fn founder(timing: RaftTiming) -> Cluster {
    let cluster = Cluster::timed(1, RaftLimits::default(), timing).await;
    let raise = Command::SetFeatureLevel { level: SUPPORTED };
    cluster.propose_as(request_id(), raise).await.outcome.unwrap();
    cluster
}

async fn grow(cluster: &mut Cluster, n: usize) {
    for i in 1..n {
        cluster.add_site(RaftLimits::default()).await;
        cluster.join(i).await;
        cluster.node(i).founded(deadline()).await.unwrap();
    }
}

fn setting(cluster: &Cluster, i: usize) -> Option<TimingSetting> {
    let settings = cluster.node(i).read(|s| s.cluster().map(|c| c.elections.clone()));
    settings.and_then(|s| s.timing)
}

/// All running nodes go by what the log says, and that passes `f`.
async fn all_go_by(cluster: &Cluster, f: impl Fn(&TimingSetting) -> bool) {
    within("one timing everywhere", async {
        loop {
            let running = (0..cluster.sites.len()).filter(|i| cluster.sites[*i].running.is_some());
            let agree = |i: usize| {
                setting(cluster, i).is_some_and(|s| s.timing == cluster.node(i).status().timing && f(&s))
            };
            if running.into_iter().all(agree) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn set(cluster: &Cluster, timing: RaftTiming) {
    let command = Command::SetElectionTiming {
        timing: Some(timing),
        derived: false,
        reason: "asked by admin".to_owned(),
    };
    cluster.propose_as(request_id(), command).await.outcome.unwrap();
}

fn millis(heartbeat: u64, election_min: u64, election_max: u64) -> RaftTiming {
    let [heartbeat, election_min, election_max] =
        [heartbeat, election_min, election_max].map(Duration::from_millis);
    RaftTiming {
        heartbeat,
        election_min,
        election_max,
    }
}

/// The whole story: nothing in any config, and the defaults fit no link but that of the founder to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_regions_far_apart_form_elect_and_outlive_their_leader_without_any_timing_in_a_config() {
    let mut cluster = founder(RaftTiming::default()).await;
    set_distances(&cluster);
    grow(&mut cluster, 5).await;
    let longest = Duration::from_millis(250);
    all_go_by(&cluster, |s| s.derived && fits(&s.timing, longest)).await;
    let reason = setting(&cluster, 0).unwrap().reason;
    assert!(reason.starts_with("the longest round trip is "), "{reason}");
    for i in 0..5 {
        cluster.write(&format!("m{i}")).await;
    }
    // Every node knows how far all are from each other.
    let status = cluster.node(1).status();
    assert_eq!(status.round_trips.len(), 10, "{:?}", status.round_trips);
    let nearest = status.round_trips.iter().map(|(_, _, far)| *far).min().unwrap();
    assert!(nearest >= Duration::from_millis(80), "{nearest:?}");

    let old = cluster.leader_index().await;
    let term = cluster.node(old).leadership().borrow().term;
    cluster.sites[old].stop().await;
    cluster.write("after").await;
    let new = cluster.leader().await;
    assert!(new.leadership().borrow().term > term);
    new.linearize(deadline()).await.unwrap();
    assert!((0..5).all(|i| has_model(new, &format!("m{i}"))));
    cluster.sites[old].start().await.unwrap();
    // By what it went last, before anybody has told it.
    let timing = cluster.node(old).status().timing;
    assert!(fits(&timing, longest), "{timing}");
    cluster.assert_converged().await;
    cluster.distance.heal();
    cluster.stop_all().await;
}

/// Before the log can name a timing, a newcomer that the leader's does not suit stays a learner: it would count, and not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_too_far_for_the_timing_does_not_vote() {
    let mut cluster = founder(RaftTiming::default()).await;
    set(&cluster, RaftTiming::default()).await;
    cluster.distance.set(Duration::from_millis(75));
    cluster.add_site(RaftLimits::default()).await;
    let refused = within("a measured refusal", async {
        loop {
            match cluster.try_join(1).await {
                Err(JoinError::NotYet { missing, .. }) if missing.contains("and back") => return missing,
                Err(error) => assert!(error.to_refusal().reason.retryable(), "{error}"),
                Ok(()) => panic!("it votes, and its answers come too late"),
            }
        }
    })
    .await;
    assert!(refused.contains("to c0 and back"), "{refused}");
    let voters = cluster.node(0).members().into_iter().filter(|m| m.voter).count();
    assert_eq!(voters, 1);
    cluster.write("alone").await;
    // A person lets the leader derive it again: the same request goes on.
    let command = Command::SetElectionTiming {
        timing: None,
        derived: true,
        reason: "asked by admin".to_owned(),
    };
    cluster.propose_as(request_id(), command).await.outcome.unwrap();
    cluster.join(1).await;
    cluster.write("both").await;
    cluster.distance.set(Duration::ZERO);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timing_changes_up_and_down_under_load_and_nothing_acknowledged_is_lost() {
    let slow = super::harness::timing();
    let mut cluster = founder(slow).await;
    // What the founder's config names is fixed for the cluster.
    all_go_by(&cluster, |s| {
        !s.derived && s.timing == slow && s.reason == "from the config of c0"
    })
    .await;
    grow(&mut cluster, 3).await;
    let mut names = Vec::new();
    for (n, wanted) in [millis(300, 1_200, 2_000), millis(120, 500, 900), slow]
        .into_iter()
        .enumerate()
    {
        set(&cluster, wanted).await;
        let changed = all_go_by(&cluster, |s| s.timing == wanted);
        let mut changed = std::pin::pin!(changed);
        for i in 0.. {
            let name = format!("m{n}-{i}");
            tokio::select! {
                () = &mut changed => break,
                _ = cluster.write(&name) => names.push(name),
            }
        }
        cluster.write(&format!("after{n}")).await;
    }
    assert!(!names.is_empty());
    cluster.assert_converged().await;
    for i in 0..3 {
        assert!(names.iter().all(|name| has_model(cluster.node(i), name)));
    }
    // A restart goes on with it; the config's is no longer asked for.
    set(&cluster, millis(120, 500, 900)).await;
    all_go_by(&cluster, |s| s.timing == millis(120, 500, 900)).await;
    cluster.stop_all().await;
    cluster.start_all().await;
    for i in 0..3 {
        assert_eq!(cluster.node(i).status().timing, millis(120, 500, 900));
    }
    cluster.write("again").await;
    cluster.stop_all().await;
}

/// A member that is away while the others change goes by the old timing when it returns, until it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_during_a_change_follows_when_it_returns() {
    let slow = super::harness::timing();
    let mut cluster = founder(slow).await;
    grow(&mut cluster, 3).await;
    let away = (cluster.leader_index().await + 1) % 3;
    cluster.sites[away].stop().await;
    let wanted = millis(300, 1_200, 2_000);
    set(&cluster, wanted).await;
    all_go_by(&cluster, |s| s.timing == wanted).await;
    cluster.sites[away].start().await.unwrap();
    assert_eq!(cluster.node(away).status().timing, slow);
    all_go_by(&cluster, |s| s.timing == wanted).await;
    cluster.write("after").await;
    cluster.stop_all().await;
}

/// Waits until everybody but `stuck` goes by `wanted`.
async fn others_go_by(cluster: &Cluster, stuck: usize, wanted: RaftTiming) {
    within("the timing of the others", async {
        let others = || (0..3).filter(|i| *i != stuck);
        while !others().all(|i| cluster.node(i).status().timing == wanted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The first by name of those that follow cannot write down by which timing it goes: first it is told so, then its disk does not
/// answer at all. The others go on, it serves meanwhile, and it ends when it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_cannot_write_its_timing_down_holds_nobody_up_and_serves_on() {
    let slow = super::harness::timing();
    let mut cluster = founder(slow).await;
    grow(&mut cluster, 3).await;
    let leader = cluster.leader_index().await;
    let stuck = (0..3).find(|i| *i != leader).unwrap();
    let temp = cluster.sites[stuck].dir().join("node.json.tmp");
    fs::create_dir(&temp).unwrap();
    let longer = millis(300, 1_200, 2_000);
    set(&cluster, longer).await;
    others_go_by(&cluster, stuck, longer).await;
    assert_eq!(cluster.node(stuck).status().timing, slow);
    fs::remove_dir(&temp).unwrap();
    all_go_by(&cluster, |s| s.timing == longer).await;

    let hangs = Hangs::at(&temp);
    let longest = millis(400, 1_600, 2_600);
    set(&cluster, longest).await;
    others_go_by(&cluster, stuck, longest).await;
    assert_eq!(cluster.node(stuck).status().timing, longer);
    cluster.write("meanwhile").await;
    within("a read where the disk hangs", async {
        cluster.node(stuck).linearize(deadline()).await.unwrap();
    })
    .await;
    assert!(has_model(cluster.node(stuck), "meanwhile"));
    within("the end of a node whose disk hangs", cluster.sites[stuck].stop()).await;
    assert_in_use(&mut cluster.sites[stuck]).await;
    drop(hangs);
    start_again(&mut cluster.sites[stuck]).await;
    all_go_by(&cluster, |s| s.timing == longest).await;
    cluster.stop_all().await;
}

/// It looks many times a second, and tries as seldom as one that follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_own_change_fails_tries_again_after_a_while() {
    let mut cluster = founder(super::harness::timing()).await;
    let temp = cluster.sites[0].dir().join("node.json.tmp");
    mkfifoat(CWD, &temp, Mode::RUSR | Mode::WUSR).unwrap();
    // Each try is read here, and fails because such a file cannot be synced.
    let tries = pipe::OpenOptions::new().read_write(true).open_receiver(&temp);
    let (mut tries, mut read) = (tries.unwrap(), Vec::new());
    let began = Instant::now();
    let longer = millis(300, 1_200, 2_000);
    set(&cluster, longer).await;
    within("a second try", async {
        while String::from_utf8_lossy(&read).matches("format").count() < 2 {
            tries.read_buf(&mut read).await.unwrap();
        }
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    fs::remove_file(&temp).unwrap();
    drop(tries);
    all_go_by(&cluster, |s| s.timing == longer).await;
    cluster.stop_all().await;
}

/// Neither the leader nor the other can write a shorter timing down. Once the other can, it changes and leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_cannot_write_its_timing_down_asks_those_on_that_could_not() {
    let slow = millis(300, 1_200, 2_000);
    let mut cluster = founder(slow).await;
    grow(&mut cluster, 2).await;
    let leader = cluster.leader_index().await;
    let temp = |i: usize| cluster.sites[i].dir().join("node.json.tmp");
    let (own, other) = (temp(leader), temp(1 - leader));
    fs::create_dir(&other).unwrap();
    // Each try of the leader is read here, and fails because such a file cannot be synced.
    mkfifoat(CWD, &own, Mode::RUSR | Mode::WUSR).unwrap();
    let tries = pipe::OpenOptions::new().read_write(true).open_receiver(&own);
    let mut tries = tries.unwrap();
    let shorter = super::harness::timing();
    set(&cluster, shorter).await;
    within("the leader's own turn, after the other's", async {
        tries.read_buf(&mut Vec::new()).await.unwrap();
    })
    .await;
    fs::remove_dir(&other).unwrap();
    within("the other in the lead", async {
        while cluster.leader_index().await == leader {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(cluster.node(1 - leader).status().timing, shorter);
    assert_eq!(cluster.node(leader).status().timing, slow);
    fs::remove_file(&own).unwrap();
    drop(tries);
    all_go_by(&cluster, |s| s.timing == shorter).await;
    cluster.stop_all().await;
}

/// Distances by pair, for the record of what a node says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distance_is_measured_by_both_ends_and_said_once() {
    let mut cluster = founder(super::harness::timing()).await;
    // Longer one way than the other: the round trip is the same from both ends.
    cluster.distance.set_way(0, 1, Duration::from_millis(100));
    cluster.distance.set_way(1, 0, Duration::from_millis(20));
    set(&cluster, millis(500, 1_500, 2_500)).await;
    grow(&mut cluster, 2).await;
    for i in 0..2 {
        let known = within("a distance", async {
            loop {
                let known = cluster.node(i).status().round_trips;
                if !known.is_empty() {
                    return known;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let by_pair: BTreeMap<_, _> = known
            .into_iter()
            .map(|(a, b, far)| ((a.to_string(), b.to_string()), far))
            .collect();
        let far = by_pair[&("c0".to_owned(), "c1".to_owned())];
        assert!(
            by_pair.len() == 1 && far >= Duration::from_millis(120),
            "{by_pair:?}"
        );
    }
    cluster.distance.heal();
    cluster.stop_all().await;
}
