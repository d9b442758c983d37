//! The DNS in the input: names with their records, instead of a resolver.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use courser_core::dns::{Failure, Kind, Mx, Name, Outcome, Question, Records, Tlsa};
use courser_core::limits::DNS_CNAME_CHAIN_MAX;
use serde_json::Value;

use super::fields::{Fields, Mistake};

/// The part of the help about it.
pub const HELP: &str = r#"DNS in the input:

  "dns": {"mail.example.org": {"TXT": ["..."], "A": ["192.0.2.1"], "AAAA": ["2001:db8::1"],
          "MX": [[10, "mx.example.org"]], "PTR": ["host.example.org"], "CNAME": "example.net",
          "TLSA": ["3 1 1 0123..."]}}

  Names compare without regard to case and to a final dot. A name that is not there doesn't exist
  (NXDOMAIN); one that is there has no records of the types that are not (NODATA). Instead of the
  records of a type, or of all types of a name, "timeout" or "servfail" makes the question fail. A
  TXT may be a list of the character-strings that make it up. A CNAME is followed, ten in a row at
  most."#;

/// Other types: they make the name exist, and are never asked for.
const OTHER_TYPES: [&str; 8] = ["CAA", "DS", "HINFO", "NAPTR", "NS", "SOA", "SPF", "SRV"];

/// The names of an input, by their text in lower case.
#[derive(Clone, Debug, Default)]
pub struct Dns(BTreeMap<String, Entry>);

/// What one name has.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// All questions about it fail.
    failure: Option<Failure>,
    /// The name it is an alias of, or why that can't be found out.
    cname: Option<Result<String, Failure>>,
    records: BTreeMap<Kind, Outcome>,
}

impl Dns {
    /// Reads the field `dns`; without one, no name exists.
    ///
    /// # Errors
    /// A name or a record that can't be.
    pub fn of(fields: &Fields<'_>) -> Result<Self, Mistake> {
        let path = fields.path("dns");
        let names = match fields.get("dns") {
            None => return Ok(Self::default()),
            Some(Value::Object(names)) => names,
            Some(other) => {
                let right = "an object of names, as {\"a.example\": {\"A\": [\"192.0.2.1\"]}}";
                return Err(Mistake::expected(path, right, other));
            }
        };
        let mut dns = Self::default();
        for (name, value) in names {
            let path = format!("{path}.{name:?}");
            let entry = dns.0.entry(key(name)).or_default();
            entry.add(&path, value)?;
        }
        Ok(dns)
    }

    /// What comes of a question.
    pub fn answer(&self, question: &Question) -> Outcome {
        let mut name = question.name.as_str();
        // The asked name itself, and behind it as many CNAMEs as the resolver follows.
        for _ in 0..=DNS_CNAME_CHAIN_MAX {
            let Some(entry) = self.0.get(name) else {
                return Outcome::NoName;
            };
            if let Some(failure) = entry.failure {
                return Outcome::Failed(failure);
            }
            match &entry.cname {
                Some(Ok(target)) => name = target,
                Some(Err(failure)) => return Outcome::Failed(*failure),
                None => {
                    let records = entry.records.get(&question.kind);
                    return records.cloned().unwrap_or(Outcome::NoData);
                }
            }
        }
        Outcome::Failed(Failure::CnameChain)
    }
}

/// A name as [`Name`] keeps it, odd ones too: SPF's macros ask for them.
fn key(name: &str) -> String {
    match any_name(name) {
        Some(name) => name.as_str().to_owned(),
        // Nobody can ask for it.
        None => name.to_ascii_lowercase(),
    }
}

fn any_name(name: &str) -> Option<Name> {
    let as_bytes = |_| Name::from_bytes(name.as_bytes());
    Name::from_domain(name).or_else(as_bytes).ok()
}

fn failure(value: &Value) -> Option<Failure> {
    match value.as_str()? {
        "timeout" => Some(Failure::Timeout),
        "servfail" => Some(Failure::ServerFailure),
        _ => None,
    }
}

impl Entry {
    fn add(&mut self, path: &str, value: &Value) -> Result<(), Mistake> {
        if let Some(failure) = failure(value) {
            self.failure = Some(failure);
            return Ok(());
        }
        let Some(types) = value.as_object() else {
            let right =
                "an object of types, as {\"A\": [\"192.0.2.1\"]}, \"timeout\" or \"servfail\"";
            return Err(Mistake::expected(path, right, value));
        };
        for (kind, value) in types {
            let path = format!("{path}.{kind}");
            let upper = kind.to_ascii_uppercase();
            let read: fn(&str, &Value) -> Result<Records, Mistake> = match upper.as_str() {
                "A" => |p, v| list(p, v, "an IPv4 address", ip4).map(Records::A),
                "AAAA" => |p, v| list(p, v, "an IPv6 address", ip6).map(Records::Aaaa),
                "MX" => |p, v| list(p, v, "[preference, \"host\"]", mx).map(Records::Mx),
                "TXT" => |p, v| list(p, v, "a text", txt).map(Records::Txt),
                "PTR" => |p, v| list(p, v, "a name", name).map(Records::Ptr),
                "TLSA" => {
                    |p, v| list(p, v, "\"usage selector matching hex\"", tlsa).map(Records::Tlsa)
                }
                "CNAME" => {
                    let target = cname(&path, value)?;
                    if self.cname.replace(target).is_some() {
                        return Err(Mistake::new(path, "the name has it already"));
                    }
                    continue;
                }
                other if OTHER_TYPES.contains(&other) => continue,
                _ => {
                    let right = "no such type; there are A, AAAA, MX, TXT, PTR, CNAME and TLSA";
                    return Err(Mistake::new(path, right));
                }
            };
            let kind = match upper.as_str() {
                "A" => Kind::A,
                "AAAA" => Kind::Aaaa,
                "MX" => Kind::Mx,
                "TXT" => Kind::Txt,
                "PTR" => Kind::Ptr,
                _ => Kind::Tlsa,
            };
            let outcome = match failure(value) {
                Some(failure) => Outcome::Failed(failure),
                None if value.as_array().is_some_and(Vec::is_empty) => Outcome::NoData,
                None => Outcome::Found(read(&path, value)?),
            };
            if self.records.insert(kind, outcome).is_some() {
                return Err(Mistake::new(path, "the name has it already"));
            }
        }
        Ok(())
    }
}

fn list<T>(
    path: &str,
    value: &Value,
    right: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Box<[T]>, Mistake> {
    let Some(all) = value.as_array() else {
        let right = format!("a list, \"timeout\" or \"servfail\", each of the list {right}");
        return Err(Mistake::expected(path, &right, value));
    };
    all.iter()
        .enumerate()
        .map(|(n, one)| {
            read(one).ok_or_else(|| Mistake::expected(format!("{path}[{n}]"), right, one))
        })
        .collect()
}

fn ip4(value: &Value) -> Option<Ipv4Addr> {
    value.as_str()?.parse().ok()
}

fn ip6(value: &Value) -> Option<Ipv6Addr> {
    value.as_str()?.parse().ok()
}

/// A name of an answer; the empty one is the root, as in a null MX.
fn name(value: &Value) -> Option<Name> {
    match value.as_str()? {
        "" => Some(Name::root()),
        text => any_name(text),
    }
}

fn mx(value: &Value) -> Option<Mx> {
    let [preference, exchange] = value.as_array()?.as_slice() else {
        return None;
    };
    Some(Mx {
        preference: preference.as_u64()?.try_into().ok()?,
        exchange: name(exchange)?,
    })
}

fn txt(value: &Value) -> Option<Box<[u8]>> {
    if let Some(text) = value.as_str() {
        return Some(text.as_bytes().into());
    }
    let parts: Option<Vec<&str>> = value.as_array()?.iter().map(Value::as_str).collect();
    Some(parts?.concat().into_bytes().into())
}

fn tlsa(value: &Value) -> Option<Tlsa> {
    Tlsa::parse(value.as_str()?)
}

/// One name, alone or as the only one of a list.
fn cname(path: &str, value: &Value) -> Result<Result<String, Failure>, Mistake> {
    if let Some(failure) = failure(value) {
        return Ok(Err(failure));
    }
    let target = match value.as_array().map(Vec::as_slice) {
        Some([one]) => one,
        _ => value,
    };
    match target.as_str() {
        Some(target) => Ok(Ok(key(target))),
        None => Err(Mistake::expected(path, "a name", value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dns(value: Value) -> Result<Dns, String> {
        let value = json!({ "dns": value });
        Dns::of(&Fields::of(&value).unwrap()).map_err(|m| m.to_string())
    }

    fn ask(dns: &Dns, name: &str, kind: Kind) -> Outcome {
        dns.answer(&Question::new(Name::parse(name).unwrap(), kind))
    }

    #[test]
    fn every_type() {
        let dns = dns(json!({
            "Mail.Example.ORG.": {
                "TXT": ["one", ["tw", "o"]], "A": ["192.0.2.1"], "aaaa": ["2001:db8::1"],
                "MX": [[10, "MX.example.org"], [0, "."]], "PTR": ["a.example"],
                "TLSA": ["3 1 1 00fF"], "SOA": ["whatever"],
            },
            "none.example": {},
            "empty.example": { "A": [] },
            "b\u{fc}cher.example": { "A": ["192.0.2.2"] },
        }))
        .unwrap();
        let host = "mail.example.org";
        let txt: Box<[Box<[u8]>]> = [(*b"one").into(), (*b"two").into()].into();
        assert_eq!(
            ask(&dns, host, Kind::Txt),
            Outcome::Found(Records::Txt(txt))
        );
        let a = Records::A([Ipv4Addr::new(192, 0, 2, 1)].into());
        assert_eq!(ask(&dns, host, Kind::A), Outcome::Found(a));
        let Outcome::Found(Records::Mx(mx)) = ask(&dns, host, Kind::Mx) else {
            panic!("no MX");
        };
        assert_eq!(mx[0].exchange.as_str(), "mx.example.org");
        assert!(mx[1].exchange.is_root());
        let Outcome::Found(Records::Tlsa(tlsa)) = ask(&dns, host, Kind::Tlsa) else {
            panic!("no TLSA");
        };
        assert_eq!((tlsa[0].usage, &*tlsa[0].data), (3, &[0, 255][..]));
        assert!(matches!(ask(&dns, host, Kind::Aaaa), Outcome::Found(_)));
        assert!(matches!(ask(&dns, host, Kind::Ptr), Outcome::Found(_)));
        let idn = ask(&dns, "xn--bcher-kva.example", Kind::A);
        assert!(matches!(idn, Outcome::Found(_)));
        assert_eq!(ask(&dns, "none.example", Kind::A), Outcome::NoData);
        assert_eq!(ask(&dns, "empty.example", Kind::A), Outcome::NoData);
        assert_eq!(ask(&dns, "nowhere.example", Kind::A), Outcome::NoName);
    }

    #[test]
    fn failures_and_aliases() {
        let mut names = json!({
            "a.example": { "TXT": "timeout", "A": "servfail", "MX": [[1, "x.example"]] },
            "b.example": "timeout",
            "c.example": { "CNAME": "A.example." },
            "d.example": { "CNAME": "servfail" },
            "e.example": { "CNAME": ["nowhere.example"] },
            "loop.example": { "CNAME": "loop.example" },
        });
        for n in 0..=DNS_CNAME_CHAIN_MAX {
            let next = json!({ "CNAME": format!("chain{}.example", n + 1) });
            names[format!("chain{n}.example")] = next;
        }
        names[format!("chain{}.example", DNS_CNAME_CHAIN_MAX + 1)] = json!({ "A": ["192.0.2.1"] });
        let dns = dns(names).unwrap();
        let failed = |name, kind| match ask(&dns, name, kind) {
            Outcome::Failed(failure) => Some(failure),
            _ => None,
        };
        assert_eq!(failed("a.example", Kind::Txt), Some(Failure::Timeout));
        assert_eq!(failed("a.example", Kind::A), Some(Failure::ServerFailure));
        assert_eq!(failed("a.example", Kind::Mx), None);
        assert_eq!(failed("b.example", Kind::Mx), Some(Failure::Timeout));
        assert_eq!(failed("c.example", Kind::Txt), Some(Failure::Timeout));
        assert_eq!(failed("d.example", Kind::A), Some(Failure::ServerFailure));
        assert_eq!(ask(&dns, "e.example", Kind::A), Outcome::NoName);
        assert_eq!(failed("loop.example", Kind::A), Some(Failure::CnameChain));
        assert_eq!(failed("chain0.example", Kind::A), Some(Failure::CnameChain));
        assert!(matches!(
            ask(&dns, "chain1.example", Kind::A),
            Outcome::Found(_)
        ));
    }

    #[test]
    fn mistakes_say_where() {
        for (value, words) in [
            (json!([]), "dns: expected an object of names"),
            (
                json!({"a.example": 1}),
                "dns.\"a.example\": expected an object of types",
            ),
            (
                json!({"a.example": {"TXTT": []}}),
                "dns.\"a.example\".TXTT: no such type",
            ),
            (
                json!({"a.example": {"A": "192.0.2.1"}}),
                "dns.\"a.example\".A: expected a list",
            ),
            (
                json!({"a.example": {"A": ["x"]}}),
                "dns.\"a.example\".A[0]: expected an IPv4 address, found \"x\"",
            ),
            (
                json!({"a.example": {"MX": ["x"]}}),
                "dns.\"a.example\".MX[0]: expected [preference",
            ),
            (
                json!({"a.example": {"MX": [[65536, "x"]]}}),
                "dns.\"a.example\".MX[0]",
            ),
            (
                json!({"a.example": {"TLSA": ["3 1 1 0"]}}),
                "dns.\"a.example\".TLSA[0]",
            ),
            (
                json!({"a.example": {"CNAME": 1}}),
                "dns.\"a.example\".CNAME: expected a name",
            ),
            (
                json!({"a.example": {"A": []}, "A.example": {"A": []}}),
                "the name has it already",
            ),
        ] {
            let error = dns(value).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
