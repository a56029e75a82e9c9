//! `regent experiment …`.

use clap::{Args, Subcommand};
use types::{ExperimentName, MetricName, Micros, ModelName, ModelVersion, RegionId, experiment::Share};

use super::{ChangeArgs, ReadArgs, metric};

#[derive(Debug, Subcommand)]
pub(crate) enum ExperimentCommand {
    /// Begins to split a model's users over versions. They cannot be deleted while it runs.
    Create(ExperimentCreateArgs),
    /// Shows one experiment: its arms, and what was measured of each.
    Get(ExperimentGetArgs),
    /// Lists the experiments, also those that ended.
    List(ExperimentListArgs),
    /// Changes who gets what, moving no more users than it must: who leaves an arm that shrinks comes to one that grows.
    SetSplit(ExperimentSplitArgs),
    /// Says what was measured of one arm; values that are not named stay.
    Report(ExperimentReportArgs),
    /// Ends an experiment, for ever. It is remembered until a hundred later ones of its model have ended.
    End(ExperimentEndArgs),
    /// Says which version a user gets: the same one in every region and whoever leads, for as long as the split says so.
    Assign(ExperimentAssignArgs),
}

/// Which experiment.
#[derive(Debug, Args)]
pub(crate) struct ExperimentKey {
    /// The model.
    pub(crate) model: ModelName,
    /// The experiment's name.
    pub(crate) name: ExperimentName,
}

#[derive(Debug, Args)]
pub(crate) struct ExperimentCreateArgs {
    #[command(flatten)]
    pub(crate) key: ExperimentKey,
    /// A version and its share of the users, as in 3=90; two to ten of them, 100 together. The first one is the fallback: who is
    /// in an arm whose version cannot be served gets it.
    #[arg(long = "arm", value_name = "VERSION=PERCENT", value_parser = share, required = true)]
    pub(crate) arms: Vec<Share>,
    /// For people.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) description: String,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExperimentGetArgs {
    #[command(flatten)]
    pub(crate) key: ExperimentKey,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExperimentListArgs {
    /// Only of this model.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<ModelName>,
    /// Only experiments that meet this condition, as in 'state=RUNNING'; may be given several times. Fields: model, name,
    /// description, state, version (of any arm), created_at, created_by; as in `model list`.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExperimentSplitArgs {
    #[command(flatten)]
    pub(crate) key: ExperimentKey,
    /// A version and its share of the users, as in 3=50: every arm that there is, with 0 to empty one; others become arms.
    #[arg(long = "arm", value_name = "VERSION=PERCENT", value_parser = share, required = true)]
    pub(crate) arms: Vec<Share>,
    /// The revision of the split that is changed (ETAG in `experiment get`): refused where somebody else has changed it since.
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: u64,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExperimentReportArgs {
    #[command(flatten)]
    pub(crate) key: ExperimentKey,
    /// The arm's version.
    #[arg(long = "arm", value_name = "VERSION")]
    pub(crate) arm: ModelVersion,
    /// A value, as in latency_ms=31.5, with up to six digits behind the point; may be given several times. An arm has 32 at most.
    #[arg(long = "metric", value_name = "NAME=VALUE", value_parser = metric, required = true)]
    pub(crate) metrics: Vec<(MetricName, Micros)>,
    /// Only if the experiment still is as it was at this revision.
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExperimentEndArgs {
    #[command(flatten)]
    pub(crate) key: ExperimentKey,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Only if the experiment still is as it was at this revision.
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExperimentAssignArgs {
    #[command(flatten)]
    pub(crate) key: ExperimentKey,
    /// The user's id: any text, always the same for the same user.
    pub(crate) user: String,
    /// Only versions with a verified copy in this region can be served.
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<RegionId>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

fn share(text: &str) -> Result<Share, String> {
    let read = |text: &str| {
        let (version, percent) = text.split_once('=')?;
        Some(Share {
            version: version.parse().ok()?,
            percent: percent.parse().ok()?,
        })
    };
    read(text).ok_or_else(|| "write VERSION=PERCENT, both whole numbers, as in 3=90".to_owned())
}
