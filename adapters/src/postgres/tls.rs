//! TLS for the client library: rustls, and a server's certificate that follows from the CAs that the config names.
//!
//! Absent on purpose: channel binding, which would need a second reader of certificates, and CAs of the system: a database
//! that fences is named, with its CA. Invariant: the certificate is for the host that was asked for (`verify-full`).

use std::{
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Socket,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::{TlsConnector, client};

use super::Trouble;

/// Makes a connector for each host.
#[derive(Clone)]
pub(super) struct MakeTls(Arc<ClientConfig>);

/// Greets one host.
pub(super) struct Connect {
    config: Arc<ClientConfig>,
    host: Result<ServerName<'static>, String>,
}

/// A greeted one.
pub(super) struct Stream(Box<client::TlsStream<Socket>>);

impl MakeTls {
    /// Trusts what stands in `ca_file`; nobody where there is none: then nothing is greeted.
    pub(super) fn trusting(ca_file: Option<&Path>) -> Result<Self, Trouble> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = ca_file {
            let unusable = |why: String| {
                Trouble::Unusable(format!(
                    "ca_file is {}: {why}; name a file with the CA's certificate in PEM",
                    path.display()
                ))
            };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
                roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("it holds no certificate".to_owned()));
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Trouble::Unusable(format!("no TLS: {e}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

impl MakeTlsConnect<Socket> for MakeTls {
    type Stream = Stream;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Connect, io::Error> {
        // For a host without TLS this is asked for too, so a name that cannot be one is told only when it is used.
        let name =
            ServerName::try_from(host.to_owned()).map_err(|e| format!("{host} is no name of a host: {e}"));
        Ok(Connect {
            config: Arc::clone(&self.0),
            host: name,
        })
    }
}

impl TlsConnect<Socket> for Connect {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let host = self.host.map_err(io::Error::other)?;
            let stream = TlsConnector::from(self.config).connect(host, socket).await?;
            Ok(Stream(Box::new(stream)))
        })
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
