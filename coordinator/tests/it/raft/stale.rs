//! How old a stale answer is, where writes go on: never older than it says (I2).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use coordinator::raft::RaftLimits;
use proto::v1 as pb;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    desk::{CONFIRMED, Desk, STALE, Writer},
    harness::{Cluster, within},
};
use crate::acknowledged::{Acknowledged, Answer};

/// One way between the node that is asked and the others, who acknowledge writes all the time that a round takes.
const FAR: Duration = Duration::from_millis(40);
/// A stale answer may be so old where a bound is given: some time longer than a round takes.
const BOUND: Duration = Duration::from_millis(120);
/// For a confirmation. Where the node is cut off none comes.
const PATIENCE: Duration = Duration::from_millis(500);
/// Writes of which a reader must have heard something before it is believed that it looks.
const ENOUGH: u64 = 40;

/// What one reader has seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Answers that it got.
    pub(super) answers: u64,
    /// The newest write that an answer had to have.
    pub(super) owed: u64,
    /// The newest one that it had.
    pub(super) number: u64,
    /// How old the last answer said that it was; none where it was confirmed.
    pub(super) age: Option<Duration>,
}

/// Reads one after the other, and checks each answer.
pub(super) struct Reader {
    pub(super) seen: watch::Receiver<Seen>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Reader {
    pub(super) fn begin(desk: &Desk, read: pb::ReadOptions, writes: &Arc<Acknowledged>) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let (stop, desk, writes) = (CancellationToken::new(), desk.clone(), Arc::clone(writes));
        let ended = stop.clone();
        let task = tokio::spawn(async move {
            while !ended.is_cancelled() {
                match desk.get(read, PATIENCE).await {
                    Ok(answer) => sender.send_modify(|seen| seen.take(&answer, &read, &writes)),
                    Err(refusal) => assert!(read != STALE, "{refusal}"),
                }
                tokio::task::yield_now().await;
            }
        });
        Self { seen, stop, task }
    }

    /// Waits until what it has seen is so.
    pub(super) async fn until(&mut self, what: &str, is_so: impl FnMut(&Seen) -> bool) -> Seen {
        let seen = within(what, self.seen.wait_for(is_so)).await;
        *seen.expect("each of its answers was right")
    }

    /// Waits for an answer that is asked for from now on.
    async fn next(&mut self) -> Seen {
        let before = self.seen.borrow().answers;
        // The first of them may have been asked for before.
        self.until("an answer", |seen| seen.answers > before + 1).await
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        within("the end of a reader", self.task).await.unwrap();
    }
}

impl Seen {
    fn take(&mut self, answer: &Answer, read: &pb::ReadOptions, writes: &Acknowledged) {
        self.owed = self.owed.max(writes.check(answer));
        assert!(
            answer.number() >= self.number,
            "it went back: {self:?} {answer:?}"
        );
        self.number = answer.number();
        self.age = answer.age();
        self.answers += 1;
        let is_allowed = self.age.is_none_or(|age| match read.max_staleness_millis {
            0 => read.allow_stale,
            bound => age <= Duration::from_millis(bound),
        });
        assert!(is_allowed, "{answer:?} where {read:?} was asked for");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_older_than_it_says_neither_far_away_nor_cut_off() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("m").await;
    cluster.assert_converged().await;
    let far = (cluster.leader_index().await + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|i| *i != far).collect();
    for &other in &others {
        cluster.distance.set_way(far, other, FAR);
        cluster.distance.set_way(other, far, FAR);
    }
    let writer = Writer::begin(&cluster);
    let writes = Arc::clone(&writer.acknowledged);
    let desk = Desk::of(cluster.node(far));
    let within_bound = pb::ReadOptions {
        max_staleness_millis: u64::try_from(BOUND.as_millis()).unwrap(),
        ..STALE
    };
    let mut readers = [STALE, within_bound, CONFIRMED].map(|read| Reader::begin(&desk, read, &writes));
    for reader in &mut readers {
        reader.until("answers that owe", |seen| seen.owed >= ENOUGH).await;
    }

    for &other in &others {
        cluster.distance.cut(far, other);
    }
    let (cut, at_cut) = (Instant::now(), writes.last());
    within("writes by the majority", writes.reached(at_cut + ENOUGH)).await;
    let elapsed = cut.elapsed();
    let [stale, ..] = &mut readers;
    let alone = stale.next().await;
    // It has no more than what was on its way, and no round that was sent since then is confirmed.
    assert!(
        alone.number <= at_cut + 1 && alone.age >= Some(elapsed),
        "{alone:?} {elapsed:?} after the cut"
    );

    cluster.distance.heal();
    let at_heal = writes.last();
    for reader in &mut readers {
        reader
            .until("what was written since", |seen| seen.owed > at_heal)
            .await;
    }
    for reader in readers {
        reader.end().await;
    }
    writer.end().await;
    desk.end().await;
    cluster.stop_all().await;
}
