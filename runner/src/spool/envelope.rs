//! The envelope: everything about a message that is not its content.
//!
//! Fill in [`EnvelopeFields`], [`encode`](EnvelopeFields::encode) it, keep the [`Envelope`] (one
//! shared allocation, cheap to clone), and read it through [`Envelope::view`]. The encoded form
//! is what lies in the spool and what the queue keeps in memory, so a queued message costs its
//! text and little more, and nothing is encoded twice.
//!
//! ```text
//! version:u8 flags:u16 class:u8 priority:i8 id:u64 received_ms:u64 deliver_by_s:i64 hold_until_s:i64
//! body_len:u64 recipients:u32 text_len:[u16; 10]
//! text…                              the ten texts one behind another
//! recipient_at:[u32; recipients]     offsets from the start, in order
//! ( flags:u8 orcpt_type_len:u8 orcpt_len:u16 address_len:u16 address orcpt_type orcpt )…
//! ```
//! Numbers are little-endian. [`EnvelopeView::parse`] checks every length once, so that the
//! accessors can't fail; bytes that were damaged are an error, never a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use courser_core::smtp::command::{BodyType, Notify, Ret};
use courser_core::time::Wall;

/// Version of the encoding, its first byte.
pub const ENVELOPE_VERSION: u8 = 1;
/// Longest text of an envelope (an address, a tag), bytes.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Most recipients of one message.
pub const RECIPIENTS_MAX: usize = 100_000;
/// Largest encoded envelope, bytes.
pub const ENVELOPE_BYTES_MAX: usize = 32 << 20;

const FIXED: usize = 49;
const TEXTS: usize = 10;
const HEAD: usize = FIXED + 2 * TEXTS;
const RECIPIENT_FIXED: usize = 6;
const NO_TIME: i64 = i64::MIN;

const SMTPUTF8: u16 = 1;
const REQUIRETLS: u16 = 1 << 1;
const EIGHT_BIT: u16 = 1 << 2;
const RET_FULL: u16 = 1 << 3;
const RET_HEADERS: u16 = 1 << 4;
const BODY_8BIT: u16 = 1 << 5;
const BODY_BINARY: u16 = 1 << 6;
const PRIORITY: u16 = 1 << 7;
const BY_RETURNS: u16 = 1 << 8;
const BY_TRACE: u16 = 1 << 9;
const TLS_OPTIONAL: u16 = 1 << 10;

const NOTIFY: u8 = 1;
const NOTIFY_NEVER: u8 = 1 << 1;
const NOTIFY_SUCCESS: u8 = 1 << 2;
const NOTIFY_FAILURE: u8 = 1 << 3;
const NOTIFY_DELAY: u8 = 1 << 4;
const ORCPT: u8 = 1 << 5;

/// Positions of the texts.
mod text {
    pub(super) const SENDER: usize = 0;
    pub(super) const ENVID: usize = 1;
    pub(super) const TENANT: usize = 2;
    pub(super) const CAMPAIGN: usize = 3;
    pub(super) const STREAM: usize = 4;
    pub(super) const POOL: usize = 5;
    pub(super) const CLIENT: usize = 6;
    pub(super) const HELO: usize = 7;
    pub(super) const USER: usize = 8;
    pub(super) const TAGS: usize = 9;
}

/// `BY=` (RFC 2852), with the deadline made absolute when the message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverUntil {
    /// The deadline.
    pub at: Wall,
    /// `R`: return the message at the deadline; otherwise `N`, only notify.
    pub returns: bool,
    /// `T`: trace was asked for.
    pub trace: bool,
}

/// One recipient as it came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientFields {
    /// The mailbox, UTF-8, without angle brackets.
    pub address: String,
    /// `NOTIFY=` (RFC 3461 4.1); `None`: not given.
    pub notify: Option<Notify>,
    /// `ORCPT=` (RFC 3461 4.2): address type and address, as they came (xtext); `None`: not given.
    pub orcpt: Option<(String, String)>,
}

/// An envelope to be encoded. [`Default`] is an empty one; reuse it with
/// [`clear`](EnvelopeFields::clear).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvelopeFields {
    /// The message's id, from [`Spool::next_id`](super::Spool::next_id).
    pub id: u64,
    /// When it came in, milliseconds since 1970.
    pub received_ms: u64,
    /// The reverse-path without angle brackets; empty for the null reverse-path.
    pub sender: String,
    /// `ENVID=` as it came (xtext); empty: not given.
    pub envid: String,
    /// `RET=`.
    pub ret: Option<Ret>,
    /// `BODY=`.
    pub body: BodyType,
    /// `SMTPUTF8` was given (RFC 6531).
    pub smtputf8: bool,
    /// `REQUIRETLS` was given (RFC 8689).
    pub requiretls: bool,
    /// Its header says `TLS-Required: No` (RFC 8689 5).
    pub tls_optional: bool,
    /// The content has octets above 127.
    pub eight_bit: bool,
    /// `MT-PRIORITY=` (RFC 6710).
    pub mt_priority: Option<i8>,
    /// `BY=` (RFC 2852).
    pub deliver_by: Option<DeliverUntil>,
    /// `HOLDFOR=`, `HOLDUNTIL=` (RFC 4865): no attempt before this time.
    pub hold_until: Option<Wall>,
    /// Whose message; may be empty.
    pub tenant: String,
    /// Which campaign; may be empty.
    pub campaign: String,
    /// Which stream; may be empty.
    pub stream: String,
    /// Which pool of sources sends it; empty: the stream's.
    pub pool: String,
    /// Further tags for events, as the application wrote them; may be empty.
    pub tags: String,
    /// Priority class: 0 goes first.
    pub class: u8,
    /// Who handed it in.
    pub client: Option<IpAddr>,
    /// What the client called itself.
    pub helo: String,
    /// Who the client authenticated as; empty: not.
    pub user: String,
    /// Length of the content, octets.
    pub body_len: u64,
    /// The recipients; a delivery is named by its index here.
    pub recipients: Vec<RecipientFields>,
}

/// An envelope can't be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A text is longer than [`TEXT_BYTES_MAX`].
    #[error("a text of the envelope is longer than {TEXT_BYTES_MAX} bytes")]
    TextTooLong,
    /// More than [`RECIPIENTS_MAX`].
    #[error("more than {RECIPIENTS_MAX} recipients")]
    TooManyRecipients,
    /// Larger than [`ENVELOPE_BYTES_MAX`].
    #[error("the envelope is larger than {ENVELOPE_BYTES_MAX} bytes")]
    TooLarge,
    /// The bytes are not an envelope of a version we know.
    #[error("not an envelope")]
    Damaged,
}

impl EnvelopeFields {
    /// Empties every field but keeps the memory.
    pub fn clear(&mut self) {
        let Self {
            sender,
            envid,
            tenant,
            campaign,
            stream,
            pool,
            tags,
            helo,
            user,
            recipients,
            ..
        } = self;
        let mut texts = [
            sender, envid, tenant, campaign, stream, pool, tags, helo, user,
        ]
        .map(core::mem::take);
        texts.iter_mut().for_each(String::clear);
        recipients.clear();
        let recipients = core::mem::take(recipients);
        let [
            sender,
            envid,
            tenant,
            campaign,
            stream,
            pool,
            tags,
            helo,
            user,
        ] = texts;
        *self = Self {
            sender,
            envid,
            tenant,
            campaign,
            stream,
            pool,
            tags,
            helo,
            user,
            recipients,
            ..Self::default()
        };
    }

    /// The encoded envelope.
    ///
    /// # Errors
    /// A bound of this module was passed.
    pub fn encode(&self) -> Result<Envelope, EnvelopeError> {
        let client = match self.client {
            None => Vec::new(),
            Some(IpAddr::V4(a)) => a.octets().to_vec(),
            Some(IpAddr::V6(a)) => a.octets().to_vec(),
        };
        let texts: [&[u8]; TEXTS] = [
            self.sender.as_bytes(),
            self.envid.as_bytes(),
            self.tenant.as_bytes(),
            self.campaign.as_bytes(),
            self.stream.as_bytes(),
            self.pool.as_bytes(),
            &client,
            self.helo.as_bytes(),
            self.user.as_bytes(),
            self.tags.as_bytes(),
        ];
        if self.recipients.len() > RECIPIENTS_MAX {
            return Err(EnvelopeError::TooManyRecipients);
        }
        let too_long = |s: &str| s.len() > TEXT_BYTES_MAX;
        if texts.iter().any(|t| t.len() > TEXT_BYTES_MAX)
            || self.recipients.iter().any(|r| {
                too_long(&r.address)
                    || r.orcpt
                        .as_ref()
                        .is_some_and(|(kind, address)| kind.len() > 255 || too_long(address))
            })
        {
            return Err(EnvelopeError::TextTooLong);
        }
        let size = HEAD
            + texts.iter().map(|t| t.len()).sum::<usize>()
            + self
                .recipients
                .iter()
                .map(|r| {
                    4 + RECIPIENT_FIXED
                        + r.address.len()
                        + r.orcpt
                            .as_ref()
                            .map_or(0, |(kind, address)| kind.len() + address.len())
                })
                .sum::<usize>();
        if size > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge);
        }

        let mut flags = 0;
        let mut set = |on: bool, bit: u16| flags |= if on { bit } else { 0 };
        set(self.smtputf8, SMTPUTF8);
        set(self.requiretls, REQUIRETLS);
        set(self.tls_optional, TLS_OPTIONAL);
        set(self.eight_bit, EIGHT_BIT);
        set(self.ret == Some(Ret::Full), RET_FULL);
        set(self.ret == Some(Ret::Headers), RET_HEADERS);
        set(self.body == BodyType::EightBitMime, BODY_8BIT);
        set(self.body == BodyType::BinaryMime, BODY_BINARY);
        set(self.mt_priority.is_some(), PRIORITY);
        set(self.deliver_by.is_some_and(|by| by.returns), BY_RETURNS);
        set(self.deliver_by.is_some_and(|by| by.trace), BY_TRACE);

        let mut out = Vec::with_capacity(size);
        out.push(ENVELOPE_VERSION);
        out.extend(flags.to_le_bytes());
        out.push(self.class);
        out.push(self.mt_priority.unwrap_or(0) as u8);
        out.extend(self.id.to_le_bytes());
        out.extend(self.received_ms.to_le_bytes());
        out.extend(
            self.deliver_by
                .map_or(NO_TIME, |by| by.at.unix())
                .to_le_bytes(),
        );
        out.extend(self.hold_until.map_or(NO_TIME, Wall::unix).to_le_bytes());
        out.extend(self.body_len.to_le_bytes());
        out.extend((self.recipients.len() as u32).to_le_bytes());
        debug_assert_eq!(out.len(), FIXED);
        for text in &texts {
            out.extend((text.len() as u16).to_le_bytes());
        }
        for text in &texts {
            out.extend(*text);
        }
        let table = out.len();
        out.resize(table + 4 * self.recipients.len(), 0);
        for (i, r) in self.recipients.iter().enumerate() {
            let at = out.len() as u32;
            out[table + 4 * i..][..4].copy_from_slice(&at.to_le_bytes());
            let mut flags = 0;
            if let Some(n) = r.notify {
                flags |= NOTIFY
                    | if n.never { NOTIFY_NEVER } else { 0 }
                    | if n.success { NOTIFY_SUCCESS } else { 0 }
                    | if n.failure { NOTIFY_FAILURE } else { 0 }
                    | if n.delay { NOTIFY_DELAY } else { 0 };
            }
            let (kind, address) = match &r.orcpt {
                Some((kind, address)) => {
                    flags |= ORCPT;
                    (kind.as_bytes(), address.as_bytes())
                }
                None => (&[][..], &[][..]),
            };
            out.push(flags);
            out.push(kind.len() as u8);
            out.extend((address.len() as u16).to_le_bytes());
            out.extend((r.address.len() as u16).to_le_bytes());
            out.extend(r.address.as_bytes());
            out.extend(kind);
            out.extend(address);
        }
        debug_assert_eq!(out.len(), size);
        Ok(Envelope(out.into()))
    }
}

/// An encoded and checked envelope: one shared allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope(Arc<[u8]>);

impl Envelope {
    /// Takes encoded bytes.
    ///
    /// # Errors
    /// [`EnvelopeError::Damaged`] if they aren't an envelope.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        EnvelopeView::parse(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Access to the fields.
    pub fn view(&self) -> EnvelopeView<'_> {
        EnvelopeView(&self.0)
    }

    /// The message's id.
    pub fn id(&self) -> u64 {
        self.view().id()
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.view().fmt(f)
    }
}

/// The fields of an encoded envelope, read in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EnvelopeView<'a>(&'a [u8]);

/// One recipient of an encoded envelope, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecipientView<'a> {
    /// The mailbox.
    pub address: &'a str,
    /// `NOTIFY=`, if it was given.
    pub notify: Option<Notify>,
    /// `ORCPT=`, address type and address as they came, if it was given.
    pub orcpt: Option<(&'a str, &'a str)>,
}

/// `N` bytes at `at`; zeros past the end, which [`EnvelopeView::parse`] has excluded.
fn bytes<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    at.checked_add(N)
        .and_then(|end| data.get(at..end))
        .and_then(|s| s.try_into().ok())
        .unwrap_or([0; N])
}

fn parse_recipient(data: &[u8], at: usize) -> Option<(RecipientView<'_>, usize)> {
    let fixed = data.get(at..)?.get(..RECIPIENT_FIXED)?;
    let flags = fixed[0];
    let kind_len = usize::from(fixed[1]);
    let orcpt_len = usize::from(u16::from_le_bytes([fixed[2], fixed[3]]));
    let address_len = usize::from(u16::from_le_bytes([fixed[4], fixed[5]]));
    let mut end = at + RECIPIENT_FIXED;
    let mut take = |len: usize| {
        let text = data.get(end..)?.get(..len)?;
        end += len;
        std::str::from_utf8(text).ok()
    };
    let address = take(address_len)?;
    let kind = take(kind_len)?;
    let orcpt = take(orcpt_len)?;
    let has = |bit| flags & bit != 0;
    let view = RecipientView {
        address,
        notify: has(NOTIFY).then(|| Notify {
            never: has(NOTIFY_NEVER),
            success: has(NOTIFY_SUCCESS),
            failure: has(NOTIFY_FAILURE),
            delay: has(NOTIFY_DELAY),
        }),
        orcpt: has(ORCPT).then_some((kind, orcpt)),
    };
    Some((view, end))
}

impl<'a> EnvelopeView<'a> {
    /// Checks every length and every text of encoded bytes.
    ///
    /// # Errors
    /// [`EnvelopeError::Damaged`].
    pub fn parse(data: &'a [u8]) -> Result<Self, EnvelopeError> {
        Self::check(data).ok_or(EnvelopeError::Damaged)
    }

    fn check(data: &'a [u8]) -> Option<Self> {
        if data.len() < HEAD || data.len() > ENVELOPE_BYTES_MAX || data[0] != ENVELOPE_VERSION {
            return None;
        }
        let view = Self(data);
        let mut at = HEAD;
        for i in 0..TEXTS {
            let text = data.get(at..)?.get(..view.text_len(i))?;
            let good = match i {
                text::CLIENT => matches!(text.len(), 0 | 4 | 16),
                _ => std::str::from_utf8(text).is_ok(),
            };
            if !good {
                return None;
            }
            at += text.len();
        }
        let count = view.recipients_len();
        if count > RECIPIENTS_MAX {
            return None;
        }
        let mut expected = at.checked_add(count.checked_mul(4)?)?;
        for i in 0..count {
            if u32::from_le_bytes(bytes(data, at + 4 * i)) as usize != expected {
                return None;
            }
            expected = parse_recipient(data, expected)?.1;
        }
        (expected == data.len()).then_some(view)
    }

    fn flag(&self, bit: u16) -> bool {
        u16::from_le_bytes(bytes(self.0, 1)) & bit != 0
    }

    fn text_len(&self, i: usize) -> usize {
        usize::from(u16::from_le_bytes(bytes(self.0, FIXED + 2 * i)))
    }

    fn text_at(&self, i: usize) -> &'a [u8] {
        let start = HEAD + (0..i).map(|j| self.text_len(j)).sum::<usize>();
        self.0
            .get(start..start + self.text_len(i))
            .unwrap_or_default()
    }

    fn text(&self, i: usize) -> &'a str {
        std::str::from_utf8(self.text_at(i)).unwrap_or_default()
    }

    fn time(&self, at: usize) -> Option<Wall> {
        let s = i64::from_le_bytes(bytes(self.0, at));
        (s != NO_TIME).then_some(Wall::from_unix(s))
    }

    /// The message's id.
    pub fn id(&self) -> u64 {
        u64::from_le_bytes(bytes(self.0, 5))
    }

    /// When the message came in, milliseconds since 1970.
    pub fn received_ms(&self) -> u64 {
        u64::from_le_bytes(bytes(self.0, 13))
    }

    /// `BY=`.
    pub fn deliver_by(&self) -> Option<DeliverUntil> {
        self.time(21).map(|at| DeliverUntil {
            at,
            returns: self.flag(BY_RETURNS),
            trace: self.flag(BY_TRACE),
        })
    }

    /// No attempt before this time.
    pub fn hold_until(&self) -> Option<Wall> {
        self.time(29)
    }

    /// Length of the content, octets.
    pub fn body_len(&self) -> u64 {
        u64::from_le_bytes(bytes(self.0, 37))
    }

    /// Priority class, 0 first.
    pub fn class(&self) -> u8 {
        self.0[3]
    }

    /// `MT-PRIORITY=`.
    pub fn mt_priority(&self) -> Option<i8> {
        self.flag(PRIORITY).then(|| self.0[4] as i8)
    }

    /// `SMTPUTF8` was given.
    pub fn smtputf8(&self) -> bool {
        self.flag(SMTPUTF8)
    }

    /// `REQUIRETLS` was given.
    pub fn requiretls(&self) -> bool {
        self.flag(REQUIRETLS)
    }

    /// Its header says `TLS-Required: No`.
    pub fn tls_optional(&self) -> bool {
        self.flag(TLS_OPTIONAL)
    }

    /// The content has octets above 127.
    pub fn eight_bit(&self) -> bool {
        self.flag(EIGHT_BIT)
    }

    /// `RET=`.
    pub fn ret(&self) -> Option<Ret> {
        match (self.flag(RET_FULL), self.flag(RET_HEADERS)) {
            (true, _) => Some(Ret::Full),
            (_, true) => Some(Ret::Headers),
            _ => None,
        }
    }

    /// `BODY=`.
    pub fn body(&self) -> BodyType {
        match (self.flag(BODY_BINARY), self.flag(BODY_8BIT)) {
            (true, _) => BodyType::BinaryMime,
            (_, true) => BodyType::EightBitMime,
            _ => BodyType::SevenBit,
        }
    }

    /// The reverse-path; empty for the null one.
    pub fn sender(&self) -> &'a str {
        self.text(text::SENDER)
    }

    /// `ENVID=` as it came; empty: not given.
    pub fn envid(&self) -> &'a str {
        self.text(text::ENVID)
    }

    /// Whose message.
    pub fn tenant(&self) -> &'a str {
        self.text(text::TENANT)
    }

    /// Which campaign.
    pub fn campaign(&self) -> &'a str {
        self.text(text::CAMPAIGN)
    }

    /// Which stream.
    pub fn stream(&self) -> &'a str {
        self.text(text::STREAM)
    }

    /// Which pool.
    pub fn pool(&self) -> &'a str {
        self.text(text::POOL)
    }

    /// Further tags.
    pub fn tags(&self) -> &'a str {
        self.text(text::TAGS)
    }

    /// Who handed it in.
    pub fn client(&self) -> Option<IpAddr> {
        let octets = self.text_at(text::CLIENT);
        if let Ok(v4) = <[u8; 4]>::try_from(octets) {
            return Some(Ipv4Addr::from(v4).into());
        }
        <[u8; 16]>::try_from(octets)
            .ok()
            .map(|v6| Ipv6Addr::from(v6).into())
    }

    /// What the client called itself.
    pub fn helo(&self) -> &'a str {
        self.text(text::HELO)
    }

    /// Who the client authenticated as.
    pub fn user(&self) -> &'a str {
        self.text(text::USER)
    }

    /// How many recipients.
    pub fn recipients_len(&self) -> usize {
        u32::from_le_bytes(bytes(self.0, 45)) as usize
    }

    /// One recipient; `None` past the last.
    pub fn recipient(&self, index: usize) -> Option<RecipientView<'a>> {
        if index >= self.recipients_len() {
            return None;
        }
        let table = HEAD + (0..TEXTS).map(|j| self.text_len(j)).sum::<usize>();
        let at = u32::from_le_bytes(bytes(self.0, table + 4 * index)) as usize;
        parse_recipient(self.0, at).map(|(recipient, _)| recipient)
    }

    /// All recipients, in order.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = RecipientView<'a>> + use<'a> {
        let view = *self;
        let nobody = RecipientView {
            address: "",
            notify: None,
            orcpt: None,
        };
        (0..self.recipients_len()).map(move |i| view.recipient(i).unwrap_or(nobody))
    }

    /// The fields as owned values.
    pub fn to_fields(&self) -> EnvelopeFields {
        EnvelopeFields {
            id: self.id(),
            received_ms: self.received_ms(),
            sender: self.sender().into(),
            envid: self.envid().into(),
            ret: self.ret(),
            body: self.body(),
            smtputf8: self.smtputf8(),
            requiretls: self.requiretls(),
            tls_optional: self.tls_optional(),
            eight_bit: self.eight_bit(),
            mt_priority: self.mt_priority(),
            deliver_by: self.deliver_by(),
            hold_until: self.hold_until(),
            tenant: self.tenant().into(),
            campaign: self.campaign().into(),
            stream: self.stream().into(),
            pool: self.pool().into(),
            tags: self.tags().into(),
            class: self.class(),
            client: self.client(),
            helo: self.helo().into(),
            user: self.user().into(),
            body_len: self.body_len(),
            recipients: self
                .recipients()
                .map(|r| RecipientFields {
                    address: r.address.into(),
                    notify: r.notify,
                    orcpt: r.orcpt.map(|(kind, address)| (kind.into(), address.into())),
                })
                .collect(),
        }
    }
}

impl std::fmt::Debug for EnvelopeView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_fields().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields() -> impl Strategy<Value = EnvelopeFields> {
        let text = || ".{0,30}";
        let notify = prop::option::of(
            (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
                |(never, success, failure, delay)| Notify {
                    never,
                    success,
                    failure,
                    delay,
                },
            ),
        );
        let recipient = (text(), notify, prop::option::of(("[a-z0-9]{0,9}", text()))).prop_map(
            |(address, notify, orcpt)| RecipientFields {
                address,
                notify,
                orcpt,
            },
        );
        let ret = prop_oneof![Just(None), Just(Some(Ret::Full)), Just(Some(Ret::Headers))];
        let body = prop_oneof![
            Just(BodyType::SevenBit),
            Just(BodyType::EightBitMime),
            Just(BodyType::BinaryMime)
        ];
        let time = || {
            prop::option::of((-1_000_000_000_000i64..1_000_000_000_000).prop_map(Wall::from_unix))
        };
        let by = (time(), any::<bool>(), any::<bool>())
            .prop_map(|(at, returns, trace)| at.map(|at| DeliverUntil { at, returns, trace }));
        let numbers = (
            any::<u64>(),
            any::<u64>(),
            any::<u64>(),
            any::<u8>(),
            prop::option::of(any::<i8>()),
        );
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        let texts = prop::collection::vec(text(), 9);
        let recipients = prop::collection::vec(recipient, 0..5);
        let client = prop::option::of(any::<IpAddr>());
        (
            numbers,
            flags,
            (ret, body, by, time()),
            texts,
            recipients,
            client,
        )
            .prop_map(
                |(
                    (id, received_ms, body_len, class, mt_priority),
                    flags,
                    (ret, body, deliver_by, hold_until),
                    mut texts,
                    recipients,
                    client,
                )| {
                    let mut text = || texts.pop().unwrap_or_default();
                    EnvelopeFields {
                        id,
                        received_ms,
                        sender: text(),
                        envid: text(),
                        ret,
                        body,
                        smtputf8: flags.0,
                        requiretls: flags.1,
                        tls_optional: flags.3,
                        eight_bit: flags.2,
                        mt_priority,
                        deliver_by,
                        hold_until,
                        tenant: text(),
                        campaign: text(),
                        stream: text(),
                        pool: text(),
                        tags: text(),
                        class,
                        client,
                        helo: text(),
                        user: text(),
                        body_len,
                        recipients,
                    }
                },
            )
    }

    #[test]
    fn a_common_envelope_is_small() {
        let recipients = vec![RecipientFields {
            address: "someone@example.org".into(),
            ..RecipientFields::default()
        }];
        let fields = EnvelopeFields {
            sender: "news@example.com".into(),
            recipients,
            ..EnvelopeFields::default()
        };
        assert_eq!(
            fields.encode().unwrap().as_bytes().len(),
            69 + 16 + 4 + 6 + 19
        );
    }

    #[test]
    fn bounds_are_kept() {
        let long = EnvelopeFields {
            sender: "x".repeat(TEXT_BYTES_MAX + 1),
            ..EnvelopeFields::default()
        };
        assert_eq!(long.encode(), Err(EnvelopeError::TextTooLong));
        let many = EnvelopeFields {
            recipients: vec![RecipientFields::default(); RECIPIENTS_MAX + 1],
            ..EnvelopeFields::default()
        };
        assert_eq!(many.encode(), Err(EnvelopeError::TooManyRecipients));
        let most = EnvelopeFields {
            recipients: vec![RecipientFields::default(); RECIPIENTS_MAX],
            ..EnvelopeFields::default()
        };
        assert_eq!(
            most.encode().unwrap().view().recipients_len(),
            RECIPIENTS_MAX
        );
    }

    #[test]
    fn clearing_leaves_nothing() {
        let mut fields = EnvelopeFields {
            id: 3,
            sender: "a".into(),
            tags: "b".into(),
            smtputf8: true,
            class: 2,
            ..EnvelopeFields::default()
        };
        fields.recipients.push(RecipientFields::default());
        fields.clear();
        assert_eq!(fields, EnvelopeFields::default());
    }

    proptest! {
        #[test]
        fn fields_come_back(fields in fields()) {
            let envelope = fields.encode().unwrap();
            prop_assert_eq!(&envelope.view().to_fields(), &fields);
            prop_assert_eq!(Envelope::from_bytes(envelope.as_bytes()), Ok(envelope));
        }

        #[test]
        fn any_bytes_parse_or_dont(data: Vec<u8>) {
            let _ = EnvelopeView::parse(&data).map(|view| view.to_fields());
        }

        #[test]
        fn damaged_ones_never_panic(fields in fields(), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5), cut: prop::sample::Index) {
            let mut data = fields.encode().unwrap().as_bytes().to_vec();
            for (at, with) in hits {
                let at = at.index(data.len());
                data[at] = with;
            }
            if let Ok(view) = EnvelopeView::parse(&data) {
                let again = view.to_fields();
                prop_assert_eq!(view.recipients().len(), again.recipients.len());
                prop_assert_eq!(again.encode().unwrap().view().to_fields(), again);
            }
            prop_assert!(EnvelopeView::parse(&data[..cut.index(data.len())]).is_err());
        }
    }
}
