//! Instances of services: said by those who host them, found by those who call them.

use std::collections::BTreeMap;

use proto::{
    convert::services,
    v1::{self as pb, discovery_service_client::DiscoveryServiceClient},
};
use types::{
    NodeIncarnation, Revision, ServiceName,
    reason::Refusal,
    service::{ServiceKey, ServiceProtocol, ServiceRecord},
};

use super::{Client, Header, options::Kind, pages};

/// What is said of an instance besides where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Host or IP address that callers connect to.
    pub address: String,
    /// What it speaks.
    pub protocol: ServiceProtocol,
    /// For those who choose among instances.
    pub labels: BTreeMap<String, String>,
}

impl Client {
    /// Says that a node offers a service at a port. An agent names its own run; for a person none is the present one.
    pub async fn register_service(
        &self,
        key: &ServiceKey,
        run: Option<NodeIncarnation>,
        offer: &Offer,
    ) -> Result<ServiceRecord, Refusal> {
        let said = self.said(Kind::RECORD).await?;
        let message = pb::RegisterServiceRequest {
            request_id: said.request_id,
            service: key.service.to_string(),
            node: key.node.to_string(),
            port: key.port.get().into(),
            address: offer.address.clone(),
            protocol: services::protocol_to_pb(offer.protocol),
            labels: offer.labels.clone(),
            incarnation: run.map(|run| run.to_string()).unwrap_or_default(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        read(send!(
            self,
            Change,
            DiscoveryServiceClient::register_service,
            message
        )?)
    }

    /// Says that a node offers a service at a port no more; the revision at which it is gone.
    pub async fn deregister_service(
        &self,
        key: &ServiceKey,
        run: Option<NodeIncarnation>,
    ) -> Result<Revision, Refusal> {
        let said = self.said(Kind::RECORD).await?;
        let message = pb::DeregisterServiceRequest {
            request_id: said.request_id,
            service: key.service.to_string(),
            node: key.node.to_string(),
            port: key.port.get().into(),
            incarnation: run.map(|run| run.to_string()).unwrap_or_default(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        let answer = send!(self, Change, DiscoveryServiceClient::deregister_service, message)?;
        Ok(Header::read(answer.header)?.revision)
    }

    /// One instance.
    pub async fn get_service(&self, key: &ServiceKey) -> Result<ServiceRecord, Refusal> {
        let message = pb::GetServiceRequest {
            read: self.read_options(),
            service: key.service.to_string(),
            node: key.node.to_string(),
            port: key.port.get().into(),
        };
        read(send!(self, Anyone, DiscoveryServiceClient::get_service, message)?)
    }

    /// All instances, of one service where one is named, that meet these conditions, as in `health=HEALTHY`; `services.proto` names
    /// the fields.
    pub async fn list_services(
        &self,
        service: Option<&ServiceName>,
        filter: &[String],
    ) -> Result<Vec<ServiceRecord>, Refusal> {
        pages::all(|page_token| async move {
            let message = pb::ListServicesRequest {
                read: self.read_options(),
                service: service.map(ToString::to_string).unwrap_or_default(),
                page_size: 1000,
                page_token,
                filter: filter.to_vec(),
            };
            let answer = send!(self, Anyone, DiscoveryServiceClient::list_services, message)?;
            let page: Result<_, _> = answer.instances.into_iter().map(services::instance).collect();
            Ok((page?, answer.next_page_token))
        })
        .await
    }
}

fn read(answer: pb::ServiceResponse) -> Result<ServiceRecord, Refusal> {
    services::instance(proto::convert::required("instance", answer.instance)?)
}
