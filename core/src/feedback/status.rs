//! Enhanced status codes and what they mean: RFC 3463 and the IANA registry "SMTP Enhanced Status
//! Codes" (RFC 3886, 4468, 4954, 5248, 6531, 6710, 7293, 7372, 7505, 8616, 8617, 8689), subject
//! by subject.
//!
//! [`meaning`] looks one up; the class digit doesn't matter for it.

use super::verdict::{Class, Scope, Stage, Verdict, permanent_by_code};
use crate::smtp::reply::{EnhancedCode, ReplyCode};

/// Whether a code can be trusted over the words beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// It names one thing.
    Exact,
    /// It names a subject only (`x.y.0`), or is what receivers say for everything (`x.7.1`).
    Vague,
}

/// Whom a code is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Is(Scope),
    /// Whom the stage is about.
    Stage,
    /// An address: the recipient's, or after MAIL the sender's.
    Address,
}

/// One row of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Second number.
    pub subject: u16,
    /// Third number.
    pub detail: u16,
    /// How far to trust it.
    pub precision: Precision,
    /// What it is about.
    pub class: Class,
    who: Who,
    /// The registry's words.
    pub text: &'static str,
}

impl Meaning {
    /// What it means with this reply code at this stage; `None` when the code says more.
    pub(super) fn verdict(&self, code: ReplyCode, stage: Stage) -> Option<Verdict> {
        // "Other" tells nothing, nor does "refused" where the stage knows better: a 421 is about
        // the lane, and who is refused before MAIL is this host's guest.
        if self.subject == 0
            || (self.precision == Precision::Vague && (stage.is_session() || code.get() == 421))
        {
            return None;
        }
        let permanent = permanent_by_code(code, stage);
        let (mut class, mut scope) = match self.who {
            Who::Is(scope) => (self.class, scope),
            Who::Stage => (self.class, stage.scope()),
            Who::Address if stage == Stage::Mail => (Class::Policy, Scope::Identity),
            Who::Address => (self.class, Scope::Recipient),
        };
        match (self.subject, self.detail) {
            // A mailbox that is disabled for now isn't one that doesn't exist.
            (2, 1) if !permanent => class = Class::Busy,
            // A protocol error about a session isn't about its message.
            (5, _) if stage.is_session() => scope = Scope::Host,
            // Too many in this transaction: try the rest in another (RFC 5321 4.5.3.1.10).
            (5, 3) => return Some(Verdict::new(class, scope, false)),
            _ => {}
        }
        match class {
            // A host that refuses for good isn't busy.
            Class::Busy if permanent => class = Class::Other,
            // 421 closes the channel: what was busy is the way, not one host.
            Class::Busy if code.get() == 421 => scope = Scope::Lane,
            _ => {}
        }
        Some(Verdict::new(class, scope, permanent))
    }
}

/// The meaning of `code`, if the registry knows it.
pub fn meaning(code: EnhancedCode) -> Option<&'static Meaning> {
    let key = (code.subject, code.detail);
    let at = MEANINGS
        .binary_search_by_key(&key, |m| (m.subject, m.detail))
        .ok()?;
    MEANINGS.get(at)
}

use Class::*;
use Precision::*;

const fn row(
    subject: u16,
    detail: u16,
    precision: Precision,
    class: Class,
    who: Who,
    text: &'static str,
) -> Meaning {
    Meaning {
        subject,
        detail,
        precision,
        class,
        who,
        text,
    }
}

/// The registry, ascending by subject and detail.
#[rustfmt::skip]
pub const MEANINGS: &[Meaning] = &[
    row(0, 0, Vague, Other, Who::Stage, "Other undefined status"),
    row(1, 0, Vague, UnknownRecipient, Who::Address, "Other address status"),
    row(1, 1, Exact, UnknownRecipient, Who::Is(Scope::Recipient), "Bad destination mailbox address"),
    row(1, 2, Exact, UnknownRecipient, Who::Is(Scope::Recipient), "Bad destination system address"),
    row(1, 3, Exact, UnknownRecipient, Who::Is(Scope::Recipient), "Bad destination mailbox address syntax"),
    row(1, 4, Exact, UnknownRecipient, Who::Is(Scope::Recipient), "Destination mailbox address ambiguous"),
    row(1, 5, Vague, Other, Who::Is(Scope::Recipient), "Destination address valid"),
    row(1, 6, Exact, UnknownRecipient, Who::Is(Scope::Recipient), "Destination mailbox has moved, no forwarding address"),
    row(1, 7, Exact, Policy, Who::Is(Scope::Identity), "Bad sender's mailbox address syntax"),
    row(1, 8, Exact, Policy, Who::Is(Scope::Identity), "Bad sender's system address"),
    row(1, 9, Exact, Other, Who::Is(Scope::Recipient), "Message relayed to non-compliant mailer"),
    row(1, 10, Exact, UnknownRecipient, Who::Is(Scope::Recipient), "Recipient address has null MX"),
    row(2, 0, Vague, Other, Who::Is(Scope::Recipient), "Other or undefined mailbox status"),
    row(2, 1, Exact, UnknownRecipient, Who::Is(Scope::Recipient), "Mailbox disabled, not accepting messages"),
    row(2, 2, Exact, MailboxFull, Who::Is(Scope::Recipient), "Mailbox full"),
    row(2, 3, Exact, TooLarge, Who::Is(Scope::Recipient), "Message length exceeds administrative limit"),
    row(2, 4, Exact, Other, Who::Is(Scope::Recipient), "Mailing list expansion problem"),
    row(3, 0, Vague, Busy, Who::Is(Scope::Host), "Other or undefined mail system status"),
    row(3, 1, Exact, Busy, Who::Is(Scope::Host), "Mail system full"),
    row(3, 2, Vague, Busy, Who::Is(Scope::Host), "System not accepting network messages"),
    row(3, 3, Exact, Protocol, Who::Is(Scope::Message), "System not capable of selected features"),
    row(3, 4, Exact, TooLarge, Who::Is(Scope::Message), "Message too big for system"),
    row(3, 5, Exact, Busy, Who::Is(Scope::Host), "System incorrectly configured"),
    row(3, 6, Exact, Other, Who::Is(Scope::Message), "Requested priority was changed"),
    row(4, 0, Vague, Network, Who::Is(Scope::Host), "Other or undefined network or routing status"),
    row(4, 1, Exact, Network, Who::Is(Scope::Host), "No answer from host"),
    row(4, 2, Exact, Network, Who::Is(Scope::Host), "Bad connection"),
    row(4, 3, Exact, Dns, Who::Is(Scope::Host), "Directory server failure"),
    row(4, 4, Exact, Dns, Who::Is(Scope::Recipient), "Unable to route"),
    row(4, 5, Exact, Busy, Who::Is(Scope::Host), "Mail system congestion"),
    row(4, 6, Exact, Relay, Who::Is(Scope::Recipient), "Routing loop detected"),
    row(4, 7, Exact, Network, Who::Is(Scope::Message), "Delivery time expired"),
    row(5, 0, Vague, Protocol, Who::Stage, "Other or undefined protocol status"),
    row(5, 1, Exact, Protocol, Who::Stage, "Invalid command"),
    row(5, 2, Exact, Protocol, Who::Stage, "Syntax error"),
    row(5, 3, Exact, TooManyRecipients, Who::Is(Scope::Message), "Too many recipients"),
    row(5, 4, Exact, Protocol, Who::Stage, "Invalid command arguments"),
    row(5, 5, Exact, Protocol, Who::Is(Scope::Host), "Wrong protocol version"),
    row(5, 6, Exact, Protocol, Who::Is(Scope::Host), "Authentication exchange line is too long"),
    row(6, 0, Vague, Content, Who::Is(Scope::Message), "Other or undefined media error"),
    row(6, 1, Exact, Content, Who::Is(Scope::Message), "Media not supported"),
    row(6, 2, Exact, Protocol, Who::Is(Scope::Message), "Conversion required and prohibited"),
    row(6, 3, Exact, Protocol, Who::Is(Scope::Message), "Conversion required but not supported"),
    row(6, 4, Exact, Protocol, Who::Is(Scope::Message), "Conversion with loss performed"),
    row(6, 5, Exact, Protocol, Who::Is(Scope::Message), "Conversion failed"),
    row(6, 6, Exact, Protocol, Who::Is(Scope::Message), "Message content not available"),
    row(6, 7, Exact, Protocol, Who::Is(Scope::Message), "Non-ASCII addresses not permitted for that sender or recipient"),
    row(6, 8, Exact, Protocol, Who::Is(Scope::Message), "UTF-8 string reply is required, but not permitted by the client"),
    row(6, 9, Exact, Protocol, Who::Is(Scope::Message), "UTF-8 header message cannot be transferred to one or more recipients"),
    row(6, 10, Exact, Protocol, Who::Is(Scope::Message), "UTF-8 string reply is required (obsolete double of x.6.8)"),
    row(7, 0, Vague, Policy, Who::Stage, "Other or undefined security status"),
    row(7, 1, Vague, Policy, Who::Stage, "Delivery not authorized, message refused"),
    row(7, 2, Exact, Policy, Who::Is(Scope::Recipient), "Mailing list expansion prohibited"),
    row(7, 3, Exact, Authentication, Who::Is(Scope::Message), "Security conversion required but not possible"),
    row(7, 4, Exact, Authentication, Who::Is(Scope::Lane), "Security features not supported"),
    row(7, 5, Exact, Authentication, Who::Is(Scope::Message), "Cryptographic failure"),
    row(7, 6, Exact, Authentication, Who::Is(Scope::Message), "Cryptographic algorithm not supported"),
    row(7, 7, Exact, Authentication, Who::Is(Scope::Message), "Message integrity failure"),
    row(7, 8, Exact, Authentication, Who::Is(Scope::Lane), "Authentication credentials invalid"),
    row(7, 9, Exact, Authentication, Who::Is(Scope::Lane), "Authentication mechanism is too weak"),
    row(7, 10, Exact, Authentication, Who::Is(Scope::Lane), "Encryption needed"),
    row(7, 11, Exact, Authentication, Who::Is(Scope::Lane), "Encryption required for requested authentication mechanism"),
    row(7, 12, Exact, Authentication, Who::Is(Scope::Lane), "A password transition is needed"),
    row(7, 13, Exact, Authentication, Who::Is(Scope::Lane), "User account disabled"),
    row(7, 14, Exact, Authentication, Who::Is(Scope::Lane), "Trust relationship required"),
    row(7, 15, Exact, Policy, Who::Is(Scope::Message), "Priority level is too low"),
    row(7, 16, Exact, TooLarge, Who::Is(Scope::Message), "Message is too big for the specified priority"),
    row(7, 17, Exact, UnknownRecipient, Who::Is(Scope::Recipient), "Mailbox owner has changed"),
    row(7, 18, Exact, UnknownRecipient, Who::Is(Scope::Recipient), "Domain owner has changed"),
    row(7, 19, Exact, Other, Who::Is(Scope::Recipient), "RRVS test cannot be completed"),
    row(7, 20, Exact, Authentication, Who::Is(Scope::Identity), "No passing DKIM signature found"),
    row(7, 21, Exact, Authentication, Who::Is(Scope::Identity), "No acceptable DKIM signature found"),
    row(7, 22, Exact, Authentication, Who::Is(Scope::Identity), "No valid author-matched DKIM signature found"),
    row(7, 23, Exact, Authentication, Who::Is(Scope::Identity), "SPF validation failed"),
    row(7, 24, Exact, Authentication, Who::Is(Scope::Identity), "SPF validation error"),
    row(7, 25, Exact, Authentication, Who::Is(Scope::Source), "Reverse DNS validation failed"),
    row(7, 26, Exact, Authentication, Who::Is(Scope::Identity), "Multiple authentication checks failed"),
    row(7, 27, Exact, Policy, Who::Is(Scope::Identity), "Sender address has null MX"),
    row(7, 28, Exact, RateLimited, Who::Is(Scope::Lane), "Mail flood detected"),
    row(7, 29, Exact, Authentication, Who::Is(Scope::Message), "ARC validation failure"),
    row(7, 30, Exact, Authentication, Who::Is(Scope::Message), "REQUIRETLS support required"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(MEANINGS.is_sorted_by(|a, b| (a.subject, a.detail) < (b.subject, b.detail)));
    }

    /// The numbers of the IANA registry, subject by subject: none missing, none made up.
    #[test]
    fn the_table_is_whole() {
        for (subject, last) in [
            (0, 0),
            (1, 10),
            (2, 4),
            (3, 6),
            (4, 7),
            (5, 6),
            (6, 10),
            (7, 30),
        ] {
            let details: std::vec::Vec<u16> = MEANINGS
                .iter()
                .filter(|m| m.subject == subject)
                .map(|m| m.detail)
                .collect();
            assert_eq!(
                details,
                (0..=last).collect::<std::vec::Vec<u16>>(),
                "x.{subject}"
            );
        }
        assert_eq!(meaning(EnhancedCode::new(5, 7, 515)), None);
        assert_eq!(
            meaning(EnhancedCode::new(4, 2, 2)).map(|m| m.class),
            Some(Class::MailboxFull)
        );
    }
}
