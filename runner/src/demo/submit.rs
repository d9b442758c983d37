//! Hands the newsletter in: many SMTP sessions of core's client machine, each with two messages
//! on their way. What gets 4yz, or wasn't answered, is handed in again.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::client::{
    self, EhloName, Envelope, Envelopes, Event, Framing, Input, Outcome, Output, Session,
    TransactionId,
};
use courser_core::smtp::command::{MailParams, RcptParams};
use courser_core::smtp::data::Stuffer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::letter;
use super::world::World;
use crate::net::clock;

/// Sessions at once.
const SESSIONS: usize = 20;
/// This part of the recipients, thousandths, gets announcements instead of personal letters …
const ANNOUNCED: u32 = 10;
/// … of which one has so many recipients.
const ANNOUNCED_TOGETHER: u32 = 100;
/// Wait before a message that wasn't taken is handed in again, and before another connection.
const AGAIN: Duration = Duration::from_millis(200);
/// Silence that ends a session.
const SILENCE: Duration = Duration::from_secs(60);

/// How handing in goes.
#[derive(Debug)]
pub struct Submission {
    world: Arc<World>,
    to: SocketAddr,
    date: String,
    waiting: Mutex<VecDeque<Vec<u32>>>,
    left: AtomicU64,
    accepted: AtomicU64,
    messages: AtomicU64,
    repeated: AtomicU64,
    done: AtomicBool,
    times: Mutex<Times>,
    refused: Mutex<Vec<(u32, String)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    began: Option<Instant>,
    ended: Option<Instant>,
}

impl Submission {
    /// A newsletter to everyone in the world.
    pub fn new(world: Arc<World>, to: SocketAddr) -> Arc<Self> {
        let all = world.recipients();
        let personal = all - all * ANNOUNCED / 1000;
        let mut waiting: VecDeque<Vec<u32>> = (0..personal).map(|i| vec![i]).collect();
        let announced: Vec<u32> = (personal..all).collect();
        let groups = announced.chunks(ANNOUNCED_TOGETHER as usize);
        waiting.extend(groups.map(<[u32]>::to_vec));
        let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S +0000");
        Arc::new(Self {
            world,
            to,
            date: date.to_string(),
            waiting: Mutex::new(waiting),
            left: AtomicU64::new(u64::from(all)),
            accepted: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            done: AtomicBool::new(all == 0),
            times: Mutex::default(),
            refused: Mutex::default(),
        })
    }

    /// Hands everything in.
    pub async fn run(self: Arc<Self>) {
        self.times().began = Some(Instant::now());
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|_| {
                let it = self.clone();
                tokio::spawn(async move {
                    while !it.is_done() {
                        let mut session = Transfer::new(&it);
                        // Whatever ends a session, its messages are handed in by another one.
                        let _ = session.run().await;
                        session.give_back();
                        tokio::time::sleep(AGAIN).await;
                    }
                })
            })
            .collect();
        for session in sessions {
            let _ = session.await;
        }
    }

    /// Whether every recipient was accepted or refused for good.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Recipients that the server took.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Messages that the server took.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Recipients that were handed in again, after 4yz or a broken session.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// Recipients that the server refused for good, and what it said.
    pub fn refused(&self) -> Vec<(u32, String)> {
        lock(&self.refused).clone()
    }

    /// From the first connection to the last answer.
    pub fn took(&self) -> Duration {
        let times = *self.times();
        let began = times.began.unwrap_or_else(Instant::now);
        times.ended.unwrap_or_else(Instant::now) - began
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        lock(&self.times)
    }

    fn next(&self) -> Option<Vec<u32>> {
        lock(&self.waiting).pop_front()
    }

    fn again(&self, recipients: Vec<u32>) {
        if !recipients.is_empty() {
            self.repeated
                .fetch_add(recipients.len() as u64, Ordering::Relaxed);
            lock(&self.waiting).push_back(recipients);
        }
    }

    /// So many recipients need nothing more.
    fn settle(&self, n: u64) {
        if n > 0 && self.left.fetch_sub(n, Ordering::AcqRel) == n {
            self.times().ended = Some(Instant::now());
            self.done.store(true, Ordering::Release);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One session and what it has on its way.
struct Transfer<'s> {
    submission: &'s Submission,
    session: Session,
    letters: Letters,
    serial: u32,
    out: Vec<u8>,
}

/// The messages on their way; at most two.
#[derive(Default)]
struct Letters(Vec<Letter>);

struct Letter {
    id: TransactionId,
    sender: String,
    recipients: Vec<u32>,
    addresses: Vec<String>,
    /// What became of each recipient: `None` until it is told.
    told: Vec<Option<Told>>,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Accepted,
    Refused,
    Again,
}

impl Envelopes for Letters {
    type Envelope<'a> = &'a Letter;
    fn envelope(&self, id: TransactionId) -> Option<&Letter> {
        self.0.iter().find(|letter| letter.id == id)
    }
}

impl Envelope for &Letter {
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
        let sender = ReversePath::parse(&self.sender).unwrap_or(ReversePath::Null);
        (sender, MailParams::default())
    }
    fn recipients(&self) -> usize {
        self.addresses.len()
    }
    fn recipient(&self, i: usize) -> (Mailbox<'_>, RcptParams<'_>) {
        let to = Mailbox::parse(&self.addresses[i]).expect("the world's addresses are right");
        (to, RcptParams::default())
    }
    fn size(&self) -> u64 {
        self.body.len() as u64
    }
    fn eight_bit(&self) -> bool {
        false
    }
    fn utf8(&self) -> bool {
        false
    }
}

impl<'s> Transfer<'s> {
    fn new(submission: &'s Submission) -> Self {
        let name = EhloName::new("[127.0.0.1]").expect("an address literal");
        Self {
            submission,
            session: Session::new(clock::now(), client::Options::new(name)),
            letters: Letters::default(),
            serial: 0,
            out: Vec::new(),
        }
    }

    /// Until there is nothing left, or the session breaks.
    async fn run(&mut self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.submission.to).await?;
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let goes_on = self.poll();
            stream.write_all(&self.out).await?;
            self.out.clear();
            if !goes_on {
                return Ok(());
            }
            let read = match tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await {
                Ok(read) => read?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            };
            let mut bytes = &buffer[..read];
            if bytes.is_empty() {
                let _ = self.session.handle(clock::now(), Input::Closed);
            }
            while !bytes.is_empty() {
                let taken = self.session.handle(clock::now(), Input::Received(bytes));
                bytes = &bytes[taken.map_err(io::Error::other)?..];
                if !self.poll() {
                    break;
                }
            }
        }
    }

    /// Does what the session says until it waits; `false` when it is over.
    fn poll(&mut self) -> bool {
        let mut space = [0; 4096];
        loop {
            self.begin();
            match self.session.poll(clock::now(), &self.letters, &mut space) {
                Output::Send(n) => self.out.extend_from_slice(&space[..n]),
                Output::SendBody { txn, framing } => {
                    self.letters.write(txn, framing, &mut self.out);
                    // It is as good as sent: all of `out` is written before anything is read.
                    let _ = self.session.handle(clock::now(), Input::BodySent(txn));
                }
                Output::Event(event) => self.note(event),
                Output::Wait(_) => return true,
                Output::Close | Output::StartTls | Output::SendAuth(_) | Output::BufferTooSmall => {
                    return false;
                }
            }
        }
    }

    /// Begins transactions, as many as the session takes; ends it when there are none.
    fn begin(&mut self) {
        while self.session.can_begin() {
            let Some(recipients) = self.submission.next() else {
                if self.letters.0.is_empty() {
                    self.session.quit();
                }
                return;
            };
            let world = &self.submission.world;
            self.serial = self.serial.wrapping_add(1);
            let id = TransactionId(self.serial);
            self.letters.0.push(Letter {
                id,
                sender: letter::sender(),
                addresses: recipients.iter().map(|&i| world.address(i)).collect(),
                told: vec![None; recipients.len()],
                body: letter::write(world, &recipients, &self.submission.date),
                recipients,
            });
            if self.session.begin(id).is_err() {
                return;
            }
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Recipient {
                txn,
                index,
                outcome,
            } => {
                let told = self.told(&outcome);
                let reply = self.session.reply().map(|r| r.to_string());
                if let Some(letter) = self.letters.find(txn) {
                    letter.told[index] = Some(told);
                    if told == Told::Refused {
                        let refused = (letter.recipients[index], reply.unwrap_or_default());
                        lock(&self.submission.refused).push(refused);
                    }
                }
            }
            Event::Message { txn, outcome } => {
                let told = self.told(&outcome);
                let reply = self
                    .session
                    .reply()
                    .map(|r| r.to_string())
                    .unwrap_or_default();
                if let Some(letter) = self.letters.find(txn) {
                    for (slot, &recipient) in letter.told.iter_mut().zip(&letter.recipients) {
                        if slot.is_none() {
                            *slot = Some(told);
                            if told == Told::Refused {
                                lock(&self.submission.refused).push((recipient, reply.clone()));
                            }
                        }
                    }
                }
            }
            Event::Finished { txn } => {
                let at = self.letters.0.iter().position(|letter| letter.id == txn);
                if let Some(at) = at {
                    self.finish(at);
                }
            }
            Event::Ready(_) | Event::Broken { .. } => {}
        }
    }

    fn told(&self, outcome: &Outcome) -> Told {
        match outcome {
            Outcome::Delivered { .. } => Told::Accepted,
            Outcome::Failed(failure) if failure.permanent => Told::Refused,
            _ => Told::Again,
        }
    }

    fn finish(&mut self, at: usize) {
        let letter = self.letters.0.swap_remove(at);
        let count = |what| {
            letter
                .told
                .iter()
                .filter(|told| **told == Some(what))
                .count() as u64
        };
        let (accepted, refused) = (count(Told::Accepted), count(Told::Refused));
        let it = self.submission;
        it.accepted.fetch_add(accepted, Ordering::Relaxed);
        it.messages
            .fetch_add(u64::from(accepted > 0), Ordering::Relaxed);
        let left = letter.recipients.iter().zip(&letter.told);
        let again = left.filter(|(_, told)| !matches!(told, Some(Told::Accepted | Told::Refused)));
        it.again(again.map(|(&i, _)| i).collect());
        it.settle(accepted + refused);
    }

    /// What is on its way goes back to the others.
    fn give_back(&mut self) {
        while !self.letters.0.is_empty() {
            self.finish(0);
        }
    }
}

impl Letters {
    fn find(&mut self, id: TransactionId) -> Option<&mut Letter> {
        self.0.iter_mut().find(|letter| letter.id == id)
    }

    fn write(&self, id: TransactionId, framing: Framing, out: &mut Vec<u8>) {
        let Some(letter) = self.envelope(id) else {
            return;
        };
        match framing {
            Framing::Bdat => out.extend_from_slice(&letter.body),
            Framing::Dot => {
                let mut stuffer = Stuffer::new();
                for chunk in stuffer.walk(&letter.body) {
                    out.extend_from_slice(chunk.bytes());
                }
                out.extend_from_slice(stuffer.terminator());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{Behaviour, Config, ReceiverConfig, Share, Sink};

    /// Into a sink that is as awkward as the server might be.
    #[test]
    fn everything_is_handed_in() {
        let receiver = ReceiverConfig {
            name: "in".into(),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            behaviour: Behaviour {
                trouble: Share::new(0.1),
                drop: Share::new(0.3),
                messages_per_connection: 40,
                recipients_per_transaction: 15,
                ..Behaviour::default()
            },
            ..ReceiverConfig::default()
        };
        let sink = Sink::start(Config {
            receivers: vec![receiver],
            ..Config::default()
        });
        let sink = sink.unwrap();
        let world = Arc::new(World::new(3000, 1));
        let submission = Submission::new(world.clone(), sink.receivers()[0].addresses()[0]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let run = submission.clone().run();
        runtime.block_on(async {
            let run = tokio::time::timeout(Duration::from_secs(60), run);
            run.await.expect("it ends");
        });
        assert!(submission.is_done());
        assert_eq!(
            (submission.accepted(), submission.refused().len()),
            (3000, 0)
        );
        let receiver = sink.receiver("in").unwrap();
        for i in 0..3000 {
            assert_eq!(
                receiver.deliveries_to(&world.address(i)),
                1,
                "{}",
                world.address(i)
            );
        }
        assert!(submission.repeated() > 0);
    }
}
