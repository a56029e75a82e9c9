//! TLS 1.3 and nothing older, for every port and every call of a process (design.md section 9).
//!
//! tonic takes its cipher suites from the process's default provider and offers each version that has one; it has no
//! setting of its own for versions.

use std::sync::Once;

use rustls::{ProtocolVersion, crypto::CryptoProvider};

/// Makes ring, with the cipher suites of TLS 1.3 alone, the process's default provider. Whatever loads certificates calls
/// it first; later calls do nothing. A program that embeds an agent and has installed a provider before keeps its own.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut provider = rustls::crypto::ring::default_provider();
        provider
            .cipher_suites
            .retain(|suite| suite.version().version == ProtocolVersion::TLSv1_3);
        // An error says that there is one already, and whose it is was said above.
        let _: Result<(), _> = CryptoProvider::install_default(provider);
    });
}
