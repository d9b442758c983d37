//! bytes → Draft: a message while it comes in.

use std::collections::HashSet;
use std::net::IpAddr;

use bytes::Bytes;
use courser_core::limits::RECEIVED_BYTES_MAX;
use courser_core::mail::address::{Domain, Mailbox, ReversePath};
use courser_core::mail::date::Date;
use courser_core::mail::header::{Header, Line, Received, With};
use courser_core::smtp::command::{FutureRelease, MailParams, RcptParams};
use courser_core::time::Wall;

use crate::config::{Config, Listener};
use crate::control::MessageId;
use crate::spool::{DeliverUntil, EnvelopeFields, RecipientFields};

/// Header fields that tag a message, and are removed from it.
const TAG_FIELDS: [&str; 5] = [
    "X-Courser-Tenant",
    "X-Courser-Campaign",
    "X-Courser-Stream",
    "X-Courser-Pool",
    "X-Courser-Tags",
];
/// Longest value of a tag, bytes; what is longer is refused.
pub const TAG_BYTES_MAX: usize = 200;
/// A body grows by at most this much at once, bytes: the client's SIZE is only a promise.
const BODY_RESERVE_MAX: u64 = 1 << 20;

/// Who hands the message in.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its address.
    pub client: IpAddr,
    /// What it called itself.
    pub helo: String,
    /// How it speaks.
    pub with: With,
    /// Whether its mail goes out to anyone.
    pub trusted: bool,
}

/// A message that is not complete.
pub struct Draft {
    /// Its envelope so far.
    pub fields: EnvelopeFields,
    seen: HashSet<String>,
    content: Vec<u8>,
    trace_len: usize,
}

/// Why a whole message is refused: for the client and for the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Reply code.
    pub code: u16,
    /// Enhanced status code.
    pub enhanced: (u8, u16, u16),
    /// What is wrong and what would be right.
    pub text: String,
}

impl Flaw {
    fn new(code: u16, enhanced: (u8, u16, u16), text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced,
            text: text.into(),
        }
    }
}

impl Draft {
    /// MAIL was accepted.
    pub fn new(
        id: u64,
        sender: &ReversePath<'_>,
        params: &MailParams<'_>,
        origin: &Origin,
        now_ms: i64,
    ) -> Self {
        let now = Wall::from_unix(now_ms.div_euclid(1000));
        let text = |b: Option<&[u8]>| {
            b.map(|b| String::from_utf8_lossy(b).into_owned())
                .unwrap_or_default()
        };
        let fields = EnvelopeFields {
            id,
            received_ms: now_ms.max(0) as u64,
            sender: sender.mailbox().map(|m| m.to_string()).unwrap_or_default(),
            envid: text(params.envid),
            ret: params.ret,
            body: params.body.unwrap_or_default(),
            smtputf8: params.smtputf8,
            requiretls: params.requiretls,
            mt_priority: params.mt_priority,
            deliver_by: params.by.map(|by| DeliverUntil {
                at: now.plus_s(i64::from(by.seconds)),
                returns: by.returns,
                trace: by.trace,
            }),
            hold_until: params.hold.map(|hold| match hold {
                FutureRelease::HoldFor(s) => now.plus_s(i64::from(s)),
                FutureRelease::HoldUntil(at) => at,
            }),
            client: Some(origin.client),
            helo: origin.helo.clone(),
            ..EnvelopeFields::default()
        };
        Self {
            fields,
            seen: HashSet::new(),
            content: Vec::new(),
            trace_len: 0,
        }
    }

    /// RCPT was accepted. A recipient that is already there is not added again: two copies in one
    /// mailbox are of no use to anyone.
    pub fn add_recipient(&mut self, address: String, params: &RcptParams<'_>) {
        if !self.seen.insert(fold_domain(&address)) {
            return;
        }
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        self.fields.recipients.push(RecipientFields {
            address,
            notify: params.notify,
            orcpt: params
                .orcpt
                .map(|(kind, address)| (text(kind), text(address))),
        });
    }

    /// The body begins: writes our trace field in front of it.
    pub fn begin_content(&mut self, declared: Option<u64>, by: &str, origin: &Origin) {
        self.content.clear();
        let reserve = declared.unwrap_or(16 << 10).min(BODY_RESERVE_MAX) as usize;
        self.content.reserve(RECEIVED_BYTES_MAX.min(512) + reserve);
        let id = MessageId(self.fields.id).to_string();
        let single = match self.fields.recipients.as_slice() {
            [one] => Mailbox::parse(&one.address).ok(),
            _ => None,
        };
        let received = Received {
            hello: &origin.helo,
            peer: Some(origin.client),
            peer_name: None,
            by,
            with: With {
                utf8: self.fields.smtputf8,
                ..origin.with
            },
            id: &id,
            recipient: single,
            tls: None,
            date: Date::utc(Wall::from_unix((self.fields.received_ms / 1000) as i64)),
        };
        let mut line = [0; RECEIVED_BYTES_MAX];
        let n = received
            .emit(&mut line)
            .expect("RECEIVED_BYTES_MAX is enough for every field");
        self.content.extend_from_slice(&line[..n]);
        self.trace_len = n;
    }

    /// More of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.content.extend_from_slice(bytes);
    }

    /// Bytes held.
    pub fn held_bytes(&self) -> usize {
        self.content.len()
    }

    /// The body has ended: reads and removes the tags, looks for loops, and gives the content as
    /// it will be sent.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn finish(
        &mut self,
        config: &Config,
        listener: &Listener,
        origin: &Origin,
    ) -> Result<Bytes, Flaw> {
        let mut content = std::mem::take(&mut self.content);
        let (header, _) =
            Header::of(&content).map_err(|e| Flaw::new(554, (5, 6, 0), e.to_string()))?;
        let survey = header.survey();
        if survey.received > config.delivery.max_hops as usize {
            let text = format!(
                "This message has passed {} servers already: a mail loop",
                survey.received - 1
            );
            return Err(Flaw::new(554, (5, 4, 6), text));
        }
        let mut cuts: Vec<(usize, usize)> = Vec::new();
        let mut tags: [Option<String>; TAG_FIELDS.len()] = Default::default();
        let mut at = 0;
        for line in header.lines() {
            let raw = match line {
                Line::Field(field) => {
                    if let Some(which) = TAG_FIELDS.iter().position(|t| field.is(t)) {
                        let value: Vec<u8> = field.unfolded().collect();
                        let value = String::from_utf8_lossy(&value).trim().to_owned();
                        if value.len() > TAG_BYTES_MAX {
                            let text = format!(
                                "{} is longer than {TAG_BYTES_MAX} bytes",
                                TAG_FIELDS[which]
                            );
                            return Err(Flaw::new(554, (5, 6, 0), text));
                        }
                        cuts.push((at, at + field.raw().len()));
                        tags[which].get_or_insert(value);
                    }
                    field.raw().len()
                }
                Line::Junk(raw) => raw.len(),
            };
            at += raw;
        }
        self.tag(config, listener, origin, tags)?;
        let header_len = at;
        // From the last one forward: the header before each cut moves up to it, so that the long
        // part, the body, stays where it is.
        let mut shift = 0;
        let mut end = header_len;
        for &(from, to) in cuts.iter().rev() {
            content.copy_within(to..end, to + shift);
            shift += to - from;
            end = from;
        }
        if shift > 0 {
            content.copy_within(0..end, shift);
        }
        self.fields.eight_bit = !content[shift..].is_ascii();
        if content.capacity() - content.len() > content.len() / 4 + 1024 {
            content.shrink_to_fit();
        }
        let body = Bytes::from(content).slice(shift..);
        self.fields.body_len = body.len() as u64;
        Ok(body)
    }

    /// Whose message this is, as the listener's defaults and the message's own tags say.
    fn tag(
        &mut self,
        config: &Config,
        listener: &Listener,
        origin: &Origin,
        tags: [Option<String>; TAG_FIELDS.len()],
    ) -> Result<(), Flaw> {
        let believed = listener.tag_headers && origin.trusted;
        let [tenant, campaign, stream, pool, more] =
            if believed { tags } else { Default::default() };
        let unknown = |what: &str, name: &str| {
            Flaw::new(
                554,
                (5, 7, 1),
                format!("There is no {what} {name:?} here; see the server's configuration"),
            )
        };
        let stream = match stream {
            Some(name) => config
                .stream_named(&name)
                .ok_or_else(|| unknown("stream", &name))?,
            None => listener.stream,
        };
        let pool = match pool {
            Some(name) => Some(
                config
                    .pool_named(&name)
                    .ok_or_else(|| unknown("pool", &name))?,
            ),
            None => listener.pool,
        };
        let fields = &mut self.fields;
        fields.tenant = tenant.unwrap_or_else(|| listener.tenant.to_string());
        fields.campaign =
            campaign.unwrap_or_else(|| listener.campaign.as_deref().unwrap_or_default().to_owned());
        fields.tags = more.unwrap_or_default();
        let stream = &config.streams[stream];
        fields.stream = stream.name.to_string();
        fields.class = stream.class as u8;
        fields.pool = pool
            .map(|p| config.pools[p].name.to_string())
            .unwrap_or_default();
        Ok(())
    }
}

/// The address with its domain in lower case, to compare by.
fn fold_domain(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
        None => address.to_lowercase(),
    }
}

/// The domain of a recipient as text: what is looked up or matched with routes.
pub fn domain_of(domain: &Domain<'_>) -> String {
    domain.to_string().to_lowercase()
}
