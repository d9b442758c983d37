//! SPF (RFC 7208): whether a host may send mail for a domain.
//!
//! Use: fill a [`Request`] with what the session knows, make a [`Check`] of it, and drive it as
//! [`Evaluate`](super::Evaluate) says until it gives a [`Report`]. It asks at most
//! [`SPF_QUESTIONS_MAX`](crate::limits::SPF_QUESTIONS_MAX) questions.
//!
//! ```
//! use courser_core::auth::{Evaluate, spf};
//! use courser_core::dns::{Kind, Outcome, Question, Records};
//! use courser_core::time::Wall;
//!
//! let request = spf::Request {
//!     ip: [192, 0, 2, 7].into(),
//!     mail_from: "news@example.org",
//!     helo: "out.example.org",
//!     receiver: Some("mx.example.net"),
//!     now: Wall::from_unix(1_790_000_000),
//!     explain: true,
//! };
//! // A real caller hands the questions to its resolver.
//! let ask = |question: &Question| match (&*question.name, question.kind) {
//!     ("example.org", Kind::Txt) => {
//!         let text: Box<[u8]> = b"v=spf1 ip4:192.0.2.0/28 -all".as_slice().into();
//!         Outcome::Found(Records::Txt([text].into()))
//!     }
//!     _ => Outcome::NoName,
//! };
//! let report = spf::Check::new(&request).run(ask);
//! assert_eq!(report.result, spf::Result::Pass);
//! assert_eq!(report.mechanism.unwrap().term, "ip4:192.0.2.0/28");
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `record` | the record: its terms, and what is wrong with it |
//! | `macros` | macro-strings: `%{ir}.%{v}._spf.%{d2}` |
//! | `check` | the evaluation, check_host() |
//! | `report` | results, and errors in words |

mod check;
mod macros;
mod record;
mod report;

pub use check::{Check, Request};
pub use macros::{MacroString, Place};
pub use record::{
    Cidr, Directive, Mechanism, Modifier, Qualifier, Record, SyntaxError, Term, What,
};
pub use report::{Error, Match, Problem, Report, Result};
