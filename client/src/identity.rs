//! Who stands at the other end of a connection: the identity that a certificate proves.
//!
//! Absent on purpose: trust. rustls has verified the chain against the cluster's CA before anything here is believed.
//! Invariant: exactly one SAN URI names exactly one principal; a certificate with none or two is nobody.

use rustls::pki_types::CertificateDer;
use types::{Principal, Reason, reason::Refusal};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

fn nobody(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        Reason::PermissionDenied,
        format!("the certificate names no principal: {why}"),
    )
}

/// Reads the principal of a certificate in DER: its one SAN URI.
///
/// # Errors
/// PERMISSION_DENIED with what is missing.
pub fn of_certificate(der: &[u8]) -> Result<Principal, Refusal> {
    let (_, certificate) = parse_x509_certificate(der).map_err(nobody)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(nobody)?
        .ok_or_else(|| nobody("it has no subject alternative name"))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(nobody),
        (None, _) => Err(nobody("it has no URI")),
        (Some(_), Some(_)) => Err(nobody("it has more than one URI")),
    }
}

/// Reads the principal that a peer showed certificates for, its own first.
///
/// # Errors
/// PERMISSION_DENIED where none was shown, or the first names nobody.
pub fn of_shown(certificates: Option<&[CertificateDer<'_>]>) -> Result<Principal, Refusal> {
    let first = certificates.and_then(<[_]>::first);
    of_certificate(first.ok_or_else(|| nobody("none was shown"))?)
}
