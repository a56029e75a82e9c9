//! Certificate, key and CA of a process, and the calls that it makes with them. Both ends always prove who they are.
//!
//! A certificate of the cluster's CA for the host that was called is not enough of an answer: on one machine every agent
//! and every user has one. Whoever answers must be who was meant, or an agent's key could grant leases (I5, I6).

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use tonic::transport::{ClientTlsConfig, Endpoint, Error as TransportError, Identity};
use types::{
    NodeId, Principal,
    reason::{Reason, Refusal},
};

use crate::{channel::TlsFiles, identity};

/// Who has to answer a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callee {
    /// Any coordinator of the cluster: each forwards to the leader, or names it.
    AnyCoordinator,
    /// This coordinator and no other.
    Coordinator(NodeId),
    /// A node agent.
    Agent,
}

impl Callee {
    fn is(&self, answered: &Principal) -> bool {
        match (self, answered) {
            (Self::AnyCoordinator, Principal::Coordinator { .. })
            | (Self::Agent, Principal::Agent { .. }) => true,
            (Self::Coordinator(meant), Principal::Coordinator { node, .. }) => meant == node,
            _ => false,
        }
    }
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyCoordinator => f.write_str("a coordinator"),
            Self::Coordinator(node) => write!(f, "coordinator {node}"),
            Self::Agent => f.write_str("an agent"),
        }
    }
}

/// Which of the three parts cannot be used, and why; each text is what the file `holds`, or `is`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadCredentials {
    /// The CA.
    Ca(String),
    /// The own certificate.
    Certificate(String),
    /// The own key.
    Key(String),
    /// Certificate and key are good, and not made for each other.
    NoPair,
}

impl BadCredentials {
    /// What to do where certificate and key do not belong together.
    pub const PAIR_THEM: &str =
        "name a certificate and the key that it was made for, in tls.cert_file and tls.key_file";

    /// What is wrong, with the settings and the files at fault, and the remedy.
    pub fn explain(&self, files: &TlsFiles) -> String {
        let (cert, key) = (files.cert_file.display(), files.key_file.display());
        let (setting, file, problem, holds) = match self {
            Self::NoPair => {
                return format!(
                    "tls.key_file is {key}, which is not the key of tls.cert_file, {cert}; {}",
                    Self::PAIR_THEM
                );
            }
            Self::Ca(why) => (
                "ca",
                files.ca_file.display(),
                why,
                "certificate of the cluster's CA",
            ),
            Self::Certificate(why) => ("cert", cert, why, "own certificate"),
            Self::Key(why) => ("key", key, why, "private key of tls.cert_file"),
        };
        format!(
            "tls.{setting}_file is {file}, which {problem}; name the right file: it holds the PEM {holds}"
        )
    }
}

/// What a process shows of itself, and what it trusts.
#[derive(Clone)]
pub struct Credentials {
    own: Identity,
    chain: Arc<WebPkiServerVerifier>,
    distrust: Option<Distrust>,
}

/// Why whoever trusts the own CA file alone would not accept the own certificate now. They refuse it in the middle of the
/// connection, which reads as silence. Others may trust more than that, and clocks differ: it ends nothing by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// What is wrong with it.
    pub why: String,
    /// It is over, or has not begun, by the clock of this machine.
    pub is_of_time: bool,
}

impl Distrust {
    /// In the words of a config's `[tls]` table: the setting, its file, what is wrong, and the remedy.
    pub fn explain(&self, cert_file: &Path) -> String {
        format!(
            "tls.cert_file is {}, which nobody who trusts tls.ca_file alone would accept now: {}; name a certificate of the \
             cluster's CA that is valid by this machine's clock",
            cert_file.display(),
            self.why
        )
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// From PEM; each part can be used, and the key is the certificate's. From here on the process speaks TLS 1.3 only.
    pub fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, BadCredentials> {
        crate::tls13::install();
        let roots = Arc::new(roots(ca).map_err(BadCredentials::Ca)?);
        let own = own_chain(cert).map_err(BadCredentials::Certificate)?;
        check_pair(own.clone(), key)?;
        let distrust = check_trust(&roots, &own).err();
        let chain = servers_of(roots).map_err(BadCredentials::Ca)?;
        Ok(Self {
            own: Identity::from_pem(cert, key),
            chain,
            distrust,
        })
    }

    /// Why others would not accept the own certificate, as far as it can be told from here.
    pub const fn distrust(&self) -> Option<&Distrust> {
        self.distrust.as_ref()
    }

    /// Reads the three files; the error names the one that cannot be read or used.
    pub fn load(files: &TlsFiles) -> Result<Self, Refusal> {
        let refuse = |path: &Path, message| {
            Refusal::new(Reason::InvalidArgument, message).with("file", path.display())
        };
        let read = |setting: &str, path: &Path| {
            let remedy = "name a file that is there and that this user can read";
            let at = || format!("tls.{setting}_file is {}", path.display());
            std::fs::read(path).map_err(|e| refuse(path, format!("{}: {e}; {remedy}", at())))
        };
        let (ca, cert, key) = (
            read("ca", &files.ca_file)?,
            read("cert", &files.cert_file)?,
            read("key", &files.key_file)?,
        );
        Self::from_pem(&ca, &cert, &key).map_err(|bad| {
            let path = match bad {
                BadCredentials::Ca(_) => &files.ca_file,
                BadCredentials::Certificate(_) => &files.cert_file,
                BadCredentials::Key(_) | BadCredentials::NoPair => &files.key_file,
            };
            refuse(path, bad.explain(files))
        })
    }

    /// The endpoint as it is to be called: over TLS, and with `callee` alone.
    pub fn secure(&self, endpoint: Endpoint, callee: Callee) -> Result<Endpoint, TransportError> {
        let verifier = Verifier {
            callee,
            chain: Arc::clone(&self.chain),
        };
        let own = ClientTlsConfig::new().identity(self.own.clone());
        endpoint.tls_config_with_verifier(own, Arc::new(verifier))
    }
}

fn roots(ca: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|e| format!("is no PEM of certificates: {e}"))?;
        let added = roots.add(certificate);
        added.map_err(|e| format!("holds a certificate that cannot be used: {e}"))?;
    }
    if roots.is_empty() {
        return Err("holds no CERTIFICATE".to_owned());
    }
    Ok(roots)
}

fn servers_of(roots: Arc<RootCertStore>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let built = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
    built.map_err(|e| format!("holds certificates that cannot be used: {e}"))
}

fn own_chain(cert: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|e| format!("is no PEM of certificates: {e}"))?;
    if chain.is_empty() {
        return Err("holds no CERTIFICATE".to_owned());
    }
    Ok(chain)
}

/// Each handshake would fail with a pair that is none, in words that name no file.
fn check_pair(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> Result<(), BadCredentials> {
    let unusable =
        |e: &dyn fmt::Display| BadCredentials::Key(format!("holds no private key that can be used: {e}"));
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| unusable(&e))?;
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(key);
    match CertifiedKey::new(chain, key.map_err(|e| unusable(&e))?).keys_match() {
        // A key that cannot tell its public half is not at fault for that.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(BadCredentials::NoPair),
        Err(e) => Err(BadCredentials::Certificate(format!(
            "holds a certificate that cannot be used: {e}"
        ))),
    }
}

fn check_trust(roots: &Arc<RootCertStore>, chain: &[CertificateDer<'static>]) -> Result<(), Distrust> {
    let refused = |why: String, is_of_time| Distrust { why, is_of_time };
    let Some((own, intermediates)) = chain.split_first() else {
        return Ok(());
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let callers = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider).build();
    let callers = callers.map_err(|e| refused(e.to_string(), false))?;
    let verified = callers.verify_client_cert(own, intermediates, UnixTime::now());
    verified
        .map(drop)
        .map_err(|e| refused(e.to_string(), is_of_time(&e)))
}

const fn is_of_time(error: &rustls::Error) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        )
    )
}

/// Trusts a certificate of the cluster's CA, for the host that was called, in the name of who was called.
#[derive(Debug)]
struct Verifier {
    callee: Callee,
    chain: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Verifier {
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
        let callee = &self.callee;
        match identity::of_certificate(end_entity) {
            Ok(answered) if callee.is(&answered) => Ok(verified),
            Ok(answered) => Err(rustls::Error::General(format!(
                "{callee} was called, and {answered} answered"
            ))),
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
