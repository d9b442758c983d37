//! Routing by MX: every row of the table in `route::mx`, over a DNS zone that is a map.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use courser_core::dns::{Answer, Failure, Kind, Mx, Name, Outcome, Question, Records};
use courser_core::limits::{HOST_ADDRESSES_MAX, MX_HOSTS_MAX, PLAN_ADDRESSES_MAX};
use courser_core::mail::address::Domain;
use courser_core::route::{
    FamilyOrder, Fault, FixedHost, MxLookup, Options, Plan, RouteError, SiteKey, Step,
};
use courser_core::time::Instant;
use proptest::prelude::*;

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[derive(Clone, Default)]
struct Zone {
    answers: BTreeMap<Question, Answer>,
}

impl Zone {
    fn put(mut self, text: &str, kind: Kind, outcome: Outcome) -> Self {
        self.answers.insert(
            Question::new(name(text), kind),
            Answer {
                outcome,
                canonical: name(text),
                secure: false,
                expires: NOW + Duration::from_secs(600),
            },
        );
        self
    }
    fn mx(self, text: &str, records: &[(u16, &str)]) -> Self {
        let records = records
            .iter()
            .map(|&(preference, host)| Mx {
                preference,
                exchange: name(host),
            })
            .collect();
        self.put(text, Kind::Mx, Outcome::Found(Records::Mx(records)))
    }
    fn host(mut self, text: &str, addresses: &[&str]) -> Self {
        let all: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let v4: Vec<_> = all
            .iter()
            .filter_map(|ip| match ip {
                IpAddr::V4(ip) => Some(*ip),
                IpAddr::V6(_) => None,
            })
            .collect();
        let v6: Vec<_> = all
            .iter()
            .filter_map(|ip| match ip {
                IpAddr::V6(ip) => Some(*ip),
                IpAddr::V4(_) => None,
            })
            .collect();
        let outcome = |empty, records| {
            if empty {
                Outcome::NoData
            } else {
                Outcome::Found(records)
            }
        };
        self = self.put(text, Kind::A, outcome(v4.is_empty(), Records::A(v4.into())));
        self.put(
            text,
            Kind::Aaaa,
            outcome(v6.is_empty(), Records::Aaaa(v6.into())),
        )
    }
    fn secure(mut self) -> Self {
        self.answers.values_mut().for_each(|a| a.secure = true);
        self
    }
    fn answer(&self, question: &Question) -> Answer {
        self.answers.get(question).cloned().unwrap_or(Answer {
            outcome: Outcome::NoName,
            canonical: question.name.clone(),
            secure: false,
            expires: NOW + Duration::from_secs(300),
        })
    }
}

/// Runs a lookup to its end; also says how many rounds of questions it took.
fn drive(mut lookup: MxLookup, zone: &Zone) -> (Result<Plan, RouteError>, usize) {
    for round in 0.. {
        let mut questions = Vec::new();
        loop {
            match lookup.poll() {
                Step::Ask(question) => questions.push(question),
                Step::Wait => break,
                Step::Done(result) => return (result, round),
            }
        }
        assert!(!questions.is_empty(), "waits for nothing");
        for question in questions {
            lookup.answer(NOW, &question, &zone.answer(&question));
        }
    }
    unreachable!()
}

fn route_with(domain: &str, zone: &Zone, options: Options) -> Result<Plan, RouteError> {
    drive(
        MxLookup::new(Domain::Name(domain), Arc::new(options), 7),
        zone,
    )
    .0
}
fn route(domain: &str, zone: &Zone) -> Result<Plan, RouteError> {
    route_with(domain, zone, Options::default())
}
fn fault(result: Result<Plan, RouteError>) -> (Fault, bool, String) {
    let error = result.unwrap_err();
    assert_eq!(error.permanent, error.enhanced.class == 5, "{error}");
    assert!(!error.text.is_empty());
    (error.fault, error.permanent, error.enhanced.to_string())
}
fn hosts(plan: &Plan) -> Vec<&str> {
    plan.hosts.iter().map(|h| &*h.name).collect()
}

#[test]
fn ordinary_domain_asks_all_addresses_at_once() {
    let zone = Zone::default()
        .mx(
            "example.com",
            &[(20, "mx2.example.com"), (10, "mx1.example.com")],
        )
        .host("mx1.example.com", &["20.0.0.1", "2a00::1"])
        .host("mx2.example.com", &["20.0.0.2"]);
    let lookup = MxLookup::new(Domain::Name("Example.COM"), Arc::new(Options::default()), 7);
    let (plan, rounds) = drive(lookup, &zone);
    let plan = plan.unwrap();
    assert_eq!(rounds, 2);
    assert_eq!(hosts(&plan), ["mx1.example.com", "mx2.example.com"]);
    assert_eq!(
        plan.hosts[0].addresses,
        [
            "20.0.0.1".parse::<IpAddr>().unwrap(),
            "2a00::1".parse().unwrap()
        ]
    );
    assert_eq!(
        plan.addresses()
            .map(|(_, a)| a.to_string())
            .collect::<Vec<_>>(),
        ["20.0.0.1:25", "[2a00::1]:25", "20.0.0.2:25"]
    );
    assert!(!plan.implicit && !plan.secure && !plan.hosts[0].secure);
    assert_eq!(plan.valid_for, Duration::from_secs(600));
    assert_eq!(
        plan.site,
        SiteKey::of_hosts(["mx1.example.com", "mx2.example.com"])
    );
}

#[test]
fn null_mx_and_its_like() {
    let zone = Zone::default()
        .mx("null.example", &[(0, ".")])
        .mx("mixed.example", &[(0, "."), (10, "mx.example")])
        .mx("two.example", &[(0, "."), (10, ".")])
        .mx("literal.example", &[(10, "192.0.2.1")])
        .mx("half.example", &[(10, "192.0.2.1"), (20, "mx.example")])
        .host("mx.example", &["20.0.0.1"]);
    assert_eq!(
        fault(route("null.example", &zone)),
        (Fault::NullMx, true, "5.1.10".into())
    );
    assert_eq!(
        hosts(&route("mixed.example", &zone).unwrap()),
        ["mx.example"]
    );
    assert_eq!(
        hosts(&route("half.example", &zone).unwrap()),
        ["mx.example"]
    );
    for domain in ["two.example", "literal.example"] {
        assert_eq!(
            fault(route(domain, &zone)),
            (Fault::NoUsableMx, true, "5.4.4".into())
        );
    }
    let text = route("literal.example", &zone).unwrap_err().text;
    assert!(text.starts_with("literal.example: "), "{text}");
    assert!(text.contains("192.0.2.1 is not a host name"), "{text}");
}

#[test]
fn implicit_mx_only_without_mx() {
    let zone = Zone::default()
        .put("nodata.example", Kind::Mx, Outcome::NoData)
        .host("nodata.example", &["20.0.0.3"])
        .put("nothing.example", Kind::Mx, Outcome::NoData)
        .host("nothing.example", &[])
        .put(
            "broken.example",
            Kind::Mx,
            Outcome::Failed(Failure::ServerFailure),
        )
        .host("broken.example", &["20.0.0.4"])
        .mx("gone.example", &[(10, "no.such.host")])
        .host("gone.example", &["20.0.0.5"]);
    let plan = route("nodata.example", &zone).unwrap();
    assert!(plan.implicit);
    assert_eq!(hosts(&plan), ["nodata.example"]);
    assert_eq!(
        fault(route("nothing.example", &zone)),
        (Fault::NoAddress, true, "5.1.2".into())
    );
    assert_eq!(
        fault(route("broken.example", &zone)),
        (Fault::Dns, false, "4.4.3".into())
    );
    assert_eq!(
        fault(route("nxdomain.example", &zone)),
        (Fault::NoSuchDomain, true, "5.1.2".into())
    );
    // The address of the domain must not be used where MX records exist.
    assert_eq!(
        fault(route("gone.example", &zone)),
        (Fault::NoUsableMx, true, "5.4.4".into())
    );
}

#[test]
fn an_alias_stands_for_its_target() {
    let mut zone = Zone::default()
        .put("www.example", Kind::Mx, Outcome::NoData)
        .host("target.example", &["20.0.0.6"]);
    let alias = Question::new(name("www.example"), Kind::Mx);
    zone.answers.get_mut(&alias).unwrap().canonical = name("target.example");
    assert_eq!(
        hosts(&route("www.example", &zone).unwrap()),
        ["target.example"]
    );

    let mut zone = Zone::default()
        .mx("example", &[(10, "alias.example"), (20, "real.example")])
        .host("alias.example", &["20.0.0.7"])
        .host("real.example", &["20.0.0.8"]);
    let alias = Question::new(name("alias.example"), Kind::A);
    zone.answers.get_mut(&alias).unwrap().canonical = name("end.example");
    let plan = route("example", &zone).unwrap();
    assert_eq!(hosts(&plan), ["alias.example", "real.example"]);
    assert_eq!(plan.hosts[0].canonical, Some(name("end.example")));
    let strict = Options {
        refuse_cname: true,
        ..Options::default()
    };
    assert_eq!(
        hosts(&route_with("example", &zone, strict).unwrap()),
        ["real.example"]
    );
}

#[test]
fn temporary_when_any_host_might_come_back() {
    let zone = Zone::default()
        .mx("example", &[(10, "a.example"), (20, "b.example")])
        .put("a.example", Kind::A, Outcome::Failed(Failure::Timeout))
        .put("a.example", Kind::Aaaa, Outcome::NoData);
    assert_eq!(
        fault(route("example", &zone)),
        (Fault::Dns, false, "4.4.3".into())
    );
    // With another host there is a plan, but a short one; the site has both.
    let zone = zone.host("b.example", &["20.0.0.1"]);
    let plan = route("example", &zone).unwrap();
    assert_eq!(hosts(&plan), ["b.example"]);
    assert_eq!(plan.valid_for, Duration::from_secs(60));
    assert_eq!(plan.site, SiteKey::of_hosts(["a.example", "b.example"]));
}

#[test]
fn loops_by_name_and_by_address() {
    let zone = Zone::default()
        .mx(
            "example",
            &[
                (10, "a.example"),
                (20, "us.example"),
                (20, "c.example"),
                (30, "d.example"),
            ],
        )
        .host("a.example", &["20.0.0.1"])
        .host("us.example", &["20.0.0.2", "2a00::2"])
        .host("c.example", &["20.0.0.3"])
        .host("d.example", &["20.0.0.4"])
        .mx("best.example", &[(20, "us.example"), (30, "d.example")])
        .put("us.example", Kind::Mx, Outcome::NoData);
    let by_name = || Options {
        own_names: vec![name("us.example")],
        ..Options::default()
    };
    let by_address = || Options {
        own_addresses: vec!["::ffff:20.0.0.2".parse().unwrap()],
        ..Options::default()
    };
    for options in [by_name, by_address] {
        let plan = route_with("example", &zone, options()).unwrap();
        assert_eq!(hosts(&plan), ["a.example"]);
        for domain in ["best.example", "us.example"] {
            assert_eq!(
                fault(route_with(domain, &zone, options())),
                (Fault::Loop, true, "5.4.6".into())
            );
        }
    }
    // What is not better than us doesn't matter, even if it can't be found now.
    let later = zone
        .clone()
        .put("d.example", Kind::A, Outcome::Failed(Failure::Timeout))
        .put("d.example", Kind::Aaaa, Outcome::NoData);
    assert_eq!(
        fault(route_with("best.example", &later, by_address())),
        (Fault::Loop, true, "5.4.6".into())
    );
    // What is better than us can't be found now: not a loop yet.
    let zone = zone
        .put("a.example", Kind::A, Outcome::Failed(Failure::Timeout))
        .put("a.example", Kind::Aaaa, Outcome::NoData);
    for options in [by_name, by_address] {
        assert_eq!(
            fault(route_with("example", &zone, options())),
            (Fault::Dns, false, "4.4.3".into())
        );
    }
}

#[test]
fn special_addresses() {
    let zone = Zone::default()
        .mx("example", &[(10, "lo.example"), (20, "ok.example")])
        .host(
            "lo.example",
            &["127.0.0.1", "10.0.0.1", "::1", "::ffff:20.0.0.1"],
        )
        .host("ok.example", &["20.0.0.1", "192.168.0.1"])
        .mx("lonely.example", &[(10, "lo.example")])
        .mx("zero.example", &[(10, "zero.host.example")])
        .host("zero.host.example", &["0.0.0.0"]);
    let plan = route("example", &zone).unwrap();
    assert_eq!(hosts(&plan), ["ok.example"]);
    assert_eq!(plan.hosts[0].addresses.len(), 1);
    let error = route("lonely.example", &zone).unwrap_err();
    assert_eq!(
        (error.fault, error.permanent),
        (Fault::SpecialAddress, true)
    );
    assert!(error.text.contains("lo.example has the address"), "{error}");
    let allow = || Options {
        allow_special: vec![("0.0.0.0".parse().unwrap(), 0), ("::".parse().unwrap(), 0)],
        ..Options::default()
    };
    let plan = route_with("example", &zone, allow()).unwrap();
    assert_eq!(plan.hosts[0].addresses.len(), 4);
    assert!(route_with("zero.example", &zone, allow()).is_err());
}

#[test]
fn literals_names_and_fixed_routes() {
    let literal = |ip: &str, options| {
        drive(
            MxLookup::new(Domain::Literal(ip.parse().unwrap()), Arc::new(options), 1),
            &Zone::default(),
        )
    };
    let (plan, rounds) = literal("20.0.0.9", Options::default());
    assert_eq!((hosts(&plan.unwrap()), rounds), (vec!["[20.0.0.9]"], 0));
    assert_eq!(
        fault(literal("127.0.0.1", Options::default()).0).0,
        Fault::SpecialAddress
    );
    let own = Options {
        own_addresses: vec!["20.0.0.9".parse().unwrap()],
        ..Options::default()
    };
    assert_eq!(fault(literal("20.0.0.9", own).0).0, Fault::Loop);

    let zone = Zone::default()
        .mx("xn--bcher-kva.example", &[(10, "mx.example")])
        .host("mx.example", &["20.0.0.1"])
        .host("relay.internal", &["10.0.0.1", "fd00::1"]);
    assert!(route("bücher.example", &zone).is_ok());
    for bad in ["a..b", ".", "", "a b.example", "-\u{200d}.example"] {
        assert_eq!(
            fault(route(bad, &zone)),
            (Fault::BadName, true, "5.1.2".into()),
            "{bad}"
        );
    }

    let smart = |hosts: Vec<FixedHost>| {
        let options = Arc::new(Options::default());
        drive(MxLookup::fixed("example.com", hosts, options, 1), &zone).0
    };
    let relay = |host: &str, port, preference| FixedHost::Name {
        name: name(host),
        port,
        preference,
    };
    let plan = smart(vec![
        FixedHost::Address {
            address: "127.0.0.1:2525".parse().unwrap(),
            preference: 20,
        },
        relay("relay.internal", 587, 10),
        relay("relay.internal", 588, 10),
    ])
    .unwrap();
    let all: Vec<String> = plan.addresses().map(|(_, a)| a.to_string()).collect();
    assert_eq!(all.len(), 5);
    assert_eq!(all[4], "127.0.0.1:2525");
    assert!(all.contains(&"[fd00::1]:588".to_string()));
    // A slip in the configuration does not bounce mail.
    for hosts in [vec![relay("nowhere.internal", 25, 0)], vec![]] {
        assert_eq!(
            fault(smart(hosts)),
            (Fault::NoUsableMx, false, "4.4.4".into())
        );
    }
}

#[test]
fn family_order() {
    let zone = Zone::default().mx("example", &[(10, "mx.example")]).host(
        "mx.example",
        &["20.0.0.1", "20.0.0.2", "20.0.0.3", "2a00::1", "2a00::2"],
    );
    let shape = |order| {
        let options = Options {
            order,
            ..Options::default()
        };
        let plan = route_with("example", &zone, options).unwrap();
        plan.hosts[0]
            .addresses
            .iter()
            .map(|ip| if ip.is_ipv4() { '4' } else { '6' })
            .collect::<String>()
    };
    assert_eq!(shape(FamilyOrder::Prefer4), "44466");
    assert_eq!(shape(FamilyOrder::Prefer6), "66444");
    assert_eq!(shape(FamilyOrder::Interleave), "64644");
    assert_eq!(shape(FamilyOrder::Only4), "444");
    assert_eq!(shape(FamilyOrder::Only6), "66");
}

#[test]
fn equal_preferences_are_shared_by_seed() {
    let zone = Zone::default()
        .mx(
            "example",
            &[(10, "a.example"), (10, "b.example"), (20, "c.example")],
        )
        .host("a.example", &["20.0.0.1"])
        .host("b.example", &["20.0.0.2"])
        .host("c.example", &["20.0.0.3"]);
    let mut first = 0;
    for seed in 0..1000 {
        let options = Arc::new(Options::default());
        let plan = drive(MxLookup::new(Domain::Name("example"), options, seed), &zone)
            .0
            .unwrap();
        assert_eq!(&*plan.hosts[2].name, "c.example");
        first += usize::from(&*plan.hosts[0].name == "a.example");
    }
    assert!((400..600).contains(&first), "{first} of 1000");
}

#[test]
fn bounds() {
    let records: Vec<(u16, String)> = (0..200)
        .map(|n| (200 - n, format!("mx{n}.example")))
        .collect();
    let records: Vec<(u16, &str)> = records.iter().map(|(p, h)| (*p, h.as_str())).collect();
    let addresses: Vec<String> = (0..100).map(|n| format!("20.0.1.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut zone = Zone::default().mx("example", &records);
    for (_, host) in &records {
        zone = zone.host(host, &addresses);
    }
    let plan = route("example", &zone).unwrap();
    assert_eq!(plan.mx_names.len(), MX_HOSTS_MAX);
    assert_eq!(&*plan.hosts[0].name, "mx199.example");
    assert!(
        plan.hosts
            .iter()
            .all(|h| h.addresses.len() <= HOST_ADDRESSES_MAX)
    );
    assert_eq!(plan.addresses().count(), PLAN_ADDRESSES_MAX);
}

#[test]
fn security_needs_every_answer() {
    let zone = Zone::default()
        .mx("example", &[(10, "mx.example")])
        .host("mx.example", &["20.0.0.1", "2a00::1"])
        .secure();
    let plan = route("example", &zone).unwrap();
    assert!(plan.secure && plan.hosts[0].secure);
    for question in zone.answers.keys() {
        let mut zone = zone.clone();
        zone.answers.get_mut(question).unwrap().secure = false;
        assert!(
            !route("example", &zone).unwrap().hosts[0].secure,
            "{question}"
        );
    }
}

fn outcome(kind: Kind) -> BoxedStrategy<Outcome> {
    let host = prop_oneof![
        Just("a.example"),
        Just("b.example"),
        Just("us.example"),
        Just("example"),
        Just("."),
        Just("1.2.3.4")
    ];
    let found = match kind {
        Kind::Mx => proptest::collection::vec((0u16..4, host), 1..6)
            .prop_map(|records| {
                Records::Mx(
                    records
                        .into_iter()
                        .map(|(preference, host)| Mx {
                            preference,
                            exchange: name(host),
                        })
                        .collect(),
                )
            })
            .boxed(),
        Kind::A => proptest::collection::vec(any::<[u8; 4]>(), 1..5)
            .prop_map(|ips| Records::A(ips.into_iter().map(Into::into).collect()))
            .boxed(),
        _ => proptest::collection::vec(any::<[u8; 16]>(), 1..5)
            .prop_map(|ips| Records::Aaaa(ips.into_iter().map(Into::into).collect()))
            .boxed(),
    };
    prop_oneof![
        4 => found.prop_map(Outcome::Found),
        1 => Just(Outcome::NoData),
        1 => Just(Outcome::NoName),
        1 => Just(Outcome::Failed(Failure::Timeout)),
    ]
    .boxed()
}

proptest! {
    /// Whatever DNS says, the lookup ends, keeps its bounds, and never plans a forbidden address.
    #[test]
    fn always_ends(
        mx in outcome(Kind::Mx),
        hosts in proptest::collection::vec((outcome(Kind::A), outcome(Kind::Aaaa)), 4),
        order in 0..5usize,
        seed in any::<u64>(),
        refuse_cname in any::<bool>(),
    ) {
        let mut zone = Zone::default().put("example", Kind::Mx, mx);
        for (host, (a, aaaa)) in ["a.example", "b.example", "us.example", "example"].iter().zip(hosts) {
            zone = zone.put(host, Kind::A, a).put(host, Kind::Aaaa, aaaa);
        }
        let options = Options {
            order: [FamilyOrder::Prefer4, FamilyOrder::Prefer6, FamilyOrder::Interleave,
                FamilyOrder::Only4, FamilyOrder::Only6][order],
            own_names: vec![name("us.example")],
            refuse_cname,
            ..Options::default()
        };
        let (result, rounds) = drive(
            MxLookup::new(Domain::Name("example"), Arc::new(options), seed), &zone);
        prop_assert!(rounds <= 2);
        match result {
            Ok(plan) => {
                prop_assert!(!plan.hosts.is_empty());
                prop_assert!(plan.hosts.is_sorted_by_key(|h| h.preference));
                for (host, address) in plan.addresses() {
                    prop_assert!(courser_core::route::address::special(address.ip()).is_none());
                    prop_assert!(plan.mx_names.contains(&host.name));
                    prop_assert!(&*host.name != "us.example");
                }
            }
            Err(error) => prop_assert_eq!(error.permanent, error.fault != Fault::Dns),
        }
    }
}
