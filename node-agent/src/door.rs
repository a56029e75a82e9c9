//! The agent's door (L13): what it says to the fencing token of a privileged call, and what it writes down.
//!
//! Absent on purpose: the rule itself (`policy::fence`, `policy::door`) and what the call then does.
//! Invariants: a floor rises only from committed state or after `CheckFence` said that the token is current; no token
//! passes unless a quorum called it current within [`CONFIRMED_FOR`], so that an agent that was paused or cut off does
//! not trust what it knew before; an effect happens under the same lock as the last look at the floor and at the age of
//! the confirmation, so none slips in after a higher epoch was accepted, nor after a pause; every decision is in the log
//! before its answer leaves, and before its effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use client::{calls::FenceStanding, guard::BootInstant};
pub use policy::door::{CONFIRMED_FOR, TRUSTED_FOR};
use policy::{
    door::{self, Admission},
    fence::{Floor, Refused, Verdict, check_guarded, guard_of},
    rebind::Stays,
};
use tokio::sync::{Mutex, MutexGuard, watch};
use types::{
    ClusterId, Epoch, FencingToken, Lineage, ModelName, Principal, Reason, RoleName, SignedRebind,
    reason::Refusal, role::RoleRecord,
};

use crate::{
    door_log::{DoorLog, DoorRecord, DoorVerdict},
    floors::{Floors, FloorsError},
    metrics::Metrics,
};

/// Time for a confirmation: a caller must hear the refusal before it gives up on this door.
const CONFIRM_LIMIT: Duration = Duration::from_secs(2);

/// CLOCK_BOOTTIME, which tests replace.
type Clock = Arc<dyn Fn() -> BootInstant + Send + Sync>;

/// Who confirms a token.
#[async_trait]
pub trait FenceOracle: Send + Sync {
    /// Whether the token is current, by a linearizable read.
    async fn check_fence(&self, token: &FencingToken) -> Result<FenceStanding, Refusal>;
}

#[async_trait]
impl FenceOracle for client::Client {
    async fn check_fence(&self, token: &FencingToken) -> Result<FenceStanding, Refusal> {
        self.with_deadline(CONFIRM_LIMIT).check_fence(token).await
    }
}

/// The door; clones share it.
#[derive(Clone)]
pub struct Door {
    inner: Arc<Mutex<Inner>>,
    oracle: Arc<dyn FenceOracle>,
    metrics: Metrics,
    clock: Clock,
    /// The cluster that this agent belongs to, with those that it goes on from; for the doors that are guarded from here.
    lineage: Arc<watch::Sender<Option<Lineage>>>,
}

struct Inner {
    floors: Floors,
    log: DoorLog,
    /// Whether committed state was read since this process began; until then every privileged call is refused.
    synced: bool,
    /// The epoch of each role that was last confirmed, and when that was asked for.
    confirmed: BTreeMap<RoleName, (Epoch, BootInstant)>,
}

/// What coordinators said is committed of a role.
#[derive(Clone, Debug)]
pub struct Committed {
    floor: Floor,
    /// When they were asked.
    asked: BootInstant,
}

/// One privileged call that passed the door's first look; to be ended by [`Door::commit`] or [`Door::fail`].
#[derive(Clone, Debug)]
pub struct Entry {
    method: &'static str,
    model: ModelName,
    token: FencingToken,
    floor_before: Option<Floor>,
}

impl Door {
    /// A door over what is on disk.
    pub fn new(floors: Floors, log: DoorLog, oracle: Arc<dyn FenceOracle>, metrics: Metrics) -> Self {
        Self::with_clock(floors, log, oracle, metrics, Arc::new(BootInstant::now))
    }

    /// The same under another clock.
    pub(crate) fn with_clock(
        floors: Floors,
        log: DoorLog,
        oracle: Arc<dyn FenceOracle>,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        let lineage = Arc::new(watch::Sender::new(lineage(&floors)));
        let inner = Inner {
            floors,
            log,
            synced: false,
            confirmed: BTreeMap::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            oracle,
            metrics,
            clock,
            lineage,
        }
    }

    /// The cluster that this agent belongs to, with every one that it goes on from; none before the first contact.
    pub fn lineage(&self) -> watch::Receiver<Option<Lineage>> {
        self.lineage.subscribe()
    }

    /// Takes in which clusters coordinators are of, and statements that were verified by the CA: follows where they allow it. On disk
    /// before it counts; from then on tokens of the cluster that was left are refused for ever, and others until the committed state
    /// of the new one was read.
    ///
    /// # Errors
    /// A failing disk; this agent stays where it is then.
    pub async fn meet(
        &self,
        met: &BTreeSet<ClusterId>,
        verified: Vec<SignedRebind>,
    ) -> Result<Met, FloorsError> {
        let mut inner = self.inner.lock().await;
        let Some(bound) = inner.floors.cluster_id() else {
            return Ok(Met::default());
        };
        let statements = joined(&inner.floors.lineage().statements, verified);
        let said: Vec<_> = statements.iter().map(|signed| signed.statement).collect();
        let closed: BTreeSet<ClusterId> = inner.floors.lineage().closed.keys().copied().collect();
        let door = policy::rebind::Bound {
            cluster: bound,
            seen: inner.floors.generation(),
            closed: &closed,
        };
        let others = met.iter().filter(|shown| **shown != bound);
        let answers: Vec<_> = others
            .map(|shown| (*shown, policy::rebind::follow(door, *shown, &said)))
            .collect();
        let to = answers
            .iter()
            .find(|(_, answer)| answer.is_ok())
            .map(|(to, _)| *to);
        match to {
            Some(to) => {
                inner.floors.follow(to, statements)?;
                inner.synced = false;
                inner.confirmed.clear();
            }
            None => inner.floors.keep(statements)?,
        }
        let now = lineage(&inner.floors);
        self.lineage.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        Ok(Met {
            followed: to.map(|to| (bound, to)),
            stays: answers
                .into_iter()
                .filter_map(|(_, answer)| answer.err())
                .collect(),
            conflict: policy::rebind::conflict(&said),
        })
    }

    /// Takes over committed roles, as read from coordinators; from the first time on the door is open.
    ///
    /// # Errors
    /// Another cluster, or a failing disk: the process must stop, for it cannot keep its promise.
    pub async fn learn(
        &self,
        cluster_id: ClusterId,
        roles: impl IntoIterator<Item = &RoleRecord>,
    ) -> Result<(), FloorsError> {
        let mut inner = self.inner.lock().await;
        if inner.floors.cluster_id() != Some(cluster_id) {
            inner.floors.bind(cluster_id)?;
            self.lineage.send_replace(lineage(&inner.floors));
        }
        let confirmed: Vec<_> = roles
            .into_iter()
            .map(|role| policy::fence::floor_of(role, cluster_id))
            .collect();
        inner.floors.raise(confirmed)?;
        inner.synced = true;
        for floor in inner.floors.all() {
            self.metrics.floor(&floor.role, floor.epoch);
        }
        Ok(())
    }

    /// All floors, for status.
    pub async fn floors(&self) -> Vec<Floor> {
        self.inner.lock().await.floors.all().cloned().collect()
    }

    /// Looks at a token of a call that changes how a model is served: of another role than the one that guards the model, below
    /// the floor, or equal to it from another holder is refused; above it, or equal to it and not confirmed just now, is asked
    /// about.
    ///
    /// # Errors
    /// The refusal, which is in the log already.
    pub async fn enter(
        &self,
        method: &'static str,
        model: &ModelName,
        caller: &Principal,
        token: FencingToken,
    ) -> Result<Entry, Refusal> {
        let (floor_before, verdict, confirmed) = {
            let inner = self.inner.lock().await;
            let floor = inner.floors.get(&token.role).cloned();
            (
                floor,
                inner.verdict(model, &token),
                inner.confirmed_ago(&token, (self.clock)()),
            )
        };
        let mut entry = Entry {
            method,
            model: model.clone(),
            token,
            floor_before,
        };
        if let Err(refusal) = check_caller(caller, &entry.token) {
            return Err(self.fail(entry, refusal).await);
        }
        let admitted = match verdict.map(|verdict| door::at_entrance(verdict, confirmed)) {
            Err(refusal) => Err(refusal),
            Ok(Admission::Pass) => Ok(()),
            Ok(Admission::Refuse(refused)) => Err(refused.to_refusal()),
            Ok(Admission::Ask) => self.confirm(&mut entry).await,
        };
        match admitted {
            Ok(()) => Ok(entry),
            Err(refusal) => Err(self.fail(entry, refusal).await),
        }
    }

    /// Writes the verdict down, and carries out the effect if the token still stands. `effect` must be short.
    ///
    /// # Errors
    /// The refusal of a floor that rose meanwhile, or the effect's own; INTERNAL where the log cannot be written, and then
    /// there was no effect.
    pub async fn commit<T>(
        &self,
        mut entry: Entry,
        effect: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<(T, Epoch), Refusal> {
        let mut inner = self.inner.lock().await;
        // Whatever lay between, a load or a pause: what was confirmed at the entrance may be over by now.
        if !door::is_fresh(inner.confirmed_ago(&entry.token, (self.clock)())) {
            drop(inner);
            if let Err(refusal) = self.confirm(&mut entry).await {
                return Err(self.fail(entry, refusal).await);
            }
            inner = self.inner.lock().await;
        }
        // Under the lock of the effect: neither a higher epoch nor a pause comes between this look and the effect.
        let confirmed = inner.confirmed_ago(&entry.token, (self.clock)());
        let verdict = inner.verdict(&entry.model, &entry.token);
        entry.floor_before = inner.floors.get(&entry.token.role).cloned();
        let refusal = match verdict.map(|verdict| door::at_effect(verdict, confirmed)) {
            Ok(Admission::Pass) => {
                let (epoch, accepted) = (entry.token.epoch, line(entry.clone(), None));
                match inner.log.carry_out(accepted, effect).map_err(log_failed)? {
                    Ok(done) => return Ok((done, epoch)),
                    Err(refusal) => refusal,
                }
            }
            Ok(Admission::Refuse(refused)) => refused.to_refusal(),
            Ok(Admission::Ask) => unconfirmed(&entry, "its confirmation is too old").to_refusal(),
            Err(refusal) => refusal,
        };
        Err(self.refuse(&mut inner, entry, refusal))
    }

    /// Ends a call that changed nothing, for a reason of its own; gives the refusal back.
    pub async fn fail(&self, entry: Entry, refusal: Refusal) -> Refusal {
        self.refuse(&mut *self.inner.lock().await, entry, refusal)
    }

    /// Asks the coordinators what is committed of a token's role, and raises the floor to it. A linearizable read that begins
    /// after this call and ends before its answer: nothing that was confirmed earlier counts. Whoever uses the answer asks
    /// [`Self::still_counts`] about it.
    ///
    /// # Errors
    /// Theirs; INTERNAL where the floor cannot be kept.
    pub async fn committed(&self, token: &FencingToken) -> Result<Committed, Refusal> {
        let asked = (self.clock)();
        let standing = self.oracle.check_fence(token).await?;
        let (floor, _) = self.raise_to(token, &standing).await?;
        Ok(Committed { floor, asked })
    }

    /// What was committed, to be used now.
    ///
    /// # Errors
    /// NO_QUORUM where that was asked for longer than [`TRUSTED_FOR`] ago.
    pub fn still_counts(&self, said: Committed) -> Result<Floor, Refusal> {
        if door::is_trusted(Some((self.clock)().since(said.asked))) {
            return Ok(said.floor);
        }
        let text = format!(
            "the coordinators were asked more than {TRUSTED_FOR:?} ago, because this process was stopped meanwhile"
        );
        Err(Refusal::new(Reason::NoQuorum, text))
    }

    /// Asks the coordinators, and raises the floor to what they say, whatever becomes of the token.
    async fn confirm(&self, entry: &mut Entry) -> Result<(), Refusal> {
        let token = entry.token.clone();
        let token = &token;
        let asked = (self.clock)();
        let standing = match self.oracle.check_fence(token).await {
            Ok(standing) => standing,
            Err(error) => {
                tracing::warn!(role = %token.role, shown = %token.epoch, "epoch not confirmed: {error}");
                return Err(unconfirmed(entry, &error.message)
                    .to_refusal()
                    .with("cause", error.reason));
            }
        };
        let (committed, mut inner) = self.raise_to(token, &standing).await?;
        // The record names the floor that judged the token, as the refusal does.
        entry.floor_before = inner.floors.get(&token.role).cloned();
        match door::at_answer(&committed, standing.current, token) {
            Admission::Pass => {
                inner.confirmed.insert(token.role.clone(), (token.epoch, asked));
                Ok(())
            }
            Admission::Refuse(refused) => Err(refused.to_refusal()),
            Admission::Ask => Err(unconfirmed(entry, "it is not committed").to_refusal()),
        }
    }

    /// Raises the floor to what the coordinators said of a token's role; what they said, and the door as it stands then.
    async fn raise_to(
        &self,
        token: &FencingToken,
        said: &FenceStanding,
    ) -> Result<(Floor, MutexGuard<'_, Inner>), Refusal> {
        let committed = Floor {
            cluster_id: token.cluster_id,
            role: token.role.clone(),
            epoch: said.current_epoch,
            holder: said.current_holder.clone(),
        };
        let mut inner = self.inner.lock().await;
        inner.floors.raise([committed.clone()]).map_err(disk_failed)?;
        self.metrics.floor(&committed.role, committed.epoch);
        Ok((committed, inner))
    }

    /// Writes a refusal down and gives it back.
    fn refuse(&self, inner: &mut Inner, entry: Entry, refusal: Refusal) -> Refusal {
        self.metrics.fenced(refusal.reason);
        match inner.log.append(line(entry, Some(refusal.reason))) {
            Ok(_) => refusal,
            Err(error) => log_failed(error),
        }
    }
}

impl Inner {
    /// How long ago it was asked whether this token's epoch is current, and the answer was yes.
    fn confirmed_ago(&self, token: &FencingToken, now: BootInstant) -> Option<Duration> {
        let confirmed = self.confirmed.get(&token.role);
        let same = confirmed.filter(|(epoch, _)| *epoch == token.epoch);
        same.map(|(_, asked)| now.since(*asked))
    }

    /// The first answer, from what is on disk; an error before committed state was read (L13). The roles that are known here are
    /// those that have a floor, and that of the token: where it is nearer to the model than any of them a quorum is asked about it,
    /// and its floor is kept.
    fn verdict(&self, model: &ModelName, token: &FencingToken) -> Result<Verdict, Refusal> {
        let Some(bound) = self.floors.cluster_id().filter(|_| self.synced) else {
            let message = "no coordinator with a quorum confirmed this agent's floors since it started; try again once one does";
            return Err(Refusal::new(Reason::NoQuorum, message)
                .with("shown", token.epoch)
                .with("role", &token.role));
        };
        let guard = guard_of(model, |role| {
            *role == token.role || self.floors.get(role).is_some()
        });
        Ok(check_guarded(&guard, self.floors.get(&token.role), token, bound))
    }
}

/// What came of meeting other clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// From where to where this agent went, if it did.
    pub followed: Option<(ClusterId, ClusterId)>,
    /// Why it did not follow others.
    pub stays: Vec<Stays>,
    /// Two clusters that both go on from one, wherever that is.
    pub conflict: Option<Stays>,
}

fn lineage(floors: &Floors) -> Option<Lineage> {
    let followed = floors.lineage();
    let said: Vec<_> = followed
        .statements
        .iter()
        .map(|signed| signed.statement)
        .collect();
    let mut lineage = policy::rebind::lineage(floors.cluster_id()?, &said);
    lineage.closed.extend(followed.closed.keys());
    Some(lineage)
}

/// What is known already stays as it is; one more statement comes behind it.
fn joined(known: &[SignedRebind], verified: Vec<SignedRebind>) -> Vec<SignedRebind> {
    let mut all = known.to_vec();
    for signed in verified {
        if !all.iter().any(|known| known.statement == signed.statement) {
            all.push(signed);
        }
    }
    all
}

/// What the log says of a call.
fn line(entry: Entry, refused: Option<Reason>) -> DoorRecord {
    DoorRecord {
        seq: 0,
        unix_micros: unix_micros(),
        method: entry.method.to_owned(),
        role: entry.token.role,
        shown: entry.token.epoch,
        shown_holder: entry.token.holder,
        floor_before: entry.floor_before.as_ref().map(|f| f.epoch),
        floor_holder: entry.floor_before.and_then(|f| f.holder),
        verdict: if refused.is_some() {
            DoorVerdict::Refused
        } else {
            DoorVerdict::Accepted
        },
        reason: refused,
    }
}

/// The certificate must be the token's holder: authority is not lent.
fn check_caller(caller: &Principal, token: &FencingToken) -> Result<(), Refusal> {
    let holder = Principal::Agent {
        region: token.holder.region.clone(),
        node: token.holder.node.clone(),
    };
    if *caller == holder {
        return Ok(());
    }
    let message = format!("{caller} shows a token of {holder}; a token is good for its holder only");
    Err(Refusal::new(Reason::PermissionDenied, message)
        .with("caller", caller)
        .with("holder", &token.holder))
}

fn unconfirmed(entry: &Entry, why: &str) -> Refused {
    tracing::info!(role = %entry.token.role, shown = %entry.token.epoch, why, "epoch above the floor refused");
    Refused::Unconfirmed {
        role: entry.token.role.clone(),
        shown: entry.token.epoch,
        current: entry.floor_before.as_ref().map_or(Epoch::ZERO, |f| f.epoch),
        holder: entry.floor_before.as_ref().and_then(|f| f.holder.clone()),
    }
}

fn disk_failed(error: FloorsError) -> Refusal {
    tracing::error!(%error, "a fencing floor could not be raised");
    Refusal::new(Reason::Internal, error.to_string())
}

fn log_failed(error: io::Error) -> Refusal {
    tracing::error!(%error, "the door log cannot be written");
    Refusal::new(
        Reason::Internal,
        format!("the door log cannot be written: {error}"),
    )
}

fn unix_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
