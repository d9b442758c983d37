//! TLS reports (RFC 8460): what a domain hears once a day about sessions to its hosts.
//!
//! How it is used by who sends mail:
//!
//! 1. Tell a [`Collector`] what each [`Session`] came to: [`Collector::add`], with the policy that it
//!    was judged by and, if it failed, the [`Failure`]. A new day takes a new collector.
//! 2. When the day is over, ask for each of its [`domains`](Collector::domains) what it
//!    [publishes](published) at [`question`]; those that want reports get
//!    [`Collector::report`] as [`to_json`](Report::to_json) and [`gzip`], by HTTPS or as a
//!    [`ReportMail`].
//!
//! And by who receives them: [`Report::read`] reads JSON as it was sent, gzipped or not,
//! [`Report::of_mail`] a mail that has one.
//!
//! ```
//! use courser_core::dns::Name;
//! use courser_core::route::tlsrpt::{
//!     AppliedPolicy, Collector, Failure, PolicyType, Report, Reporter, ResultType,
//! };
//! use courser_core::time::Wall;
//!
//! let now = Wall::from_unix(1_800_000_000); // the clock
//! let domain = Name::parse("example.net").unwrap();
//! let policy = AppliedPolicy::new(PolicyType::NoPolicyFound, &domain);
//!
//! let mut day = Collector::new(now);
//! day.add(now, &domain, &policy, None).unwrap();
//! let failure = Failure::new(ResultType::StarttlsNotSupported);
//! day.add(now, &domain, &policy, Some(&failure)).unwrap();
//!
//! let reporter = Reporter {
//!     organization: "Example Inc.",
//!     contact: "postmaster@example.org",
//!     submitter: &Name::parse("mail.example.org").unwrap(),
//! };
//! let report = day.report(&domain, &reporter).unwrap();
//! assert_eq!(report.id, "20270115.example.net@mail.example.org");
//! assert_eq!((report.policies[0].successes, report.policies[0].failures), (1, 1));
//! assert_eq!(Report::read(report.to_json().as_bytes()), Ok(report));
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `record` | the TXT record |
//! | `report` | what a report says |
//! | `json` | the same as JSON, read tolerantly |
//! | `carrier` | what it comes in: gzip, mail |
//! | `mail` | the mail that it is sent in |
//! | `session` | what a connection came to, for a report |
//! | `collect` | a day's results |

mod carrier;
mod collect;
mod json;
mod mail;
mod record;
mod report;
mod session;

pub use carrier::{ReadError, gzip};
pub use collect::{AnotherDay, Collector, Reporter, day_of};
pub use mail::ReportMail;
pub use record::{Record, published, question};
pub use report::{
    AppliedPolicy, Failure, FailureDetail, PolicyReport, PolicyType, Report, ResultType,
};
pub use session::{Session, Sts};
