//! Services: where on which node somebody answers, for as long as that run of the node is there.
//!
//! Absent on purpose: a lease of its own. An instance is as healthy as its node's session says, so nothing is written while
//! nothing changes.

use std::{collections::BTreeMap, fmt, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{InvalidId, NodeId, NodeIncarnation, RegionId, ServiceName},
    principal::Principal,
    revision::Revision,
    time::UnixMillis,
};

/// One instance: a service at a port of a node; shown `feature-store/a1:7000`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The service.
    pub service: ServiceName,
    /// The node that hosts it.
    pub node: NodeId,
    /// The port that it listens on.
    pub port: NonZeroU16,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.service, self.node, self.port)
    }
}
impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for ServiceKey {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let rule = "write SERVICE/NODE:PORT, as in feature-store/a1:7000";
        let invalid = || InvalidId::new("service instance", text, rule);
        let (service, rest) = text.split_once('/').ok_or_else(invalid)?;
        let (node, port) = rest.rsplit_once(':').ok_or_else(invalid)?;
        Ok(Self {
            service: service.parse()?,
            node: node.parse()?,
            port: port.parse().map_err(|_| invalid())?,
        })
    }
}

/// What an instance speaks; the transport is part of its name in DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceProtocol {
    /// A stream of its own kind.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

impl ServiceProtocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Http, Self::Grpc];

    /// As people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Http => "HTTP",
            Self::Grpc => "GRPC",
        }
    }
}
impl fmt::Display for ServiceProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl FromStr for ServiceProtocol {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|protocol| protocol.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| InvalidId::new("protocol", text, "must be tcp, udp, http or grpc"))
    }
}

/// Whether callers should go to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceHealth {
    /// Its node is up, as the run that it was registered for.
    Healthy,
    /// Its node's session was lost.
    Unhealthy,
}

impl fmt::Display for ServiceHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
        })
    }
}

/// An instance of a service. It ends with the run of the node that it was registered for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Service, node and port.
    pub key: ServiceKey,
    /// The node's region.
    pub region: RegionId,
    /// The run of the node that hosts it.
    pub incarnation: NodeIncarnation,
    /// Host or IP address that callers connect to.
    pub address: String,
    /// What it speaks.
    pub protocol: ServiceProtocol,
    /// For those who choose among instances.
    pub labels: BTreeMap<String, String>,
    /// As its node's standing says.
    pub health: ServiceHealth,
    /// State time of the registration.
    pub registered_at: UnixMillis,
    /// Who registered it last.
    pub registered_by: Principal,
    /// Revision of the last change; its etag.
    pub modified: Revision,
}
