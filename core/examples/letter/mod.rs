//! What both examples send, and what became of it.

use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::client::{
    Envelope, Envelopes, Event, Framing, Outcome, Session, TransactionId,
};
use courser_core::smtp::command::{MailParams, RcptParams};
use courser_core::smtp::data::Stuffer;

/// One message with its envelope.
#[derive(Debug)]
pub(crate) struct Letter {
    from: String,
    to: Vec<String>,
    body: Vec<u8>,
}

impl Letter {
    /// Checks the addresses and gives the message CRLF line ends.
    pub(crate) fn new(from: &str, to: &[&str], message: &[u8]) -> Result<Self, String> {
        ReversePath::parse(from).map_err(|error| format!("sender {from}: {error}"))?;
        for to in to {
            Mailbox::parse(to).map_err(|error| format!("recipient {to}: {error}"))?;
        }
        let mut body = Vec::with_capacity(message.len() + message.len() / 32);
        for line in message.split_inclusive(|&b| b == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            body.extend_from_slice(text);
            body.extend_from_slice(b"\r\n");
        }
        Ok(Self {
            from: from.into(),
            to: to.iter().map(|&to| to.into()).collect(),
            body,
        })
    }

    /// The slices to write for the body, from where it lies.
    pub(crate) fn body(&self, framing: Framing) -> Vec<&[u8]> {
        match framing {
            Framing::Bdat => vec![&self.body],
            Framing::Dot => {
                let mut stuffer = Stuffer::new();
                let chunks = stuffer.walk(&self.body);
                let mut slices: Vec<_> = chunks.map(|chunk| chunk.bytes()).collect();
                slices.push(stuffer.terminator());
                slices
            }
        }
    }
}

impl Envelope for &Letter {
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
        let from = ReversePath::parse(&self.from).unwrap_or(ReversePath::Null);
        (from, MailParams::default())
    }
    fn recipients(&self) -> usize {
        self.to.len()
    }
    fn recipient(&self, i: usize) -> (Mailbox<'_>, RcptParams<'_>) {
        let to = Mailbox::parse(&self.to[i]).expect("checked in new");
        (to, RcptParams::default())
    }
    fn size(&self) -> u64 {
        self.body.len() as u64
    }
    fn eight_bit(&self) -> bool {
        !self.body.is_ascii()
    }
    fn utf8(&self) -> bool {
        let blank = self.body.windows(4).position(|four| four == b"\r\n\r\n");
        let header = &self.body[..blank.unwrap_or(self.body.len())];
        !(header.is_ascii() && self.from.is_ascii() && self.to.iter().all(|to| to.is_ascii()))
    }
}

/// The examples have one transaction, so every id means this letter.
impl Envelopes for Letter {
    type Envelope<'a> = &'a Letter;
    fn envelope(&self, _: TransactionId) -> Option<&Letter> {
        Some(self)
    }
}

/// What became of each recipient.
#[derive(Debug)]
pub(crate) struct Report {
    lines: Vec<Option<(bool, String)>>,
    why: String,
}

impl Report {
    pub(crate) fn new(letter: &Letter) -> Self {
        Self {
            lines: vec![None; letter.to.len()],
            why: "the session ended before the transaction".into(),
        }
    }

    /// Notes an event; the session has the reply behind it.
    pub(crate) fn note(&mut self, event: Event, session: &Session) {
        let reply = session.reply().map(|reply| format!(": {reply}"));
        let reply = reply.unwrap_or_default();
        let say = |outcome: Outcome| match outcome {
            Outcome::Delivered { .. } => (true, format!("delivered{reply}")),
            Outcome::Postponed => (false, "too many recipients at once".into()),
            Outcome::Failed(failure) if failure.permanent => (false, format!("refused{reply}")),
            Outcome::Failed(_) => (false, format!("refused for now{reply}")),
            Outcome::Unsent(failure) => (false, format!("not sent, {:?}{reply}", failure.cause)),
            Outcome::Unknown(failure) => (false, format!("perhaps sent, {:?}", failure.cause)),
        };
        match event {
            Event::Recipient { index, outcome, .. } => self.lines[index] = Some(say(outcome)),
            Event::Message { outcome, .. } => {
                let line = say(outcome);
                for slot in self.lines.iter_mut().filter(|slot| slot.is_none()) {
                    *slot = Some(line.clone());
                }
            }
            Event::Broken { failure } => self.why = format!("{:?}{reply}", failure.cause),
            Event::Ready(_) | Event::Finished { .. } => {}
        }
    }

    /// Whether every recipient has it.
    pub(crate) fn all_delivered(&self) -> bool {
        self.lines.iter().flatten().filter(|line| line.0).count() == self.lines.len()
    }

    /// A line for each recipient.
    pub(crate) fn lines(&self, letter: &Letter) -> Vec<String> {
        let told = self.lines.iter().map(|line| match line {
            Some((_, line)) => line.clone(),
            None => format!("not sent, {}", self.why),
        });
        let lines = letter.to.iter().zip(told);
        lines.map(|(to, line)| format!("{to}: {line}")).collect()
    }
}

/// `host:port from to… < message`: the host and the letter.
pub(crate) fn from_args() -> Result<(String, Letter), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [host, from, to @ ..] = &args[..] else {
        return Err("usage: host:port from to… < message".into());
    };
    let message = std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string())?;
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    Ok((host.clone(), Letter::new(from, &to, message.as_bytes())?))
}
