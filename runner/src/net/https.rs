//! Requests by HTTPS (RFC 9110, 9112) on the control plane: to addresses that somebody else has
//! found, with a certificate that must be right, nothing followed, nothing kept, everything bounded.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::tls::{Client, Fault, Trust};

/// The port of HTTPS.
pub const PORT: u16 = 443;
/// Bytes of a response's head at the most.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long one address may take to answer, if there is another one.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// What is wanted, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The server's name, which its certificate has to have.
    pub host: &'a str,
    /// Its addresses, in the order to try them.
    pub addresses: &'a [IpAddr],
    /// Its port.
    pub port: u16,
    /// The path.
    pub path: &'a str,
    /// What media type is wanted.
    pub accept: &'a str,
    /// Bytes of the body that are read at the most.
    pub body_max: usize,
    /// How long all of it may take.
    pub limit: Duration,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Content-Type, if it is text.
    pub content_type: Option<String>,
    /// The body: whole, or the first `body_max` bytes.
    pub body: Vec<u8>,
}

/// Why nothing came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server could not be found to be the right one, or speaks no TLS that we speak.
    Tls(Fault),
    /// All else, in words.
    Other(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(fault) => fault.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}
impl std::error::Error for Trouble {}

/// GET, on a connection of its own.
///
/// # Errors
/// Why no response came, or not all of it.
pub async fn get(client: &Client, request: &Request<'_>) -> Result<Response, Trouble> {
    within_limit(client, request, None).await
}

/// POST of `body`, which is of a media type, on a connection of its own.
///
/// # Errors
/// Why no response came, or not all of it; the server may have taken it all the same.
pub async fn post(
    client: &Client,
    request: &Request<'_>,
    media_type: &str,
    body: Bytes,
) -> Result<Response, Trouble> {
    within_limit(client, request, Some((media_type, body))).await
}

async fn within_limit(
    client: &Client,
    request: &Request<'_>,
    content: Option<(&str, Bytes)>,
) -> Result<Response, Trouble> {
    let limit = request.limit;
    let done = tokio::time::timeout(limit, exchange(client, request, content)).await;
    done.unwrap_or_else(|_| {
        let text = format!(
            "{} takes longer than {} s",
            request.host,
            limit.as_secs_f64().ceil()
        );
        Err(Trouble::Other(text))
    })
}

async fn exchange(
    client: &Client,
    request: &Request<'_>,
    content: Option<(&str, Bytes)>,
) -> Result<Response, Trouble> {
    let host = request.host;
    let tls = client.attempt(host, &Trust::Authorities);
    let tls = tls.map_err(Trouble::Tls)?;
    let stream = connect(request).await?;
    let stream = tls.over(stream, "http/1.1").await.map_err(Trouble::Tls)?;
    let broken = |e: hyper::Error| Trouble::Other(format!("{host}: {}", words(&e)));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let (method, media_type, body) = match content {
        None => (Method::GET, None, Bytes::new()),
        Some((media_type, body)) => (Method::POST, Some(media_type), body),
    };
    let mut message = hyper::Request::builder().method(method).uri(request.path);
    if let Some(media_type) = media_type {
        message = message.header(CONTENT_TYPE, media_type);
    }
    // The port of HTTPS is left out (RFC 9110 7.2).
    let authority = match request.port {
        PORT => host.to_owned(),
        port => format!("{host}:{port}"),
    };
    let message = message
        .header(HOST, authority)
        .header(ACCEPT, request.accept)
        .header(USER_AGENT, concat!("courser/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|e| Trouble::Other(format!("{host}{}: {e}", request.path)))?;
    let mut asking = pin!(async {
        let response = sender.send_request(message).await.map_err(broken)?;
        read(response, request.body_max).await.map_err(broken)
    });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        done = &mut asking => done,
        // It has ended; what it has brought is still there.
        _ = &mut connection => asking.await,
    }
}

/// A connection to the first address that answers.
async fn connect(request: &Request<'_>) -> Result<TcpStream, Trouble> {
    let host = request.host;
    let mut last = format!("{host} has no address");
    let addresses = &request.addresses[..request.addresses.len().min(ADDRESSES_MAX)];
    for (i, &ip) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(SocketAddr::new(ip, request.port));
        let done = match i + 1 < addresses.len() {
            false => connecting.await,
            true => tokio::time::timeout(CONNECT_MAX, connecting)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        match done {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("connect to {host} [{ip}]: {error}"),
        }
    }
    Err(Trouble::Other(last))
}

async fn read(
    response: hyper::Response<hyper::body::Incoming>,
    body_max: usize,
) -> Result<Response, hyper::Error> {
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type
        .and_then(|t| t.to_str().ok())
        .map(str::to_owned);
    let status = response.status().as_u16();
    let (mut incoming, mut body) = (response.into_body(), Vec::new());
    while body.len() < body_max {
        let Some(frame) = incoming.frame().await else {
            break;
        };
        if let Some(data) = frame?.data_ref() {
            let room = body_max - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(Response {
        status,
        content_type,
        body,
    })
}

/// An error with what is behind it, which hyper doesn't say by itself.
fn words(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut behind = std::error::Error::source(error);
    while let Some(error) = behind {
        text.push_str(&format!(": {error}"));
        behind = error.source();
    }
    text
}
