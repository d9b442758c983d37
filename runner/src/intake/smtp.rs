//! One SMTP or LMTP session of a submitter: a socket around the core's server machine.
//!
//! The machine says what the client wants; this file answers from the configuration, the spool
//! and the queue, collects the body, and lets [`accept`](super::accept) make it durable before
//! the 250 goes out. [`login`] answers AUTH.

mod login;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use courser_core::auth::alignment::Lack;
use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::mail::header::With;
use courser_core::smtp::command::{FutureRelease, MailParams, RcptParams};
use courser_core::smtp::proxy::{self, Parsed};
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::smtp::server::{self, Event, Greeting, Input, Output, Session};
use zeroize::Zeroize;

use super::accept;
use super::clients::{Admission, Clients};
use super::draft::{Draft, Flaw, Origin};
use super::inbound::{self, Arrival};
use crate::config::{Alignment, Config, Listener, ListenerKind, ListenerTls};
use crate::control::MessageId;
use crate::events::{self, Client, Refused};
use crate::login::Loaded;
use crate::net::tcp::{Listener as Socket, Stream};
use crate::net::tls::{self, Conn, Facts, Fault, Receive};
use crate::net::{clock, ring};
use crate::queue::Queue;
use crate::shard::Shard;
use crate::sign::alignment::lack;

/// Bytes read at once while commands come, and the least that holds every line.
const COMMAND_BUFFER_BYTES: usize = 4096;
/// Bytes read at once while a body comes.
const BODY_BUFFER_BYTES: usize = 64 * 1024;
/// Replies that are gathered before they are sent.
const REPLY_BUFFER_BYTES: usize = 4096;
/// Longest time that a sender may ask us to keep a message back (RFC 4865), seconds: 30 days.
const HOLD_S_MAX: u32 = 30 * 86_400;
/// A proxy has so long to say who the client is.
const PROXY_TIMEOUT: Duration = Duration::from_secs(10);
/// A wait without a deadline is looked at again after this.
const NO_DEADLINE: Duration = Duration::from_secs(3600);
/// A TLS handshake has so long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// After the last reply the client has so long to take it and close.
const LINGER: Duration = Duration::from_secs(2);
/// And what it sends meanwhile is thrown away up to so many bytes.
const LINGER_BYTES_MAX: usize = 4 << 20;

/// One listener as the shards share it.
pub struct Entrance {
    terms: RwLock<Arc<Terms>>,
    /// Who is inside.
    pub clients: Arc<Clients>,
}

/// What counts for sessions that begin now.
pub struct Terms {
    /// The configuration: positions in `listener` are of its lists.
    pub config: Arc<Config>,
    /// The listener's configuration.
    pub listener: Listener,
    /// The machine's options made of it.
    pub options: server::Options,
    /// Its TLS, if it speaks any.
    pub tls: Option<Arc<tls::Server>>,
}

impl Entrance {
    /// An entrance for `listener`, which is one of `config`'s; `loaded` has its users, and `tls` what
    /// it needs for TLS.
    pub fn new(
        config: Arc<Config>,
        listener: Listener,
        clients: Arc<Clients>,
        loaded: &Loaded,
        tls: Option<Arc<tls::Server>>,
    ) -> Self {
        Self {
            terms: RwLock::new(Arc::new(Terms::new(config, listener, loaded, tls))),
            clients,
        }
    }

    /// What counts now.
    pub fn terms(&self) -> Arc<Terms> {
        self.terms
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Another configuration for sessions that begin from now on.
    pub fn reload(
        &self,
        config: Arc<Config>,
        listener: Listener,
        loaded: &Loaded,
        tls: Option<Arc<tls::Server>>,
    ) {
        *self.terms.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Terms::new(config, listener, loaded, tls));
    }
}

impl Terms {
    fn new(
        config: Arc<Config>,
        listener: Listener,
        loaded: &Loaded,
        tls: Option<Arc<tls::Server>>,
    ) -> Self {
        let mut options = server::Options::new(&listener.hostname)
            .expect("a checked host name can stand in a greeting");
        options.lmtp = listener.kind == ListenerKind::Lmtp;
        options.offer.pipelining = listener.pipelining;
        options.offer.chunking = listener.chunking;
        options.offer.smtputf8 = listener.smtputf8;
        options.offer.dsn = listener.dsn;
        options.offer.future_release = Some(HOLD_S_MAX);
        options.offer.starttls = tls.is_some() && listener.tls == ListenerTls::StartTls;
        options.require_tls = listener.require_tls;
        options.offer.requiretls = tls.is_some();
        if let Some(auth) = &listener.auth
            && let Some(users) = loaded.users(&auth.users)
        {
            options.auth = users.mechanisms(&auth.mechanisms);
            options.auth_needs_tls = !auth.without_tls;
            options.require_auth = auth.required;
        }
        options.greeting_delay = listener.greeting_delay;
        if !listener.greeting_delay.is_zero() {
            options.early_talker = server::EarlyTalker::Refuse;
        }
        options.limits.message_bytes = listener.max_message_size.0;
        options.limits.recipients = u32::try_from(listener.max_recipients).unwrap_or(u32::MAX);
        options.limits.transactions = listener.max_messages_per_connection;
        options.limits.errors = listener.max_errors;
        options.timeouts.command = listener.command_timeout;
        options.timeouts.data_block = listener.data_timeout;
        options.timeouts.session = Some(listener.session_timeout);
        Self {
            config,
            listener,
            options,
            tls,
        }
    }
}

/// Accepts connections until the listener is stopped.
pub async fn serve(shard: Rc<Shard>, entrance: Arc<Entrance>, socket: Rc<Socket>) {
    loop {
        match socket.accept().await {
            Ok(stream) => {
                ring::spawn(visit(shard.clone(), entrance.clone(), stream));
            }
            Err(_) if shard.is_draining() => return,
            Err(error) => {
                // Out of descriptors or memory: the backlog waits until some are free again.
                tracing::warn!(%error, listener = %entrance.terms().listener.name, "can't accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn visit(shard: Rc<Shard>, entrance: Arc<Entrance>, stream: Stream) {
    let mut input = Vec::with_capacity(COMMAND_BUFFER_BYTES);
    let mut client = stream.peer().ip().to_canonical();
    let terms = entrance.terms();
    if terms
        .listener
        .proxy_protocol_from
        .iter()
        .any(|n| n.contains(client))
    {
        match read_proxy_header(&stream, &mut input).await {
            Ok(Some(address)) => client = address.ip().to_canonical(),
            Ok(None) => {}
            Err(reason) => {
                tracing::warn!(proxy = %client, listener = %terms.listener.name, "{reason}; connection closed");
                stream.abort();
                return;
            }
        }
    }
    let admitted = entrance
        .clients
        .admit(clock::now(), &terms.listener, client);
    let mut visitor = Visitor {
        origin: Origin {
            client,
            helo: String::new(),
            with: With {
                lmtp: terms.options.lmtp,
                ..With::default()
            },
            trusted: terms.listener.relays_for(client),
            tls: None,
            user: None,
        },
        machine: Session::new(clock::now(), SharedTerms(terms.clone())),
        admission: None,
        attempt: None,
        draft: None,
        committed: None,
        held: 0,
        shard: shard.clone(),
        entrance,
        terms,
        stream: Conn::new(stream),
    };
    match admitted {
        Ok(admission) => visitor.admission = Some(admission),
        Err(denied) => {
            let reply = reply(421, (4, 7, 0), denied.text());
            visitor.note_refusal("connect", &reply, None);
            let _ = visitor
                .machine
                .handle(clock::now(), Input::RefuseAndClose(reply));
        }
    }
    let inside = Inside::enter(&shard);
    if inside.is_none() && visitor.admission.is_some() {
        let reply = reply(421, (4, 3, 2), "Too many sessions here, try again later");
        visitor.note_refusal("connect", &reply, None);
        let _ = visitor
            .machine
            .handle(clock::now(), Input::RefuseAndClose(reply));
    }
    if visitor.terms.listener.tls == ListenerTls::Implicit {
        // Who may not come in gets no handshake for it.
        if inside.is_none() || visitor.admission.is_none() {
            return visitor.stream.abort();
        }
        let heard = std::mem::take(&mut input);
        if !visitor.shake_hands(heard, None).await {
            return;
        }
    }
    visitor.converse(input).await;
}

/// A place among the sessions with submitters; given back when dropped, however the session ends.
struct Inside(Rc<Shard>);

impl Inside {
    fn enter(shard: &Rc<Shard>) -> Option<Self> {
        shard
            .shared()
            .intake_sessions
            .take(1)
            .then(|| Self(shard.clone()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.shared().intake_sessions.give(1);
    }
}

/// The buffer with room for a receive: a small one for commands, so that idle sessions cost
/// little, a large one inside a body.
fn with_room(mut buffer: Vec<u8>, in_body: bool) -> Vec<u8> {
    let want = if in_body {
        BODY_BUFFER_BYTES
    } else {
        COMMAND_BUFFER_BYTES
    };
    if !in_body && buffer.is_empty() && buffer.capacity() > 2 * COMMAND_BUFFER_BYTES {
        buffer = Vec::new();
    }
    if buffer.capacity() - buffer.len() < want / 2 {
        buffer.reserve(want.saturating_sub(buffer.len()).max(want / 2));
    }
    buffer
}

/// Reads until a whole PROXY header is there; what follows stays in `input`.
async fn read_proxy_header(
    stream: &Stream,
    input: &mut Vec<u8>,
) -> Result<Option<std::net::SocketAddr>, String> {
    let end = clock::now() + PROXY_TIMEOUT;
    loop {
        match proxy::parse(input).map_err(|e| e.to_string())? {
            Parsed::Done { consumed, proxied } => {
                input.drain(..consumed);
                return Ok(proxied.client);
            }
            Parsed::More => {}
        }
        // Version 2 may carry more than a buffer full (its length has 16 bits).
        input.reserve(1024);
        let mut receiving = Box::pin(stream.receive(std::mem::take(input)));
        let left = end.since(clock::now());
        let (n, back) = match tokio::time::timeout(left, receiving.as_mut()).await {
            Ok(done) => done,
            Err(_) => {
                stream.abort();
                let _ = receiving.await;
                return Err(format!("no PROXY header within {PROXY_TIMEOUT:?}"));
            }
        };
        *input = back;
        if !matches!(n, Ok(n) if n > 0) {
            return Err("closed before a whole PROXY header".to_owned());
        }
    }
}

struct Visitor {
    shard: Rc<Shard>,
    entrance: Arc<Entrance>,
    terms: Arc<Terms>,
    stream: Conn,
    machine: Session<SharedTerms>,
    origin: Origin,
    admission: Option<Admission>,
    attempt: Option<login::Attempt>,
    draft: Option<Draft>,
    /// In LMTP the answer to the first recipient's end of data is the answer to all.
    committed: Option<Result<String, Flaw>>,
    /// Bytes of recipients and body that count against the intake's memory.
    held: usize,
}

impl std::borrow::Borrow<server::Options> for SharedTerms {
    fn borrow(&self) -> &server::Options {
        &self.0.options
    }
}

/// The terms, as the machine borrows its options from them.
struct SharedTerms(Arc<Terms>);

/// What an event leaves to be done.
enum Next {
    Go,
    Commit,
    Login,
}

fn reply(code: u16, enhanced: (u8, u16, u16), text: &str) -> Reply<'_> {
    Reply {
        code: ReplyCode::new(code).expect("our own codes are reply codes"),
        enhanced: Some(EnhancedCode::new(enhanced.0, enhanced.1, enhanced.2)),
        text: text.as_bytes(),
    }
}

/// The intake's memory is used up.
fn full() -> Reply<'static> {
    let text = "Too much mail is coming in at once, try again later";
    reply(452, (4, 3, 1), text)
}

impl Visitor {
    async fn converse(&mut self, mut input: Vec<u8>) {
        let mut out = [0; REPLY_BUFFER_BYTES];
        let mut said: Vec<u8> = Vec::new();
        let mut read_to = 0;
        // While the kernel has the buffer, `input` is empty, and an unfinished line is in there.
        let mut receiving: Option<Pin<Box<Receive>>> = None;
        let mut told_to_end = false;
        loop {
            let (consumed, output) = self.machine.poll(clock::now(), &input[read_to..], &mut out);
            read_to += consumed;
            match output {
                Output::Send(n) => said.extend_from_slice(&out[..n]),
                Output::Event(event) => match self.hear(event) {
                    Next::Go => {}
                    Next::Commit => {
                        // The replies so far need not wait for the disk.
                        if !self.say(&mut said).await {
                            break;
                        }
                        self.commit().await;
                    }
                    Next::Login => {
                        // A password may have stood there.
                        input[..read_to].zeroize();
                        if !self.say(&mut said).await {
                            break;
                        }
                        // In a box: few sessions are at it at a time, and all would have room for it.
                        Box::pin(self.look_at_login()).await;
                    }
                },
                Output::StartTls => {
                    if !self.say(&mut said).await {
                        break;
                    }
                    let heard = input.split_off(read_to);
                    input.clear();
                    read_to = 0;
                    if !self.shake_hands(heard, receiving.take()).await {
                        let _ = self.machine.handle(clock::now(), Input::Closed);
                    }
                }
                Output::Wait(deadline) => {
                    if !self.say(&mut said).await {
                        break;
                    }
                    if self.shard.is_draining() && !told_to_end {
                        told_to_end = true;
                        let _ = self.machine.handle(clock::now(), Input::Shutdown);
                        continue;
                    }
                    let receive = receiving.get_or_insert_with(|| {
                        input.drain(..read_to);
                        read_to = 0;
                        let buffer = with_room(std::mem::take(&mut input), self.in_body());
                        Box::pin(self.stream.receive(buffer))
                    });
                    let left = deadline.map_or(NO_DEADLINE, |d| d.since(clock::now()));
                    let draining = self.shard.draining();
                    tokio::select! {
                        biased;
                        (n, buffer) = receive.as_mut() => {
                            receiving = None;
                            input = buffer;
                            if !matches!(n, Ok(n) if n > 0) {
                                let _ = self.machine.handle(clock::now(), Input::Closed);
                            }
                        }
                        () = tokio::time::sleep(left) => {
                            let _ = self.machine.handle(clock::now(), Input::DeadlinePassed);
                        }
                        () = draining.notified(), if !told_to_end => {}
                    }
                }
                Output::Close => {
                    // Who was let in has a place already.
                    let refused = self.admission.is_none();
                    let place = refused.then(|| self.entrance.clients.linger());
                    if self.say(&mut said).await && !matches!(place, Some(None)) {
                        self.part(receiving.take()).await;
                    }
                    break;
                }
            }
        }
        self.stream.abort();
        if let Some(receiving) = receiving {
            let _ = receiving.await;
        }
    }

    /// The TLS handshake; `false` when there is none, and the connection is over.
    async fn shake_hands(&mut self, heard: Vec<u8>, receiving: Option<Pin<Box<Receive>>>) -> bool {
        let Some(server) = self.terms.tls.clone() else {
            self.stream.abort();
            return false;
        };
        let limit = self.terms.listener.command_timeout.min(HANDSHAKE_TIMEOUT);
        let shaking = Box::pin(self.stream.start_server(&server, heard, receiving));
        let fault = match tokio::time::timeout(limit, shaking).await {
            Ok(Ok(())) => {
                self.origin.tls = self.stream.facts().cloned();
                self.origin.with.tls = true;
                if !self.stream.facts().is_some_and(Facts::has_exporter) {
                    self.machine.cannot_bind();
                }
                self.answer(Input::TlsEstablished);
                return true;
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::silent(limit),
        };
        self.stream.abort();
        self.note_bad_tls(fault.text);
        false
    }

    /// Says that nothing more comes, and reads what the client still sends: closing a socket with
    /// bytes unread resets the connection, which may destroy the last reply on its way.
    async fn part(&self, mut receiving: Option<Pin<Box<Receive>>>) {
        let _ = tokio::time::timeout(LINGER, self.stream.say_goodbye()).await;
        self.stream.finish();
        let ends = clock::now() + LINGER;
        let mut buffer = Vec::with_capacity(COMMAND_BUFFER_BYTES);
        let mut read = 0;
        while read < LINGER_BYTES_MAX {
            let receive = receiving.get_or_insert_with(|| {
                buffer.clear();
                Box::pin(self.stream.receive(std::mem::take(&mut buffer)))
            });
            let left = ends.since(clock::now());
            match tokio::time::timeout(left, receive.as_mut()).await {
                Ok((Ok(n), back)) if n > 0 => {
                    read += n;
                    buffer = back;
                    receiving = None;
                }
                Ok(_) => return,
                Err(_) => break,
            }
        }
        self.stream.abort();
        if let Some(receiving) = receiving {
            let _ = receiving.await;
        }
    }

    async fn say(&mut self, said: &mut Vec<u8>) -> bool {
        if said.is_empty() {
            return true;
        }
        let bytes = Bytes::from(std::mem::take(said));
        let limit = self.terms.listener.data_timeout;
        let mut sending = Box::pin(self.stream.send(vec![bytes]));
        match tokio::time::timeout(limit, sending.as_mut()).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                self.stream.abort();
                let _ = sending.await;
                false
            }
        }
    }

    fn answer(&mut self, input: Input<'_>) {
        if let Err(misuse) = self.machine.handle(clock::now(), input) {
            tracing::error!(%misuse, "the submission machine was called out of turn");
            let _ = self.machine.handle(clock::now(), Input::Closed);
        }
    }

    fn refuse(&mut self, stage: &'static str, refusal: Reply<'_>, recipient: Option<String>) {
        self.note_refusal(stage, &refusal, recipient);
        self.answer(Input::Refuse(refusal));
    }

    fn client(&self) -> Client {
        Client {
            client_address: Some(self.origin.client),
            client_helo: self.origin.helo.clone(),
            client_user: self
                .origin
                .user
                .as_ref()
                .map(|u| u.name.to_string())
                .unwrap_or_default(),
            client_tls: self.origin.tls.as_ref().map(Into::into),
            listener: self.terms.listener.name.to_string(),
        }
    }

    fn note_refusal(&self, stage: &'static str, refusal: &Reply<'_>, recipient: Option<String>) {
        let text = String::from_utf8_lossy(refusal.text).into_owned();
        self.shard.tell_refused(Refused {
            client: self.client(),
            sender: self.draft.as_ref().map(|d| d.fields.sender.clone()),
            recipient,
            cause: text.clone(),
            reply: events::Reply {
                code: refusal.code.get(),
                enhanced: refusal.enhanced.map(|e| e.to_string()).unwrap_or_default(),
                text,
                stage: stage.into(),
            },
        });
    }

    /// Nothing that could be answered, in or before a handshake.
    fn note_bad_tls(&self, cause: String) {
        self.shard.tell_refused(Refused {
            client: self.client(),
            sender: None,
            recipient: None,
            cause,
            reply: events::Reply {
                stage: "tls".into(),
                ..events::Reply::default()
            },
        });
    }

    fn hear(&mut self, event: Event<'_>) -> Next {
        match event {
            Event::Hello { greeting, name } => {
                name.clone_into(&mut self.origin.helo);
                self.origin.with.extended = greeting != Greeting::Helo;
                if !self.machine.is_authenticated() {
                    // RFC 3207 4.2: who it was before TLS counts no more.
                    self.origin.user = None;
                    self.origin.with.auth = false;
                    self.origin.trusted = self.terms.listener.relays_for(self.origin.client);
                }
                self.answer(Input::Accept);
            }
            Event::Mail(sender, params) => self.mail(sender, params),
            Event::Rcpt(mailbox, params) => self.rcpt(mailbox, params),
            Event::BodyStart => self.body_start(),
            Event::Body(bytes) => self.body(bytes),
            Event::BodyEnd { recipient: 0, .. } => return Next::Commit,
            Event::BodyEnd { .. } => self.answer_commit(),
            Event::Reset => self.drop_draft(),
            Event::EarlyTalker | Event::Quit => {}
            Event::Auth { mechanism, initial } => {
                self.begin_login(mechanism, initial);
                return Next::Login;
            }
            Event::AuthResponse(text) => {
                self.go_on_with_login(text);
                return Next::Login;
            }
            Event::AuthCancelled => self.attempt = None,
            Event::Injected { octets } => self.note_bad_tls(format!(
                "{octets} bytes of plaintext came behind STARTTLS, before TLS: thrown away, \
                 somebody between the client and us may have put them there"
            )),
        }
        Next::Go
    }

    fn mail(&mut self, sender: ReversePath<'_>, params: MailParams<'_>) {
        let now = clock::now();
        if let Err(denied) = self
            .admission
            .as_ref()
            .map_or(Ok(()), |a| a.message(now, &self.terms.listener))
        {
            return self.refuse("mail", reply(451, (4, 7, 0), denied.text()), None);
        }
        if let Err(flaw) = accept::room(&self.shard) {
            return self.refuse("mail", reply(flaw.code, flaw.enhanced, &flaw.text), None);
        }
        if let Some(FutureRelease::HoldUntil(at)) = params.hold
            && at > clock::wall().plus_s(i64::from(HOLD_S_MAX))
        {
            let text = "HOLDUNTIL is later than offered";
            return self.refuse("mail", reply(501, (5, 5, 4), text), None);
        }
        if let Err(flaw) = self.may_send_as(&sender, now) {
            return self.refuse("mail", reply(flaw.code, flaw.enhanced, &flaw.text), None);
        }
        self.drop_draft();
        let id = self.shard.spool().next_id();
        self.draft = Some(Draft::new(
            id,
            &sender,
            &params,
            &self.origin,
            clock::wall_ms(),
        ));
        self.answer(Input::Accept);
    }

    fn rcpt(&mut self, mailbox: Mailbox<'_>, params: RcptParams<'_>) {
        let listener = &self.terms.listener;
        let is_ours = || listener.takes_in(&Queue::domain(&mailbox.to_string()));
        let may = self.origin.trusted || (mailbox.domain().is_some() && is_ours());
        if !may {
            let refusal = match self.machine.options().offers_auth() {
                // RFC 4954 6.
                true => reply(530, (5, 7, 0), "Authentication required to send there"),
                false => {
                    let text =
                        "Relaying denied: your address is not in the listener's relay_networks";
                    reply(550, (5, 7, 1), text)
                }
            };
            return self.refuse("rcpt", refusal, Some(mailbox.to_string()));
        }
        let address = match mailbox.domain() {
            Some(_) => mailbox.to_string(),
            // RFC 5321 4.5.1: Postmaster without a domain is ours.
            None => self.terms.config.postmaster.to_string(),
        };
        if !self.hold(Draft::recipient_bytes(&address, &params)) {
            return self.refuse("rcpt", full(), Some(address));
        }
        if let Some(draft) = &mut self.draft {
            draft.add_recipient(address, &params);
        }
        self.answer(Input::Accept);
    }

    fn body_start(&mut self) {
        self.committed = None;
        let Some(draft) = &mut self.draft else { return };
        let keys = match self.origin.trusted {
            true => self.shard.shared().keys(),
            // A stranger's message is not ours to sign.
            false => Arc::default(),
        };
        draft.begin_content(None, &self.terms.listener.hostname, &self.origin, &keys);
        let begun = draft.content_bytes();
        if !self.hold(begun) {
            self.drop_draft();
            self.refuse("data", full(), None);
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        if self.draft.is_none() {
            return;
        }
        if !self.hold(bytes.len()) {
            self.drop_draft();
            return self.refuse("data", full(), None);
        }
        if let Some(draft) = &mut self.draft {
            draft.push(bytes);
        }
    }

    fn in_body(&self) -> bool {
        self.draft.as_ref().is_some_and(|d| d.content_bytes() > 0)
    }

    /// Takes so much of the intake's memory, if it is there.
    fn hold(&mut self, bytes: usize) -> bool {
        let there = self.shard.shared().intake_memory.take(bytes as u64);
        if there {
            self.held += bytes;
        }
        there
    }

    fn drop_draft(&mut self) {
        self.draft = None;
        self.shard.shared().intake_memory.give(self.held as u64);
        self.held = 0;
    }

    async fn commit(&mut self) {
        let Some(mut draft) = self.draft.take() else {
            return self.refuse(
                "data",
                reply(451, (4, 3, 0), "Message lost, send it again"),
                None,
            );
        };
        let id = draft.fields.id;
        let turn = match draft.wants_signatures() {
            true => self.shard.turn_to_sign().await,
            false => None,
        };
        let finished = draft.finish(&self.terms.config, &self.terms.listener, &self.origin);
        self.shard.signed(draft.signed());
        drop(turn);
        let result = self.take(&mut draft, finished).await;
        self.draft = Some(draft);
        self.committed =
            Some(result.map(|()| format!("Queued as {}", crate::control::MessageId(id))));
        self.answer_commit();
        self.drop_draft();
    }

    /// Keeps a whole message, if everything is as it must be.
    ///
    /// # Errors
    /// Why it isn't kept.
    async fn take(&mut self, draft: &mut Draft, body: Result<Bytes, Flaw>) -> Result<(), Flaw> {
        let mut body = body?;
        let hold = match self.origin.trusted {
            true => self.demand(draft).await?,
            false => {
                body = self.check(draft, body).await?;
                None
            }
        };
        let listener = &self.terms.listener;
        accept::accept(
            &self.shard,
            (listener, self.origin.tls.as_ref()),
            &mut draft.fields,
            body,
            hold.as_deref(),
        )
        .await
    }

    /// Checks a stranger's message, and gives it with what was found.
    ///
    /// # Errors
    /// There is no memory for it.
    async fn check(&mut self, draft: &mut Draft, body: Bytes) -> Result<Bytes, Flaw> {
        // While it is checked it is there twice.
        if !self.hold(body.len()) {
            let full = full();
            return Err(Flaw {
                code: 452,
                enhanced: (4, 3, 1),
                text: String::from_utf8_lossy(full.text).into_owned(),
            });
        }
        let (trace, message) = body.split_at(draft.trace_bytes().min(body.len()));
        let config = self.terms.config.clone();
        let listeners = config.listeners.iter().map(|l| &*l.hostname);
        let ours: Vec<&str> = listeners.chain([&*config.hostname]).collect();
        let arrival = Arrival {
            trace,
            message,
            client: self.origin.client,
            helo: &self.origin.helo,
            sender: &draft.fields.sender,
            smtputf8: draft.fields.smtputf8,
            now: clock::wall(),
        };
        let id = &*self.terms.listener.hostname;
        let checked = inbound::check(&self.shard, &arrival, id, &ours)
            .await
            .map_err(|e| Flaw {
                code: 554,
                enhanced: (5, 6, 0),
                text: e.to_string(),
            })?;
        draft.replaced(&checked.content, checked.is_senders);
        Ok(checked.content)
    }

    /// What the message's stream requires of it: why it is to be held, if it is.
    ///
    /// # Errors
    /// Why it is refused.
    async fn demand(&self, draft: &Draft) -> Result<Option<String>, Flaw> {
        let Some(claim) = draft.claim() else {
            return Ok(None);
        };
        let config = &self.terms.config;
        let fields = &draft.fields;
        let Some(lack) = lack(&self.shard, config, draft.pool(), &fields.sender, claim).await
        else {
            return Ok(None);
        };
        let mut text = lack.to_string();
        if let Lack::Signature { .. } = lack {
            text.push_str("; see `courser dkim keygen` and [[dkim.key]]");
        }
        let (subject, detail) = lack.code();
        match config.streams[draft.stream()].require_alignment {
            Alignment::Off => Ok(None),
            Alignment::Warn => {
                let mut memory = self.shard.alignment().borrow_mut();
                if memory.is_news(&text, clock::now()) {
                    tracing::warn!(
                        stream = %fields.stream, message = %MessageId(fields.id),
                        "mail goes out that receivers may refuse: {text}"
                    );
                }
                Ok(None)
            }
            // What isn't known may be right in a minute: the client keeps it that long.
            Alignment::Hold | Alignment::Refuse if lack.is_temporary() => Err(Flaw {
                code: 451,
                enhanced: (4, subject, detail),
                text,
            }),
            Alignment::Hold => Ok(Some(text)),
            Alignment::Refuse => Err(Flaw {
                code: 550,
                enhanced: (5, subject, detail),
                text,
            }),
        }
    }

    fn answer_commit(&mut self) {
        match self.committed.clone() {
            Some(Ok(text)) => self.answer(Input::AcceptWith(reply(250, (2, 0, 0), &text))),
            Some(Err(flaw)) => {
                self.refuse("data", reply(flaw.code, flaw.enhanced, &flaw.text), None)
            }
            None => self.refuse(
                "data",
                reply(451, (4, 3, 0), "Message lost, send it again"),
                None,
            ),
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.drop_draft();
    }
}
