//! Whether what was pushed can be served: the agents of the regions that hold a copy are asked themselves.
//!
//! A copy whose agent cannot be asked says nothing either way: it is *unknown*, and neither ends the wait nor fails the push.

use std::{collections::BTreeSet, fmt, time::Duration};

use client::{Client, TlsFiles};
use futures::{StreamExt as _, stream};
use proto::v1::ServedVersion;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use types::{
    NodeId, Reason, RegionId, VersionKey,
    model::Placement,
    reason::Refusal,
    region::{NodeKind, NodeRecord, NodeStatus},
    replica::ReplicaState,
};

use super::wait::{Limit, POLL_INTERVAL, late};
use crate::{commands::node::agent_status, error::Failure, exit::Exit, output::note};

/// What helps where the wait ended and nobody has it in memory.
pub(super) const REMEDY: &str = "the push is done, and agents go on loading: `regent node list` shows what each has in memory, and why not";
/// Agents that are asked at a time.
const CALLS: usize = 8;
/// How long agents are asked of whom none answers: whoever reaches coordinators alone is not held up for ever.
const UNHEARD: Duration = Duration::from_secs(10);

/// How an agent stands to a version of which its region holds a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "error", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Stand {
    /// In memory.
    Loaded,
    /// Not yet; with what its last try met, if that failed for a reason of the node's.
    Loading(String),
    /// The version itself is at fault.
    Defective(String),
    /// The agent cannot be asked.
    Unknown(String),
    /// The registry counts the agent as gone: nobody waits for it.
    Down,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Agent {
    region: RegionId,
    node: NodeId,
    #[serde(flatten)]
    stand: Stand,
}

/// What the agents said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Agents {
    /// Those beside a copy.
    asked: Vec<Agent>,
    /// Regions that are to have a copy and have none yet, though an agent waits there to load it.
    without_copy: Vec<RegionId>,
}

/// What they come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// At least one serves it.
    Served,
    /// At least one may yet.
    Wait,
    /// It is known that nobody can load it: in every region where one may, one tried and failed for a defect of the version.
    Defective,
    /// None could be asked.
    Unheard,
}

impl Agents {
    fn verdict(&self) -> Verdict {
        let any = |is: fn(&Stand) -> bool| self.asked.iter().any(|agent| is(&agent.stand));
        if any(|stand| *stand == Stand::Loaded) {
            Verdict::Served
        } else if any(|stand| matches!(stand, Stand::Loading(_))) {
            Verdict::Wait
        } else if !any(is_defective) {
            Verdict::Unheard
        } else if self.without_copy.is_empty()
            && self.asked.iter().all(|agent| self.is_settled(&agent.region))
        {
            Verdict::Defective
        } else {
            Verdict::Wait
        }
    }

    /// Whether an agent of the region found the version at fault, or none is left there that could say otherwise.
    fn is_settled(&self, region: &RegionId) -> bool {
        let own = || self.asked.iter().filter(|agent| &agent.region == region);
        own().any(|agent| is_defective(&agent.stand)) || own().all(|agent| agent.stand == Stand::Down)
    }

    /// The regions that have it in memory.
    pub(super) fn loaded_in(&self) -> Vec<&RegionId> {
        let loaded = self.asked.iter().filter(|agent| agent.stand == Stand::Loaded);
        let mut regions: Vec<_> = loaded.map(|agent| &agent.region).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }

    /// One for each.
    pub(super) fn documents(&self) -> &[Agent] {
        &self.asked
    }

    /// No agent can load it: the push is done, and serves nobody.
    fn defective(&self, key: &VersionKey) -> Failure {
        let message = format!("{key} is pushed, and no agent can load it: {self}");
        Failure::new(Exit::Findings, message)
            .because(Reason::ModelInvalid)
            .with("version", key)
            .remedy(format!(
                "push a directory that loads: it becomes another version; what answered before goes on answering; `regent model versions {}` shows what there is to point the alias back at",
                key.model
            ))
    }
}

fn is_defective(stand: &Stand) -> bool {
    matches!(stand, Stand::Defective(_))
}

/// As in `loaded in us-east-1, us-west-2; loading in eu-west-1; unknown in ap-southeast-1: …`.
impl fmt::Display for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = self
            .asked
            .is_empty()
            .then(|| "no agent is beside a copy".to_owned());
        let loaded: Vec<&str> = self.loaded_in().into_iter().map(RegionId::as_str).collect();
        let loaded = (!loaded.is_empty()).then(|| format!("loaded in {}", loaded.join(", ")));
        let others = self
            .asked
            .iter()
            .filter_map(|Agent { region, stand, .. }| match stand {
                Stand::Loaded => None,
                Stand::Loading(why) if why.is_empty() => Some(format!("loading in {region}")),
                Stand::Loading(why) => Some(format!("loading in {region}, again: {why}")),
                Stand::Defective(why) => Some(format!("does not load in {region}: {why}")),
                Stand::Unknown(why) => Some(format!("unknown in {region}: {why}")),
                Stand::Down => Some(format!("nobody is asked in {region}: its agent is DOWN")),
            });
        let without = self
            .without_copy
            .iter()
            .map(|region| format!("no copy yet in {region}"));
        let parts: Vec<String> = none
            .into_iter()
            .chain(loaded)
            .chain(others)
            .chain(without)
            .collect();
        f.write_str(&parts.join("; "))
    }
}

/// Until an agent that has a copy has it in memory; `agents` is what they said last, however this ends.
pub(super) async fn until_loaded(
    client: &Client,
    tls: &TlsFiles,
    key: &VersionKey,
    patience: Duration,
    limit: Limit,
    agents: &mut Agents,
) -> Result<(), Failure> {
    let mut unheard_since = None;
    loop {
        let (nodes, without_copy) = limit.insist(async || beside_copies(client, key).await).await?;
        let asked = stream::iter(nodes).map(|node| ask(node, key, tls, patience));
        *agents = Agents {
            asked: asked.buffered(CALLS).collect().await,
            without_copy,
        };
        let verdict = agents.verdict();
        if verdict != Verdict::Unheard {
            unheard_since = None;
        }
        match verdict {
            Verdict::Served => return Ok(()),
            Verdict::Defective => return Err(agents.defective(key)),
            Verdict::Unheard if unheard_since.get_or_insert_with(Instant::now).elapsed() >= UNHEARD => {
                note(&format!("whether {key} is loaded is not known: {agents}"));
                return Ok(());
            }
            Verdict::Wait | Verdict::Unheard if limit.is_over() => {
                let message = format!("no agent has {key} in memory after {}: {agents}", limit.given());
                return Err(late(message));
            }
            Verdict::Wait | Verdict::Unheard => sleep(POLL_INTERVAL).await,
        }
    }
}

/// The agents of the regions whose stores hold a verified copy; and the other regions of the model's that have an agent.
async fn beside_copies(
    client: &Client,
    key: &VersionKey,
) -> Result<(Vec<NodeRecord>, Vec<RegionId>), Refusal> {
    let (model, _) = client.get_model(&key.model).await?;
    let is_placed = |region: &RegionId| match &model.placement {
        Placement::Everywhere => true,
        Placement::Regions(regions) => regions.contains(region),
    };
    let replicas = client.list_replicas(Some(&key.model), None).await?;
    let is_verified = |region: &RegionId| {
        let mut own = replicas
            .iter()
            .filter(|r| &r.key.version == key && &r.key.region == region);
        own.any(|r| r.state == ReplicaState::Verified)
    };
    let mut nodes = client.list_nodes(None).await?;
    nodes.retain(|node| node.kind == NodeKind::Agent);
    let (beside, others): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| is_verified(&node.region));
    let others = others.into_iter().filter(|node| node.status == NodeStatus::Up);
    let others = others.map(|node| node.region);
    let without_copy: BTreeSet<_> = others.filter(is_placed).collect();
    Ok((beside, without_copy.into_iter().collect()))
}

async fn ask(node: NodeRecord, key: &VersionKey, tls: &TlsFiles, patience: Duration) -> Agent {
    let stand = match node.status {
        NodeStatus::Up => match agent_status(&node, tls, patience).await {
            Ok(status) => stand(&status.served, key),
            Err(refusal) => Stand::Unknown(refusal.message),
        },
        NodeStatus::Down | NodeStatus::Removed => Stand::Down,
    };
    Agent {
        region: node.region,
        node: node.node,
        stand,
    }
}

fn stand(served: &[ServedVersion], key: &VersionKey) -> Stand {
    let is_it = |v: &&ServedVersion| v.model == key.model.as_str() && v.version == key.version.0;
    match served.iter().find(is_it) {
        Some(version) if version.loaded => Stand::Loaded,
        Some(version) if version.defective && !version.error.is_empty() => {
            Stand::Defective(version.error.clone())
        }
        Some(version) => Stand::Loading(version.error.clone()),
        // It has not heard of the alias yet.
        None => Stand::Loading(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agents(stands: &[Stand]) -> Agents {
        let agent = |(n, stand): (usize, &Stand)| Agent {
            region: format!("r{n}").parse().unwrap(),
            node: format!("a{n}").parse().unwrap(),
            stand: stand.clone(),
        };
        Agents {
            asked: stands.iter().enumerate().map(agent).collect(),
            without_copy: Vec::new(),
        }
    }

    #[test]
    fn one_that_serves_is_enough_and_one_that_cannot_be_asked_has_not_failed() {
        let bad = || Stand::Defective("not finite".to_owned());
        let unknown = || Stand::Unknown("silent".to_owned());
        let loading = || Stand::Loading(String::new());
        let check = |stands: &[Stand], expected| assert_eq!(agents(stands).verdict(), expected, "{stands:?}");
        check(&[], Verdict::Unheard);
        check(&[unknown(), unknown()], Verdict::Unheard);
        check(&[bad(), Stand::Loaded, unknown()], Verdict::Served);
        check(&[bad(), loading()], Verdict::Wait);
        check(&[unknown(), loading()], Verdict::Wait);
        check(&[Stand::Loading("no memory".to_owned())], Verdict::Wait);
        check(&[bad(), bad()], Verdict::Defective);
        check(&[bad(), unknown()], Verdict::Wait);
        check(&[bad(), Stand::Down], Verdict::Defective);
        check(&[Stand::Down, Stand::Down], Verdict::Unheard);
        check(&[bad(), Stand::Down, unknown()], Verdict::Wait);
        // Another agent of the region said it.
        let mut all = agents(&[bad(), unknown()]);
        all.asked[1].region = all.asked[0].region.clone();
        assert_eq!(all.verdict(), Verdict::Defective);
        all.without_copy.push("r9".parse().unwrap());
        assert_eq!(all.verdict(), Verdict::Wait, "somebody has not tried yet");
        assert!(all.to_string().ends_with("; no copy yet in r9"), "{all}");
    }

    #[test]
    fn a_region_that_has_it_is_named_once() {
        let mut all = agents(&[Stand::Loaded, Stand::Loaded, Stand::Loaded]);
        all.asked.swap(0, 1);
        all.asked[2].region = all.asked[0].region.clone();
        assert_eq!(json!(all.loaded_in()), json!(["r0", "r1"]));
    }

    #[test]
    fn each_agent_is_named_with_how_it_stands() {
        let all = agents(&[
            Stand::Loaded,
            Stand::Loading(String::new()),
            Stand::Defective("not finite".to_owned()),
            Stand::Unknown("silent".to_owned()),
            Stand::Loaded,
        ]);
        let text = "loaded in r0, r4; loading in r1; does not load in r2: not finite; unknown in r3: silent";
        assert_eq!(all.to_string(), text);
        let documents = json!(all.documents());
        assert_eq!(
            documents[0],
            json!({ "region": "r0", "node": "a0", "state": "LOADED" })
        );
        assert_eq!(documents[3]["state"], "UNKNOWN");
        assert_eq!(documents[3]["error"], "silent");
        assert_eq!(json!(all.loaded_in()), json!(["r0", "r4"]));
    }

    #[test]
    fn what_an_agent_says_of_another_version_or_of_its_own_trouble_is_no_defect() {
        let key: VersionKey = "m@2".parse().unwrap();
        let version = |version, error: &str, defective| ServedVersion {
            model: "m".to_owned(),
            version,
            loaded: false,
            error: error.to_owned(),
            defective,
        };
        let check = |served: &[ServedVersion], expected| assert_eq!(stand(served, &key), expected);
        check(&[version(1, "not finite", true)], Stand::Loading(String::new()));
        check(&[version(2, "", false)], Stand::Loading(String::new()));
        check(
            &[version(2, "no space", false)],
            Stand::Loading("no space".to_owned()),
        );
        check(
            &[version(2, "not finite", true)],
            Stand::Defective("not finite".to_owned()),
        );
    }
}
