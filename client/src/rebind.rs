//! The CA's signature of a rebind statement: made with its private key, verified by its certificate (design.md L19).
//!
//! Absent on purpose: which statement lets a door move (`policy::rebind`), and cryptography of our own: keys are used as TLS uses
//! them, by rustls and its provider. A signature is what `openssl dgst -sha256 -sign ca.key` makes of the statement's text, so
//! that a key may stay where it is.
//! Invariant: what [`CaKey::sign`] gives out was verified by the certificate that doors trust.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    SignatureScheme,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::SigningKey,
};
use types::{
    Rebind, SignedRebind,
    reason::{Reason, Refusal},
};
use x509_parser::{parse_x509_certificate, x509::SubjectPublicKeyInfo};

/// Schemes that sign, one for each kind of key that a CA may have; those that OpenSSL chooses by itself.
const SCHEMES: [SignatureScheme; 5] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// The public half: whoever trusts a CA's certificate verifies by it.
#[derive(Clone)]
pub struct CaVerifier {
    keys: Arc<[PublicKey]>,
}

/// A public key as a certificate holds it.
#[derive(PartialEq, Eq)]
struct PublicKey {
    /// The contents of its AlgorithmIdentifier: algorithms are chosen by it, never tried.
    algorithm: Vec<u8>,
    bits: Vec<u8>,
    /// All of it.
    der: Vec<u8>,
}

impl fmt::Debug for CaVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaVerifier")
            .field("keys", &self.keys.len())
            .finish()
    }
}

impl CaVerifier {
    /// From the certificates of a CA file, in PEM.
    ///
    /// # Errors
    /// What the file holds instead.
    pub fn from_pem(ca: &[u8]) -> Result<Self, String> {
        let mut keys = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            let der = certificate.map_err(|e| format!("is no PEM of certificates: {e}"))?;
            let (_, certificate) =
                parse_x509_certificate(&der).map_err(|e| format!("holds what is no certificate: {e}"))?;
            keys.push(public_key(certificate.public_key()));
        }
        if keys.is_empty() {
            return Err("holds no CERTIFICATE".to_owned());
        }
        Ok(Self { keys: keys.into() })
    }

    /// From a config's `tls.ca_file`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with the file and what to name instead.
    pub fn load(ca_file: &Path) -> Result<Self, Refusal> {
        let read = std::fs::read(ca_file).map_err(|e| format!("cannot be read: {e}"));
        read.and_then(|pem| Self::from_pem(&pem)).map_err(|why| {
            let text = format!(
                "tls.ca_file is {}, which {why}; it holds the PEM certificate of the cluster's CA",
                ca_file.display()
            );
            Refusal::new(Reason::InvalidArgument, text).with("file", ca_file.display())
        })
    }

    /// Whether a key of the CA signed this very statement.
    pub fn verifies(&self, rebind: &SignedRebind) -> bool {
        let text = rebind.statement.to_string();
        let algorithms = default_provider().signature_verification_algorithms.all;
        let good = |key: &PublicKey| {
            let fitting = algorithms
                .iter()
                .filter(|a| a.public_key_alg_id().as_ref() == key.algorithm);
            fitting
                .map(|a| a.verify_signature(&key.bits, text.as_bytes(), &rebind.signature))
                .any(|verified| verified.is_ok())
        };
        rebind.is_signed() && self.keys.iter().any(good)
    }
}

fn public_key(spki: &SubjectPublicKeyInfo<'_>) -> PublicKey {
    let mut algorithm = tlv(0x06, spki.algorithm.algorithm.as_bytes());
    if let Some(parameters) = &spki.algorithm.parameters {
        let tag = u8::try_from(parameters.tag().0).unwrap_or_default();
        algorithm.extend(tlv(tag, parameters.data));
    }
    PublicKey {
        algorithm,
        bits: spki.subject_public_key.data.to_vec(),
        der: spki.raw.to_vec(),
    }
}

/// A short DER value. What is longer than those of known algorithms becomes one that none has.
fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u8::try_from(contents.len()).unwrap_or(u8::MAX);
    [&[tag, length], contents].concat()
}

/// The private key of a CA, for as long as something is to be signed.
#[derive(Clone)]
pub struct CaKey {
    key: Arc<dyn SigningKey>,
    ca: CaVerifier,
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaKey").finish_non_exhaustive()
    }
}

impl CaKey {
    /// From PEM: a key, and the certificates of the CA that doors trust, one of which must be this key's.
    ///
    /// # Errors
    /// What is wrong with the key, or that it is another one's.
    pub fn from_pem(key: &[u8], ca: CaVerifier) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("holds no private key: {e}"))?;
        let key = default_provider()
            .key_provider
            .load_private_key(key)
            .map_err(|e| format!("holds no private key that can be used: {e}"))?;
        let is_own = |der: &[u8]| ca.keys.iter().any(|known| known.der == der);
        match key.public_key() {
            Some(public) if !is_own(public.as_ref()) => {
                Err("is not the key of any certificate in tls.ca_file".to_owned())
            }
            Some(_) | None => Ok(Self { key, ca }),
        }
    }

    /// From a file.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with the file and what it should hold.
    pub fn load(key_file: &Path, ca: CaVerifier) -> Result<Self, Refusal> {
        let read = std::fs::read(key_file).map_err(|e| format!("cannot be read: {e}"));
        read.and_then(|pem| Self::from_pem(&pem, ca)).map_err(|why| {
            let file = key_file.display();
            let text = format!(
                "--ca-key is {file}, which {why}; it holds the PEM private key of the CA that signed the nodes' certificates"
            );
            Refusal::new(Reason::InvalidArgument, text).with("file", file)
        })
    }

    /// Signs a statement.
    ///
    /// # Errors
    /// The key cannot sign, or not so that doors would believe it.
    pub fn sign(&self, statement: Rebind) -> Result<SignedRebind, String> {
        let signer = self.key.choose_scheme(&SCHEMES);
        let signer = signer.ok_or("the CA's key is of a kind that signs no statements")?;
        let signature = signer
            .sign(statement.to_string().as_bytes())
            .map_err(|e| format!("the CA's key did not sign: {e}"))?;
        let signed = SignedRebind { statement, signature };
        if self.ca.verifies(&signed) {
            Ok(signed)
        } else {
            Err("no certificate in tls.ca_file verifies what this key signed".to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
