//! Certificates as files, and what tonic makes of them. Both directions always prove who they are.

use std::path::Path;

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use types::Principal;

use crate::{config::TlsFiles, error::RunError, identity};

/// How long a peer may take for its handshake; a connection that says nothing holds no task for longer.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(5);

/// Certificate, key and CA of this process, read and checked.
#[derive(Clone)]
pub struct Tls {
    identity: Identity,
    ca: Certificate,
    principal: Principal,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the three files; the error names the one at fault.
    pub fn load(files: &TlsFiles) -> Result<Self, RunError> {
        let (ca, cert, key) = (
            read(&files.ca_file)?,
            read(&files.cert_file)?,
            read(&files.key_file)?,
        );
        let fault = |path: &Path, problem: String| RunError::Tls {
            path: path.to_owned(),
            problem,
        };
        parse_first(&ca).map_err(|problem| fault(&files.ca_file, problem))?;
        let der = parse_first(&cert).map_err(|problem| fault(&files.cert_file, problem))?;
        let principal = identity::of_certificate(&der).map_err(|e| fault(&files.cert_file, e.message))?;
        Ok(Self {
            identity: Identity::from_pem(&cert, &key),
            ca: Certificate::from_pem(&ca),
            principal,
        })
    }

    /// Who this process is, by its certificate.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// For serving: the client must show a certificate of the same CA.
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.identity.clone())
            .client_ca_root(self.ca.clone())
            .timeout(HANDSHAKE)
    }

    /// For calling: the server must show a certificate of the same CA for the host that was called.
    pub fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(self.identity.clone())
            .ca_certificate(self.ca.clone())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RunError> {
    std::fs::read(path).map_err(|e| RunError::Tls {
        path: path.to_owned(),
        problem: e.to_string(),
    })
}

fn parse_first(pem: &[u8]) -> Result<Vec<u8>, String> {
    match x509_parser::pem::parse_x509_pem(pem) {
        Ok((_, block)) if block.label == "CERTIFICATE" => Ok(block.contents),
        Ok((_, block)) => Err(format!("holds a {}, not a CERTIFICATE", block.label)),
        Err(error) => Err(format!("is no PEM certificate: {error}")),
    }
}
