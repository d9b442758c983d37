//! The receivers: the core's server machine, and whatever spoils a sender's day.
//!
//! A [`Host`] has a mood for a while, then another one. What it says follows from its mood, from
//! who the recipient is, and from chance; what it took is counted for the checkers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::smtp::server;
use courser_core::time::Instant;

use crate::network::Conn;
use crate::random::{Random, mix};
use crate::shape::{BIG, Shape};

/// What a receiver does to whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes mail.
    Fine,
    /// Refuses connections.
    Refuses,
    /// Doesn't answer connections.
    Silent,
    /// Greets with this code.
    Greets(u16),
    /// Takes so many connections, and greets others with 421.
    Crowded(u32),
    /// Says nothing any more from this step on.
    Stalls(Step),
    /// Closes without a word at this step.
    Drops(Step),
    /// Answers this step with 4yz, in so many of 1000 cases.
    Defers(Step, u64),
    /// Wants less, and says so at MAIL.
    Throttles,
    /// Takes so many messages on one connection, then 421.
    Goodbye(u32),
    /// Takes so many recipients in one transaction.
    Few(u32),
    /// Says what is no reply.
    Garbage,
    /// Takes the message and is gone before it says so (RFC 1047).
    DiesAfterTaking,
    /// Each answer takes so many milliseconds.
    Slow(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Greeting,
    Hello,
    Mail,
    Rcpt,
    Body,
    End,
}

const STEPS: [Step; 6] = [
    Step::Greeting,
    Step::Hello,
    Step::Mail,
    Step::Rcpt,
    Step::Body,
    Step::End,
];

/// What a recipient is to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Known,
    Unknown,
    Full,
    /// Greylisted until a second attempt, so many seconds after the first.
    Grey(u64),
}

/// By the recipient's number, whatever the host.
pub(crate) fn who(salt: u64, key: u32, recipient: u32) -> Who {
    match mix(salt ^ (u64::from(key) << 32 | u64::from(recipient))) % 100 {
        0..=6 => Who::Unknown,
        7..=9 => Who::Full,
        10..=15 => Who::Grey(30),
        _ => Who::Known,
    }
}

pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) mood: Mood,
    pub(crate) offers: Arc<server::Options>,
    /// Connections that it has open.
    pub(crate) open: u32,
}

/// All of them.
pub(crate) struct Receivers {
    pub(crate) hosts: Vec<Host>,
    /// Of each site.
    pub(crate) of_site: Vec<Vec<usize>>,
    salt: u64,
    moods: u64,
    pub(crate) random: Random,
}

/// What a receiver did with a message.
pub(crate) struct Taken {
    pub(crate) recipients: Vec<(u32, u32)>,
    pub(crate) body: Vec<u8>,
}

/// What is to be done with a connection after its server has looked at its input.
pub(crate) enum Reaction {
    /// These bytes go out, after so many nanoseconds.
    Say(Vec<u8>, u64),
    /// It is closed; after the bytes that were said.
    Hang,
    /// A message was taken.
    Take(Taken),
}

impl Receivers {
    pub(crate) fn new(shape: &Shape, mut random: Random) -> Self {
        let mut hosts = Vec::new();
        let mut of_site = Vec::new();
        for (site, &(count, big)) in shape.sites.iter().enumerate() {
            let mut list = Vec::new();
            for n in 0..count {
                let name = match big {
                    true => format!("mx{n}-{site}.{BIG}.example"),
                    false => format!("mx{n}.site{site}.example"),
                };
                let mut offers = server::Options::new(&name).expect("a good name");
                offers.offer.pipelining = random.per_mille(800);
                offers.offer.chunking = random.per_mille(600);
                offers.offer.rcpt_max = random.per_mille(100);
                offers.limits.recipients = random.pick(&[5, 100, 1000]);
                let ip = Ipv4Addr::new(20, 0, site as u8, n as u8 + 1);
                list.push(hosts.len());
                hosts.push(Host {
                    address: SocketAddr::new(IpAddr::V4(ip), 25),
                    name,
                    mood: Mood::Fine,
                    offers: Arc::new(offers),
                    open: 0,
                });
            }
            of_site.push(list);
        }
        let mut all = Self {
            hosts,
            of_site,
            salt: random.next(),
            moods: shape.moods,
            random,
        };
        for host in 0..all.hosts.len() {
            all.change_mood(host);
        }
        all
    }

    pub(crate) fn at(&self, address: SocketAddr) -> Option<usize> {
        self.hosts.iter().position(|h| h.address == address)
    }

    /// Another mood; for how long, seconds.
    pub(crate) fn change_mood(&mut self, host: usize) -> u64 {
        let random = &mut self.random;
        let step = random.pick(&STEPS);
        let mood = if !random.per_mille(self.moods) {
            Mood::Fine
        } else {
            match random.below(14) {
                0 => Mood::Refuses,
                1 => Mood::Silent,
                2 => Mood::Greets(random.pick(&[421, 450, 554])),
                3 => Mood::Crowded(random.between(1, 3) as u32),
                4 => Mood::Stalls(step),
                5 => Mood::Drops(step),
                6 | 7 => Mood::Defers(step, random.pick(&[100, 500, 1000])),
                8 => Mood::Throttles,
                9 => Mood::Goodbye(random.between(1, 5) as u32),
                10 => Mood::Few(random.between(1, 4) as u32),
                11 => Mood::Garbage,
                12 => Mood::DiesAfterTaking,
                _ => Mood::Slow(random.scale(20, 20_000)),
            }
        };
        self.hosts[host].mood = mood;
        match mood {
            Mood::Fine => random.scale(20, 20_000),
            _ => random.scale(5, 3000),
        }
    }

    fn stage(&mut self, conn: &mut Conn, step: Step, out: &mut Vec<Reaction>) -> Option<Verdict> {
        let mood = self.hosts[conn.host].mood;
        match mood {
            Mood::Stalls(at) if at == step && self.random.per_mille(700) => {
                conn.stalled = true;
                Some(Verdict::Silence)
            }
            Mood::Drops(at) if at == step && self.random.per_mille(700) => {
                out.push(Reaction::Hang);
                conn.stalled = true;
                Some(Verdict::Silence)
            }
            Mood::Defers(at, often) if at == step && self.random.per_mille(often) => {
                Some(Verdict::No(451, (4, 3, 0), b"try again later"))
            }
            _ => None,
        }
    }

    /// Lets the server of a connection look at its input.
    pub(crate) fn look(&mut self, conn: &mut Conn, now: Instant) -> Vec<Reaction> {
        let mut out = Vec::new();
        let mut say = Vec::new();
        let mut buf = [0; 1024];
        let mut input = std::mem::take(&mut conn.input);
        let mut at = 0;
        let mood = self.hosts[conn.host].mood;
        while !conn.stalled {
            let (consumed, output) = conn.machine.poll(now, &input[at..], &mut buf);
            let verdict = match output {
                server::Output::Send(n) => {
                    say.extend_from_slice(&buf[..n]);
                    None
                }
                server::Output::Event(event) => judge(&mut conn.current, event),
                server::Output::Wait(until) => {
                    conn.wakes = until;
                    at += consumed;
                    break;
                }
                server::Output::Close => {
                    at += consumed;
                    conn.stalled = true;
                    self.flush(mood, &mut say, &mut out);
                    out.push(Reaction::Hang);
                    break;
                }
                server::Output::StartTls => None,
            };
            at += consumed;
            let Some(asked) = verdict else { continue };
            let verdict = self.decide(conn, asked, &mut out, now);
            let said = match verdict {
                Verdict::Silence => {
                    // What was answered before still goes out.
                    let hang = matches!(out.last(), Some(Reaction::Hang)).then(|| out.pop());
                    self.flush(mood, &mut say, &mut out);
                    out.extend(hang.flatten());
                    break;
                }
                Verdict::Nothing => continue,
                Verdict::Yes => conn.machine.handle(now, server::Input::Accept),
                Verdict::No(code, (class, subject, detail), text) => {
                    let enhanced = EnhancedCode::new(class, subject, detail);
                    let code = ReplyCode::new(code).expect("a code");
                    let reply = Reply::new(code, Some(enhanced), text);
                    conn.machine.handle(now, server::Input::Refuse(reply))
                }
            };
            if let Err(misuse) = said {
                panic!("the model of the receiver: {misuse:?}");
            }
        }
        input.drain(..at);
        conn.input = input;
        self.flush(mood, &mut say, &mut out);
        out
    }

    fn flush(&mut self, mood: Mood, say: &mut Vec<u8>, out: &mut Vec<Reaction>) {
        if say.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(say);
        if mood == Mood::Garbage && self.random.per_mille(300) {
            bytes.splice(0..0, b"what?\r\n".iter().copied());
        }
        let think = match mood {
            Mood::Slow(ms) => ms * 1_000_000,
            _ => self.random.below(200_000),
        };
        out.push(Reaction::Say(bytes, think));
    }

    fn decide(
        &mut self,
        conn: &mut Conn,
        asked: Asked,
        out: &mut Vec<Reaction>,
        now: Instant,
    ) -> Verdict {
        let step = match asked {
            Asked::Hello => Step::Hello,
            Asked::Mail => Step::Mail,
            Asked::Rcpt(..) => Step::Rcpt,
            Asked::Body => Step::Body,
            Asked::End => Step::End,
        };
        let mood = self.hosts[conn.host].mood;
        match (asked, self.stage(conn, step, out)) {
            (_, Some(Verdict::Silence)) => return Verdict::Silence,
            (_, Some(verdict)) => return verdict,
            _ => {}
        }
        match asked {
            Asked::Hello => Verdict::Yes,
            Asked::Mail => {
                conn.taken_mails += 1;
                match mood {
                    Mood::Throttles => {
                        Verdict::No(421, (4, 7, 0), b"Too many messages, try again later")
                    }
                    Mood::Goodbye(n) if conn.taken_mails > n => {
                        Verdict::No(421, (4, 3, 2), b"closing connection")
                    }
                    _ => Verdict::Yes,
                }
            }
            Asked::Rcpt(key, recipient) => {
                if let Mood::Few(n) = mood
                    && conn.current.recipients.len() as u32 >= n
                {
                    return Verdict::No(452, (4, 5, 3), b"too many recipients");
                }
                match who(self.salt, key, recipient) {
                    Who::Unknown => Verdict::No(550, (5, 1, 1), b"no such user"),
                    Who::Full => Verdict::No(452, (4, 2, 2), b"mailbox full"),
                    Who::Grey(s) if now.as_nanos() / 1_000_000_000 % (4 * s) < s => {
                        Verdict::No(451, (4, 7, 1), b"greylisted, try again in 30 seconds")
                    }
                    _ => {
                        conn.current.recipients.push((key, recipient));
                        Verdict::Yes
                    }
                }
            }
            Asked::Body => Verdict::Nothing,
            Asked::End => {
                out.push(Reaction::Take(Taken {
                    recipients: std::mem::take(&mut conn.current.recipients),
                    body: std::mem::take(&mut conn.current.body),
                }));
                if mood == Mood::DiesAfterTaking && self.random.per_mille(500) {
                    conn.stalled = true;
                    out.push(Reaction::Hang);
                    return Verdict::Silence;
                }
                Verdict::Yes
            }
        }
    }
}

/// What of an event matters: events borrow from the input.
fn judge(current: &mut Current, event: server::Event<'_>) -> Option<Asked> {
    Some(match event {
        server::Event::Hello { .. } => Asked::Hello,
        server::Event::Mail(..) => {
            *current = Current::default();
            Asked::Mail
        }
        server::Event::Rcpt(mailbox, _) => {
            let text = mailbox.to_string();
            let number = |part: Option<&str>| part.and_then(|p| p.parse::<u32>().ok());
            let mut parts = text.split(['-', '@']);
            let key = number(parts.next().map(|p| p.trim_start_matches('m')));
            match (key, number(parts.next())) {
                (Some(key), Some(recipient)) => Asked::Rcpt(key, recipient),
                _ => panic!("the model of the receiver: whose mail is {text}?"),
            }
        }
        server::Event::BodyStart => Asked::Body,
        server::Event::Body(octets) => {
            current.body.extend_from_slice(octets);
            return None;
        }
        server::Event::BodyEnd { .. } => Asked::End,
        _ => return None,
    })
}

/// What the client wants.
#[derive(Clone, Copy)]
enum Asked {
    Hello,
    Mail,
    Rcpt(u32, u32),
    Body,
    End,
}

enum Verdict {
    Yes,
    No(u16, (u8, u16, u16), &'static [u8]),
    Nothing,
    Silence,
}

/// The open transaction of a connection, as its server sees it.
#[derive(Default)]
pub(crate) struct Current {
    pub(crate) recipients: Vec<(u32, u32)>,
    pub(crate) body: Vec<u8>,
}
