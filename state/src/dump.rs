//! A stable text of the state, one record a line: for tests that are reviewed as a diff.

use std::fmt::Write as _;

use types::{
    Holder,
    experiment::ExperimentRecord,
    plan::PlanRecord,
    region::{FencingDoor, RegionLabels, RegionRecord},
    units::format_duration,
};

use crate::state::{ControlState, RoleState};

/// Everything, also what changes with every entry: time, revision, answered requests.
pub(crate) fn dump(state: &ControlState) -> String {
    let requests = &state.requests;
    let floor = requests
        .floor
        .map_or_else(|| "none".to_owned(), |f| f.to_string());
    format!(
        "time {} revision {}\nrequests {} floor {floor}\n{}",
        state.time,
        state.revision,
        requests.answered.len(),
        dump_records(state)
    )
}

/// The records alone; a refusal changes none of them.
pub(crate) fn dump_records(state: &ControlState) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = write_records(state, &mut out);
    out
}

fn write_records(s: &ControlState, out: &mut String) -> std::fmt::Result {
    if let Some(c) = &s.cluster {
        let (id, timing) = (c.cluster_id, &c.timing.name);
        writeln!(
            out,
            "cluster {id} generation {} level {} timing {timing} {}",
            c.generation, c.feature_level, c.modified
        )?;
        for removed in &c.removed {
            let disk = removed
                .disk
                .map_or_else(|| "none".to_owned(), |disk| disk.to_string());
            let (node, at, by) = (&removed.node, removed.at, &removed.by);
            writeln!(out, "removed {node} disk {disk} at {at} by {by}")?;
        }
        if let Some(set) = &c.elections.timing {
            let (timing, by) = (set.timing, if set.derived { "derived" } else { "fixed" });
            writeln!(out, "elections {timing} {by} {:?}", set.reason)?;
        }
        if !c.elections.preferred.is_empty() {
            writeln!(out, "leader preferred in {:?}", c.elections.preferred)?;
        }
        for rebind in &c.rebinds {
            let (said, signed) = (
                rebind.statement,
                if rebind.is_signed() { "signed" } else { "unsigned" },
            );
            let (cluster, old, generation) = (said.cluster, said.supersedes, said.generation);
            writeln!(
                out,
                "rebind {cluster} supersedes {old} generation {generation} {signed}"
            )?;
        }
    }
    for region in s.regions() {
        write_region(region, out)?;
    }
    for n in s.nodes.values() {
        let holder = Holder {
            region: n.region.clone(),
            node: n.node.clone(),
            incarnation: n.incarnation,
        };
        let (kind, endpoints) = (n.kind, &n.endpoints);
        let zone = n.zone.as_ref().map(|zone| format!(" zone {zone}"));
        writeln!(
            out,
            "node {holder} {kind:?}{} {} since {} {endpoints:?} {}",
            zone.unwrap_or_default(),
            n.status,
            n.changed_at,
            n.modified
        )?;
    }
    for (node, runs) in s.superseded.iter() {
        let runs: Vec<_> = runs.iter().map(ToString::to_string).collect();
        writeln!(out, "node {node} ran as {}", runs.join(", "))?;
    }
    for m in s.models.values() {
        let (tags, placement) = (&m.tags, &m.placement);
        writeln!(
            out,
            "model {} next {} tags {tags:?} {placement:?} {:?} {}",
            m.name, m.next_version, m.description, m.modified
        )?;
    }
    for v in s.versions.values() {
        let (files, size) = (v.artifacts.len(), v.total_size());
        write!(
            out,
            "version {} {} from {} {files} files {size} {} {:?}",
            v.key, v.state, v.source_region, v.framework, v.metadata
        )?;
        writeln!(out, " {:?} {}", v.state_reason, v.modified)?;
        for dataset in &v.datasets {
            writeln!(out, "  from {dataset}")?;
        }
        for (name, m) in &v.metrics {
            writeln!(out, "  measured {name} {} at {} by {}", m.value, m.at, m.by)?;
        }
    }
    for a in s.aliases.values() {
        writeln!(
            out,
            "alias {} {} -> {} {:?} by {} {}",
            a.model, a.alias, a.version, a.reason, a.moved_by, a.modified
        )?;
    }
    for r in s.replicas.values() {
        let source = r.source.as_ref().map_or("itself", |s| s.as_str());
        write!(
            out,
            "replica {} {} from {source} {} attempts {}",
            r.key, r.state, r.bytes_done, r.attempts
        )?;
        writeln!(
            out,
            " started {:?} completed {:?} {:?} {}",
            r.started_at, r.completed_at, r.error, r.modified
        )?;
    }
    for role in s.roles.values() {
        write_role(role, out)?;
    }
    for plan in s.plans.values() {
        write_plan(plan, out)?;
    }
    for experiment in s.experiments.values() {
        write_experiment(experiment, out)?;
    }
    for service in s.services.values() {
        write!(
            out,
            "service {}#{} in {} at {} {}",
            service.key, service.incarnation, service.region, service.address, service.protocol
        )?;
        writeln!(
            out,
            " {:?} {} since {} by {} {}",
            service.labels, service.health, service.registered_at, service.registered_by, service.modified
        )?;
    }
    for p in s.preferences.values() {
        writeln!(
            out,
            "preferences of {} {:?} at {} by {} {}",
            p.principal, p.values, p.changed_at, p.changed_by, p.modified
        )?;
    }
    for d in s.deployments.values() {
        writeln!(
            out,
            "deployment {} {} {:?} -> {:?} {:?} at {} by {} {}",
            d.model, d.alias, d.from, d.to, d.reason, d.at, d.by, d.revision
        )?;
    }
    for c in s.health_changes.values() {
        writeln!(
            out,
            "health of {} {:?} -> {} {:?} at {} by {} {}",
            c.subject, c.from, c.to, c.evidence, c.at, c.by, c.revision
        )?;
    }
    Ok(())
}

fn write_region(r: &RegionRecord, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "region {} {} since {} {:?}",
        r.region, r.health, r.health_changed_at, r.health_evidence
    )?;
    match &r.store {
        None => write!(out, " no store")?,
        Some(store) => {
            let door = match &store.fencing_door {
                FencingDoor::Qualified => "door",
                FencingDoor::Refused { .. } => "no door",
            };
            write!(out, " store {}/{} {door}", store.endpoint, store.bucket)?;
        }
    }
    let RegionLabels {
        display_name,
        provider,
        cost_tags,
    } = &r.labels;
    if r.labels != RegionLabels::default() {
        write!(
            out,
            " called {display_name:?} of {provider:?} costs {cost_tags:?}"
        )?;
    }
    writeln!(out, " {}", r.modified)
}

fn name(holder: &Option<Holder>) -> String {
    holder
        .as_ref()
        .map_or_else(|| "nobody".to_owned(), ToString::to_string)
}

fn write_role(role: &RoleState, out: &mut String) -> std::fmt::Result {
    let r = &role.record;
    write!(
        out,
        "role {} {} held by {} highest {}",
        r.role,
        r.epoch,
        name(&r.holder),
        role.highest_epoch
    )?;
    if let Some(reserved) = &r.reservation {
        write!(
            out,
            " reserved {} for {} by {}",
            reserved.epoch, reserved.target, reserved.plan
        )?;
    }
    let ttl = format_duration(r.outstanding_ttl);
    write!(
        out,
        " candidates {:?} {} timing {} ttl {ttl}",
        r.candidates, r.mode, r.timing.name
    )?;
    if let Some(former) = &role.former_ttl {
        let ttl = format_duration(former.ttl);
        write!(out, " formerly {ttl} since {}", former.since)?;
    }
    writeln!(out, " since {} {:?} {}", r.changed_at, r.reason, r.modified)
}

fn write_plan(p: &PlanRecord, out: &mut String) -> std::fmt::Result {
    let target_epoch = p
        .target_epoch
        .map_or_else(|| "no epoch yet".to_owned(), |e| e.to_string());
    write!(
        out,
        "plan {} {} {} {} from {} at {}",
        p.plan,
        p.role,
        p.kind,
        p.state,
        name(&p.from),
        p.from_epoch
    )?;
    writeln!(
        out,
        " to {} at {target_epoch} {:?} {:?} {}",
        p.target, p.trigger, p.reason, p.modified
    )?;
    for step in &p.steps {
        writeln!(
            out,
            "  step {} {} attempt {} {:?}",
            step.kind, step.state, step.attempt, step.detail
        )?;
    }
    for door in &p.doors {
        writeln!(
            out,
            "  door {} claimed {} {:?}",
            door.door, door.claimed, door.error
        )?;
    }
    Ok(())
}

fn write_experiment(e: &ExperimentRecord, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "experiment {} {} {} {:?} by {} at {} ended {:?} {:?} {}",
        e.model, e.name, e.state, e.description, e.created_by, e.created_at, e.ended_at, e.reason, e.modified
    )?;
    for arm in &e.arms {
        writeln!(
            out,
            "  arm {} {} percent {:?}",
            arm.version, arm.percent, arm.metrics
        )?;
    }
    let digits: Vec<_> = e.slots.owners().iter().map(ToString::to_string).collect();
    writeln!(out, "  slots {}", digits.concat())
}
