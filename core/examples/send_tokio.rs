//! Sends one message over tokio, reading while it writes.
//!
//! `cargo run -p courser-core --example send_tokio -- localhost:25 me@example.org you@example.net < message`

pub(crate) mod letter;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::process::ExitCode;

use courser_core::smtp::client::{EhloName, Event, Input, Options, Output, Session, TransactionId};
use courser_core::time::Instant;
use letter::{Letter, Report};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant as Clock, sleep_until};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok((letter, report)) => {
            report
                .lines(&letter)
                .iter()
                .for_each(|line| println!("{line}"));
            ExitCode::from(u8::from(!report.all_delivered()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(Letter, Report), String> {
    let (host, letter) = letter::from_args()?;
    let stream = TcpStream::connect(&host).await;
    let stream = stream.map_err(|error| format!("{host}: {error}"))?;
    let report = send(stream, &letter).await;
    let report = report.map_err(|error| error.to_string())?;
    Ok((letter, report))
}

/// Sends the letter and says what became of it.
pub(crate) async fn send(mut stream: TcpStream, letter: &Letter) -> io::Result<Report> {
    stream.set_nodelay(true)?;
    let name = match stream.local_addr()?.ip() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    };
    let name = EhloName::new(&name).expect("an address literal");
    let mut connection = Connection {
        start: Clock::now(),
        session: Session::new(Instant::ZERO, Options::new(name)),
        letter,
        report: Report::new(letter),
        outbox: Outbox::default(),
    };
    let (mut reader, mut writer) = stream.split();
    let mut buffer = [0; 4096];
    loop {
        let Some(deadline) = connection.poll()? else {
            return Ok(connection.report);
        };
        let outbox = connection.outbox.slices();
        tokio::select! {
            written = writer.write_vectored(&outbox), if !outbox.is_empty() => match written {
                Ok(n) if n > 0 => connection.written(n)?,
                _ => connection.tell(Input::Closed)?,
            },
            read = reader.read(&mut buffer) => match read {
                Ok(n) if n > 0 => connection.received(&buffer[..n])?,
                _ => connection.tell(Input::Closed)?,
            },
            () = sleep_until(deadline) => connection.tell(Input::DeadlinePassed)?,
        }
    }
}

/// A session with what is on its way.
struct Connection<'a> {
    start: Clock,
    session: Session,
    letter: &'a Letter,
    report: Report,
    outbox: Outbox<'a>,
}

impl Connection<'_> {
    fn now(&self) -> Instant {
        let passed = self.start.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Does what the session says until it waits. The deadline, or none when all is over.
    fn poll(&mut self) -> io::Result<Option<Clock>> {
        let mut out = [0; 4096];
        loop {
            match self.session.poll(self.now(), self.letter, &mut out) {
                Output::Send(n) => self.outbox.push(Cow::Owned(out[..n].to_vec())),
                Output::SendBody { txn, framing } => {
                    for part in self.letter.body(framing) {
                        self.outbox.push(Cow::Borrowed(part));
                    }
                    self.outbox.bodies.push_back(txn);
                }
                Output::Event(event) => {
                    self.report.note(event, &self.session);
                    match event {
                        Event::Ready(_) => {
                            let begun = self.session.begin(TransactionId(0));
                            begun.map_err(io::Error::other)?;
                        }
                        Event::Finished { .. } => self.session.quit(),
                        _ => {}
                    }
                }
                Output::Wait(Some(deadline)) => {
                    return Ok(Some(self.start + deadline.since(Instant::ZERO)));
                }
                // Idle only between Ready and begin, or Finished and quit.
                Output::Wait(None) | Output::Close => return Ok(None),
                Output::StartTls => unreachable!("TlsMode::Off is the default"),
                Output::SendAuth(_) => unreachable!("no AUTH is the default"),
                Output::BufferTooSmall => unreachable!("out has OUT_BYTES_MIN and more"),
            }
        }
    }

    fn tell(&mut self, input: Input<'_>) -> io::Result<()> {
        let told = self.session.handle(self.now(), input);
        told.map(drop).map_err(io::Error::other)
    }

    /// Hands in all bytes, polling wherever the session wants it.
    fn received(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.session.handle(self.now(), Input::Received(bytes));
            bytes = &bytes[taken.map_err(io::Error::other)?..];
            self.poll()?;
        }
        Ok(())
    }

    /// So many bytes of the outbox are gone.
    fn written(&mut self, n: usize) -> io::Result<()> {
        self.outbox.written(n);
        self.tell(Input::BodyProgress)?;
        if !self.outbox.parts.is_empty() {
            return Ok(());
        }
        while let Some(txn) = self.outbox.bodies.pop_front() {
            self.tell(Input::BodySent(txn))?;
            self.poll()?;
        }
        Ok(())
    }
}

/// What is to be written: commands, and slices of bodies from where they lie.
#[derive(Default)]
struct Outbox<'a> {
    parts: VecDeque<Cow<'a, [u8]>>,
    /// Bytes of the first part that are written.
    done: usize,
    /// The transactions whose bodies are among the parts.
    bodies: VecDeque<TransactionId>,
}

impl<'a> Outbox<'a> {
    fn push(&mut self, part: Cow<'a, [u8]>) {
        if !part.is_empty() {
            self.parts.push_back(part);
        }
    }

    /// For one vectored write.
    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut done = self.done;
        let parts = self.parts.iter().take(64);
        parts
            .map(|part| IoSlice::new(&part[std::mem::take(&mut done)..]))
            .collect()
    }

    fn written(&mut self, n: usize) {
        self.done += n;
        while let Some(part) = self.parts.front() {
            if self.done < part.len() {
                return;
            }
            self.done -= part.len();
            self.parts.pop_front();
        }
    }
}
