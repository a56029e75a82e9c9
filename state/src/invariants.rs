//! What must be true of every state, and of every step from one to the next; one function each, named as a sentence.
//!
//! They run after every apply in tests, and when a snapshot is read. A broken one stops the replica: diverging is worse.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    AliasName, Holder, ModelName, ModelVersion, VersionKey,
    history::HealthSubject,
    model::VersionState,
    plan::{PlanState, StepKind, StepState},
    region::{NodeKind, NodeRecord, NodeStatus},
    replica::{ReplicaRecord, ReplicaState},
    service::ServiceRecord,
};

use crate::{apply::standing, state::ControlState};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {detail}")]
pub struct Broken {
    /// The invariant's name, a sentence with underscores.
    pub invariant: &'static str,
    /// Where it does not hold.
    pub detail: String,
}

/// An invariant's name, and where it does not hold.
pub(crate) type Verdict = (&'static str, Result<(), String>);
type Check = fn(&ControlState) -> Result<(), String>;
type StepCheck = fn(&ControlState, &ControlState) -> Result<(), String>;

macro_rules! named {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as _)),*] };
}

impl ControlState {
    /// That this state is possible.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        first_broken(self.judged())
    }

    /// What each invariant says of this state.
    pub(crate) fn judged(&self) -> impl Iterator<Item = Verdict> + '_ {
        let checks: [(&'static str, Check); 23] = named![
            records_stand_under_their_own_keys,
            nothing_was_modified_after_the_last_revision,
            every_region_joined_once,
            every_node_is_in_a_region,
            no_node_runs_as_a_superseded_run,
            every_version_has_a_model_and_a_number_that_was_given_out,
            every_alias_points_at_a_version_that_is_served,
            every_model_with_a_served_version_was_published,
            every_replica_belongs_to_a_version_and_a_region,
            a_ready_version_is_verified_somewhere_or_was,
            a_role_has_a_holder_only_under_an_issued_epoch,
            a_reservation_belongs_to_a_running_plan_and_is_the_highest_epoch,
            a_role_has_one_running_plan_at_most,
            every_plan_is_found_by_its_role,
            steps_run_in_order_and_one_at_a_time,
            remembered_requests_stand_above_the_floor,
            every_experiment_divides_all_users_as_its_percents_say,
            every_arm_of_a_running_experiment_can_be_served,
            every_dependent_is_found_by_its_dataset,
            every_service_is_as_its_node_stands,
            every_service_is_found_by_its_node,
            every_alias_points_where_its_last_deployment_put_it,
            everything_stands_as_its_last_change_of_health_says,
        ];
        checks.into_iter().map(|(name, check)| (name, check(self)))
    }
}

/// That `after` may follow `before`.
pub fn check_transition(before: &ControlState, after: &ControlState) -> Result<(), Broken> {
    first_broken(judged_step(before, after))
}

/// What each invariant says of the step from `before` to `after`.
pub(crate) fn judged_step<'a>(
    before: &'a ControlState,
    after: &'a ControlState,
) -> impl Iterator<Item = Verdict> + 'a {
    let checks: [(&'static str, StepCheck); 11] = named![
        time_and_revision_never_go_back,
        the_cluster_keeps_its_name,
        nothing_that_must_stay_is_gone,
        who_is_gone_was_down_and_held_nothing,
        a_region_that_is_gone_had_nothing_in_it,
        an_epoch_never_decreases,
        a_change_of_holder_takes_a_higher_epoch,
        an_epoch_is_never_issued_twice,
        a_version_is_immutable_and_goes_one_way,
        an_attempt_never_decreases,
        an_experiment_keeps_its_arms_and_ends_once,
    ];
    checks
        .into_iter()
        .map(move |(name, check)| (name, check(before, after)))
}

fn first_broken(verdicts: impl Iterator<Item = Verdict>) -> Result<(), Broken> {
    for (invariant, result) in verdicts {
        result.map_err(|detail| Broken { invariant, detail })?;
    }
    Ok(())
}

fn require(holds: bool, detail: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(detail()) }
}

fn records_stand_under_their_own_keys(s: &ControlState) -> Result<(), String> {
    let wrong = s.regions.iter().any(|(k, r)| k != &r.region)
        || s.nodes.iter().any(|(k, r)| k != &r.node)
        || s.models.iter().any(|(k, r)| k != &r.name)
        || s.versions.iter().any(|(k, r)| k != &r.key)
        || s.aliases
            .iter()
            .any(|(k, r)| k != &(r.model.clone(), r.alias.clone()))
        || s.replicas.iter().any(|(k, r)| k != &r.key)
        || s.roles.iter().any(|(k, r)| k != &r.record.role)
        || s.plans.iter().any(|(k, r)| k != &r.plan)
        || s.experiments
            .iter()
            .any(|(k, r)| k != &(r.model.clone(), r.name.clone()))
        || s.services.iter().any(|(k, r)| k != &r.key)
        || s.preferences.iter().any(|(k, r)| k != &r.principal)
        || s.deployments
            .iter()
            .any(|(k, r)| k != &(r.model.clone(), r.revision))
        || s.health_changes
            .iter()
            .any(|(k, r)| k != &(r.subject.clone(), r.revision));
    require(!wrong, || "a record stands under another key".to_owned())
}

fn nothing_was_modified_after_the_last_revision(s: &ControlState) -> Result<(), String> {
    let modified = (s.regions.values().map(|r| r.modified))
        .chain(s.nodes.values().map(|r| r.modified))
        .chain(s.models.values().map(|r| r.modified))
        .chain(s.versions.values().map(|r| r.modified))
        .chain(s.aliases.values().map(|r| r.modified))
        .chain(s.replicas.values().map(|r| r.modified))
        .chain(s.roles.values().map(|r| r.record.modified))
        .chain(s.plans.values().map(|r| r.modified))
        .chain(s.experiments.values().map(|r| r.modified))
        .chain(s.services.values().map(|r| r.modified))
        .chain(s.preferences.values().map(|r| r.modified))
        .chain(s.deployments.values().map(|r| r.revision))
        .chain(s.health_changes.values().map(|r| r.revision));
    let newest = modified.max().unwrap_or_default();
    require(newest <= s.revision, || format!("{newest} > {}", s.revision))
}

fn every_region_joined_once(s: &ControlState) -> Result<(), String> {
    let joined: BTreeSet<_> = s.join_order.iter().collect();
    let same = joined.len() == s.join_order.len() && joined.into_iter().eq(s.regions.keys());
    require(same, || format!("joined {:?}", s.join_order))
}

fn every_node_is_in_a_region(s: &ControlState) -> Result<(), String> {
    // Who was taken out stands nowhere.
    let serves = |n: &&NodeRecord| n.kind != NodeKind::Witness && n.status != NodeStatus::Removed;
    let mut serving = s.nodes.values().filter(serves);
    let lost = serving.find(|n| !s.regions.contains_key(&n.region));
    require(lost.is_none(), || format!("{lost:?}"))
}

fn no_node_runs_as_a_superseded_run(s: &ControlState) -> Result<(), String> {
    for (node, runs) in s.superseded.iter() {
        let current = s.nodes.get(node).map(|n| n.incarnation);
        require(current.is_some_and(|run| !runs.contains(&run)), || {
            format!("{node} runs as {current:?}")
        })?;
    }
    Ok(())
}

fn every_version_has_a_model_and_a_number_that_was_given_out(s: &ControlState) -> Result<(), String> {
    let given_out = |key: &VersionKey| {
        let model = s.models.get(&key.model);
        model.is_some_and(|m| key.version < m.next_version && key.version > ModelVersion(0))
    };
    let lost = s.versions.keys().find(|k| !given_out(k));
    require(lost.is_none(), || format!("{lost:?}"))
}

fn every_alias_points_at_a_version_that_is_served(s: &ControlState) -> Result<(), String> {
    for alias in s.aliases.values() {
        let key = VersionKey {
            model: alias.model.clone(),
            version: alias.version,
        };
        let served = s.versions.get(&key).is_some_and(|v| v.is_replicated());
        require(served, || format!("{} points at {key}", alias.alias))?;
    }
    Ok(())
}

fn every_model_with_a_served_version_was_published(s: &ControlState) -> Result<(), String> {
    let mut served = s.versions.values().filter(|v| v.is_replicated());
    let lost = served.find(|v| !s.published.contains_key(&v.key.model));
    require(lost.is_none(), || format!("{lost:?}"))
}

fn every_replica_belongs_to_a_version_and_a_region(s: &ControlState) -> Result<(), String> {
    for key in s.replicas.keys() {
        let version = s.versions.get(&key.version);
        let wanted = version.is_some_and(|v| match v.state {
            VersionState::Verifying => v.source_region == key.region,
            VersionState::Ready | VersionState::Deprecated => true,
            VersionState::PendingUpload | VersionState::Deleted => false,
        });
        require(wanted && s.regions.contains_key(&key.region), || key.to_string())?;
    }
    Ok(())
}

/// A verified copy may be found damaged later; its record then says when it was complete.
fn a_ready_version_is_verified_somewhere_or_was(s: &ControlState) -> Result<(), String> {
    let untimed = |r: &&ReplicaRecord| r.state == ReplicaState::Verified && r.completed_at.is_none();
    let untimed = s.replicas.values().find(untimed);
    require(untimed.is_none(), || format!("{untimed:?} has no time"))?;
    // Both come in the order of versions, so one walk over each will do.
    let completed = s.replicas.values().filter(|r| r.completed_at.is_some());
    let mut verified = completed.map(|r| &r.key.version).peekable();
    let mut ready = s.versions.values().filter(|v| v.is_replicated()).map(|v| &v.key);
    let lost = ready.find(|key| {
        while verified.next_if(|other| other < key).is_some() {}
        verified.peek() != Some(key)
    });
    require(lost.is_none(), || format!("{lost:?}"))
}

fn a_role_has_a_holder_only_under_an_issued_epoch(s: &ControlState) -> Result<(), String> {
    for role in s.roles.values() {
        let r = &role.record;
        let issued = r.epoch <= role.highest_epoch && (r.holder.is_none() || r.epoch.counter() > 0);
        require(issued, || {
            format!("{} at {}, highest {}", r.role, r.epoch, role.highest_epoch)
        })?;
        // So a promotion, which takes the epoch after the highest, also takes the one after its role's.
        let newest = r.holder.is_none() || r.epoch == role.highest_epoch;
        require(newest, || {
            format!("{} is held at {} below {}", r.role, r.epoch, role.highest_epoch)
        })?;
        let agent = r
            .holder
            .as_ref()
            .and_then(|h| s.nodes.get(&h.node).map(|n| n.region == h.region));
        require(agent != Some(false), || {
            format!("{} is held from a wrong region", r.role)
        })?;
    }
    Ok(())
}

fn a_reservation_belongs_to_a_running_plan_and_is_the_highest_epoch(s: &ControlState) -> Result<(), String> {
    for role in s.roles.values() {
        let Some(reservation) = &role.record.reservation else {
            continue;
        };
        let plan = s.plans.get(&reservation.plan);
        let running = plan.is_some_and(|p| {
            p.state == PlanState::Running
                && p.role == role.record.role
                && p.target == reservation.target
                && p.target_epoch == Some(reservation.epoch)
        });
        let highest = reservation.epoch == role.highest_epoch && reservation.epoch > role.record.epoch;
        require(running && highest && role.record.holder.is_none(), || {
            format!("{reservation:?}")
        })?;
    }
    Ok(())
}

fn a_role_has_one_running_plan_at_most(s: &ControlState) -> Result<(), String> {
    let mut running = BTreeMap::new();
    for plan in s.plans.values().filter(|p| p.state == PlanState::Running) {
        let other = running.insert(&plan.role, plan.plan);
        require(other.is_none(), || format!("{} and {other:?}", plan.plan))?;
        let newest = s.plans_of(&plan.role).next_back().map(|p| p.plan);
        require(newest == Some(plan.plan), || {
            format!("{newest:?} began while {} ran", plan.plan)
        })?;
        require(s.roles.contains_key(&plan.role), || {
            format!("{} moves no role", plan.plan)
        })?;
    }
    Ok(())
}

fn every_plan_is_found_by_its_role(s: &ControlState) -> Result<(), String> {
    let missing = s
        .plans
        .values()
        .find(|p| !s.plans_of.contains(&(p.role.clone(), p.plan)));
    require(missing.is_none() && s.plans_of.len() == s.plans.len(), || {
        format!("{missing:?}, {} of {}", s.plans_of.len(), s.plans.len())
    })
}

fn steps_run_in_order_and_one_at_a_time(s: &ControlState) -> Result<(), String> {
    for plan in s.plans.values() {
        let kinds = plan.steps.iter().map(|step| step.kind);
        require(kinds.eq(StepKind::of(plan.kind).iter().copied()), || {
            format!("steps of {}", plan.plan)
        })?;
        let behind = plan
            .steps
            .iter()
            .skip_while(|step| step.state == StepState::Done)
            .skip(1);
        let waiting = behind
            .into_iter()
            .all(|step| step.state == StepState::Waiting && step.attempt == 0);
        require(waiting, || format!("a later step of {} has begun", plan.plan))?;
        let all_done = plan.current_step().is_none();
        require(all_done == (plan.state == PlanState::Succeeded), || {
            format!("{} is {}", plan.plan, plan.state)
        })?;
        let ended = plan.finished_at.is_some();
        require(ended == (plan.state != PlanState::Running), || {
            format!("end of {}", plan.plan)
        })?;
    }
    Ok(())
}

fn remembered_requests_stand_above_the_floor(s: &ControlState) -> Result<(), String> {
    let Some(first) = s.requests.answered.first() else {
        return Ok(());
    };
    require(s.requests.floor.is_none_or(|floor| first.id > floor), || {
        first.id.to_string()
    })
}

fn every_experiment_divides_all_users_as_its_percents_say(s: &ControlState) -> Result<(), String> {
    for e in s.experiments.values() {
        let versions: BTreeSet<_> = e.arms.iter().map(|arm| arm.version).collect();
        let divided = e.arms.iter().enumerate();
        let divided = divided
            .into_iter()
            .all(|(at, arm)| e.slots.count(at) == arm.percent as usize);
        let all: u64 = e.arms.iter().map(|arm| u64::from(arm.percent)).sum();
        let once = versions.len() == e.arms.len() && s.models.contains_key(&e.model);
        require(divided && all == 100 && once, || {
            format!("{} of {}", e.name, e.model)
        })?;
        require(e.is_running() == e.ended_at.is_none(), || {
            format!("end of {} of {}", e.name, e.model)
        })?;
    }
    Ok(())
}

fn every_arm_of_a_running_experiment_can_be_served(s: &ControlState) -> Result<(), String> {
    let running = s.experiments.values().filter(|e| e.is_running());
    let mut versions = running.flat_map(|e| e.versions().map(move |key| (e, key)));
    let lost = versions.find(|(_, key)| !s.versions.get(key).is_some_and(|v| v.is_replicated()));
    require(lost.is_none(), || {
        lost.map_or_else(String::new, |(e, key)| format!("{} gives {key}", e.name))
    })
}

fn every_dependent_is_found_by_its_dataset(s: &ControlState) -> Result<(), String> {
    let named: BTreeSet<_> = (s.versions.values())
        .flat_map(|v| v.datasets.iter().map(move |dataset| (dataset, &v.key)))
        .collect();
    let found = s.dependents.iter();
    let found = found.flat_map(|(dataset, versions)| versions.iter().map(move |key| (dataset, key)));
    require(named.iter().copied().eq(found), || {
        format!("{} versions name data sets, and others are found", named.len())
    })
}

fn every_service_is_as_its_node_stands(s: &ControlState) -> Result<(), String> {
    let is_right = |r: &ServiceRecord| {
        let node = s.nodes.get(&r.key.node);
        node.is_some_and(|n| n.region == r.region && standing(r, n) == Some(r.health))
    };
    let wrong = s.services.values().find(|r| !is_right(r));
    require(wrong.is_none(), || format!("{wrong:?}"))
}

fn every_service_is_found_by_its_node(s: &ControlState) -> Result<(), String> {
    let hosted: BTreeSet<_> = s.services.keys().map(|key| (&key.node, key)).collect();
    let found = s.hosted.iter();
    let found = found.flat_map(|(node, keys)| keys.iter().map(move |key| (node, key)));
    let no_empty = s.hosted.values().all(|keys| !keys.is_empty());
    require(no_empty && hosted.iter().copied().eq(found), || {
        format!("{} services, and others are found", hosted.len())
    })
}

fn every_alias_points_where_its_last_deployment_put_it(s: &ControlState) -> Result<(), String> {
    let last: BTreeMap<_, _> = (s.deployments.values())
        .map(|d| ((d.model.clone(), d.alias.clone()), d.to))
        .collect();
    let is_so = |(key, to): &(&(ModelName, AliasName), &Option<ModelVersion>)| {
        s.aliases.get(key).map(|a| a.version) == **to
    };
    let wrong = last.iter().find(|one| !is_so(one));
    require(wrong.is_none(), || format!("{wrong:?}"))
}

fn everything_stands_as_its_last_change_of_health_says(s: &ControlState) -> Result<(), String> {
    let last: BTreeMap<_, _> = s.health_changes.values().map(|c| (&c.subject, c.to)).collect();
    let now = |subject: &HealthSubject| match subject {
        HealthSubject::Region(region) => s.regions.get(region).map(|r| r.health.into()),
        HealthSubject::Node(node) => s.nodes.get(node).map(|n| n.status.into()),
    };
    let wrong = last.iter().find(|(subject, to)| now(subject) != Some(**to));
    require(wrong.is_none(), || format!("{wrong:?}"))
}

fn time_and_revision_never_go_back(a: &ControlState, b: &ControlState) -> Result<(), String> {
    let forward = a.time <= b.time && a.revision <= b.revision && a.requests.floor <= b.requests.floor;
    require(forward, || {
        format!("{} {} to {} {}", a.time, a.revision, b.time, b.revision)
    })
}

fn the_cluster_keeps_its_name(a: &ControlState, b: &ControlState) -> Result<(), String> {
    let name = |s: &ControlState| s.cluster.as_ref().map(|c| (c.cluster_id, c.generation));
    require(a.cluster.is_none() || name(a) == name(b), || {
        format!("{:?} to {:?}", name(a), name(b))
    })
}

fn nothing_that_must_stay_is_gone(a: &ControlState, b: &ControlState) -> Result<(), String> {
    let gone = a.models.keys().any(|k| !b.models.contains_key(k))
        || a.versions.keys().any(|k| !b.versions.contains_key(k))
        || a.roles.keys().any(|k| !b.roles.contains_key(k));
    require(!gone, || "a model, version or role is gone".to_owned())?;
    let stay = a
        .join_order
        .iter()
        .filter(|region| b.regions.contains_key(region));
    let kept = stay.eq(b
        .join_order
        .iter()
        .filter(|region| a.regions.contains_key(region)));
    require(kept, || "the order of joining changed".to_owned())
}

fn who_is_gone_was_down_and_held_nothing(a: &ControlState, b: &ControlState) -> Result<(), String> {
    for node in a.nodes.values().filter(|n| !b.nodes.contains_key(&n.node)) {
        let idle = !holders(a).any(|h| h.node == node.node);
        require(
            node.kind == NodeKind::Agent && node.status == NodeStatus::Down && idle,
            || format!("{node:?}"),
        )?;
    }
    Ok(())
}

fn a_region_that_is_gone_had_nothing_in_it(a: &ControlState, b: &ControlState) -> Result<(), String> {
    for region in a.regions.keys().filter(|r| !b.regions.contains_key(r)) {
        let held = holders(a).any(|h| h.region == *region);
        let stood = a
            .nodes
            .values()
            .any(|n| n.region == *region && n.status == NodeStatus::Up);
        require(!held && !stood, || region.to_string())?;
    }
    Ok(())
}

/// Who holds a role, or is promised one.
fn holders(s: &ControlState) -> impl Iterator<Item = &Holder> {
    let roles = s.roles.values().map(|role| &role.record);
    roles.flat_map(|role| {
        role.holder
            .iter()
            .chain(role.reservation.iter().map(|r| &r.target))
    })
}

fn an_epoch_never_decreases(a: &ControlState, b: &ControlState) -> Result<(), String> {
    for (name, before) in a.roles.iter() {
        let Some(after) = b.roles.get(name) else { continue };
        let grows = before.record.epoch <= after.record.epoch && before.highest_epoch <= after.highest_epoch;
        require(grows, || {
            format!("{name}: {} to {}", before.record.epoch, after.record.epoch)
        })?;
    }
    Ok(())
}

fn a_change_of_holder_takes_a_higher_epoch(a: &ControlState, b: &ControlState) -> Result<(), String> {
    for (name, before) in a.roles.iter() {
        let Some(after) = b.roles.get(name) else { continue };
        let (before, after) = (&before.record, &after.record);
        let fenced = before.holder == after.holder || before.epoch < after.epoch;
        require(fenced, || {
            format!(
                "{name} at {}: {:?} to {:?}",
                after.epoch, before.holder, after.holder
            )
        })?;
    }
    Ok(())
}

/// A new epoch is above all that were issued or reserved, or the very one that was reserved for its new holder.
fn an_epoch_is_never_issued_twice(a: &ControlState, b: &ControlState) -> Result<(), String> {
    for (name, before) in a.roles.iter() {
        let Some(after) = b.roles.get(name) else { continue };
        if before.record.epoch == after.record.epoch {
            continue;
        }
        let reserved = before.record.reservation.as_ref();
        let promised = reserved.is_some_and(|r| {
            r.epoch == after.record.epoch && Some(&r.target) == after.record.holder.as_ref()
        });
        let fresh = after.record.epoch > before.highest_epoch;
        require(promised || fresh, || format!("{name} at {}", after.record.epoch))?;
    }
    Ok(())
}

fn a_version_is_immutable_and_goes_one_way(a: &ControlState, b: &ControlState) -> Result<(), String> {
    for (key, before) in a.versions.iter() {
        let Some(after) = b.versions.get(key) else {
            continue;
        };
        let same = before.artifacts == after.artifacts
            && before.source_region == after.source_region
            && before.datasets == after.datasets;
        require(same && before.state <= after.state, || {
            format!("{key}: {} to {}", before.state, after.state)
        })?;
    }
    Ok(())
}

fn an_attempt_never_decreases(a: &ControlState, b: &ControlState) -> Result<(), String> {
    for (key, before) in a.replicas.iter() {
        let kept = b
            .replicas
            .get(key)
            .is_none_or(|after| before.attempts <= after.attempts);
        require(kept, || key.to_string())?;
    }
    for (plan, before) in a.plans.iter() {
        let Some(after) = b.plans.get(plan) else { continue };
        let kept = before
            .steps
            .iter()
            .zip(&after.steps)
            .all(|(x, y)| x.attempt <= y.attempt);
        require(kept, || plan.to_string())?;
        require(before.state == PlanState::Running || before == after, || {
            format!("{plan} changed after its end")
        })?;
    }
    Ok(())
}

/// The order of arms is that of slots: were an arm taken away, users of others would change theirs.
fn an_experiment_keeps_its_arms_and_ends_once(a: &ControlState, b: &ControlState) -> Result<(), String> {
    for (key, before) in a.experiments.iter() {
        let Some(after) = b.experiments.get(key) else {
            require(!before.is_running(), || {
                format!("{} is gone while it ran", before.name)
            })?;
            continue;
        };
        let arms = before.arms.iter().map(|arm| arm.version);
        let kept = arms.eq(after.arms.iter().take(before.arms.len()).map(|arm| arm.version));
        require(kept && (before.is_running() || before == after), || {
            format!("{} of {}", before.name, before.model)
        })?;
    }
    Ok(())
}
