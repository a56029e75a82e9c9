//! Who calls this agent: the identity that the peer's certificate proves, and what it may ask for.
//!
//! Absent on purpose: trust. rustls verified the chain against the cluster's CA before anything here runs.

use std::path::Path;

use tonic::{
    Request,
    transport::{Certificate, Identity, ServerTlsConfig},
};
use types::{Principal, Reason, reason::Refusal};
use x509_parser::{extensions::GeneralName, parse_x509_certificate, pem::Pem};

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
/// Names the setting and the file at fault, and what it should hold.
pub fn server_tls(files: &TlsFiles) -> Result<ServerTlsConfig, String> {
    client::tls13::install();
    let [ca, cert, key] = read(files)?;
    Ok(ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(ca)))
}

/// CA, certificate and key, each there and of its kind.
///
/// # Errors
/// As for [`server_tls`].
pub(crate) fn read(files: &TlsFiles) -> Result<[Vec<u8>; 3], String> {
    let ca = TlsFile {
        key: "tls.ca_file",
        path: &files.ca_file,
        label: "CERTIFICATE",
        holds: "the PEM certificate of the cluster's CA",
    };
    let cert = TlsFile {
        key: "tls.cert_file",
        path: &files.cert_file,
        label: "CERTIFICATE",
        holds: "this agent's PEM certificate, with spiffe://regent.local/region/REGION/node/NODE as its SAN URI",
    };
    let key = TlsFile {
        key: "tls.key_file",
        path: &files.key_file,
        label: "PRIVATE KEY",
        holds: "the PEM private key of tls.cert_file",
    };
    Ok([ca.read()?, cert.read()?, key.read()?])
}

/// One of the three.
struct TlsFile<'a> {
    key: &'static str,
    path: &'a Path,
    /// How the label of the block ends that matters.
    label: &'static str,
    holds: &'static str,
}

impl TlsFile<'_> {
    fn read(&self) -> Result<Vec<u8>, String> {
        let Self {
            key,
            path,
            label,
            holds,
        } = self;
        let path = path.display();
        let bytes = std::fs::read(self.path).map_err(|e| {
            format!("{key} is {path}: {e}; name a file that is there and that this user can read: it holds {holds}")
        })?;
        // A key may come after the parameters of its curve, so the first block need not be it.
        let labels: Vec<_> = Pem::iter_from_buffer(&bytes)
            .map_while(Result::ok)
            .map(|block| block.label)
            .collect();
        if labels.iter().any(|found| found.ends_with(label)) {
            return Ok(bytes);
        }
        let problem = match labels.first() {
            Some(found) => format!("holds a {found}, and no {label}"),
            None => format!("holds no {label} in PEM"),
        };
        Err(format!(
            "{key} is {path}, which {problem}; name the right file: it holds {holds}"
        ))
    }
}
