//! A submitter that sends exactly the bytes that the test says, and reads replies one by one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::tls::Wire;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub struct Client {
    stream: BufReader<Wire>,
}

impl Client {
    /// Connects and reads nothing.
    ///
    /// # Errors
    /// The system's.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&to, PATIENCE)?)
    }

    /// Connects from an address of one's own and reads nothing.
    ///
    /// # Errors
    /// The system's.
    pub fn open_from(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        Self::over(crate::net::connect_from(from, to)?)
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(Wire::Plain(stream)),
        })
    }

    /// TLS from here on.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn secure(self, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let wire = self.stream.into_inner().secure(config, name)?;
        Ok(Self {
            stream: BufReader::new(wire),
        })
    }

    /// STARTTLS, the handshake, EHLO.
    ///
    /// # Panics
    /// When one of them goes wrong.
    pub fn start_tls(mut self, config: Arc<ClientConfig>, name: &str) -> Self {
        self.command("STARTTLS").expect_code("220");
        let mut client = self.secure(config, name).expect("a handshake");
        client.command("EHLO client.test").expect_code("250");
        client
    }

    /// Connects, reads the greeting, says EHLO.
    ///
    /// # Panics
    /// When one of them isn't answered well.
    pub fn hello(to: SocketAddr) -> Self {
        let mut client = Self::open(to).expect("a connection");
        client.expect("220");
        client.command("EHLO client.test").expect_code("250");
        client
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The system's.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next reply with its lines joined by `\n`; `None` when the peer has closed.
    ///
    /// # Errors
    /// The system's, such as nothing for half a minute.
    pub fn reply(&mut self) -> io::Result<Option<String>> {
        let mut reply = String::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Ok((!reply.is_empty()).then_some(reply));
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            reply.push_str(line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Some(reply));
            }
            reply.push('\n');
        }
    }

    /// The next reply, which must come.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn read(&mut self) -> Reply {
        match self.reply() {
            Ok(Some(reply)) => Reply(reply),
            Ok(None) => panic!("the server closed instead of replying"),
            Err(error) => panic!("no reply: {error}"),
        }
    }

    /// The next reply, which must begin so.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn expect(&mut self, beginning: &str) -> String {
        let reply = self.read();
        assert!(
            reply.0.starts_with(beginning),
            "expected {beginning}, got {reply:?}"
        );
        reply.0
    }

    /// Sends a command and reads its reply.
    ///
    /// # Panics
    /// When there is none.
    pub fn command(&mut self, command: &str) -> Reply {
        self.send(format!("{command}\r\n").as_bytes())
            .expect("the server reads");
        self.read()
    }

    /// True when the peer closes and says nothing more.
    pub fn closes(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// A whole transaction over DATA; `body` is stuffed here. Gives the last reply, or the first
    /// that refused.
    ///
    /// # Errors
    /// The system's, or the peer has closed.
    pub fn try_submit(
        &mut self,
        mail: &str,
        recipients: &[impl AsRef<str>],
        body: &[u8],
    ) -> io::Result<String> {
        let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let mut commands = format!("MAIL FROM:{mail}\r\n");
        for recipient in recipients {
            commands.push_str(&format!("RCPT TO:{}\r\n", recipient.as_ref()));
        }
        commands.push_str("DATA\r\n");
        self.send(commands.as_bytes())?;
        let mut refused = None;
        for _ in 0..=recipients.len() {
            let reply = self.reply()?.ok_or_else(gone)?;
            if !reply.starts_with('2') {
                refused.get_or_insert(reply);
            }
        }
        let go = self.reply()?.ok_or_else(gone)?;
        if !go.starts_with("354") {
            return Ok(refused.unwrap_or(go));
        }
        let mut stuffed = Vec::with_capacity(body.len() + 16);
        for line in body.split_inclusive(|b| *b == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        stuffed.extend_from_slice(if stuffed.ends_with(b"\r\n") || stuffed.is_empty() {
            b".\r\n"
        } else {
            b"\r\n.\r\n"
        });
        self.send(&stuffed)?;
        let last = self.reply()?.ok_or_else(gone)?;
        Ok(refused.unwrap_or(last))
    }

    /// As [`Client::try_submit`]; the message must be taken. Gives the id in the reply.
    ///
    /// # Panics
    /// When it isn't taken.
    pub fn submit(&mut self, mail: &str, recipients: &[impl AsRef<str>], body: &[u8]) -> String {
        let reply = self
            .try_submit(mail, recipients, body)
            .expect("a working connection");
        assert!(reply.starts_with("250 2.0.0 Queued as "), "{reply}");
        reply.rsplit(' ').next().unwrap_or_default().to_owned()
    }
}

/// One message over a connection of its own; gives its id.
///
/// # Panics
/// When it isn't taken.
pub fn submit(to: SocketAddr, mail: &str, recipients: &[impl AsRef<str>], body: &[u8]) -> String {
    Client::hello(to).submit(mail, recipients, body)
}

/// A small message.
pub fn small(subject: &str) -> Vec<u8> {
    format!(
        "From: sender@sender.test\r\nTo: someone@dest.test\r\nSubject: {subject}\r\n\
         Message-ID: <{subject}@sender.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nHello.\r\n"
    )
    .into_bytes()
}

/// A reply to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply(
    /// Its lines, joined by `\n`.
    pub String,
);

impl Reply {
    /// It must begin so.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn expect_code(self, beginning: &str) -> String {
        assert!(
            self.0.starts_with(beginning),
            "expected {beginning}, got {:?}",
            self.0
        );
        self.0
    }
}

impl PartialEq<&str> for Reply {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}
