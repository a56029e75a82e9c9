//! Scripts: lines with `> ` are commands, the others what came of them. `REGENT_UPDATE=1` writes them anew; read the diff.

use std::{fmt::Write as _, fs, path::PathBuf};

use super::{frozen, world::World};
use crate::{dump::dump, event::Event, reply::Applied};

fn check(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/scripts")
        .join(name);
    let expected = fs::read_to_string(&path).unwrap();
    let actual = play(&expected);
    if std::env::var_os("REGENT_UPDATE").is_some() {
        fs::write(&path, actual).unwrap();
    } else {
        assert_eq!(expected, actual, "{name} differs; REGENT_UPDATE=1 writes it anew");
    }
}

/// The lines of a script that change its world.
pub(super) fn commands(script: &str) -> impl Iterator<Item = &str> {
    let lines = script.lines().filter_map(|line| line.strip_prefix("> "));
    lines.filter(|line| !["dump", "standing", "forgetful"].contains(line))
}

/// The script with its results.
fn play(script: &str) -> String {
    let mut world = World::new();
    let mut out = String::new();
    for line in script.lines() {
        if line.starts_with('#') || line.is_empty() {
            writeln!(out, "{line}").unwrap();
        }
        let Some(command) = line.strip_prefix("> ") else {
            continue;
        };
        writeln!(out, "{line}").unwrap();
        match command {
            "dump" => out.push_str(&dump(&world.state)),
            "standing" => world = World::standing(),
            "forgetful" => world = World::with(frozen::forgetful()),
            _ => {
                if let Some(applied) = world.line(command) {
                    write_applied(&applied, &mut out);
                }
            }
        }
    }
    out
}

fn write_applied(applied: &Applied, out: &mut String) {
    match &applied.outcome {
        Ok(reply) => writeln!(out, "  = {reply:?}").unwrap(),
        Err(rejection) => writeln!(out, "  ! {} {rejection}", rejection.reason()).unwrap(),
    }
    for event in &applied.events {
        writeln!(out, "  + {}", brief(event)).unwrap();
    }
    if let Some(door) = &applied.door {
        let verdict = if door.accepted { "accepted" } else { "refused" };
        writeln!(
            out,
            "  door {verdict} {} of {}, current {}",
            door.shown, door.shown_holder, door.current
        )
        .unwrap();
    }
}

/// What an event says, as far as a script needs it: the dump has the rest.
fn brief(event: &Event) -> String {
    match event {
        Event::Cluster(c) => format!("cluster {}", c.cluster_id),
        Event::Region(r) => format!("region {} {}", r.region, r.health),
        Event::RegionDeleted { region } => format!("region {region} deleted"),
        Event::Node(n) => format!("node {} {}", n.node, n.status),
        Event::NodeDeleted { node, region } => format!("node {node} of {region} deleted"),
        Event::Model(m) => format!("model {} {:?}", m.name, m.tags),
        Event::Version(v) => format!("version {} {}", v.key, v.state),
        Event::Alias(a) => format!("alias {} {} -> {}", a.model, a.alias, a.version),
        Event::AliasDeleted { model, alias } => format!("alias {model} {alias} deleted"),
        Event::Replica(r) => format!("replica {} {} attempt {}", r.key, r.state, r.attempts),
        Event::ReplicaDeleted(key) => format!("replica {key} deleted"),
        Event::Role(r) => format!("role {} {} {:?} {:?}", r.role, r.epoch, r.holder, r.reservation),
        Event::Plan(p) => match p.current_step() {
            Some(s) => format!(
                "plan {} {} at {} {} attempt {}",
                p.plan, p.state, s.kind, s.state, s.attempt
            ),
            None => format!("plan {} {}", p.plan, p.state),
        },
        Event::PlanDeleted { plan, .. } => format!("plan {plan} deleted"),
        Event::Service(s) => format!("service {} {}", s.key, s.health),
        Event::ServiceDeleted { key, .. } => format!("service {key} deleted"),
        Event::Experiment(e) => {
            let arms = e
                .arms
                .iter()
                .map(|arm| format!("{}:{}", arm.version, arm.percent));
            let arms: Vec<_> = arms.collect();
            format!("experiment {} {} {} {}", e.model, e.name, e.state, arms.join(" "))
        }
        Event::ExperimentDeleted { model, name } => format!("experiment {model} {name} deleted"),
    }
}

#[test]
fn a_cluster_stands_up() {
    check("standing.txt");
}

#[test]
fn a_version_is_published_and_retired() {
    check("publish.txt");
}

#[test]
fn a_failover_runs_step_by_step() {
    check("failover.txt");
}

#[test]
fn a_switchover_is_one_entry() {
    check("switchover.txt");
}

#[test]
fn a_plan_that_fails_after_its_fence_burns_an_epoch() {
    check("burned.txt");
}

#[test]
fn an_experiment_runs_and_ends() {
    check("experiment.txt");
}

#[test]
fn a_region_comes_by_a_person_and_goes_when_nothing_is_left_in_it() {
    check("region.txt");
}

#[test]
fn a_life_at_level_12_leaves_one_of_every_record() {
    check("level12.txt");
}
