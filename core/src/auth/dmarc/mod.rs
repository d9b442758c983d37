//! DMARC (RFC 9989, and RFC 7489 before it): does a message come from the domain that its From
//! says, and what does that domain want done with one that doesn't?
//!
//! Use: [`author`] takes the domain out of the header; an [`Evaluation`] of it with what SPF and
//! DKIM found asks DNS for the policy ([`Evaluate`](crate::auth::Evaluate)) and gives a
//! [`Conclusion`].
//!
//! ```
//! use courser_core::auth::Evaluate;
//! use courser_core::auth::dmarc::{self, Checked, DmarcResult, Evaluation, Identifier, Policy};
//! use courser_core::dns::{Name, Outcome, Records};
//! use courser_core::mail::header::Header;
//!
//! let (header, _) = Header::of(b"From: Ann <ann@news.example.org>\r\n\r\n").unwrap();
//! let spf = Identifier { domain: Name::parse("example.org").unwrap(), checked: Checked::Pass };
//! let mut evaluation = Evaluation::new(dmarc::author(header), Some(spf), [], dmarc::Options::default());
//! let conclusion = evaluation.run(|question| match question.name.as_str() {
//!     "_dmarc.example.org" => Outcome::Found(Records::Txt([(*b"v=DMARC1; p=reject").into()].into())),
//!     _ => Outcome::NoName,
//! });
//! assert_eq!(conclusion.result, DmarcResult::Pass);
//! assert_eq!(conclusion.org_domain.unwrap().as_str(), "example.org");
//! assert_eq!(conclusion.policy, Some(Policy::Reject));
//! assert_eq!(conclusion.disposition, Policy::None);
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`record`] | what a domain publishes at `_dmarc` |
//! | [`uri`] | where it wants reports |
//! | `author` | whose domain it is |
//! | [`psl`] | the organizational domain without DNS |
//! | `evaluate` | the machine: discovery, alignment, policy |
//! | `conclusion` | what it comes to, and why |

mod author;
mod conclusion;
mod evaluate;
pub mod psl;
pub mod record;
#[cfg(test)]
mod tests;
pub mod uri;

pub use author::{AuthorError, author, author_of, each_author};
pub use conclusion::{Conclusion, DmarcResult, Found, Reason};
pub use evaluate::{Checked, Discovery, Evaluation, Identifier, Options};
pub use record::{Policy, Psd, Record};
pub use uri::ReportUri;
