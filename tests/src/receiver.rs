//! A receiver whose every answer the test writes; it keeps each message byte by byte.
//!
//! ```no_run
//! use courser_tests::receiver::{Answer, Receiver};
//! // Full mailboxes, otherwise friendly.
//! let receiver = Receiver::start(|line| match line {
//!     l if l.starts_with("RCPT TO:<full@") => Answer::say("452 4.2.2 Mailbox full"),
//!     _ => Answer::Usual,
//! });
//! println!("{} got {} messages", receiver.address, receiver.mails().len());
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::tls::Wire;

/// What it offers when nothing else is said.
pub const EXTENSIONS: &[&str] = &[
    "PIPELINING",
    "SIZE 60000000",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "ENHANCEDSTATUSCODES",
    "DSN",
];

/// What a command, `CONNECT` or `.` (the end of a message) is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// As a receiver that takes everything does.
    Usual,
    /// With this reply, without CRLF at its end.
    Say(String),
    /// With this reply, and then it closes.
    SayAndClose(String),
    /// It closes.
    Close,
    /// With these bytes, each after a while, and then it closes.
    Bytes(Vec<(Duration, Vec<u8>)>),
    /// After a while, with another answer.
    After(Duration, Box<Answer>),
}

impl Answer {
    /// With this reply.
    pub fn say(reply: impl Into<String>) -> Self {
        Self::Say(reply.into())
    }

    /// As usual, but after a while.
    pub fn slowly(wait: Duration) -> Self {
        Self::After(wait, Box::new(Self::Usual))
    }
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The MAIL command.
    pub mail: String,
    /// The RCPT commands that were not refused.
    pub rcpt: Vec<String>,
    /// The content, without the dots of DATA.
    pub content: Vec<u8>,
    /// It came with BDAT.
    pub bdat: bool,
    /// It came over TLS.
    pub tls: bool,
    /// That went on from an earlier connection.
    pub resumed: bool,
    /// The EHLO name of the client.
    pub hello: String,
    /// When it was taken, just before the answer that says so: whether that arrives can't be known.
    pub at: Instant,
    /// The how many-th session brought it, in the order of their connections.
    pub session: usize,
}

impl Mail {
    /// The addresses in [`Mail::rcpt`].
    pub fn recipients(&self) -> Vec<String> {
        self.rcpt.iter().map(|r| address(r).to_owned()).collect()
    }

    /// The address in [`Mail::mail`].
    pub fn sender(&self) -> &str {
        address(&self.mail)
    }

    /// The content without its first field, our Received.
    pub fn without_received(&self) -> &[u8] {
        without_received(&self.content)
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

/// `content` without its first field, which must be Received.
///
/// # Panics
/// When it is another.
pub fn without_received(content: &[u8]) -> &[u8] {
    assert!(
        content.starts_with(b"Received: "),
        "no Received: {}",
        String::from_utf8_lossy(&content[..content.len().min(300)])
    );
    let mut at = 0;
    for line in content.split_inclusive(|b| *b == b'\n') {
        if at > 0 && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            break;
        }
        at += line.len();
    }
    &content[at..]
}

fn address(command: &str) -> &str {
    let from = command.find('<').map_or(0, |i| i + 1);
    let to = command.rfind('>').unwrap_or(command.len());
    &command[from..to]
}

struct Shared {
    answer: Box<dyn Fn(&str) -> Answer + Send + Sync>,
    extensions: Mutex<Vec<String>>,
    mails: Mutex<Vec<Mail>>,
    commands: Mutex<Vec<String>>,
    open: AtomicUsize,
    most: AtomicUsize,
    sessions: AtomicUsize,
    lmtp: bool,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: AtomicBool,
}

/// A running receiver.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    /// One on 127.0.0.1 that takes everything but what `answer` says otherwise.
    pub fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), EXTENSIONS, answer)
    }

    /// One that takes everything.
    pub fn friendly() -> Self {
        Self::start(|_| Answer::Usual)
    }

    /// One at `address`, which offers `extensions`.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn start_at(
        address: SocketAddr,
        extensions: &[&str],
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::run(address, extensions, false, None, answer)
    }

    /// One at `address` that offers STARTTLS.
    pub fn start_tls(
        address: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let extensions = [EXTENSIONS, &["STARTTLS"]].concat();
        Self::run(address, &extensions, false, Some(tls), answer)
    }

    /// One that speaks LMTP: it answers the end of a message once for each recipient.
    pub fn start_lmtp(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::run(([127, 0, 0, 1], 0).into(), EXTENSIONS, true, None, answer)
    }

    fn run(
        address: SocketAddr,
        extensions: &[&str],
        lmtp: bool,
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a free address");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            extensions: Mutex::new(extensions.iter().map(|e| (*e).to_owned()).collect()),
            mails: Mutex::default(),
            commands: Mutex::default(),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            lmtp,
            tls,
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let session = accepting.clone();
                let number = session.sessions.fetch_add(1, Ordering::AcqRel);
                std::thread::spawn(move || {
                    let now = session.open.fetch_add(1, Ordering::AcqRel) + 1;
                    session.most.fetch_max(now, Ordering::AcqRel);
                    let _ = talk(&session, stream, number);
                    session.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        Self { address, shared }
    }

    /// Offers another extension from now on.
    pub fn offer(&self, extension: &str) {
        self.shared
            .extensions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(extension.to_owned());
    }

    /// The messages so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.shared
            .mails
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many messages so far.
    pub fn count(&self) -> usize {
        self.shared
            .mails
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Waits for `n` messages and gives all that are there.
    ///
    /// # Panics
    /// When they don't come within half a minute.
    pub fn wait(&self, n: usize) -> Vec<Mail> {
        let there = crate::eventually(30, || (self.count() >= n).then_some(()));
        let mails = self.mails();
        assert!(
            there.is_some(),
            "{} messages of {n} came; commands: {:#?}",
            mails.len(),
            self.commands()
        );
        mails
    }

    /// Every command line so far, of all sessions.
    pub fn commands(&self) -> Vec<String> {
        self.shared
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many commands so far begin so.
    pub fn count_of(&self, beginning: &str) -> usize {
        self.commands()
            .iter()
            .filter(|c| c.starts_with(beginning))
            .count()
    }

    /// Sessions so far.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::Acquire)
    }

    /// Sessions so far, among them all whose connection was made before this is called, and one of
    /// its own.
    ///
    /// # Panics
    /// When it can't be connected to, or says nothing.
    pub fn sessions_by_now(&self) -> usize {
        let stream = TcpStream::connect(self.address).expect("a receiver that listens");
        let mut greeting = String::new();
        let read = BufReader::new(stream).read_line(&mut greeting);
        assert!(read.is_ok_and(|n| n > 0), "no greeting");
        self.sessions()
    }

    /// Sessions open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// The most sessions that were open at once.
    pub fn most_open(&self) -> usize {
        self.shared.most.load(Ordering::Acquire)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(200));
        if std::thread::panicking() {
            let commands = self.commands();
            eprintln!(
                "---- receiver {}: {} messages ----",
                self.address,
                self.count()
            );
            for command in commands.iter().rev().take(40).rev() {
                eprintln!("{command}");
            }
        }
    }
}

/// What follows an answer.
enum Then {
    Go,
    Refused,
    Close,
}

struct Talk<'a> {
    shared: &'a Shared,
    stream: BufReader<Wire>,
    tls: bool,
}

impl Talk<'_> {
    fn answer(&mut self, line: &str, usual: &str) -> io::Result<Then> {
        self.answer_after(line, usual, &mut || ())
    }

    /// Does `first` before it answers that something is taken.
    fn answer_after(
        &mut self,
        line: &str,
        usual: &str,
        first: &mut dyn FnMut(),
    ) -> io::Result<Then> {
        let mut answer = (self.shared.answer)(line);
        loop {
            let reply = match answer {
                Answer::After(wait, next) => {
                    std::thread::sleep(wait);
                    answer = *next;
                    continue;
                }
                Answer::Close => return Ok(Then::Close),
                Answer::Bytes(parts) => {
                    for (wait, bytes) in parts {
                        std::thread::sleep(wait);
                        self.stream.get_mut().write_all(&bytes)?;
                    }
                    return Ok(Then::Close);
                }
                Answer::Usual => usual.to_owned(),
                Answer::Say(reply) => reply,
                Answer::SayAndClose(reply) => {
                    self.say(&reply)?;
                    return Ok(Then::Close);
                }
            };
            if reply.starts_with(['4', '5']) {
                self.say(&reply)?;
                return Ok(Then::Refused);
            }
            first();
            self.say(&reply)?;
            return Ok(Then::Go);
        }
    }

    fn say(&mut self, reply: &str) -> io::Result<()> {
        let reply = reply.replace('\n', "\r\n");
        self.stream
            .get_mut()
            .write_all(format!("{reply}\r\n").as_bytes())
    }

    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        Ok((self.stream.read_until(b'\n', &mut line)? > 0).then_some(line))
    }
}

fn talk(shared: &Shared, stream: TcpStream, session: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut talk = Talk {
        shared,
        stream: BufReader::new(Wire::Plain(stream)),
        tls: false,
    };
    if !matches!(talk.answer("CONNECT", "220 receiver.test ESMTP")?, Then::Go) {
        return Ok(());
    }
    let (mut mail, mut rcpt, mut content, mut hello) =
        (String::new(), Vec::new(), Vec::new(), String::new());
    while let Some(line) = talk.line()? {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        shared
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line.clone());
        let verb = line
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let (tls, resumed) = (talk.tls, talk.stream.get_ref().is_resumed());
        let keep = |mail: &str, rcpt: &[String], content: &mut Vec<u8>, bdat: bool| {
            let it = Mail {
                tls,
                resumed,
                mail: mail.to_owned(),
                rcpt: rcpt.to_vec(),
                content: std::mem::take(content),
                bdat,
                hello: hello.clone(),
                at: Instant::now(),
                session,
            };
            shared
                .mails
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(it);
        };
        let then = match &*verb {
            "EHLO" | "LHLO" => {
                hello = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let extensions = shared
                    .extensions
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let mut usual = "250-receiver.test".to_owned();
                for extension in extensions {
                    if talk.tls && extension == "STARTTLS" {
                        continue;
                    }
                    usual.push_str(&format!("\n250-{extension}"));
                }
                let last = usual.rfind("250-").unwrap_or(0);
                usual.replace_range(last..last + 4, "250 ");
                talk.answer(&line, &usual)?
            }
            "STARTTLS" if shared.tls.is_some() && !talk.tls => {
                let then = talk.answer(&line, "220 2.0.0 Go ahead")?;
                if let (Then::Go, Some(config)) = (&then, &shared.tls) {
                    let plain = talk.stream.into_inner();
                    talk.stream = BufReader::new(plain.secured(config.clone())?);
                    talk.tls = true;
                }
                then
            }
            "HELO" => {
                hello = line.split(' ').nth(1).unwrap_or_default().to_owned();
                talk.answer(&line, "250 receiver.test")?
            }
            "MAIL" => {
                mail.clone_from(&line);
                rcpt.clear();
                content.clear();
                let then = talk.answer(&line, "250 2.1.0 Ok")?;
                if matches!(then, Then::Refused) {
                    mail.clear();
                }
                then
            }
            "RCPT" if mail.is_empty() => {
                talk.say("503 5.5.1 MAIL first")?;
                Then::Refused
            }
            "RCPT" => {
                let then = talk.answer(&line, "250 2.1.5 Ok")?;
                if matches!(then, Then::Go) {
                    rcpt.push(line.clone());
                }
                then
            }
            "DATA" if rcpt.is_empty() => {
                talk.say("554 5.5.1 No valid recipients")?;
                Then::Refused
            }
            "DATA" => match talk.answer(&line, "354 Go")? {
                Then::Go => {
                    content.clear();
                    loop {
                        let Some(line) = talk.line()? else {
                            return Ok(());
                        };
                        if line == b".\r\n" {
                            break;
                        }
                        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                    }
                    let then = end(&mut talk, &rcpt, || keep(&mail, &rcpt, &mut content, false))?;
                    mail.clear();
                    rcpt.clear();
                    then
                }
                then => then,
            },
            "BDAT" => {
                let mut words = line.split_ascii_whitespace().skip(1);
                let size: usize = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
                let last = words.next().is_some_and(|w| w.eq_ignore_ascii_case("LAST"));
                let mut chunk = vec![0; size];
                talk.stream.read_exact(&mut chunk)?;
                if rcpt.is_empty() {
                    talk.say("554 5.5.1 No valid recipients")?;
                    continue;
                }
                content.extend_from_slice(&chunk);
                if last {
                    let then = end(&mut talk, &rcpt, || keep(&mail, &rcpt, &mut content, true))?;
                    mail.clear();
                    rcpt.clear();
                    then
                } else {
                    talk.answer(&line, "250 2.0.0 Chunk")?
                }
            }
            "RSET" => {
                mail.clear();
                rcpt.clear();
                talk.answer(&line, "250 2.0.0 Ok")?
            }
            "QUIT" => {
                talk.answer(&line, "221 2.0.0 Bye")?;
                Then::Close
            }
            "NOOP" => talk.answer(&line, "250 2.0.0 Ok")?,
            _ => talk.answer(&line, "500 5.5.1 What?")?,
        };
        if matches!(then, Then::Close) {
            return Ok(());
        }
    }
    Ok(())
}

/// The end of a message, which is kept before somebody hears that it is taken; in LMTP one answer for
/// each recipient.
fn end(talk: &mut Talk<'_>, rcpt: &[String], keep: impl FnOnce()) -> io::Result<Then> {
    let mut keep = Some(keep);
    let mut keep = move || {
        if let Some(keep) = keep.take() {
            keep();
        }
    };
    if !talk.shared.lmtp {
        return talk.answer_after(".", "250 2.0.0 Taken", &mut keep);
    }
    let mut then = Then::Refused;
    for recipient in rcpt {
        let line = format!(". {}", address(recipient));
        match talk.answer_after(&line, "250 2.0.0 Taken", &mut keep)? {
            Then::Go => then = Then::Go,
            Then::Refused => {}
            Then::Close => return Ok(Then::Close),
        }
    }
    Ok(then)
}
