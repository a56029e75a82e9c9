//! The databases of this agent's config: which of them are fencing doors, and raising their epochs (L17).
//!
//! Each is probed at start, as a store is (L16), and again from time to time: people change rights and tables, and a standby
//! that took the place of its primary may lack the last raise. What the probe saw is a binding; another one is another door,
//! which is claimed anew.
//! Absent on purpose: whose epoch is raised, and when ([`crate::roles`], [`crate::raise`]).
//! Invariant: a database that was not probed yet, or failed, is never told as claimed.

#[cfg(feature = "postgres")]
mod open;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use client::{Complaint, retry};
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use types::{DatabaseName, Epoch, FencingToken, Lineage, RoleName};

use crate::{board::Board, claim::Claim, config::PostgresSection, metrics::Metrics};

#[cfg(not(feature = "postgres"))]
use absent::open;
#[cfg(feature = "postgres")]
use open::open;

/// Time for one probe.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// How often a database is probed again that was probed.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// First wait after a probe that said nothing; doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(200);
/// Longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often a probe may fail before it is said: both ends may be starting.
const STARTING: u32 = 3;

/// One database.
#[async_trait]
pub trait Database: Send + Sync {
    /// Installs what guards, where it is missing, and looks whether it holds.
    ///
    /// # Errors
    /// Why nothing can be said of it yet, in words.
    async fn probe(&self, roles: &BTreeSet<RoleName>, limit: Duration) -> Result<(Probed, Fences), String>;

    /// Brings the role's fence under the token, within `limit`, also over one of a cluster that the token's goes on from; also how
    /// many connections had to be ended for it.
    async fn raise(&self, token: &FencingToken, lineage: &Lineage, limit: Duration) -> (Claim, usize);
}

/// Where the fences of a database stand, by role.
pub type Fences = BTreeMap<String, Epoch>;

/// What a probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Which database answered, and which run of it: another one may have forgotten what this one was told.
    pub incarnation: (i64, i32),
    /// Why it is no fencing door; empty if it is one.
    pub unfit: Vec<String>,
    /// What people should know all the same.
    pub remarks: Vec<String>,
}

/// A database as a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseBinding {
    /// The roles that guard tables of it.
    pub roles: BTreeSet<RoleName>,
    /// What the last probe saw; none before the first one that saw anything.
    pub probed: Option<Probed>,
    /// How often a fence was seen to have sunk: its database was put back to an older state, and what it was told since is
    /// forgotten.
    pub restored: u32,
}

impl DatabaseBinding {
    /// Why a claim of it fences nothing; none where it does.
    pub fn why_no_door(&self) -> Option<String> {
        match &self.probed {
            None => Some("it was not probed yet".to_owned()),
            Some(probed) if probed.unfit.is_empty() => None,
            Some(probed) => Some(format!(
                "the database is no fencing door: {}",
                probed.unfit.join("; ")
            )),
        }
    }
}

/// The bindings by name.
pub type Bindings = BTreeMap<DatabaseName, DatabaseBinding>;

/// The databases; clones share what is known of them.
#[derive(Clone)]
pub struct Databases {
    all: Arc<BTreeMap<DatabaseName, Arc<dyn Database>>>,
    bindings: watch::Sender<Arc<Bindings>>,
    metrics: Metrics,
    again: Duration,
}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.keys()).finish()
    }
}

impl Databases {
    /// Takes what the config says; connects nowhere yet.
    ///
    /// # Errors
    /// A section that cannot be used: which, and what to write instead.
    pub fn new(sections: &[PostgresSection], metrics: Metrics) -> Result<Self, String> {
        let mut all = Vec::new();
        for section in sections {
            let database = open(section).map_err(|why| format!("postgres {}: {why}", section.name))?;
            all.push((section.name.clone(), section.roles.clone(), database));
        }
        Ok(Self::of(all, metrics))
    }

    /// These.
    pub fn of(all: Vec<(DatabaseName, BTreeSet<RoleName>, Arc<dyn Database>)>, metrics: Metrics) -> Self {
        let binding = |roles: &BTreeSet<RoleName>| DatabaseBinding {
            roles: roles.clone(),
            probed: None,
            restored: 0,
        };
        let bindings = all.iter().map(|(name, roles, _)| (name.clone(), binding(roles)));
        let bindings = watch::Sender::new(Arc::new(bindings.collect()));
        let all = all.into_iter().map(|(name, _, database)| (name, database));
        Self {
            all: Arc::new(all.collect()),
            bindings,
            metrics,
            again: PROBE_EVERY,
        }
    }

    /// With another time between two probes.
    #[cfg(test)]
    pub(crate) fn probed_every(self, again: Duration) -> Self {
        Self { again, ..self }
    }

    /// What is known of each, as it changes.
    pub fn bindings(&self) -> watch::Receiver<Arc<Bindings>> {
        self.bindings.subscribe()
    }

    /// Raises a role's epoch in a database of this agent's.
    pub(crate) async fn raise(
        &self,
        name: &DatabaseName,
        token: &FencingToken,
        lineage: &Lineage,
        limit: Duration,
    ) -> Claim {
        let Some(database) = self.all.get(name) else {
            return Claim::Unusable(format!("no database {name} in this agent's config"));
        };
        let (claim, ended) = database.raise(token, lineage, limit).await;
        self.metrics.database_ended(name, ended);
        claim
    }

    /// Probes each of them until `stop`, and says on the board how they stand.
    pub async fn run(self, board: watch::Sender<Board>, stop: CancellationToken) {
        let mut probes = JoinSet::new();
        for (name, database) in self.all.iter() {
            let watching = Watching {
                name: name.clone(),
                database: Arc::clone(database),
                databases: self.clone(),
                board: board.clone(),
            };
            probes.spawn(stop.clone().run_until_cancelled_owned(watching.run()));
        }
        while probes.join_next().await.is_some() {}
    }
}

/// Looks after one database.
struct Watching {
    name: DatabaseName,
    database: Arc<dyn Database>,
    databases: Databases,
    board: watch::Sender<Board>,
}

impl Watching {
    async fn run(self) {
        let mut highest = Fences::new();
        let mut failures: u32 = 0;
        let mut complaint = Complaint::after(STARTING);
        let roles = self.roles();
        loop {
            let wait = match self.database.probe(&roles, PROBE_LIMIT).await {
                Ok((probed, fences)) => {
                    failures = 0;
                    complaint = Complaint::after(1);
                    let sunk = has_sunk(&highest, &fences);
                    highest = fences;
                    self.saw(probed, sunk);
                    self.databases.again
                }
                Err(why) => {
                    if let Some(why) = complaint.news("", &why) {
                        tracing::warn!(database = %self.name, "database not probed: {why}");
                    }
                    self.tell(Err(why));
                    failures += 1;
                    WAIT_MIN.saturating_mul(1 << failures.min(5)).min(WAIT_MAX)
                }
            };
            sleep(retry::jittered(wait)).await;
        }
    }

    fn roles(&self) -> BTreeSet<RoleName> {
        let bindings = self.databases.bindings.borrow();
        bindings
            .get(&self.name)
            .map(|b| b.roles.clone())
            .unwrap_or_default()
    }

    /// Takes what a probe saw; says it once.
    fn saw(&self, probed: Probed, sunk: bool) {
        self.databases
            .metrics
            .database_fit(&self.name, probed.unfit.is_empty());
        self.tell(match probed.unfit.as_slice() {
            [] => Ok(["a fencing door".to_owned()]
                .into_iter()
                .chain(probed.remarks.clone())
                .collect::<Vec<_>>()
                .join("; ")),
            unfit => Err(format!("no fencing door: {}", unfit.join("; "))),
        });
        self.databases.bindings.send_if_modified(|bindings| {
            let binding = Arc::make_mut(bindings).get_mut(&self.name);
            let Some(binding) = binding.filter(|b| sunk || b.probed.as_ref() != Some(&probed)) else {
                return false;
            };
            if sunk {
                tracing::warn!(database = %self.name, "a fence has sunk: the database was put back, and is claimed anew");
                binding.restored = binding.restored.wrapping_add(1);
            }
            say(&self.name, &probed);
            binding.probed = Some(probed);
            true
        });
    }

    fn tell(&self, standing: Result<String, String>) {
        self.board.send_if_modified(|board| {
            let before = board.databases.insert(self.name.clone(), standing.clone());
            before.as_ref() != Some(&standing)
        });
    }
}

/// Whether a fence is gone, or stands lower than it did: epochs only rise, so what stands there is from before.
fn has_sunk(before: &Fences, now: &Fences) -> bool {
    before
        .iter()
        .any(|(role, epoch)| now.get(role).is_none_or(|found| found < epoch))
}

fn say(database: &DatabaseName, probed: &Probed) {
    if probed.unfit.is_empty() {
        tracing::info!(%database, "database attached: it refuses writes under epochs that are over");
    }
    for why in &probed.unfit {
        tracing::warn!(%database, "database guards nothing: {why}");
    }
    for remark in &probed.remarks {
        tracing::warn!(%database, "{remark}");
    }
}

/// A build without the adapter.
#[cfg(not(feature = "postgres"))]
mod absent {
    use std::sync::Arc;

    use super::Database;
    use crate::config::PostgresSection;

    /// Says so.
    pub(super) fn open(_: &PostgresSection) -> Result<Arc<dyn Database>, String> {
        Err("this build speaks to no database; build with the feature postgres".to_owned())
    }
}
