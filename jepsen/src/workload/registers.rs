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
                client: world.admin_near(region, DEADLINE)?,
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

struct Registers {
    client: Client,
    model: ModelName,
    random: StdRng,
    /// What this client last saw in each register, and its etag.
    seen: BTreeMap<AliasName, (u64, u64)>,
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
                    self.set(&alias, value, None).await
                }
                (2..6, Some((from, etag))) => {
                    process.begin(Action::Swap {
                        register,
                        from,
                        value,
                    });
                    self.set(&alias, value, Some(Revision(etag))).await
                }
                _ => {
                    process.begin(Action::Get { register });
                    self.get(&alias).await
                }
            };
            if let Some(Answer::Held {
                value: Some(value),
                etag,
            }) = process.end(answer)
            {
                self.seen.insert(alias, (value, etag));
            }
        }
    }

    async fn get(&self, alias: &AliasName) -> Result<Answer, Refusal> {
        let all = self.client.list_aliases(&self.model).await?;
        let found = all.iter().find(|record| record.alias == *alias);
        Ok(found.map_or(Answer::Held { value: None, etag: 0 }, held))
    }

    async fn set(
        &mut self,
        alias: &AliasName,
        value: u64,
        etag: Option<Revision>,
    ) -> Result<Answer, Refusal> {
        let key = VersionKey {
            model: self.model.clone(),
            version: ModelVersion(self.random.random_range(1..=VERSIONS)),
        };
        let record = self
            .client
            .set_alias(&key, alias, &value.to_string(), etag)
            .await?;
        Ok(held(&record))
    }
}

fn held(record: &AliasRecord) -> Answer {
    Answer::Held {
        value: record.reason.parse().ok(),
        etag: record.modified.0,
    }
}
