//! Workload `registers`: aliases of a model as registers that are read, written, and written where they are as they were read.
//!
//! Each write carries its own number as the reason, so that whoever reads it knows whose it is; the alias itself moves between two
//! versions. A write that finds the alias where it wants it changes nothing, and its answer shows the older number. Every client asks the
//! coordinator of its own region first, so that reads are answered everywhere.
//! Judged in `check::registers`.

use std::{collections::BTreeMap, time::Duration};

use client::Client;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use types::{AliasName, ModelName, ModelVersion, Revision, VersionKey, model::AliasRecord, reason::Refusal};

use super::process::{Process, Processes};
use crate::{
    history::{Action, Answer},
    world::World,
};

/// The model whose aliases are the registers.
pub(crate) const MODEL: &str = "jepsen.registers";
/// How many versions it has: to point an alias where it points already changes nothing.
pub(crate) const VERSIONS: u64 = 4;
/// Registers; each client uses all of them.
const REGISTERS: u32 = 4;
/// Clients of each region.
const CLIENTS: usize = 3;
/// After this an operation's outcome is unknown.
const DEADLINE: Duration = Duration::from_secs(2);
/// Between the beginnings of two operations of one client.
const INTERVAL: Duration = Duration::from_millis(20);

/// Starts every client; they end with the run.
pub(crate) fn start(world: &World, processes: &mut Processes, seed: u64) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for region in 0..world.regions().len() {
        for _ in 0..CLIENTS {
            let client = Registers {
                client: world.admin_near(region, DEADLINE)?.with_unknown_told(),
                model: ModelName::new(MODEL)?,
                random: StdRng::seed_from_u64(seed.wrapping_add(tasks.len() as u64)),
                seen: BTreeMap::new(),
            };
            tasks.spawn(client.work(processes.next(INTERVAL)));
        }
    }
    Ok(tasks)
}

/// The revision of the last change of a register, when nothing is hurt any more.
pub(crate) async fn last_change(world: &World) -> anyhow::Result<u64> {
    let all = world.admin()?.list_aliases(&ModelName::new(MODEL)?).await?;
    Ok(all.iter().map(|alias| alias.modified.0).max().unwrap_or(0))
}

/// A register as it was seen.
#[derive(Clone, Copy)]
struct Seen {
    value: u64,
    etag: u64,
    version: ModelVersion,
}

struct Registers {
    client: Client,
    model: ModelName,
    random: StdRng,
    /// What this client last saw in each register.
    seen: BTreeMap<AliasName, Seen>,
}

impl Registers {
    async fn work(mut self, mut process: Process) {
        while process.next().await {
            let Ok(alias) = AliasName::new(format!("register-{}", self.random.random_range(0..REGISTERS)))
            else {
                return;
            };
            let register = alias.to_string();
            let value = process.unique();
            let seen = self.seen.get(&alias).copied();
            let answer = match (self.random.random_range(0..10), seen) {
                (0..2, _) => {
                    process.begin(Action::Set { register, value });
                    let version = self.random.random_range(1..=VERSIONS);
                    self.set(&alias, value, ModelVersion(version), None).await
                }
                (
                    2..6,
                    Some(Seen {
                        value: from,
                        etag,
                        version,
                    }),
                ) => {
                    process.begin(Action::Swap {
                        register,
                        from,
                        value,
                    });
                    // To another version than was seen: where that still stands, it is changed.
                    let further = self.random.random_range(1..VERSIONS);
                    let version = ModelVersion((version.0 - 1 + further) % VERSIONS + 1);
                    self.set(&alias, value, version, Some(Revision(etag))).await
                }
                _ => {
                    process.begin(Action::Get { register });
                    self.get(&alias).await
                }
            };
            let (answer, version) = match answer {
                Ok(Some(record)) => (Ok(held(&record)), Some(record.version)),
                Ok(None) => (Ok(Answer::Held { value: None, etag: 0 }), None),
                Err(refusal) => (Err(refusal), None),
            };
            if let (
                Some(Answer::Held {
                    value: Some(value),
                    etag,
                }),
                Some(version),
            ) = (process.end(answer), version)
            {
                let seen = Seen { value, etag, version };
                self.seen.insert(alias, seen);
            }
        }
    }

    /// None before anything was written.
    async fn get(&self, alias: &AliasName) -> Result<Option<AliasRecord>, Refusal> {
        let all = self.client.list_aliases(&self.model).await?;
        Ok(all.into_iter().find(|record| record.alias == *alias))
    }

    async fn set(
        &self,
        alias: &AliasName,
        value: u64,
        version: ModelVersion,
        etag: Option<Revision>,
    ) -> Result<Option<AliasRecord>, Refusal> {
        let key = VersionKey {
            model: self.model.clone(),
            version,
        };
        let value = value.to_string();
        let set = self.client.set_alias(&key, alias, &value, etag);
        set.await.map(Some)
    }
}

fn held(record: &AliasRecord) -> Answer {
    Answer::Held {
        value: record.reason.parse().ok(),
        etag: record.modified.0,
    }
}
