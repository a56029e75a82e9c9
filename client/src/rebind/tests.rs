//! Signatures of every kind of key that a CA may have, made here and by OpenSSL.

use std::{path::Path, process::Command};

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use tempfile::TempDir;
use types::ClusterId;

use super::*;

const KINDS: [&SignatureAlgorithm; 3] = [
    &rcgen::PKCS_ECDSA_P256_SHA256,
    &rcgen::PKCS_ECDSA_P384_SHA384,
    &rcgen::PKCS_ED25519,
];

fn statement(generation: u32) -> Rebind {
    Rebind {
        cluster: ClusterId::from_u128(2),
        supersedes: ClusterId::from_u128(1),
        generation,
    }
}

/// PEM of a CA's certificate and of its key.
fn ca(kind: &'static SignatureAlgorithm) -> (String, String) {
    let key = KeyPair::generate_for(kind).unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn verifier(pem: &str) -> CaVerifier {
    CaVerifier::from_pem(pem.as_bytes()).unwrap()
}

#[test]
fn what_the_ca_signed_is_verified_and_nothing_else_is() {
    let (other, _) = ca(KINDS[0]);
    for kind in KINDS {
        let (pem, key) = ca(kind);
        let key = CaKey::from_pem(key.as_bytes(), verifier(&pem)).unwrap();
        let signed = key.sign(statement(2)).unwrap();
        assert!(verifier(&pem).verifies(&signed));
        // A CA file of two, as while one takes over from the other.
        assert!(verifier(&format!("{other}{pem}")).verifies(&signed));
        assert!(!verifier(&other).verifies(&signed));
        let said = SignedRebind {
            statement: statement(3),
            ..signed.clone()
        };
        let mut bent = signed.clone();
        *bent.signature.last_mut().unwrap() ^= 1;
        let none = SignedRebind {
            signature: Vec::new(),
            ..signed
        };
        for wrong in [said, bent, none] {
            assert!(!verifier(&pem).verifies(&wrong), "{wrong:?}");
        }
    }
}

/// Any node's certificate follows from the CA too: only the CA's own key counts.
#[test]
fn a_key_that_is_not_the_cas_signs_nothing() {
    let ((pem, _), (_, other)) = (ca(KINDS[0]), ca(KINDS[0]));
    let refused = CaKey::from_pem(other.as_bytes(), verifier(&pem)).unwrap_err();
    assert!(refused.contains("not the key of any certificate"), "{refused}");
    let refused = CaKey::from_pem(pem.as_bytes(), verifier(&pem)).unwrap_err();
    assert!(refused.contains("holds no private key"), "{refused}");
    assert!(CaVerifier::from_pem(other.as_bytes()).is_err());
}

fn openssl(dir: &Path, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ran = Command::new("openssl").current_dir(dir).args(&words).output();
    let ran = ran.expect("openssl is installed");
    assert!(ran.status.success(), "openssl {line}: {ran:?}");
}

/// The command of docs/protocol/recovery.md, for each kind of key that people make CAs of.
#[test]
fn a_signature_of_openssl_is_verified() {
    let rsa = "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out ca.key";
    let curve = |name| format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{name} -out ca.key");
    let dgst = "dgst -sha256 -sign ca.key -out rebind.sig rebind.txt";
    let table = [
        (curve("P-256"), dgst),
        (curve("P-384"), dgst),
        (rsa.to_owned(), dgst),
        (
            "genpkey -algorithm ED25519 -out ca.key".to_owned(),
            "pkeyutl -sign -rawin -inkey ca.key -in rebind.txt -out rebind.sig",
        ),
    ];
    for (make, sign) in table {
        let dir = TempDir::new().unwrap();
        openssl(dir.path(), &make);
        openssl(
            dir.path(),
            "req -x509 -new -key ca.key -subj /CN=ca -days 1 -out ca.pem",
        );
        std::fs::write(dir.path().join("rebind.txt"), statement(2).to_string()).unwrap();
        openssl(dir.path(), sign);
        let signed = SignedRebind {
            statement: statement(2),
            signature: std::fs::read(dir.path().join("rebind.sig")).unwrap(),
        };
        let ca = CaVerifier::load(&dir.path().join("ca.pem")).unwrap();
        assert!(ca.verifies(&signed), "{make}");
        // And what we sign with the same key, it verifies by the same.
        let key = CaKey::load(&dir.path().join("ca.key"), ca.clone()).unwrap();
        assert!(ca.verifies(&key.sign(statement(3)).unwrap()), "{make}");
    }
}
