//! SPF against pyspf: the same records, sessions and DNS, a thousand times.
//!
//! Where the two differ, pyspf is asked again without one or more of its habits ([`HABITS`]), each
//! with the clause of RFC 7208 that speaks against it. A difference that no set of them explains
//! fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use courser_core::auth::{Evaluate, spf};
use courser_core::dns::{Failure, Kind, Mx, Name, Outcome, Question, Records};
use courser_core::time::Wall;
use courser_tests::{need, say};
use serde_json::{Value, json};

const CASES: u64 = 1000;
const NOW: i64 = 1_790_000_000;
/// More differing cases than this, and the generator asks for pyspf's habits too often.
const DIFFERENT_MAX: usize = 250;

/// What pyspf does otherwise, and what RFC 7208 says.
const HABITS: &[(&str, &str)] = &[
    (
        "void answers behind terms",
        "4.6.4 limits terms: addresses of an MX's hosts and of a client's names are not counted, nor an \
         answer that is asked for again",
    ),
    (
        "errors of client names",
        "5.5: a DNS error about PTR is no match, one about a name's address skips the name; neither is \
         asked for a term that is not reached (4.6)",
    ),
    (
        "errors of further MX hosts",
        "5.4: hosts are asked one by one, and what follows a match is not",
    ),
    (
        "modifiers twice",
        "6: only redirect and exp may not stand twice",
    ),
    (
        "case of modifiers",
        "12: names are strings of ABNF, in any case (RFC 5234 2.3)",
    ),
    ("zero parts", "7.1: the number of a macro is not zero"),
    ("delimiters kept", "7.3: parts are joined with dots"),
    (
        "%% at the end",
        "7.1: %% is a percent sign wherever it stands",
    ),
    (
        "include of itself",
        "4.6, 5.2: what is never reached is never evaluated; where it is reached, the limit ends it",
    ),
];

pub(crate) fn pyspf_agrees() {
    let Some(python) = need::python(&["pyspf==2.0.14", "dnspython==2.*"]) else {
        return;
    };
    let mut other = Pyspf::start(&python);
    let (mut results, mut reasons) = (BTreeMap::new(), BTreeMap::new());
    let (mut different, mut unexplained) = (0, Vec::new());
    for seed in 0..CASES {
        let case = Case::new(seed);
        let ours = case.ours();
        *results.entry(ours.0.clone()).or_insert(0) += 1;
        let theirs = other.ask(&case, &[]);
        if same(&ours, &theirs) {
            continue;
        }
        different += 1;
        match why(&mut other, &case, &ours) {
            Some(habits) => *reasons.entry(habits.join(", ")).or_insert(0) += 1,
            None => unexplained.push(format!(
                "seed {seed}: {ours:?}, pyspf {theirs:?}\n{}",
                serde_json::to_string_pretty(&case.json(&[])).expect("JSON")
            )),
        }
    }
    let mut words = format!("{CASES} records: {different} differ from pyspf\n");
    for (result, n) in &results {
        words += &format!("  {n:5} {result}\n");
    }
    for (habits, n) in &reasons {
        words += &format!("  {n:5} differ by: {habits}\n");
    }
    for (habit, clause) in HABITS {
        words += &format!("  {habit}: RFC 7208 {clause}\n");
    }
    say(&words);
    assert!(
        unexplained.is_empty(),
        "{} unexplained:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    for (habit, _) in HABITS {
        let needed = reasons.keys().any(|habits: &String| habits.contains(habit));
        assert!(needed, "no difference comes from {habit:?} any more");
    }
    assert!(different <= DIFFERENT_MAX, "{different} differ");
    // The generator reaches everything.
    for result in [
        "pass",
        "fail",
        "softfail",
        "neutral",
        "none",
        "permerror",
        "temperror",
    ] {
        assert!(
            results.get(result).is_some_and(|&n| n >= 20),
            "too few {result}"
        );
    }
}

/// Result and explanation.
type Said = (String, Option<String>);

fn same(ours: &Said, theirs: &Said) -> bool {
    ours.0 == theirs.0
        && match (&ours.1, &theirs.1) {
            // RFC 7208 7.4 writes the nibbles of IPv6 addresses in lower case, pyspf in upper case.
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        }
}

/// The smallest set of habits without which pyspf says what we say.
fn why(other: &mut Pyspf, case: &Case, ours: &Said) -> Option<Vec<&'static str>> {
    let mut sets: Vec<u32> = (1..1 << HABITS.len()).collect();
    sets.sort_by_key(|set| set.count_ones());
    sets.into_iter()
        .filter(|set| set.count_ones() <= 3)
        .find_map(|set| {
            let without: Vec<&str> = HABITS
                .iter()
                .enumerate()
                .filter(|(n, _)| set & (1 << n) != 0)
                .map(|(_, (habit, _))| *habit)
                .collect();
            same(ours, &other.ask(case, &without)).then_some(without)
        })
}

/// pyspf, answering line by line.
struct Pyspf {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Pyspf {
    fn start(python: &Path) -> Self {
        let mut child = Command::new(python)
            .args(["-c", include_str!("spf/pyspf.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, answers }
    }

    fn ask(&mut self, case: &Case, without: &[&str]) -> Said {
        let input = self.child.stdin.as_mut().expect("its input");
        writeln!(input, "{}", case.json(without)).expect("it reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it writes");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        let text = |key: &str| answer[key].as_str().map(str::to_owned);
        let result = text("result").expect("a result");
        assert_ne!(result, "exception", "{answer} {}", case.json(without));
        (result, text("explanation"))
    }
}

impl Drop for Pyspf {
    fn drop(&mut self) {
        // It ends when its input does; nobody waits for a broken one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Records of one name.
#[derive(Debug, Default)]
struct Node {
    a: Vec<String>,
    aaaa: Vec<String>,
    mx: Vec<(u16, String)>,
    txt: Vec<String>,
    ptr: Vec<String>,
}

/// A session and the DNS around it.
#[derive(Debug)]
struct Case {
    ip: &'static str,
    mail_from: String,
    helo: &'static str,
    dns: BTreeMap<String, Node>,
    failing: BTreeSet<String>,
}

const IPS: &[&str] = &[
    "192.0.2.1",
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.200",
    "198.51.100.7",
    "2001:db8::1",
    "2001:db8:0:1::2",
    "::ffff:192.0.2.2",
];
const DOMAINS: &[&str] = &[
    "d0.example",
    "d1.example",
    "d2.example",
    "sub.d0.example",
    "d-4.example",
];
const HOSTS: &[&str] = &[
    "h0.example",
    "h1.example",
    "h2.d0.example",
    "h3.d1.example",
    "h4.example",
    "h5.example",
];

impl Case {
    fn new(seed: u64) -> Self {
        let r = &mut Random(seed);
        let mut case = Self {
            ip: r.pick(IPS),
            mail_from: match r.below(12) {
                0 => String::new(),
                1 => format!("@{}", r.pick(DOMAINS)),
                _ => format!(
                    "{}@{}",
                    r.pick(&[
                        "a",
                        "strong-bad",
                        "x+tag",
                        "Big.Name",
                        "a&b",
                        "one-two.three"
                    ]),
                    if r.one_in(25) {
                        "nowhere.example"
                    } else {
                        r.pick(DOMAINS)
                    }
                ),
            },
            helo: r.pick(&[
                "h0.example",
                "mail.d1.example",
                "nowhere.example",
                "d2.example",
                "[192.0.2.1]",
            ]),
            dns: BTreeMap::new(),
            failing: BTreeSet::new(),
        };
        for host in HOSTS {
            let node = case.dns.entry((*host).into()).or_default();
            for _ in 0..r.below(3) {
                node.a.push(
                    r.pick(&[
                        "192.0.2.1",
                        "192.0.2.2",
                        "192.0.2.77",
                        "198.51.100.8",
                        "203.0.113.1",
                    ])
                    .into(),
                );
            }
            for _ in 0..r.below(2) {
                node.aaaa.push(
                    r.pick(&["2001:db8::1", "2001:db8::2", "2001:db8:0:1::7"])
                        .into(),
                );
            }
            if r.one_in(9) {
                case.failing.insert((*host).into());
            }
        }
        for domain in DOMAINS {
            let texts: Vec<String> = match r.below(22) {
                0 => vec![],
                1 => vec![record(r), record(r)],
                2 => vec!["v=spf10 +all".into(), record(r), "something else".into()],
                _ => vec![record(r)],
            };
            let hosts = if r.one_in(25) { 11 } else { r.below(4) };
            let mx = (0..hosts).map(|n| {
                let host = if r.one_in(6) {
                    format!("gone{n}.example")
                } else {
                    r.pick(HOSTS).into()
                };
                (n as u16, host)
            });
            let mx = mx.collect();
            let node = case.dns.entry((*domain).into()).or_default();
            (node.txt, node.mx) = (texts, mx);
            if r.one_in(3) {
                node.a
                    .push(r.pick(&["192.0.2.1", "192.0.2.3", "198.51.100.7"]).into());
            }
            if r.one_in(30) {
                case.failing.insert((*domain).into());
            }
        }
        for (name, text) in [
            (
                "why.example",
                "%{s} may not send from %{c}; see http://x.example/?s=%{S}&i=%{i}&h=%{h}",
            ),
            (
                "why2.example",
                "%{d}%_says%-no, %{o} %{l1r-} %{r} %{t} 100%%",
            ),
            ("why3.example", "100% wrong"),
            ("why4.example", "plain words"),
        ] {
            case.dns
                .entry(name.into())
                .or_default()
                .txt
                .push(text.into());
        }
        // What exists terms of some records find.
        for name in [
            "1.2.0.192.in-addr.l.example",
            "strong.l.example",
            "bad.strong.l.example",
            "a.l.example",
            "h0.example.l.example",
            "d0.example.l.example",
            "d.4.example.l.example",
            "tag.x.l.example",
            "a%26b.l.example",
        ] {
            if !r.one_in(3) {
                case.dns
                    .entry(name.into())
                    .or_default()
                    .a
                    .push("127.0.0.2".into());
            }
        }
        let reverse = Name::reverse(
            case.ip
                .parse::<std::net::IpAddr>()
                .expect("an address")
                .to_canonical(),
        );
        let names = if r.one_in(12) { 12 } else { r.below(4) };
        let node = case.dns.entry(reverse.as_str().into()).or_default();
        for _ in 0..names {
            node.ptr.push(
                if r.one_in(4) {
                    r.pick(DOMAINS)
                } else {
                    r.pick(HOSTS)
                }
                .into(),
            );
        }
        if r.one_in(15) {
            case.failing.insert(reverse.as_str().into());
        }
        case
    }

    fn json(&self, without: &[&str]) -> Value {
        let dns: BTreeMap<_, _> = self
            .dns
            .iter()
            .map(|(name, n)| {
                (
                    name,
                    json!({"A": n.a, "AAAA": n.aaaa, "MX": n.mx, "TXT": n.txt, "PTR": n.ptr}),
                )
            })
            .collect();
        json!({
            "ip": self.ip, "mail_from": self.mail_from, "helo": self.helo, "now": NOW.to_string(),
            "dns": dns, "failing": self.failing, "without": without,
        })
    }

    fn ours(&self) -> Said {
        let request = spf::Request {
            ip: self.ip.parse().expect("an address"),
            mail_from: &self.mail_from,
            helo: self.helo,
            receiver: None,
            now: Wall::from_unix(NOW),
            explain: true,
        };
        let report = spf::Check::new(&request).run(|question| self.answer(question));
        (report.result.to_string(), report.explanation)
    }

    fn answer(&self, question: &Question) -> Outcome {
        fn found<T>(all: impl Iterator<Item = T>, records: fn(Box<[T]>) -> Records) -> Outcome {
            let all: Box<[T]> = all.collect();
            if all.is_empty() {
                Outcome::NoData
            } else {
                Outcome::Found(records(all))
            }
        }
        let name = |text: &String| Name::from_bytes(text.as_bytes()).expect("a name");
        if self.failing.contains(question.name.as_str()) {
            return Outcome::Failed(Failure::Timeout);
        }
        let Some(node) = self.dns.get(question.name.as_str()) else {
            return Outcome::NoName;
        };
        match question.kind {
            Kind::A => found(
                node.a.iter().map(|a| a.parse().expect("an address")),
                Records::A,
            ),
            Kind::Aaaa => found(
                node.aaaa.iter().map(|a| a.parse().expect("an address")),
                Records::Aaaa,
            ),
            Kind::Mx => found(
                node.mx.iter().map(|(preference, host)| Mx {
                    preference: *preference,
                    exchange: name(host),
                }),
                Records::Mx,
            ),
            Kind::Txt => found(node.txt.iter().map(|t| t.as_bytes().into()), Records::Txt),
            Kind::Ptr => found(node.ptr.iter().map(name), Records::Ptr),
            _ => Outcome::NoData,
        }
    }
}

/// A record as domains publish them, now and then with a mistake.
fn record(r: &mut Random) -> String {
    let mut out = r.pick(&["v=spf1", "v=spf1", "v=spf1", "V=SPF1"]).to_owned();
    let terms = if r.one_in(12) { 12 } else { r.below(6) };
    for _ in 0..terms {
        out += r.pick(&[" ", " ", " ", "  "]);
        out += &term(r);
    }
    out += match r.below(10) {
        0..=4 => r.pick(&[" -all", " ~all", " ?all", " -ALL"]),
        5 => " redirect=d1.example",
        6 => " Redirect=d2.example",
        7 => " redirect=%{d} -all",
        _ => "",
    };
    if r.one_in(2) {
        out += r.pick(&[
            " exp=why.example",
            " exp=why2.example",
            " exp=why3.example",
            " exp=%{l}.example",
            " exp=nowhere.example",
            " EXP=why4.example",
        ]);
    }
    if r.one_in(20) {
        out += " ";
    }
    out
}

fn term(r: &mut Random) -> String {
    let qualifier = r.pick(&["", "", "", "", "+", "-", "~", "?"]);
    if r.one_in(40) {
        return r
            .pick(&[
                "ipv4:192.0.2.1",
                "ip4:192.0.2.256",
                "ip4:192.0.2.1/33",
                "a:museum",
                "include:",
                "all:x",
                "foo=%{x}",
                "a/33",
                "mx//129",
                "ip6:2001:db8:::1",
                "exists",
                "a:%{d0}.example",
                "a:%{d",
                "a:%d.example",
                "ptr/24",
                "exists:%{c}.example",
                "-foo=1",
                "a:%{d}.123",
                "redirect:d0.example",
                "ip4:192.0.2.01",
                "a,",
                "=x",
                "a:h0.example/024",
                "include:d0.example/24",
            ])
            .into();
    }
    let target = |r: &mut Random| -> String {
        match r.below(10) {
            0 => "%{h}".into(),
            1 => "%{d}".into(),
            2 => "h0.%{d2}".into(),
            3 => r.pick(&["nowhere.example", "gone.example"]).into(),
            4 => "%{o}".into(),
            _ => r.pick(HOSTS).into(),
        }
    };
    let cidr = |r: &mut Random| r.pick(&["", "", "", "/24", "/25//64", "//48", "/0"]);
    let body = match r.below(14) {
        0 => format!("a{}", cidr(r)),
        1 => format!("mx{}", cidr(r)),
        2 | 3 => format!("a:{}{}", target(r), cidr(r)),
        4 => format!("mx:{}{}", r.pick(DOMAINS), cidr(r)),
        5 | 6 => format!(
            "include:{}",
            match r.below(9) {
                0 => "%{o}",
                1 => "nowhere.example",
                2 => "sub.%{d}",
                _ => r.pick(DOMAINS),
            }
        ),
        7 => "ptr".into(),
        8 => format!(
            "ptr:{}",
            r.pick(&["d0.example", "d1.example", "example", "h0.example"])
        )
        .replace("ptr:example", "ptr:%{d1}"),
        9 => format!(
            "exists:{}",
            r.pick(&[
                "%{ir}.%{v}.l.example",
                "%{l1r-}.l.example",
                "%{lr-}.l.example",
                "%{l}.l.example",
                "%{h}.l.example",
                "%{p}.l.example",
                "%{L}.l.example",
                "%{lr+}.l.example",
                "%{d}.l.example",
                "%{o-}.l.example",
                "%{s1}.l.example",
                "h1.example",
            ])
        ),
        10 => format!(
            "ip4:{}",
            r.pick(&[
                "192.0.2.1",
                "192.0.2.0/25",
                "198.51.100.0/24",
                "203.0.113.9",
                "0.0.0.0/0"
            ])
        ),
        11 => format!(
            "ip6:{}",
            r.pick(&[
                "2001:db8::1",
                "2001:db8::/64",
                "2001:DB8::/32",
                "::/0",
                "::1"
            ])
        ),
        12 => return r.pick(&["moo=cow", "moo=%{d}", "moo="]).into(),
        _ => "A:h1.example".into(),
    };
    format!("{qualifier}{body}")
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
