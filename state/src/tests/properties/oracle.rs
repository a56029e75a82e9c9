//! What every step of a history must keep, each by bookkeeping of its own.

use std::collections::BTreeMap;

use types::{
    Epoch, FencingToken, Holder, Principal, RequestId, RoleName,
    region::{Health, NodeStatus},
};

use crate::{
    command::{Command, Entry},
    dump::dump_records,
    event::Event,
    rejection::Rejection,
    reply::{Applied, Reply},
    state::ControlState,
    tests::language::CLUSTER,
};

/// What a history remembers beside the state, to judge it.
pub(super) struct Oracle {
    /// Who was ever named as holder, or promised, of an epoch (I4).
    epochs: BTreeMap<Epoch, Holder>,
    /// The highest epoch whose write the registry accepted (I5).
    accepted: Epoch,
    /// First answers of all requests that were not refused for their id (I9).
    answered: BTreeMap<RequestId, (Entry, Result<Reply, Rejection>)>,
    /// Every token that could be shown.
    pub(super) tokens: Vec<FencingToken>,
    /// The fold of all events.
    fold: Fold,
}

/// Records as a watcher holds them, by a text of their key.
type Fold = BTreeMap<String, String>;

fn fold(into: &mut Fold, event: &Event) {
    let (key, record) = match event {
        Event::Cluster(c) => ("cluster".to_owned(), Some(format!("{c:?}"))),
        Event::Region(r) => (format!("region {}", r.region), Some(format!("{r:?}"))),
        Event::RegionDeleted { region } => (format!("region {region}"), None),
        Event::NodeDeleted { node, .. } => (format!("node {node}"), None),
        Event::Node(r) => (format!("node {}", r.node), Some(format!("{r:?}"))),
        Event::Model(r) => (format!("model {}", r.name), Some(format!("{r:?}"))),
        Event::Version(r) => (format!("version {}", r.key), Some(format!("{r:?}"))),
        Event::Alias(r) => (format!("alias {} {}", r.model, r.alias), Some(format!("{r:?}"))),
        Event::AliasDeleted { model, alias } => (format!("alias {model} {alias}"), None),
        Event::Replica(r) => (format!("replica {}", r.key), Some(format!("{r:?}"))),
        Event::ReplicaDeleted(key) => (format!("replica {key}"), None),
        Event::Role(r) => (format!("role {}", r.role), Some(format!("{r:?}"))),
        Event::Plan(r) => (format!("plan {}", r.plan), Some(format!("{r:?}"))),
        Event::PlanDeleted { plan, .. } => (format!("plan {plan}"), None),
        Event::Experiment(r) => (
            format!("experiment {} {}", r.model, r.name),
            Some(format!("{r:?}")),
        ),
        Event::Service(r) => (format!("service {}", r.key), Some(format!("{r:?}"))),
        Event::ServiceDeleted { key, .. } => (format!("service {key}"), None),
        Event::ExperimentDeleted { model, name } => (format!("experiment {model} {name}"), None),
    };
    match record {
        Some(record) => into.insert(key, record),
        None => into.remove(&key),
    };
}

/// What a watcher that lists now would hold.
fn listed(s: &ControlState) -> Fold {
    let mut all = Fold::new();
    let mut add = |event: Event| fold(&mut all, &event);
    s.cluster()
        .cloned()
        .map(Event::Cluster)
        .into_iter()
        .for_each(&mut add);
    s.regions.values().cloned().map(Event::Region).for_each(&mut add);
    s.nodes.values().cloned().map(Event::Node).for_each(&mut add);
    s.models.values().cloned().map(Event::Model).for_each(&mut add);
    s.versions
        .values()
        .cloned()
        .map(Event::Version)
        .for_each(&mut add);
    s.aliases.values().cloned().map(Event::Alias).for_each(&mut add);
    s.replicas
        .values()
        .cloned()
        .map(Event::Replica)
        .for_each(&mut add);
    s.roles()
        .cloned()
        .map(|r| Event::Role(Box::new(r)))
        .for_each(&mut add);
    s.plans
        .values()
        .cloned()
        .map(|p| Event::Plan(Box::new(p)))
        .for_each(&mut add);
    s.services
        .values()
        .cloned()
        .map(|s| Event::Service(Box::new(s)))
        .for_each(&mut add);
    s.experiments
        .values()
        .cloned()
        .map(|e| Event::Experiment(Box::new(e)))
        .for_each(&mut add);
    all
}

impl Oracle {
    pub(super) fn new() -> Self {
        Self {
            epochs: BTreeMap::new(),
            accepted: Epoch::ZERO,
            answered: BTreeMap::new(),
            tokens: Vec::new(),
            fold: Fold::new(),
        }
    }

    pub(super) fn check(
        &mut self,
        before: &ControlState,
        entry: &Entry,
        applied: &Applied,
        after: &ControlState,
    ) {
        self.one_holder_per_epoch(after);
        self.the_door_accepts_the_committed_token_only(before, entry, applied);
        self.no_target_is_fenced_for_or_promoted_unless_it_can_serve(before, entry, applied);
        self.a_request_runs_once(before, entry, applied, after);
        what_was_expected_was_so(before, entry, applied);
        users_move_only_as_the_split_says(before, entry, after);
        metrics_are_as_they_were_said(before, entry, applied, after);
        services_live_and_die_with_their_nodes(before, entry, after);
        histories_tell_each_change_once(before, applied, after);
        applied.events.iter().for_each(|e| fold(&mut self.fold, e));
        assert_eq!(
            self.fold,
            listed(after),
            "events do not add up to the state: {entry:?}"
        );
    }

    fn one_holder_per_epoch(&mut self, state: &ControlState) {
        let Some(role) = state.role(&RoleName::global()) else {
            return;
        };
        let held = role.holder.iter().map(|h| (role.epoch, h));
        let reserved = role.reservation.iter().map(|r| (r.epoch, &r.target));
        for (epoch, holder) in held.chain(reserved) {
            let known = self.epochs.entry(epoch).or_insert_with(|| holder.clone());
            assert_eq!(known, holder, "two holders of {epoch}");
            let (cluster_id, role, holder) = (CLUSTER, RoleName::global(), holder.clone());
            let token = FencingToken {
                cluster_id,
                role,
                epoch,
                holder,
            };
            if !self.tokens.contains(&token) {
                self.tokens.push(token);
            }
        }
    }

    fn the_door_accepts_the_committed_token_only(
        &mut self,
        before: &ControlState,
        entry: &Entry,
        applied: &Applied,
    ) {
        let Command::SetModelTags {
            token: Some(token), ..
        } = &entry.command
        else {
            assert_eq!(applied.door, None);
            return;
        };
        let Some(door) = &applied.door else { return };
        assert_eq!(door.accepted, applied.outcome.is_ok());
        if !door.accepted {
            return;
        }
        let role = before.role(&token.role).unwrap();
        assert_eq!(
            (role.epoch, role.holder.as_ref()),
            (token.epoch, Some(&token.holder))
        );
        assert_eq!(token.cluster_id, CLUSTER);
        let own = Principal::Agent {
            region: token.holder.region.clone(),
            node: token.holder.node.clone(),
        };
        assert_eq!(entry.actor, own);
        assert!(
            token.epoch >= self.accepted,
            "{} accepted after {}",
            token.epoch,
            self.accepted
        );
        self.accepted = token.epoch;
    }

    /// I8, by the records themselves and not by the function that the rules call.
    fn no_target_is_fenced_for_or_promoted_unless_it_can_serve(
        &self,
        before: &ControlState,
        entry: &Entry,
        applied: &Applied,
    ) {
        let (Command::Fence { plan, .. } | Command::Promote { plan, .. }) = &entry.command else {
            return;
        };
        if applied.outcome.is_err() || applied.events.is_empty() {
            return;
        }
        let target = &before.plan(*plan).unwrap().target;
        let node = before.node(&target.node).unwrap();
        assert_eq!(
            (node.status, node.incarnation),
            (NodeStatus::Up, target.incarnation)
        );
        assert_eq!(before.region(&target.region).unwrap().health, Health::Healthy);
    }

    fn a_request_runs_once(
        &mut self,
        before: &ControlState,
        entry: &Entry,
        applied: &Applied,
        after: &ControlState,
    ) {
        let refused_for_its_id = |r: &Rejection| {
            matches!(
                r,
                Rejection::RequestReused { .. }
                    | Rejection::RequestTooOld { .. }
                    | Rejection::RequestFromFuture { .. }
                    | Rejection::RequestsExhausted { .. }
            )
        };
        let Some((first, outcome)) = self.answered.get(&entry.request_id) else {
            let unanswered = |r: &Rejection| refused_for_its_id(r) || r.is_for_ever();
            if !applied.outcome.as_ref().is_err_and(unanswered) {
                self.answered
                    .insert(entry.request_id, (entry.clone(), applied.outcome.clone()));
            }
            return;
        };
        let asked = |e: &Entry| (e.actor.clone(), e.command.clone(), e.expects);
        let same = asked(first) == asked(entry);
        let replayed = same && *outcome == applied.outcome;
        let refused = applied.outcome.as_ref().err().is_some_and(refused_for_its_id);
        assert!(
            replayed || refused,
            "{entry:?} was answered {outcome:?}, then {:?}",
            applied.outcome
        );
        assert_eq!(
            dump_records(before),
            dump_records(after),
            "a retry changed something: {entry:?}"
        );
        assert!(applied.events.is_empty());
    }
}

/// Whoever changes the version that they get was in an arm that shrank, and is in one that grew.
fn users_move_only_as_the_split_says(before: &ControlState, entry: &Entry, after: &ControlState) {
    let Command::SetExperimentSplit { model, name, .. } = &entry.command else {
        return;
    };
    let both = before.experiment(model, name).zip(after.experiment(model, name));
    let Some((old, new)) = both else { return };
    let percent = |record: &types::experiment::ExperimentRecord, version| {
        let arm = record.arms.iter().find(|arm| arm.version == version);
        arm.map_or(0, |arm| arm.percent)
    };
    for user in 0..50 {
        let of = |record| policy::experiment::assign(record, &format!("user-{user}"), |_| true).unwrap();
        let (was, is) = (of(old).arm, of(new).arm);
        if was != is {
            assert!(
                percent(new, was) < percent(old, was),
                "{user} left {was}: {entry:?}"
            );
            assert!(
                percent(new, is) > percent(old, is),
                "{user} came to {is}: {entry:?}"
            );
        }
    }
}

/// From the level on: as many moves of aliases are new as aliases moved, as many changes of health as verdicts did, and nothing else is.
fn histories_tell_each_change_once(before: &ControlState, applied: &Applied, after: &ControlState) {
    let on = before.features().has(crate::Feature::Histories);
    let (mut moved, mut stood) = (0, 0);
    for event in &applied.events {
        if let Event::Alias(a) = event {
            let was = before.alias(&a.model, &a.alias).map(|old| old.version);
            moved += usize::from(was != Some(a.version));
        }
        moved += usize::from(matches!(event, Event::AliasDeleted { .. }));
        if let Event::Region(r) = event {
            let was = before.region(&r.region).map(|old| old.health);
            stood += usize::from(was != Some(r.health));
        }
        if let Event::Node(n) = event {
            let was = before.node(&n.node).map(|old| old.status);
            stood += usize::from(was != Some(n.status));
        }
    }
    let at = after.revision();
    let new_moves = after
        .deployments
        .keys()
        .filter(|(_, revision)| *revision == at && on)
        .count();
    let new_changes = after
        .health_changes
        .keys()
        .filter(|(_, revision)| *revision == at && on)
        .count();
    let expected = if on { (moved, stood) } else { (0, 0) };
    assert_eq!((new_moves, new_changes), expected);
}

/// Nothing but a registration adds an instance, nothing but its own command, or the end of its node's run, takes one away, and all
/// are healthy where the node is up.
fn services_live_and_die_with_their_nodes(before: &ControlState, entry: &Entry, after: &ControlState) {
    for (key, new) in after.services.iter() {
        let node = after.node(&key.node).unwrap();
        assert_eq!(new.incarnation, node.incarnation, "{entry:?}");
        let is_up = node.status == NodeStatus::Up;
        assert_eq!(
            new.health == types::service::ServiceHealth::Healthy,
            is_up,
            "{entry:?}"
        );
        let said = matches!(&entry.command, Command::RegisterService { key: said, .. } if said == key);
        let kept = before
            .service(key)
            .is_some_and(|old| old.address == new.address && old.labels == new.labels);
        assert!(kept || said, "{key} is new after {entry:?}");
    }
    for key in before.services.keys().filter(|key| after.service(key).is_none()) {
        let said = matches!(&entry.command, Command::DeregisterService { key: said, .. } if said == key);
        let run = |s: &ControlState| s.node(&key.node).map(|n| n.incarnation);
        assert!(said || run(before) != run(after), "{key} is gone after {entry:?}");
    }
}

/// What was set is there, what was removed is not, and of everything else nothing changed.
fn metrics_are_as_they_were_said(
    before: &ControlState,
    entry: &Entry,
    applied: &Applied,
    after: &ControlState,
) {
    let said = match (&entry.command, &applied.outcome) {
        (Command::SetVersionMetrics { version, set, remove }, Ok(_)) if !applied.events.is_empty() => {
            Some((version, set, remove))
        }
        _ => None,
    };
    for (key, new) in after.versions.iter() {
        let old = before.version(key).map(|v| v.metrics.clone()).unwrap_or_default();
        let Some((_, set, remove)) = said.filter(|(version, _, _)| *version == key) else {
            assert_eq!(old, new.metrics, "{entry:?}");
            continue;
        };
        for name in old.keys().chain(set.keys()).chain(new.metrics.keys()) {
            let is = new.metrics.get(name).map(|m| m.value);
            let was = old.get(name).map(|m| m.value).filter(|_| !remove.contains(name));
            assert_eq!(is, set.get(name).copied().or(was), "{name} {entry:?}");
        }
    }
}

/// A change that said what it expects found it so, from the level on that knows expectations.
fn what_was_expected_was_so(before: &ControlState, entry: &Entry, applied: &Applied) {
    let knows = before.features().has(crate::Feature::Expectations);
    if !knows || applied.events.is_empty() {
        return;
    }
    let addressed = entry.command.addressed();
    if let Some(etag) = entry.expects.etag {
        assert_eq!(before.etag_of(addressed), Some(etag), "{entry:?}");
    }
    if let Some(epoch) = entry.expects.epoch {
        assert_eq!(before.role_of(addressed).unwrap().epoch, epoch, "{entry:?}");
    }
}
