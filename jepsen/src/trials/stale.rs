//! Who goes on under an old token, at every door, and what the doors made of it.
//!
//! The `regent zombie-writer` of the holder's region writes blind to its lease, and goes on when the holder is dead and when it is back.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use chaos::ProcessRef;
use serde::Deserialize;
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};
use types::{Epoch, ModelVersion, RegionId, RoleName, VersionKey};

use super::report::Stale;
use crate::{
    world::{BUCKET, World},
    zombie::{Config, Store},
};

/// How long it may take until every door took a write, and until the writer has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// Writes without an answer after which a door counts as too far.
const UNANSWERED: usize = 3;
/// Between two looks into the log.
const LOOK: Duration = Duration::from_millis(50);

/// One line of the writer's log, as far as it counts here.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    attempt: Option<Attempt>,
}

/// A write under a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Attempt {
    /// When it was sent: microseconds since 1970.
    at: u64,
    door: String,
    shown: Epoch,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Accepted,
    Refused,
    NoEffect,
    Unknown,
}

/// The writer at work.
#[derive(Debug)]
pub(super) struct Zombie {
    child: Child,
    doors: BTreeSet<String>,
    log: PathBuf,
    hold: PathBuf,
}

impl Zombie {
    /// Starts it in a region, asking for tokens for so long at most, and waits until it wrote at every door under this epoch, or found it too far for its deadline.
    pub(super) async fn start(
        world: &World,
        region: &RegionId,
        epoch: Epoch,
        version: &VersionKey,
        token_for: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let dir = world.dir().join("stale").join(uuid::Uuid::now_v7().to_string());
        std::fs::create_dir_all(&dir)?;
        let mut config = config(world, region, version, dir.join("log.jsonl"))?;
        config.token_millis = token_for.and_then(|time| u64::try_from(time.as_millis()).ok());
        let command = config.command(world.regent(), &dir)?;
        let (_, child) = world.spawn_in(command, region).await?;
        let mut zombie = Self {
            child,
            doors: doors(&config),
            log: config.log.clone(),
            hold: config.hold.clone(),
        };
        zombie
            .wait_at_every_door(|attempts, door| is_tried(attempts, door, epoch))
            .await?;
        Ok(zombie)
    }

    async fn wait_at_every_door(&mut self, is_done: impl Fn(&[Attempt], &str) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let attempts = self.attempts()?;
            let missing: Vec<_> = (self.doors.iter())
                .filter(|door| !is_done(&attempts, door))
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the writer under an old token ended by itself: {status}");
            }
            if Instant::now() >= deadline {
                bail!(
                    "nothing came of the writes of the holder at {missing:?}; see {}",
                    self.log.display()
                );
            }
            sleep(LOOK).await;
        }
    }

    /// Leaves the pointer in its own region's store alone until [`Self::go_on`]: from beside that store it writes ten times while a
    /// claim from another continent is under way once, and what is measured would be that race.
    pub(super) fn spare_own_store(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.hold, b"")?)
    }

    /// Writes there again.
    pub(super) fn go_on(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(&self.hold)?)
    }

    fn attempts(&self) -> anyhow::Result<Vec<Attempt>> {
        match std::fs::read_to_string(&self.log) {
            Ok(text) => read(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends it once it tried every door since the role had moved: what came of its writes under `old` since then.
    pub(super) async fn end(mut self, old: Epoch, moved: Duration) -> anyhow::Result<Stale> {
        self.wait_at_every_door(|attempts, door| is_tried_since(attempts, door, old, moved))
            .await?;
        if let Some(status) = self.child.try_wait()? {
            bail!("the writer under an old token ended by itself: {status}");
        }
        let pid = self.child.id().context("a writer without a pid")?;
        ProcessRef::of(pid)?.terminate()?;
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.context("the writer under an old token does not end")??;
        Ok(judge(&self.attempts()?, old, moved))
    }
}

fn config(world: &World, region: &RegionId, version: &VersionKey, log: PathBuf) -> anyhow::Result<Config> {
    let context = world.context()?;
    let store = |(region, endpoint)| {
        let bucket = BUCKET.to_owned();
        (region, Store { endpoint, bucket })
    };
    Ok(Config {
        region: region.clone(),
        role: RoleName::global(),
        version: version.clone(),
        coordinators: context.endpoints,
        token_millis: None,
        hold: log.with_extension("hold"),
        log,
        tls: world.agent_identity(region),
        keys: context.store.context("the context has no keys for the stores")?,
        agents: world.agents()?,
        stores: world.stores()?.into_iter().map(store).collect(),
    })
}

/// Every door, by the names that the writer gives them.
fn doors(config: &Config) -> BTreeSet<String> {
    let agents = config.agents.keys().map(|region| format!("agent/{region}"));
    let pointers = config.stores.keys().map(|region| format!("pointer/{region}"));
    let all = ["registry".to_owned()].into_iter().chain(agents).chain(pointers);
    all.collect()
}

/// The first version of the model that trials push.
pub(super) fn version(model: &types::ModelName) -> VersionKey {
    VersionKey {
        model: model.clone(),
        version: ModelVersion(1),
    }
}

/// A door took a write under this epoch, or left so many unanswered that the writer's deadline of a second is too short for the
/// way there and for what the door asks the leader: over the longest distances that takes about as long.
fn is_tried(attempts: &[Attempt], door: &str, epoch: Epoch) -> bool {
    let count = |outcome| {
        let of_it = |a: &&Attempt| a.door == door && a.shown == epoch && a.outcome == outcome;
        attempts.iter().filter(of_it).count()
    };
    count(Outcome::Accepted) > 0 || count(Outcome::Unknown) >= UNANSWERED
}

/// A door answered a write under this epoch since the role had moved, or left so many unanswered.
fn is_tried_since(attempts: &[Attempt], door: &str, old: Epoch, moved: Duration) -> bool {
    let tried = stale(attempts, old, moved).filter(|a| a.door == door);
    let (unanswered, answered): (Vec<_>, Vec<_>) = tried.partition(|a| a.outcome == Outcome::Unknown);
    !answered.is_empty() || unanswered.len() >= UNANSWERED
}

/// A last line without its end is one that is being written.
fn read(text: &str) -> anyhow::Result<Vec<Attempt>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let attempt = |line: &str| {
        let line: Line = serde_json::from_str(line).with_context(|| line.to_owned())?;
        Ok(line.attempt)
    };
    whole
        .lines()
        .filter_map(|line| attempt(line).transpose())
        .collect()
}

/// What was sent under `old` or an older epoch after the role had moved.
fn stale(attempts: &[Attempt], old: Epoch, moved: Duration) -> impl Iterator<Item = &Attempt> {
    let moved = u64::try_from(moved.as_micros()).unwrap_or(u64::MAX);
    attempts.iter().filter(move |a| a.shown <= old && a.at >= moved)
}

/// Counts it.
fn judge(attempts: &[Attempt], old: Epoch, moved: Duration) -> Stale {
    let stale: Vec<_> = stale(attempts, old, moved).collect();
    let count = |outcome| stale.iter().filter(|a| a.outcome == outcome).count();
    Stale {
        attempted: stale.len(),
        accepted: count(Outcome::Accepted),
        unanswered: count(Outcome::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"token":{"at":100,"epoch":"g1.e3"}}
{"attempt":{"at":200,"took":3,"door":"registry","id":"a","shown":"g1.e3","holder":{},"outcome":"accepted"}}
{"attempt":{"at":290,"took":30,"door":"registry","id":"b","shown":"g1.e3","holder":{},"outcome":"accepted"}}
{"held":{"at":295}}
{"attempt":{"at":300,"took":3,"door":"agent/us","id":"c","shown":"g1.e3","holder":{},"outcome":"refused","named":"g1.e5"}}
{"attempt":{"at":310,"took":3,"door":"agent/eu","id":"d","shown":"g1.e3","holder":{},"outcome":"no_effect"}}
{"attempt":{"at":320,"took":3,"door":"pointer/eu","id":"e","shown":"g1.e3","holder":{},"outcome":"unknown"}}
{"attempt":{"at":330,"took":3,"door":"registry","id":"f","shown":"g1.e5","holder":{},"outcome":"accepted"}}
{"attempt":{"at":340,"#;

    fn judged(log: &str) -> (usize, usize, usize) {
        let old: Epoch = "g1.e3".parse().unwrap();
        let found = judge(&read(log).unwrap(), old, Duration::from_micros(300));
        (found.attempted, found.accepted, found.unanswered)
    }

    #[test]
    fn a_door_is_tried_once_it_took_a_write_or_left_some_unanswered() {
        let (attempts, old) = (read(LOG).unwrap(), "g1.e3".parse().unwrap());
        assert!(is_tried(&attempts, "registry", old));
        assert!(!is_tried(&attempts, "agent/us", old) && !is_tried(&attempts, "pointer/eu", old));
        let silent = LOG
            .replace("no_effect", "unknown")
            .replace("agent/eu", "pointer/eu");
        let silent = silent
            .replace("refused", "unknown")
            .replace("agent/us", "pointer/eu");
        assert!(is_tried(&read(&silent).unwrap(), "pointer/eu", old));
    }

    #[test]
    fn a_door_is_tried_again_once_it_answered_since_the_role_moved() {
        let (attempts, old) = (read(LOG).unwrap(), "g1.e3".parse().unwrap());
        let tried = |door, moved| is_tried_since(&attempts, door, old, Duration::from_micros(moved));
        assert!(tried("agent/us", 300) && tried("agent/eu", 300));
        // Before, under the next epoch, or without an answer.
        assert!(!tried("registry", 291) && !tried("agent/us", 301) && !tried("pointer/eu", 300));
        let silent = LOG
            .replace("agent/us", "pointer/eu")
            .replace("agent/eu", "pointer/eu")
            .replace("refused", "unknown")
            .replace("no_effect", "unknown");
        assert!(is_tried_since(
            &read(&silent).unwrap(),
            "pointer/eu",
            old,
            Duration::from_micros(300)
        ));
    }

    /// What was sent before counts as little as what is sent under the new epoch.
    #[test]
    fn only_writes_under_the_old_epoch_after_the_role_moved_are_stale() {
        assert_eq!(judged(LOG), (3, 0, 1));
    }

    #[test]
    fn one_that_was_accepted_is_counted() {
        let taken = LOG.replace("\"refused\"", "\"accepted\"");
        assert_eq!(judged(&taken), (3, 1, 1));
    }

    #[test]
    fn a_damaged_line_is_no_line_that_is_left_out() {
        assert!(read("{\"attempt\":{}}\n").is_err());
    }
}
