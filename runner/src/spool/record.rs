//! Records: what a segment is made of.
//!
//! ```text
//! offset  header, 56 bytes, little-endian                record
//!  0  magic     u32   "cRs\x9d"                          ┌────────┬──────────┬──────────┬─────┐
//!  4  version   u8    1                                  │ header │ head     │ body     │ pad │
//!  5  kind      u8    message, outcomes, tombstone, …    │ 56     │ head_len │ body_len │ to 8│
//!  6  flags     u16   see the fields of `Header`         └────────┴──────────┴──────────┴─────┘
//!  8  salt      u64   the segment's, from its file name
//! 16  id        u64   the message
//! 24  seq       u64   order of all records of this spool
//! 32  head_len  u32                                      head: the envelope, the outcomes, …
//! 36  body_len  u32                                      body: the content of a message
//! 40  head_crc  u32   crc32c
//! 44  body_crc  u32   crc32c
//! 48  synced    u32   the segment was known synced up to this offset / 8 when this was written
//! 52  crc       u32   crc32c of the 52 bytes above
//! ```
//!
//! Records start at multiples of 8, so that a scan that lost its way finds the next one by its
//! magic. The header has a checksum of its own: with it the lengths can be trusted, and bodies
//! are skipped without being read. The salt is random for each segment and never leaves the
//! machine: nobody can write a message whose content looks like a record to such a scan.

use courser_core::time::Wall;

/// First bytes of every record.
pub const MAGIC: u32 = u32::from_le_bytes(*b"cRs\x9d");
/// Version of the record format.
pub const RECORD_VERSION: u8 = 1;
/// Length of a header, bytes.
pub const HEADER_BYTES: usize = 56;
/// Records start at multiples of this, bytes.
pub const ALIGN: usize = 8;
/// Largest head, bytes.
pub const HEAD_BYTES_MAX: usize = super::envelope::ENVELOPE_BYTES_MAX;
/// Largest content of a message, octets.
pub const BODY_BYTES_MAX: u64 = 2 << 30;
/// Bytes of reply text kept in a deferral.
pub const OUTCOME_TEXT_BYTES_MAX: usize = 512;
/// Bytes of a source's name kept in a deferral.
pub const OUTCOME_SOURCE_BYTES_MAX: usize = 255;
/// Largest `seq`. A million records a second reach it in a hundred thousand years; what says more
/// was not written by us, and counting on from it can't overflow.
pub const SEQ_MAX: u64 = 1 << 62;
/// Most outcomes in one record; longer lists are written as several.
pub const OUTCOMES_MAX: usize = 4096;

const GROUP_GOES_ON: u16 = 1;
const GROUP_BEGAN: u16 = 2;
const BODY_DAMAGED: u16 = 4;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An envelope and its content.
    Message = 1,
    /// What became of deliveries of one message.
    Outcomes = 2,
    /// The message is finished.
    Tombstone = 3,
    /// First record of a segment.
    Meta = 4,
    /// Nothing any more. The start that finds something that didn't reach the disk whole before a
    /// power failure writes this over it, so that no later one takes it for a message or for damage.
    /// Where a start cuts off a torn tail, one of these is the last record.
    Void = 5,
    /// When and how deliveries of one message ended, for the start after a crash, which looks whether
    /// their events were written. Says nothing about what is still to be delivered.
    Endings = 6,
}

/// The head of a record, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// More records of the same group follow; they count together or not at all.
    pub group_goes_on: bool,
    /// Records of the same group came before.
    pub group_began: bool,
    /// The body is a copy of one that didn't match its checksum: it isn't one that failed to reach the
    /// disk.
    pub body_damaged: bool,
    /// The segment's salt.
    pub salt: u64,
    /// The message.
    pub id: u64,
    /// Order among all records.
    pub seq: u64,
    /// Length of the head, bytes.
    pub head_len: u32,
    /// Length of the body, bytes.
    pub body_len: u32,
    /// crc32c of the head.
    pub head_crc: u32,
    /// crc32c of the body.
    pub body_crc: u32,
    /// This segment was known to be synced up to this offset, in units of [`ALIGN`].
    pub synced: u32,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Not a header of this segment, or damaged.
    Damaged,
    /// An undamaged header of a format we don't know.
    Version(u8),
}

/// Bytes from `len` to the next multiple of [`ALIGN`].
pub const fn padding(len: u64) -> u64 {
    len.wrapping_neg() % ALIGN as u64
}

impl Header {
    /// Of a record of nothing, without a body.
    pub fn void(salt: u64) -> Self {
        Self {
            kind: Kind::Void,
            group_goes_on: false,
            group_began: false,
            body_damaged: false,
            salt,
            id: 0,
            seq: 0,
            head_len: 0,
            body_len: 0,
            head_crc: crc32c::crc32c(&[]),
            body_crc: crc32c::crc32c(&[]),
            synced: 0,
        }
    }

    /// Length of the whole record with its padding, bytes.
    pub fn record_len(&self) -> u64 {
        let len = HEADER_BYTES as u64 + u64::from(self.head_len) + u64::from(self.body_len);
        len + padding(len)
    }

    /// The 56 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let flag = |set, bit| if set { bit } else { 0 };
        let flags = flag(self.group_goes_on, GROUP_GOES_ON)
            | flag(self.group_began, GROUP_BEGAN)
            | flag(self.body_damaged, BODY_DAMAGED);
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4] = RECORD_VERSION;
        out[5] = self.kind as u8;
        out[6..8].copy_from_slice(&flags.to_le_bytes());
        out[8..16].copy_from_slice(&self.salt.to_le_bytes());
        out[16..24].copy_from_slice(&self.id.to_le_bytes());
        out[24..32].copy_from_slice(&self.seq.to_le_bytes());
        out[32..36].copy_from_slice(&self.head_len.to_le_bytes());
        out[36..40].copy_from_slice(&self.body_len.to_le_bytes());
        out[40..44].copy_from_slice(&self.head_crc.to_le_bytes());
        out[44..48].copy_from_slice(&self.body_crc.to_le_bytes());
        out[48..52].copy_from_slice(&self.synced.to_le_bytes());
        let crc = crc32c::crc32c(&out[..52]);
        out[52..56].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the start of `data`, if it is one of the segment with this salt.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn decode(data: &[u8], salt: u64) -> Result<Self, HeaderError> {
        let data: &[u8; HEADER_BYTES] = data
            .get(..HEADER_BYTES)
            .and_then(|d| d.try_into().ok())
            .ok_or(HeaderError::Damaged)?;
        let u32_at =
            |at: usize| u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(0) != MAGIC || u32_at(52) != crc32c::crc32c(&data[..52]) || u64_at(8) != salt {
            return Err(HeaderError::Damaged);
        }
        if data[4] != RECORD_VERSION {
            return Err(HeaderError::Version(data[4]));
        }
        let kind = match data[5] {
            1 => Kind::Message,
            2 => Kind::Outcomes,
            3 => Kind::Tombstone,
            4 => Kind::Meta,
            5 => Kind::Void,
            6 => Kind::Endings,
            _ => return Err(HeaderError::Damaged),
        };
        let flags = u16::from_le_bytes([data[6], data[7]]);
        let header = Self {
            kind,
            group_goes_on: flags & GROUP_GOES_ON != 0,
            group_began: flags & GROUP_BEGAN != 0,
            body_damaged: flags & BODY_DAMAGED != 0,
            salt,
            id: u64_at(16),
            seq: u64_at(24),
            head_len: u32_at(32),
            body_len: u32_at(36),
            head_crc: u32_at(40),
            body_crc: u32_at(44),
            synced: u32_at(48),
        };
        if header.head_len as usize > HEAD_BYTES_MAX
            || u64::from(header.body_len) > BODY_BYTES_MAX
            || header.seq > SEQ_MAX
        {
            return Err(HeaderError::Damaged);
        }
        Ok(header)
    }
}

/// A delivery waits for its next attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deferral {
    /// Attempts made so far.
    pub attempts: u32,
    /// When the last one was.
    pub at: Wall,
    /// When the next one is due.
    pub due: Wall,
    /// The last reply or cause, cut to [`OUTCOME_TEXT_BYTES_MAX`].
    pub text: Box<str>,
    /// The source it should stay with; empty: any.
    pub source: Box<str>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// Tried, to be tried again.
    Deferred(Deferral),
    /// Taken by the receiver. Ends the delivery.
    Delivered,
    /// Refused for good. Ends the delivery.
    Bounced,
    /// Its time ran out. Ends the delivery.
    Expired,
    /// Not to be sent. Ends the delivery.
    Suppressed,
    /// Held until it is released.
    Held,
    /// No longer held.
    Released,
    /// The sender was told of the delay.
    DelayDsnSent,
}

impl OutcomeKind {
    /// True if the delivery is over.
    pub fn ends(&self) -> bool {
        matches!(
            self,
            Self::Delivered | Self::Bounced | Self::Expired | Self::Suppressed
        )
    }

    /// Outcomes of one class replace one another: progress, hold, delay notice.
    pub(super) fn class(&self) -> u8 {
        match self {
            Self::Held | Self::Released => 1,
            Self::DelayDsnSent => 2,
            _ => 0,
        }
    }
}

/// What became of one delivery of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The recipient's index in the envelope.
    pub recipient: u32,
    /// What became of it.
    pub kind: OutcomeKind,
}

fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len()))
        .rev()
        .find(|&i| text.is_char_boundary(i));
    &text[..end.unwrap_or(0)]
}

/// Appends the encoded outcomes to `out`.
pub fn encode_outcomes<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>, out: &mut Vec<u8>) {
    for outcome in outcomes {
        out.extend(outcome.recipient.to_le_bytes());
        out.push(match outcome.kind {
            OutcomeKind::Deferred(_) => 1,
            OutcomeKind::Delivered => 2,
            OutcomeKind::Bounced => 3,
            OutcomeKind::Expired => 4,
            OutcomeKind::Suppressed => 5,
            OutcomeKind::Held => 6,
            OutcomeKind::Released => 7,
            OutcomeKind::DelayDsnSent => 8,
        });
        if let OutcomeKind::Deferred(d) = &outcome.kind {
            let text = cut(&d.text, OUTCOME_TEXT_BYTES_MAX);
            let source = cut(&d.source, OUTCOME_SOURCE_BYTES_MAX);
            out.extend(d.attempts.to_le_bytes());
            out.extend(d.at.unix().to_le_bytes());
            out.extend(d.due.unix().to_le_bytes());
            out.extend((text.len() as u16).to_le_bytes());
            out.push(source.len() as u8);
            out.extend(text.as_bytes());
            out.extend(source.as_bytes());
        }
    }
}

/// The outcomes of a record's head; `None` if it is damaged.
pub fn decode_outcomes(mut data: &[u8]) -> Option<Vec<Outcome>> {
    fn take<const N: usize>(data: &mut &[u8]) -> Option<[u8; N]> {
        let (first, rest) = data.split_first_chunk::<N>()?;
        *data = rest;
        Some(*first)
    }
    fn text(data: &mut &[u8], len: usize) -> Option<Box<str>> {
        let (text, rest) = data.split_at_checked(len)?;
        *data = rest;
        std::str::from_utf8(text).ok().map(Into::into)
    }
    let mut outcomes = Vec::new();
    while !data.is_empty() {
        if outcomes.len() == OUTCOMES_MAX {
            return None;
        }
        let recipient = u32::from_le_bytes(take(&mut data)?);
        let kind = match take::<1>(&mut data)?[0] {
            1 => {
                let attempts = u32::from_le_bytes(take(&mut data)?);
                let at = Wall::from_unix(i64::from_le_bytes(take(&mut data)?));
                let due = Wall::from_unix(i64::from_le_bytes(take(&mut data)?));
                let text_len = usize::from(u16::from_le_bytes(take(&mut data)?));
                let source_len = usize::from(take::<1>(&mut data)?[0]);
                OutcomeKind::Deferred(Deferral {
                    attempts,
                    at,
                    due,
                    text: text(&mut data, text_len)?,
                    source: text(&mut data, source_len)?,
                })
            }
            2 => OutcomeKind::Delivered,
            3 => OutcomeKind::Bounced,
            4 => OutcomeKind::Expired,
            5 => OutcomeKind::Suppressed,
            6 => OutcomeKind::Held,
            7 => OutcomeKind::Released,
            8 => OutcomeKind::DelayDsnSent,
            _ => return None,
        };
        outcomes.push(Outcome { recipient, kind });
    }
    Some(outcomes)
}

/// Deliveries of a message that ended at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endings {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// What became of each; of the kinds that [end](OutcomeKind::ends).
    pub outcomes: Vec<Outcome>,
}

impl Endings {
    /// The head's bytes.
    pub fn encode(at_ms: u64, outcomes: &[Outcome]) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + outcomes.len() * 5);
        out.extend(at_ms.to_le_bytes());
        encode_outcomes(outcomes, &mut out);
        out
    }

    /// What such bytes say; `None` if they are damaged.
    pub fn decode(head: &[u8]) -> Option<Self> {
        let (at, outcomes) = head.split_first_chunk()?;
        let outcomes = decode_outcomes(outcomes)?;
        let end = outcomes.iter().all(|o| o.kind.ends());
        end.then_some(Self {
            at_ms: u64::from_le_bytes(*at),
            outcomes,
        })
    }
}

/// Head of a tombstone: the segment in which the message lay.
pub fn encode_tombstone(segment: u32) -> [u8; 8] {
    u64::from(segment).to_le_bytes()
}

/// The segment in which a finished message lay.
pub fn decode_tombstone(head: &[u8]) -> Option<u32> {
    u64::from_le_bytes(head.try_into().ok()?).try_into().ok()
}

/// Head of a segment's first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// No id at or above this was ever handed out when this was written.
    pub ids_below: u64,
    /// When the segment was made, milliseconds since 1970.
    pub made_ms: u64,
}

impl Meta {
    /// The head's bytes.
    pub fn encode(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.ids_below.to_le_bytes());
        out[8..].copy_from_slice(&self.made_ms.to_le_bytes());
        out
    }

    /// Reads a head; later versions may append to it.
    pub fn decode(head: &[u8]) -> Option<Self> {
        let (ids, rest) = head.split_first_chunk::<8>()?;
        let (made, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            ids_below: u64::from_le_bytes(*ids),
            made_ms: u64::from_le_bytes(*made),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_outcome() -> impl Strategy<Value = Outcome> {
        let kind = prop_oneof![
            (
                any::<u32>(),
                any::<i64>(),
                any::<i64>(),
                ".{0,40}",
                "[a-z0-9]{0,9}"
            )
                .prop_map(|(attempts, at, due, text, source)| {
                    OutcomeKind::Deferred(Deferral {
                        attempts,
                        at: Wall::from_unix(at),
                        due: Wall::from_unix(due),
                        text: text.into(),
                        source: source.into(),
                    })
                }),
            Just(OutcomeKind::Delivered),
            Just(OutcomeKind::Bounced),
            Just(OutcomeKind::Expired),
            Just(OutcomeKind::Suppressed),
            Just(OutcomeKind::Held),
            Just(OutcomeKind::Released),
            Just(OutcomeKind::DelayDsnSent),
        ];
        (any::<u32>(), kind).prop_map(|(recipient, kind)| Outcome { recipient, kind })
    }

    fn header(id: u64) -> Header {
        Header {
            kind: Kind::Message,
            group_goes_on: true,
            group_began: false,
            body_damaged: true,
            salt: 77,
            id,
            seq: 5,
            head_len: 3,
            body_len: 10,
            head_crc: 1,
            body_crc: 2,
            synced: 9,
        }
    }

    #[test]
    fn a_header_is_bound_to_its_segment() {
        let bytes = header(3).encode();
        assert_eq!(Header::decode(&bytes, 77), Ok(header(3)));
        assert_eq!(Header::decode(&bytes, 78), Err(HeaderError::Damaged));
        assert_eq!(header(3).record_len(), 72);
    }

    #[test]
    fn numbers_out_of_range_are_damage() {
        for wrong in [
            Header {
                seq: u64::MAX,
                ..header(3)
            },
            Header {
                head_len: u32::MAX,
                ..header(3)
            },
            Header {
                body_len: u32::MAX,
                ..header(3)
            },
        ] {
            let decoded = Header::decode(&wrong.encode(), 77);
            assert_eq!(decoded, Err(HeaderError::Damaged));
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut bytes = header(3).encode();
        bytes[4] = 2;
        assert_eq!(Header::decode(&bytes, 77), Err(HeaderError::Damaged));
        let crc = crc32c::crc32c(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes, 77), Err(HeaderError::Version(2)));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let outcome = Outcome {
            recipient: 0,
            kind: OutcomeKind::Deferred(Deferral {
                text: "é".repeat(1000).into(),
                source: "ü".repeat(1000).into(),
                ..Deferral::default()
            }),
        };
        let mut out = Vec::new();
        encode_outcomes([&outcome], &mut out);
        let OutcomeKind::Deferred(back) = &decode_outcomes(&out).unwrap()[0].kind else {
            panic!("deferred")
        };
        assert_eq!((back.text.len(), back.source.len()), (512, 254));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_spoils_a_header(id: u64, bit in 0..HEADER_BYTES * 8) {
            let mut bytes = header(id).encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Header::decode(&bytes, 77), Err(HeaderError::Damaged));
        }

        #[test]
        fn outcomes_come_back(outcomes in prop::collection::vec(any_outcome(), 0..20)) {
            let mut out = Vec::new();
            encode_outcomes(&outcomes, &mut out);
            prop_assert_eq!(decode_outcomes(&out), Some(outcomes));
        }

        #[test]
        fn any_bytes_decode_or_dont(data: Vec<u8>) {
            let _ = Header::decode(&data, 0);
            let _ = Meta::decode(&data);
            let _ = decode_tombstone(&data);
            if let Some(outcomes) = decode_outcomes(&data) {
                let mut out = Vec::new();
                encode_outcomes(&outcomes, &mut out);
                prop_assert_eq!(decode_outcomes(&out).map(|o| o.len()), Some(outcomes.len()));
            }
        }
    }
}
