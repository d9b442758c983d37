//! Verifying (RFC 6376 6, RFC 8301, RFC 8463): header first, body in pieces, then the keys.
//!
//! ```text
//! Verifier::new(header) → update(body)… → finish() → Verification: Evaluate → Report
//! ```
//!
//! What comes of a signature, in the words of RFC 8601 2.7.1:
//!
//! | status | when |
//! |---|---|
//! | pass | it is right |
//! | fail | the body or a signed field was changed, or the key is another |
//! | permerror | whatever else RFC 6376 calls PERMFAIL: syntax, expiry, no key, a key that may not … |
//! | temperror | the key could not be had for now |
//! | policy | it is right or may be, and isn't taken: an RSA key under 1024 bits (RFC 8301 3.2), octets behind `l=` (8.2), a second From that isn't signed (8.15), `t=` in the future |
//! | neutral | it is wrong, and the key says that the domain only tests (`t=y`) |
//!
//! A body of which `l=` covers a part only is not a pass, because anybody can write the rest.

use super::fields::{Fields, canonical_signature};
use super::key::{KeyError, KeyRecord, KeyType, PublicKey, RecordError};
use super::signature::{Algorithm, Form, Signature, SignatureError, signature_span};
use super::tags::Tags;
use crate::auth::canon::Canon;
use crate::auth::hash::{BodyHash, BodyHasher};
use crate::auth::{Evaluate, Step};
use crate::dns::{Failure, Kind, Name, Outcome, Question, Records};
use crate::limits::{DKIM_CLOCK_SKEW_S_MAX, DKIM_SIGNATURES_MAX, DKIM_VERIFY_RSA_BITS_MIN};
use crate::mail::header::{Field, Header};
use crate::time::Wall;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use sha2::{Digest, Sha256};

/// What comes of a signature (RFC 8601 2.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// There is none.
    None,
    /// It is right.
    Pass,
    /// It is wrong.
    Fail,
    /// It isn't taken.
    Policy,
    /// It counts neither way.
    Neutral,
    /// It may be known later.
    TempError,
    /// It can't be verified.
    PermError,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        })
    }
}

/// Why a signature has its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Everything is right.
    Verified,
    /// The field is no signature.
    Signature(SignatureError),
    /// RFC 8301 3.1.
    RsaSha1,
    /// `x=` is past (6.1.1).
    Expired,
    /// `t=` is more than [`DKIM_CLOCK_SKEW_S_MAX`] ahead of now.
    Future,
    /// `s=` and `d=` together are no domain name.
    KeyName,
    /// DNS did not answer (6.1.2 step 2).
    KeyUnavailable(Failure),
    /// DNS has no key (6.1.2 step 3).
    NoKey,
    /// What DNS has is no key record (6.1.2 step 5).
    Record(RecordError),
    /// `h=` of the key lacks the hash (6.1.2 step 6).
    HashNotAllowed,
    /// `p=` is empty (6.1.2 step 7).
    Revoked,
    /// `k=` does not fit `a=` (6.1.2 step 9, 3.6.1).
    KeyType,
    /// `s=` of the key lacks mail (3.6.1).
    NotForEmail,
    /// `t=s`, and the domain of `i=` is below that of `d=` (3.6.1).
    IdentityNotDomain,
    /// The key's octets can't be used.
    Key(KeyError),
    /// `l=` is more than the body has (3.5).
    LengthTooLong,
    /// The body was changed (6.1.3).
    BodyHash,
    /// A signed field was changed, or the key is another (6.1.3).
    WrongSignature,
    /// There is body behind what `l=` covers.
    UnsignedTail,
    /// A From is not among the signed ones.
    UnsignedFrom,
}

impl Reason {
    /// The status that it makes.
    pub const fn status(self) -> Status {
        match self {
            Self::Verified => Status::Pass,
            Self::BodyHash | Self::WrongSignature => Status::Fail,
            Self::KeyUnavailable(_) => Status::TempError,
            Self::Key(KeyError::TooShort)
            | Self::UnsignedTail
            | Self::UnsignedFrom
            | Self::Future => Status::Policy,
            Self::Signature(_)
            | Self::RsaSha1
            | Self::Expired
            | Self::KeyName
            | Self::NoKey
            | Self::Record(_)
            | Self::HashNotAllowed
            | Self::Revoked
            | Self::KeyType
            | Self::NotForEmail
            | Self::IdentityNotDomain
            | Self::Key(KeyError::Malformed | KeyError::TooLong)
            | Self::LengthTooLong => Status::PermError,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "good signature",
            Self::Signature(error) => return error.fmt(f),
            Self::RsaSha1 => "rsa-sha1 is no longer valid (RFC 8301)",
            Self::Expired => "signature expired",
            Self::Future => "signed in the future",
            Self::KeyName => "the selector and the domain make no domain name",
            Self::KeyUnavailable(failure) => return write!(f, "key unavailable: {failure}"),
            Self::NoKey => "no key for signature",
            Self::Record(error) => return write!(f, "key syntax error: {error}"),
            Self::HashNotAllowed => "inappropriate hash algorithm: the key does not allow sha256",
            Self::Revoked => "key revoked",
            Self::KeyType => "inappropriate key algorithm: the key is of another kind",
            Self::NotForEmail => "the key is not for mail (s=)",
            Self::IdentityNotDomain => "i= is below d=, which the key forbids (t=s)",
            Self::Key(KeyError::TooShort) => {
                return write!(
                    f,
                    "weak key: RSA of fewer than {DKIM_VERIFY_RSA_BITS_MIN} bits"
                );
            }
            Self::Key(error) => return write!(f, "key syntax error: {error}"),
            Self::LengthTooLong => "l= is more than the body has",
            Self::BodyHash => "body hash did not verify",
            Self::WrongSignature => "signature did not verify",
            Self::UnsignedTail => "the body goes on behind what l= signed",
            Self::UnsignedFrom => "there is a From field that is not signed",
        })
    }
}

/// What came of one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// In a word.
    pub status: Status,
    /// In more words.
    pub reason: Reason,
    /// `d=`, where it can be read.
    pub domain: Option<Name>,
    /// `s=`, where it can be read.
    pub selector: Option<Name>,
    /// `a=`, where the field can be read.
    pub algorithm: Option<Algorithm>,
    /// `i=`, as written.
    pub identity: Option<Box<str>>,
    /// The key says that the domain only tests DKIM (`t=y`): whoever decides by a pass should
    /// treat it as no signature (3.6.1).
    pub testing: bool,
    /// The first eight characters of `b=`, which tell signatures apart (RFC 6008).
    pub tag: Box<str>,
}

/// What came of all signatures of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each that was evaluated, in the order of the header.
    pub signatures: Vec<Verdict>,
    /// How many more there were than [`DKIM_SIGNATURES_MAX`].
    pub not_evaluated: usize,
}

impl Report {
    /// In a word, for the message as a whole: pass if any signature passes; otherwise what leaves
    /// most hope.
    pub fn status(&self) -> Status {
        [
            Status::Pass,
            Status::TempError,
            Status::Policy,
            Status::Neutral,
            Status::Fail,
            Status::PermError,
        ]
        .into_iter()
        .find(|status| self.signatures.iter().any(|s| s.status == *status))
        .unwrap_or(Status::None)
    }
}

/// Takes header and body. See the [module](self) for the order of calls.
#[derive(Clone, Debug)]
pub struct Verifier {
    signatures: Vec<Evaluated>,
    bodies: Bodies,
    not_evaluated: usize,
}

#[derive(Clone, Debug)]
struct Evaluated {
    verdict: Verdict,
    /// What is needed to go on; `None` once it is decided.
    open: Option<Checked>,
    unsigned_from: bool,
    identity_is_domain: bool,
}

impl Verifier {
    /// Reads the signatures of `header`. Times are compared with `now`.
    pub fn new(header: Header<'_>, now: Wall) -> Self {
        let fields = Fields::of(header);
        let mut bodies = Bodies::default();
        let all = fields.named("dkim-signature");
        let signatures: Vec<_> = all
            .take(DKIM_SIGNATURES_MAX)
            .map(|(at, field)| Evaluated::new(&fields, at, &field, now, &mut bodies))
            .collect();
        let found = fields.named("dkim-signature").count();
        Self {
            not_evaluated: found - signatures.len(),
            signatures,
            bodies,
        }
    }

    /// Whether there is anything to verify: if not, the body need not be given.
    pub fn wants_body(&self) -> bool {
        self.signatures.iter().any(|s| s.open.is_some())
    }

    /// Takes the next piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        self.bodies.update(piece);
    }

    /// The body is over; what is left is to ask for the keys.
    pub fn finish(self) -> Verification {
        Verification {
            signatures: self.signatures,
            bodies: self.bodies.finish(),
            not_evaluated: self.not_evaluated,
            at: 0,
            asked: false,
        }
    }
}

impl Evaluated {
    fn new(
        fields: &Fields<'_>,
        at: usize,
        field: &Field<'_>,
        now: Wall,
        bodies: &mut Bodies,
    ) -> Self {
        let mut this = Self {
            verdict: Verdict {
                status: Status::PermError,
                reason: Reason::Verified,
                domain: None,
                selector: None,
                algorithm: None,
                identity: None,
                testing: false,
                tag: Box::from(""),
            },
            open: None,
            unsigned_from: false,
            identity_is_domain: true,
        };
        let tags = match Tags::parse(field.value()) {
            Ok(tags) => tags,
            Err(error) => {
                this.decide(Reason::Signature(error.into()));
                return this;
            }
        };
        let name = |tag| tags.get(tag).and_then(|name| Name::from_domain(name).ok());
        this.verdict.domain = name("d");
        this.verdict.selector = name("s");
        this.verdict.identity = tags.get("i").map(Box::from);
        this.verdict.tag = tags
            .get("b")
            .unwrap_or("")
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(8)
            .collect();
        let signature = match Signature::of(Form::Dkim, &tags) {
            Ok(signature) => signature,
            Err(error) => {
                this.decide(Reason::Signature(error));
                return this;
            }
        };
        this.verdict.algorithm = Some(signature.algorithm);
        this.identity_is_domain = signature.identity_is_domain();
        this.unsigned_from = has_unsigned_from(fields, &signature);
        match Checked::new(fields, at, field, &tags, &signature, now, bodies) {
            Ok(open) => this.open = Some(open),
            Err(reason) => this.decide(reason),
        }
        this
    }

    fn decide(&mut self, reason: Reason) {
        self.open = None;
        self.verdict.reason = reason;
        self.verdict.status = match reason.status() {
            // 3.6.1: no worse than unsigned.
            Status::Fail if self.verdict.testing => Status::Neutral,
            status => status,
        };
    }

    fn judge(&mut self, outcome: &Outcome, bodies: &[BodyHash]) {
        let Some(open) = self.open.take() else {
            return;
        };
        let reason = match open.key(outcome, &mut self.verdict.testing, self.identity_is_domain) {
            Ok(key) => open.verify(&key, bodies).map_or_else(
                |reason| reason,
                |()| {
                    if self.unsigned_from {
                        Reason::UnsignedFrom
                    } else {
                        Reason::Verified
                    }
                },
            ),
            Err(reason) => reason,
        };
        self.decide(reason);
    }
}

/// The keys are asked for, one question after the other; see [`Evaluate`].
#[derive(Clone, Debug)]
pub struct Verification {
    signatures: Vec<Evaluated>,
    bodies: Vec<BodyHash>,
    not_evaluated: usize,
    at: usize,
    asked: bool,
}

impl Evaluate for Verification {
    type Output = Report;

    /// After it was [`Step::Done`], an empty report.
    fn step(&mut self) -> Step<Report> {
        while let Some(signature) = self.signatures.get(self.at) {
            if let Some(open) = &signature.open {
                self.asked = true;
                return Step::Ask(open.question());
            }
            self.at += 1;
        }
        let signatures = core::mem::take(&mut self.signatures);
        Step::Done(Report {
            signatures: signatures.into_iter().map(|s| s.verdict).collect(),
            not_evaluated: core::mem::take(&mut self.not_evaluated),
        })
    }

    fn answer(&mut self, outcome: &Outcome) {
        if core::mem::take(&mut self.asked)
            && let Some(signature) = self.signatures.get_mut(self.at)
        {
            signature.judge(outcome, &self.bodies);
        }
    }
}

// -- what DKIM and ARC share --

/// Whether there are more From fields than are signed (8.15).
pub(crate) fn has_unsigned_from(fields: &Fields<'_>, signature: &Signature<'_>) -> bool {
    let signed = signature.names().filter(|n| n.eq_ignore_ascii_case("from"));
    fields.named("from").count() > signed.count()
}

/// The body hashes that signatures of one message ask for, each made once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bodies {
    wanted: Vec<(Canon, Option<u64>)>,
    hashers: Vec<BodyHasher>,
}

impl Bodies {
    fn want(&mut self, canon: Canon, limit: Option<u64>) -> usize {
        let wanted = (canon, limit);
        if let Some(at) = self.wanted.iter().position(|w| *w == wanted) {
            return at;
        }
        self.wanted.push(wanted);
        self.hashers.push(BodyHasher::new(canon, limit));
        self.hashers.len() - 1
    }

    pub(crate) fn update(&mut self, piece: &[u8]) {
        for hasher in &mut self.hashers {
            hasher.update(piece);
        }
    }

    pub(crate) fn finish(self) -> Vec<BodyHash> {
        self.hashers.into_iter().map(BodyHasher::finish).collect()
    }
}

/// A signature that may be right: what is left is the key and the body.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    algorithm: Algorithm,
    key_name: Name,
    signature: Vec<u8>,
    /// SHA-256 of what is signed.
    hash: [u8; 32],
    body: Option<Wanted>,
}

#[derive(Clone, Debug)]
struct Wanted {
    /// Which of the [`Bodies`].
    at: usize,
    hash: Vec<u8>,
    length: Option<u64>,
}

impl Checked {
    /// Checks what needs neither key nor body, and hashes the header.
    pub(crate) fn new(
        fields: &Fields<'_>,
        at: usize,
        field: &Field<'_>,
        tags: &Tags<'_>,
        signature: &Signature<'_>,
        now: Wall,
        bodies: &mut Bodies,
    ) -> Result<Self, Reason> {
        let mut this = Self::before_hash(signature, now)?;
        let mut sha256 = Sha256::new();
        let canon = signature.header_canon;
        fields.canonical(signature.names(), canon, Some(at), |b| sha256.update(b));
        canonical_signature(canon, field, signature_span(tags), |b| sha256.update(b));
        this.hash = sha256.finalize().into();
        this.body = Some(Wanted {
            at: bodies.want(signature.body_canon, signature.length),
            hash: signature.body_hash.clone(),
            length: signature.length,
        });
        Ok(this)
    }

    /// The same for a signature that covers no body, of which the caller made the hash.
    pub(crate) fn without_body(
        signature: &Signature<'_>,
        now: Wall,
        hash: [u8; 32],
    ) -> Result<Self, Reason> {
        let mut this = Self::before_hash(signature, now)?;
        this.hash = hash;
        Ok(this)
    }

    fn before_hash(signature: &Signature<'_>, now: Wall) -> Result<Self, Reason> {
        if signature.algorithm == Algorithm::RsaSha1 {
            return Err(Reason::RsaSha1);
        }
        if signature.expires.is_some_and(|expires| expires < now) {
            return Err(Reason::Expired);
        }
        if signature.time > Some(now.plus_s(DKIM_CLOCK_SKEW_S_MAX)) {
            return Err(Reason::Future);
        }
        Ok(Self {
            algorithm: signature.algorithm,
            key_name: signature.key_name().ok_or(Reason::KeyName)?,
            signature: signature.signature.clone(),
            hash: [0; 32],
            body: None,
        })
    }

    pub(crate) fn question(&self) -> Question {
        Question::new(self.key_name.clone(), Kind::Txt)
    }

    /// The key in `outcome`, if this signature may be of it (6.1.2).
    pub(crate) fn key(
        &self,
        outcome: &Outcome,
        testing: &mut bool,
        identity_is_domain: bool,
    ) -> Result<PublicKey, Reason> {
        let texts = match outcome {
            Outcome::Found(Records::Txt(texts)) => texts,
            Outcome::Failed(failure) => return Err(Reason::KeyUnavailable(*failure)),
            Outcome::Found(_) | Outcome::NoData | Outcome::NoName => return Err(Reason::NoKey),
        };
        // 3.6.2.2: there should be one; of several, the first that is a key record.
        let mut error = Reason::NoKey;
        let mut record = None;
        for text in texts {
            match KeyRecord::parse(text) {
                Ok(found) => {
                    record = Some(found);
                    break;
                }
                // Of something else.
                Err(RecordError::Version) => {}
                Err(e) if error == Reason::NoKey => error = Reason::Record(e),
                Err(_) => {}
            }
        }
        let record = record.ok_or(error)?;
        *testing = record.testing;
        let fits = match record.key_type {
            KeyType::Rsa => self.algorithm == Algorithm::RsaSha256,
            KeyType::Ed25519 => self.algorithm == Algorithm::Ed25519Sha256,
        };
        match record {
            _ if !record.sha256 => Err(Reason::HashNotAllowed),
            _ if record.is_revoked() => Err(Reason::Revoked),
            _ if !fits => Err(Reason::KeyType),
            _ if !record.email => Err(Reason::NotForEmail),
            _ if record.strict && !identity_is_domain => Err(Reason::IdentityNotDomain),
            _ => record.key().map_err(Reason::Key),
        }
    }

    /// Whether body and header are what was signed (6.1.3).
    pub(crate) fn verify(&self, key: &PublicKey, bodies: &[BodyHash]) -> Result<(), Reason> {
        let mut tail = false;
        if let Some(wanted) = &self.body {
            let body = bodies.get(wanted.at).ok_or(Reason::BodyHash)?;
            if wanted.length.is_some_and(|length| length > body.octets) {
                return Err(Reason::LengthTooLong);
            }
            if body.sha256.as_slice() != wanted.hash {
                return Err(Reason::BodyHash);
            }
            tail = wanted.length.is_some_and(|length| length < body.octets);
        }
        if !key.verifies(self.algorithm, &self.hash, &self.signature) {
            return Err(Reason::WrongSignature);
        }
        if tail {
            return Err(Reason::UnsignedTail);
        }
        Ok(())
    }
}
