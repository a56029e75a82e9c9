//! `regent experiment …`: splits of a model's users, and who gets what of them.

use client::{Client, calls::ChangeOptions};
use serde_json::json;
use types::{Revision, experiment::ExperimentRecord};

use super::{changer, changer_at, reader, tell, tell_change};
use crate::{
    args::{
        ExperimentAssignArgs, ExperimentCommand, ExperimentCreateArgs, ExperimentEndArgs, ExperimentGetArgs,
        ExperimentListArgs, ExperimentReportArgs, ExperimentSplitArgs, Shared,
    },
    error::Failure,
    output::{ago, or_dash, table},
};

/// Runs one.
pub(crate) async fn run(command: ExperimentCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        ExperimentCommand::Create(args) => create(&args, &shared).await,
        ExperimentCommand::Get(args) => get(&args, &shared).await,
        ExperimentCommand::List(args) => list(&args, &shared).await,
        ExperimentCommand::SetSplit(args) => set_split(&args, &shared).await,
        ExperimentCommand::Report(args) => report(&args, &shared).await,
        ExperimentCommand::End(args) => end(&args, &shared).await,
        ExperimentCommand::Assign(args) => assign(&args, &shared).await,
    }
}

async fn create(args: &ExperimentCreateArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, &args.change, ChangeOptions::default())?;
    let key = &args.key;
    let made = client
        .create_experiment(&key.model, &key.name, &args.description, &args.arms)
        .await?;
    changed(&client, shared, &made)
}

async fn get(args: &ExperimentGetArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let found = client.get_experiment(&args.key.model, &args.key.name).await?;
    tell(&client, shared.output, json!({ "experiment": found }), || {
        shown(&found)
    })
}

async fn list(args: &ExperimentListArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let found = client.list_experiments(args.model.as_ref(), &args.filter).await?;
    tell(&client, shared.output, json!({ "experiments": found }), || {
        experiment_table(&found)
    })
}

async fn set_split(args: &ExperimentSplitArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, &args.change, ChangeOptions::default())?;
    let (key, etag) = (&args.key, Revision(args.etag));
    let split = client
        .set_experiment_split(&key.model, &key.name, &args.arms, etag)
        .await?;
    changed(&client, shared, &split)
}

async fn report(args: &ExperimentReportArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let (key, metrics) = (&args.key, args.metrics.iter().cloned().collect());
    let reported = client
        .report_experiment(&key.model, &key.name, args.arm, &metrics)
        .await?;
    changed(&client, shared, &reported)
}

async fn end(args: &ExperimentEndArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let ended = client
        .end_experiment(&args.key.model, &args.key.name, &args.reason)
        .await?;
    changed(&client, shared, &ended)
}

async fn assign(args: &ExperimentAssignArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let key = &args.key;
    let assigned = client
        .assign_user(&key.model, &key.name, &args.user, args.region.as_ref())
        .await?;
    let document = json!({
        "model": key.model,
        "experiment": key.name,
        "user": args.user,
        "slot": assigned.slot,
        "arm": assigned.arm,
        "version": assigned.version,
    });
    tell(&client, shared.output, document, || match assigned.version {
        Some(version) if version == assigned.arm => {
            format!("{}@{version}, by slot {}", key.model, assigned.slot)
        }
        Some(version) => format!(
            "{}@{version}, the fallback: {} of slot {} cannot be served",
            key.model, assigned.arm, assigned.slot
        ),
        None => format!(
            "no version: neither {} of slot {} nor the fallback can be served",
            assigned.arm, assigned.slot
        ),
    })
}

fn changed(client: &Client, shared: &Shared, experiment: &ExperimentRecord) -> Result<(), Failure> {
    tell_change(client, shared.output, json!({ "experiment": experiment }), || {
        shown(experiment)
    })
}

fn shown(experiment: &ExperimentRecord) -> String {
    let listed = experiment_table(std::slice::from_ref(experiment));
    format!("{listed}\n\n{}", arm_table(experiment))
}

fn experiment_table(experiments: &[ExperimentRecord]) -> String {
    let headings = ["MODEL", "EXPERIMENT", "STATE", "SPLIT", "CREATED", "ETAG", "WHY"];
    table(
        headings,
        experiments.iter().map(|e| {
            let split = e
                .arms
                .iter()
                .map(|arm| format!("{}={}%", arm.version, arm.percent));
            let why = if e.is_running() { &e.description } else { &e.reason };
            [
                e.model.to_string(),
                e.name.to_string(),
                e.state.to_string(),
                split.collect::<Vec<_>>().join(" "),
                ago(e.created_at),
                e.modified.0.to_string(),
                or_dash(why.as_str()),
            ]
        }),
    )
}

fn arm_table(experiment: &ExperimentRecord) -> String {
    let headings = ["ARM", "PERCENT", "MEASURED"];
    table(
        headings,
        experiment.arms.iter().map(|arm| {
            let measured = arm.metrics.iter().map(|(name, value)| format!("{name}={value}"));
            [
                arm.version.to_string(),
                arm.percent.to_string(),
                or_dash(measured.collect::<Vec<_>>().join(" ")),
            ]
        }),
    )
}
