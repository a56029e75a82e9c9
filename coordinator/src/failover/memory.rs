//! Since when this leader has seen each plan as it stands, and each former TTL, by its own monotonic clock.
//!
//! Absent on purpose: the times in the records. They follow the fastest wall clock that ever led, so that a time-out or a
//! cool-down counted by them could last for as long as that clock was ahead. A new leader remembers nothing, and counts
//! from its first look, which is never before its election.

use std::{collections::BTreeMap, time::Duration};

use state::FormerTtl;
use tokio::time::Instant;
use types::{
    PlanId, RoleName,
    plan::{PlanRecord, PlanState, StepKind, StepState},
};

use crate::leases::table::leader_ttl;

/// What a plan stands at; another one begins a new count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    state: PlanState,
    step: Option<(StepKind, u32, StepState)>,
}

impl Standing {
    fn of(plan: &PlanRecord) -> Self {
        let step = plan.current_step().map(|s| (s.kind, s.attempt, s.state));
        Self {
            state: plan.state,
            step,
        }
    }
}

/// The memory of one leadership.
#[derive(Debug, Default)]
pub(super) struct Memory {
    roles: BTreeMap<RoleName, BTreeMap<PlanId, (Standing, Instant)>>,
    ttls: BTreeMap<RoleName, (FormerTtl, Instant)>,
}

impl Memory {
    /// Takes in the plans of a role that still matter; what is not among them is forgotten.
    pub(super) fn look<'a>(
        &mut self,
        role: &RoleName,
        plans: impl Iterator<Item = &'a PlanRecord>,
        now: Instant,
    ) {
        let known = self.roles.remove(role).unwrap_or_default();
        let seen = plans.map(|plan| {
            let standing = Standing::of(plan);
            let since = match known.get(&plan.plan) {
                Some((before, since)) if *before == standing => *since,
                Some(_) | None => now,
            };
            (plan.plan, (standing, since))
        });
        self.roles.insert(role.clone(), seen.collect());
    }

    /// Whether a former TTL of a role is waited out with its drift: nobody can believe in a lease of it any more, also of an
    /// earlier leader, since this one had applied the entry that shortened it when it saw it here first (L8).
    pub(super) fn waited_out(&mut self, role: &RoleName, former: Option<FormerTtl>, now: Instant) -> bool {
        let Some(former) = former else {
            self.ttls.remove(role);
            return false;
        };
        let since = match self.ttls.get(role) {
            Some((before, since)) if *before == former => *since,
            Some(_) | None => now,
        };
        self.ttls.insert(role.clone(), (former, since));
        now.saturating_duration_since(since) >= leader_ttl(former.ttl)
    }

    /// How long a plan has stood as it did at the last look; nothing of one that was not there.
    pub(super) fn age(&self, plan: &PlanRecord, now: Instant) -> Duration {
        let seen = self.roles.get(&plan.role).and_then(|plans| plans.get(&plan.plan));
        seen.map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }
}
