//! The loop that closes the difference between desired and observed state.
//!
//! Absent on purpose: decisions ([`crate::desired`], [`crate::reconcile`]) and the work itself
//! ([`crate::replicate`], [`crate::serving`]). Invariant: every job it starts ends inside it, also at shutdown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use types::{
    Holder, ModelName, ModelVersion, Revision, VersionKey, model::VersionRecord, replica::ReplicaState,
};

use crate::{
    board::Board,
    catalog::{Catalog, CatalogRow},
    databases::Bindings,
    desired::{Copy, Desired, LocalWishes},
    doors::AllDoors,
    failures::{Failures, HOPELESS_WAIT_MAX, WAIT_MAX},
    jobs::{JobError, Success},
    library::Library,
    observed::{Copied, Job, Observed},
    pins::Pins,
    privileged::repin,
    raise::Raiser,
    readiness::{Readiness, ToldBy},
    reconcile::{Action, Limits, reconcile},
    replicate::Replicator,
    roles::Roles,
    running::Running,
    serving::{Expected, LoadModel, Serving, Trouble},
    steps::Steps,
    view::View,
};

/// Failures in a row after which others are told that a version does not load here, though that may still pass.
const TRIES: u32 = 3;

/// What the loop works with.
pub struct Parts {
    /// This run of this node.
    pub me: Holder,
    /// The cluster's state.
    pub view: watch::Receiver<Arc<View>>,
    /// What operators of this node asked for.
    pub wishes: watch::Receiver<LocalWishes>,
    /// Where a pin goes out of them, or is replaced.
    pub unwish: watch::Sender<LocalWishes>,
    /// Versions pinned by privileged calls.
    pub pins: Arc<Mutex<Pins>>,
    /// Models in memory.
    pub serving: Serving,
    /// The work on copies.
    pub replicator: Replicator,
    /// Model directories.
    pub library: Library,
    /// Directory to engine.
    pub loader: Arc<dyn LoadModel>,
    /// What the last run knew.
    pub catalog: Catalog,
    /// What is known of the databases.
    pub databases: watch::Receiver<Arc<Bindings>>,
    /// Roles held.
    pub roles: Roles,
    /// The doors beside this agent, raised for others.
    pub raiser: Raiser,
    /// Steps of plans.
    pub steps: Steps,
    /// How this node stands.
    pub board: watch::Sender<Board>,
    /// How much at a time.
    pub limits: Limits,
    /// Longest drain of one version.
    pub drain_timeout: Duration,
}

/// The loop and what it remembers.
pub struct Worker {
    parts: Parts,
    cached: BTreeMap<VersionKey, Copied>,
    running: Running,
    failures: Failures,
    /// Versions that did not load for a defect of their own, or whose engine panicked.
    unservable: BTreeSet<VersionKey>,
    /// Those of them whose last load said so: trying again changes nothing.
    defective: BTreeSet<VersionKey>,
    readiness: Readiness,
    /// What answered for each model last, also in the run before.
    answered: BTreeMap<ModelName, ModelVersion>,
    /// Work whose success the view does not show yet: without this it would be done twice.
    told: BTreeMap<Job, Revision>,
    /// The revision of the view that the last desired state came from.
    seen: Revision,
    from_catalog: Desired,
    rows: Vec<CatalogRow>,
    stop: CancellationToken,
}

impl Worker {
    /// Begins with what the catalog of the last run says.
    pub fn new(parts: Parts, stop: CancellationToken) -> Self {
        let rows = parts.catalog.rows();
        Self {
            from_catalog: remembered(&rows),
            parts,
            cached: BTreeMap::new(),
            running: Running::default(),
            failures: Failures::default(),
            unservable: BTreeSet::new(),
            defective: BTreeSet::new(),
            readiness: Readiness::default(),
            answered: (rows.iter().filter(|row| row.active))
                .map(|row| (row.record.key.model.clone(), row.record.key.version))
                .collect(),
            told: BTreeMap::new(),
            seen: Revision::default(),
            rows,
            stop,
        }
    }

    /// Works until it is stopped; then waits for what is running to end.
    pub async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let now = Instant::now();
            let desired = self.desired();
            let settled = self.act(&desired, now);
            self.publish(&desired, now);
            if settled {
                self.wait(now).await;
            }
        }
        while self.running.ended().await.is_some() {}
        self.parts.steps.shutdown().await;
        self.parts.raiser.shutdown().await;
        self.parts.roles.shutdown().await;
        self.parts.catalog.flush().await;
    }

    fn desired(&mut self) -> Desired {
        let view = Arc::clone(&self.parts.view.borrow_and_update());
        let wishes = self.parts.wishes.borrow_and_update().clone();
        self.seen = view.revision;
        let mut desired = if view.cluster_id.is_none() {
            self.from_catalog.clone()
        } else {
            Desired::of(&view, &self.parts.me, &wishes)
        };
        desired.add_stand_ins(&self.parts.serving.memory(), &self.answered, &wishes);
        desired
    }

    /// Does what is due; false if something changed at once and the difference must be taken again.
    fn act(&mut self, desired: &Desired, now: Instant) -> bool {
        // Doors before bytes: who lost a role stops acting before anything else happens.
        let databases = Arc::clone(&self.parts.databases.borrow_and_update());
        let doors = AllDoors {
            stores: &desired.stores,
            databases: &databases,
        };
        self.parts.roles.update(&desired.roles, doors);
        self.parts.raiser.update(&desired.raises, doors);
        self.parts.steps.update(&desired.steps);
        repin(&self.parts.pins, &self.parts.unwish, &desired.repinned);
        let observed = self.observed(now);
        let mut settled = true;
        for action in reconcile(desired, &observed, self.parts.limits) {
            match action {
                Action::Activate(model, version) => {
                    tracing::info!(%model, %version, "version switched in");
                    self.parts.serving.activate(&model, version);
                    settled = false;
                }
                Action::Deactivate(model) => {
                    self.parts.serving.deactivate(&model);
                    settled = false;
                }
                Action::Start(job) => self.start(job, desired),
            }
        }
        settled
    }

    fn observed(&mut self, now: Instant) -> Observed {
        let unseen = self.told.iter().filter(|(_, revision)| **revision > self.seen);
        Observed {
            cached: self.cached.clone(),
            memory: self.parts.serving.memory(),
            active: self.parts.serving.active(),
            running: self.running.all(),
            doubted: self.parts.replicator.doubts.all(),
            backing_off: (self.failures.waiting(now))
                .chain(unseen.map(|(job, _)| job))
                .cloned()
                .collect(),
            unservable: self.unservable.clone(),
        }
    }

    /// Until something may have changed since `then`: the view, a wish, a database, a job, or that the time of a next try has come.
    async fn wait(&mut self, then: Instant) {
        let next_try = self.failures.next_try(then);
        let timer = async {
            match next_try {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            () = self.stop.cancelled() => return,
            _ = self.parts.view.changed() => return,
            _ = self.parts.wishes.changed() => return,
            _ = self.parts.databases.changed() => return,
            () = timer => return,
            key = self.parts.serving.lost() => {
                self.lost(key);
                return;
            }
            Some(ended) = self.running.ended() => ended,
        };
        if let (job, Some(result)) = ended {
            self.ended(job, result);
        }
    }

    fn start(&mut self, job: Job, desired: &Desired) {
        let tries = self.failures.count(&job);
        let Some(work) = self.parts.work(&job, desired, tries) else {
            return;
        };
        let stop = match &job {
            // The replicator stops it, so that it can take back what it began at the store.
            Job::Copy(_) => CancellationToken::new(),
            _ => self.stop.clone(),
        };
        self.running.start(job, stop, work);
    }

    fn ended(&mut self, job: Job, result: Result<Success, JobError>) {
        let is_damage = matches!(result, Err(JobError::Damaged(_)));
        let longest = match result {
            Err(JobError::Unservable(_)) => HOPELESS_WAIT_MAX,
            _ => WAIT_MAX,
        };
        let error = match result {
            Ok(committed) => {
                self.failures.succeeded(&job, Instant::now());
                self.succeeded(&job);
                self.told.extend(committed.map(|revision| (job, revision)));
                return;
            }
            Err(JobError::Failed(error)) => {
                if let Job::Load(key) = &job {
                    self.defective.remove(key);
                }
                error
            }
            Err(JobError::Unservable(error)) => {
                if let Job::Load(key) = &job {
                    self.unservable.insert(key.clone());
                    self.defective.insert(key.clone());
                }
                error
            }
            Err(JobError::Damaged(error)) => {
                if let Job::Load(key) = &job {
                    self.cached.insert(key.clone(), Copied::Absent);
                }
                error
            }
        };
        if let Job::Load(key) | Job::Fetch(key) = &job {
            self.parts.board.send_modify(|board| {
                // Damage on this node's disk is mended by fetching anew, and says nothing of the version.
                let is_of_the_load = matches!(job, Job::Load(_)) && !is_damage;
                let errors = if is_of_the_load {
                    &mut board.load_errors
                } else {
                    &mut board.fetch_errors
                };
                errors.insert(key.clone(), error.clone());
            });
        }
        let (count, wait) = self.failures.failed(job.clone(), Instant::now(), longest);
        tracing::warn!(?job, count, ?wait, "job failed: {error}");
    }

    /// A version that had been loaded is in memory no more: it is loaded anew, ever later if that happens again and again.
    fn lost(&mut self, key: VersionKey) {
        tracing::error!(%key, "a model's thread ended by itself: its engine has a defect");
        let error = "its engine panicked while it answered a request, and it is loaded anew";
        self.unservable.insert(key.clone());
        self.ended(Job::Load(key), Err(JobError::Failed(error.to_owned())));
    }

    fn succeeded(&mut self, job: &Job) {
        tracing::debug!(?job, "job done");
        match job {
            Job::Copy(key) | Job::Fetch(key) => drop(self.cached.insert(key.clone(), Copied::Present)),
            Job::Load(key) => {
                tracing::info!(%key, "version loaded");
                self.unservable.remove(key);
                self.defective.remove(key);
                self.parts.board.send_modify(|board| {
                    board.load_errors.remove(key);
                    board.fetch_errors.remove(key);
                });
            }
            Job::Evict(key) => {
                tracing::info!(%key, "deleted version removed from this node's disk");
                self.cached.insert(key.clone(), Copied::Absent);
            }
            Job::Recheck(key) => self.parts.replicator.doubts.settle(key),
            Job::Verify(_) | Job::Unload(_) => {}
        }
    }

    /// Tells everyone how the node stands, and the catalog what it would need after a restart.
    fn publish(&mut self, desired: &Desired, now: Instant) {
        let observed = self.observed(now);
        let view = Arc::clone(&self.parts.view.borrow());
        let told_by = match view.cluster_id {
            Some(_) => ToldBy::Cluster,
            None if self.from_catalog.load.is_empty() => ToldBy::Nobody,
            None => ToldBy::Catalog,
        };
        let fit = self.readiness.judge(told_by, desired, &observed);
        self.parts.serving.expect(self.expected(desired));
        let unloaded = desired.load.iter().filter(|key| !observed.is_loaded(key));
        let unloaded: Vec<_> = unloaded.cloned().collect();
        let failed = unloaded.iter().filter(|key| self.did_not_load(key));
        let failed: BTreeSet<_> = failed.cloned().collect();
        (self.parts.serving).count_unloaded(failed.len(), unloaded.len() - failed.len());
        self.parts.board.send_modify(|board| {
            board.cluster_id = view.cluster_id;
            board.revision = view.revision;
            board.ready = fit;
            board.missing = desired.missing.iter().cloned().collect();
            board.unloaded = unloaded;
            board.failed = failed;
            let copies = desired
                .cache
                .iter()
                .map(|(key, copy)| (key.clone(), Arc::clone(&copy.record)));
            board.copies = copies.collect();
            board.champions.clone_from(&desired.champions);
            board.moved.clone_from(&desired.moved);
            board.peers.clone_from(&desired.peers);
            board.load_errors.retain(|key, _| desired.load.contains(key));
            board.fetch_errors.retain(|key, _| desired.load.contains(key));
            board.copy_errors.clone_from(&desired.troubled);
            board.defective.clone_from(&self.defective);
            if board.timing.is_none() {
                board.timing.clone_from(&view.timing);
            }
        });
        self.unservable.retain(|key| desired.load.contains(key));
        self.defective.retain(|key| desired.load.contains(key));
        self.answered.extend(observed.active.clone());
        self.answered
            .retain(|model, _| desired.active.contains_key(model));
        self.failures.retain(|job| still_wanted(job, desired));
        let is_verified = |key: &VersionKey| desired.cache.get(key).is_some_and(|c| c.verified.is_some());
        self.parts.replicator.doubts.retain(is_verified);
        self.told.retain(|_, revision| *revision > self.seen);
        self.remember(desired, &view);
    }

    /// Whether a version is no longer only on its way here: it has a defect, or this node failed at it again and again.
    fn did_not_load(&self, key: &VersionKey) -> bool {
        let failed = |job: Job| self.failures.count(&job) >= TRIES;
        self.unservable.contains(key) || failed(Job::Load(key.clone())) || failed(Job::Fetch(key.clone()))
    }

    fn expected(&self, desired: &Desired) -> Expected {
        let wanted = (desired.cache.keys())
            .chain(desired.copy.keys())
            .chain(&desired.missing);
        let board = self.parts.board.borrow();
        let trouble = |key: &VersionKey| {
            let load = board.load_errors.get(key).cloned().map(Trouble::Load);
            // With the files on the own disk nobody waits for the store.
            let is_here = self.cached.get(key) == Some(&Copied::Present);
            let copy = desired.troubled.get(key).filter(|_| !is_here);
            let unserved = !desired.named.contains(key);
            let by_hand = desired.put_aside.contains(key).then_some(Trouble::PutAside);
            by_hand
                .or(load)
                .or_else(|| copy.cloned().map(Trouble::Copy))
                .or_else(|| unserved.then_some(Trouble::Unserved))
        };
        Expected {
            versions: wanted.map(|key| (key.clone(), trouble(key))).collect(),
            active: desired.active.clone(),
        }
    }

    fn remember(&mut self, desired: &Desired, view: &View) {
        if view.cluster_id.is_none() {
            return;
        }
        let rows: Vec<_> = desired
            .cache
            .iter()
            .map(|(key, copy)| self.row(key, copy, desired))
            .collect();
        if rows == self.rows {
            return;
        }
        if let Err(error) = self.parts.catalog.replace(&rows) {
            tracing::warn!(%error, "catalog not written; a restart without coordinators will serve less");
        }
        self.rows = rows;
    }

    /// What answers for a model, or shall where nothing has yet.
    fn answers<'d>(&'d self, model: &ModelName, desired: &'d Desired) -> Option<&'d ModelVersion> {
        self.answered.get(model).or_else(|| desired.active.get(model))
    }

    fn row(&self, key: &VersionKey, copy: &Copy, desired: &Desired) -> CatalogRow {
        CatalogRow {
            cached: self.cached.get(key) == Some(&Copied::Present),
            replica: Some(ReplicaState::Verified),
            // What was asked for by hand is asked for anew after a restart.
            load: desired.load.contains(key) && !desired.asked.contains(key),
            active: self.answers(&key.model, desired) == Some(&key.version),
            ..CatalogRow::new(VersionRecord::clone(&copy.record))
        }
    }
}

/// What the last run should have served, until a coordinator says what is wanted now.
fn remembered(rows: &[CatalogRow]) -> Desired {
    let mut desired = Desired::default();
    for row in rows.iter().filter(|row| row.load || row.active) {
        let key = row.record.key.clone();
        let copy = Copy {
            record: Arc::new(row.record.clone()),
            sources: Vec::new(),
            verified: None,
        };
        desired.cache.insert(key.clone(), copy);
        if row.active {
            let (model, version): (ModelName, ModelVersion) = (key.model.clone(), key.version);
            desired.active.insert(model, version);
        }
        desired.load.insert(key);
    }
    desired
}

fn still_wanted(job: &Job, desired: &Desired) -> bool {
    match job {
        Job::Verify(key) => desired.verify.contains_key(key),
        Job::Copy(key) => desired.copy.contains_key(key),
        Job::Fetch(key) | Job::Recheck(key) => desired.cache.contains_key(key),
        Job::Load(key) => desired.load.contains(key),
        Job::Evict(key) => desired.gone.contains_key(key),
        Job::Unload(_) => true,
    }
}
