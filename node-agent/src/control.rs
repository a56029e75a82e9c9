//! What this agent tells coordinators, as a trait, so that workers are tested without any.

use async_trait::async_trait;
use client::calls::ReplicaReport;
use types::{
    NodeIncarnation, PlanId,
    plan::{DoorClaim, StepKind},
    reason::Refusal,
    replica::{ReplicaKey, ReplicaRecord},
};

/// The reports of an agent. Every call has a deadline of its own and retries only what is safe to retry.
#[async_trait]
pub trait Control: Send + Sync {
    /// Says how far the copy in the own region is.
    async fn report_replica(
        &self,
        key: &ReplicaKey,
        report: &ReplicaReport,
    ) -> Result<ReplicaRecord, Refusal>;

    /// Says how a step of a plan went, as this run of the agent.
    async fn report_step(
        &self,
        plan: PlanId,
        step: StepKind,
        attempt: u32,
        result: Result<&str, &str>,
        doors: &[DoorClaim],
        run: NodeIncarnation,
    ) -> Result<(), Refusal>;
}

#[async_trait]
impl Control for client::Client {
    async fn report_replica(
        &self,
        key: &ReplicaKey,
        report: &ReplicaReport,
    ) -> Result<ReplicaRecord, Refusal> {
        client::Client::report_replica(self, key, report).await
    }

    async fn report_step(
        &self,
        plan: PlanId,
        step: StepKind,
        attempt: u32,
        result: Result<&str, &str>,
        doors: &[DoorClaim],
        run: NodeIncarnation,
    ) -> Result<(), Refusal> {
        client::Client::report_step(self, plan, step, attempt, result, doors, run)
            .await
            .map(drop)
    }
}
