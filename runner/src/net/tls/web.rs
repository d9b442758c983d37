//! TLS over a stream of the control plane, for HTTPS.

use std::sync::Arc;

use rustls::client::Resumption;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::client::Attempt;
use super::fault::Fault;

impl Attempt {
    /// The handshake as client over `stream`, for a protocol of RFC 7301. No earlier session goes on:
    /// such a one shows no certificate, and what was right may have expired since.
    ///
    /// # Errors
    /// Why there is no TLS.
    pub async fn over<S>(
        self,
        stream: S,
        protocol: &str,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<S>, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        config.resumption = Resumption::disabled();
        let handshake = TlsConnector::from(Arc::new(config)).connect(self.name, stream);
        handshake.await.map_err(|e| Fault::of_handshake(&e))
    }
}
