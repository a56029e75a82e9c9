//! `regent model …`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use types::{AliasName, DatasetName, MetricName, Micros, ModelName, RegionId, VersionKey};

use super::{ChangeArgs, ModelHistoryArgs, ReadArgs, duration, key_value, metric};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Uploads a directory as a new version, and waits until it is verified.
    Push(PushArgs),
    /// Lists the models.
    List(ModelListArgs),
    /// Shows one model with its aliases.
    Get(ModelArgs),
    /// Lists the versions of a model.
    Versions(VersionsArgs),
    /// Points an alias at a version, by compare-and-set.
    Alias(AliasArgs),
    /// Removes an alias, by compare-and-set. Agents load the versions that aliases point at, and `champion` answers requests
    /// that name none: without aliases a model is out of service.
    Unalias(UnaliasArgs),
    /// Says what was measured of a version, as in --metric accuracy=0.93; values that are not named stay.
    Report(ModelReportArgs),
    /// Lists the versions, of all models, that were trained from a data set; also those that were deleted since.
    Dependents(DependentsArgs),
    /// Shows which version took which one's place, when, by whom and why: every move of an alias that is remembered, newest first.
    History(ModelHistoryArgs),
    /// Gives up a version that never became ready, as after a push that was killed.
    Abort(AbortArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The model directory: config.json, model.safetensors or one .gguf, tokenizer.json.
    pub(crate) dir: PathBuf,
    /// The model's dotted name, as in fraud.scorer.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: ModelName,
    /// Point this alias at the new version once it is ready. The first version gets `champion` by itself.
    #[arg(long, value_name = "ALIAS")]
    pub(crate) alias: Option<AliasName>,
    /// Upload to this region's store [default: the region that holds primaries/global].
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<RegionId>,
    /// A key and value to keep with the version, as KEY=VALUE; may be given several times. They are set when the version
    /// is announced: for files that a version has already, nothing is changed.
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) metadata: Vec<(String, String)>,
    /// A data set that it was trained from; may be given several times. Set as --meta is.
    #[arg(long = "dataset", value_name = "DATASET")]
    pub(crate) datasets: Vec<DatasetName>,
    /// How many regions must hold verified copies before the command ends: a number, or `all`.
    #[arg(long, value_name = "N|all", default_value = "1")]
    pub(crate) wait_copies: WaitCopies,
    /// How long the push may take, from its first question until an agent has the version in memory, if an alias points
    /// at it.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m")]
    pub(crate) wait_timeout: Duration,
    /// Say on stderr how long each phase took.
    #[arg(long)]
    pub(crate) timing: bool,
}

/// How many verified copies a push waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitCopies {
    /// In this many regions.
    AtLeast(usize),
    /// In every region of the model's placement.
    All,
}

impl std::str::FromStr for WaitCopies {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(n)) if n > 0 => Ok(Self::AtLeast(n)),
            _ => Err("write a whole number from 1, or all".to_owned()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// The model.
    pub(crate) model: ModelName,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModelListArgs {
    /// Only models that meet this condition, as in 'name=fraud.*' or 'created_at>=2026-11-21'; may be given several times.
    /// Fields: name, description, tags.KEY, region (of the placement), created_at, created_by; with =, !=, <, <=, > or >=. A
    /// star stands for any part of a text. A day means its first moment in UTC: all of it is 'created_at>=2026-11-21' with
    /// 'created_at<2026-11-22'.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    /// The model.
    pub(crate) model: ModelName,
    /// Only versions that meet this condition, as in 'state=READY' or 'size<=64MiB'; may be given several times. Fields:
    /// version, state, framework, size, digest (of a file), source_region, region (with a verified copy), metadata.KEY,
    /// dataset (that it was trained from), metrics.NAME, created_at, created_by; with =, !=, <, <=, > or >=. A star stands for any part of a text. A day means its first moment
    /// in UTC: all of it is 'created_at>=2026-11-21' with 'created_at<2026-11-22'.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModelReportArgs {
    /// The version, as in fraud.scorer@3.
    #[arg(value_name = "MODEL@VERSION")]
    pub(crate) key: VersionKey,
    /// A value, as in latency_ms=31.5, with up to six digits behind the point; may be given several times. A version has 64 at
    /// most.
    #[arg(long = "metric", value_name = "NAME=VALUE", value_parser = metric, required_unless_present = "remove")]
    pub(crate) metrics: Vec<(MetricName, Micros)>,
    /// A value to forget, by its name; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) remove: Vec<MetricName>,
    /// Only if the version still is as it was at this revision (`modified` in `model versions --output json`).
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DependentsArgs {
    /// The data set, as versions name it.
    pub(crate) dataset: DatasetName,
    /// Only versions that meet this condition, as in 'state!=DELETED'; may be given several times. Fields and signs as in
    /// `model versions`.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AliasArgs {
    /// The version, as in fraud.scorer@3.
    #[arg(value_name = "MODEL@VERSION")]
    pub(crate) key: VersionKey,
    /// The alias.
    pub(crate) alias: AliasName,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Only if the alias still is as it was at this revision (`model get` shows it).
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UnaliasArgs {
    /// The model.
    pub(crate) model: ModelName,
    /// The alias.
    pub(crate) alias: AliasName,
    /// Only if the alias still is as it was at this revision (`model get` shows it).
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AbortArgs {
    /// The version, as in fraud.scorer@3.
    #[arg(value_name = "MODEL@VERSION")]
    pub(crate) key: VersionKey,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "given up by an operator")]
    pub(crate) reason: String,
    /// Only if the version still is as it was at this revision (`modified` in `model versions --output json`).
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}
