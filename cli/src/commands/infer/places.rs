//! Where a question can be asked.

use client::Client;
use types::{
    RegionId,
    reason::{Reason, Refusal},
    region::{Health, NodeKind, NodeRecord, NodeStatus, RegionRecord},
};

use crate::{error::Failure, exit::Exit};

/// Where inference is served, and what the registry last knew of it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) region: RegionId,
    pub(super) status: NodeStatus,
    pub(super) base: String,
}

/// The inference endpoints to try, the likeliest first.
pub(super) async fn places(client: &Client, wanted: Option<&RegionId>) -> Result<Vec<Place>, Failure> {
    let regions = client.list_regions().await?;
    if let Some(wanted) = wanted
        && !regions.iter().any(|r| &r.region == wanted)
    {
        let known: Vec<&str> = regions.iter().map(|r| r.region.as_str()).collect();
        let message = format!("no region {wanted}; there are {}", known.join(", "));
        return Err(Refusal::new(Reason::RegionNotFound, message)
            .with("region", wanted)
            .into());
    }
    let nodes = client.list_nodes(wanted).await?;
    let places = in_order(&regions, nodes);
    if places.is_empty() {
        let place = wanted.map_or_else(|| "any region".to_owned(), ToString::to_string);
        return Err(
            Failure::new(Exit::Unavailable, format!("no agent serves inference in {place}"))
                .because(Reason::NotServing)
                .remedy("`regent region list` shows which agents are UP"),
        );
    }
    Ok(places)
}

/// Agents that are up in healthy regions first, then the rest: an agent that lost its session may well answer,
/// and whoever asks learns more from it than from the registry's last knowledge of it.
fn in_order(regions: &[RegionRecord], nodes: Vec<NodeRecord>) -> Vec<Place> {
    let healthy = |region: &RegionId| {
        regions
            .iter()
            .any(|r| &r.region == region && r.health == Health::Healthy)
    };
    let mut places: Vec<Place> = nodes
        .into_iter()
        .filter(|node| node.kind == NodeKind::Agent && !node.endpoints.inference.is_empty())
        .map(|node| Place {
            region: node.region,
            status: node.status,
            base: node.endpoints.inference,
        })
        .collect();
    places.sort_by_key(|place| (place.status, !healthy(&place.region)));
    places
}

#[cfg(test)]
mod tests {
    use types::{NodeId, NodeIncarnation, Revision, UnixMillis, region::Endpoints};

    use super::*;

    fn region(name: &str, health: Health) -> RegionRecord {
        RegionRecord {
            region: name.parse().unwrap(),
            health,
            health_evidence: String::new(),
            health_changed_at: UnixMillis(0),
            store: None,
            labels: types::region::RegionLabels::default(),
            modified: Revision(1),
        }
    }

    fn node(name: &str, region: &str, kind: NodeKind, status: NodeStatus, inference: &str) -> NodeRecord {
        NodeRecord {
            node: name.parse::<NodeId>().unwrap(),
            region: region.parse().unwrap(),
            zone: None,
            kind,
            incarnation: NodeIncarnation::from_u128(1),
            endpoints: Endpoints {
                inference: inference.to_owned(),
                ..Endpoints::default()
            },
            status,
            changed_at: UnixMillis(0),
            modified: Revision(1),
        }
    }

    #[test]
    fn agents_that_are_up_in_healthy_regions_come_first_and_none_is_left_out() {
        use NodeKind::{Agent, Coordinator};
        use NodeStatus::{Down, Up};
        let regions = [region("ill", Health::Unhealthy), region("well", Health::Healthy)];
        let nodes = vec![
            node("a", "ill", Agent, Down, "http://a"),
            node("b", "ill", Agent, Up, "http://b"),
            node("c", "well", Agent, Down, "http://c"),
            node("d", "well", Coordinator, Up, "http://d"),
            node("e", "well", Agent, Up, ""),
            node("f", "well", Agent, Up, "http://f"),
        ];
        let bases: Vec<String> = in_order(&regions, nodes).into_iter().map(|p| p.base).collect();
        assert_eq!(bases, ["http://f", "http://b", "http://c", "http://a"]);
    }
}
