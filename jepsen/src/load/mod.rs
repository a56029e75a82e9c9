//! Writes whose every answer is remembered, while somebody does something to the cluster: `crash`, or a test of the operator's steps.
//!
//! A write announces a version of one model. Numbers of versions are never used twice, so a write that counted twice is two
//! versions; one that was acknowledged is there under its number, and one without an answer once or not at all (I1, I9).
//! Reading order: `judge` (what must hold; pure), `writers`, this file (for who needs no more than the verdict).
//! Absent on purpose: what is done to the cluster.

pub(crate) mod judge;
pub(crate) mod writers;

use std::time::Duration;

use anyhow::Context as _;
use client::Client;
use tokio::time::timeout;
use types::{ModelName, RegionId, model::ArtifactPath};

use self::writers::{Book, Writers};

/// How long so many writes, or a list of them, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    book: Book,
    writers: Writers,
}

/// What they wrote, and what is wrong with what is there of it.
#[derive(Debug)]
pub struct Written {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes that had no answer when the writers were ended.
    pub unanswered: usize,
    /// What should not be; empty is a pass.
    pub anomalies: Vec<String>,
}

impl Load {
    /// Sets so many writers to work on a model of their own. `region` has a store; nobody uploads anything.
    pub fn start(client: Client, model: ModelName, region: RegionId, writers: usize) -> anyhow::Result<Self> {
        let book = Book {
            client,
            model,
            region,
            file: ArtifactPath::new("weights.bin")?,
        };
        let writers = Writers::start(&book, writers);
        Ok(Self { book, writers })
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        *self.writers.acknowledged.borrow()
    }

    /// Waits until so many more are acknowledged than now.
    pub async fn goes_on(&mut self, more: usize) -> anyhow::Result<()> {
        let enough = self.acknowledged() + more;
        let written = self.writers.acknowledged.wait_for(|n| *n >= enough);
        let written = timeout(PATIENCE, written).await;
        written
            .context("too little is acknowledged")?
            .context("the writers ended")?;
        Ok(())
    }

    /// Ends the writers, and judges what a majority has of what they wrote. An error is a refusal that nothing excuses.
    pub async fn end(self) -> anyhow::Result<Written> {
        let writes = self.writers.stop().await?;
        let found = timeout(PATIENCE, Box::pin(self.book.list())).await??;
        let acknowledged = writes.iter().filter(|w| w.acknowledged.is_some()).count();
        Ok(Written {
            acknowledged,
            unanswered: writes.len() - acknowledged,
            anomalies: judge::check(self.book.model.as_str(), &writes, &found),
        })
    }
}
