//! Who calls: the identity that the peer's certificate proves ([`client::identity`]).
//!
//! Absent on purpose: trust, which rustls has established before. Invariant: what is remembered of a certificate is a
//! function of its bytes alone.

use std::{
    collections::HashMap,
    sync::{LazyLock, PoisonError, RwLock},
};

use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use types::{Principal, Reason, reason::Refusal};

/// Certificates whose principal is remembered; a cluster has far fewer, and a flood of them only empties the table.
const REMEMBERED: usize = 4_096;

/// Principals by the DER of their certificate. Every call names its caller, and to parse X.509 each time costs more than
/// many a call itself.
static KNOWN: LazyLock<RwLock<HashMap<Vec<u8>, Principal>>> = LazyLock::new(RwLock::default);

/// Reads the principal of the connection that a request came over.
pub fn of_connection(extensions: &http::Extensions) -> Result<Principal, Refusal> {
    let info = extensions
        .get::<TlsConnectInfo<TcpConnectInfo>>()
        .ok_or_else(|| Refusal::new(Reason::PermissionDenied, "the connection is not encrypted"))?;
    let certificates = info.peer_certs();
    let shown = certificates.as_ref().map(|shown| shown.as_slice());
    let first = shown.and_then(<[_]>::first);
    if let Some(known) = first.and_then(|first| remembered(first)) {
        return Ok(known);
    }
    let principal = client::identity::of_shown(shown)?;
    if let Some(first) = first {
        remember(first, &principal);
    }
    Ok(principal)
}

fn remembered(der: &[u8]) -> Option<Principal> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.get(der).cloned()
}

fn remember(der: &[u8], principal: &Principal) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(der.to_owned(), principal.clone());
}
