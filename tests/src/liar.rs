//! A name server that lies as the test says, and asks a real one for everything else.
//!
//! What it says is bytes: [`Asked`] makes a true-looking answer, and the test bends it. A server
//! that is asked by this one (nsd) has the truth.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The type of address records.
pub const A: u16 = 1;
/// The type of CNAMEs.
pub const CNAME: u16 = 5;
/// The type of mail exchangers.
pub const MX: u16 = 15;

/// How long nsd may take, and a client that asks by TCP.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that it sends at the same time; what is asked beyond that gets none, as over a full
/// network.
pub const ANSWERING_MAX: usize = 200;

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The question as it came.
    pub bytes: Vec<u8>,
    /// The name, in small letters, without the last dot.
    pub name: String,
    /// The type.
    pub kind: u16,
    /// Over TCP.
    pub tcp: bool,
}

/// One thing that it does about a question.
#[derive(Clone, Debug)]
pub enum Word {
    /// It says this.
    Say(Vec<u8>),
    /// Somebody at this address says this; port 0 is any. By UDP only.
    Forge(SocketAddr, Vec<u8>),
    /// It waits.
    Wait(Duration),
    /// It asks the real server and says what that said.
    Truth,
    /// By TCP: these bytes as they are, without a length before them.
    Raw(Vec<u8>),
}

impl Asked {
    fn read(bytes: &[u8], tcp: bool) -> Option<Self> {
        let (mut at, mut labels) = (12, Vec::new());
        loop {
            let length = usize::from(*bytes.get(at)?);
            if length == 0 {
                break;
            }
            let label = bytes.get(at + 1..at + 1 + length)?;
            labels.push(String::from_utf8_lossy(label).to_lowercase());
            at += 1 + length;
        }
        let kind = bytes.get(at + 1..at + 3)?;
        Some(Self {
            name: labels.join("."),
            kind: u16::from_be_bytes([kind[0], kind[1]]),
            tcp,
            bytes: bytes.to_vec(),
        })
    }

    /// Where the question ends.
    fn end(&self) -> usize {
        let mut at = 12;
        while let Some(&length) = self.bytes.get(at) {
            at += 1 + usize::from(length);
            if length == 0 {
                break;
            }
        }
        at + 4
    }

    /// A response with these records in its answer and additional sections; each is made by
    /// [`record`] or [`record_of_class`].
    pub fn answer(&self, answers: &[Vec<u8>], additionals: &[Vec<u8>]) -> Vec<u8> {
        let mut message = self.bytes[..self.end()].to_vec();
        message[2..4].copy_from_slice(&[0x85, 0x80]);
        message[6..8].copy_from_slice(&(answers.len() as u16).to_be_bytes());
        message[8..10].fill(0);
        message[10..12].copy_from_slice(&(additionals.len() as u16).to_be_bytes());
        answers
            .iter()
            .chain(additionals)
            .for_each(|r| message.extend_from_slice(r));
        message
    }

    /// A response that says nothing but this code, such as 2 for SERVFAIL.
    pub fn code(&self, code: u8) -> Vec<u8> {
        let mut message = self.answer(&[], &[]);
        message[3] |= code;
        message
    }

    /// A response of which the rest was cut off.
    pub fn cut(&self, answers: &[Vec<u8>]) -> Vec<u8> {
        let mut message = self.answer(answers, &[]);
        message[2] |= 0x02;
        message
    }
}

/// A name on the wire.
pub fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|l| !l.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A record of class IN that may be kept for an hour.
pub fn record(owner: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    record_of_class(owner, kind, 1, data)
}

/// A record of any class.
pub fn record_of_class(owner: &str, kind: u16, class: u16, data: &[u8]) -> Vec<u8> {
    let mut record = wire(owner);
    record.extend_from_slice(&kind.to_be_bytes());
    record.extend_from_slice(&class.to_be_bytes());
    record.extend_from_slice(&3600u32.to_be_bytes());
    record.extend_from_slice(&(data.len() as u16).to_be_bytes());
    record.extend_from_slice(data);
    record
}

/// The data of an MX record.
pub fn mx(preference: u16, host: &str) -> Vec<u8> {
    [&preference.to_be_bytes()[..], &wire(host)].concat()
}

/// A running liar.
pub struct Liar {
    /// Where it answers, UDP and TCP.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
}

type Script = dyn Fn(&Asked) -> Vec<Word> + Send + Sync;

impl Liar {
    /// One at `address` that does what `script` says about each question; `truth` is the real
    /// server.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn start(
        address: SocketAddr,
        truth: SocketAddr,
        script: impl Fn(&Asked) -> Vec<Word> + Send + Sync + 'static,
    ) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let stop = Arc::new(AtomicBool::new(false));
        let udp = Arc::new(UdpSocket::bind(address).expect("a free port"));
        let tcp = TcpListener::bind(address).expect("a free port");
        let (scripted, stopped) = (script.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut buf = [0; 2048];
            let places = Arc::new(());
            while let Ok((n, client)) = udp.recv_from(&mut buf) {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let Some(asked) = Asked::read(&buf[..n], false) else {
                    continue;
                };
                if Arc::strong_count(&places) > ANSWERING_MAX {
                    continue;
                }
                let (udp, script, place) = (udp.clone(), scripted.clone(), places.clone());
                std::thread::spawn(move || {
                    let _place = place;
                    let _ = over_udp(&udp, client, truth, &asked, &*script);
                });
            }
        });
        let stopped = stop.clone();
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(stream), script) = (stream, script.clone()) else {
                    continue;
                };
                std::thread::spawn(move || over_tcp(stream, truth, &*script));
            }
        });
        Self { address, stop }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(200));
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(&[], self.address));
    }
}

fn over_udp(
    udp: &UdpSocket,
    client: SocketAddr,
    truth: SocketAddr,
    asked: &Asked,
    script: &Script,
) -> io::Result<()> {
    for word in script(asked) {
        match word {
            Word::Say(bytes) => drop(udp.send_to(&bytes, client)?),
            Word::Forge(from, bytes) => drop(UdpSocket::bind(from)?.send_to(&bytes, client)?),
            Word::Wait(time) => std::thread::sleep(time),
            Word::Truth => {
                let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                back.set_read_timeout(Some(PATIENCE))?;
                back.send_to(&asked.bytes, truth)?;
                let mut buf = [0; 4096];
                let n = back.recv(&mut buf)?;
                udp.send_to(&buf[..n], client)?;
            }
            Word::Raw(_) => {}
        }
    }
    Ok(())
}

fn with_length(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes()[..], message].concat())
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn over_tcp(mut stream: TcpStream, truth: SocketAddr, script: &Script) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let question = read_message(&mut stream)?;
    let asked =
        Asked::read(&question, true).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    for word in script(&asked) {
        match word {
            Word::Say(bytes) => stream.write_all(&with_length(&bytes)?)?,
            Word::Raw(bytes) => stream.write_all(&bytes)?,
            Word::Wait(time) => std::thread::sleep(time),
            Word::Truth => {
                let mut back = TcpStream::connect(truth)?;
                back.set_read_timeout(Some(PATIENCE))?;
                back.write_all(&with_length(&question)?)?;
                let answer = read_message(&mut back)?;
                stream.write_all(&with_length(&answer)?)?;
            }
            Word::Forge(..) => {}
        }
    }
    Ok(())
}
