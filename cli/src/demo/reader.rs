//! Readers of the revived region's pointer: programs that ask an agent for it, as any program does that follows one (I5).
//!
//! Absent on purpose: a rule for what may be used. The agent decides, from what it knows; the epoch that the demo saw committed
//! before it asked stands in the record beside the answer, and the checker compares the two.

use std::time::Duration;

use artifact_store::keys;
use client::{AgentClient, agents::Pointer};
use tokio_util::sync::CancellationToken;
use types::{Epoch, Reason, RegionId, RoleName, reason::Refusal};

use super::{
    doors::{agent_door, pointer_door},
    micros::Micros,
    record::PointerRead,
    s3::{Bucket, NoAnswer},
    stage::Stage,
};
use crate::error::Failure;

/// Time for one answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often each agent is asked.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long after the region's start a reader goes on without being given the pointer: a claim that comes later than it may
/// is then seen as late, not as never.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the store is asked until it answers.
const LOOK: Duration = Duration::from_millis(10);

/// One agent's reader.
pub(super) struct Reader {
    agent: AgentClient,
    name: String,
    role: RoleName,
    region: RegionId,
    committed: Epoch,
}

/// A reader at each agent, of the pointer in `region`'s store; `committed` was seen committed.
pub(super) fn all(stage: &Stage, region: &RegionId, committed: Epoch) -> Result<Vec<Reader>, Failure> {
    let tls = stage.cluster.context()?.client_config().tls;
    let reader = |at: &RegionId| {
        let url = stage.cluster.region(at)?.agent.listen.agent_url();
        let url = url.ok_or_else(|| Failure::other(format!("the agent of {at} does not listen")))?;
        Ok(Reader {
            agent: AgentClient::new(&url, &tls, DEADLINE)?,
            name: agent_door(at),
            role: stage.role.clone(),
            region: region.clone(),
            committed,
        })
    };
    stage.cluster.regions().iter().map(reader).collect()
}

/// Until the region has started and each reader was given the pointer, or its patience is over.
pub(super) async fn until_used(readers: &[Reader], started: &CancellationToken) -> Vec<PointerRead> {
    let reads = readers.iter().map(|reader| reader.until_used(started));
    futures::future::join_all(reads).await.concat()
}

impl Reader {
    async fn until_used(&self, started: &CancellationToken) -> Vec<PointerRead> {
        let mut seen: Vec<PointerRead> = Vec::new();
        let patience = patience(started);
        tokio::pin!(patience);
        loop {
            let answer = self.agent.read_pointer(&self.role, &self.region).await;
            seen.extend(self.seen(answer));
            if started.is_cancelled() && seen.last().is_some_and(|read| read.used) {
                return seen;
            }
            tokio::select! {
                () = &mut patience => return seen,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    fn seen(&self, answer: Result<Option<Pointer>, Refusal>) -> Option<PointerRead> {
        let (found, id, used) = judged(answer)?;
        Some(PointerRead {
            at: Micros::now(),
            door: pointer_door(&self.region),
            reader: self.name.clone(),
            found,
            id,
            committed: self.committed,
            used,
        })
    }
}

/// What an answer says of the pointer: its epoch, its nonce, and whether it was given out. Nothing where it was not seen.
fn judged(answer: Result<Option<Pointer>, Refusal>) -> Option<(Epoch, Option<String>, bool)> {
    match answer {
        Ok(pointer) => pointer.map(|pointer| (pointer.token.epoch, Some(pointer.nonce), true)),
        Err(refusal) if refusal.reason == Reason::StaleEpoch => {
            let shown = refusal.operand("shown")?.parse().ok()?;
            Some((shown, None, false))
        }
        Err(_) => None,
    }
}

/// Sees the store return, without the code under test.
pub(super) struct Lookout {
    bucket: Bucket,
    key: String,
}

impl Lookout {
    /// Asks for the pointer in this region's store.
    pub(super) async fn new(stage: &mut Stage, region: &RegionId) -> Result<Self, Failure> {
        Ok(Self {
            key: keys::pointer(&stage.role).to_string(),
            bucket: stage.bucket(region).await?,
        })
    }

    /// When the store answered first, whatever it said.
    pub(super) async fn first_answer(&self, started: &CancellationToken) -> Option<Micros> {
        let answered = async {
            while let Err(NoAnswer { never_sent: true, .. }) = self.bucket.get(&self.key).await {
                tokio::time::sleep(LOOK).await;
            }
            Micros::now()
        };
        tokio::select! {
            at = answered => Some(at),
            () = patience(started) => None,
        }
    }
}

async fn patience(started: &CancellationToken) {
    started.cancelled().await;
    tokio::time::sleep(PATIENCE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(epoch: Epoch) -> Pointer {
        let text = format!(
            r#"{{"cluster_id":"{}","role":"primaries/global","epoch":"{epoch}","holder":{{"region":"west","node":"a1","incarnation":"{}"}}}}"#,
            types::ClusterId::from_u128(1),
            types::NodeIncarnation::from_u128(1),
        );
        Pointer {
            token: serde_json::from_str(&text).unwrap(),
            sequence: 1,
            nonce: "n".to_owned(),
            target: None,
            tombstone: false,
        }
    }

    /// What an agent gives out counts as used, whatever the demo thinks of its epoch.
    #[test]
    fn the_agent_decides_what_is_used() {
        let (old, new) = (Epoch::new(1, 1), Epoch::new(1, 3));
        for epoch in [old, new] {
            let given = judged(Ok(Some(pointer(epoch))));
            assert_eq!(given, Some((epoch, Some("n".to_owned()), true)));
        }
        let stale = Refusal::new(Reason::StaleEpoch, "")
            .with("shown", old)
            .with("current", new);
        assert_eq!(judged(Err(stale)), Some((old, None, false)));
        assert_eq!(judged(Err(Refusal::new(Reason::NoQuorum, ""))), None);
        assert_eq!(judged(Ok(None)), None);
    }
}
