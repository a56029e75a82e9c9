//! `RegionService`: regions, nodes, and the stores that agents attach.

use std::sync::Arc;

use proto::{
    convert::{regions as conv, text},
    v1::{self as pb, region_service_server::RegionService},
};
use state::Command;
use tonic::{Request, Response, Status};
use types::{
    NodeId, Reason, RegionId,
    history::{HealthChange, HealthSubject},
    reason::Refusal,
    region::{NodeRecord, RegionLabels, RegionRecord},
};

use super::{Api, Manner, caller, filter::Conditions, list, not_found, require_agent, status};
use crate::authz::Caller;

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Clone, Debug)]
pub struct Regions(pub Arc<Api>);

impl Regions {
    /// Makes a change, and answers with the region as it is then.
    async fn change(
        &self,
        caller: &Caller,
        manner: Manner,
        region: &RegionId,
        command: Command,
    ) -> Answer<pb::GetRegionResponse> {
        let done = self.0.propose(caller, manner, command).await?;
        let record = done.record(&self.0, region, |region: &RegionRecord| region.into())?;
        Ok(Response::new(pb::GetRegionResponse {
            header: Some(done.header),
            region: Some(record),
        }))
    }
}

#[tonic::async_trait]
impl RegionService for Regions {
    async fn list_regions(
        &self,
        request: Request<pb::ListRegionsRequest>,
    ) -> Answer<pb::ListRegionsResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let (header, regions) = self
            .0
            .read(&caller, r.read, |s| s.regions().map(Into::into).collect())
            .await?;
        Ok(Response::new(pb::ListRegionsResponse {
            header: Some(header),
            regions,
        }))
    }

    async fn get_region(&self, request: Request<pb::GetRegionRequest>) -> Answer<pb::GetRegionResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let region: RegionId = text("region", &r.region).map_err(status)?;
        let (header, found) = self
            .0
            .read(&caller, r.read, |s| s.region(&region).map(Into::into))
            .await?;
        let missing = || not_found(Reason::RegionNotFound, "region", &region);
        Ok(Response::new(pb::GetRegionResponse {
            header: Some(header),
            region: Some(found.ok_or_else(missing)?),
        }))
    }

    async fn create_region(
        &self,
        request: Request<pb::CreateRegionRequest>,
    ) -> Answer<pb::GetRegionResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let region: RegionId = text("region", &r.region).map_err(status)?;
        let manner = Manner::of(&r.request_id).validate_only(r.validate_only);
        let command = Command::CreateRegion {
            region: region.clone(),
            labels: RegionLabels {
                display_name: r.display_name,
                provider: r.provider,
                cost_tags: r.cost_tags,
            },
        };
        self.change(&caller, manner, &region, command).await
    }

    async fn update_region(
        &self,
        request: Request<pb::UpdateRegionRequest>,
    ) -> Answer<pb::GetRegionResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let region: RegionId = text("region", &r.region).map_err(status)?;
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let command = Command::UpdateRegion {
            region: region.clone(),
            display_name: r.display_name,
            provider: r.provider,
            set_cost_tags: r.set_cost_tags,
            remove_cost_tags: r.remove_cost_tags.into_iter().collect(),
        };
        let manner = manner.validate_only(r.validate_only);
        self.change(&caller, manner, &region, command).await
    }

    async fn delete_region(
        &self,
        request: Request<pb::DeleteRegionRequest>,
    ) -> Answer<pb::DeleteRegionResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let command = Command::DeleteRegion {
            region: text("region", &r.region).map_err(status)?,
        };
        let manner = manner.validate_only(r.validate_only);
        let done = self.0.propose(&caller, manner, command).await?;
        Ok(Response::new(pb::DeleteRegionResponse {
            header: Some(done.header),
        }))
    }

    async fn remove_node(&self, request: Request<pb::RemoveNodeRequest>) -> Answer<pb::RemoveNodeResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let command = Command::RemoveNode {
            node: text("node", &r.node).map_err(status)?,
        };
        let manner = manner.validate_only(r.validate_only);
        let done = self.0.propose(&caller, manner, command).await?;
        Ok(Response::new(pb::RemoveNodeResponse {
            header: Some(done.header),
        }))
    }

    async fn list_nodes(&self, request: Request<pb::ListNodesRequest>) -> Answer<pb::ListNodesResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let region: Option<RegionId> = match r.region.as_str() {
            "" => None,
            region => Some(text("region", region).map_err(status)?),
        };
        let zone = conv::zone(&r.zone).map_err(status)?;
        let is_wanted = |n: &&NodeRecord| {
            region.as_ref().is_none_or(|r| r == &n.region) && (zone.is_none() || zone == n.zone)
        };
        let (header, nodes) = self
            .0
            .read(&caller, r.read, |s| {
                s.nodes().filter(is_wanted).map(Into::into).collect()
            })
            .await?;
        Ok(Response::new(pb::ListNodesResponse {
            header: Some(header),
            nodes,
        }))
    }

    async fn get_node(&self, request: Request<pb::GetNodeRequest>) -> Answer<pb::GetNodeResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let node: NodeId = text("node", &r.node).map_err(status)?;
        let (header, found) = self
            .0
            .read(&caller, r.read, |s| s.node(&node).map(Into::into))
            .await?;
        let missing = || not_found(Reason::NodeNotFound, "node", &node);
        Ok(Response::new(pb::GetNodeResponse {
            header: Some(header),
            node: Some(found.ok_or_else(missing)?),
        }))
    }

    async fn list_health_changes(
        &self,
        request: Request<pb::ListHealthChangesRequest>,
    ) -> Answer<pb::ListHealthChangesResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let subject = (!r.subject.is_empty()).then(|| text("subject", &r.subject));
        let subject: Option<HealthSubject> = subject.transpose().map_err(status)?;
        let start = list::position::<list::Moment<HealthSubject>>(&r.page_token)?;
        let filter = Conditions::of::<HealthChange>(&r.filter)?;
        let size = list::page_size(r.page_size);
        let (header, (changes, next)) = self
            .0
            .read(&caller, r.read, |s| {
                let start = start.map(|list::Moment(subject, revision)| (subject, revision));
                let page = s.health_changes_where(subject.as_ref(), start, size, |c| filter.takes(s, c));
                list::cut(page, |c| (c.subject.clone(), c.revision))
            })
            .await?;
        Ok(Response::new(pb::ListHealthChangesResponse {
            header: Some(header),
            changes,
            next_page_token: list::token(next.map(|(subject, revision)| list::Moment(subject, revision))),
        }))
    }

    async fn attach_store(&self, request: Request<pb::AttachStoreRequest>) -> Answer<pb::GetRegionResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let region: RegionId = text("region", &r.region).map_err(status)?;
        let (own, _) = require_agent(&caller.principal)?;
        if own != &region {
            let why = format!(
                "{} attaches the store of {own}, not of {region}",
                caller.principal
            );
            return Err(status(Refusal::new(Reason::PermissionDenied, why)));
        }
        let command = Command::AttachStore {
            region: region.clone(),
            store: conv::store(r.store).map_err(status)?,
        };
        let manner = Manner::of(&r.request_id);
        self.change(&caller, manner, &region, command).await
    }
}
