//! The CA of a world and one certificate per process, each good for the address by which its process is known.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use client::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use types::Principal;

/// A CA that signs certificates into a directory.
pub(super) struct Ca {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A new one.
    pub(super) fn new(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "Regent trials CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self {
            dir: dir.to_owned(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Signs a certificate of this name.
    pub(super) fn issue(&self, name: &str, who: &Principal, host: Ipv4Addr) -> anyhow::Result<()> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), host.to_string()];
        let mut params = CertificateParams::new(names)?;
        params
            .subject_alt_names
            .push(SanType::URI(who.to_string().try_into()?));
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !matches!(who, Principal::User { .. }) {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files = files(&self.dir, name);
        write_secret(&files.key_file, &key.serialize_pem())?;
        Ok(fs::write(&files.cert_file, certificate.pem())?)
    }
}

/// Where the certificate of this name stands.
pub(super) fn files(dir: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        ca_file: dir.join("ca.pem"),
        cert_file: dir.join(format!("{name}.pem")),
        key_file: dir.join(format!("{name}.key")),
    }
}

/// For the owner's eyes only; regent refuses keys that others can read.
pub(super) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
