//! Mail from strangers to domains of ours: it is checked by SPF, DKIM, ARC and DMARC, and what came
//! of that stands on top of it in Authentication-Results (RFC 8601), where nobody else's word stands
//! for ours.
//!
//! Nothing is refused for what was found: that is for whoever reads the mail. But where SPF doesn't
//! say that the sender's address is the sender's, nobody is told of what becomes of the message:
//! notifications about forged mail hit those whose address was used.

use std::time::Duration;

use bytes::Bytes;
use courser_core::auth::arc::ArcVerifier;
use courser_core::auth::inbound::{Checks, SpfChecked, kept};
use courser_core::auth::{dkim, dmarc, spf};
use courser_core::mail::header::{Header, HeaderTooLong};
use courser_core::time::Wall;

use crate::net::{clock, ring};
use crate::shard::Shard;

/// How long DNS is asked for one message; what wasn't answered by then counts as a timeout. Clients
/// wait ten minutes (RFC 5321 4.5.3.2.6).
const CHECKED_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a body that are hashed before the sockets have their turn.
const HASHED_AT_ONCE: usize = 256 << 10;

/// A message from outside, and from whom.
pub struct Arrival<'a> {
    /// Our trace field, as it stands on top of it.
    pub trace: &'a [u8],
    /// The message as it came.
    pub message: &'a [u8],
    /// The client.
    pub client: std::net::IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// The reverse-path without brackets.
    pub sender: &'a str,
    /// Whether it may have a header beyond ASCII.
    pub smtputf8: bool,
    /// When it came.
    pub now: Wall,
}

/// What came of the checks.
pub struct Checked {
    /// The message with our fields on top.
    pub content: Bytes,
    /// Whether SPF says that the sender's address is the sender's.
    pub is_senders: bool,
}

/// Checks a message. `id` is our authserv-id, `ours` are all that readers of our results trust.
///
/// # Errors
/// Its header is too long.
pub async fn check(
    shard: &Shard,
    arrival: &Arrival<'_>,
    id: &str,
    ours: &[&str],
) -> Result<Checked, HeaderTooLong> {
    let (header, body) = Header::of(arrival.message)?;
    let until = clock::now() + CHECKED_WITHIN;
    let mut verifier = dkim::Verifier::new(header, arrival.now);
    let mut chain = ArcVerifier::new(header, arrival.now);
    if verifier.wants_body() || chain.wants_body() {
        for piece in body.chunks(HASHED_AT_ONCE) {
            verifier.update(piece);
            chain.update(piece);
            if piece.len() == HASHED_AT_ONCE {
                ring::breathe().await;
            }
        }
    }
    let request = spf::Request {
        ip: arrival.client,
        mail_from: arrival.sender,
        helo: arrival.helo,
        receiver: Some(id),
        now: arrival.now,
        explain: false,
    };
    let spf = shard.evaluate(spf::Check::new(&request), until).await;
    let dkim = shard.evaluate(verifier.finish(), until).await;
    let arc = shard.evaluate(chain.finish(), until).await;
    let mut checks = Checks {
        spf: Some(SpfChecked {
            report: &spf,
            mail_from: arrival.sender,
            helo: arrival.helo,
        }),
        dkim: Some(&dkim),
        arc: Some(&arc),
        dmarc: None,
        utf8: arrival.smtputf8,
    };
    let (by_spf, by_dkim) = checks.identifiers();
    let author = dmarc::author(header);
    let evaluation = dmarc::Evaluation::new(author, by_spf, by_dkim, dmarc::Options::default());
    let dmarc = shard.evaluate(evaluation, until).await;
    checks.dmarc = Some(&dmarc);

    let mut field = String::new();
    // Writing to a String can't fail.
    let _ = checks.results(id).write(&mut field);
    let mut content = Vec::with_capacity(field.len() + arrival.trace.len() + arrival.message.len());
    content.extend_from_slice(field.as_bytes());
    content.extend_from_slice(arrival.trace);
    for piece in kept(header, ours) {
        content.extend_from_slice(piece);
    }
    let rest = arrival.message.get(header.as_bytes().len()..);
    content.extend_from_slice(rest.unwrap_or_default());
    Ok(Checked {
        content: content.into(),
        is_senders: !arrival.sender.is_empty() && spf.result == spf::Result::Pass,
    })
}
