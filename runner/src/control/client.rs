//! The client's side of the control socket, blocking: [`Client::connect`], then
//! [`Client::call`] as often as wanted, or [`Client::events`] once.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::protocol::{Filter, Request, Response};

/// How long an answer may take; a bounce of millions of deliveries takes a while.
const ANSWER: Duration = Duration::from_secs(300);

/// What can go wrong; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("can't reach the server on {path}: {error}\n  {hint}")]
    Connect {
        /// The socket.
        path: String,
        /// What the system said.
        error: io::Error,
        /// What to do.
        hint: String,
    },
    /// The connection broke.
    #[error("the connection to the server broke: {0}\n  see the log of `courser serve`")]
    Broken(#[from] io::Error),
    /// The server said something that we don't understand.
    #[error(
        "the server gave an answer that this program doesn't understand: {0}\n  \
             is it of another version? compare `courser status` and `courser --version`"
    )]
    Unexpected(String),
    /// The server refused.
    #[error("{message}{}", after_line_feed(.hint))]
    Refused {
        /// Why.
        message: String,
        /// What to do; may be empty.
        hint: String,
    },
}

fn after_line_feed(hint: &str) -> String {
    match hint {
        "" => String::new(),
        hint => format!("\n  {hint}"),
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the server on `path`.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let shown = path.display();
        let failed = |error: io::Error| {
            let hint = match error.kind() {
                ErrorKind::NotFound => format!(
                    "is `courser serve` running, with server.control_socket = \"{shown}\"? \
                     name its configuration with --config or its socket with --socket"
                ),
                ErrorKind::ConnectionRefused => {
                    "the server that made this socket has ended; start `courser serve`".to_owned()
                }
                ErrorKind::PermissionDenied => {
                    "run this as the user that runs `courser serve`, or as root".to_owned()
                }
                _ => "is it the control socket of `courser serve`?".to_owned(),
            };
            ClientError::Connect {
                path: shown.to_string(),
                error,
                hint,
            }
        };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
        stream.set_write_timeout(Some(ANSWER)).map_err(failed)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks, and waits for the answer. [`Response::Error`] becomes [`ClientError::Refused`].
    ///
    /// # Errors
    /// The server refused, or the connection broke.
    pub fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.ask(request)?;
        self.read()?
            .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof).into())
    }

    /// Events from now on, until the server ends.
    ///
    /// # Errors
    /// The connection broke.
    pub fn events(
        mut self,
        filter: Filter,
    ) -> Result<impl Iterator<Item = Result<serde_json::Value, ClientError>>, ClientError> {
        self.ask(&Request::Events { filter })?;
        self.stream.get_ref().set_read_timeout(None)?;
        Ok(std::iter::from_fn(move || match self.read() {
            Ok(Some(Response::Event { event })) => Some(Ok(event)),
            Ok(Some(other)) => Some(Err(ClientError::Unexpected(format!("{other:?}")))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    fn ask(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
        line.push(b'\n');
        match self.stream.get_mut().write_all(&line) {
            // The server may have said why before it closed.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// The next response; `None` when the server closed the connection.
    fn read(&mut self) -> Result<Option<Response>, ClientError> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        match serde_json::from_slice(&line) {
            Ok(Response::Error { message, hint }) => Err(ClientError::Refused { message, hint }),
            Ok(response) => Ok(Some(response)),
            Err(error) => Err(ClientError::Unexpected(error.to_string())),
        }
    }
}
