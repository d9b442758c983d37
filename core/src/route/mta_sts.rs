//! MTA-STS (RFC 8461): a domain says that its mail comes over TLS, and to which hosts.
//!
//! How it is used, for the domain that mail goes to (a smart host's own, where one is configured,
//! 3.4; never a parent's, and not for an address literal):
//!
//! 1. Ask [`question`], and give what came of it to [`Known::decide`] with what is [`Known`] of the
//!    domain, or to [`Cache::decide`]. It says [`Decision::Without`], [`Decision::Use`] or
//!    [`Decision::Fetch`].
//! 2. To fetch, get [`policy_url`] by HTTPS with a certificate that is valid for [`policy_host`],
//!    following no redirect, for a minute and
//!    [`MTA_STS_POLICY_BYTES_MAX`](crate::limits::MTA_STS_POLICY_BYTES_MAX) at the most (3.3), and
//!    give what comes to [`read_response`]. Tell [`Known::fetched`] or [`Known::failed`], and
//!    decide again.
//! 3. A policy in force has its [`Mode`] and says which hosts it [allows](Policy::allows) (4.1);
//!    [`Applied::to`] makes of it what it means for a plan. Before a delivery fails for good because of it, DNS has to be asked again (5.1).
//!
//! ```
//! use courser_core::dns::{Name, Outcome, Records};
//! use courser_core::route::mta_sts::{Decision, Known, Mode, policy_url, question, read_response};
//! use courser_core::time::Wall;
//!
//! let now = Wall::from_unix(1_790_000_000); // the clock
//! let domain = Name::parse("example.net").unwrap();
//! assert_eq!(question(&domain).unwrap().to_string(), "_mta-sts.example.net TXT");
//! let dns = Outcome::Found(Records::Txt([b"v=STSv1; id=20270101".as_slice().into()].into()));
//!
//! let mut known = Known::default();
//! let Decision::Fetch(id) = known.decide(&dns, now) else { panic!() };
//! assert_eq!(policy_url(&domain), "https://mta-sts.example.net/.well-known/mta-sts.txt");
//! let body = b"version: STSv1\r\nmode: enforce\r\nmx: *.example.net\r\nmax_age: 604800\r\n";
//! let policy = read_response(200, Some("text/plain; charset=utf-8"), body).unwrap();
//! known.fetched(policy, Some(id.clone()), now);
//!
//! let Decision::Use { cached, refresh: false } = known.decide(&dns, now) else { panic!() };
//! assert_eq!(cached.policy.mode, Mode::Enforce);
//! assert!(cached.policy.allows("mx1.example.net") && !cached.policy.allows("mx.example.org"));
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `record` | the TXT record |
//! | `policy` | the policy: read, written, asked |
//! | `known` | what is known of a domain, and what to do next |
//! | `cache` | what is known of all of them |
//! | `apply` | what a policy makes of a plan |

mod apply;
mod cache;
mod known;
mod policy;
mod record;

pub use apply::Applied;
pub use cache::Cache;
pub use known::{Cached, Decision, FetchFailure, FetchFault, Known};
pub use policy::{Mode, MxPattern, Policy, PolicyError, ResponseError, read_response};
pub use record::{PolicyId, Record, policy_host, policy_url, published, question};
