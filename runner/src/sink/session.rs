//! One connection: a socket, core's submission machine, the receiver's model.
//!
//! Read into the thread's buffer, poll the machine until it waits, write all its replies at once
//! after the receiver's delay. What the machine left of the input (an unfinished line) is kept
//! with the connection; nothing else is.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use courser_core::limits::COMMAND_LINE_BYTES_MAX;
use courser_core::smtp::command::Command;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::smtp::server::{Event, Greeting, Input, Options, Output, Session};
use courser_core::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::behaviour::{Behaviour, Extension, Pipelining, Stage};
use super::model::{Receiver, Refusal, Visit};
use super::record::{Record, Taken, message_id};
use crate::net::clock;
use crate::net::tls::{self, Sealed};

/// The thread's buffer, bytes: what one read can bring.
const READ_BYTES: usize = 256 * 1024;
/// Of which so much is left for plaintext of records that began in the read before.
const TLS_ROOM: usize = 32 * 1024;
/// What one read of a handshake can bring, bytes.
const HANDSHAKE_READ_BYTES: usize = 4096;
/// How long what a client still sends is read when its connection ends.
const LINGER: Duration = Duration::from_secs(2);
/// Wait for a client when the machine has no deadline.
const PATIENCE: Duration = Duration::from_secs(300);
/// The start of a message that is kept to find its Message-ID, bytes.
const HEAD_BYTES: usize = 8 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A receiver, as its connections see it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) behaviour: Behaviour,
    pub(super) options: Options,
    pub(super) tls: Option<tls::Server>,
    pub(super) model: Mutex<Receiver>,
    pub(super) record: Arc<Record>,
    pub(super) verbose: bool,
}

impl Shared {
    pub(super) fn model(&self) -> MutexGuard<'_, Receiver> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The machine's settings for these manners. All limits are the model's.
pub(super) fn options(hostname: &str, behaviour: &Behaviour) -> Result<Options, String> {
    let wrong = |_| format!("{hostname:?} can't be a host name in a greeting");
    let mut options = Options::new(hostname).map_err(wrong)?;
    let offers = |extension| !behaviour.without.contains(&extension);
    let offer = &mut options.offer;
    offer.pipelining = offers(Extension::Pipelining);
    offer.chunking = offers(Extension::Chunking);
    offer.eightbitmime = offers(Extension::EightBitMime);
    offer.smtputf8 = offers(Extension::Smtputf8);
    offer.dsn = offers(Extension::Dsn);
    offer.size = offers(Extension::Size);
    offer.enhanced_status_codes = offers(Extension::EnhancedStatusCodes);
    offer.starttls = behaviour.starttls;
    options.lmtp = behaviour.lmtp;
    let limits = &mut options.limits;
    limits.message_bytes = behaviour.size_limit;
    limits.recipients = u32::MAX;
    limits.refused_recipients = 0;
    limits.errors = u32::MAX;
    limits.junk_commands = u32::MAX;
    limits.commands = u32::MAX;
    if behaviour.announce_limits {
        let (rcpt, mail) = (
            behaviour.recipients_per_transaction,
            behaviour.messages_per_connection,
        );
        offer.rcpt_max = rcpt > 0;
        offer.mail_max = mail > 0;
        limits.recipients = if rcpt > 0 { rcpt } else { u32::MAX };
        limits.transactions = mail;
    }
    Ok(options)
}

/// Serves one client until it goes or is sent away.
pub(super) async fn serve(mut stream: TcpStream, client: SocketAddr, shared: Arc<Shared>) {
    let (visit, refusal) = shared.model().arrive(clock::now(), client.ip());
    let mut connection = Connection {
        shared: &shared,
        client,
        session: Session::new(clock::now(), &shared.options),
        visit,
        helo: String::new(),
        mail: String::new(),
        recipients: String::new(),
        envelope: String::new(),
        content: Vec::new(),
        messages: 0,
        in_body: false,
        sealed: None,
    };
    connection.say("connected");
    // What goes wrong with a socket is the client's.
    let _ = connection.run(&mut stream, refusal).await;
    connection.say("closed");
    shared.model().leave(&connection.visit);
}

struct Connection<'s> {
    shared: &'s Shared,
    client: SocketAddr,
    session: Session<&'s Options>,
    visit: Visit,
    helo: String,
    /// MAIL's path and parameters, for saving.
    mail: String,
    /// The transaction's recipients, a line each.
    recipients: String,
    /// The same with their parameters, for saving.
    envelope: String,
    /// The start of the message, or all of it for saving.
    content: Vec<u8>,
    messages: u64,
    in_body: bool,
    sealed: Option<Sealed>,
}

/// What a read led to.
#[derive(Debug, Default)]
struct Round {
    consumed: usize,
    deadline: Option<Instant>,
    refusals: u32,
    accepted: bool,
    /// The handshake comes after what is to be sent.
    start_tls: bool,
    /// The connection ends after what is to be sent.
    close: bool,
}

impl Connection<'_> {
    async fn run(&mut self, stream: &mut TcpStream, refusal: Option<Refusal>) -> io::Result<()> {
        let mut round = Round::default();
        if self.shared.model().drops(&mut self.visit, Stage::Connect) {
            return Ok(());
        }
        let delay = self.shared.behaviour.delay_greeting;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Some(reply) = refusal.and_then(|r| r.reply(&self.shared.behaviour)) {
            let _ = self
                .session
                .handle(clock::now(), Input::RefuseAndClose(reply));
        }
        let mut out = Vec::new();
        self.poll(&[], &mut out, &mut round);
        let mut left: Vec<u8> = Vec::new();
        loop {
            self.send(stream, &mut out, &round).await?;
            if round.start_tls {
                // What came behind STARTTLS is the handshake's.
                self.shake_hands(stream, std::mem::take(&mut left)).await?;
                round = Round::default();
                self.poll(&[], &mut out, &mut round);
                continue;
            }
            if round.close {
                break;
            }
            let patience = round
                .deadline
                .map_or(PATIENCE, |deadline| deadline.since(clock::now()));
            round = Round::default();
            match tokio::time::timeout(patience, stream.readable()).await {
                Ok(ready) => ready?,
                Err(_) => {
                    self.poll(&left, &mut out, &mut round);
                    continue;
                }
            }
            let read = BUFFER.with_borrow_mut(|buffer| {
                let kept = left.len();
                buffer[..kept].copy_from_slice(&left);
                let room = READ_BYTES - TLS_ROOM;
                let mut read = stream.try_read(&mut buffer[kept..room])?;
                let mut new = read;
                if let Some(sealed) = &mut self.sealed
                    && read > 0
                {
                    let mut plaintext = Vec::new();
                    let fault = sealed.take(&buffer[kept..kept + read], &mut plaintext);
                    fault.map_err(io::Error::other)?;
                    new = plaintext.len();
                    buffer[kept..kept + new].copy_from_slice(&plaintext);
                    // Half a record is no end.
                    read = read.max(1);
                }
                let input = &buffer[..kept + new];
                self.poll(input, &mut out, &mut round);
                left.clear();
                left.extend_from_slice(&input[round.consumed..]);
                Ok::<_, io::Error>(read)
            });
            match read {
                Ok(0) => {
                    let _ = self.session.handle(clock::now(), Input::Closed);
                    return Ok(());
                }
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        // Unread input would make the kernel reset the connection, and the client might lose the
        // last reply.
        stream.shutdown().await?;
        let mut rest = [0; 512];
        let read_on = async {
            loop {
                stream.readable().await?;
                match stream.try_read(&mut rest) {
                    Ok(0) => return Ok(()),
                    Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
                    _ => {}
                }
            }
        };
        let end = tokio::time::timeout(LINGER, read_on).await;
        end.unwrap_or(Ok(()))
    }

    /// The handshake, of which `heard` came already.
    async fn shake_hands(&mut self, stream: &mut TcpStream, heard: Vec<u8>) -> io::Result<()> {
        let Some(server) = &self.shared.tls else {
            return Err(ErrorKind::Unsupported.into());
        };
        let mut sealed = Sealed::server(server).map_err(io::Error::other)?;
        let (mut heard, mut early) = (heard, Vec::new());
        loop {
            let taken = sealed.take(&heard, &mut early);
            stream.write_all(&sealed.to_send()).await?;
            taken.map_err(io::Error::other)?;
            if sealed.is_up() {
                break;
            }
            heard.resize(HANDSHAKE_READ_BYTES, 0);
            let n = tokio::time::timeout(PATIENCE, stream.read(&mut heard)).await??;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            heard.truncate(n);
        }
        self.sealed = Some(sealed);
        self.say("TLS is up");
        self.answer_with(clock::now(), Input::TlsEstablished);
        // A client waits for nothing before its EHLO, so that may be there already.
        let mut round = Round::default();
        let mut out = Vec::new();
        self.poll(&early, &mut out, &mut round);
        self.send(stream, &mut out, &round).await
    }

    /// Writes the replies, when it is time.
    async fn send(
        &mut self,
        stream: &mut TcpStream,
        out: &mut Vec<u8>,
        round: &Round,
    ) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let delay = (self.shared.model()).delay(&self.visit, round.refusals, round.accepted);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match &mut self.sealed {
            None => stream.write_all(out).await?,
            Some(sealed) => {
                stream
                    .write_all(&sealed.seal(&[Bytes::copy_from_slice(out)]))
                    .await?
            }
        }
        if self.shared.verbose {
            let replies = String::from_utf8_lossy(out);
            replies
                .lines()
                .for_each(|line| self.say(&format!("> {line}")));
        }
        out.clear();
        Ok(())
    }

    /// Polls the machine until it waits or ends, and answers it.
    fn poll(&mut self, input: &[u8], out: &mut Vec<u8>, round: &mut Round) {
        let now = clock::now();
        let mut space = [0; 1024];
        let mut shown = self.shown(input);
        loop {
            if self.in_body {
                shown = input.len();
            }
            let visible = &input[round.consumed..shown];
            let (consumed, output) = self.session.poll(now, visible, &mut space);
            round.consumed += consumed;
            match output {
                Output::Send(n) => out.extend_from_slice(&space[..n]),
                Output::Event(event) => {
                    let was_in_body = self.in_body;
                    if self.answer(now, event, round) == Some(Dropped) {
                        // What was answered before is said before.
                        while let (_, Output::Send(n)) = self.session.poll(now, &[], &mut space) {
                            out.extend_from_slice(&space[..n]);
                        }
                        round.close = true;
                        return;
                    }
                    if was_in_body
                        && !self.in_body
                        && self.shared.behaviour.pipelining != Pipelining::Honest
                    {
                        shown = round.consumed;
                    }
                }
                Output::Wait(deadline) => {
                    round.deadline = deadline;
                    if shown < input.len() {
                        // Commands came behind a command, and this receiver can't have that.
                        round.consumed = input.len();
                        round.close = self.shared.behaviour.pipelining == Pipelining::Closing;
                    }
                    return;
                }
                Output::StartTls => {
                    round.start_tls = true;
                    return;
                }
                Output::Close => {
                    round.close = true;
                    return;
                }
            }
        }
    }

    /// How much of the input the machine gets to see: all of it, or the first line where
    /// pipelining is offered and doesn't work.
    fn shown(&self, input: &[u8]) -> usize {
        if self.shared.behaviour.pipelining == Pipelining::Honest {
            return input.len();
        }
        let line_end = input.iter().position(|&b| b == b'\n');
        line_end.map_or(input.len(), |end| end + 1)
    }

    fn answer(&mut self, now: Instant, event: Event<'_>, round: &mut Round) -> Option<Dropped> {
        let shared = self.shared;
        let stage = match event {
            Event::Hello { .. } => Some(Stage::Hello),
            Event::Mail(..) => Some(Stage::Mail),
            Event::Rcpt(..) => Some(Stage::Rcpt),
            Event::BodyStart => Some(Stage::Data),
            Event::BodyEnd { .. } => Some(Stage::Body),
            _ => None,
        };
        if let Some(stage) = stage {
            self.in_body = stage == Stage::Data;
            if shared.model().drops(&mut self.visit, stage) {
                return Some(Dropped);
            }
        }
        let refusal = match event {
            Event::Hello { greeting, name } => {
                name.clone_into(&mut self.helo);
                if greeting == Greeting::Ehlo && shared.behaviour.without.contains(&Extension::Ehlo)
                {
                    self.answer_with(now, Input::Refuse(NO_EHLO));
                    return None;
                }
                None
            }
            Event::Mail(from, params) => {
                self.recipients.clear();
                self.envelope.clear();
                self.content.clear();
                if shared.record.saves() || shared.verbose {
                    self.mail = written(Command::Mail(from, params), "MAIL FROM:");
                    self.say(&format!("< MAIL FROM:{}", self.mail));
                }
                shared.model().mail(now, &mut self.visit)
            }
            Event::Rcpt(to, params) => {
                let start = self.recipients.len();
                let _ = writeln!(self.recipients, "{to}");
                let recipient = self.recipients[start..].trim_ascii_end();
                let refusal = shared.model().rcpt(now, &mut self.visit, recipient);
                if refusal.is_some() {
                    self.recipients.truncate(start);
                }
                if shared.record.saves() || shared.verbose {
                    let to = written(Command::Rcpt(to, params), "RCPT TO:");
                    self.say(&format!("< RCPT TO:{to}"));
                    if refusal.is_none() {
                        let _ = writeln!(self.envelope, "{to}");
                    }
                }
                refusal
            }
            Event::Body(octets) => {
                let room = match shared.record.saves() {
                    true => usize::MAX,
                    false => HEAD_BYTES.saturating_sub(self.content.len()),
                };
                self.content
                    .extend_from_slice(&octets[..room.min(octets.len())]);
                return None;
            }
            Event::BodyEnd { size, recipient } => {
                let refusal = self.take(now, size, recipient);
                if refusal.is_none() {
                    round.accepted = true;
                    if shared.model().drops(&mut self.visit, Stage::Accept) {
                        return Some(Dropped);
                    }
                    round.close |= shared.model().drops(&mut self.visit, Stage::Reply);
                }
                refusal
            }
            Event::Reset => {
                self.in_body = false;
                return None;
            }
            _ => return None,
        };
        match refusal.and_then(|refusal| refusal.reply(&shared.behaviour)) {
            // BodyStart needs no answer.
            None if matches!(event, Event::BodyStart) => {}
            None => self.answer_with(now, Input::Accept),
            Some(reply) => {
                round.refusals += 1;
                self.answer_with(now, Input::Refuse(reply));
            }
        }
        None
    }

    fn answer_with(&mut self, now: Instant, input: Input<'_>) {
        let answered = self.session.handle(now, input);
        debug_assert!(answered.is_ok(), "{answered:?}");
    }

    /// The body is whole: all recipients, or in LMTP this one, get an answer.
    fn take(&mut self, now: Instant, size: u64, recipient: u32) -> Option<Refusal> {
        let shared = self.shared;
        let lmtp = shared.behaviour.lmtp;
        let mut model = shared.model();
        let skipped = if lmtp { recipient as usize } else { 0 };
        let count = if lmtp { 1 } else { usize::MAX };
        let mut recipients = self.recipients.lines().skip(skipped).take(count).peekable();
        let refusal = model.body(
            &mut self.visit,
            recipients.peek().copied().unwrap_or_default(),
        );
        if refusal.is_some() {
            return refusal;
        }
        if recipient == 0 {
            model.took(now, size);
        }
        let id = message_id(&self.content);
        for recipient in recipients {
            model.took_for(recipient, id);
            shared.record.list(&shared.name, id, recipient);
        }
        drop(model);
        self.messages += 1;
        let saved = shared.record.save(&Taken {
            receiver: &shared.name,
            number: (self.visit.serial, self.messages),
            client: self.client,
            helo: &self.helo,
            mail: &self.mail,
            recipients: &self.envelope,
            content: &self.content,
        });
        if let Err(error) = saved {
            eprintln!("{}: can't save a message: {error}", shared.name);
        }
        None
    }

    fn say(&self, what: &str) {
        if self.shared.verbose {
            eprintln!(
                "{} #{} {}: {what}",
                self.shared.name, self.visit.serial, self.client
            );
        }
    }
}

/// The connection is to be closed without a word.
#[derive(PartialEq)]
struct Dropped;

const NO_EHLO: Reply<'static> = Reply {
    code: match ReplyCode::new(502) {
        Some(code) => code,
        None => panic!("not a reply code"),
    },
    enhanced: Some(EnhancedCode::new(5, 5, 1)),
    text: b"EHLO is not implemented",
};

/// What stands behind `verb` when the command is written.
fn written(command: Command<'_>, verb: &str) -> String {
    let mut line = [0; COMMAND_LINE_BYTES_MAX];
    let length = command.emit(&mut line).unwrap_or(0);
    let line = String::from_utf8_lossy(&line[..length]);
    let line = line.trim_ascii_end();
    line.strip_prefix(verb).unwrap_or(line).to_owned()
}
