//! Who calls this agent: the identity that the peer's certificate proves, and what it may ask for.
//!
//! Absent on purpose: trust. rustls verified the chain against the cluster's CA before anything here runs.

use std::path::Path;

use tonic::{
    Request,
    transport::{Certificate, Identity, ServerTlsConfig},
};
use types::{Principal, reason::Refusal};
use x509_parser::pem::Pem;

use client::{Credentials, TlsFiles};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::config::AgentConfig;

/// Reads the principal of the connection that a request came over.
///
/// # Errors
/// PERMISSION_DENIED where no certificate was shown.
pub fn of_request<T>(request: &Request<T>) -> Result<Principal, Refusal> {
    let certificates = request.peer_certs();
    client::identity::of_shown(certificates.as_ref().map(|shown| shown.as_slice()))
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

/// Checks that the three files are there, that the certificate is this agent's, and the key the certificate's: with another's
/// every call would be refused, one by one.
///
/// # Errors
/// As for [`server_tls`].
pub(crate) fn check(config: &AgentConfig) -> Result<(), String> {
    let [ca, cert, key] = read(&config.tls)?;
    let own = Principal::Agent {
        region: config.region.clone(),
        node: config.node.clone(),
    };
    let at = format!("tls.cert_file is {}", config.tls.cert_file.display());
    let der =
        CertificateDer::from_pem_slice(&cert).map_err(|e| format!("{at}, which is no certificate: {e}"))?;
    match client::identity::of_certificate(&der) {
        Ok(named) if named == own => {
            let found = Credentials::from_pem(&ca, &cert, &key);
            let found = found.map_err(|bad| bad.explain(&config.tls))?;
            if let Some(distrust) = found.distrust() {
                // What it has goes on being served (I10): a certificate that ran out is no outage of inference.
                tracing::error!(
                    "{}; until then no coordinator talks to this agent",
                    distrust.explain(&config.tls.cert_file)
                );
            }
            Ok(())
        }
        Ok(named) => Err(format!(
            "{at}, which names {named}, and this config needs {own}; set node and region to what the certificate names, or \
             name the certificate of this agent"
        )),
        Err(refusal) => Err(format!(
            "{at}: {}; it should name {own} as its SAN URI",
            refusal.message
        )),
    }
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
