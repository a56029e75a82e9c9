//! Certificates as files, and what tonic makes of them. Both directions always prove who they are.

use std::{path::Path, sync::Arc};

use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};
use types::{NodeId, Principal};

use crate::{
    config::TlsFiles,
    error::{BadSetting, RunError},
    identity,
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
    chain: Arc<WebPkiServerVerifier>,
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
        client::tls13::install();
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
        PrivateKeyDer::from_pem_slice(&key)
            .map_err(|e| key_file.wrong(format!("holds no private key: {e}")))?;
        let principal = identity::of_certificate(&der).map_err(|e| cert_file.wrong(e.message))?;
        Ok(Self {
            identity: Identity::from_pem(&cert, &key),
            chain: chain(&ca).map_err(|problem| ca_file.wrong(problem))?,
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

/// Raft is spoken to the node that was meant and to nobody else: an address may have become another coordinator's, which
/// has a certificate of the same CA and, on one machine, for the same host.
impl Dial for Tls {
    fn dial(&self, peer: &Peer, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
        let verifier = OneCoordinator {
            node: peer.node.clone(),
            chain: Arc::clone(&self.chain),
        };
        let own = ClientTlsConfig::new().identity(self.identity.clone());
        let endpoint = endpoint.tls_config_with_verifier(own, Arc::new(verifier))?;
        Ok(endpoint.connect_lazy())
    }
}

/// Trusts the certificate of one coordinator: of the cluster's CA, for the host that was called, in its name.
#[derive(Debug)]
struct OneCoordinator {
    node: NodeId,
    chain: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for OneCoordinator {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.chain
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        match identity::of_certificate(end_entity) {
            Ok(Principal::Coordinator { node, .. }) if node == self.node => Ok(verified),
            Ok(other) => {
                let node = &self.node;
                Err(rustls::Error::General(format!(
                    "coordinator {node} was called, and {other} answered"
                )))
            }
            Err(refusal) => Err(rustls::Error::General(refusal.message)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn chain(ca: &[u8]) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map_err(|e| e.to_string())
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
