//! bytes → Draft: a message while it comes in.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use courser_core::auth::dmarc;
use courser_core::auth::hash::BodyHashes;
use courser_core::limits::RECEIVED_BYTES_MAX;
use courser_core::mail::address::{Domain, Mailbox, ReversePath};
use courser_core::mail::date::Date;
use courser_core::mail::header::{Header, Line, Received, With};
use courser_core::smtp::command::{FutureRelease, MailParams, Notify, RcptParams};
use courser_core::time::Wall;

use crate::config::{Alignment, Config, Listener};
use crate::control::MessageId;
use crate::login::User;
use crate::net::tls::Facts;
use crate::sign::Keys;
use crate::sign::alignment::Claim;
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
/// What a recipient takes in memory beside its texts, bytes: its fields, and its place among those
/// that were seen.
const RECIPIENT_BYTES: usize = size_of::<RecipientFields>() + 2 * size_of::<String>();

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
    /// Its TLS.
    pub tls: Option<Facts>,
    /// Who logged in.
    pub user: Option<Arc<User>>,
}

/// A message that is not complete.
pub struct Draft {
    /// Its envelope so far.
    pub fields: EnvelopeFields,
    seen: HashSet<String>,
    /// Room for signatures, our trace field, and what came.
    content: Vec<u8>,
    room: usize,
    trace_len: usize,
    signing: Option<Signing>,
    /// Signatures that were made.
    signed: u32,
    claim: Option<Claim>,
    /// Its stream and its pool, positions in the configuration.
    stream: usize,
    pool: usize,
}

/// What signs a message, and what it needs of the body.
struct Signing {
    keys: Arc<Keys>,
    hashes: BodyHashes,
    /// Up to here it was looked for the end of the header.
    looked: usize,
    in_body: bool,
}

impl Signing {
    /// Hashes what of the body came since.
    fn follow(&mut self, content: &[u8]) {
        if !self.in_body {
            // A line end that follows a line end. Our trace field stands before, with its own.
            let found = memchr::memchr_iter(b'\n', &content[self.looked..]).find(|at| {
                let before = &content[..self.looked + at];
                let before = before.strip_suffix(b"\r").unwrap_or(before);
                before.ends_with(b"\n")
            });
            match found {
                Some(at) => {
                    self.in_body = true;
                    self.looked += at + 1;
                }
                None => {
                    self.looked = content.len();
                    return;
                }
            }
        }
        self.hashes.update(&content[self.looked..]);
        self.looked = content.len();
    }
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
            user: origin
                .user
                .as_ref()
                .map(|u| u.name.to_string())
                .unwrap_or_default(),
            ..EnvelopeFields::default()
        };
        Self {
            fields,
            seen: HashSet::new(),
            content: Vec::new(),
            room: 0,
            trace_len: 0,
            signing: None,
            signed: 0,
            claim: None,
            stream: 0,
            pool: 0,
        }
    }

    /// What a recipient takes in memory, bytes.
    pub fn recipient_bytes(address: &str, params: &RcptParams<'_>) -> usize {
        let orcpt = params
            .orcpt
            .map_or(0, |(kind, address)| kind.len() + address.len());
        RECIPIENT_BYTES + 2 * address.len() + orcpt
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

    /// The body begins: writes our trace field in front of it, and leaves room for the signatures
    /// of `keys`.
    pub fn begin_content(
        &mut self,
        declared: Option<u64>,
        by: &str,
        origin: &Origin,
        keys: &Arc<Keys>,
    ) {
        self.room = keys.room();
        self.content.clear();
        let reserve = declared.unwrap_or(16 << 10).min(BODY_RESERVE_MAX) as usize;
        let head = self.room + RECEIVED_BYTES_MAX.min(512);
        self.content.reserve(head + reserve);
        self.content.resize(self.room, 0);
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
            tls: origin.tls.as_ref().map(|tls| (&*tls.cipher, tls.version)),
            date: Date::utc(Wall::from_unix((self.fields.received_ms / 1000) as i64)),
        };
        let mut line = [0; RECEIVED_BYTES_MAX];
        let n = received
            .emit(&mut line)
            .expect("RECEIVED_BYTES_MAX is enough for every field");
        self.content.extend_from_slice(&line[..n]);
        self.trace_len = n;
        self.signing = (!keys.is_empty()).then(|| Signing {
            keys: keys.clone(),
            hashes: BodyHashes::new(&keys.body_canons()),
            looked: self.content.len(),
            in_body: false,
        });
    }

    /// More of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.content.extend_from_slice(bytes);
        if let Some(signing) = &mut self.signing {
            signing.follow(&self.content);
        }
    }

    /// Bytes of content so far, with our trace field.
    pub fn content_bytes(&self) -> usize {
        self.content.len()
    }

    /// Whether [`finish`](Self::finish) may make signatures, which takes the processor a while.
    pub fn wants_signatures(&self) -> bool {
        self.signing.is_some()
    }

    /// Signatures that [`finish`](Self::finish) made.
    pub const fn signed(&self) -> u32 {
        self.signed
    }

    /// Bytes of our trace field.
    pub const fn trace_bytes(&self) -> usize {
        self.trace_len
    }

    /// The message has other content now. Unless the sender's address is the sender's, nobody is
    /// told of what becomes of it.
    pub fn replaced(&mut self, content: &[u8], is_senders: bool) {
        self.fields.body_len = content.len() as u64;
        self.fields.eight_bit = !content.is_ascii();
        if !is_senders {
            for recipient in &mut self.fields.recipients {
                recipient.notify = Some(Notify {
                    never: true,
                    ..Notify::default()
                });
            }
        }
    }

    /// What [`finish`](Self::finish) found of what the stream's `require_alignment` looks at; `None`
    /// where nothing is required.
    pub const fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// Its stream, a position in [`Config::streams`].
    pub const fn stream(&self) -> usize {
        self.stream
    }

    /// The pool that it leaves from, a position in [`Config::pools`].
    pub const fn pool(&self) -> usize {
        self.pool
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
        let (header, _) = Header::of(&content[self.room..])
            .map_err(|e| Flaw::new(554, (5, 6, 0), e.to_string()))?;
        let survey = header.survey();
        if survey.received > config.delivery.max_hops as usize {
            let text = format!(
                "This message has passed {} servers already: a mail loop",
                survey.received - 1
            );
            return Err(Flaw::new(554, (5, 4, 6), text));
        }
        if let Some(user) = &origin.user {
            user.from.may_write(header).map_err(|e| {
                let text = format!("{e}: {} may not use it in From", user.name);
                Flaw::new(550, (5, 7, 1), text)
            })?;
        }
        let mut cuts: Vec<(usize, usize)> = Vec::new();
        let mut tags: [Option<String>; TAG_FIELDS.len()] = Default::default();
        let mut at = self.room;
        for line in header.lines() {
            let raw = match line {
                Line::Field(field) => {
                    if field.is("TLS-Required") {
                        let value: Vec<u8> = field.unfolded().collect();
                        let says_no = value.trim_ascii().eq_ignore_ascii_case(b"no");
                        // REQUIRETLS counts for more (RFC 8689 4.1).
                        self.fields.tls_optional = says_no && !self.fields.requiretls;
                    }
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
            content.copy_within(self.room..end, self.room + shift);
        }
        let mut shift = self.room + shift;
        let demanded = config.streams[self.stream].require_alignment != Alignment::Off;
        let signatures = self.signatures(&content[shift..], demanded);
        if !signatures.is_empty() {
            if signatures.len() > shift {
                content.splice(0..shift, signatures);
                shift = 0;
            } else {
                let at = shift - signatures.len();
                content[at..shift].copy_from_slice(&signatures);
                shift = at;
            }
        }
        if shift > content.len() / 4 + 1024 {
            content.drain(..shift);
            shift = 0;
        }
        self.fields.eight_bit = !content[shift..].is_ascii();
        if content.capacity() - content.len() > content.len() / 4 + 1024 {
            content.shrink_to_fit();
        }
        let body = Bytes::from(content).slice(shift..);
        self.fields.body_len = body.len() as u64;
        Ok(body)
    }

    /// The signatures of the message; and its claim, if it is demanded.
    fn signatures(&mut self, message: &[u8], demanded: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let signing = self.signing.take();
        if signing.is_none() && !demanded {
            return out;
        }
        // Its bound was looked at before, with our trace field.
        let Ok((header, _)) = Header::of(message) else {
            return out;
        };
        let Some(Signing { keys, hashes, .. }) = signing else {
            self.claim = demanded.then(|| Claim {
                author: dmarc::author(header),
                signed_by: Vec::new(),
            });
            return out;
        };
        let now = Wall::from_unix((self.fields.received_ms / 1000) as i64);
        let held = self
            .fields
            .hold_until
            .map_or(0, |at| at.unix() - now.unix());
        let held = u32::try_from(held.max(0)).unwrap_or(u32::MAX);
        out.reserve(keys.room());
        let tenant = Some(&*self.fields.tenant);
        let signed = keys.sign(header, &hashes.finish(), tenant, (now, held), &mut out);
        signed.tell_faults(format_args!("message {}", MessageId(self.fields.id)));
        self.signed = signed.by.len() as u32;
        self.claim = demanded.then(|| Claim {
            signed_by: signed.by.iter().map(|key| key.domain.clone()).collect(),
            author: signed.author,
        });
        out
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
        let users = origin.user.as_ref().and_then(|u| u.tenant.as_ref());
        fields.tenant = match users {
            Some(tenant) => tenant.to_string(),
            None => tenant.unwrap_or_else(|| listener.tenant.to_string()),
        };
        fields.campaign =
            campaign.unwrap_or_else(|| listener.campaign.as_deref().unwrap_or_default().to_owned());
        fields.tags = more.unwrap_or_default();
        self.stream = stream;
        let stream = &config.streams[stream];
        self.pool = pool.unwrap_or(stream.pool);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> Config {
        let text = "hostname = \"mail.example.org\"\n[[stream]]\nname = \"default\"\n\
            [[stream]]\nname = \"news\"\nclass = \"bulk\"\n";
        crate::config::parse(text, "test").unwrap()
    }

    fn origin(trusted: bool) -> Origin {
        Origin {
            tls: None,
            client: "192.0.2.9".parse().unwrap(),
            helo: "client.example".to_owned(),
            with: With::default(),
            trusted,
            user: None,
        }
    }

    /// The content without our trace field, and the envelope.
    fn finish(message: &[u8], trusted: bool) -> Result<(Vec<u8>, EnvelopeFields), Flaw> {
        let (config, origin) = (config(), origin(trusted));
        let mut draft = Draft::new(
            7,
            &ReversePath::parse("a@b.example").unwrap(),
            &MailParams::default(),
            &origin,
            1_700_000_000_000,
        );
        draft.add_recipient("c@d.example".to_owned(), &RcptParams::default());
        draft.begin_content(None, "mail.example.org", &origin, &Arc::default());
        for piece in message.chunks(7) {
            draft.push(piece);
        }
        let body = draft.finish(&config, &config.listeners[0], &origin)?;
        assert_eq!(draft.fields.body_len, body.len() as u64);
        assert!(body.starts_with(b"Received: from client.example"));
        Ok((body[draft.trace_len..].to_vec(), draft.fields))
    }

    fn ok(message: &str) -> (String, EnvelopeFields) {
        let (content, fields) = finish(message.as_bytes(), true).unwrap();
        (String::from_utf8(content).unwrap(), fields)
    }

    #[test]
    fn tags_are_read_and_removed() {
        let (content, fields) = ok(
            "X-Courser-Tenant: acme\r\nSubject: x\r\nx-courser-campaign:\r\n spring\r\n\
             X-Courser-Stream: news\r\nTo: y\r\nX-Courser-Tags: a, b\r\n\r\nX-Courser-Pool: no\r\n",
        );
        assert_eq!(content, "Subject: x\r\nTo: y\r\n\r\nX-Courser-Pool: no\r\n");
        assert_eq!(fields.tenant, "acme");
        assert_eq!(fields.campaign, "spring");
        assert_eq!((fields.stream.as_str(), fields.class), ("news", 2));
        assert_eq!(fields.tags, "a, b");
        // The first one counts; all go.
        let (content, fields) = ok("X-Courser-Tenant: one\r\nX-Courser-Tenant: two\r\n\r\n");
        assert_eq!((content.as_str(), fields.tenant.as_str()), ("\r\n", "one"));
        // No body, not even an empty line.
        assert_eq!(ok("A: b\r\nX-Courser-Tenant: t\r\n").0, "A: b\r\n");
        assert_eq!(ok("").0, "");
    }

    #[test]
    fn strangers_set_no_tags() {
        let message = b"X-Courser-Tenant: acme\r\nX-Courser-Stream: nonsense\r\n\r\nhello\r\n";
        let (content, fields) = finish(message, false).unwrap();
        assert_eq!(content, b"\r\nhello\r\n");
        assert_eq!(fields.tenant, "default");
    }

    fn user(more: &str) -> Arc<User> {
        let hash = crate::login::hash::Hash::scram(b"sesame", 4096).unwrap();
        let text = format!("[[user]]\nname = \"ann\"\nhash = \"{}\"\n{more}", *hash);
        let users = crate::login::Users::parse(&text, std::path::Path::new("users"), None);
        users.unwrap().get("ann").unwrap().clone()
    }

    fn finish_as(user: Arc<User>, message: &str) -> Result<EnvelopeFields, Flaw> {
        let config = config();
        let origin = Origin {
            user: Some(user),
            ..origin(true)
        };
        let sender = ReversePath::parse("a@b.example").unwrap();
        let mut draft = Draft::new(7, &sender, &MailParams::default(), &origin, 0);
        draft.begin_content(None, "mail.example.org", &origin, &Arc::default());
        draft.push(message.as_bytes());
        draft.finish(&config, &config.listeners[0], &origin)?;
        Ok(draft.fields)
    }

    #[test]
    fn a_user_is_who_he_is() {
        let message = "X-Courser-Tenant: other\r\nFrom: a@shop.example\r\n\r\n";
        let bound = user("from = [\"shop.example\"]\ntenant = \"shop\"\n");
        let fields = finish_as(bound.clone(), message).unwrap();
        assert_eq!((&*fields.tenant, &*fields.user), ("shop", "ann"));
        // Without a tenant he is as free as others whose mail is relayed.
        let free = finish_as(user("from = [\"*\"]\n"), message).unwrap();
        assert_eq!(free.tenant, "other");
        for (from, words) in [
            (
                "From: ceo@bank.example",
                "you may not send as ceo@bank.example: ann may not",
            ),
            ("From: a@shop.example, ceo@bank.example", "ceo@bank.example"),
            ("To: a@shop.example", "there is no From field"),
            (
                "From: a@shop.example\r\nFrom: ceo@bank.example",
                "several From fields",
            ),
        ] {
            let flaw = finish_as(bound.clone(), &format!("{from}\r\n\r\n")).unwrap_err();
            assert_eq!((flaw.code, flaw.enhanced), (550, (5, 7, 1)), "{from}");
            assert!(flaw.text.contains(words), "{}", flaw.text);
        }
    }

    #[test]
    fn flaws_say_what_is_wrong() {
        let flaw = |message: &str| finish(message.as_bytes(), true).unwrap_err();
        let unknown = flaw("X-Courser-Stream: nonsense\r\n\r\n");
        assert_eq!((unknown.code, unknown.enhanced), (554, (5, 7, 1)));
        assert!(unknown.text.contains("nonsense"));
        let long = format!(
            "X-Courser-Tenant: {}\r\n\r\n",
            "x".repeat(TAG_BYTES_MAX + 1)
        );
        assert_eq!(flaw(&long).code, 554);
        let hops = "Received: from a by b\r\n".repeat(51);
        assert_eq!(flaw(&hops).enhanced, (5, 4, 6));
        assert!(finish("Received: from a by b\r\n".repeat(49).as_bytes(), true).is_ok());
    }

    #[test]
    fn recipients_are_taken_once_whatever_the_case_of_their_domain() {
        let origin = origin(true);
        let sender = ReversePath::parse("").unwrap();
        let mut draft = Draft::new(7, &sender, &MailParams::default(), &origin, 0);
        for address in ["a@b.example", "a@B.Example", "A@b.example", "c@b.example"] {
            draft.add_recipient(address.to_owned(), &RcptParams::default());
        }
        let addresses: Vec<_> = draft
            .fields
            .recipients
            .iter()
            .map(|r| &*r.address)
            .collect();
        assert_eq!(addresses, ["a@b.example", "A@b.example", "c@b.example"]);
    }

    /// Line by line, with copies.
    fn without_tags(message: &[u8]) -> Vec<u8> {
        let mut kept = Vec::new();
        let (mut in_header, mut cutting) = (true, false);
        for line in message.split_inclusive(|b| *b == b'\n') {
            if in_header && (line == b"\r\n" || line == b"\n") {
                (in_header, cutting) = (false, false);
            } else if in_header && !matches!(line.first(), Some(b' ' | b'\t')) {
                let name = line.split(|b| *b == b':').next().unwrap();
                let name = String::from_utf8_lossy(name).into_owned();
                let name = name.trim_end_matches([' ', '\t']);
                cutting =
                    line.contains(&b':') && TAG_FIELDS.iter().any(|t| t.eq_ignore_ascii_case(name));
            }
            if !(in_header && cutting) {
                kept.extend_from_slice(line);
            }
        }
        kept
    }

    /// So many RSA keys of example.org, and what DNS says of them.
    fn keys(count: usize) -> (Arc<Keys>, Vec<u8>) {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("example.org");
        std::fs::create_dir(&folder).unwrap();
        let pem = include_str!("../../../core/src/auth/dkim/test-rsa-2048.pem");
        for n in 0..count {
            let file = folder.join(format!("s{n}.pem"));
            std::fs::write(&file, pem).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let text = format!(
            "hostname = \"mail.example.org\"\ndkim.dir = \"{}\"\n",
            dir.path().display()
        );
        let config = crate::config::parse(&text, "test").unwrap();
        let keys = Keys::load(&config.dkim).unwrap();
        let record = keys.iter().next().map(|k| k.record.to_string());
        (Arc::new(keys), record.unwrap_or_default().into_bytes())
    }

    /// What comes of a message that came in pieces: its content, and how many signatures of it are
    /// good.
    fn signed(message: &[u8], piece: usize, keys: &Arc<Keys>, record: &[u8]) -> (Vec<u8>, usize) {
        use courser_core::auth::Evaluate;
        use courser_core::auth::dkim::{Status, Verifier};
        use courser_core::dns::{Outcome, Records};

        let (config, origin) = (config(), origin(true));
        let sender = ReversePath::parse("a@b.example").unwrap();
        let mut draft = Draft::new(
            7,
            &sender,
            &MailParams::default(),
            &origin,
            1_700_000_000_000,
        );
        draft.begin_content(None, "mail.example.org", &origin, keys);
        message.chunks(piece).for_each(|p| draft.push(p));
        let content = draft
            .finish(&config, &config.listeners[0], &origin)
            .unwrap();
        assert_eq!(draft.fields.body_len, content.len() as u64);
        let (header, body) = Header::of(&content).unwrap();
        let mut verifier = Verifier::new(header, Wall::from_unix(1_700_000_060));
        verifier.update(body);
        let report = verifier
            .finish()
            .run(|_| Outcome::Found(Records::Txt([record.into()].into())));
        let good = report
            .signatures
            .iter()
            .filter(|s| s.status == Status::Pass);
        let count = good.count();
        assert_eq!(count, report.signatures.len(), "{report:?}");
        (content.to_vec(), count)
    }

    #[test]
    fn signatures_are_those_of_what_goes_out() {
        let message =
            b"X-Courser-Tenant: t\r\nFrom: a@news.example.org\r\nSubject: x\r\n\r\nhello  \r\n\r\n";
        // More of them than there is room for, and none.
        for count in [1, 2, 5] {
            let (keys, record) = keys(count);
            for piece in [1, 7, 1000] {
                let (content, good) = signed(message, piece, &keys, &record);
                assert_eq!(good, count);
                assert!(content.starts_with(b"DKIM-Signature: "));
                assert!(content.ends_with(b"\r\nSubject: x\r\n\r\nhello  \r\n\r\n"));
            }
        }
        let (keys, record) = keys(2);
        let others = b"From: a@example.net\r\n\r\nx\r\n";
        let (content, good) = signed(others, 7, &keys, &record);
        assert_eq!(good, 0);
        assert!(content.starts_with(b"Received: "));
    }

    proptest! {
        #[test]
        fn cutting_in_place_is_cutting_by_lines(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("X-Courser-Tenant: t\r\n"),
                    Just("x-courser-CAMPAIGN : c\r\n"),
                    Just("X-Courser-Tags:\r\n\tfolded\r\n  again\r\n"),
                    Just("X-Courser-Other: stays\r\n"),
                    Just("Subject: hello\r\n"),
                    Just("Subject: folded\r\n hello\r\n"),
                    Just("no field at all\r\n"),
                    Just("From someone at noon: an mbox\r\n"),
                    Just("A: \u{e4}\u{20ac}\r\n"),
                    Just(":\r\n"),
                    Just("\r\n"),
                    Just("text of a body\r\n"),
                    Just("cut off"),
                ],
                0..14,
            )
        ) {
            let message = lines.concat();
            // What begins with white space would continue our own field.
            let (content, fields) = finish(message.as_bytes(), true).unwrap();
            prop_assert_eq!(
                String::from_utf8(content.clone()).unwrap(),
                String::from_utf8(without_tags(message.as_bytes())).unwrap()
            );
            prop_assert_eq!(fields.eight_bit, !content.is_ascii());
        }

        #[test]
        fn any_message_in_any_pieces_is_signed_as_it_goes_out(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("X-Courser-Campaign: c\r\n"), Just("X: a\r\n  b \r\n"), Just("no field\r\n"),
                    Just("\r\n"), Just("\n"), Just(" \r\n"), Just("text \t of it\r\n"), Just("\r"), Just("."),
                ],
                0..10,
            ),
            piece in 1usize..40,
        ) {
            static KEYS: std::sync::OnceLock<(Arc<Keys>, Vec<u8>)> = std::sync::OnceLock::new();
            let (keys, record) = KEYS.get_or_init(|| keys(1));
            let message = format!("From: a@example.org\r\n{}", lines.concat());
            let (_, good) = signed(message.as_bytes(), piece, keys, record);
            prop_assert_eq!(good, 1);
        }

        #[test]
        fn no_bytes_panic(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = finish(&message, true);
        }
    }
}
