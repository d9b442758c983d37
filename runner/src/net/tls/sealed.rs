//! TLS for who moves the bytes himself.

use std::io::{BufRead, ErrorKind, Write};

use rustls::Connection;

use super::conn::Fault;
use super::server::Server;

/// One end of a connection: what came goes in, what is to be sent comes out.
pub struct Sealed(Connection);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed")
    }
}

impl Sealed {
    /// The server's end, before the handshake.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn server(server: &Server) -> Result<Self, Fault> {
        let mut rustls = Connection::from(server.begin()?);
        rustls.set_buffer_limit(None);
        Ok(Self(rustls))
    }

    /// Takes what came, and appends the plaintext in it. Afterwards there may be something
    /// [`to_send`](Self::to_send), after an error too.
    ///
    /// # Errors
    /// [`Fault`]; the connection is over.
    pub fn take(&mut self, mut heard: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Fault> {
        while !heard.is_empty() {
            self.0.read_tls(&mut heard).map_err(|e| Fault::broken(&e))?;
            self.0.process_new_packets().map_err(|e| Fault::of(&e))?;
            loop {
                let mut reader = self.0.reader();
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

    /// What is to be sent now.
    pub fn to_send(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        // Into memory nothing fails.
        while self.0.wants_write() && self.0.write_tls(&mut out).is_ok() {}
        out
    }

    /// Plaintext as it is to be sent, behind what else there is.
    pub fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let _ = self.0.writer().write_all(plaintext);
        self.to_send()
    }

    /// Whether the handshake is over.
    pub fn is_up(&self) -> bool {
        !self.0.is_handshaking()
    }
}
