//! What goes on while a follower that is far behind installs a snapshot, and what it knows from that alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use coordinator::raft::{ProposeError, Proposed, Published, Subscription};
use futures::{StreamExt as _, future::join_all};
use proto::{convert::status::from_status, v1 as pb};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
};
use state::{Command, Rejection};
use tokio::{task::yield_now, time::Instant};
use types::{Reason, RequestId, Revision, model::ModelRecord};

use super::{
    desk::{CONFIRMED, Desk, MODEL, STALE, Writer, set_number},
    disk::short_log,
    harness::{Cluster, has_model, request_id, user, within},
    stale::Reader,
};
use crate::acknowledged::number;

/// Models that are written behind a node's back: many more than a log is kept of.
const MODELS: usize = 200;
/// Files to remove.
const OLDER: usize = 2_000;

impl Cluster {
    /// Stops a follower that has all so far, for the so-and-so-many-th time; which one.
    async fn leave_one_behind(&mut self, time: usize) -> usize {
        // With the last of them it writes down that the one before is committed.
        for name in ["then", "and-then"] {
            self.write(&format!("{name}-{time}")).await;
        }
        self.assert_converged().await;
        let behind = (self.leader_index().await + 1) % self.sites.len();
        self.sites[behind].stop().await;
        behind
    }

    /// Writes so much that whoever is not there cannot be brought up from a log any more.
    async fn outgrow(&self, time: usize) {
        let before = self.leader().await.applied().0;
        let writes = (0..MODELS).map(|i| async move { self.write(&format!("many-{time}-{i}")).await });
        join_all(writes).await;
        self.purged_beyond(types::Revision(before + MODELS as u64 / 2))
            .await;
    }

    /// Has a node lead.
    async fn have_lead(&self, i: usize) {
        let to = self.sites[i].config.node.clone();
        while self.leader_index().await != i {
            let leader = self.leader().await;
            // In vain where it has not caught up yet, or another one leads by now: it is tried again.
            let soon = Instant::now() + Duration::from_secs(2);
            let _ = leader.transfer_leadership(Some(to.clone()), soon).await;
        }
    }

    /// What a node that leads answers, and no other.
    async fn propose_at(&self, i: usize, id: RequestId, command: Command) -> Proposed {
        let answered = async {
            loop {
                self.have_lead(i).await;
                let soon = Instant::now() + Duration::from_secs(5);
                match self.node(i).propose(user(), id, command.clone(), soon).await {
                    Ok(proposed) => return proposed,
                    Err(ProposeError::TooLarge { bytes, .. }) => panic!("an entry of {bytes} bytes"),
                    Err(_) => yield_now().await,
                }
            }
        };
        within("an answer of that node", answered).await
    }
}

async fn reset(applied: &mut Subscription) -> Revision {
    loop {
        if let Published::Reset { revision } = applied.next().await.expect("the node runs") {
            return revision;
        }
    }
}

/// What the kernel says of a folder of snapshots. To look into it would wait for whoever changes it, and look when that is over.
struct Signs(OwnedFd);

impl Signs {
    /// Puts so many older snapshots beside a node's that their removal, in the middle of an installation, takes a while; each time
    /// more, for a machine that is too fast or too busy.
    fn prepare(snapshots: &Path, time: usize) -> Self {
        for i in 0..OLDER << time {
            fs::write(snapshots.join(format!("older-{i}.snap")), "").unwrap();
        }
        let told = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&told, snapshots, WatchFlags::MOVED_TO).unwrap();
        Self(told)
    }

    /// Whether a snapshot has got its name: its installation is under way, or over.
    fn is_named(&self) -> bool {
        let now = Timespec::default();
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&now)).unwrap() > 0
    }
}

/// Reads on and on until a snapshot is installed; its revision, and how many reads were answered from what was there before in the middle
/// of the installation.
async fn read_meanwhile(desk: &Desk, signs: &Signs, applied: &mut Subscription) -> (Revision, usize) {
    let (mut last, mut meanwhile) = (0, Vec::new());
    loop {
        let is_under_way = signs.is_named();
        let answer = desk.get(STALE, Duration::from_secs(10)).await;
        let revision = answer.expect("stale reads are always answered").header.revision;
        assert!(revision >= last, "it went back from {last} to {revision}");
        last = revision;
        if is_under_way {
            meanwhile.push(Revision(revision));
        }
        tokio::select! {
            biased;
            installed = reset(applied) => {
                meanwhile.retain(|revision| *revision < installed);
                return (installed, meanwhile.len());
            }
            () = yield_now() => {}
        }
    }
}

/// Has a follower install a snapshot, and reads and watches there; how many reads were answered in the middle of it.
async fn install_under_reads(cluster: &mut Cluster, time: usize) -> usize {
    let behind = cluster.leave_one_behind(time).await;
    cluster.outgrow(time).await;
    for other in (0..3).filter(|i| *i != behind) {
        cluster.distance.cut(behind, other);
    }
    cluster.sites[behind].start().await.unwrap();
    let node = cluster.node(behind).clone();
    let is_there = async {
        while !has_model(&node, MODEL) {
            yield_now().await;
        }
    };
    within("what it knows is committed", is_there).await;
    let desk = Desk::of(&node);
    let mut applied = node.subscribe();
    let (mut last, stood_at) = (desk.last(), node.applied());
    let known = within("the hub's start", last.wait_for(|at| *at >= stood_at)).await;
    let stood = *known.unwrap();
    let mut watch = desk.watch(stood).await.unwrap();

    let signs = Signs::prepare(&cluster.sites[behind].dir().join("snapshots"), time);
    cluster.distance.heal();
    let installed = read_meanwhile(&desk, &signs, &mut applied);
    let (installed, meanwhile) = within("a snapshot", installed).await;
    assert!(installed > stood, "{installed} after {stood}");
    // Whoever does not take what is published holds apply back.
    drop(applied);

    // What led there is not known here; where it goes on from is said.
    let ended = async {
        loop {
            if let Err(status) = watch.next().await.expect("it ends with its reason") {
                return from_status(&status);
            }
        }
    };
    let ended = within("the end of the watch", ended).await;
    let oldest = installed.0.to_string();
    assert_eq!(
        (ended.reason, ended.operand("oldest")),
        (Reason::Compacted, Some(oldest.as_str()))
    );
    let mut watch = desk.watch(installed).await.unwrap();
    let set = cluster.propose_as(request_id(), set_number(1)).await;
    set.outcome.unwrap();
    let written = async {
        loop {
            let message = watch.next().await.unwrap().unwrap();
            let models = message
                .events
                .into_iter()
                .filter_map(|event| event.resource?.resource);
            for resource in models {
                if let pb::resource::Resource::Model(model) = resource
                    && model.name == MODEL
                {
                    return number(&model);
                }
            }
        }
    };
    assert_eq!(within("an event", written).await, 1);
    // It is as fresh as it says from then on.
    let writer = Writer::begin(cluster);
    let mut readers = [STALE, CONFIRMED].map(|read| Reader::begin(&desk, read, &writer.acknowledged));
    for reader in &mut readers {
        reader
            .until("what was written since", |seen| seen.owed > 20)
            .await;
    }
    for reader in readers {
        reader.end().await;
    }
    writer.end().await;
    desk.end().await;
    drop(node);
    cluster.assert_converged().await;
    meanwhile
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_and_never_back_while_a_snapshot_is_installed_and_a_watch_says_what_it_missed() {
    let mut cluster = Cluster::of(3, short_log()).await;
    cluster.write(MODEL).await;
    // A busy machine may leave a reader no time in the middle of one; and one answer may have waited for its end.
    let mut time = 0;
    while install_under_reads(&mut cluster, time).await <= 1 {
        time += 1;
        assert!(time < 5, "no read was answered in the middle of any installation");
    }
    cluster.stop_all().await;
}

/// Who answers has never seen the first entry of the request: all that it knows of it came with a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_at_a_leader_that_installed_a_snapshot_gets_the_first_answer_and_changes_nothing() {
    let mut cluster = Cluster::of(3, short_log()).await;
    cluster.write(MODEL).await;
    let behind = cluster.leave_one_behind(0).await;
    let mismatched = Command::SetModelTags {
        model: MODEL.parse().unwrap(),
        set: BTreeMap::new(),
        remove: BTreeSet::new(),
        etag: Some(Revision(1)),
        token: None,
    };
    let mut first = Vec::new();
    for command in [set_number(1), mismatched] {
        let id = request_id();
        let answer = cluster.propose_as(id, command.clone()).await;
        first.push((id, command, answer));
    }
    assert!(first[0].2.outcome.is_ok() && first[1].2.outcome.is_err());
    // Were either run again now, it would have another outcome, and the first one another effect.
    let over = cluster.propose_as(request_id(), set_number(2)).await;
    over.outcome.unwrap();
    cluster.outgrow(0).await;
    cluster.sites[behind].start().await.unwrap();
    let mut applied = cluster.node(behind).subscribe();
    let installed = within("a snapshot", reset(&mut applied)).await;
    assert!(installed > over.revision);

    let model = |cluster: &Cluster| -> ModelRecord {
        let name = MODEL.parse().unwrap();
        cluster
            .node(behind)
            .read(|state| state.model(&name).cloned())
            .unwrap()
    };
    let before = model(&cluster);
    for (id, command, first) in &first {
        let again = cluster.propose_at(behind, *id, command.clone()).await;
        assert_eq!(again.outcome, first.outcome);
        assert!(
            again.events.is_empty() && again.revision > first.revision,
            "{again:?}"
        );
    }
    let (id, ..) = first[0];
    let reused = cluster.propose_at(behind, id, set_number(3)).await;
    assert!(
        matches!(reused.outcome, Err(Rejection::RequestReused { request_id }) if request_id == id),
        "{reused:?}"
    );
    assert_eq!(model(&cluster), before);
    cluster.assert_converged().await;
    cluster.stop_all().await;
}
