//! The server's side of the control socket.
//!
//! [`ControlServer::bind`] early at start: it refuses to run beside another server on the same
//! socket. Then [`ControlServer::run`] on the control plane's tokio runtime, over what implements
//! [`ControlBackend`], until `stop` resolves.
//!
//! Clients, the length of their requests and the time they may take are bounded; a slow or
//! silent client is cut off and holds up nobody else.

use std::fs::{self, File, Permissions, TryLockError};
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::protocol::{Filter, REQUEST_BYTES_MAX, Request, Response};

/// Most clients at once; one more is told so and closed.
pub const CLIENTS_MAX: usize = 64;
/// A client that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// A client that doesn't read a response for so long is closed.
const WRITE: Duration = Duration::from_secs(30);
/// How long requests that are being answered may take once the server stops.
const GRACE: Duration = Duration::from_secs(1);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 64;

/// A future in a box.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What answers the requests: the shards, or a stand-in for them.
pub trait ControlBackend: Send + Sync + 'static {
    /// Answers any request but [`Request::Events`]. Runs on the control plane's runtime and may
    /// wait for the shards.
    fn call(&self, request: Request) -> BoxFuture<'_, Response>;

    /// Events from now on of the deliveries that `filter` means. The sender must not wait for
    /// the channel: when it is full, the client reads too slowly, and the sender is dropped.
    fn events(&self, filter: Filter) -> mpsc::Receiver<serde_json::Value>;
}

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another server has it.
    #[error(
        "another courser serves on {path}; stop it first, or give this one another \
         server.control_socket (and another spool.dir)"
    )]
    Taken {
        /// The socket.
        path: String,
    },
    /// There is a file that is not a socket.
    #[error(
        "{path} exists and is not a socket; remove it, or choose another server.control_socket"
    )]
    NotASocket {
        /// The file.
        path: String,
    },
    /// The system said no.
    #[error("can't make the control socket {path}: {error}")]
    System {
        /// The socket.
        path: String,
        /// What it said.
        error: io::Error,
    },
}

/// A control socket that listens. Dropping it removes the file.
#[derive(Debug)]
pub struct ControlServer {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    /// Locked as long as the server lives; what says that a socket file is stale.
    _lock: File,
}

impl ControlServer {
    /// Listens on `path`, with mode 0600. Its directory is made if it isn't there; a socket that
    /// a dead server left is replaced.
    ///
    /// # Errors
    /// Another server listens there, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let shown = || path.display().to_string();
        let system = |error| BindError::System {
            path: shown(),
            error,
        };
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(system)?;
        }
        let lock = lock(path)
            .map_err(system)?
            .ok_or_else(|| BindError::Taken { path: shown() })?;
        match fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => {
                return Err(BindError::NotASocket { path: shown() });
            }
            Ok(_) => {
                // Somebody may have removed the lock of a server that still lives.
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(BindError::Taken { path: shown() });
                }
                fs::remove_file(path).map_err(system)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(system(e)),
        }
        let listener = listen(path).map_err(system)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Answers clients until `stop` resolves.
    ///
    /// # Errors
    /// The socket can't be given to the runtime.
    pub async fn run(
        self,
        backend: Arc<dyn ControlBackend>,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let places = Arc::new(Semaphore::new(CLIENTS_MAX));
        let mut clients = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            while clients.try_join_next().is_some() {}
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, mostly: wait for some to come back.
                    tracing::warn!(%error, "control socket: accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (read, mut write) = stream.into_split();
            match places.clone().try_acquire_owned() {
                Ok(place) => {
                    let backend = backend.clone();
                    clients.spawn(async move {
                        if let Err(error) = serve(read, write, &*backend).await {
                            tracing::debug!(%error, "control client gone");
                        }
                        drop(place);
                    });
                }
                Err(_) => {
                    let busy = Response::error(
                        format!("{CLIENTS_MAX} control clients are connected already"),
                        "try again in a moment",
                    );
                    clients.spawn(async move {
                        let _ = say(&mut write, &busy).await;
                    });
                }
            }
        }
        let finish = async { while clients.join_next().await.is_some() {} };
        let _ = timeout(GRACE, finish).await;
        Ok(())
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks `<path>.lock`; `None` if somebody else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Binds, sets the mode and only then listens, so that nobody else can ever connect.
fn listen(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// One client, until it goes.
async fn serve(
    read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    backend: &dyn ControlBackend,
) -> io::Result<()> {
    let mut reader = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(REQUEST_BYTES_MAX as u64);
        let Ok(got) = timeout(IDLE, limited.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if got? == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") {
            let cut = Response::error(
                "the request is cut off or too long",
                format!("end each request with a line feed, within {REQUEST_BYTES_MAX} bytes"),
            );
            return say(&mut write, &cut).await;
        }
        let response = match serde_json::from_slice(&line) {
            Ok(Request::Events { filter }) => {
                return stream(reader, &mut write, backend.events(filter)).await;
            }
            Ok(request) => backend.call(request).await,
            Err(error) => Response::error(
                format!("not a request: {error}"),
                "write one JSON object a line, such as {\"request\":\"status\"}",
            ),
        };
        say(&mut write, &response).await?;
    }
}

/// Writes events until there are no more or the client goes.
async fn stream(
    mut reader: BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    mut events: mpsc::Receiver<serde_json::Value>,
) -> io::Result<()> {
    let mut byte = [0];
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => say(write, &Response::Event { event }).await?,
                None => {
                    let end = Response::error(
                        "the stream of events ended: the server stops, or this client reads too slowly",
                        "the event files have every event",
                    );
                    return say(write, &end).await;
                }
            },
            // Whatever a client says now, it is its end.
            _ = reader.read(&mut byte) => return Ok(()),
        }
    }
}

async fn say(write: &mut OwnedWriteHalf, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    timeout(WRITE, write.write_all(&line))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}
