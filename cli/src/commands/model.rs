//! `regent model …`: the registry, read and moved. Pushing has its own folder.

use client::{Client, calls::ChangeOptions};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use types::{
    ModelVersion,
    model::{AliasRecord, ModelRecord, Placement, VersionRecord, VersionState},
};

use super::{changer, changer_at, history, reader, tell, tell_change};
use crate::{
    args::{
        AbortArgs, AliasArgs, DependentsArgs, ModelArgs, ModelCommand, ModelListArgs, ModelReportArgs,
        Shared, UnaliasArgs, VersionsArgs,
    },
    error::Failure,
    output::{ago, or_dash, table},
    push,
    tables::{CHAMPION, alias_table, version_table},
};

/// Models that are asked about at a time.
const CALLS: usize = 8;

/// Runs one.
pub(crate) async fn run(command: ModelCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        ModelCommand::Push(args) => push::run(args, shared).await,
        ModelCommand::List(args) => list(&args, &shared).await,
        ModelCommand::Get(args) => get(&args, &shared).await,
        ModelCommand::Versions(args) => versions(&args, &shared).await,
        ModelCommand::Alias(args) => alias(&args, &shared).await,
        ModelCommand::Unalias(args) => unalias(&args, &shared).await,
        ModelCommand::Report(args) => report(&args, &shared).await,
        ModelCommand::Dependents(args) => dependents(&args, &shared).await,
        ModelCommand::History(args) => history::of_models(&args, &shared).await,
        ModelCommand::Abort(args) => abort(&args, &shared).await,
    }
}

async fn list(args: &ModelListArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let models = client.list_models_where(&args.filter).await?;
    let of_each = stream::iter(models).map(|model| async {
        let aliases = client.list_aliases(&model.name).await?;
        Listed::read(&client, model, aliases).await
    });
    let models: Vec<Listed> = of_each.buffered(CALLS).try_collect().await?;
    let documents: Vec<Value> = models.iter().map(Listed::document).collect();
    let unfinished: Vec<_> = models.iter().flat_map(Listed::unfinished).collect();
    let document = json!({ "models": documents, "unfinished": unfinished });
    tell(&client, shared.output, document, || model_table(&models))
}

async fn get(args: &ModelArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let (model, aliases) = client.get_model(&args.model).await?;
    let listed = Listed::read(&client, model, aliases).await?;
    let unfinished: Vec<_> = listed.unfinished().collect();
    let document = json!({ "model": listed.document(), "aliases": listed.aliases, "unfinished": unfinished });
    tell(&client, shared.output, document, || {
        let mut text = model_table(std::slice::from_ref(&listed));
        if !listed.aliases.is_empty() {
            text = format!("{text}\n\n{}", alias_table(&listed.aliases));
        }
        text
    })
}

async fn versions(args: &VersionsArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let versions = client.list_versions_where(&args.model, &args.filter).await?;
    if versions.is_empty() {
        // A model without versions is an empty table; a name that nobody has is an error.
        client.get_model(&args.model).await?;
    }
    tell(&client, shared.output, json!({ "versions": versions }), || {
        version_table(&versions)
    })
}

async fn alias(args: &AliasArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, &args.change, ChangeOptions::default())?;
    let etag = args.etag.map(types::Revision);
    let alias = client
        .set_alias(&args.key, &args.alias, &args.reason, etag)
        .await?;
    tell_change(&client, shared.output, json!({ "alias": alias }), || {
        alias_table(std::slice::from_ref(&alias))
    })
}

async fn unalias(args: &UnaliasArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, &args.change, ChangeOptions::default())?;
    let (model, alias) = (&args.model, &args.alias);
    let etag = args.etag.map(types::Revision);
    let revision = client.delete_alias(model, alias, etag).await?;
    let document = json!({ "removed": { "model": model, "alias": alias } });
    tell_change(&client, shared.output, document, || {
        match args.change.validate_only {
            true => format!("the alias {alias} of {model} would be removed"),
            false => format!("the alias {alias} of {model} is removed, as of revision {revision}"),
        }
    })
}

async fn abort(args: &AbortArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let version = client.abort_version(&args.key, &args.reason).await?;
    tell_change(&client, shared.output, json!({ "version": version }), || {
        version_table(std::slice::from_ref(&version))
    })
}

async fn report(args: &ModelReportArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let metrics = args.metrics.iter().cloned().collect();
    let version = client
        .set_version_metrics(&args.key, &metrics, &args.remove)
        .await?;
    tell_change(&client, shared.output, json!({ "version": version }), || {
        metric_table(&version)
    })
}

async fn dependents(args: &DependentsArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let versions = client.list_dependents(&args.dataset, &args.filter).await?;
    let document = json!({ "dataset": args.dataset, "versions": versions });
    tell(&client, shared.output, document, || version_table(&versions))
}

/// A model with what belongs to it.
struct Listed {
    model: ModelRecord,
    /// Those that are not DELETED.
    versions: Vec<VersionRecord>,
    aliases: Vec<AliasRecord>,
}

impl Listed {
    async fn read(client: &Client, model: ModelRecord, aliases: Vec<AliasRecord>) -> Result<Self, Failure> {
        let mut versions = client.list_versions(&model.name).await?;
        versions.retain(|v| v.state != VersionState::Deleted);
        Ok(Self {
            model,
            versions,
            aliases,
        })
    }

    /// The version that answers requests which name none.
    fn champion(&self) -> Option<ModelVersion> {
        let champion = self.aliases.iter().find(|a| a.alias.as_str() == CHAMPION);
        champion.map(|alias| alias.version)
    }

    /// The model's record, with its champion and the number of its versions.
    fn document(&self) -> Value {
        let mut document = json!(self.model);
        document["champion"] = json!(self.champion());
        document["versions"] = json!(self.versions.len());
        document
    }

    /// What is not usable yet: announced, or complete and not yet verified.
    fn unfinished(&self) -> impl Iterator<Item = &VersionRecord> {
        let open =
            |v: &&VersionRecord| matches!(v.state, VersionState::PendingUpload | VersionState::Verifying);
        self.versions.iter().filter(open)
    }

    /// What of it is not finished, as in `1 PENDING_UPLOAD 5m ago`.
    fn unfinished_text(&self) -> String {
        let each = self
            .unfinished()
            .map(|v| format!("{} {} {}", v.key.version, v.state, ago(v.created_at)));
        or_dash(each.collect::<Vec<_>>().join(", "))
    }
}

fn model_table(models: &[Listed]) -> String {
    let headings = [
        "MODEL",
        "VERSIONS",
        "CHAMPION",
        "UNFINISHED",
        "PLACEMENT",
        "CREATED",
        "DESCRIPTION",
    ];
    table(
        headings,
        models.iter().map(|listed| {
            let model = &listed.model;
            [
                model.name.to_string(),
                listed.versions.len().to_string(),
                or_dash(listed.champion().map(|v| v.to_string()).unwrap_or_default()),
                listed.unfinished_text(),
                placement(&model.placement),
                ago(model.created_at),
                or_dash(model.description.as_str()),
            ]
        }),
    )
}

fn metric_table(version: &VersionRecord) -> String {
    let headings = ["VERSION", "METRIC", "VALUE", "MEASURED", "BY"];
    table(
        headings,
        version.metrics.iter().map(|(name, m)| {
            [
                version.key.to_string(),
                name.to_string(),
                m.value.to_string(),
                ago(m.at),
                m.by.to_string(),
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
