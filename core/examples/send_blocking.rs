//! Sends one message over a blocking `TcpStream`.
//!
//! `cargo run -p courser-core --example send_blocking -- localhost:25 me@example.org you@example.net < message`
//!
//! The whole loop is: poll and do what it says until it waits; read until the deadline; tell what
//! came. Writing before reading is fine for one letter; a sender of many reads while it writes,
//! as `send_tokio` does.

pub(crate) mod letter;

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant as Clock};

use courser_core::smtp::client::{
    EhloName, Event, Input, Options, Output, Session, Timeouts, TransactionId,
};
use courser_core::time::Instant;
use letter::{Letter, Report};

fn main() -> ExitCode {
    let sent = letter::from_args().and_then(|(host, letter)| {
        let stream = TcpStream::connect(&host).map_err(|error| format!("{host}: {error}"))?;
        let report = send(&stream, &letter).map_err(|error| error.to_string())?;
        Ok((letter, report))
    });
    match sent {
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

/// Sends the letter and says what became of it.
pub(crate) fn send(stream: &TcpStream, letter: &Letter) -> io::Result<Report> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(Timeouts::RFC.block))?;
    let name = match stream.local_addr()?.ip() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    };
    let name = EhloName::new(&name).expect("an address literal");
    let start = Clock::now();
    let now = || Instant::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));

    let mut session = Session::new(now(), Options::new(name));
    let mut report = Report::new(letter);
    // Small writes are gathered until the session waits; a body passes through without a copy.
    let mut writer = BufWriter::new(stream);
    let (mut out, mut buffer) = ([0; 4096], [0; 4096]);
    // Bytes that were read and not yet taken.
    let mut rest = 0..0;
    loop {
        let deadline = match session.poll(now(), letter, &mut out) {
            Output::Send(n) => {
                tell_error(writer.write_all(&out[..n]), &mut session, now())?;
                continue;
            }
            Output::SendBody { txn, framing } => {
                let slices = letter.body(framing);
                let written = slices.iter().try_for_each(|part| writer.write_all(part));
                if tell_error(written.and_then(|()| writer.flush()), &mut session, now())? {
                    session
                        .handle(now(), Input::BodySent(txn))
                        .map_err(io::Error::other)?;
                }
                continue;
            }
            Output::Event(event) => {
                report.note(event, &session);
                match event {
                    Event::Ready(_) => session.begin(TransactionId(0)).map_err(io::Error::other)?,
                    Event::Finished { .. } => session.quit(),
                    _ => {}
                }
                continue;
            }
            Output::Wait(deadline) => deadline,
            Output::Close => return Ok(report),
            Output::StartTls => unreachable!("TlsMode::Off is the default"),
            Output::SendAuth(_) => unreachable!("no AUTH is the default"),
            Output::BufferTooSmall => unreachable!("out has OUT_BYTES_MIN and more"),
        };
        if !tell_error(writer.flush(), &mut session, now())? {
            continue;
        }
        let input = if !rest.is_empty() {
            Input::Received(&buffer[rest.clone()])
        } else {
            let patience = deadline.map(|at| at.since(now()).max(Duration::from_millis(1)));
            stream.set_read_timeout(patience)?;
            match (&mut &*stream).read(&mut buffer) {
                Ok(0) => Input::Closed,
                Ok(n) => {
                    rest = 0..n;
                    Input::Received(&buffer[..n])
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => Input::DeadlinePassed,
                    _ => Input::Closed,
                },
            }
        };
        rest.start += session.handle(now(), input).map_err(io::Error::other)?;
    }
}

/// A failed write is the end of the connection; says whether it went well.
fn tell_error(result: io::Result<()>, session: &mut Session, now: Instant) -> io::Result<bool> {
    if result.is_err() {
        session
            .handle(now, Input::Closed)
            .map_err(io::Error::other)?;
    }
    Ok(result.is_ok())
}
