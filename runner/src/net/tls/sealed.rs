//! One end of TLS without a socket: what came goes in, what is to be sent comes out.

use std::io::{BufRead, ErrorKind, IoSlice, Write};

use bytes::Bytes;
use rustls::{Connection, HandshakeKind, ProtocolVersion};

use super::client::Attempt;
use super::conn::Facts;
use super::fault::Fault;
use super::leaf;
use super::server::Server;

/// What a record takes besides its plaintext, at most (RFC 8446 5.2).
const RECORD_OVERHEAD: usize = 5 + 256;
/// Plaintext of one record, at most (RFC 8446 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// One end of a connection.
pub struct Sealed {
    rustls: Connection,
    ended: bool,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed")
    }
}

impl Sealed {
    /// The client's end, before the handshake.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn client(attempt: Attempt) -> Result<Self, Fault> {
        Ok(Self::new(attempt.begin()?.into()))
    }

    /// The server's end, before the handshake.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn server(server: &Server) -> Result<Self, Fault> {
        Ok(Self::new(server.begin()?.into()))
    }

    fn new(mut rustls: Connection) -> Self {
        // What is sealed is sent at once, and how much that is is bounded by our callers.
        rustls.set_buffer_limit(None);
        Self {
            rustls,
            ended: false,
        }
    }

    /// Takes what came, and appends the plaintext in it. Afterwards there may be something
    /// [`to_send`](Self::to_send), after an error too.
    ///
    /// # Errors
    /// [`Fault`]; the connection is over.
    pub fn take(&mut self, heard: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Fault> {
        let taken = self.try_take(heard, plaintext);
        self.ended |= taken.is_err();
        taken
    }

    fn try_take(&mut self, mut heard: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Fault> {
        while !heard.is_empty() {
            let read = self.rustls.read_tls(&mut heard);
            read.map_err(|e| Fault::broken(&e))?;
            let processed = self.rustls.process_new_packets();
            self.ended |= processed.map_err(|e| Fault::of(&e))?.peer_has_closed();
            // It keeps no more than a little.
            loop {
                let mut reader = self.rustls.reader();
                let n = match reader.fill_buf() {
                    Ok(some) => {
                        plaintext.extend_from_slice(some);
                        some.len()
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
                    Err(e) => return Err(Fault::broken(&e)),
                };
                reader.consume(n);
                if n == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What is to be sent now; perhaps nothing.
    pub fn to_send(&mut self) -> Bytes {
        self.drain(0)
    }

    /// Plaintext as it is to be sent, behind what else there is.
    pub fn seal(&mut self, parts: &[Bytes]) -> Bytes {
        let whole: usize = parts.iter().map(Bytes::len).sum();
        let mut left: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
        let mut slices = &mut left[..];
        // Without a limit of its buffer it takes everything.
        while slices.iter().any(|s| !s.is_empty()) {
            match self.rustls.writer().write_vectored(slices) {
                Ok(n) if n > 0 => IoSlice::advance_slices(&mut slices, n),
                _ => break,
            }
        }
        self.drain(whole)
    }

    /// Says that nothing more comes (RFC 8446 6.1).
    pub fn seal_the_end(&mut self) -> Bytes {
        self.rustls.send_close_notify();
        self.drain(0)
    }

    /// All records, of about so much plaintext.
    fn drain(&mut self, plaintext: usize) -> Bytes {
        if !self.rustls.wants_write() {
            return Bytes::new();
        }
        let records = plaintext / RECORD_BYTES_MAX + 2;
        let mut out = Vec::with_capacity(plaintext + records * RECORD_OVERHEAD);
        // Into memory nothing fails.
        while self.rustls.wants_write() && self.rustls.write_tls(&mut out).is_ok() {}
        out.into()
    }

    /// Whether the handshake is over.
    pub fn is_up(&self) -> bool {
        !self.rustls.is_handshaking()
    }

    /// Whether the peer said that nothing more comes, or there was a fault.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// The peer's certificates in DER, its own first.
    pub fn peer_chain(&self) -> Vec<Vec<u8>> {
        let chain = self.rustls.peer_certificates().unwrap_or_default();
        chain.iter().map(|der| der.to_vec()).collect()
    }

    /// Keying material for a use of its own (RFC 5705).
    pub fn export(&self, label: &[u8]) -> Option<[u8; 32]> {
        let exported = self
            .rustls
            .export_keying_material([0; 32], label, Some(&[]));
        exported.ok()
    }

    /// What the handshake came to.
    pub fn facts(&self) -> Facts {
        let rustls = &self.rustls;
        Facts {
            version: match rustls.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLS",
            },
            cipher: rustls
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                // The registry names those of 1.3 without their version.
                .map(|name| name.replacen("TLS13_", "TLS_", 1))
                .unwrap_or_default(),
            group: rustls
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name()))
                .unwrap_or_default(),
            server_name: match rustls {
                Connection::Server(server) => server.server_name().map(str::to_owned),
                Connection::Client(_) => None,
            },
            resumed: rustls.handshake_kind() == Some(HandshakeKind::Resumed),
            client_certificate: match rustls {
                // What the verifier didn't take has ended the handshake.
                Connection::Server(server) => {
                    let chain = server.peer_certificates().unwrap_or_default();
                    chain.first().map(|der| leaf::name(der))
                }
                Connection::Client(_) => None,
            },
        }
    }
}
