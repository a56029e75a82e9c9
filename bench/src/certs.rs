//! One CA for both systems, a certificate for each server and one for the clients: both do the same work for TLS.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Certificate and key of one process, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM of the certificate.
    pub cert: PathBuf,
    /// PEM of its key.
    pub key: PathBuf,
}

/// The CA, whose key is never written.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Ca {
    /// A new one; `ca.pem` in `dir` is its certificate.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "bench CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        fs::create_dir_all(dir)?;
        fs::write(dir.join("ca.pem"), cert.pem())?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            dir: dir.to_owned(),
        })
    }

    /// The CA's certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate for both ends of a connection on this machine, with `uri` as its identity.
    pub fn issue(&self, name: &str, uri: &str) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let pair = Pair {
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        fs::write(&pair.cert, cert.pem())?;
        fs::write(&pair.key, key.serialize_pem()).with_context(|| format!("{}", pair.key.display()))?;
        Ok(pair)
    }
}
