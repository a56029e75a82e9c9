//! What a cluster of `dev` is made of: kept in its directory, so that the next start finds the same regions.

use serde::{Deserialize, Serialize};
use types::{RegionId, role::TimingPolicy};

use crate::{
    dev::{
        files::{self, Access},
        layout::Layout,
    },
    error::Failure,
};

/// Names that regions get, in this order; the first one bootstraps the cluster.
const REGION_NAMES: [&str; 7] = [
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1",
    "us-east-1",
    "eu-central-1",
    "ap-northeast-1",
    "sa-east-1",
];

/// The content of `cluster.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterSpec {
    /// The regions; the first one bootstraps.
    pub(crate) regions: Vec<RegionId>,
    /// The timing policy of the bootstrap: `fast`, `default` or `conservative`.
    pub(crate) timing: String,
}

impl ClusterSpec {
    /// A cluster of the first `regions` names.
    pub(crate) fn new(regions: usize, timing: &str) -> Result<Self, Failure> {
        if TimingPolicy::named(timing).is_none() {
            return Err(Failure::usage(format!("no timing policy is called {timing:?}"))
                .remedy("write fast, default or conservative"));
        }
        let most = REGION_NAMES.len();
        if regions == 0 || regions > most {
            return Err(Failure::usage(format!(
                "a cluster on one machine has 1 to {most} regions, not {regions}"
            )));
        }
        let names = REGION_NAMES[..regions].iter();
        Ok(Self {
            regions: names.map(|name| RegionId::new(*name)).collect::<Result<_, _>>()?,
            timing: timing.to_owned(),
        })
    }

    /// What the directory holds; none where there is no cluster yet.
    pub(crate) fn read(layout: &Layout) -> Result<Option<Self>, Failure> {
        let path = layout.spec();
        // `exists` would call an unreadable directory an empty one, and a new cluster would be made over it.
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                return Err(Failure::file("read", &path, error)
                    .remedy("give yourself access to the directory, or name another one with --dir"));
            }
        }
        let text = files::read(&path)?;
        let parsed: Self =
            toml::from_str(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        if parsed.regions.is_empty() {
            return Err(Failure::usage(format!(
                "{}: `regions` names no region",
                path.display()
            )));
        }
        Ok(Some(parsed))
    }

    /// Keeps it.
    pub(crate) fn write(&self, layout: &Layout) -> Result<(), Failure> {
        let text = toml::to_string(self).map_err(Failure::other)?;
        files::write(&layout.spec(), text.as_bytes(), Access::Public)
    }
}
