//! Who calls this agent: the identity that the peer's certificate proves, and what it may ask for.
//!
//! Absent on purpose: trust. rustls verified the chain against the cluster's CA before anything here runs.

use tonic::{
    Request,
    transport::{Certificate, Identity, ServerTlsConfig},
};
use types::{Principal, Reason, reason::Refusal};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use client::TlsFiles;

fn nobody(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        Reason::PermissionDenied,
        format!("the certificate names no principal: {why}"),
    )
}

/// Reads the principal of a certificate in DER: its one SAN URI.
///
/// # Errors
/// PERMISSION_DENIED with what is missing.
pub fn of_certificate(der: &[u8]) -> Result<Principal, Refusal> {
    let (_, certificate) = parse_x509_certificate(der).map_err(nobody)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(nobody)?
        .ok_or_else(|| nobody("it has no subject alternative name"))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(nobody),
        (None, _) => Err(nobody("it has no URI")),
        (Some(_), Some(_)) => Err(nobody("it has more than one URI")),
    }
}

/// Reads the principal of the connection that a request came over.
///
/// # Errors
/// PERMISSION_DENIED where no certificate was shown.
pub fn of_request<T>(request: &Request<T>) -> Result<Principal, Refusal> {
    let certificates = request.peer_certs().ok_or_else(|| nobody("none was shown"))?;
    let first = certificates.first().ok_or_else(|| nobody("none was shown"))?;
    of_certificate(first)
}

/// The server's half of the identity: callers must show a certificate of the cluster's CA.
///
/// # Errors
/// Names the file that cannot be read.
pub fn server_tls(files: &TlsFiles) -> Result<ServerTlsConfig, String> {
    client::tls13::install();
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|e| {
            format!(
                "cannot read {}: {e}; check tls.*_file in the config",
                path.display()
            )
        })
    };
    let identity = Identity::from_pem(read(&files.cert_file)?, read(&files.key_file)?);
    Ok(ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(read(&files.ca_file)?)))
}
