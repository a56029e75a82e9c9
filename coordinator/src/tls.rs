//! Certificates as files, and what tonic makes of them. Both directions always prove who they are.

use std::path::Path;

use client::{BadCredentials, Callee, Credentials, identity};
use tonic::transport::{Certificate, Channel, Endpoint, Identity, ServerTlsConfig};
use types::Principal;

use crate::{
    config::TlsFiles,
    error::{BadSetting, RunError},
    raft::{Dial, Peer},
};

/// What `tls.cert_file` is.
const OWN_CERTIFICATE: &str = "it holds this coordinator's PEM certificate, with spiffe://regent.local/region/REGION/coordinator/NODE as its SAN URI";
/// How long a peer may take for its handshake; a connection that says nothing holds no task for longer.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(5);

/// Certificate, key and CA of this process, read and checked.
#[derive(Clone)]
pub struct Tls {
    identity: Identity,
    ca: Certificate,
    calls: Credentials,
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
    /// Reads the three files; the error names the one at fault. From here on the process speaks TLS 1.3 only.
    pub fn load(files: &TlsFiles) -> Result<Self, RunError> {
        let (ca_file, cert_file, key_file) = (
            File::new(
                "tls.ca_file",
                &files.ca_file,
                "it holds the PEM certificate of the cluster's CA",
            ),
            File::new("tls.cert_file", &files.cert_file, OWN_CERTIFICATE),
            File::new(
                "tls.key_file",
                &files.key_file,
                "it holds the PEM private key of tls.cert_file",
            ),
        );
        let (ca, cert, key) = (ca_file.read()?, cert_file.read()?, key_file.read()?);
        parse_first(&ca).map_err(|problem| ca_file.wrong(problem))?;
        let der = parse_first(&cert).map_err(|problem| cert_file.wrong(problem))?;
        let principal = identity::of_certificate(&der).map_err(|e| cert_file.wrong(e.message))?;
        let calls = Credentials::from_pem(&ca, &cert, &key).map_err(|bad| match bad {
            BadCredentials::Ca(problem) => ca_file.wrong(problem),
            BadCredentials::Certificate(problem) => cert_file.wrong(problem),
            BadCredentials::Key(problem) => key_file.wrong(problem),
            BadCredentials::NoPair => key_file.fault(
                format!("is not the key of tls.cert_file, {}", cert_file.path.display()),
                BadCredentials::PAIR_THEM.to_owned(),
            ),
        })?;
        if let Some(distrust) = calls.distrust() {
            // A clock may be wrong for a while, and others may trust more than this file.
            tracing::error!(
                "{}; until then no other process talks to this one",
                distrust.explain(&files.cert_file)
            );
        }
        Ok(Self {
            identity: Identity::from_pem(&cert, &key),
            calls,
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

    /// For calling.
    pub fn calls(&self) -> &Credentials {
        &self.calls
    }
}

/// Raft is spoken to the node that was meant and to nobody else: an address may have become another coordinator's.
impl Dial for Tls {
    fn dial(&self, peer: &Peer, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
        let endpoint = self
            .calls
            .secure(endpoint, Callee::Coordinator(peer.node.clone()))?;
        Ok(endpoint.connect_lazy())
    }
}

/// One of the three, and what it should be.
struct File<'a> {
    key: &'static str,
    path: &'a Path,
    holds: &'static str,
}

impl<'a> File<'a> {
    fn new(key: &'static str, path: &'a Path, holds: &'static str) -> Self {
        Self { key, path, holds }
    }

    fn read(&self) -> Result<Vec<u8>, RunError> {
        let remedy = "name a file that is there and that this user can read";
        std::fs::read(self.path).map_err(|e| self.fault(e.to_string(), format!("{remedy}: {}", self.holds)))
    }

    fn wrong(&self, problem: String) -> RunError {
        self.fault(problem, format!("name the right file: {}", self.holds))
    }

    fn fault(&self, problem: String, remedy: String) -> RunError {
        RunError::Tls {
            key: self.key,
            path: self.path.to_owned(),
            fault: BadSetting::new(problem, remedy),
        }
    }
}

fn parse_first(pem: &[u8]) -> Result<Vec<u8>, String> {
    match x509_parser::pem::parse_x509_pem(pem) {
        Ok((_, block)) if block.label == "CERTIFICATE" => Ok(block.contents),
        Ok((_, block)) => Err(format!("holds a {}, not a CERTIFICATE", block.label)),
        Err(error) => Err(format!("is no PEM certificate: {error}")),
    }
}
