//! The fields that sign: `DKIM-Signature` (RFC 6376 3.5), and the two of ARC that are like it,
//! `ARC-Message-Signature` and `ARC-Seal` (RFC 8617 4.1).
//!
//! ```text
//! v=1  a= algorithm  b= signature  bh= body hash  c= header/body canonicalization  d= domain
//! h= signed fields, ":" between them  i= identity (ARC: instance)  l= body octets  q= query method
//! s= selector  t= time  x= expiry  cv= chain validation (ARC-Seal)
//! ```
//!
//! Unknown tags are passed over (3.2). Domains may be U-labels (RFC 8616).

use super::tags::{TagError, Tags, base64, colons};
use crate::auth::canon::Canon;
use crate::dns::Name;
use crate::limits::{DKIM_SIGNED_NAMES_MAX, LINE_BYTES_WISHED};
use crate::time::Wall;
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use core::fmt;
use core::ops::Range;

/// How a signature is made (`a=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA, PKCS#1 v1.5, SHA-256 (RFC 6376 3.3).
    RsaSha256,
    /// Ed25519 over the SHA-256 hash (RFC 8463 3).
    Ed25519Sha256,
    /// Of old; never valid (RFC 8301 3.1).
    RsaSha1,
}

impl Algorithm {
    fn parse(name: &str) -> Option<Self> {
        [Self::RsaSha256, Self::Ed25519Sha256, Self::RsaSha1]
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }

    /// Its name in `a=`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
            Self::RsaSha1 => "rsa-sha1",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which of the three fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `DKIM-Signature`.
    Dkim,
    /// `ARC-Message-Signature`.
    ArcMessage,
    /// `ARC-Seal`.
    ArcSeal,
}

impl Form {
    /// The field's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dkim => "DKIM-Signature",
            Self::ArcMessage => "ARC-Message-Signature",
            Self::ArcSeal => "ARC-Seal",
        }
    }
}

/// What a seal says of the chain before it (`cv=`, RFC 8617 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chain {
    /// There was none.
    None,
    /// It was whole.
    Pass,
    /// It was broken.
    Fail,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
        })
    }
}

/// A signature field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Which field.
    pub form: Form,
    /// `a=`.
    pub algorithm: Algorithm,
    /// `b=`, decoded.
    pub signature: Vec<u8>,
    /// `bh=`, decoded; empty in an `ARC-Seal`.
    pub body_hash: Vec<u8>,
    /// `c=`, its first half.
    pub header_canon: Canon,
    /// `c=`, its second half.
    pub body_canon: Canon,
    /// `d=`.
    pub domain: Name,
    /// `s=`.
    pub selector: Name,
    /// `h=` as written; [`names`](Self::names) has its entries. Empty in an `ARC-Seal`.
    pub signed: &'a str,
    /// `i=` of DKIM, as written.
    pub identity: Option<&'a str>,
    /// `i=` of ARC; 0 in DKIM.
    pub instance: u32,
    /// `cv=` of `ARC-Seal`.
    pub chain: Chain,
    /// `l=`.
    pub length: Option<u64>,
    /// `t=`.
    pub time: Option<Wall>,
    /// `x=`.
    pub expires: Option<Wall>,
}

/// Why a value is no signature. All of these are permanent (RFC 6376 6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// It is no tag list.
    Tags(TagError),
    /// A required tag is missing.
    Missing(&'static str),
    /// A tag's value is not what it may be.
    Value(&'static str),
    /// Another version than 1.
    Version,
    /// An algorithm that is not known.
    Algorithm,
    /// `h=` lacks From (6.1.1, 5.4).
    FromNotSigned,
    /// The domain of `i=` is neither that of `d=` nor one below it (6.1.1).
    Identity,
    /// `x=` is not after `t=`.
    ExpiresFirst,
    /// More than [`DKIM_SIGNED_NAMES_MAX`] names in `h=`.
    TooManyNames,
    /// A tag that the field must not have: `h=` in an `ARC-Seal` (RFC 8617 4.1.3).
    Forbidden(&'static str),
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags(error) => write!(f, "signature syntax error: {error}"),
            Self::Missing(tag) => write!(f, "signature missing required tag {tag}="),
            Self::Value(tag) => write!(f, "signature syntax error: the value of {tag}="),
            Self::Version => f.write_str("incompatible version"),
            Self::Algorithm => f.write_str("the algorithm of a= is not known"),
            Self::FromNotSigned => f.write_str("From field not signed"),
            Self::Identity => f.write_str("domain mismatch: i= does not lie within d="),
            Self::ExpiresFirst => f.write_str("signature syntax error: x= is not after t="),
            Self::TooManyNames => {
                write!(f, "more than {DKIM_SIGNED_NAMES_MAX} names in h=")
            }
            Self::Forbidden(tag) => write!(f, "signature syntax error: {tag}= must not be there"),
        }
    }
}
impl core::error::Error for SignatureError {}

impl From<TagError> for SignatureError {
    fn from(error: TagError) -> Self {
        Self::Tags(error)
    }
}

impl<'a> Signature<'a> {
    /// Reads the value of a field.
    pub fn parse(form: Form, value: &'a [u8]) -> Result<Self, SignatureError> {
        Self::of(form, &Tags::parse(value)?)
    }

    /// Reads it from its tags.
    pub(crate) fn of(form: Form, tags: &Tags<'a>) -> Result<Self, SignatureError> {
        let required = |tag| tags.get(tag).ok_or(SignatureError::Missing(tag));
        let name = |tag| {
            let name = Name::from_domain(required(tag)?);
            name.ok()
                .filter(|name| !name.is_root())
                .ok_or(SignatureError::Value(tag))
        };
        if form == Form::Dkim && required("v")? != "1" {
            return Err(SignatureError::Version);
        }
        let algorithm = Algorithm::parse(required("a")?).ok_or(SignatureError::Algorithm)?;
        let octets = |tag| {
            base64(required(tag)?)
                .filter(|octets| !octets.is_empty())
                .ok_or(SignatureError::Value(tag))
        };
        let signature = octets("b")?;
        // RFC 8617 4.1.3: a seal has none of these; there they are unknown tags, passed over.
        let own = |tag| tags.get(tag).filter(|_| form != Form::ArcSeal);
        let (header_canon, body_canon) = canons(own("c"))?;
        let domain = name("d")?;
        let selector = name("s")?;
        let time = number(tags.get("t"), "t")?.map(wall);
        let expires = number(own("x"), "x")?.map(wall);
        let mut parsed = Self {
            form,
            algorithm,
            signature,
            body_hash: Vec::new(),
            header_canon,
            body_canon,
            domain,
            selector,
            signed: "",
            identity: None,
            instance: 0,
            chain: Chain::None,
            length: number(own("l"), "l")?,
            time,
            expires,
        };
        if expires.is_some() && expires <= time {
            return Err(SignatureError::ExpiresFirst);
        }
        if form == Form::ArcSeal {
            // RFC 8617 4.1.3: what is sealed is fixed, and relaxed.
            if tags.get("h").is_some() {
                return Err(SignatureError::Forbidden("h"));
            }
            parsed.chain = match required("cv")? {
                cv if cv.eq_ignore_ascii_case("none") => Chain::None,
                cv if cv.eq_ignore_ascii_case("pass") => Chain::Pass,
                cv if cv.eq_ignore_ascii_case("fail") => Chain::Fail,
                _ => return Err(SignatureError::Value("cv")),
            };
        } else {
            parsed.body_hash = octets("bh")?;
            if algorithm != Algorithm::RsaSha1 && parsed.body_hash.len() != 32 {
                return Err(SignatureError::Value("bh"));
            }
            parsed.signed = required("h")?;
            parsed.check_names()?;
        }
        match form {
            Form::Dkim => parsed.set_identity(tags)?,
            Form::ArcMessage | Form::ArcSeal => {
                parsed.instance = instance(required("i")?).ok_or(SignatureError::Value("i"))?;
            }
        }
        if own("q").is_some_and(|q| !colons(q).any(|method| method.eq_ignore_ascii_case("dns/txt")))
        {
            return Err(SignatureError::Value("q"));
        }
        Ok(parsed)
    }

    /// The names of the signed fields, in order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        colons(self.signed)
    }

    fn check_names(&self) -> Result<(), SignatureError> {
        let mut from = false;
        for (n, name) in self.names().enumerate() {
            if n >= DKIM_SIGNED_NAMES_MAX {
                return Err(SignatureError::TooManyNames);
            }
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(SignatureError::Value("h"));
            }
            from |= name.eq_ignore_ascii_case("from");
            // RFC 8617 4.1.2: seals come after.
            if self.form == Form::ArcMessage && name.eq_ignore_ascii_case("arc-seal") {
                return Err(SignatureError::Value("h"));
            }
        }
        // RFC 8617 4.1.2: as in DKIM.
        if !from {
            return Err(SignatureError::FromNotSigned);
        }
        Ok(())
    }

    fn set_identity(&mut self, tags: &Tags<'a>) -> Result<(), SignatureError> {
        self.identity = tags.get("i");
        let Some(identity) = self.identity else {
            return Ok(());
        };
        let (_, domain) = identity
            .rsplit_once('@')
            .ok_or(SignatureError::Value("i"))?;
        let domain = Name::from_domain(domain).map_err(|_| SignatureError::Value("i"))?;
        if domain.is_within(&self.domain) {
            Ok(())
        } else {
            Err(SignatureError::Identity)
        }
    }

    /// Whether the domain of `i=` is that of `d=` and not one below it (3.6.1, `t=s`).
    pub fn identity_is_domain(&self) -> bool {
        self.identity
            .and_then(|identity| identity.rsplit_once('@'))
            .and_then(|(_, domain)| Name::from_domain(domain).ok())
            .is_none_or(|domain| domain == self.domain)
    }

    /// The name that has the key (3.6.2.1); `None` if it would be too long.
    pub fn key_name(&self) -> Option<Name> {
        self.domain
            .under(&alloc::format!("{}._domainkey", self.selector))
            .ok()
    }

    /// Writes the field, folded before column 78, up to and with `b=`: what its own signature
    /// covers (3.7). [`emit_signature`] ends it.
    pub(crate) fn emit_unsigned(&self, out: &mut Vec<u8>) {
        let mut fold = Fold::begin(out, self.form.name());
        match self.form {
            Form::Dkim => fold.word(format_args!("v=1;")),
            Form::ArcMessage => fold.word(format_args!("i={};", self.instance)),
            Form::ArcSeal => fold.word(format_args!("i={};", self.instance)),
        }
        fold.word(format_args!("a={};", self.algorithm));
        match self.form {
            Form::ArcSeal => fold.word(format_args!("cv={};", self.chain)),
            Form::Dkim | Form::ArcMessage => {
                fold.word(format_args!("c={}/{};", self.header_canon, self.body_canon));
            }
        }
        fold.word(format_args!("d={};", self.domain));
        fold.word(format_args!("s={};", self.selector));
        if let Some(identity) = self.identity {
            fold.word(format_args!("i={identity};"));
        }
        if let Some(time) = self.time {
            fold.word(format_args!("t={};", time.unix()));
        }
        if let Some(expires) = self.expires {
            fold.word(format_args!("x={};", expires.unix()));
        }
        if self.form != Form::ArcSeal {
            let mut names = self.names().peekable();
            let mut before = "h=";
            while let Some(name) = names.next() {
                let after = if names.peek().is_some() { ":" } else { ";" };
                if before.is_empty() {
                    fold.part(format_args!("{name}{after}"));
                } else {
                    fold.word(format_args!("{before}{name}{after}"));
                }
                before = "";
            }
            fold.word(format_args!(
                "bh={};",
                Base64::encode_string(&self.body_hash)
            ));
        }
        // In one piece with the start of the signature.
        fold.line();
        fold.word(format_args!("b="));
    }
}

/// Ends a field that [`Signature::emit_unsigned`] began, from the column after ` b=`.
pub(crate) fn emit_signature(out: &mut Vec<u8>, signature: &[u8]) {
    let mut room = LINE_BYTES_WISHED - " b=".len();
    let text = Base64::encode_string(signature);
    let mut rest = text.as_bytes();
    while let Some((line, after)) = rest.split_at_checked(room) {
        out.extend_from_slice(line);
        if !after.is_empty() {
            out.extend_from_slice(b"\r\n ");
        }
        rest = after;
        room = LINE_BYTES_WISHED - 1;
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\r\n");
}

/// Writes a field in lines of at most [`LINE_BYTES_WISHED`] octets where its words allow.
pub(crate) struct Fold<'a> {
    out: &'a mut Vec<u8>,
    column: usize,
}

impl<'a> Fold<'a> {
    pub(crate) fn begin(out: &'a mut Vec<u8>, name: &str) -> Self {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        Self {
            out,
            column: name.len() + 1,
        }
    }

    /// A word after a space.
    pub(crate) fn word(&mut self, word: fmt::Arguments<'_>) {
        let before = self.out.len();
        self.out.push(b' ');
        self.put(word);
        let len = self.out.len() - before;
        if self.column > 1 && self.column + len > LINE_BYTES_WISHED {
            self.out.splice(before..before, *b"\r\n");
            self.column = 0;
        }
        self.column += len;
    }

    /// A part that may follow without a space.
    fn part(&mut self, part: fmt::Arguments<'_>) {
        let before = self.out.len();
        self.put(part);
        let len = self.out.len() - before;
        if self.column + len > LINE_BYTES_WISHED {
            self.out.splice(before..before, *b"\r\n ");
            self.column = 1;
        }
        self.column += len;
    }

    /// The next word begins a line.
    fn line(&mut self) {
        self.out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        struct Bytes<'a>(&'a mut Vec<u8>);
        impl fmt::Write for Bytes<'_> {
            fn write_str(&mut self, s: &str) -> fmt::Result {
                self.0.extend_from_slice(s.as_bytes());
                Ok(())
            }
        }
        // Writing to a Vec can't fail.
        let _ = fmt::Write::write_fmt(&mut Bytes(self.out), text);
    }
}

/// For people: who signed what how.
impl fmt::Display for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} by {} with {} ({})",
            self.form.name(),
            self.domain,
            self.selector,
            self.algorithm
        )
    }
}

/// Where everything between `b=` and the next `;` lies in the list.
pub(crate) fn signature_span(tags: &Tags<'_>) -> Range<usize> {
    tags.find("b").map_or(0..0, |tag| tag.span.clone())
}

/// RFC 8617 4.2.1: an instance, 1 to 50; larger ones are for the caller to refuse.
pub(crate) fn instance(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok().filter(|n| *n > 0)
    } else {
        None
    }
}

fn canons(value: Option<&str>) -> Result<(Canon, Canon), SignatureError> {
    let Some(value) = value else {
        return Ok((Canon::Simple, Canon::Simple));
    };
    let (header, body) = value.split_once('/').unwrap_or((value, "simple"));
    match (
        Canon::parse(header.as_bytes()),
        Canon::parse(body.as_bytes()),
    ) {
        (Some(header), Some(body)) => Ok((header, body)),
        _ => Err(SignatureError::Value("c")),
    }
}

/// Digits; more than fit are the largest number.
fn number(value: Option<&str>, tag: &'static str) -> Result<Option<u64>, SignatureError> {
    match value {
        None => Ok(None),
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        Some(_) => Err(SignatureError::Value(tag)),
    }
}

fn wall(s: u64) -> Wall {
    Wall::from_unix(i64::try_from(s).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use proptest::prelude::*;

    const GOOD: &str = "v=1; a=ed25519-sha256; s=test; d=mox.example; h=from:to; b=dGVzdAo=; \
        bh=LjkN2rUhrS3zKXfH2vNgUzz5ERRJkgP9CURXBX0JP0Q= ; c=simple/relaxed; l=10; \
        i=\"\"@sub.mox.example; q= dns/txt:other; t=10; x=100; z=From:x; unknown = any";

    #[test]
    fn reads_every_tag() {
        let s = Signature::parse(Form::Dkim, GOOD.as_bytes()).unwrap();
        assert_eq!(s.algorithm, Algorithm::Ed25519Sha256);
        assert_eq!(
            (s.header_canon, s.body_canon),
            (Canon::Simple, Canon::Relaxed)
        );
        assert_eq!(s.names().collect::<Vec<_>>(), ["from", "to"]);
        assert_eq!(s.length, Some(10));
        assert_eq!(s.time, Some(Wall::from_unix(10)));
        assert_eq!(s.expires, Some(Wall::from_unix(100)));
        assert_eq!(s.signature, b"test\n");
        assert!(!s.identity_is_domain());
        assert_eq!(
            s.key_name().unwrap().as_str(),
            "test._domainkey.mox.example"
        );
        assert_eq!(
            s.to_string(),
            "DKIM-Signature by mox.example with test (ed25519-sha256)"
        );
    }

    #[test]
    fn refuses() {
        use SignatureError::*;
        for (from, to, error) in [
            ("v=1; ", "", Missing("v")),
            ("v=1", "v=2", Version),
            ("a=ed25519-sha256; ", "", Missing("a")),
            ("ed25519-sha256", "rsa-md5", Algorithm),
            ("b=dGVzdAo=; ", "", Missing("b")),
            ("b=dGVzdAo=", "b=", Value("b")),
            ("b=dGVzdAo=", "b=!", Value("b")),
            ("bh=Ljk", "bh=", Value("bh")),
            ("d=mox.example; ", "", Missing("d")),
            ("d=mox.example", "d=.", Value("d")),
            ("s=test; ", "", Missing("s")),
            ("s=test", "s=a..b", Value("s")),
            ("h=from:to", "h=to", FromNotSigned),
            ("h=from:to", "h=from::to", Value("h")),
            ("h=from:to; ", "", Missing("h")),
            ("@sub.mox", "@other", Identity),
            ("i=\"\"@sub.mox.example", "i=mox.example", Value("i")),
            ("x=100", "x=10", ExpiresFirst),
            ("x=100", "x=", Value("x")),
            ("t=10", "t=-1", Value("t")),
            ("l=10", "l=ten", Value("l")),
            ("simple/relaxed", "simple/odd", Value("c")),
            ("dns/txt", "http", Value("q")),
            ("unknown = any", "v=1", Tags(TagError::Duplicate)),
        ] {
            let text = GOOD.replace(from, to);
            assert_eq!(
                Signature::parse(Form::Dkim, text.as_bytes()),
                Err(error),
                "{text}"
            );
        }
        let many = GOOD.replace("from:to", &"from:".repeat(DKIM_SIGNED_NAMES_MAX));
        let many = many.replace("from:;", "from:to;");
        assert_eq!(
            Signature::parse(Form::Dkim, many.as_bytes()),
            Err(TooManyNames)
        );
    }

    #[test]
    fn arc_fields() {
        let ams = GOOD
            .replace("v=1; ", "")
            .replace("i=\"\"@sub.mox.example", "i=3");
        let s = Signature::parse(Form::ArcMessage, ams.as_bytes()).unwrap();
        assert_eq!(s.instance, 3);
        let seal = "i=1; a=rsa-sha256; cv=None; d=a.example; s=x; t=1; b=YQ==";
        let s = Signature::parse(Form::ArcSeal, seal.as_bytes()).unwrap();
        assert_eq!((s.chain, s.instance), (Chain::None, 1));
        for (from, to, error) in [
            ("i=1", "i=0", SignatureError::Value("i")),
            ("i=1; ", "", SignatureError::Missing("i")),
            ("cv=None", "cv=maybe", SignatureError::Value("cv")),
            ("t=1", "h=from", SignatureError::Forbidden("h")),
        ] {
            let seal = seal.replace(from, to);
            assert_eq!(Signature::parse(Form::ArcSeal, seal.as_bytes()), Err(error));
        }
        let ams = ams.replace("from:to", "from:arc-seal");
        assert!(Signature::parse(Form::ArcMessage, ams.as_bytes()).is_err());
    }

    fn label() -> impl Strategy<Value = String> {
        "[a-z]([a-z0-9-]{0,20}[a-z0-9])?"
    }

    proptest! {
        #[test]
        fn any_octets(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            for form in [Form::Dkim, Form::ArcMessage, Form::ArcSeal] {
                let _ = Signature::parse(form, &value);
            }
        }

        #[test]
        fn reads_what_it_writes(
            octets in proptest::collection::vec(any::<u8>(), 1..512),
            hash in any::<[u8; 32]>(),
            names in proptest::collection::vec("[A-Za-z-]{1,40}", 0..30),
            domain in proptest::collection::vec(label(), 1..5),
            selector in label(),
            time in proptest::option::of(0_u32..2_000_000_000),
            form in prop_oneof![Just(Form::Dkim), Just(Form::ArcMessage), Just(Form::ArcSeal)],
        ) {
            let mut signed = String::from("From");
            for name in names.iter().filter(|n| !n.eq_ignore_ascii_case("arc-seal")) {
                signed.push(':');
                signed.push_str(name);
            }
            let time = time.map(|t| Wall::from_unix(t.into()));
            let domain = domain.join(".");
            let identity = alloc::format!("@{domain}");
            let seal = form == Form::ArcSeal;
            let signature = Signature {
                form,
                algorithm: Algorithm::RsaSha256,
                signature: octets,
                body_hash: if seal { Vec::new() } else { hash.to_vec() },
                header_canon: if seal { Canon::Simple } else { Canon::Relaxed },
                body_canon: Canon::Simple,
                domain: Name::parse(&domain).unwrap(),
                selector: Name::parse(&selector).unwrap(),
                signed: if seal { "" } else { &signed },
                identity: (form == Form::Dkim).then_some(&*identity),
                instance: if form == Form::Dkim { 0 } else { 7 },
                chain: if seal { Chain::Pass } else { Chain::None },
                length: None,
                time,
                expires: time.filter(|_| !seal).map(|t| t.plus_s(60)),
            };
            let mut out = Vec::new();
            signature.emit_unsigned(&mut out);
            prop_assert!(out.ends_with(b"\r\n b="));
            emit_signature(&mut out, &signature.signature);
            let text = core::str::from_utf8(&out).unwrap();
            for line in text.strip_suffix("\r\n").unwrap().split("\r\n") {
                let word_too_long = line.split(' ').any(|w| w.len() > 70);
                prop_assert!(line.len() <= LINE_BYTES_WISHED || word_too_long, "{text}");
            }
            let value = out.get(form.name().len() + 1..).unwrap();
            let read = Signature::parse(form, value).unwrap();
            prop_assert_eq!(read.names().collect::<Vec<_>>(), signature.names().collect::<Vec<_>>());
            prop_assert_eq!(Signature { signed: signature.signed, ..read }, signature);
        }
    }
}
