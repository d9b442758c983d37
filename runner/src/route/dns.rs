//! Sockets for the core's resolver: one instance for each shard.
//!
//! Questions that come up in one turn of the shard are asked together; the task of
//! [`Dns::run`] then sends what the resolver wants sent, and waits for what comes back.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courser_core::dns::{Answer, Asked, Config, Input, Output, Question, Resolver, Stats, Token};
use courser_core::limits::DNS_QUERY_BYTES_MAX;
use tokio::sync::Notify;

use crate::net::tcp::Stream;
use crate::net::udp::{DATAGRAM_BYTES_MAX, Datagrams};
use crate::net::{clock, ring};
use crate::shard::tickets::Tickets;

/// How long one TCP exchange may take; the resolver's own deadline comes first.
const TCP_EXCHANGE_MAX: Duration = Duration::from_secs(30);

/// Pause before a question is put again that the resolver had no room for.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// A resolver with its sockets.
pub struct Dns {
    resolver: RefCell<Resolver>,
    /// By the resolver's socket number: one for each address family that a server has.
    sockets: Vec<[Option<Rc<Datagrams>>; 2]>,
    waiting: Tickets<Arc<Answer>>,
    kick: Notify,
}

fn family(address: SocketAddr) -> usize {
    usize::from(address.is_ipv6())
}

impl Dns {
    /// Opens the sockets and starts the tasks on this thread's ring, each with a guard of its own that
    /// is dropped when the task ends.
    ///
    /// # Errors
    /// When a socket can't be opened.
    pub fn start<G: 'static>(config: Config, guard: impl Fn() -> G) -> io::Result<Rc<Self>> {
        let mut sockets = Vec::new();
        for _ in 0..config.sockets {
            let mut pair = [None, None];
            for &server in &config.servers {
                let socket = &mut pair[family(server)];
                if socket.is_none() {
                    *socket = Some(Rc::new(Datagrams::toward(server)?));
                }
            }
            sockets.push(pair);
        }
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&clock::random_u64().to_ne_bytes());
        }
        let this = Rc::new(Self {
            resolver: RefCell::new(Resolver::new(config, seed)),
            sockets,
            waiting: Tickets::default(),
            kick: Notify::new(),
        });
        for (number, pair) in this.sockets.iter().enumerate() {
            for socket in pair.iter().flatten() {
                let (guard, hearing) = (guard(), this.clone().hear(number as u16, socket.clone()));
                ring::spawn(async move {
                    let _guard = guard;
                    hearing.await;
                });
            }
        }
        let (guard, running) = (guard(), this.clone().run());
        ring::spawn(async move {
            let _guard = guard;
            running.await;
        });
        Ok(this)
    }

    /// What the resolver counted.
    pub fn stats(&self) -> Stats {
        self.resolver.borrow().stats()
    }

    /// Forgets every answer, failures too.
    pub fn forget(&self) {
        self.resolver.borrow_mut().clear_cache();
    }

    /// Asks; `None` when too much is open already.
    pub async fn ask(&self, question: Question) -> Option<Arc<Answer>> {
        let ticket = self.waiting.take();
        let asked = self
            .resolver
            .borrow_mut()
            .ask(clock::now(), Token(ticket.number()), question);
        match asked {
            Asked::Answered(answer) => {
                // Nobody will settle it; settled here, its number is free again.
                self.waiting.settle(ticket.number(), answer.clone());
                Some(answer)
            }
            Asked::Busy => {
                let number = ticket.number();
                drop(ticket);
                self.waiting.forget(number);
                None
            }
            Asked::Pending => {
                self.kick.notify_one();
                Some(ticket.wait().await)
            }
        }
    }

    /// Asks, again and again while too much is open: routing has all the time of a retry.
    pub async fn ask_patiently(&self, question: Question) -> Arc<Answer> {
        loop {
            if let Some(answer) = self.ask(question.clone()).await {
                return answer;
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    /// Does what the resolver says, for ever.
    async fn run(self: Rc<Self>) {
        let mut out = vec![0; DNS_QUERY_BYTES_MAX];
        loop {
            let deadline = loop {
                let output = self.resolver.borrow_mut().poll(clock::now(), &mut out);
                match output {
                    Output::SendUdp {
                        to,
                        socket,
                        len,
                        query,
                    } => {
                        let datagram = out[..len].to_vec();
                        let this = self.clone();
                        ring::spawn(async move {
                            let socket = this
                                .sockets
                                .get(usize::from(socket))
                                .and_then(|p| p[family(to)].clone());
                            let sent = match socket {
                                Some(socket) => socket.send(datagram, to).await.is_ok(),
                                None => false,
                            };
                            if !sent {
                                this.tell(Input::SendFailed { query });
                            }
                        });
                    }
                    Output::SendTcp { to, len, query } => {
                        let message = out[..len].to_vec();
                        let this = self.clone();
                        ring::spawn(async move {
                            match tokio::time::timeout(TCP_EXCHANGE_MAX, exchange(to, message))
                                .await
                            {
                                Ok(Ok(bytes)) => this.tell(Input::TcpReply {
                                    query,
                                    bytes: &bytes,
                                }),
                                _ => this.tell(Input::TcpFailed { query }),
                            }
                        });
                    }
                    Output::Answer { token, answer, .. } => self.waiting.settle(token.0, answer),
                    Output::Wait(deadline) => break deadline,
                }
            };
            match deadline {
                None => self.kick.notified().await,
                Some(deadline) => {
                    let left = deadline.since(clock::now());
                    let _ = tokio::time::timeout(left, self.kick.notified()).await;
                }
            }
        }
    }

    fn tell(&self, input: Input<'_>) {
        self.resolver.borrow_mut().handle(clock::now(), input);
        self.kick.notify_one();
    }

    /// Hands every datagram of one socket to the resolver.
    async fn hear(self: Rc<Self>, number: u16, socket: Rc<Datagrams>) {
        let mut buf = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        loop {
            buf.clear();
            let (received, back) = socket.receive(buf).await;
            buf = back;
            match received {
                Ok((_, from)) => self.tell(Input::Datagram {
                    from,
                    socket: number,
                    bytes: &buf,
                }),
                // A port that was unreachable shows here; the resolver's deadline deals with it.
                // Not at once again, in case the error stays.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// One question over TCP (RFC 7766): a connection of its own, since it is rare.
async fn exchange(to: SocketAddr, message: Vec<u8>) -> io::Result<Vec<u8>> {
    let stream = Stream::connect(to, None, TCP_EXCHANGE_MAX).await?;
    let length = u16::try_from(message.len())
        .map_err(io::Error::other)?
        .to_be_bytes();
    stream
        .send(vec![Bytes::copy_from_slice(&length), Bytes::from(message)])
        .await?;
    let mut buf = Vec::with_capacity(2 + usize::from(u16::MAX));
    let done = loop {
        let mut receiving = stream.receive(buf);
        let (n, back) = (&mut receiving).await;
        buf = back;
        let whole = buf
            .first_chunk()
            .map(|l| 2 + usize::from(u16::from_be_bytes(*l)));
        match n {
            Err(e) => break Err(e),
            Ok(_) if whole.is_some_and(|w| buf.len() >= w) => break Ok(()),
            Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
        }
    };
    stream.abort();
    done?;
    let whole = 2 + usize::from(u16::from_be_bytes([buf[0], buf[1]]));
    buf.truncate(whole);
    buf.drain(..2);
    Ok(buf)
}
