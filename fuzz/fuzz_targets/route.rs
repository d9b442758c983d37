//! The routing of a domain under any answers: it asks nothing twice, ends when all is answered, and
//! a plan keeps its bounds and leads nowhere where mail must not go.
#![no_main]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use courser_core::dns::{Answer, Failure, Kind, Mx, Name, Outcome, Question, Records};
use courser_core::limits::{HOST_ADDRESSES_MAX, MX_HOSTS_MAX, PLAN_ADDRESSES_MAX};
use courser_core::mail::address::Domain;
use courser_core::route::{FamilyOrder, FixedHost, MxLookup, Options, Plan, RouteError, Step};
use courser_core::time::Instant;
use libfuzzer_sys::fuzz_target;

/// Questions at most: MX, and two families of each host.
const QUESTIONS_MAX: usize = 1 + 2 * MX_HOSTS_MAX;

#[derive(Arbitrary, Debug)]
enum Said {
    /// Host numbers with their preferences; 255 is the root.
    Mx(Vec<(u8, u16)>),
    A(Vec<[u8; 4]>),
    /// Only the ends of addresses vary, so that some are special and some come twice.
    Aaaa(Vec<(u8, u16)>),
    NoData,
    NoName,
    Failed,
}

#[derive(Arbitrary, Debug)]
struct World<'a> {
    domain: &'a str,
    order: u8,
    own_name: Option<u8>,
    own_address: Option<[u8; 4]>,
    allow: Option<([u8; 4], u8)>,
    seed: u64,
    valid: (u16, u16),
    fixed: Option<Vec<(Option<u8>, u16)>>,
    /// Which open question is answered next, how, from which name, for how many seconds.
    answers: Vec<(u8, Said, u8, u32)>,
}

fn name(n: u8) -> Name {
    if n == 255 {
        return Name::root();
    }
    // Some that are no host names among them.
    let text = match n % 8 {
        7 => format!("mx.{n}"),
        6 => "a.example".into(),
        _ => format!("mx{n}.example"),
    };
    Name::parse(&text).expect("a name")
}

fn answer(now: Instant, question: &Question, said: &Said, canonical: u8, ttl_s: u32) -> Answer {
    let outcome = match (said, question.kind) {
        (Said::Mx(mx), Kind::Mx) if !mx.is_empty() => Outcome::Found(Records::Mx(
            mx.iter()
                .map(|&(host, preference)| Mx {
                    preference,
                    exchange: name(host),
                })
                .collect(),
        )),
        (Said::A(all), Kind::A) if !all.is_empty() => {
            Outcome::Found(Records::A(all.iter().map(|&a| a.into()).collect()))
        }
        (Said::Aaaa(all), Kind::Aaaa) if !all.is_empty() => Outcome::Found(Records::Aaaa(
            all.iter()
                .map(|&(net, end)| {
                    let nets = [[0x2001, 0xdb9], [0x2a00, 1], [0xfe80, 0], [0, 0], [0xfc00, 7]];
                    let [a, b] = nets[usize::from(net) % nets.len()];
                    [a, b, 0, 0, 0, 0, 0, end].into()
                })
                .collect(),
        )),
        (Said::NoName, _) => Outcome::NoName,
        (Said::Failed, _) => Outcome::Failed(Failure::ServerFailure),
        _ => Outcome::NoData,
    };
    Answer {
        outcome,
        canonical: if canonical < 128 { question.name.clone() } else { name(canonical) },
        secure: canonical.is_multiple_of(2),
        expires: now + Duration::from_secs(u64::from(ttl_s)),
    }
}

fn good(plan: &Plan, world: &World<'_>, options: &Options) {
    assert!((1..=MX_HOSTS_MAX).contains(&plan.hosts.len()));
    assert!(plan.addresses().count() <= PLAN_ADDRESSES_MAX);
    for pair in plan.hosts.windows(2) {
        assert!(pair[0].preference <= pair[1].preference, "{plan:?}");
    }
    for host in &plan.hosts {
        assert!((1..=HOST_ADDRESSES_MAX).contains(&host.addresses.len()));
        let set: BTreeSet<_> = host.addresses.iter().collect();
        assert_eq!(set.len(), host.addresses.len(), "an address twice: {host:?}");
        if world.fixed.is_some() {
            continue;
        }
        for address in &host.addresses {
            assert!(!options.own_addresses.contains(address), "{plan:?}");
            let allowed = options
                .allow_special
                .iter()
                .any(|&net| courser_core::route::address::within(*address, net));
            let special = courser_core::route::address::special(*address).is_some();
            assert!(!special || allowed, "{address}");
            assert!(!address.is_unspecified() && !address.is_multicast(), "{address}");
            assert_eq!(host.port, options.port);
        }
        assert!(match options.order {
            FamilyOrder::Only4 => host.addresses.iter().all(IpAddr::is_ipv4),
            FamilyOrder::Only6 => host.addresses.iter().all(IpAddr::is_ipv6),
            _ => true,
        } || plan.implicit || Domain::parse(world.domain).is_ok_and(|d| matches!(d, Domain::Literal(_))));
        assert!(!options.own_names.iter().any(|n| *n.as_str() == *host.name));
    }
    if world.fixed.is_none() && !matches!(Domain::parse(world.domain), Ok(Domain::Literal(_))) {
        assert!(plan.valid_for >= options.valid_min && plan.valid_for <= options.valid_max);
    }
    let sorted = plan.mx_names.windows(2).all(|w| w[0] < w[1]);
    assert!(sorted, "{:?}", plan.mx_names);
}

fn lookup(world: &World<'_>, options: &Arc<Options>) -> Option<Result<Plan, RouteError>> {
    let mut lookup = match &world.fixed {
        Some(hosts) => {
            let hosts = hosts.iter().map(|&(host, preference)| match host {
                Some(n) => FixedHost::Name { name: name(n), port: 25, preference },
                None => FixedHost::Address {
                    address: SocketAddr::from(([127, 0, 0, preference as u8], 25)),
                    preference,
                },
            });
            MxLookup::fixed("a.example", hosts, options.clone(), world.seed)
        }
        None => MxLookup::new(Domain::parse(world.domain).ok()?, options.clone(), world.seed),
    };
    let now = Instant::from_nanos(1 << 40);
    let (mut open, mut asked): (Vec<Question>, BTreeSet<Question>) = Default::default();
    // When the fuzzer has nothing more to say, the rest is not there.
    let rest = std::iter::repeat(&(0, Said::NoData, 0, 60));
    for (which, said, canonical, ttl_s) in world.answers.iter().chain(rest) {
        loop {
            match lookup.poll() {
                Step::Ask(question) => {
                    assert!(asked.insert(question.clone()), "{question} asked twice");
                    assert!(asked.len() <= QUESTIONS_MAX);
                    open.push(question);
                }
                Step::Wait => break,
                Step::Done(result) => return Some(result),
            }
        }
        assert!(!open.is_empty(), "waits for nothing");
        let question = open.swap_remove(usize::from(*which) % open.len());
        let answer = answer(now, &question, said, *canonical, *ttl_s);
        lookup.answer(now, &question, &answer);
        // What comes again changes nothing.
        lookup.answer(now, &question, &answer);
    }
    unreachable!("answers without end")
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(world) = World::arbitrary_take_rest(Unstructured::new(bytes)) else {
        return;
    };
    let orders = [
        FamilyOrder::Prefer6,
        FamilyOrder::Prefer4,
        FamilyOrder::Interleave,
        FamilyOrder::Only4,
        FamilyOrder::Only6,
    ];
    let options = Arc::new(Options {
        order: orders[usize::from(world.order) % orders.len()],
        own_names: world.own_name.into_iter().map(name).collect(),
        own_addresses: world.own_address.into_iter().map(IpAddr::from).collect(),
        allow_special: world.allow.into_iter().map(|(net, bits)| (net.into(), bits)).collect(),
        valid_min: Duration::from_secs(world.valid.0.into()),
        valid_max: Duration::from_secs(u64::from(world.valid.0) + u64::from(world.valid.1)),
        ..Options::default()
    });
    let Some(result) = lookup(&world, &options) else {
        return;
    };
    assert_eq!(lookup(&world, &options), Some(result.clone()), "not the same twice");
    match result {
        Ok(plan) => good(&plan, &world, &options),
        Err(error) => {
            assert!(!error.text.is_empty());
            assert_eq!(error.permanent, error.enhanced.class == 5, "{error:?}");
        }
    }
});
