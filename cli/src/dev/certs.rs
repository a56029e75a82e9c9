//! The CA of a cluster on one machine, and one certificate per process and person.
//!
//! Identities are SPIFFE ids in the SAN (design.md section 13); one certificate serves as server and as client. The
//! CA's key stays in the directory, so that a region added later gets its certificate from the same CA.

use std::{
    io,
    path::{Path, PathBuf},
};

use client::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use types::{NodeId, Principal, RegionId};

use crate::{
    dev::{
        files::{self, Access},
        layout::Layout,
    },
    error::Failure,
};

/// The certificates of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Certs {
    dir: PathBuf,
}

impl Certs {
    /// The certificates of the cluster in this directory; see [`issue`].
    pub(crate) fn of(layout: &Layout) -> Self {
        Self { dir: layout.certs() }
    }
    /// The certificate of the user `admin`, which the command line shows.
    pub(crate) fn admin(&self) -> TlsFiles {
        self.named("admin")
    }
    /// The certificate of a region's coordinator.
    pub(crate) fn coordinator(&self, region: &RegionId) -> TlsFiles {
        self.named(&format!("{region}-coordinator"))
    }
    /// The certificate of a region's agent.
    pub(crate) fn agent(&self, region: &RegionId) -> TlsFiles {
        self.named(&format!("{region}-agent"))
    }
    fn named(&self, name: &str) -> TlsFiles {
        TlsFiles {
            ca_file: self.dir.join("ca.pem"),
            cert_file: self.dir.join(format!("{name}.pem")),
            key_file: self.dir.join(format!("{name}.key")),
        }
    }
    fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }
}

/// The node id of a region's coordinator.
pub(crate) fn coordinator_node(region: &RegionId) -> Result<NodeId, Failure> {
    Ok(NodeId::new(format!("{region}-c1"))?)
}

/// The node id of a region's agent.
pub(crate) fn agent_node(region: &RegionId) -> Result<NodeId, Failure> {
    Ok(NodeId::new(format!("{region}-a1"))?)
}

/// Makes what is missing: the CA, the admin's certificate, two per region. What is there stays.
pub(crate) fn issue(layout: &Layout, regions: &[RegionId]) -> Result<Certs, Failure> {
    let certs = Certs::of(layout);
    let admin = Principal::User {
        name: NodeId::new("admin")?,
    };
    let mut wanted = vec![(certs.admin(), admin)];
    for region in regions {
        let coordinator = Principal::Coordinator {
            region: region.clone(),
            node: coordinator_node(region)?,
        };
        wanted.push((certs.coordinator(region), coordinator));
        let agent = Principal::Agent {
            region: region.clone(),
            node: agent_node(region)?,
        };
        wanted.push((certs.agent(region), agent));
    }
    let is_there = |files: &TlsFiles| files.cert_file.exists() && files.key_file.exists();
    let signed_before = wanted.iter().any(|(files, _)| is_there(files));
    wanted.retain(|(files, _)| !is_there(files));
    let ca_file = certs.admin().ca_file;
    // Without its key the CA can sign nothing more, and nothing more is needed. Another CA in its place would be trusted by nobody.
    if wanted.is_empty() && ca_file.exists() {
        return Ok(certs);
    }
    if (ca_file.exists() || signed_before) && !certs.ca_key().exists() {
        let missing = wanted.iter().map(|(files, _)| &files.cert_file);
        let missing = missing.chain((!ca_file.exists()).then_some(&ca_file));
        let missing: Vec<_> = missing.map(|file| file.display().to_string()).collect();
        let message = format!(
            "{} is gone, and without it no certificate can be made for {}",
            certs.ca_key().display(),
            missing.join(", ")
        );
        let remedy = format!(
            "put the CA's key back, or remove {} for a cluster with a new CA: its data goes with it",
            layout.root().display()
        );
        return Err(Failure::other(message).remedy(remedy));
    }
    let ca = ca(&certs)?;
    for (files, principal) in &wanted {
        issue_one(&ca, files, principal)?;
    }
    Ok(certs)
}

/// The CA, from its key where there is one. The certificate that was written is never parsed again: its parameters
/// are constants, so key and constants are the whole issuer.
fn ca(certs: &Certs) -> Result<Issuer<'static, KeyPair>, Failure> {
    let params = ca_params();
    let key_file = certs.ca_key();
    let key = if key_file.exists() {
        KeyPair::from_pem(&files::read(&key_file)?)
            .map_err(|e| Failure::file("use the CA key", &key_file, io::Error::other(e)))?
    } else {
        let key = KeyPair::generate().map_err(crypto)?;
        files::write(&key_file, key.serialize_pem().as_bytes(), Access::Secret)?;
        key
    };
    let ca_file = certs.admin().ca_file;
    if !ca_file.exists() {
        // Of the same key and name: what it signed before counts under this one, too.
        let cert = params.self_signed(&key).map_err(crypto)?;
        files::write(&ca_file, cert.pem().as_bytes(), Access::Public)?;
    }
    Ok(Issuer::new(params, key))
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Regent dev CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn issue_one(ca: &Issuer<'_, KeyPair>, files: &TlsFiles, principal: &Principal) -> Result<(), Failure> {
    let key = KeyPair::generate().map_err(crypto)?;
    let cert = leaf_params(principal)?.signed_by(&key, ca).map_err(crypto)?;
    write_pair(files, &cert.pem(), &key.serialize_pem())
}

fn write_pair(files: &TlsFiles, cert: &str, key: &str) -> Result<(), Failure> {
    let write = |path: &Path, text: &str, access| files::write(path, text.as_bytes(), access);
    write(&files.key_file, key, Access::Secret)?;
    write(&files.cert_file, cert, Access::Public)
}

/// One certificate for both ends of a connection, and for a person for the calling end alone; good on this machine only.
fn leaf_params(principal: &Principal) -> Result<CertificateParams, Failure> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut params = CertificateParams::new(names).map_err(crypto)?;
    let uri = principal.to_string().try_into().map_err(crypto)?;
    params.subject_alt_names.push(SanType::URI(uri));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !matches!(principal, Principal::User { .. }) {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn crypto(error: rcgen::Error) -> Failure {
    Failure::other(format!("could not make a certificate: {error}"))
}
