//! `regent model …`: the registry, read and moved. Pushing has its own folder.

use client::Client;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use types::model::{ModelRecord, Placement, VersionRecord, VersionState};

use super::{changer, reader, tell};
use crate::{
    args::{AbortArgs, AliasArgs, ModelArgs, ModelCommand, ReadArgs, Shared, UnaliasArgs},
    error::Failure,
    output::{ago, answer, or_dash, table},
    push,
    tables::{alias_table, version_table},
};

/// Models that are asked about at a time.
const CALLS: usize = 8;

/// Runs one.
pub(crate) async fn run(command: ModelCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        ModelCommand::Push(args) => push::run(args, shared).await,
        ModelCommand::List(read) => list(&read, &shared).await,
        ModelCommand::Get(args) => get(&args, &shared).await,
        ModelCommand::Versions(args) => versions(&args, &shared).await,
        ModelCommand::Alias(args) => alias(&args, &shared).await,
        ModelCommand::Unalias(args) => unalias(&args, &shared).await,
        ModelCommand::Abort(args) => abort(&args, &shared).await,
    }
}

async fn list(read: &ReadArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, read)?;
    let models = client.list_models().await?;
    let unfinished = unfinished(&client, &models).await?;
    let document = json!({ "models": models, "unfinished": unfinished });
    tell(&client, shared.output, document, || {
        model_table(&models, &unfinished)
    })
}

async fn get(args: &ModelArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let (model, aliases) = client.get_model(&args.model).await?;
    let unfinished = unfinished(&client, std::slice::from_ref(&model)).await?;
    let document = json!({ "model": model, "aliases": aliases, "unfinished": unfinished });
    tell(&client, shared.output, document, || {
        let mut text = model_table(std::slice::from_ref(&model), &unfinished);
        if !aliases.is_empty() {
            text = format!("{text}\n\n{}", alias_table(&aliases));
        }
        text
    })
}

async fn versions(args: &ModelArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let versions = client.list_versions(&args.model).await?;
    if versions.is_empty() {
        // A model without versions is an empty table; a name that nobody has is an error.
        client.get_model(&args.model).await?;
    }
    tell(&client, shared.output, json!({ "versions": versions }), || {
        version_table(&versions)
    })
}

async fn alias(args: &AliasArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, &args.again)?;
    let etag = args.etag.map(types::Revision);
    let alias = client
        .set_alias(&args.key, &args.alias, &args.reason, etag)
        .await?;
    answer(shared.output, &json!({ "alias": alias }), || {
        alias_table(std::slice::from_ref(&alias))
    })
}

async fn unalias(args: &UnaliasArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, &args.again)?;
    let (model, alias) = (&args.model, &args.alias);
    let etag = args.etag.map(types::Revision);
    let revision = client.delete_alias(model, alias, etag).await?;
    let document = json!({ "removed": { "model": model, "alias": alias }, "revision": revision });
    answer(shared.output, &document, || {
        format!("the alias {alias} of {model} is removed, as of revision {revision}")
    })
}

async fn abort(args: &AbortArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, &args.again)?;
    let version = client.abort_version(&args.key, &args.reason).await?;
    answer(shared.output, &json!({ "version": version }), || {
        version_table(std::slice::from_ref(&version))
    })
}

/// Versions of these models that are not usable yet: announced, or complete and not yet verified.
async fn unfinished(client: &Client, models: &[ModelRecord]) -> Result<Vec<VersionRecord>, Failure> {
    let of_each = stream::iter(models)
        .map(|model| client.list_versions(&model.name))
        .buffered(CALLS);
    let all: Vec<Vec<VersionRecord>> = of_each.try_collect().await?;
    let open = |v: &VersionRecord| matches!(v.state, VersionState::PendingUpload | VersionState::Verifying);
    Ok(all.into_iter().flatten().filter(open).collect())
}

/// What of a model is not finished, as in `1 PENDING_UPLOAD 5m ago`.
fn unfinished_of(model: &ModelRecord, unfinished: &[VersionRecord]) -> String {
    let own = unfinished.iter().filter(|v| v.key.model == model.name);
    let each = own.map(|v| format!("{} {} {}", v.key.version, v.state, ago(v.created_at)));
    or_dash(each.collect::<Vec<_>>().join(", "))
}

fn model_table(models: &[ModelRecord], unfinished: &[VersionRecord]) -> String {
    let headings = [
        "MODEL",
        "VERSIONS",
        "UNFINISHED",
        "PLACEMENT",
        "CREATED",
        "DESCRIPTION",
    ];
    table(
        headings,
        models.iter().map(|model| {
            [
                model.name.to_string(),
                model.next_version.0.saturating_sub(1).to_string(),
                unfinished_of(model, unfinished),
                placement(&model.placement),
                ago(model.created_at),
                or_dash(model.description.as_str()),
            ]
        }),
    )
}

fn placement(placement: &Placement) -> String {
    match placement {
        Placement::Everywhere => "everywhere".to_owned(),
        Placement::Regions(regions) => {
            let names: Vec<&str> = regions.iter().map(types::RegionId::as_str).collect();
            names.join(", ")
        }
    }
}
