//! Instances of services.

use std::num::NonZeroU16;

use types::{
    Revision, UnixMillis,
    service::{ServiceHealth, ServiceKey, ServiceProtocol, ServiceRecord},
};

use super::{Parsed, enum_table, invalid, text};
use crate::v1 as pb;

enum_table!(protocol_to_pb, protocol_from_pb, "protocol", ServiceProtocol, pb::ServiceProtocol, {
    ServiceProtocol::Tcp = pb::ServiceProtocol::ServiceTcp,
    ServiceProtocol::Udp = pb::ServiceProtocol::ServiceUdp,
    ServiceProtocol::Http = pb::ServiceProtocol::ServiceHttp,
    ServiceProtocol::Grpc = pb::ServiceProtocol::ServiceGrpc,
});
enum_table!(health_to_pb, health_from_pb, "health", ServiceHealth, pb::ServiceHealth, {
    ServiceHealth::Healthy = pb::ServiceHealth::ServiceHealthy,
    ServiceHealth::Unhealthy = pb::ServiceHealth::ServiceUnhealthy,
});

/// Reads an instance's key; a port is 1 to 65535.
pub fn key(service: &str, node: &str, port: u32) -> Parsed<ServiceKey> {
    let read = u16::try_from(port).ok().and_then(NonZeroU16::new);
    Ok(ServiceKey {
        service: text("service", service)?,
        node: text("node", node)?,
        port: read.ok_or_else(|| invalid("port", format!("must be 1 to 65535, not {port}")))?,
    })
}

impl From<&ServiceRecord> for pb::ServiceInstance {
    fn from(s: &ServiceRecord) -> Self {
        Self {
            service: s.key.service.to_string(),
            node: s.key.node.to_string(),
            port: u32::from(s.key.port.get()),
            region: s.region.to_string(),
            incarnation: s.incarnation.to_string(),
            address: s.address.clone(),
            protocol: protocol_to_pb(s.protocol),
            labels: s.labels.clone(),
            health: health_to_pb(s.health),
            registered_at_millis: s.registered_at.0,
            registered_by: s.registered_by.to_string(),
            modified_revision: s.modified.0,
        }
    }
}

/// Reads an instance.
pub fn instance(s: pb::ServiceInstance) -> Parsed<ServiceRecord> {
    Ok(ServiceRecord {
        key: key(&s.service, &s.node, s.port)?,
        region: text("region", &s.region)?,
        incarnation: text("incarnation", &s.incarnation)?,
        address: s.address,
        protocol: protocol_from_pb(s.protocol)?,
        labels: s.labels,
        health: health_from_pb(s.health)?,
        registered_at: UnixMillis(s.registered_at_millis),
        registered_by: text("registered_by", &s.registered_by)?,
        modified: Revision(s.modified_revision),
    })
}
