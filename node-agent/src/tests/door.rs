//! The door: who comes in, what rises, what is written down.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use artifact_store::Gate;
use async_trait::async_trait;
use client::{calls::FenceStanding, guard::BootInstant};
use policy::rebind::Stays;
use types::{
    ClusterId, FencingToken, Holder, ModelName, Reason, Rebind, RoleName, SignedRebind, reason::Refusal,
    role::RoleRecord,
};

use super::records::*;
use crate::{
    door::{CONFIRMED_FOR, Door, Entry, FenceOracle},
    door_log::{self, DoorLog, DoorRecord, DoorVerdict},
    floors::{Floors, FloorsError},
    metrics::Metrics,
};

/// Answers by the committed role it was given, or not at all. The door's clock is its own.
#[derive(Default)]
pub(super) struct Coordinators {
    committed: Mutex<Option<(u32, Option<Holder>)>>,
    /// What passes on the door's clock between a question and its answer.
    pub(super) takes: Mutex<Duration>,
    now: Mutex<Duration>,
    pub(super) asked: AtomicU32,
    /// Says that no token is current, for a reason of their own.
    denies: AtomicBool,
    /// Holds the next answer back.
    pub(super) gate: Mutex<Option<Arc<Gate>>>,
}

impl Coordinators {
    pub(super) fn commit(&self, counter: u32, holder: Option<Holder>) {
        *self.committed.lock().unwrap() = Some((counter, holder));
    }

    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }
}

#[async_trait]
impl FenceOracle for Coordinators {
    async fn check_fence(&self, token: &FencingToken) -> Result<FenceStanding, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let Some((counter, holder)) = self.committed.lock().unwrap().clone() else {
            return Err(Refusal::new(Reason::NoQuorum, "no quorum"));
        };
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        self.pass(*self.takes.lock().unwrap());
        Ok(FenceStanding {
            current: token.epoch == epoch(counter)
                && Some(&token.holder) == holder.as_ref()
                && !self.denies.load(Ordering::SeqCst),
            reserved: false,
            current_epoch: epoch(counter),
            current_holder: holder,
        })
    }
}

pub(super) struct Bench {
    dir: tempfile::TempDir,
    pub(super) coordinators: Arc<Coordinators>,
    pub(super) door: Door,
}

fn open(dir: &Path, log: DoorLog, coordinators: &Arc<Coordinators>) -> Door {
    let time = Arc::clone(coordinators);
    Door::with_clock(
        Floors::open(&dir.join("floors.json")).unwrap(),
        log,
        Arc::clone(coordinators) as Arc<dyn FenceOracle>,
        Metrics::default(),
        Arc::new(move || BootInstant::from_boot(*time.now.lock().unwrap())),
    )
}

pub(super) fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let coordinators = Arc::new(Coordinators::default());
    let door = open(dir.path(), log_in(dir.path()), &coordinators);
    Bench {
        dir,
        coordinators,
        door,
    }
}

fn log_in(dir: &Path) -> DoorLog {
    DoorLog::open(&door_log::path_in(dir)).unwrap()
}

pub(super) fn west() -> Holder {
    holder("west/a1", 1)
}
pub(super) fn east() -> Holder {
    holder("east/a1", 1)
}

/// What every call is about; `primaries/global` guards it as long as nothing nearer does.
fn model() -> ModelName {
    "vision.digits".parse().unwrap()
}

impl Bench {
    /// After a restart, with this log.
    fn reopened(self, log: DoorLog) -> Self {
        let Self {
            dir,
            coordinators,
            door,
        } = self;
        drop(door);
        Self {
            door: open(dir.path(), log, &coordinators),
            dir,
            coordinators,
        }
    }

    pub(super) async fn learn(&self, counter: u32, holder: Option<Holder>) {
        self.door
            .learn(CLUSTER, [&role(counter, holder, None)])
            .await
            .unwrap();
    }

    /// A call by the token's own holder; the answer is `ok`, or the reason.
    async fn call(&self, token: FencingToken) -> String {
        match self
            .door
            .enter("ServeVersion", &model(), &agent_of(&token.holder.clone()), token)
            .await
        {
            Err(refusal) => refusal.reason.to_string(),
            Ok(entry) => match self.door.commit(entry, || Ok(())).await {
                Ok(_) => "ok".to_owned(),
                Err(refusal) => format!("commit {}", refusal.reason),
            },
        }
    }

    pub(super) async fn floor(&self) -> Option<(types::Epoch, Option<Holder>)> {
        let floors = self.door.floors().await;
        floors
            .into_iter()
            .find(|f| f.role == RoleName::global())
            .map(|f| (f.epoch, f.holder))
    }
}

#[tokio::test]
async fn the_current_holder_comes_in_and_every_other_token_is_refused_by_name() {
    let bench = bench();
    bench.learn(5, Some(west())).await;
    bench.coordinators.commit(5, Some(west()));
    let mut other_cluster = token(5, &west());
    other_cluster.cluster_id = types::ClusterId::from_u128(8);
    let table = [
        (token(5, &west()), "ok"),
        (token(4, &west()), "STALE_EPOCH"),
        (token(4, &east()), "STALE_EPOCH"),
        (token(5, &east()), "WRONG_HOLDER"),
        (token(5, &holder("west/a1", 2)), "WRONG_HOLDER"),
        (token(6, &east()), "EPOCH_UNCONFIRMED"),
        (other_cluster, "WRONG_CLUSTER"),
    ];
    for (shown, expected) in table {
        assert_eq!(bench.call(shown.clone()).await, expected, "{shown}");
    }
    assert_eq!(bench.floor().await, Some((epoch(5), Some(west()))));
}

#[tokio::test]
async fn a_refusal_names_what_was_shown_what_is_current_and_who_holds_it() {
    let bench = bench();
    bench.learn(5, Some(west())).await;
    let refusal = bench
        .door
        .enter("ServeVersion", &model(), &agent_of(&east()), token(4, &east()))
        .await
        .unwrap_err();
    assert_eq!(refusal.operand("shown"), Some("g1.e4"));
    assert_eq!(refusal.operand("current"), Some("g1.e5"));
    assert_eq!(refusal.operand("holder"), Some(west().to_string().as_str()));
}

#[tokio::test]
async fn a_higher_epoch_that_nobody_confirms_is_refused_and_not_stored() {
    let bench = bench();
    bench.learn(5, Some(west())).await;
    assert_eq!(bench.call(token(6, &east())).await, "EPOCH_UNCONFIRMED");
    assert_eq!(bench.floor().await, Some((epoch(5), Some(west()))));
    // Also over a restart.
    let again = Floors::open(&bench.dir.path().join("floors.json")).unwrap();
    assert_eq!(again.get(&RoleName::global()).map(|f| f.epoch), Some(epoch(5)));
    bench.coordinators.commit(5, Some(west()));
    assert_eq!(bench.call(token(5, &west())).await, "ok");
}

#[tokio::test]
async fn an_agent_that_slept_asks_before_it_trusts_the_epoch_that_it_knew() {
    let bench = bench();
    bench.learn(5, Some(west())).await;
    // Meanwhile the role moved on, and this agent has not heard of it.
    bench.coordinators.commit(7, Some(east()));
    assert_eq!(bench.call(token(5, &west())).await, "STALE_EPOCH");
    assert_eq!(bench.floor().await, Some((epoch(7), Some(east()))));
}

#[tokio::test]
async fn a_token_that_coordinators_do_not_call_current_is_refused_whatever_else_they_say() {
    let bench = bench();
    bench.learn(5, Some(west())).await;
    bench.coordinators.commit(5, Some(west()));
    bench.coordinators.denies.store(true, Ordering::SeqCst);
    assert_eq!(bench.call(token(5, &west())).await, "EPOCH_UNCONFIRMED");
}

#[tokio::test]
async fn without_a_quorum_even_the_known_holder_is_refused() {
    let bench = bench();
    bench.learn(5, Some(west())).await;
    assert_eq!(bench.call(token(5, &west())).await, "EPOCH_UNCONFIRMED");
}

#[tokio::test]
async fn a_higher_epoch_that_a_coordinator_confirms_comes_in_and_fences_the_old_one() {
    let bench = bench();
    bench.learn(5, Some(west())).await;
    bench.coordinators.commit(6, Some(east()));
    assert_eq!(bench.call(token(6, &east())).await, "ok");
    assert_eq!(bench.call(token(5, &west())).await, "STALE_EPOCH");
    assert_eq!(bench.floor().await, Some((epoch(6), Some(east()))));
}

#[tokio::test]
async fn what_a_confirmation_says_is_learnt_also_when_the_token_is_refused() {
    let bench = bench();
    bench.learn(5, Some(west())).await;
    bench.coordinators.commit(8, Some(east()));
    assert_eq!(bench.call(token(7, &west())).await, "STALE_EPOCH");
    assert_eq!(bench.floor().await, Some((epoch(8), Some(east()))));
}

#[tokio::test]
async fn before_committed_state_was_read_every_call_is_refused_also_after_a_restart() {
    let bench = bench();
    assert_eq!(bench.call(token(5, &west())).await, "NO_QUORUM");
    bench.coordinators.commit(5, Some(west()));
    bench.learn(5, Some(west())).await;
    assert_eq!(bench.call(token(5, &west())).await, "ok");
    let log = log_in(bench.dir.path());
    let bench = bench.reopened(log);
    assert_eq!(bench.call(token(5, &west())).await, "NO_QUORUM");
    // The floor is the higher of disk and committed state: an older list does not lower it.
    bench.learn(3, Some(east())).await;
    assert_eq!(bench.call(token(3, &east())).await, "STALE_EPOCH");
    assert_eq!(bench.call(token(5, &west())).await, "ok");
}

#[tokio::test]
async fn a_token_is_good_for_its_holders_certificate_only() {
    let bench = bench();
    bench.learn(5, Some(west())).await;
    let user = "spiffe://regent.local/user/admin".parse().unwrap();
    let coordinator = "spiffe://regent.local/region/west/coordinator/a1"
        .parse()
        .unwrap();
    for caller in [agent_of(&east()), user, coordinator] {
        let refusal = bench
            .door
            .enter("ServeVersion", &model(), &caller, token(5, &west()))
            .await
            .unwrap_err();
        assert_eq!(refusal.reason, Reason::PermissionDenied);
    }
}

/// A role of that name, held by the west since its fifth epoch.
fn named(role_name: &str) -> RoleRecord {
    RoleRecord {
        role: role_name.parse().unwrap(),
        ..role(5, Some(west()), None)
    }
}

fn of_role(role: &str) -> FencingToken {
    FencingToken {
        role: role.parse().unwrap(),
        ..token(5, &west())
    }
}

/// Whoever lost the role that guards a model does not get at it under another one that it still holds.
#[tokio::test]
async fn a_current_token_of_another_role_than_the_models_own_is_refused_with_both() {
    let bench = bench();
    bench.coordinators.commit(5, Some(west()));
    let (global, scratch) = (named("primaries/global"), named("primaries/scratch"));
    bench.door.learn(CLUSTER, [&global, &scratch]).await.unwrap();
    assert_eq!(bench.call(of_role("primaries/global")).await, "ok");
    assert_eq!(bench.call(of_role("primaries/scratch")).await, "WRONG_ROLE");
    let refusal = bench
        .door
        .enter(
            "ServeVersion",
            &model(),
            &agent_of(&west()),
            of_role("primaries/scratch"),
        )
        .await
        .unwrap_err();
    assert_eq!(refusal.operand("shown"), Some("primaries/scratch"));
    assert_eq!(refusal.operand("current"), Some("primaries/global"));
    // From now on the model's namespace has a role of its own.
    let vision = named("primaries/vision");
    bench.door.learn(CLUSTER, [&vision]).await.unwrap();
    assert_eq!(bench.call(of_role("primaries/global")).await, "WRONG_ROLE");
    assert_eq!(bench.call(of_role("primaries/vision")).await, "ok");
}

/// The role was made, and its holder calls, before this agent heard of either.
#[tokio::test]
async fn the_first_token_of_a_nearer_role_is_asked_about_and_shuts_the_wider_role_out() {
    let bench = bench();
    bench.coordinators.commit(5, Some(west()));
    bench
        .door
        .learn(CLUSTER, [&named("primaries/global")])
        .await
        .unwrap();
    assert_eq!(bench.call(of_role("primaries/global")).await, "ok");
    let asked = bench.coordinators.asked.load(Ordering::SeqCst);
    // Nobody vouches for one that is no role of the model's, and nobody is asked.
    assert_eq!(bench.call(of_role("primaries/scratch")).await, "WRONG_ROLE");
    assert_eq!(bench.coordinators.asked.load(Ordering::SeqCst), asked);
    assert_eq!(bench.call(of_role("primaries/vision")).await, "ok");
    assert_eq!(bench.coordinators.asked.load(Ordering::SeqCst), asked + 1);
    assert_eq!(bench.call(of_role("primaries/global")).await, "WRONG_ROLE");
    // A restart does not forget it.
    let log = log_in(bench.dir.path());
    let bench = bench.reopened(log);
    bench
        .door
        .learn(CLUSTER, [&named("primaries/global")])
        .await
        .unwrap();
    assert_eq!(bench.call(of_role("primaries/global")).await, "WRONG_ROLE");
}

#[tokio::test]
async fn a_role_of_the_models_own_that_comes_during_the_work_refuses_the_effect() {
    let bench = bench();
    let entry = bench.entered().await;
    let vision = named("primaries/vision");
    bench.door.learn(CLUSTER, [&vision]).await.unwrap();
    assert_eq!(bench.effect(entry).await, Some(Reason::WrongRole));
}

#[tokio::test]
async fn a_floor_that_rises_during_the_work_refuses_the_effect() {
    let bench = bench();
    bench.coordinators.commit(5, Some(west()));
    bench.learn(5, Some(west())).await;
    let entry = bench
        .door
        .enter("ServeVersion", &model(), &agent_of(&west()), token(5, &west()))
        .await
        .unwrap();
    bench.learn(6, None).await;
    let mut done = false;
    let refusal = bench
        .door
        .commit(entry, || {
            done = true;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!((refusal.reason, done), (Reason::StaleEpoch, false));
    let records = door_log::read(&door_log::path_in(bench.dir.path())).unwrap();
    assert_eq!(records[0].floor_before, Some(epoch(6)));
}

impl Bench {
    /// A call of the holder of epoch 5 that was let in; its effect is still to come.
    async fn entered(&self) -> Entry {
        self.coordinators.commit(5, Some(west()));
        self.learn(5, Some(west())).await;
        let caller = agent_of(&west());
        let entered = self
            .door
            .enter("ServeVersion", &model(), &caller, token(5, &west()))
            .await;
        entered.unwrap()
    }

    /// The reason for which an effect was refused; none if it was carried out.
    async fn effect(&self, entry: Entry) -> Option<Reason> {
        let mut done = false;
        let effect = || {
            done = true;
            Ok(())
        };
        let refused = self.door.commit(entry, effect).await.err().map(|r| r.reason);
        assert_eq!(done, refused.is_none());
        refused
    }
}

#[tokio::test]
async fn an_effect_soon_after_the_entrance_is_not_asked_about_again_and_a_later_one_is() {
    let bench = bench();
    let entry = bench.entered().await;
    bench.coordinators.pass(CONFIRMED_FOR - Duration::from_millis(1));
    assert_eq!(bench.effect(entry).await, None);
    assert_eq!(bench.coordinators.asked.load(Ordering::SeqCst), 1);

    let bench = self::bench();
    let entry = bench.entered().await;
    // The version was loaded for a while, and the role moved on unheard.
    bench.coordinators.pass(CONFIRMED_FOR);
    bench.coordinators.commit(6, Some(east()));
    assert_eq!(bench.effect(entry).await, Some(Reason::StaleEpoch));
    assert_eq!(bench.floor().await, Some((epoch(6), Some(east()))));
}

#[tokio::test]
async fn a_call_soon_after_another_is_not_asked_about_again() {
    let bench = bench();
    bench.entered().await;
    bench.coordinators.pass(CONFIRMED_FOR - Duration::from_millis(1));
    bench.entered().await;
    assert_eq!(bench.coordinators.asked.load(Ordering::SeqCst), 1);
    bench.coordinators.pass(Duration::from_millis(1));
    bench.entered().await;
    assert_eq!(bench.coordinators.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_pause_between_the_confirmation_and_the_effect_refuses_the_effect() {
    let bench = bench();
    let entry = bench.entered().await;
    bench.coordinators.pass(CONFIRMED_FOR);
    // A slow answer is an answer; a stopped process is another thing.
    *bench.coordinators.takes.lock().unwrap() = Duration::from_secs(2);
    assert_eq!(bench.effect(entry).await, None);
    let entry = bench.entered().await;
    bench.coordinators.pass(CONFIRMED_FOR);
    *bench.coordinators.takes.lock().unwrap() = Duration::from_secs(3);
    assert_eq!(bench.effect(entry).await, Some(Reason::EpochUnconfirmed));
}

#[tokio::test]
async fn a_newer_epoch_that_is_shown_while_the_older_one_is_confirmed_refuses_the_older_effect() {
    let bench = bench();
    let entry = bench.entered().await;
    bench.coordinators.pass(CONFIRMED_FOR);
    let gate = Gate::new();
    *bench.coordinators.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let newer = async {
        // The answer that epoch 5 is current is on its way.
        gate.arrived().await;
        bench.coordinators.commit(6, Some(east()));
        assert_eq!(bench.call(token(6, &east())).await, "ok");
        gate.release();
    };
    let both = async { tokio::join!(bench.effect(entry), newer) };
    let (refused, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(refused, Some(Reason::StaleEpoch));
    let records = door_log::read(&door_log::path_in(bench.dir.path())).unwrap();
    let stale = records.last().unwrap();
    assert_eq!((stale.shown, stale.floor_before), (epoch(5), Some(epoch(6))));
}

#[tokio::test]
async fn every_call_is_one_line_of_the_log_with_its_verdict_and_numbers_go_on_after_a_restart() {
    let bench = bench();
    bench.coordinators.commit(5, Some(west()));
    bench.learn(5, Some(west())).await;
    bench.call(token(5, &west())).await;
    bench.call(token(4, &east())).await;
    // A process killed in the middle of a line leaves a torn one.
    let path = door_log::path_in(bench.dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"seq\":3,\"unix");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(door_log::read(&path).unwrap().len(), 2);

    let log = log_in(bench.dir.path());
    let bench = bench.reopened(log);
    bench.learn(6, Some(east())).await;
    bench.call(token(5, &west())).await;
    let records = door_log::read(&path).unwrap();
    let rows: Vec<_> = records
        .iter()
        .map(|r| (r.seq, r.shown, r.floor_before, r.verdict, r.reason))
        .collect();
    let (e4, e5, e6) = (epoch(4), epoch(5), epoch(6));
    let stale = Some(Reason::StaleEpoch);
    assert_eq!(
        rows,
        [
            (1, e5, Some(e5), DoorVerdict::Accepted, None),
            (2, e4, Some(e5), DoorVerdict::Refused, stale),
            (3, e5, Some(e6), DoorVerdict::Refused, stale),
        ]
    );
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let at = |r: &DoorRecord| Duration::from_micros(r.unix_micros);
    let hour = Duration::from_secs(3600);
    assert!(records.iter().all(|r| now.abs_diff(at(r)) < hour));
    assert_eq!(records[1].shown_holder, east());
    assert_eq!(records[1].floor_holder, Some(west()));
}

#[tokio::test]
async fn an_effect_that_cannot_be_written_down_does_not_happen_and_one_that_fails_is_one_refusal() {
    let bench = bench();
    let entry = bench.entered().await;
    let failed = bench.door.commit(entry, || -> Result<(), _> {
        Err(Refusal::new(Reason::ModelNotLoaded, "it was unloaded"))
    });
    assert_eq!(failed.await.unwrap_err().reason, Reason::ModelNotLoaded);
    let path = door_log::path_in(bench.dir.path());
    let rows = || {
        let records = door_log::read(&path).unwrap();
        let row = |r: &DoorRecord| (r.seq, r.verdict, r.reason);
        records.iter().map(row).collect::<Vec<_>>()
    };
    let refused = (1, DoorVerdict::Refused, Some(Reason::ModelNotLoaded));
    assert_eq!(rows(), [refused]);
    assert_eq!(bench.call(token(5, &west())).await, "ok");
    assert_eq!(rows(), [refused, (2, DoorVerdict::Accepted, None)]);

    let full = DoorLog::read_only(&path).unwrap();
    let bench = bench.reopened(full);
    let entry = bench.entered().await;
    assert_eq!(bench.effect(entry).await, Some(Reason::Internal));
    // Nor does a refusal leave that is not written down.
    assert_eq!(bench.call(token(4, &east())).await, "INTERNAL");
    assert_eq!(rows().len(), 2);
}

const NEW: ClusterId = ClusterId::from_u128(0xbeef);

fn says(cluster: ClusterId, supersedes: ClusterId, generation: u32) -> SignedRebind {
    SignedRebind {
        statement: Rebind {
            cluster,
            supersedes,
            generation,
        },
        signature: vec![1],
    }
}

fn of_new(token: FencingToken, generation: u32) -> FencingToken {
    FencingToken {
        cluster_id: NEW,
        epoch: types::Epoch::new(generation, 1),
        ..token
    }
}

/// L19, in the order in which an agent meets it: no statement, the statement, a restart, the old cluster again.
#[tokio::test]
async fn a_door_follows_a_statement_only_and_refuses_the_old_cluster_for_ever() {
    let bench = bench();
    bench.learn(7, Some(west())).await;
    bench.coordinators.commit(7, Some(west()));
    let met = |cluster| BTreeSet::from([cluster, CLUSTER]);
    // Somebody else is there, and nobody said that it goes on from here.
    let outcome = bench.door.meet(&met(NEW), Vec::new()).await.unwrap();
    assert_eq!(outcome.followed, None);
    assert!(
        matches!(outcome.stays[..], [Stays::Unsigned { .. }]),
        "{outcome:?}"
    );
    assert_eq!(bench.call(token(7, &west())).await, "ok");
    let floors = bench.door.learn(NEW, []).await;
    assert!(matches!(floors, Err(FloorsError::OtherCluster { .. })));
    // One of a generation that this door has seen already changes nothing.
    let low = vec![says(NEW, CLUSTER, 1)];
    let outcome = bench.door.meet(&met(NEW), low).await.unwrap();
    assert!(outcome.followed.is_none(), "{outcome:?}");
    let outcome = bench
        .door
        .meet(&met(NEW), vec![says(NEW, CLUSTER, 2)])
        .await
        .unwrap();
    assert_eq!(outcome.followed, Some((CLUSTER, NEW)));
    assert!(
        bench
            .door
            .lineage()
            .borrow()
            .as_ref()
            .unwrap()
            .takes_over(NEW, CLUSTER)
    );
    // Of the new cluster nothing is known yet, of the old one nothing is good any more.
    assert_eq!(bench.call(of_new(token(1, &east()), 2)).await, "NO_QUORUM");
    bench.door.learn(NEW, []).await.unwrap();
    assert_eq!(bench.call(token(7, &west())).await, "WRONG_CLUSTER");
    assert_eq!(bench.call(token(900, &west())).await, "WRONG_CLUSTER");
    let log = log_in(bench.dir.path());
    let bench = bench.reopened(log);
    for statements in [vec![], vec![says(CLUSTER, NEW, 3)]] {
        let outcome = bench.door.meet(&met(NEW), statements).await.unwrap();
        assert_eq!(outcome.followed, None);
        assert!(
            matches!(outcome.stays[..], [Stays::Superseded { .. }]),
            "{outcome:?}"
        );
    }
    let back = bench.door.learn(CLUSTER, []).await;
    assert!(matches!(back, Err(FloorsError::OtherCluster { .. })));
    bench.door.learn(NEW, []).await.unwrap();
    assert_eq!(bench.call(token(7, &west())).await, "WRONG_CLUSTER");
}

/// Two survivors of one cluster were recovered, by two people.
#[tokio::test]
async fn a_door_of_a_split_cluster_stays_until_one_of_the_two_has_ended() {
    let bench = bench();
    bench.learn(7, Some(west())).await;
    let [one, other, third] = [1, 2, 3].map(|n| ClusterId::from_u128(0xf00 + n));
    let split = vec![says(one, CLUSTER, 2), says(other, CLUSTER, 2)];
    let met = BTreeSet::from([one, other]);
    let outcome = bench.door.meet(&met, split).await.unwrap();
    assert!(
        outcome.followed.is_none() && outcome.conflict.is_some(),
        "{outcome:?}"
    );
    let ended = vec![says(third, one, 3), says(third, other, 3)];
    let outcome = bench
        .door
        .meet(&BTreeSet::from([third, one]), ended)
        .await
        .unwrap();
    assert_eq!(outcome.followed, Some((CLUSTER, third)));
    assert_eq!(outcome.conflict, None);
}
