//! Listeners, threads, and what others see of a running sink.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::behaviour::Config;
use super::model::{Counts, Receiver};
use super::record::Record;
use super::session::{self, Shared};
use crate::net::tls;

/// Connections that may wait to be accepted, in each listener.
const BACKLOG: i32 = 4096;
/// How long a listener rests when there are no descriptors left.
const REST: Duration = Duration::from_millis(20);

/// A running sink. It stops when it is dropped.
#[derive(Debug)]
pub struct Sink {
    receivers: Vec<SinkReceiver>,
    record: Arc<Record>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

/// One of its receivers.
#[derive(Debug)]
pub struct SinkReceiver {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

/// What all receivers counted, as it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    /// By name.
    receivers: BTreeMap<String, ReceiverStats>,
    /// Together.
    total: Counts,
}

#[derive(Debug, Serialize)]
struct ReceiverStats {
    listen: Vec<SocketAddr>,
    #[serde(flatten)]
    counts: Counts,
}

impl Sink {
    /// Listens everywhere and begins to serve.
    ///
    /// # Errors
    /// The configuration makes no sense, or an address can't be listened on.
    pub fn start(config: Config) -> io::Result<Self> {
        config.check().map_err(io::Error::other)?;
        let record = Arc::new(Record::new(config.save.as_deref(), config.list.as_deref())?);
        let threads = config.threads.max(1);
        let mut receivers = Vec::new();
        let mut listeners: Vec<Vec<Listener>> = (0..threads).map(|_| Vec::new()).collect();
        for (i, receiver) in config.receivers.into_iter().enumerate() {
            let hostname = match &*receiver.hostname {
                "" => &receiver.name,
                hostname => hostname,
            };
            let options =
                session::options(hostname, &receiver.behaviour).map_err(io::Error::other)?;
            let tls = match receiver.behaviour.starttls {
                true => Some(tls::Server::self_signed(hostname).map_err(io::Error::other)?),
                false => None,
            };
            let seed = config.seed.wrapping_add(i as u64);
            let shared = Arc::new(Shared {
                name: receiver.name,
                model: Mutex::new(Receiver::new(receiver.behaviour.clone(), seed)),
                behaviour: receiver.behaviour,
                options,
                tls,
                record: record.clone(),
                verbose: config.verbose,
            });
            let mut addresses = Vec::new();
            for mut address in receiver.listen {
                for listeners in &mut listeners {
                    let socket = listen(address).map_err(|e| {
                        io::Error::new(e.kind(), format!("can't listen on {address}: {e}"))
                    })?;
                    // Port 0 became a real one, which the other threads share.
                    if let Some(real) = socket.local_addr()?.as_socket() {
                        address = real;
                    }
                    listeners.push(Listener {
                        socket,
                        shared: shared.clone(),
                    });
                }
                addresses.push(address);
            }
            receivers.push(SinkReceiver { addresses, shared });
        }
        let (stop, stopped) = watch::channel(false);
        let started = listeners.into_iter().map(|listeners| {
            let stopped = stopped.clone();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            std::thread::Builder::new()
                .name("sink".into())
                .spawn(move || runtime.block_on(accept(listeners, stopped)))
        });
        let threads = started.collect::<io::Result<_>>()?;
        Ok(Self {
            receivers,
            record,
            stop,
            threads,
        })
    }

    /// The receivers, as they were configured.
    pub fn receivers(&self) -> &[SinkReceiver] {
        &self.receivers
    }

    /// The receiver of this name.
    pub fn receiver(&self, name: &str) -> Option<&SinkReceiver> {
        self.receivers.iter().find(|r| r.name() == name)
    }

    /// What all counted together. Peaks are added up.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for receiver in &self.receivers {
            total.add(&receiver.counts());
        }
        total
    }

    /// Everything that was counted, for printing.
    pub(crate) fn stats(&self) -> Stats {
        let of = |r: &SinkReceiver| ReceiverStats {
            listen: r.addresses.clone(),
            counts: r.counts(),
        };
        let each = self.receivers.iter();
        Stats {
            receivers: each.map(|r| (r.name().to_owned(), of(r))).collect(),
            total: self.total(),
        }
    }

    /// Brings the list of recipients to its file.
    ///
    /// # Errors
    /// What the disk says.
    pub fn flush(&self) -> io::Result<()> {
        self.record.flush()
    }
}

impl Drop for Sink {
    /// Cuts all connections.
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = self.record.flush();
    }
}

impl SinkReceiver {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens, with the real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it counted so far.
    pub fn counts(&self) -> Counts {
        self.shared.model().counts().clone()
    }

    /// How often it took a message for this recipient.
    pub fn deliveries_to(&self, recipient: &str) -> u32 {
        self.shared.model().deliveries_to(recipient)
    }
}

struct Listener {
    socket: Socket,
    shared: Arc<Shared>,
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// One thread: accepts everywhere until it is told to stop. Sessions end with the runtime.
async fn accept(listeners: Vec<Listener>, mut stopped: watch::Receiver<bool>) {
    for listener in listeners {
        tokio::spawn(async move {
            let shared = listener.shared;
            match TcpListener::from_std(listener.socket.into()) {
                Ok(listener) => serve(listener, shared).await,
                Err(error) => eprintln!("{}: can't listen: {error}", shared.name),
            }
        });
    }
    // An error means that the sink is gone.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                // Replies are written at once anyway.
                let _ = stream.set_nodelay(true);
                tokio::spawn(session::serve(stream, client, shared.clone()));
            }
            // Out of descriptors; the clients wait in the backlog.
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}
