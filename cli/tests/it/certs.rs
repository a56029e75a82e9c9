//! Certificates of clusters that `dev` did not make.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use client::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// A new CA; its certificate is `ca.pem` in the directory.
pub(crate) fn authority(dir: &Path) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    Issuer::new(params, key)
}

/// A certificate of this identity for a process at 127.0.0.1, in the directory `home`; the CA's is the next `ca.pem` on the way
/// up.
pub(crate) fn issue(issuer: &Issuer<'static, KeyPair>, home: &Path, name: &str, uri: &str) -> TlsFiles {
    issue_for(issuer, home, name, uri, &["localhost", "127.0.0.1"])
}

/// The same for a process that is reached by these names.
pub(crate) fn issue_for(
    issuer: &Issuer<'static, KeyPair>,
    home: &Path,
    name: &str,
    uri: &str,
    hosts: &[&str],
) -> TlsFiles {
    let mut params =
        CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
    params
        .subject_alt_names
        .push(SanType::URI(uri.try_into().unwrap()));
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let files = TlsFiles {
        ca_file: home
            .ancestors()
            .map(|up| up.join("ca.pem"))
            .find(|ca| ca.exists())
            .unwrap(),
        cert_file: home.join(format!("{name}.pem")),
        key_file: home.join(format!("{name}.key")),
    };
    fs::write(&files.cert_file, certificate.pem()).unwrap();
    fs::write(&files.key_file, key.serialize_pem()).unwrap();
    owners_only(&files.key_file);
    files
}

/// Takes a secret's file away from everybody else, as `regent` asks for.
pub(crate) fn owners_only(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}
