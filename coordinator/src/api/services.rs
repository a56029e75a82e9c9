//! `DiscoveryService`: instances of services, said and looked up.

use std::sync::Arc;

use proto::{
    convert::{services as conv, text},
    v1::{self as pb, discovery_service_server::DiscoveryService},
};
use state::{Command, ControlState};
use tonic::{Request, Response, Status};
use types::{
    NodeIncarnation, Reason, ServiceName,
    service::{ServiceKey, ServiceRecord},
};

use super::{Api, Manner, caller, filter::Conditions, list, not_found, status};

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Clone, Debug)]
pub struct Discovery(pub Arc<Api>);

fn instance_of(state: &ControlState, key: &ServiceKey) -> Result<pb::ServiceInstance, Status> {
    let found = state.service(key).map(Into::into);
    found.ok_or_else(|| not_found(Reason::ServiceNotFound, "service", key))
}

fn run(incarnation: &str) -> Result<Option<NodeIncarnation>, Status> {
    let named = (!incarnation.is_empty()).then(|| text("incarnation", incarnation));
    named.transpose().map_err(status)
}

fn response(header: pb::ResponseHeader, instance: pb::ServiceInstance) -> Response<pb::ServiceResponse> {
    Response::new(pb::ServiceResponse {
        header: Some(header),
        instance: Some(instance),
    })
}

#[tonic::async_trait]
impl DiscoveryService for Discovery {
    async fn register_service(
        &self,
        request: Request<pb::RegisterServiceRequest>,
    ) -> Answer<pb::ServiceResponse> {
        let read = |r: pb::RegisterServiceRequest| {
            let key = conv::key(&r.service, &r.node, r.port).map_err(status)?;
            let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
            let command = Command::RegisterService {
                key: key.clone(),
                incarnation: run(&r.incarnation)?,
                address: r.address,
                protocol: conv::protocol_from_pb(r.protocol).map_err(status)?,
                labels: r.labels,
            };
            Ok((key, manner, command))
        };
        let (key, done) = self.0.change(request, read).await?;
        let instance = done.record(&self.0, &key, |service: &ServiceRecord| service.into())?;
        Ok(response(done.header, instance))
    }

    async fn deregister_service(
        &self,
        request: Request<pb::DeregisterServiceRequest>,
    ) -> Answer<pb::DeregisterServiceResponse> {
        let read = |r: pb::DeregisterServiceRequest| {
            let key = conv::key(&r.service, &r.node, r.port).map_err(status)?;
            let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
            let incarnation = run(&r.incarnation)?;
            Ok(((), manner, Command::DeregisterService { key, incarnation }))
        };
        let ((), done) = self.0.change(request, read).await?;
        Ok(Response::new(pb::DeregisterServiceResponse {
            header: Some(done.header),
        }))
    }

    async fn get_service(&self, request: Request<pb::GetServiceRequest>) -> Answer<pb::ServiceResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let key = conv::key(&r.service, &r.node, r.port).map_err(status)?;
        let read = self.0.read(&caller, r.read, |s| instance_of(s, &key));
        let (header, found) = read.await?;
        Ok(response(header, found?))
    }

    async fn list_services(
        &self,
        request: Request<pb::ListServicesRequest>,
    ) -> Answer<pb::ListServicesResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let service: Option<ServiceName> = (!r.service.is_empty())
            .then(|| text("service", &r.service).map_err(status))
            .transpose()?;
        let start = list::position::<ServiceKey>(&r.page_token)?;
        let filter = Conditions::of::<ServiceRecord>(&r.filter)?;
        let size = list::page_size(r.page_size);
        let (header, (instances, next)) = self
            .0
            .read(&caller, r.read, |s| {
                let page = s.services_where(service.as_ref(), start, size, |i| filter.takes(s, i));
                list::cut(page, |i| i.key.clone())
            })
            .await?;
        Ok(Response::new(pb::ListServicesResponse {
            header: Some(header),
            instances,
            next_page_token: list::token(next),
        }))
    }
}
