//! A record as senders with several services have it, and a chain of three includes behind it.

use courser_core::auth::spf::{Check, Report, Request};
use courser_core::auth::{Evaluate, Step};
use courser_core::dns::{Kind, Name, Outcome, Question, Records};
use courser_core::time::Wall;

/// The record of the sender.
pub const RECORD: &[u8] = b"v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.17 ip6:2001:db8:17::/48 a mx \
    include:_spf.esp.example exists:%{ir}.%{v}._spf.%{d2} ?include:_spf.crm.example ~all";

/// The records that are included one after another.
const INCLUDED: [(&str, &[u8]); 3] = [
    (
        "_spf.esp.example",
        b"v=spf1 ip4:192.0.2.128/25 ip4:198.51.100.0/26 include:_netblocks.esp.example ~all",
    ),
    (
        "_netblocks.esp.example",
        b"v=spf1 ip4:198.18.0.0/20 ip4:198.18.64.0/19 ip4:198.19.0.0/22 ip4:198.19.8.0/22 \
          ip6:2001:db8:400::/40 include:_more.esp.example ~all",
    ),
    (
        "_more.esp.example",
        b"v=spf1 ip4:203.0.113.0/26 ip4:203.0.113.64/26 ip4:203.0.113.128/25 ~all",
    ),
];

fn answer(question: &Question) -> Outcome {
    let text = |text: &[u8]| Outcome::Found(Records::Txt([text.into()].into()));
    match (question.kind, question.name.as_str()) {
        (Kind::Txt, "example.com") => text(RECORD),
        (Kind::Txt, name) => INCLUDED
            .iter()
            .find(|(included, _)| *included == name)
            .map_or(Outcome::NoName, |(_, record)| text(record)),
        (Kind::A, _) => Outcome::Found(Records::A([[192, 0, 2, 250].into()].into())),
        (Kind::Mx, _) => Outcome::Found(Records::Mx(
            [courser_core::dns::Mx {
                preference: 10,
                exchange: Name::parse("mx.example.com").expect("a name"),
            }]
            .into(),
        )),
        _ => Outcome::NoData,
    }
}

/// A check of this client that asks seven questions, answered at once.
pub fn check(ip: [u8; 4]) -> Report {
    let mut check = Check::new(&Request {
        ip: ip.into(),
        mail_from: "bounces+123@example.com",
        helo: "out.example.com",
        receiver: Some("mx.example.net"),
        now: Wall::from_unix(1_790_000_000),
        explain: true,
    });
    loop {
        match check.step() {
            Step::Ask(question) => check.answer(&answer(&question)),
            Step::Done(report) => return report,
        }
    }
}
