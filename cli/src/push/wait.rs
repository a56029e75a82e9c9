//! After the upload: until an agent has verified the bytes, and until enough regions hold verified copies.

use std::time::Duration;

use client::Client;
use tokio::time::{Instant, sleep, timeout_at};
use types::{
    Reason, RegionId, VersionKey,
    model::{Placement, VersionRecord, VersionState},
    reason::Refusal,
    replica::{ReplicaRecord, ReplicaState},
    units::format_duration,
};

use crate::{args::WaitCopies, error::Failure, exit::Exit, output::note};

/// How often the registry is asked.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The time that a push has for all that it waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    given: Duration,
    end: Instant,
}

impl Limit {
    /// From now on.
    pub(super) fn new(given: Duration) -> Self {
        Self {
            given,
            end: Instant::now() + given,
        }
    }

    /// How much there was.
    pub(super) fn given(&self) -> String {
        format_duration(self.given)
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Asks until somebody says yes or no, or the limit is over: who waits for minutes outlasts a moment without a quorum.
    pub(super) async fn insist<T>(&self, ask: impl AsyncFn() -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.insist_while(ask, |_| true).await
    }

    /// As [`Self::insist`], for the first question: where everybody refuses connections or is somebody else, no cluster runs
    /// there, or another one, and waiting is of no use.
    pub(super) async fn begin<T>(&self, ask: impl AsyncFn() -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.insist_while(ask, |refusal| {
            refusal.operand("heard").is_none_or(|heard| heard == "silence")
        })
        .await
    }

    async fn insist_while<T>(
        &self,
        ask: impl AsyncFn() -> Result<T, Refusal>,
        is_worth: impl Fn(&Refusal) -> bool,
    ) -> Result<T, Refusal> {
        let mut is_told = false;
        loop {
            match Box::pin(ask()).await {
                Err(refusal) if refusal.reason.retryable() && is_worth(&refusal) && !self.is_over() => {
                    if !is_told {
                        let given = format_duration(self.given);
                        note(&format!(
                            "{refusal}; asked again, for {given} in all (--wait-timeout)"
                        ));
                        is_told = true;
                    }
                    sleep(POLL_INTERVAL).await;
                }
                answer => return answer,
            }
        }
    }

    /// Work with a store that ends with the limit, if it has not ended before.
    pub(super) async fn bound<T>(
        &self,
        doing: &str,
        region: &RegionId,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let done = timeout_at(self.end, Box::pin(work)).await;
        done.unwrap_or_else(|_| {
            let given = format_duration(self.given);
            Err(
                late(format!("{doing} to the store of {region} takes longer than {given} (--wait-timeout)"))
                    .remedy("check that the store answers (`regent region list` names it), or give it more time with --wait-timeout"),
            )
        })
    }
}

/// Says that the bytes are there. An answer that was lost is asked for again: the registry then says that it knows.
pub(super) async fn complete(
    client: &Client,
    key: &VersionKey,
    limit: Limit,
) -> Result<VersionRecord, Failure> {
    let asked = limit
        .insist(async || match client.complete_upload(key).await {
            Err(refusal) if refusal.reason == Reason::VersionState => client.get_version(key).await,
            answer => answer,
        })
        .await;
    Ok(asked?)
}

/// Until the version is READY. One that was refused ends with the agent's reason.
pub(super) async fn until_ready(
    client: &Client,
    key: &VersionKey,
    limit: Limit,
) -> Result<VersionRecord, Failure> {
    loop {
        let version = limit.insist(async || client.get_version(key).await).await?;
        match version.state {
            VersionState::Ready | VersionState::Deprecated => return Ok(version),
            VersionState::Deleted => return Err(refused(&version)),
            VersionState::PendingUpload | VersionState::Verifying => {}
        }
        if limit.is_over() {
            let state = version.state;
            let given = format_duration(limit.given);
            return Err(late(format!("{key} is still {state} after {given}"))
                .because(Reason::VersionState)
                .with("version", key)
                .with("state", state)
                .remedy("check that an agent of its source region is up (`regent region list`)"));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// The store's bytes were not what was announced.
fn refused(version: &VersionRecord) -> Failure {
    let message = format!("{} was refused: {}", version.key, version.state_reason);
    Failure::from(Refusal::new(Reason::DigestMismatch, message).with("version", &version.key))
        .remedy("push the directory again: it becomes another version")
}

/// That there are as many regions as copies are waited for; the first question, before anything is sent.
pub(super) async fn check_wanted(client: &Client, wanted: WaitCopies, limit: Limit) -> Result<(), Failure> {
    let regions = limit.begin(async || client.list_regions().await).await?.len();
    let n = match wanted {
        WaitCopies::AtLeast(n) if n > regions => n,
        WaitCopies::AtLeast(_) | WaitCopies::All => return Ok(()),
    };
    let message = format!("--wait-copies {n}: there are {regions} regions");
    Err(Failure::usage(message).remedy(format!("wait for {regions} at most, or for `all`")))
}

/// Until so many regions hold a verified copy.
pub(super) async fn until_copied(
    client: &Client,
    key: &VersionKey,
    wanted: WaitCopies,
    limit: Limit,
) -> Result<(), Failure> {
    let placed = limit.insist(async || placed_regions(client, key).await).await?;
    let needed = match wanted {
        WaitCopies::AtLeast(n) => n,
        WaitCopies::All => placed,
    };
    if needed > placed {
        let message = format!(
            "--wait-copies {needed}: {} is placed in {placed} regions",
            key.model
        );
        return Err(Failure::usage(message).remedy("the version is registered, and copying goes on"));
    }
    loop {
        let replicas = limit
            .insist(async || client.list_replicas(Some(&key.model), None).await)
            .await?;
        let of_version: Vec<&ReplicaRecord> = replicas.iter().filter(|r| &r.key.version == key).collect();
        let verified = of_version
            .iter()
            .filter(|r| r.state == ReplicaState::Verified)
            .count();
        if verified >= needed {
            return Ok(());
        }
        if limit.is_over() {
            let missing = of_version.iter().filter(|r| r.state != ReplicaState::Verified);
            let missing: Vec<String> = missing
                .map(|r| format!("{} {} {}", r.key.region, r.state, r.error))
                .collect();
            return Err(late(format!(
                "{key} has verified copies in {verified} of {needed} regions after {}: {}",
                format_duration(limit.given),
                missing.join(", ")
            ))
            .remedy("the version is registered and copying goes on: `regent replication status` shows how far it is"));
        }
        sleep(POLL_INTERVAL).await;
    }
}

async fn placed_regions(client: &Client, key: &VersionKey) -> Result<usize, Refusal> {
    let (model, _) = client.get_model(&key.model).await?;
    Ok(match model.placement {
        Placement::Regions(regions) => regions.len(),
        Placement::Everywhere => client.list_regions().await?.len(),
    })
}

pub(super) fn late(message: String) -> Failure {
    Failure::new(Exit::Unavailable, message)
}
