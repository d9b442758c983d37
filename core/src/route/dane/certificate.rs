//! What DANE needs of a certificate (RFC 5280 4.1): where its parts lie, and which hosts it names.
//!
//! ```text
//! Certificate    = SEQUENCE { TBSCertificate, algorithm, signature }
//! TBSCertificate = SEQUENCE { [0] version?, serial, algorithm, issuer, validity, subject,
//!                             subjectPublicKeyInfo, [1]?, [2]?, [3] extensions? }
//! Extension      = SEQUENCE { OID, BOOLEAN?, OCTET STRING }
//! SubjectAltName = SEQUENCE OF GeneralName           GeneralName = [2] IA5String / …
//! Name           = SEQUENCE OF SET OF SEQUENCE { OID, any string }
//! ```
//!
//! Only the frame is read, strictly as DER: a certificate whose contents somebody else finds odd
//! still has a key to compare. Nothing is copied, and nothing nests deeper than the grammar above.

use core::fmt;

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag};

use crate::route::reference::stands_for;

/// 2.5.29.17, subjectAltName (RFC 5280 4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.4.3, commonName (RFC 5280 A.1).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// dNSName of a GeneralName (RFC 5280 4.2.1.6).
const DNS_NAME: u32 = 2;

/// The bytes are no certificate in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACertificate;

impl fmt::Display for NotACertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes are no X.509 certificate in DER")
    }
}
impl core::error::Error for NotACertificate {}

impl From<der::Error> for NotACertificate {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// A certificate, borrowed; each part with its tag and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// All of it.
    pub der: &'a [u8],
    /// The Name of who signed it.
    pub issuer: &'a [u8],
    /// The Name of whose it is.
    pub subject: &'a [u8],
    /// The SubjectPublicKeyInfo: what selector 1 is about (RFC 6698 2.1.2).
    pub public_key: &'a [u8],
    /// Extensions, each a SEQUENCE; empty if there are none.
    extensions: &'a [u8],
}

/// Elements of DER one behind another.
struct Elements<'a>(SliceReader<'a>);

/// One element: its tag, its contents, and all of it.
struct Element<'a> {
    tag: Tag,
    contents: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Elements<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, NotACertificate> {
        Ok(Self(SliceReader::new(bytes)?))
    }

    fn next(&mut self) -> Result<Element<'a>, NotACertificate> {
        let whole = self.0.tlv_bytes()?;
        let any = AnyRef::from_der(whole)?;
        Ok(Element {
            tag: der::Tagged::tag(&any),
            contents: any.value(),
            whole,
        })
    }

    fn expect(&mut self, tag: Tag) -> Result<Element<'a>, NotACertificate> {
        let element = self.next()?;
        if element.tag == tag {
            Ok(element)
        } else {
            Err(NotACertificate)
        }
    }

    fn is_at_end(&self) -> bool {
        self.0.is_finished()
    }

    /// The next one, if it is `[number]`.
    fn context(&mut self, number: u32) -> Result<Option<Element<'a>>, NotACertificate> {
        let mut ahead = Self(self.0.clone());
        if ahead.is_at_end() {
            return Ok(None);
        }
        let element = ahead.next()?;
        if !is_context(element.tag, number) {
            return Ok(None);
        }
        *self = ahead;
        Ok(Some(element))
    }
}

fn is_context(tag: Tag, wanted: u32) -> bool {
    matches!(tag, Tag::ContextSpecific { number, .. } if number.value() == wanted)
}

/// What stands within a SEQUENCE, such as one of the parts of a [`Certificate`], for libraries that
/// want it without its tag and length; `None` if it is none.
pub fn contents(sequence: &[u8]) -> Option<&[u8]> {
    only(sequence, Tag::Sequence).ok()
}

/// The contents of `bytes`, which must be one element with this tag and nothing behind it.
fn only(bytes: &[u8], tag: Tag) -> Result<&[u8], NotACertificate> {
    let mut elements = Elements::of(bytes)?;
    let element = elements.expect(tag)?;
    if elements.is_at_end() {
        Ok(element.contents)
    } else {
        Err(NotACertificate)
    }
}

impl<'a> Certificate<'a> {
    /// Finds the parts of a certificate.
    ///
    /// # Errors
    /// [`NotACertificate`] if it has another shape, or something follows it.
    pub fn parse(der: &'a [u8]) -> Result<Self, NotACertificate> {
        let mut outer = Elements::of(only(der, Tag::Sequence)?)?;
        let tbs = outer.expect(Tag::Sequence)?.contents;
        outer.expect(Tag::Sequence)?;
        outer.expect(Tag::BitString)?;
        if !outer.is_at_end() {
            return Err(NotACertificate);
        }
        let mut tbs = Elements::of(tbs)?;
        tbs.context(0)?;
        tbs.expect(Tag::Integer)?;
        tbs.expect(Tag::Sequence)?;
        let issuer = tbs.expect(Tag::Sequence)?.whole;
        tbs.expect(Tag::Sequence)?;
        let subject = tbs.expect(Tag::Sequence)?.whole;
        let public_key = tbs.expect(Tag::Sequence)?.whole;
        if !is_public_key(public_key) {
            return Err(NotACertificate);
        }
        tbs.context(1)?;
        tbs.context(2)?;
        let extensions = match tbs.context(3)? {
            Some(element) => only(element.contents, Tag::Sequence)?,
            None => &[],
        };
        if !tbs.is_at_end() {
            return Err(NotACertificate);
        }
        Ok(Self {
            der,
            issuer,
            subject,
            public_key,
            extensions,
        })
    }

    /// Whether it names `host` (RFC 7672 3.2.3): one of the DNS names in its SubjectAltName does,
    /// or, if there are none, a common name of its subject. Names that can't be read name nobody.
    pub fn names(&self, host: &str) -> bool {
        self.identifiers().any(|name| stands_for(name, host))
    }

    /// The hosts that it names, as written, with wildcards; what isn't ASCII is left out.
    pub fn identifiers(&self) -> impl Iterator<Item = &'a str> {
        let (alternatives, common): (&[u8], &[u8]) = match self.subject_alt_name() {
            Ok(Some(names)) if dns_names(names).next().is_some() => (names, &[]),
            Ok(_) => (&[], self.subject),
            Err(NotACertificate) => (&[], &[]),
        };
        dns_names(alternatives)
            .chain(common_names(common))
            .filter_map(|name| core::str::from_utf8(name).ok())
            .filter(|name| name.bytes().all(|b| b.is_ascii_graphic()))
    }

    /// The GeneralNames of the SubjectAltName, if there is one.
    fn subject_alt_name(&self) -> Result<Option<&'a [u8]>, NotACertificate> {
        let mut extensions = Elements::of(self.extensions)?;
        while !extensions.is_at_end() {
            let mut extension = Elements::of(extensions.expect(Tag::Sequence)?.contents)?;
            if extension.expect(Tag::ObjectIdentifier)?.contents != SUBJECT_ALT_NAME {
                continue;
            }
            let mut value = extension.next()?;
            if value.tag == Tag::Boolean {
                value = extension.next()?;
            }
            return match value.tag {
                Tag::OctetString => only(value.contents, Tag::Sequence).map(Some),
                _ => Err(NotACertificate),
            };
        }
        Ok(None)
    }
}

/// Whether `bytes` are one SubjectPublicKeyInfo (RFC 5280 4.1), as far as its frame goes.
pub(super) fn is_public_key(bytes: &[u8]) -> bool {
    let read = || {
        let mut parts = Elements::of(only(bytes, Tag::Sequence)?)?;
        parts.expect(Tag::Sequence)?;
        parts.expect(Tag::BitString)?;
        Ok::<_, NotACertificate>(parts.is_at_end())
    };
    read() == Ok(true)
}

fn dns_names(names: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut names = Elements::of(names).ok();
    core::iter::from_fn(move || {
        loop {
            // At the end, and at what can't be read, it is over.
            let name = names.as_mut()?.next().ok()?;
            if is_context(name.tag, DNS_NAME) {
                return Some(name.contents);
            }
        }
    })
}

fn common_names(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    let read = |bytes| Elements::of(bytes).ok();
    let mut sets = only(subject, Tag::Sequence).ok().and_then(read);
    let mut set: Option<Elements<'_>> = None;
    core::iter::from_fn(move || {
        loop {
            let Some(attribute) = set.as_mut().and_then(|set| set.next().ok()) else {
                let next = sets.as_mut()?.expect(Tag::Set).ok()?;
                set = read(next.contents);
                continue;
            };
            let Some(mut parts) = read(attribute.contents) else {
                continue;
            };
            let name = parts.expect(Tag::ObjectIdentifier).ok();
            if name.is_none_or(|name| name.contents != COMMON_NAME) {
                continue;
            }
            match parts.next() {
                Ok(value) if is_plain_string(value.tag) => return Some(value.contents),
                _ => {}
            }
        }
    })
}

/// Strings of one octet a character, where that is ASCII.
fn is_plain_string(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::Utf8String | Tag::PrintableString | Tag::TeletexString | Tag::Ia5String
    )
}
