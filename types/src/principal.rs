//! Who acts: the identity that a certificate proves, on every entry of the log.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::{InvalidId, NodeId, RegionId};

/// The trust domain of the SPIFFE ids that Regent issues and accepts.
pub const TRUST_DOMAIN: &str = "regent.local";

/// An authenticated identity. Its text is the certificate's SAN URI (SPIFFE ID):
/// `spiffe://regent.local/region/R/node/N` (an agent), `…/region/R/coordinator/N`, `…/user/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Principal {
    /// A coordinator process; may speak Raft.
    Coordinator {
        /// Its region.
        region: RegionId,
        /// Its machine.
        node: NodeId,
    },
    /// A node agent; may hold a role, report replicas and open sessions, for itself only.
    Agent {
        /// Its region.
        region: RegionId,
        /// Its machine.
        node: NodeId,
    },
    /// A person or a program acting for one.
    User {
        /// The name, by the rule of node ids.
        name: NodeId,
    },
}

impl Principal {
    /// The user `admin`, who may read and change what belongs to other users.
    pub fn is_admin(&self) -> bool {
        matches!(self, Self::User { name } if name.as_str() == "admin")
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator { region, node } => {
                write!(f, "spiffe://{TRUST_DOMAIN}/region/{region}/coordinator/{node}")
            }
            Self::Agent { region, node } => write!(f, "spiffe://{TRUST_DOMAIN}/region/{region}/node/{node}"),
            Self::User { name } => write!(f, "spiffe://{TRUST_DOMAIN}/user/{name}"),
        }
    }
}
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Principal {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let rule = "must be spiffe://regent.local/region/R/node/N, …/region/R/coordinator/N or …/user/NAME";
        let invalid = || InvalidId::new("principal", text, rule);
        let path = text
            .strip_prefix("spiffe://")
            .and_then(|t| t.strip_prefix(TRUST_DOMAIN))
            .ok_or_else(invalid)?;
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["", "region", region, "node", node] => Ok(Self::Agent {
                region: region.parse()?,
                node: node.parse()?,
            }),
            ["", "region", region, "coordinator", node] => Ok(Self::Coordinator {
                region: region.parse()?,
                node: node.parse()?,
            }),
            ["", "user", name] => Ok(Self::User { name: name.parse()? }),
            _ => Err(invalid()),
        }
    }
}
impl TryFrom<String> for Principal {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}
impl From<Principal> for String {
    fn from(principal: Principal) -> String {
        principal.to_string()
    }
}
