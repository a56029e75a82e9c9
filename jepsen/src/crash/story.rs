//! One run: write, kill, look, again and again.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use client::Client;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::time::{Instant, sleep, timeout};
use types::{ModelName, RegionId, model::ArtifactPath};

use super::{
    Crash, Crashes, Plan, Unsynced,
    nodes::{AtRisk, Nodes},
};
use crate::load::{
    judge::{self, Write},
    writers::{Book, Writers},
};

/// How long anything may take: a cluster to elect, so many writes, a list.
const PATIENCE: Duration = Duration::from_secs(300);
/// One call, before it is made again.
const DEADLINE: Duration = Duration::from_secs(10);
/// One coordinator, before the next is asked.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How many write at a time.
const WRITERS: usize = 32;
/// A crash comes up to so long after enough was written.
const DELAY_MILLIS_MAX: u64 = 60;
/// Where bytes are to be lost, the crash waits so long for some to be there.
const UNSYNCED_WITHIN: Duration = Duration::from_secs(20);
/// Acknowledged writes that are asked for again after each crash.
const ASKED_AGAIN: usize = 8;

/// What was written between two crashes.
struct Chapter {
    book: Book,
    writes: Vec<Write>,
}

struct Story {
    plan: Plan,
    chance: StdRng,
    nodes: Nodes,
    client: Client,
    region: RegionId,
    chapters: Vec<Chapter>,
    found: Crashes,
}

/// Plays it below `dir`.
pub(super) async fn play(plan: &Plan, dir: &Path) -> anyhow::Result<Crashes> {
    let mut story = Box::pin(Story::begin(plan, dir)).await?;
    for crash in 1..=plan.crashes {
        Box::pin(story.crash(crash)).await?;
    }
    Box::pin(story.end()).await
}

/// Half of the crashes lose what is not synced, and half of those only some of it.
fn unsynced(crash: u32) -> Unsynced {
    match crash % 4 {
        1 => Unsynced::Torn,
        3 => Unsynced::Dropped,
        _ => Unsynced::Kept,
    }
}

impl Story {
    async fn begin(plan: &Plan, dir: &Path) -> anyhow::Result<Self> {
        let entries = plan.writes * usize::try_from(plan.crashes)?;
        // Some snapshots, so that segments are purged and used again, whatever the length of the run.
        let snapshot_after = (entries as u64 / 6).max(200);
        let (nodes, context) = Box::pin(Nodes::found(&plan.regent, dir, snapshot_after)).await?;
        let mut config = context.client_config();
        (config.deadline, config.attempt_timeout) = (DEADLINE, ATTEMPT);
        Ok(Self {
            chance: StdRng::seed_from_u64(plan.seed),
            client: Client::new(config)?,
            region: first_region(dir)?,
            nodes,
            chapters: Vec::new(),
            found: Crashes {
                trial: "crash",
                seed: plan.seed,
                writes_between: plan.writes,
                acknowledged: 0,
                asked_again: 0,
                crashes_unsynced_lost: 0,
                crashes_that_lost_bytes: 0,
                crashes_that_tore_writes: 0,
                tails_cut: 0,
                anomalies: Vec::new(),
                crashes: Vec::new(),
            },
            plan: plan.clone(),
        })
    }

    fn book(&self, crash: u32) -> anyhow::Result<Book> {
        Ok(Book {
            client: self.client.clone(),
            model: ModelName::new(format!("crash.c{crash}"))?,
            region: self.region.clone(),
            file: ArtifactPath::new("weights.bin")?,
        })
    }

    /// Starts everybody, looks at what the crash before left, writes, and kills everybody.
    async fn crash(&mut self, number: u32) -> anyhow::Result<()> {
        let unsynced = unsynced(number);
        self.nodes.start(unsynced, self.chance.random())?;
        let began = Instant::now();
        let book = self.book(number)?;
        let mut writers = Writers::start(&book, WRITERS);
        let first = writers.acknowledged.wait_for(|n| *n > 0);
        timeout(PATIENCE, first)
            .await
            .context("nothing was acknowledged")??;
        let seconds_to_first_write = began.elapsed().as_secs_f64();
        Box::pin(self.look_back()).await?;
        let enough = self.plan.writes + self.chance.random_range(0..=self.plan.writes / 4);
        let written = writers.acknowledged.wait_for(|n| *n >= enough);
        timeout(PATIENCE, written)
            .await
            .context("too little was acknowledged")??;
        let at_risk = Box::pin(self.kill(unsynced)).await?;
        let writes = writers.stop().await?;
        let acknowledged = writes.iter().filter(|w| w.acknowledged.is_some()).count();
        tracing::info!(
            crash = number,
            acknowledged,
            lost = at_risk.lost,
            torn = at_risk.kept,
            seconds_to_first_write,
            "crash"
        );
        self.found.crashes.push(Crash {
            crash: number,
            unsynced,
            acknowledged,
            unanswered: writes.len() - acknowledged,
            applied_unanswered: 0,
            bytes_lost: at_risk.lost,
            bytes_torn: at_risk.kept,
            seconds_to_first_write,
        });
        self.chapters.push(Chapter { book, writes });
        Ok(())
    }

    /// At some moment; where bytes are to be lost, at one at which there are some.
    async fn kill(&mut self, unsynced: Unsynced) -> anyhow::Result<AtRisk> {
        let mut order: Vec<usize> = (0..self.nodes.count()).collect();
        order.shuffle(&mut self.chance);
        let until = Instant::now() + UNSYNCED_WITHIN;
        loop {
            sleep(Duration::from_millis(
                self.chance.random_range(0..=DELAY_MILLIS_MAX),
            ))
            .await;
            if unsynced == Unsynced::Kept {
                self.nodes.kill(&order).await?;
                return Ok(AtRisk::default());
            }
            // What is at risk changes until they stand still.
            self.nodes.freeze().await?;
            if self.nodes.at_risk()?.lost > 0 || Instant::now() > until {
                self.nodes.kill(&order).await?;
                return self.nodes.at_risk();
            }
            self.nodes.thaw()?;
        }
    }

    /// What the last crash left: judged, then asked for again where nobody knows, then judged again.
    async fn look_back(&mut self) -> anyhow::Result<()> {
        let (Some(chapter), Some(crash)) = (self.chapters.last_mut(), self.found.crashes.last_mut()) else {
            return Ok(());
        };
        let (model, book) = (chapter.book.model.to_string(), chapter.book.clone());
        let before = Box::pin(list(&book)).await?;
        let mut wrong = judge::check(&model, &chapter.writes, &before);
        let known = chapter.writes.len() - crash.unanswered;
        let mut again: Vec<usize> = (0..chapter.writes.len()).collect();
        again.sort_by_key(|n| chapter.writes[*n].acknowledged.is_some());
        // Those without an answer come first; of the others some.
        again.truncate(crash.unanswered);
        again.extend((0..ASKED_AGAIN.min(known)).map(|_| self.chance.random_range(0..chapter.writes.len())));
        for n in again {
            let write = &mut chapter.writes[n];
            let asked = book.insist(&write.name, write.request_id);
            let answer = timeout(PATIENCE, Box::pin(asked)).await?;
            let answer = answer.map_err(|refusal| {
                anyhow::anyhow!(
                    "{model}: {} was asked for again and refused: {refusal}",
                    write.name
                )
            });
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    wrong.push(error.to_string());
                    continue;
                }
            };
            wrong.extend(judge::check_again(&model, write, &before, answer));
            let applied = write.acknowledged.is_none() && before.contains_key(&write.name);
            crash.applied_unanswered += usize::from(applied);
            write.acknowledged = Some(answer);
            self.found.asked_again += 1;
        }
        let after = Box::pin(list(&book)).await?;
        wrong.extend(judge::check(&model, &chapter.writes, &after));
        self.found.anomalies.extend(wrong);
        Ok(())
    }

    /// After the last crash everything is looked at once more.
    async fn end(mut self) -> anyhow::Result<Crashes> {
        self.nodes.start(Unsynced::Kept, 0)?;
        Box::pin(self.look_back()).await?;
        for chapter in &self.chapters {
            let found = Box::pin(list(&chapter.book)).await?;
            let wrong = judge::check(chapter.book.model.as_str(), &chapter.writes, &found);
            self.found.anomalies.extend(wrong);
        }
        let order: Vec<usize> = (0..self.nodes.count()).collect();
        self.nodes.kill(&order).await?;
        let mut found = self.found;
        found.tails_cut = self.nodes.tails_cut()?;
        found.acknowledged = found.crashes.iter().map(|c| c.acknowledged).sum();
        let lossy = || found.crashes.iter().filter(|c| c.unsynced != Unsynced::Kept);
        found.crashes_unsynced_lost = lossy().count();
        found.crashes_that_lost_bytes = lossy().filter(|c| c.bytes_lost > 0).count();
        found.crashes_that_tore_writes = lossy().filter(|c| c.bytes_lost > 0 && c.bytes_torn > 0).count();
        if found.crashes_unsynced_lost > 0 && found.crashes_that_lost_bytes == 0 {
            let why = "no crash found un-synced bytes to lose, so the run proves nothing of them";
            found.anomalies.push(why.to_owned());
        }
        Ok(found)
    }
}

/// Once a majority answers.
async fn list(book: &Book) -> anyhow::Result<judge::Found> {
    let until = Instant::now() + PATIENCE;
    loop {
        match Box::pin(book.list()).await {
            Ok(found) => return Ok(found),
            Err(refusal) if Instant::now() >= until => {
                return Err(anyhow::anyhow!("{} cannot be listed: {refusal}", book.model));
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The regions of `regent dev` have stores, and directories.
fn first_region(dir: &Path) -> anyhow::Result<RegionId> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.join("cluster").join("regions"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let first = names.into_iter().min().context("a cluster without regions")?;
    Ok(first.parse()?)
}
