//! ARC: what hops on the way found, and whether their chain is whole (RFC 8617).
//!
//! ```text
//! ARC set i = ARC-Authentication-Results: i=…; authserv-id; results      what hop i found
//!             ARC-Message-Signature: i=…; a=; b=; bh=; c=; d=; h=; s=    over the message, as DKIM
//!             ARC-Seal: i=…; a=; b=; cv=; d=; s=; t=                     over sets 1 to i
//! ```
//!
//! **Validating** (5.2): `ArcVerifier::new(header)`, the body in pieces, `finish()`, and then the
//! questions for keys, as with DKIM. **Sealing** (5.1): validate what came, then [`seal`] with what
//! came of it, which becomes `cv=`.
//!
//! The latest message signature is verified, as 5.2 asks, and every seal. Older message signatures
//! are not: they are allowed to be broken, and 5.2 uses them only to guess where.

use crate::auth::canon::{Canon, field as canonical_field};
use crate::auth::dkim::fields::{Fields, canonical_signature};
use crate::auth::dkim::sign::{
    SignError, SignedField, SigningOptions, begins_folded, emit, emit_over, names, unsigned,
};
use crate::auth::dkim::signature::{Form, Signature, SignatureError, instance, signature_span};
use crate::auth::dkim::signer::Signer;
use crate::auth::dkim::tags::Tags;
use crate::auth::dkim::verify::{Bodies, Checked, Reason, has_unsigned_from};
use crate::auth::hash::{BodyHash, HashedBody};
use crate::auth::{Evaluate, Step};
use crate::dns::{Name, Outcome};
use crate::limits::ARC_SETS_MAX;
use crate::mail::header::{Field, Header, write_folded};
use crate::time::Wall;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use sha2::{Digest, Sha256};

pub use crate::auth::dkim::signature::Chain;

/// What came of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcReport {
    /// In a word; what `cv=` of the next seal says.
    pub result: Chain,
    /// The highest instance; 0 without a chain.
    pub instance: u32,
    /// In more words.
    pub reason: ArcReason,
    /// `d=` of the seals that were verified, the latest first.
    pub sealers: Vec<Name>,
}

impl ArcReport {
    /// Whether DNS may know better later. The result is [`Chain::Fail`] then, for those who can't
    /// wait.
    pub const fn is_temporary(&self) -> bool {
        matches!(
            self.reason,
            ArcReason::Message(Reason::KeyUnavailable(_))
                | ArcReason::Seal(_, Reason::KeyUnavailable(_))
        )
    }
}

/// Why a chain has its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArcReason {
    /// There is none.
    NoChain,
    /// All of it is right.
    Whole,
    /// An instance over [`ARC_SETS_MAX`] (4.2.1).
    TooManySets,
    /// A field says no instance.
    NoInstance,
    /// A field comes twice in this set (5.2 step 3).
    Twice(u32),
    /// A field is missing of this set (5.2 step 3).
    Missing(u32),
    /// The latest seal says that the chain had failed before (5.2 step 2).
    FailedBefore,
    /// `cv=` of this seal is not what it must be (5.2 step 3).
    Chain(u32),
    /// The latest message signature can't be read.
    MessageSyntax(SignatureError),
    /// The seal of this set can't be read.
    SealSyntax(u32, SignatureError),
    /// The latest message signature does not verify (5.2 step 4).
    Message(Reason),
    /// The seal of this set does not verify (5.2 step 6).
    Seal(u32, Reason),
}

impl fmt::Display for ArcReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChain => f.write_str("no ARC set"),
            Self::Whole => f.write_str("all seals and the latest message signature are good"),
            Self::TooManySets => write!(f, "more than {ARC_SETS_MAX} ARC sets"),
            Self::NoInstance => f.write_str("an ARC field without an instance (i=)"),
            Self::Twice(i) => write!(f, "a field of ARC set {i} comes twice"),
            Self::Missing(i) => write!(f, "a field of ARC set {i} is missing"),
            Self::FailedBefore => f.write_str("the latest seal says cv=fail"),
            Self::Chain(i) => write!(f, "cv= of seal {i} is not what it must be"),
            Self::MessageSyntax(error) => write!(f, "latest message signature: {error}"),
            Self::SealSyntax(i, error) => write!(f, "seal {i}: {error}"),
            Self::Message(reason) => write!(f, "latest message signature: {reason}"),
            Self::Seal(i, reason) => write!(f, "seal {i}: {reason}"),
        }
    }
}

/// The three fields of a set.
#[derive(Clone, Copy, Debug)]
struct Set<'a> {
    results: Field<'a>,
    message: (usize, Field<'a>),
    seal: Field<'a>,
}

/// The sets of a header, 1 first; or what is wrong with them, and the highest instance seen.
fn sets<'a>(fields: &Fields<'a>) -> Result<Vec<Set<'a>>, (ArcReason, u32)> {
    let mut found: [Vec<Option<(usize, Field<'a>)>>; 3] = [const { Vec::new() }; 3];
    let mut highest = 0;
    let mut wrong = None;
    let kinds = [
        "arc-authentication-results",
        Form::ArcMessage.name(),
        Form::ArcSeal.name(),
    ];
    for (name, found) in kinds.into_iter().zip(&mut found) {
        for (at, field) in fields.named(name) {
            let Some(instance) = instance_of(&field) else {
                wrong = wrong.or(Some(ArcReason::NoInstance));
                continue;
            };
            if instance > ARC_SETS_MAX {
                return Err((ArcReason::TooManySets, ARC_SETS_MAX));
            }
            highest = instance.max(highest);
            let place = instance as usize - 1;
            if found.len() <= place {
                found.resize(place + 1, None);
            }
            match found.get_mut(place) {
                Some(slot @ None) => *slot = Some((at, field)),
                _ => wrong = wrong.or(Some(ArcReason::Twice(instance))),
            }
        }
    }
    if let Some(wrong) = wrong {
        return Err((wrong, highest));
    }
    let [results, messages, seals] = &found;
    (0..highest)
        .map(|i| {
            let of = |found: &Vec<Option<_>>| found.get(i as usize).copied().flatten();
            match (of(results), of(messages), of(seals)) {
                (Some((_, results)), Some(message), Some((_, seal))) => Ok(Set {
                    results,
                    message,
                    seal,
                }),
                _ => Err((ArcReason::Missing(i + 1), highest)),
            }
        })
        .collect()
}

/// `i=` of an ARC field. Authentication results are no tag list, but begin with it (4.1.1).
fn instance_of(field: &Field<'_>) -> Option<u32> {
    if let Ok(tags) = Tags::parse(field.value()) {
        return instance(tags.get("i")?);
    }
    let text = field.value().split(|b| *b == b';').next()?;
    let text = core::str::from_utf8(text).ok()?;
    let (name, value) = text.split_once('=')?;
    (name.trim() == "i").then(|| instance(value.trim()))?
}

/// Takes header and body of a message whose chain is validated. See the [module](self).
#[derive(Clone, Debug)]
pub struct ArcVerifier {
    state: State,
    bodies: Bodies,
}

#[derive(Clone, Debug)]
struct State {
    report: ArcReport,
    /// What is left to verify, the next one last; empty once it is decided.
    checks: Vec<(Link, Name, Checked)>,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Message,
    Seal(u32),
}

impl ArcVerifier {
    /// Reads the chain of `header`. Times are compared with `now`.
    pub fn new(header: Header<'_>, now: Wall) -> Self {
        let mut bodies = Bodies::default();
        let fields = Fields::of(header);
        let report = |result, instance, reason| ArcReport {
            result,
            instance,
            reason,
            sealers: Vec::new(),
        };
        let mut checks = Vec::new();
        let report = match sets(&fields) {
            Err((reason, instance)) => report(Chain::Fail, instance, reason),
            Ok(sets) if sets.is_empty() => report(Chain::None, 0, ArcReason::NoChain),
            Ok(sets) => {
                let highest = u32::try_from(sets.len()).unwrap_or(ARC_SETS_MAX);
                match links(&fields, &sets, now, &mut bodies, &mut checks) {
                    Ok(()) => report(Chain::Pass, highest, ArcReason::Whole),
                    Err(reason) => {
                        checks.clear();
                        report(Chain::Fail, highest, reason)
                    }
                }
            }
        };
        Self {
            state: State { report, checks },
            bodies,
        }
    }

    /// Whether the body matters: if not, it need not be given.
    pub fn wants_body(&self) -> bool {
        !self.state.checks.is_empty()
    }

    /// Takes the next piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        self.bodies.update(piece);
    }

    /// The body is over; what is left is to ask for the keys.
    pub fn finish(self) -> ArcValidation {
        ArcValidation {
            state: self.state,
            bodies: self.bodies.finish(),
            asked: false,
        }
    }
}

/// Checks what needs neither keys nor body; what is left goes to `checks`, the last one first.
fn links(
    fields: &Fields<'_>,
    sets: &[Set<'_>],
    now: Wall,
    bodies: &mut Bodies,
    checks: &mut Vec<(Link, Name, Checked)>,
) -> Result<(), ArcReason> {
    let Some(last) = sets.last() else {
        return Ok(());
    };
    let parse = |form, field: &Field<'_>| -> Result<_, SignatureError> {
        let tags = Tags::parse(field.value())?;
        Signature::of(form, &tags).map(|s| (s.domain.clone(), s.chain))
    };
    // 5.2 step 2 comes before everything else.
    if let Ok((_, Chain::Fail)) = parse(Form::ArcSeal, &last.seal) {
        return Err(ArcReason::FailedBefore);
    }
    // Hashed once from the first set on: a seal covers what the one before it covers, and more.
    let mut sha256 = Sha256::new();
    for (i, set) in (1..).zip(sets) {
        let syntax = |error| ArcReason::SealSyntax(i, error);
        let tags = Tags::parse(set.seal.value()).map_err(|e| syntax(e.into()))?;
        let seal = Signature::of(Form::ArcSeal, &tags).map_err(syntax)?;
        // 5.2 step 3.
        let wanted = if i == 1 { Chain::None } else { Chain::Pass };
        if seal.chain != wanted {
            return Err(ArcReason::Chain(i));
        }
        for field in [&set.results, &set.message.1] {
            canonical_field(Canon::Relaxed, field.raw(), |b| sha256.update(b));
        }
        let mut own = sha256.clone();
        canonical_signature(Canon::Relaxed, &set.seal, signature_span(&tags), |b| {
            own.update(b);
        });
        canonical_field(Canon::Relaxed, set.seal.raw(), |b| sha256.update(b));
        let check = Checked::without_body(&seal, now, own.finalize().into())
            .map_err(|reason| ArcReason::Seal(i, reason))?;
        checks.push((Link::Seal(i), seal.domain, check));
    }
    let (at, field) = last.message;
    let tags =
        Tags::parse(field.value()).map_err(|error| ArcReason::MessageSyntax(error.into()))?;
    let message = Signature::of(Form::ArcMessage, &tags).map_err(ArcReason::MessageSyntax)?;
    if has_unsigned_from(fields, &message) {
        return Err(ArcReason::Message(Reason::UnsignedFrom));
    }
    let check = Checked::new(fields, at, &field, &tags, &message, now, bodies)
        .map_err(ArcReason::Message)?;
    checks.push((Link::Message, message.domain, check));
    Ok(())
}

/// The keys are asked for, one question after the other; see [`Evaluate`].
#[derive(Clone, Debug)]
pub struct ArcValidation {
    state: State,
    bodies: Vec<BodyHash>,
    asked: bool,
}

impl Evaluate for ArcValidation {
    type Output = ArcReport;

    fn step(&mut self) -> Step<ArcReport> {
        match self.state.checks.last() {
            Some((_, _, check)) => {
                self.asked = true;
                Step::Ask(check.question())
            }
            None => Step::Done(self.state.report.clone()),
        }
    }

    fn answer(&mut self, outcome: &Outcome) {
        if !core::mem::take(&mut self.asked) {
            return;
        }
        let Some((link, domain, check)) = self.state.checks.pop() else {
            return;
        };
        let verified = check
            .key(outcome, &mut false, true)
            .and_then(|key| check.verify(&key, &self.bodies));
        let report = &mut self.state.report;
        match (verified, link) {
            (Ok(()), Link::Message) => {}
            (Ok(()), Link::Seal(_)) => report.sealers.push(domain),
            (Err(reason), link) => {
                report.result = Chain::Fail;
                report.reason = match link {
                    Link::Message => ArcReason::Message(reason),
                    Link::Seal(i) => ArcReason::Seal(i, reason),
                };
                self.state.checks.clear();
            }
        }
    }
}

// -- sealing --

const fn once(name: &'static str) -> SignedField<'static> {
    SignedField { name, over: false }
}

/// What a message signature covers by default (4.1.2): as much of the message as the next hop has
/// no reason to change, DKIM signatures included.
pub const ARC_FIELDS: &[SignedField<'static>] = &[
    SignedField {
        name: "From",
        over: true,
    },
    once("To"),
    once("Cc"),
    once("Subject"),
    once("Date"),
    once("Message-ID"),
    once("Reply-To"),
    once("In-Reply-To"),
    once("References"),
    once("MIME-Version"),
    once("Content-Type"),
    once("Content-Transfer-Encoding"),
    once("List-Id"),
    once("List-Post"),
    once("List-Unsubscribe"),
    once("List-Unsubscribe-Post"),
    once("DKIM-Signature"),
];

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// A seal says `cv=fail`: the chain ends there (5.1.2).
    Ended,
    /// There are [`ARC_SETS_MAX`] sets, or more.
    TooManySets,
    /// Whether the chain is whole isn't known for now: DNS did not answer.
    Undecided,
    /// The message was changed since it was validated.
    OtherChain,
    /// Authserv-id or results are empty, or have a control character.
    Results,
    /// As in signing.
    Sign(SignError),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the chain failed before and ends there"),
            Self::TooManySets => write!(f, "there are {ARC_SETS_MAX} ARC sets already"),
            Self::Undecided => f.write_str("DNS did not say whether the chain is whole"),
            Self::OtherChain => f.write_str("this is not the chain that was validated"),
            Self::Results => f.write_str("the authentication results can't stand in a field"),
            Self::Sign(error) => error.fmt(f),
        }
    }
}
impl core::error::Error for SealError {}

impl From<SignError> for SealError {
    fn from(error: SignError) -> Self {
        Self::Sign(error)
    }
}

/// A new set, each field with its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcSet {
    /// `ARC-Authentication-Results`.
    pub results: Vec<u8>,
    /// `ARC-Message-Signature`.
    pub message: Vec<u8>,
    /// `ARC-Seal`.
    pub seal: Vec<u8>,
}

impl ArcSet {
    /// Appends the fields as they go before the header: the seal on top.
    pub fn emit(&self, out: &mut Vec<u8>) {
        for field in [&self.seal, &self.message, &self.results] {
            out.extend_from_slice(field);
        }
    }
}

/// Whether a seal says that the chain has failed, wherever it stands: what is broken is not made
/// whole by breaking it once more.
fn ended(fields: &Fields<'_>) -> bool {
    fields.named(Form::ArcSeal.name()).any(|(_, field)| {
        Tags::parse(field.value()).is_ok_and(|tags| {
            tags.get("cv")
                .is_some_and(|cv| cv.eq_ignore_ascii_case("fail"))
        })
    })
}

/// Adds a set to the chain of a message (5.1). `report` is what validating this very message gave;
/// `results` is what stands behind the authserv-id in Authentication-Results, such as
/// `spf=pass smtp.mailfrom=example.com; arc=none`. Of `options`, identity and expiry aren't used;
/// [`ARC_FIELDS`] are the fields to sign.
pub fn seal(
    header: Header<'_>,
    body: &HashedBody,
    now: Wall,
    (authserv_id, results): (&str, &str),
    report: &ArcReport,
    options: &SigningOptions<'_>,
    signer: &dyn Signer,
) -> Result<ArcSet, SealError> {
    let fields = Fields::of(header);
    match report.reason {
        _ if ended(&fields) => return Err(SealError::Ended),
        _ if report.is_temporary() => return Err(SealError::Undecided),
        _ if report.instance >= ARC_SETS_MAX => return Err(SealError::TooManySets),
        _ => {}
    }
    let text = |text: &str| !text.trim().is_empty() && !text.chars().any(char::is_control);
    let results = results.trim();
    if !text(authserv_id) || !text(results) || authserv_id.contains([';', ' ']) {
        return Err(SealError::Results);
    }
    let sets = sets(&fields);
    let found = match &sets {
        Ok(sets) => sets.len() as u64,
        Err((_, highest)) => u64::from(*highest),
    };
    if found != u64::from(report.instance) || (report.result == Chain::Pass && sets.is_err()) {
        return Err(SealError::OtherChain);
    }
    let instance = report.instance + 1;
    let mut line = String::new();
    // Writing to a String can't fail.
    let _ = write_folded(
        &mut line,
        "ARC-Authentication-Results",
        &alloc::format!("i={instance}; {authserv_id}; {results}"),
    );
    let mut set = ArcSet {
        results: line.into_bytes(),
        message: Vec::new(),
        seal: Vec::new(),
    };

    if fields.named("from").next().is_none() {
        return Err(SignError::NoFrom.into());
    }
    if begins_folded(header) {
        return Err(SignError::Continuation.into());
    }
    let arc = [
        "arc-seal",
        "arc-message-signature",
        "arc-authentication-results",
    ];
    let signed = names(&fields, options.fields, &arc)?;
    let options = SigningOptions {
        identity: None,
        valid_s: None,
        ..*options
    };
    let mut message = unsigned(Form::ArcMessage, body, now, &options, signer, &signed)?;
    message.instance = instance;
    emit(&fields, &message, signer, &mut set.message)?;

    let mut data = Vec::with_capacity(4096);
    let mut cover = |raw: &[u8]| {
        canonical_field(Canon::Relaxed, raw, |b| data.extend_from_slice(b));
    };
    // 5.1.2: the seal of a broken chain covers its own set only.
    if report.result == Chain::Pass {
        for set in sets.into_iter().flatten() {
            cover(set.results.raw());
            cover(set.message.1.raw());
            cover(set.seal.raw());
        }
    }
    cover(&set.results);
    cover(&set.message);
    let seal = Signature {
        form: Form::ArcSeal,
        chain: report.result,
        header_canon: Canon::Relaxed,
        body_hash: Vec::new(),
        signed: "",
        time: Some(now),
        ..message
    };
    emit_over(data, &seal, signer, &mut set.seal)?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::dkim::signer::tests::{ED25519, RSA_2048};
    use crate::auth::dkim::{KeySigner, PrivateKey};
    use crate::dns::{Failure, Question, Records};
    use alloc::string::ToString;
    use alloc::vec;
    use proptest::prelude::*;

    const NOW: Wall = Wall::from_unix(1_790_000_000);
    const MESSAGE: &[u8] =
        b"From: a@example.com\r\nTo: b@example.net\r\nSubject: hello\r\n\r\nHi!\r\n";

    fn keys() -> (KeySigner, KeySigner, [String; 2]) {
        let (rsa, ed) = (
            PrivateKey::parse(RSA_2048).unwrap(),
            PrivateKey::parse(ED25519).unwrap(),
        );
        let records = [rsa.record().to_string(), ed.record().to_string()];
        (rsa.signer([1; 32]), ed.signer([2; 32]), records)
    }

    fn txt(text: &str) -> Outcome {
        Outcome::Found(Records::Txt([text.as_bytes().into()].into()))
    }

    fn validate_with(message: &[u8], ask: impl FnMut(&Question) -> Outcome) -> ArcReport {
        let (header, body) = Header::of(message).unwrap();
        let mut verifier = ArcVerifier::new(header, NOW);
        for piece in body.chunks(3) {
            verifier.update(piece);
        }
        verifier.finish().run(ask)
    }

    fn validate(message: &[u8]) -> ArcReport {
        let (_, _, [rsa, ed]) = keys();
        validate_with(message, |question| match question.name.as_str() {
            "one._domainkey.rsa.example" => txt(&rsa),
            "one._domainkey.ed.example" => txt(&ed),
            _ => Outcome::NoName,
        })
    }

    /// The next hop: its set, or why not.
    fn sealed(message: &[u8], domain: &str) -> Result<Vec<u8>, SealError> {
        let (rsa, ed, _) = keys();
        let report = validate(message);
        let (domain_name, selector) = (Name::parse(domain).unwrap(), Name::parse("one").unwrap());
        let mut options = SigningOptions::new(&domain_name, &selector);
        options.fields = ARC_FIELDS;
        let (header, body) = Header::of(message).unwrap();
        let set = seal(
            header,
            &HashedBody::of(body, &[Canon::Relaxed]),
            NOW,
            (domain, "spf=pass smtp.mailfrom=example.com; arc=none"),
            &report,
            &options,
            if domain == "rsa.example" { &rsa } else { &ed },
        )?;
        let mut out = Vec::new();
        set.emit(&mut out);
        out.extend_from_slice(message);
        Ok(out)
    }

    fn replaced(message: &[u8], from: &str, to: &str) -> Vec<u8> {
        let message = core::str::from_utf8(message).unwrap();
        assert!(message.contains(from), "{message}");
        message.replacen(from, to, 1).into_bytes()
    }

    #[test]
    fn a_chain_grows_and_is_whole() {
        assert_eq!(validate(MESSAGE).result, Chain::None);
        let one = sealed(MESSAGE, "rsa.example").unwrap();
        let text = core::str::from_utf8(&one).unwrap();
        assert!(text.starts_with("ARC-Seal: i=1; a=rsa-sha256; cv=none; d=rsa.example;"));
        let report = validate(&one);
        assert_eq!((report.result, report.instance), (Chain::Pass, 1));
        let two = sealed(&one, "ed.example").unwrap();
        let three = sealed(&two, "rsa.example").unwrap();
        let report = validate(&three);
        assert_eq!((report.result, report.instance), (Chain::Pass, 3));
        assert_eq!(report.reason, ArcReason::Whole);
        let sealers: Vec<_> = report.sealers.iter().map(|d| d.as_str()).collect();
        assert_eq!(sealers, ["rsa.example", "ed.example", "rsa.example"]);
    }

    #[test]
    fn chains_that_are_broken() {
        let one = sealed(MESSAGE, "rsa.example").unwrap();
        let two = sealed(&one, "ed.example").unwrap();
        let reason = |message: &[u8]| {
            let report = validate(message);
            assert_eq!(report.result, Chain::Fail);
            report.reason
        };
        assert_eq!(
            reason(&replaced(&two, "Hi!", "Ho!")),
            ArcReason::Message(Reason::BodyHash)
        );
        assert_eq!(
            reason(&replaced(&two, "hello", "bye")),
            ArcReason::Message(Reason::WrongSignature)
        );
        // Results are sealed, and not covered by the message signature.
        assert_eq!(
            reason(&replaced(&two, "spf=pass", "spf=fail")),
            ArcReason::Seal(2, Reason::WrongSignature)
        );
        let first = replaced(&one, "spf=pass", "spf=fail");
        let first = [&two[..two.len() - one.len()], &first].concat();
        assert_eq!(reason(&first), ArcReason::Seal(2, Reason::WrongSignature));
        assert_eq!(
            reason(&replaced(&two, "cv=pass", "cv=none")),
            ArcReason::Chain(2)
        );
        assert_eq!(
            reason(&replaced(&two, "cv=none", "cv=pass")),
            ArcReason::Chain(1)
        );
        assert_eq!(
            reason(&replaced(&two, "cv=pass", "cv=fail")),
            ArcReason::FailedBefore
        );
        assert_eq!(
            reason(&replaced(&two, "ARC-Seal: i=2", "X-Seal: i=2")),
            ArcReason::Missing(2)
        );
        assert_eq!(
            reason(&replaced(&two, "ARC-Seal: i=2", "ARC-Seal: i=1")),
            ArcReason::Twice(1)
        );
        assert_eq!(
            reason(&replaced(&two, "ARC-Seal: i=2", "ARC-Seal: i=x")),
            ArcReason::NoInstance
        );
        assert_eq!(
            reason(&replaced(&two, "ARC-Seal: i=2", "ARC-Seal: i=51")),
            ArcReason::TooManySets
        );
        assert_eq!(
            reason(&replaced(&two, "cv=pass", "h=from; cv=pass")),
            ArcReason::SealSyntax(2, SignatureError::Forbidden("h"))
        );
        assert_eq!(
            reason(&replaced(&two, "d=ed.example", "d=no.example")),
            ArcReason::Seal(2, Reason::NoKey)
        );
        let late = validate_with(&two, |_| Outcome::Failed(Failure::Timeout));
        assert!(late.is_temporary() && late.result == Chain::Fail);
    }

    #[test]
    fn what_is_sealed_of_broken_chains() {
        let one = sealed(MESSAGE, "rsa.example").unwrap();
        let broken = replaced(&one, "hello", "bye");
        let two = sealed(&broken, "ed.example").unwrap();
        assert!(two.starts_with(b"ARC-Seal: i=2; a=ed25519-sha256; cv=fail;"));
        assert_eq!(validate(&two).reason, ArcReason::FailedBefore);
        assert_eq!(sealed(&two, "ed.example"), Err(SealError::Ended));
        // 5.1.2: as if it were the only set.
        let alone = &two[..two.len() - broken.len()];
        let alone = [&replaced(alone, "cv=fail", "cv=none"), MESSAGE].concat();
        assert_eq!(validate(&alone).reason, ArcReason::Missing(1));
    }

    /// Sealing `message` in the name of ed.example, after `report`.
    fn seal_after(message: &[u8], report: &ArcReport) -> Result<ArcSet, SealError> {
        let (_, ed, _) = keys();
        let (name, selector) = (
            Name::parse("ed.example").unwrap(),
            Name::parse("one").unwrap(),
        );
        let mut options = SigningOptions::new(&name, &selector);
        options.fields = ARC_FIELDS;
        let (header, body) = Header::of(message).unwrap();
        let hashed = HashedBody::of(body, &[Canon::Relaxed]);
        seal(
            header,
            &hashed,
            NOW,
            ("id.example", "arc=none"),
            report,
            &options,
            &ed,
        )
    }

    #[test]
    fn a_chain_that_ended_stays_so() {
        let one = sealed(MESSAGE, "rsa.example").unwrap();
        let two = sealed(&replaced(&one, "hello", "bye"), "ed.example").unwrap();
        for (from, to) in [
            ("ARC-Message-Signature: i=2", "X-Taken: i=2"),
            ("ARC-Seal: i=1", "ARC-Seal: i=2"),
            ("ARC-Seal: i=1", "ARC-Seal: i=51"),
            ("ARC-Seal: i=1", "ARC-Seal: i=x"),
        ] {
            let broken = replaced(&two, from, to);
            let report = validate(&broken);
            assert_eq!(report.result, Chain::Fail, "{to}");
            assert_eq!(seal_after(&broken, &report), Err(SealError::Ended), "{to}");
        }
    }

    #[test]
    fn the_seal_of_a_broken_chain_covers_its_own_set() {
        let one = replaced(&sealed(MESSAGE, "rsa.example").unwrap(), "hello", "bye");
        let set = seal_after(&one, &validate(&one)).unwrap();
        let mut data = Vec::new();
        for raw in [&set.results, &set.message] {
            canonical_field(Canon::Relaxed, raw, |b| data.extend_from_slice(b));
        }
        let (header, _) = Header::of(&set.seal).unwrap();
        let field = header.find("arc-seal").unwrap();
        let tags = Tags::parse(field.value()).unwrap();
        let seal = Signature::of(Form::ArcSeal, &tags).unwrap();
        assert_eq!((seal.instance, seal.chain), (2, Chain::Fail));
        canonical_signature(Canon::Relaxed, &field, signature_span(&tags), |b| {
            data.extend_from_slice(b);
        });
        let (_, ed, _) = keys();
        assert_eq!(ed.sign(&data).unwrap(), seal.signature);
    }

    #[test]
    fn only_what_was_validated_is_sealed() {
        let one = sealed(MESSAGE, "rsa.example").unwrap();
        let (none, whole) = (validate(MESSAGE), validate(&one));
        assert_eq!(seal_after(&one, &none), Err(SealError::OtherChain));
        assert_eq!(seal_after(MESSAGE, &whole), Err(SealError::OtherChain));
        let broken = replaced(&one, "ARC-Seal: i=1", "X-Seal: i=1");
        assert_eq!(seal_after(&broken, &whole), Err(SealError::OtherChain));
        let folded = [b" x\r\n", MESSAGE].concat();
        assert_eq!(
            seal_after(&folded, &none),
            Err(SignError::Continuation.into())
        );
        let anonymous = replaced(MESSAGE, "From:", "X-From:");
        assert_eq!(seal_after(&anonymous, &none), Err(SignError::NoFrom.into()));
    }

    #[test]
    fn every_author_is_signed() {
        let one = sealed(MESSAGE, "rsa.example").unwrap();
        // From signed once, so that the signature itself does not tell of a second one.
        let (_, ed, _) = keys();
        let (name, selector) = (
            Name::parse("ed.example").unwrap(),
            Name::parse("one").unwrap(),
        );
        let mut options = SigningOptions::new(&name, &selector);
        let fields = [once("From")];
        options.fields = &fields;
        let (header, body) = Header::of(MESSAGE).unwrap();
        let hashed = HashedBody::of(body, &[Canon::Relaxed]);
        let results = ("id.example", "arc=none");
        let report = validate(MESSAGE);
        let set = seal(header, &hashed, NOW, results, &report, &options, &ed).unwrap();
        let mut second = Vec::new();
        set.emit(&mut second);
        assert_eq!(validate(&[&second, MESSAGE].concat()).result, Chain::Pass);
        second.extend_from_slice(b"From: other@example.org\r\n");
        second.extend_from_slice(MESSAGE);
        let reason = |message: &[u8]| validate(message).reason;
        assert_eq!(reason(&second), ArcReason::Message(Reason::UnsignedFrom));
        let without = replaced(&replaced(&one, "h=From:", "h="), "From:", "To:");
        assert!(!core::str::from_utf8(&without).unwrap().contains(":From:"));
        assert_eq!(
            reason(&without),
            ArcReason::MessageSyntax(SignatureError::FromNotSigned)
        );
    }

    #[test]
    fn tags_that_a_seal_does_not_have_are_unknown() {
        let text =
            b" i=1; a=ed25519-sha256; cv=none; d=a.example; s=b; b=AAAA; c=x; l=-; x=!; q=y; t=5";
        let seal = Signature::parse(Form::ArcSeal, text).unwrap();
        assert_eq!((seal.length, seal.expires), (None, None));
        assert_eq!(seal.time, Some(Wall::from_unix(5)));
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_none() {
        let one = sealed(MESSAGE, "rsa.example").unwrap();
        let (header, body) = Header::of(&one).unwrap();
        let mut verifier = ArcVerifier::new(header, NOW);
        verifier.update(body);
        let mut validation = verifier.finish();
        validation.answer(&Outcome::NoName);
        let (_, _, [rsa, _]) = keys();
        assert_eq!(validation.run(|_| txt(&rsa)).result, Chain::Pass);
        validation.answer(&Outcome::NoName);
        assert_eq!(validation.run(|_| txt(&rsa)).result, Chain::Pass);
    }

    #[test]
    fn no_more_than_the_bound() {
        let mut message = MESSAGE.to_vec();
        for _ in 0..ARC_SETS_MAX {
            message = sealed(&message, "ed.example").unwrap();
        }
        let report = validate(&message);
        assert_eq!(
            (report.result, report.instance),
            (Chain::Pass, ARC_SETS_MAX)
        );
        assert_eq!(sealed(&message, "ed.example"), Err(SealError::TooManySets));
    }

    #[test]
    fn results_that_stand_in_no_field() {
        let (_, ed, _) = keys();
        let name = Name::parse("ed.example").unwrap();
        let (header, body) = Header::of(MESSAGE).unwrap();
        let hashed = HashedBody::of(body, &[Canon::Relaxed]);
        let report = validate(MESSAGE);
        for (id, results) in [
            ("", "none"),
            ("a b", "none"),
            ("a", " "),
            ("a", "b\r\nc: d"),
        ] {
            let options = SigningOptions::new(&name, &name);
            let set = seal(header, &hashed, NOW, (id, results), &report, &options, &ed);
            assert_eq!(set, Err(SealError::Results));
        }
    }

    proptest! {
        #[test]
        fn any_octets(tails in proptest::collection::vec(
            (0..3_usize, 1..4_u32, proptest::collection::vec(any::<u8>(), 0..60)), 0..8)
        ) {
            let mut message = Vec::new();
            for (kind, i, tail) in tails {
                let name = ["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"][kind];
                message.extend_from_slice(alloc::format!("{name}: i={i}; ").as_bytes());
                message.extend_from_slice(&tail);
                message.extend_from_slice(b"\r\n");
            }
            let _ = validate(&message);
            let _ = validate_with(&message, |_| Outcome::Found(Records::Txt(vec![].into())));
        }
    }
}
