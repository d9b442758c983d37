//! SPF against pyspf: the same records, sessions and DNS, a thousand times.
//!
//! Where the two differ, pyspf is asked again without one or more of its habits ([`HABITS`]), each
//! with the clause of RFC 7208 that speaks against it. A habit is only left out where what pyspf
//! stumbled over and what our check asked and was answered show that it is the reason. A difference
//! that stays fails the test, and so does another number of those that are explained
//! ([`DIFFERENCES`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use courser_core::auth::spf::{Modifier, Problem, Record, Term, What};
use courser_core::auth::{Evaluate, spf};
use courser_core::dns::{Failure, Kind, Mx, Name, Outcome, Question, Records};
use courser_core::limits::SPF_VOID_LOOKUPS_MAX;
use courser_core::time::Wall;
use courser_tests::{need, say};
use serde_json::{Value, json};

const CASES: u64 = 1000;
const NOW: i64 = 1_790_000_000;
/// What addresses are asked for, beside terms.
const MX_HOSTS: &str = "MX hosts";
const CLIENT_NAMES: &str = "client names";

/// What pyspf does otherwise.
struct Habit {
    name: &'static str,
    /// What RFC 7208 says.
    clause: &'static str,
    /// Whether our check and pyspf's answer show it.
    shown: fn(&Ours, &Theirs) -> bool,
}

/// Those that pyspf names stand before those that it doesn't.
const HABITS: &[Habit] = &[
    Habit {
        name: "void MX hosts",
        clause: "4.6.4 limits terms: addresses of an MX's hosts are not counted",
        shown: |ours, theirs| theirs.counted_void(ours, MX_HOSTS),
    },
    Habit {
        name: "void client names",
        clause: "4.6.4 limits terms: addresses of a client's names are not counted",
        shown: |ours, theirs| theirs.counted_void(ours, CLIENT_NAMES),
    },
    Habit {
        name: "void again",
        clause: "4.6.4 limits terms: an answer that an earlier one had is not counted again",
        shown: |ours, theirs| theirs.counted_void(ours, "again"),
    },
    Habit {
        name: "errors of client names",
        clause: "5.5: a DNS error about PTR is no match, one about a name's address skips the name",
        shown: |ours, theirs| theirs.failed_for(CLIENT_NAMES) && ours.failed_too(theirs),
    },
    Habit {
        name: "errors of client names not reached",
        clause: "4.6: terms are evaluated in order until one matches, 5.5: names are asked one by one",
        shown: |ours, theirs| theirs.failed_for(CLIENT_NAMES) && !ours.asked_too(theirs),
    },
    Habit {
        name: "errors of further MX hosts",
        clause: "5.4: hosts are asked one by one, and what follows a match is not",
        shown: |ours, theirs| {
            theirs.failed_for(MX_HOSTS) && !ours.asked_too(theirs) && ours.stopped_before(theirs)
        },
    },
    Habit {
        name: "modifiers twice",
        clause: "6: only redirect and exp may not stand twice",
        shown: |ours, theirs| {
            theirs.problem().strip_suffix("= MUST appear at most once").is_some_and(|twice| {
                let same = |term: &Term<'_>| {
                    matches!(term, Term::Modifier(Modifier::Unknown { name, .. }) if *name == twice)
                };
                ours.records(|record| record.terms().filter(same).count() > 1)
            })
        },
    },
    Habit {
        name: "include of itself",
        clause: "4.6, 5.2: what is never reached is never evaluated; where it is reached, the limit ends it",
        shown: |ours, theirs| {
            theirs.problem() == "include has trivial recursion"
                && ours.report.result != spf::Result::PermError
                && ours.records(|record| {
                    let this = |term: &str| term == theirs.0["mech"];
                    record.as_str().split(' ').any(this)
                })
        },
    },
    Habit {
        name: "zero parts",
        clause: "7.1: the number of a macro is not zero",
        shown: |ours, _| {
            ours.report.error.as_ref().is_some_and(
                |error| matches!(error.problem, Problem::Syntax(e) if e.what == What::MacroZero),
            )
        },
    },
    Habit {
        name: "%% at the end",
        clause: "7.1: %% is a percent sign wherever it stands",
        shown: |ours, theirs| {
            let explains = ours.report.explanation.is_some() && theirs.said().1.is_none();
            let text = match ours.asked.last().map(|a| &a.outcome) {
                Some(Outcome::Found(Records::Txt(texts))) => &texts[0],
                _ => return false,
            };
            explains && text.ends_with(b"%%")
        },
    },
    Habit {
        name: "delimiters kept",
        clause: "7.3: parts are joined with dots",
        shown: |ours, theirs| {
            theirs.0["kept"] == true
                && ours.records(|record| {
                    record.as_str().split("%{").skip(1).any(|text| {
                        let inside = text.split('}').next().unwrap_or_default();
                        !inside.starts_with(['l', 'L', 's', 'S']) && inside.ends_with('-')
                    })
                })
        },
    },
    Habit {
        name: "case of modifiers",
        clause: "12: names are strings of ABNF, in any case (RFC 5234 2.3)",
        shown: |ours, _| {
            ours.records(|record| {
                record.as_str().split(' ').any(|term| {
                    let name = term.split_once('=').map_or("", |(name, _)| name);
                    ["redirect", "exp"]
                        .iter()
                        .any(|known| name.eq_ignore_ascii_case(known) && name != *known)
                })
            })
        },
    },
];

/// The differences by their habits: as many as there are.
const DIFFERENCES: &[(&str, usize)] = &[
    ("%% at the end", 13),
    ("%% at the end, void client names", 1),
    ("case of modifiers", 44),
    ("case of modifiers, errors of client names", 2),
    ("case of modifiers, errors of client names not reached", 4),
    (
        "case of modifiers, errors of client names not reached, void client names",
        1,
    ),
    ("case of modifiers, include of itself", 1),
    ("case of modifiers, void MX hosts", 1),
    ("case of modifiers, void client names", 1),
    ("delimiters kept, include of itself, modifiers twice", 1),
    ("errors of client names", 14),
    ("errors of client names not reached", 12),
    ("errors of client names not reached, void client names", 3),
    (
        "errors of client names, errors of further MX hosts, void MX hosts",
        1,
    ),
    ("errors of client names, void MX hosts", 1),
    ("errors of client names, void client names", 1),
    ("errors of further MX hosts", 1),
    ("include of itself", 16),
    ("include of itself, modifiers twice", 1),
    ("modifiers twice", 12),
    ("modifiers twice, void client names", 1),
    ("void MX hosts", 16),
    ("void MX hosts, void client names", 1),
    ("void again", 2),
    ("void client names", 16),
    ("zero parts", 1),
];

pub(crate) fn pyspf_agrees() {
    let Some(python) = need::python(&["pyspf==2.0.14", "dnspython==2.*"]) else {
        return;
    };
    let mut other = Pyspf::start(&python);
    let (mut results, mut reasons) = (BTreeMap::new(), BTreeMap::new());
    let mut unexplained = Vec::new();
    for seed in 0..CASES {
        let case = Case::new(seed);
        let ours = case.ours();
        *results.entry(ours.said().0).or_insert(0) += 1;
        let theirs = other.ask(&case, &ours, &[]);
        if case.same(&ours, &theirs) {
            continue;
        }
        match why(&mut other, &case, &ours, &theirs) {
            Some(habits) => *reasons.entry(habits.join(", ")).or_insert(0) += 1,
            None => unexplained.push(format!(
                "seed {seed}: {:?}, pyspf {:?}\n{}",
                ours.said(),
                theirs.0,
                serde_json::to_string_pretty(&case.json(&ours, &[])).expect("JSON")
            )),
        }
    }
    let different: usize = reasons.values().sum::<usize>() + unexplained.len();
    let mut words = format!("{CASES} records: {different} differ from pyspf\n");
    for (result, n) in &results {
        words += &format!("  {n:5} {result}\n");
    }
    for (habits, n) in &reasons {
        words += &format!("  {n:5} differ by: {habits}\n");
    }
    for habit in HABITS {
        words += &format!("  {}: RFC 7208 {}\n", habit.name, habit.clause);
    }
    say(&words);
    assert!(
        unexplained.is_empty(),
        "{} unexplained:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    let known = DIFFERENCES.iter().map(|&(name, n)| (name.to_owned(), n));
    assert_eq!(reasons, known.collect(), "other differences than before");
    for habit in HABITS {
        let needed = reasons
            .keys()
            .any(|habits| habits.split(", ").any(|name| name == habit.name));
        assert!(needed, "no difference comes from {:?} any more", habit.name);
    }
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

/// Our check: what came of it, and what it asked on the way.
struct Ours {
    report: spf::Report,
    asked: Vec<Asked>,
}

struct Asked {
    question: Question,
    outcome: Outcome,
    /// What for, in the words of `pyspf.py`.
    what: &'static str,
}

/// What our check asks this for, after these.
fn what_for(question: &Question, before: &[Asked]) -> &'static str {
    match question.kind {
        Kind::Ptr => return CLIENT_NAMES,
        Kind::A | Kind::Aaaa => {}
        _ => return "term",
    }
    // The hosts of an MX are asked right behind it, the client's names when a term needs them.
    let behind = before.iter().rev().find(|a| a.what != MX_HOSTS);
    if let Some(Outcome::Found(Records::Mx(all))) = behind.map(|a| &a.outcome)
        && all.iter().any(|mx| mx.exchange == question.name)
    {
        return MX_HOSTS;
    }
    let named = |a: &Asked| match &a.outcome {
        Outcome::Found(Records::Ptr(names)) => names.contains(&question.name),
        _ => false,
    };
    if before.iter().any(named) {
        CLIENT_NAMES
    } else {
        "term"
    }
}

impl Ours {
    fn said(&self) -> Said {
        (
            self.report.result.to_string(),
            self.report.explanation.clone(),
        )
    }

    /// Whether a record that we were given is like this.
    fn records(&self, like: impl Fn(Record<'_>) -> bool) -> bool {
        let texts = self.asked.iter().filter_map(|asked| match &asked.outcome {
            Outcome::Found(Records::Txt(texts)) => Some(texts),
            _ => None,
        });
        texts
            .flatten()
            .filter_map(|text| Record::parse(text).ok())
            .any(like)
    }

    /// What came of the question that failed for pyspf, if we asked it for the same.
    fn outcome(&self, theirs: &Theirs) -> Option<&Outcome> {
        let failed = &theirs.0["failed"];
        let same = |a: &&Asked| {
            failed["name"] == a.question.name.as_str()
                && failed["kind"] == a.question.kind.to_string()
                && failed["why"] == a.what
        };
        self.asked.iter().find(same).map(|asked| &asked.outcome)
    }

    fn asked_too(&self, theirs: &Theirs) -> bool {
        self.outcome(theirs).is_some()
    }

    fn failed_too(&self, theirs: &Theirs) -> bool {
        matches!(self.outcome(theirs), Some(Outcome::Failed(_)))
    }

    /// Whether we stopped, among the hosts of an MX, before the one that failed for pyspf.
    fn stopped_before(&self, theirs: &Theirs) -> bool {
        self.asked.iter().enumerate().any(|(n, asked)| {
            let Outcome::Found(Records::Mx(all)) = &asked.outcome else {
                return false;
            };
            let mut hosts: Vec<_> = all.iter().map(|mx| (mx.preference, &mx.exchange)).collect();
            hosts.sort();
            let behind = self.asked[n + 1..].iter();
            let asked = behind.take_while(|a| a.what == MX_HOSTS).count();
            let skipped = &mut hosts.iter().skip(asked);
            asked > 0 && skipped.any(|(_, host)| theirs.0["failed"]["name"] == host.as_str())
        })
    }
}

/// pyspf's answer as `pyspf.py` writes it.
struct Theirs(Value);

impl Theirs {
    fn said(&self) -> Said {
        let text = |key: &str| self.0[key].as_str().map(str::to_owned);
        (text("result").expect("a result"), text("explanation"))
    }

    /// Why it gave up, in its words.
    fn problem(&self) -> &str {
        self.0["problem"].as_str().unwrap_or_default()
    }

    /// Whether it counted void answers of this kind over the limit, those of terms being in it.
    fn counted_void(&self, ours: &Ours, kind: &str) -> bool {
        let voids = self.0["voids"].as_array().map_or(&[][..], Vec::as_slice);
        let count = |kind: &str| voids.iter().filter(|void| **void == kind).count();
        let of_terms = ours.report.void_lookups;
        self.problem().starts_with("Void lookup limit")
            && count(kind) > 0
            && count("term") <= of_terms as usize
            && of_terms <= SPF_VOID_LOOKUPS_MAX
    }

    fn failed_for(&self, what: &str) -> bool {
        self.0["failed"]["why"] == what
    }
}

/// The habits without which pyspf says what we say: each of them shown, and none in vain.
fn why(other: &mut Pyspf, case: &Case, ours: &Ours, theirs: &Theirs) -> Option<Vec<&'static str>> {
    let mut without: Vec<&str> = Vec::new();
    let mut last = Theirs(theirs.0.clone());
    while !case.same(ours, &last) {
        let next = |habit: &&Habit| !without.contains(&habit.name) && (habit.shown)(ours, &last);
        without.push(HABITS.iter().find(next)?.name);
        last = other.ask(case, ours, &without);
    }
    let mut n = 0;
    while n < without.len() {
        let mut fewer = without.clone();
        fewer.remove(n);
        if case.same(ours, &other.ask(case, ours, &fewer)) {
            without = fewer;
        } else {
            n += 1;
        }
    }
    without.sort_unstable();
    Some(without)
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

    fn ask(&mut self, case: &Case, ours: &Ours, without: &[&str]) -> Theirs {
        let input = self.child.stdin.as_mut().expect("its input");
        let question = case.json(ours, without);
        writeln!(input, "{question}").expect("it reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it writes");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert_ne!(answer["result"], "exception", "{answer} {question}");
        Theirs(answer)
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
        let reverse = Name::reverse(case.address());
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

    fn json(&self, ours: &Ours, without: &[&str]) -> Value {
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
        let asked: Vec<_> = ours
            .asked
            .iter()
            .map(|a| {
                json!([
                    a.question.name.as_str(),
                    a.question.kind.to_string(),
                    a.what
                ])
            })
            .collect();
        json!({
            "ip": self.ip, "mail_from": self.mail_from, "helo": self.helo, "now": NOW.to_string(),
            "dns": dns, "failing": self.failing, "asked": asked, "without": without,
        })
    }

    /// Whether both say the same.
    fn same(&self, ours: &Ours, theirs: &Theirs) -> bool {
        let (ours, mut theirs) = (ours.said(), theirs.said());
        if let (IpAddr::V6(ip), Some(words)) = (self.address(), &mut theirs.1) {
            // RFC 7208 7.4 writes the nibbles of IPv6 addresses in lower case, pyspf in upper case.
            let digits = format!("{:032x}", ip.to_bits());
            let nibbles: Vec<&str> = digits.split("").filter(|n| !n.is_empty()).collect();
            let nibbles = nibbles.join(".");
            *words = words.replace(&nibbles.to_ascii_uppercase(), &nibbles);
        }
        ours == theirs
    }

    fn address(&self) -> IpAddr {
        let ip: IpAddr = self.ip.parse().expect("an address");
        ip.to_canonical()
    }

    fn ours(&self) -> Ours {
        let request = spf::Request {
            ip: self.ip.parse().expect("an address"),
            mail_from: &self.mail_from,
            helo: self.helo,
            receiver: None,
            now: Wall::from_unix(NOW),
            explain: true,
        };
        let mut asked: Vec<Asked> = Vec::new();
        let report = spf::Check::new(&request).run(|question| {
            let outcome = self.answer(question);
            asked.push(Asked {
                what: what_for(question, &asked),
                question: question.clone(),
                outcome: outcome.clone(),
            });
            outcome
        });
        Ours { report, asked }
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
