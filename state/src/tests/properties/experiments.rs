//! Entries about experiments: mostly of versions that are served, sometimes with a stale etag or a split that does not add up.

use types::{
    ByteCount, Digest, ExperimentName, ModelName, ModelVersion, Revision, VersionKey,
    experiment::Share,
    model::{Artifact, ArtifactPath, Placement},
    replica::ReplicaKey,
};

use super::picks::{Pick, choose, region, version};
use crate::{
    command::{Command, Entry, Expects, ReplicaReport},
    state::ControlState,
    tests::world::{World, actor},
};

/// The model that most experiments are of. It is placed in one region and has no alias, so that it hinders no failover.
const SPLIT: &str = "x";

/// Three versions that are ready: hardly any history would come to two of one model by itself.
pub(super) fn versions(world: &mut World) -> Vec<Entry> {
    let model: ModelName = SPLIT.parse().unwrap();
    let (admin, agent) = (actor("admin"), actor("eu/a1"));
    let mut commands = vec![(
        &admin,
        Command::CreateModel {
            name: model.clone(),
            description: String::new(),
            tags: Default::default(),
            placement: Placement::Regions(vec![region(0)]),
        },
    )];
    for number in 1..=3 {
        let version = VersionKey {
            model: model.clone(),
            version: ModelVersion(number),
        };
        let key = ReplicaKey {
            version: version.clone(),
            region: region(0),
        };
        let report = |report| Command::ReportReplica {
            key: key.clone(),
            report,
        };
        let bytes = ByteCount(1);
        commands.extend([
            (
                &admin,
                Command::CreateVersion {
                    model: model.clone(),
                    source_region: region(0),
                    artifacts: vec![Artifact {
                        path: ArtifactPath::new("model").unwrap(),
                        size: bytes,
                        digest: Digest::of(b"model"),
                        media_type: String::new(),
                    }],
                    framework: "bert".to_owned(),
                    metadata: Default::default(),
                    datasets: Default::default(),
                },
            ),
            (&admin, Command::CompleteUpload { version }),
            (&agent, report(ReplicaReport::Started { source: None })),
            (&agent, report(ReplicaReport::Verified { attempt: 1, bytes })),
        ]);
    }
    let alias = "champion".parse().unwrap();
    commands.push((
        &admin,
        Command::DeleteAlias {
            model,
            alias,
            etag: None,
        },
    ));
    let entries = commands.into_iter().map(|(by, command)| {
        world.actor = by.clone();
        world.entry(command)
    });
    entries.collect()
}

pub(super) fn experiment(world: &mut World, pick: Pick) -> Entry {
    let Pick { a, b, c, .. } = pick;
    let known: Vec<_> = world.state.experiments.values().cloned().collect();
    let record = (!known.is_empty()).then(|| choose(&known, a));
    let (model, name) = match &record {
        Some(record) if b % 8 != 0 => (record.model.clone(), record.name.clone()),
        Some(_) | None => new_name(pick),
    };
    let etag = record
        .as_ref()
        .map(|r| Revision(r.modified.0 + u64::from(c % 8 == 1)));
    let expects = Expects {
        etag: etag.filter(|_| c % 8 != 0),
        ..Expects::default()
    };
    let arms: Vec<_> = record
        .iter()
        .flat_map(|r| r.arms.iter().map(|arm| arm.version))
        .collect();
    let command = match (record, b % 8) {
        (None, _) | (_, 0..=2) => {
            let (model, name) = new_name(pick);
            let split = split(&served(&world.state, &model), pick);
            return world.entry(Command::CreateExperiment {
                model,
                name,
                description: String::new(),
                split,
            });
        }
        (Some(_), 3 | 4) => {
            let mut versions = arms;
            let more = served(&world.state, &model)
                .into_iter()
                .filter(|v| !versions.contains(v));
            let more: Vec<_> = more.take(usize::from(c % 2)).collect();
            versions.extend(more);
            versions.rotate_left(usize::from(a % 2));
            Command::SetExperimentSplit {
                split: split(&versions, pick),
                model,
                name,
            }
        }
        (Some(_), 5 | 6) => Command::ReportExperiment {
            model,
            name,
            version: choose(&arms, c),
            metrics: [(
                "paid".parse().unwrap(),
                types::Micros(i64::from(a) - i64::from(c)),
            )]
            .into(),
        },
        (Some(_), _) if c % 2 == 0 => {
            let version = choose(&arms, a);
            return world.entry(Command::DeleteVersion {
                version: VersionKey { model, version },
                reason: String::new(),
            });
        }
        (Some(_), _) => Command::EndExperiment {
            model,
            name,
            reason: "enough".to_owned(),
        },
    };
    Entry {
        expects,
        ..world.entry(command)
    }
}

fn new_name(Pick { a, c, .. }: Pick) -> (ModelName, ExperimentName) {
    let model = match a % 8 {
        0 => version(a).model,
        _ => SPLIT.parse().unwrap(),
    };
    (model, choose(&["march", "april", "may"], c).parse().unwrap())
}

/// Versions that an arm may have; where there are too few, also one that it may not.
fn served(state: &ControlState, model: &ModelName) -> Vec<ModelVersion> {
    let of_model = state
        .versions
        .values()
        .filter(|v| v.key.model == *model && v.is_replicated());
    let mut versions: Vec<_> = of_model.map(|v| v.key.version).collect();
    if versions.len() < 2 {
        versions.push(ModelVersion(9));
    }
    versions
}

fn split(versions: &[ModelVersion], Pick { b, c, .. }: Pick) -> Vec<Share> {
    let mut left = 100 + u32::from(c % 32 == 0);
    let last = versions.len().saturating_sub(1);
    let share = |(at, version): (usize, &ModelVersion)| {
        let percent = if at == last {
            left
        } else {
            (u32::from(b / 8) + u32::from(c)) % (left + 1)
        };
        left -= percent;
        Share {
            version: *version,
            percent,
        }
    };
    versions.iter().enumerate().map(share).collect()
}
