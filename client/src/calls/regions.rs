//! Regions, their nodes and their stores.

use proto::{
    convert::regions,
    v1::{self as pb, region_service_client::RegionServiceClient},
};
use types::{
    NodeId, RegionId, ZoneName,
    reason::Refusal,
    region::{NodeRecord, RegionRecord, StoreBinding},
};

use super::{Client, options::Kind};

impl Client {
    /// All regions, by name.
    pub async fn list_regions(&self) -> Result<Vec<RegionRecord>, Refusal> {
        let message = pb::ListRegionsRequest {
            read: self.read_options(),
        };
        let answer = send!(self, Anyone, RegionServiceClient::list_regions, message)?;
        answer.regions.into_iter().map(regions::region).collect()
    }

    /// One region.
    pub async fn get_region(&self, region: &RegionId) -> Result<RegionRecord, Refusal> {
        let message = pb::GetRegionRequest {
            read: self.read_options(),
            region: region.to_string(),
        };
        let answer = send!(self, Anyone, RegionServiceClient::get_region, message)?;
        regions::region(proto::convert::required("region", answer.region)?)
    }

    /// The nodes of a region, or all.
    pub async fn list_nodes(&self, region: Option<&RegionId>) -> Result<Vec<NodeRecord>, Refusal> {
        self.list_nodes_in(region, None).await
    }

    /// The nodes of a region, or of all, whose configs name a zone, or whatever they name.
    pub async fn list_nodes_in(
        &self,
        region: Option<&RegionId>,
        zone: Option<&ZoneName>,
    ) -> Result<Vec<NodeRecord>, Refusal> {
        let message = pb::ListNodesRequest {
            read: self.read_options(),
            region: region.map(ToString::to_string).unwrap_or_default(),
            zone: regions::zone_to_pb(zone),
        };
        let answer = send!(self, Anyone, RegionServiceClient::list_nodes, message)?;
        let nodes = answer.nodes.into_iter().map(regions::node);
        // A coordinator from before there were zones does not look at the field, and knows of none.
        let wanted = |node: &NodeRecord| zone.is_none() || zone == node.zone.as_ref();
        Ok(nodes
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .filter(wanted)
            .collect())
    }

    /// One node.
    pub async fn get_node(&self, node: &NodeId) -> Result<NodeRecord, Refusal> {
        let message = pb::GetNodeRequest {
            read: self.read_options(),
            node: node.to_string(),
        };
        let answer = send!(self, Anyone, RegionServiceClient::get_node, message)?;
        regions::node(proto::convert::required("node", answer.node)?)
    }

    /// Binds a region to its object store.
    pub async fn attach_store(
        &self,
        region: &RegionId,
        store: &StoreBinding,
    ) -> Result<RegionRecord, Refusal> {
        let said = self.said(Kind::REPORT).await?;
        let message = pb::AttachStoreRequest {
            request_id: said.request_id,
            region: region.to_string(),
            store: Some(store.into()),
        };
        let answer = send!(self, Change, RegionServiceClient::attach_store, message)?;
        regions::region(proto::convert::required("region", answer.region)?)
    }
}
