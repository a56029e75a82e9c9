//! Who calls: the identity that the peer's certificate proves ([`client::identity`]).

use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use types::{Principal, Reason, reason::Refusal};

/// Reads the principal of the connection that a request came over.
pub fn of_connection(extensions: &http::Extensions) -> Result<Principal, Refusal> {
    let info = extensions
        .get::<TlsConnectInfo<TcpConnectInfo>>()
        .ok_or_else(|| Refusal::new(Reason::PermissionDenied, "the connection is not encrypted"))?;
    let certificates = info.peer_certs();
    client::identity::of_shown(certificates.as_ref().map(|shown| shown.as_slice()))
}
