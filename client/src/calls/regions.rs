//! Regions, their nodes and their stores.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    convert::regions,
    v1::{self as pb, region_service_client::RegionServiceClient},
};
use types::{
    NodeId, RegionId, Revision, ZoneName,
    reason::Refusal,
    region::{NodeRecord, RegionLabels, RegionRecord, StoreBinding},
};

use super::{Client, Header, options::Kind};

/// What is to be said of a region from here on; what is none or empty stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionChange {
    /// As people call it; empty text: by its name again.
    pub display_name: Option<String>,
    /// Who runs its machines; empty text: nobody says.
    pub provider: Option<String>,
    /// Cost tags to set.
    pub set_cost_tags: BTreeMap<String, String>,
    /// Keys of cost tags to remove; one that is not there is no error.
    pub remove_cost_tags: BTreeSet<String>,
}

impl Client {
    /// All regions, in the order in which they joined.
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

    /// Adds a region before its first node does so by joining.
    pub async fn create_region(
        &self,
        region: &RegionId,
        labels: &RegionLabels,
    ) -> Result<RegionRecord, Refusal> {
        let said = self.said(Kind::CREATE).await?;
        let message = pb::CreateRegionRequest {
            request_id: said.request_id,
            region: region.to_string(),
            display_name: labels.display_name.clone(),
            provider: labels.provider.clone(),
            cost_tags: labels.cost_tags.clone(),
            validate_only: said.validate_only,
        };
        let answer = send!(self, Change, RegionServiceClient::create_region, message)?;
        regions::region(proto::convert::required("region", answer.region)?)
    }

    /// Changes what people say of a region.
    pub async fn update_region(
        &self,
        region: &RegionId,
        change: &RegionChange,
    ) -> Result<RegionRecord, Refusal> {
        let said = self.said(Kind::BY_ETAG).await?;
        let message = pb::UpdateRegionRequest {
            request_id: said.request_id,
            region: region.to_string(),
            display_name: change.display_name.clone(),
            provider: change.provider.clone(),
            set_cost_tags: change.set_cost_tags.clone(),
            remove_cost_tags: change.remove_cost_tags.iter().cloned().collect(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        let answer = send!(self, Change, RegionServiceClient::update_region, message)?;
        regions::region(proto::convert::required("region", answer.region)?)
    }

    /// Takes a region away that is not in use; at which revision.
    pub async fn delete_region(&self, region: &RegionId) -> Result<Revision, Refusal> {
        let said = self.said(Kind::BY_ETAG).await?;
        let message = pb::DeleteRegionRequest {
            request_id: said.request_id,
            region: region.to_string(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        let answer = send!(self, Change, RegionServiceClient::delete_region, message)?;
        Ok(Header::read(answer.header)?.revision)
    }

    /// Drops the record of an agent that is down; at which revision.
    pub async fn remove_node(&self, node: &NodeId) -> Result<Revision, Refusal> {
        let said = self.said(Kind::BY_ETAG).await?;
        let message = pb::RemoveNodeRequest {
            request_id: said.request_id,
            node: node.to_string(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        let answer = send!(self, Change, RegionServiceClient::remove_node, message)?;
        Ok(Header::read(answer.header)?.revision)
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
