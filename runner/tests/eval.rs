//! `courser eval`: each kind on published vectors and on what a person may get wrong, and the
//! program's lines in and out.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use courser::cli::eval::{KINDS, LINE_BYTES_MAX, answer, answer_all};
use serde_json::{Value, json};

fn eval(kind: &str, input: Value) -> Value {
    let kind = KINDS.iter().find(|k| k.name == kind).unwrap();
    answer(kind, input.to_string().as_bytes())
}

fn error(kind: &str, input: Value) -> String {
    let answer = eval(kind, input);
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    answer["error"].as_str().unwrap().to_owned()
}

/// A shared vector file or folder, or `None` with a word about it.
fn vectors(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors");
    let found = [beside, "/work/shared/vectors"]
        .iter()
        .map(|dir| PathBuf::from(dir).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        println!("skipped: needs ../shared/vectors/{name}");
    }
    found
}

#[test]
fn dmarc() {
    let dns = json!({
        "_dmarc.Example.com": {"TXT": ["v=DMARC1; p=quarantine; sp=reject; pct=10"]},
        "a.example.com": {},
        "_dmarc.broken.example": {"TXT": "servfail"},
        "_dmarc.useless.example": {"TXT": ["v=DMARC1; p=what"]},
    });
    let spf = json!({"result": "pass", "domain": "bounce.example.com"});
    for (from, spf, dkim, expected) in [
        (
            "x@a.example.com",
            &spf,
            json!([]),
            ["pass", "reject", "none", "example.com"],
        ),
        (
            "X <x@a.EXAMPLE.com>",
            &Value::Null,
            json!([{"result": "fail", "domain": "example.com"}]),
            ["fail", "reject", "reject", "example.com"],
        ),
        (
            "example.com",
            &Value::Null,
            json!([{"result": "temperror", "domain": "example.com"}]),
            ["temperror", "quarantine", "none", "example.com"],
        ),
        (
            "example.com",
            &json!({"result": "none"}),
            Value::Null,
            ["fail", "quarantine", "quarantine", "example.com"],
        ),
        (
            "broken.example",
            &spf,
            json!([]),
            ["temperror", "", "none", ""],
        ),
        (
            "useless.example",
            &spf,
            json!([]),
            ["permerror", "", "none", "useless.example"],
        ),
        (
            "nothing.example",
            &spf,
            json!([]),
            ["none", "", "none", "nothing.example"],
        ),
        (
            "a@b.example, c@d.example",
            &spf,
            json!([]),
            ["none", "", "none", ""],
        ),
    ] {
        let got = eval(
            "dmarc",
            json!({"from": from, "spf": spf, "dkim": dkim, "dns": dns}),
        );
        let fields = ["result", "policy", "disposition", "org_domain"];
        let got_fields = fields.map(|f| got[f].as_str().unwrap_or(""));
        assert_eq!(got_fields, expected, "{from}: {got}");
        assert!(!got["reason"].as_str().unwrap().is_empty());
    }
    let got = eval("dmarc", json!({"from": "a.example.com", "dns": dns}));
    assert_eq!(got["record"], "v=DMARC1; p=quarantine; sp=reject; pct=10");
    assert_eq!(got["record_domain"], "example.com");
    let got = eval(
        "dmarc",
        json!({"from": "example.com", "dns": dns, "discovery": "psl", "sample": 10}),
    );
    assert_eq!(got["disposition"], "none", "pct=10 leaves it out: {got}");
}

#[test]
fn dmarc_mistakes() {
    for (input, words) in [
        (json!({}), "from: missing, should be a text"),
        (
            json!({"from": 1}),
            "from: expected a text, found the number 1",
        ),
        (
            json!({"from": "a.example", "spf": {"domain": "a.example"}}),
            "spf.result: missing, should be a word such as \"pass\"",
        ),
        (
            json!({"from": "a.example", "dkim": [{"result": "passed"}]}),
            "dkim[0].result: expected one of \"pass\", ",
        ),
        (
            json!({"from": "a.example", "dkim": [{"result": "pass", "domain": "a..b"}]}),
            "dkim[0].domain: expected the domain that was checked: two dots",
        ),
        (
            json!({"from": "a.example", "dkim": {}}),
            "dkim: expected a list of objects",
        ),
        (
            json!({"from": "a.example", "sample": 100}),
            "sample: expected a whole number",
        ),
        (
            json!({"from": "a.example", "dns": {"b": {"A": [1]}}}),
            "dns.\"b\".A[0]: expected an IPv4",
        ),
        (json!([]), "expected a JSON object, found a list"),
    ] {
        let got = error("dmarc", input);
        assert!(got.starts_with(words), "{got}");
    }
}

#[test]
fn auth_results() {
    let got = eval(
        "auth-results",
        json!({"header": "Authentication-Results: mx.example 1;\r\n dkim=pass (ok) reason=\"x y\" header.d=a.example action=none"}),
    );
    let expected = json!({
        "authserv_id": "mx.example", "version": 1, "results": [{
            "method": "dkim", "version": null, "result": "pass", "comment": "ok", "reason": "x y",
            "properties": [
                {"ptype": "header", "property": "d", "value": "a.example"},
                {"ptype": null, "property": "action", "value": "none"},
            ],
        }],
    });
    assert_eq!(got, expected);
    let got = eval("auth-results", json!({"header": "mx.example; none"}));
    assert_eq!(got["results"], json!([]));
    assert!(error("auth-results", json!({"header": "; none"})).starts_with("header: "));
}

#[test]
fn mailboxes() {
    let valid =
        json!({"valid": true, "local": "\"a b\"", "domain": "[IPv6:2001:DB8::1]", "reason": null});
    assert_eq!(
        eval("mailbox", json!({"address": "\"a b\"@[IPv6:2001:DB8::1]"})),
        valid
    );
    let utf8 = "jos\u{e9}@example.org";
    assert_eq!(eval("mailbox", json!({"address": utf8}))["valid"], false);
    assert_eq!(
        eval("mailbox", json!({"address": utf8, "smtputf8": true}))["valid"],
        true
    );
    let alone = eval("mailbox", json!({"address": "postmaster"}));
    assert_eq!(
        (&alone["valid"], &alone["local"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(
        error("mailbox", json!({"address": "a", "smtputf8": 1})),
        "smtputf8: expected true or false, found the number 1"
    );
}

/// Where isemail says otherwise, and why.
const ISEMAIL: [(&str, &str); 1] = [(
    "test@[IPv6:1111:2222:3333:4444:5555:6666::8888]",
    "\"::\" for one group: RFC 4291 2.2 allows it, and isemail calls the same valid elsewhere",
)];

#[test]
fn isemail() {
    let Some(path) = vectors("addresses/isemail.json") else {
        return;
    };
    let cases: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 400);
    let mut wrong = Vec::new();
    for case in cases {
        let address = case["address"].as_str().unwrap();
        let got = eval("mailbox", json!({"address": address, "smtputf8": true}));
        let excepted = ISEMAIL.iter().any(|(a, _)| *a == address);
        if (got["valid"] == case["smtp_mailbox_valid"]) == excepted {
            wrong.push(format!("{address:?}: {got}"));
        }
        if got["valid"] == true {
            let parts = ["local", "domain"].map(|part| got[part].as_str().unwrap());
            assert_eq!(parts.join("@"), address);
        } else {
            assert!(!got["reason"].as_str().unwrap().is_empty());
        }
    }
    println!(
        "isemail: {} of {}",
        cases.len() - ISEMAIL.len() - wrong.len(),
        cases.len()
    );
    for (address, why) in ISEMAIL {
        println!("  differs: {address:?}: {why}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn addresses_of_mox() {
    let Some(path) = vectors("records/goodbad.json") else {
        return;
    };
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = all["smtp/address_test.go"].as_array().unwrap();
    assert!(cases.len() > 15);
    let mut wrong = Vec::new();
    for case in cases {
        let input = case["input"].as_str().unwrap();
        let address = match case["fn"].as_str().unwrap() {
            "TestParseLocalpart" => format!("{input}@example.com"),
            _ => input.to_owned(),
        };
        let got = eval("mailbox", json!({"address": address}));
        if (got["valid"] == true) != (case["kind"] == "good") {
            wrong.push(format!("{address:?}: {got}"));
        }
    }
    println!(
        "records/goodbad.json, addresses: {} of {}",
        cases.len() - wrong.len(),
        cases.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn commands() {
    for (line, expected) in [
        (
            "EHLO [192.0.2.1]\r\n",
            json!({"verb": "EHLO", "name": "[192.0.2.1]"}),
        ),
        (
            "mail from:<> size=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x BY=100;RT HOLDFOR=5",
            json!({"verb": "MAIL", "from": null, "params": {
                "SIZE": 10, "BODY": "8BITMIME", "SMTPUTF8": true, "RET": "HDRS", "ENVID": "x",
                "BY": {"seconds": 100, "mode": "R", "trace": true}, "HOLDFOR": 5}}),
        ),
        (
            "RCPT TO:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b.example",
            json!({"verb": "RCPT", "to": "a@b.example", "params": {
                "NOTIFY": ["SUCCESS", "DELAY"], "ORCPT": "rfc822;a@b.example"}}),
        ),
        (
            "BDAT 86 LAST",
            json!({"verb": "BDAT", "size": 86, "last": true}),
        ),
        (
            "AUTH PLAIN AGE=",
            json!({"verb": "AUTH", "mechanism": "PLAIN", "initial": "AGE="}),
        ),
        ("noop x y", json!({"verb": "NOOP", "argument": "x y"})),
        ("QUIT", json!({"verb": "QUIT"})),
    ] {
        assert_eq!(eval("command", json!({"line": line})), expected, "{line}");
    }
    let got = eval("command", json!({"line": "MAIL FROM:<a@b.example> X=1"}));
    assert_eq!(got["reply"], "555 5.5.4 Parameter not recognised");
    let got = eval(
        "command",
        json!({"line": "MAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>"}),
    );
    assert!(
        got["error"].as_str().unwrap().contains("Control character"),
        "{got}"
    );
}

#[test]
fn replies() {
    let got = eval(
        "reply",
        json!({"line": "250-2.1.5 one\r\n250 2.1.5 two\r\n"}),
    );
    let expected =
        json!({"code": 250, "enhanced": "2.1.5", "text": "one\ntwo", "lines": ["one", "two"]});
    assert_eq!(got, expected);
    let got = eval("reply", json!({"line": "354"}));
    assert_eq!(
        (&got["code"], &got["enhanced"]),
        (&json!(354), &Value::Null)
    );
    for line in [
        "",
        "25 x",
        "250-a\r\n251 b",
        "250-a",
        "250 a\r\n250 b",
        "600 a",
    ] {
        assert!(
            error("reply", json!({"line": line})).starts_with("line: "),
            "{line}"
        );
    }
}

#[test]
fn replies_in_the_wild() {
    let Some(dir) = vectors("replies") else {
        return;
    };
    let (mut files, mut replies) = (0, 0);
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "txt") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        // A file may hold several replies: each ends with the line that has no hyphen.
        let mut one = String::new();
        for line in text.lines() {
            one.push_str(line);
            one.push_str("\r\n");
            if line.as_bytes().get(3) != Some(&b'-') {
                let got = eval("reply", json!({"line": one}));
                assert_eq!(got["code"].to_string(), one[..3], "{path:?}: {got}");
                replies += 1;
                one.clear();
            }
        }
        assert_eq!(one, "", "{path:?} ends within a reply");
    }
    println!("replies: {replies} in {files} files");
    assert!(files > 30);
}

#[test]
fn lines_in_and_out() {
    let kind = KINDS.iter().find(|k| k.name == "mailbox").unwrap();
    let mut input = b"{\"address\": \"a@b.example\"}\n\n{\"address\"\n\xff\n{}\r\n".to_vec();
    for over in [0, 1, 100_000] {
        input.extend(std::iter::repeat_n(b' ', LINE_BYTES_MAX + over));
        input.push(b'\n');
    }
    input.extend(b"{\"address\": \"c\"}");
    let mut out = Vec::new();
    answer_all(kind, &mut BufReader::new(&*input), &mut out).unwrap();
    let lines: Vec<Value> = out
        .split_inclusive(|b| *b == b'\n')
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let error = |n: usize| lines[n]["error"].as_str().unwrap();
    assert_eq!(lines.len(), 9);
    assert_eq!(lines[0]["valid"], true);
    for n in [1, 2, 3, 5] {
        assert!(error(n).starts_with("the line is no JSON"), "{}", error(n));
    }
    assert_eq!(error(4), "address: missing, should be a text");
    for n in [6, 7] {
        assert!(
            error(n).starts_with("the line is longer than"),
            "{}",
            error(n)
        );
    }
    assert_eq!(lines[8]["valid"], false);
}

#[test]
fn the_program_answers_while_it_is_asked() {
    let mut courser = Command::new(env!("CARGO_BIN_EXE_courser"))
        .args(["eval", "reply"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ask = courser.stdin.take().unwrap();
    let mut answers = BufReader::new(courser.stdout.take().unwrap()).lines();
    for code in [250, 451, 550] {
        writeln!(ask, "{{\"line\": \"{code} x\"}}").unwrap();
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer["code"], code);
    }
    drop(ask);
    assert!(answers.next().is_none());
    assert!(courser.wait().unwrap().success());
}

#[test]
fn the_help_names_every_kind_and_its_fields() {
    let help = Command::new(env!("CARGO_BIN_EXE_courser"))
        .args(["eval", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for kind in KINDS {
        assert!(help.contains(&format!("\n  {}\n", kind.name)), "{help}");
    }
    for words in [
        "in:  {from, spf?: {result, domain}",
        "\"TLSA\": [",
        "NXDOMAIN",
    ] {
        assert!(help.contains(words), "{words} is not in {help}");
    }
    let unknown = Command::new(env!("CARGO_BIN_EXE_courser"))
        .args(["eval", "nonsense"])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn spf() {
    let dns = json!({
        "example.com": {"TXT": ["v=spf1 ip4:192.0.2.0/24 include:esp.example exp=why.example.com -all"]},
        "why.example.com": {"TXT": ["%{i} is not one of %{d}'s"]},
        "ESP.example": {"TXT": ["v=spf1 a:out.esp.example -all"]},
        "out.esp.example": {"A": ["198.51.100.7"]},
        "slow.example": {"TXT": "timeout"},
        "wrong.example": {"TXT": ["v=spf1 ip4:300.0.0.1 -all"]},
    });
    let check = |ip: &str, from: &str| {
        eval(
            "spf",
            json!({"ip": ip, "mail_from": from, "helo": "mx.example.com", "dns": dns}),
        )
    };
    let passes = check("192.0.2.9", "a@example.com");
    assert_eq!(passes["result"], "pass");
    assert_eq!(passes["mechanism"], "ip4:192.0.2.0/24");
    let included = check("198.51.100.7", "a@example.com");
    assert_eq!(included["result"], "pass");
    assert_eq!(included["lookups"], 2);
    let fails = check("203.0.113.1", "a@example.com");
    assert_eq!(fails["result"], "fail");
    assert_eq!(fails["mechanism"], "-all");
    assert_eq!(
        fails["explanation"],
        "203.0.113.1 is not one of example.com's"
    );
    assert_eq!(check("192.0.2.1", "a@slow.example")["result"], "temperror");
    let wrong = check("192.0.2.1", "a@wrong.example");
    assert_eq!(wrong["result"], "permerror");
    assert!(
        wrong["error"].as_str().unwrap().contains("300.0.0.1"),
        "{wrong}"
    );
    assert_eq!(check("192.0.2.1", "a@nowhere.example")["result"], "none");
    let said = error(
        "spf",
        json!({"ip": "example.com", "mail_from": "", "helo": "x"}),
    );
    assert!(said.starts_with("ip: "), "{said}");
}

const RSA: &str = include_str!("../../core/src/auth/dkim/test-rsa-2048.pem");
const ED25519: &str = include_str!("../../core/src/auth/dkim/test-ed25519.pem");
const NOW: u64 = 1_796_083_200;

fn base64(octets: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    Base64::encode_string(octets)
}

fn record(pem: &str) -> String {
    let key = courser_core::auth::dkim::PrivateKey::parse(pem).unwrap();
    key.record().to_string()
}

#[test]
fn what_is_signed_verifies_and_what_is_changed_does_not() {
    let dns = json!({
        "r._domainkey.example.com": {"TXT": [record(RSA)]},
        "e._domainkey.example.com": {"TXT": [record(ED25519)]},
    });
    let message = "From: a@example.com\r\nSubject:  x \r\n\r\nhello  \r\n\r\n";
    for (pem, selector, algorithm) in [(RSA, "r", "rsa-sha256"), (ED25519, "e", "ed25519-sha256")] {
        for canonicalization in [
            "relaxed/relaxed",
            "simple/simple",
            "simple/relaxed",
            "relaxed/simple",
        ] {
            let signed = eval(
                "dkim-sign",
                json!({
                    "message_b64": base64(message.as_bytes()), "now": NOW, "key_pem": pem,
                    "domain": "example.com", "selector": selector,
                    "canonicalization": canonicalization,
                }),
            );
            let field = signed["header"].as_str().unwrap();
            let verify = |message: &str| {
                let asked = json!({
                    "message_b64": base64(message.as_bytes()), "now": NOW + 60, "dns": dns,
                });
                eval("dkim", asked)["signatures"][0].clone()
            };
            let whole = format!("{field}{message}");
            let passes = verify(&whole);
            assert_eq!(passes["result"], "pass", "{passes}");
            assert_eq!(passes["domain"], "example.com");
            assert_eq!(passes["selector"], selector);
            assert_eq!(passes["algorithm"], algorithm);
            assert_eq!(verify(&whole.replace("hello", "hullo"))["result"], "fail");
            assert_eq!(verify(&whole.replace("x \r\n", "y \r\n"))["result"], "fail");
        }
    }
    let none = eval(
        "dkim",
        json!({"message_b64": base64(message.as_bytes()), "now": "2026-12-01T00:00:00Z"}),
    );
    assert_eq!(none["signatures"][0]["result"], "none");
    let said = error("dkim", json!({"message_b64": "!", "now": 1}));
    assert!(said.starts_with("message_b64: "), "{said}");
    let said = error(
        "dkim-sign",
        json!({"message_b64": "", "now": 1, "domain": "a.example", "selector": "s", "key_pem": "no"}),
    );
    assert!(
        said.starts_with("key_pem: ") && said.contains("PEM"),
        "{said}"
    );
}

#[test]
fn a_chain_grows() {
    let dns = json!({ "s._domainkey.relay.example": {"TXT": [record(RSA)]} });
    let mut message =
        "Authentication-Results: relay.example; spf=pass smtp.mailfrom=a@example.com\r\n\
        From: a@example.com\r\nSubject: x\r\n\r\nhello\r\n"
            .to_owned();
    let asked =
        |message: &str| json!({"message_b64": base64(message.as_bytes()), "now": NOW, "dns": dns});
    assert_eq!(eval("arc", asked(&message))["result"], "none");
    for instance in 1..=3 {
        let mut input = asked(&message);
        for (name, value) in [
            ("authserv_id", "relay.example"),
            ("domain", "relay.example"),
            ("selector", "s"),
            ("key_pem", RSA),
        ] {
            input[name] = value.into();
        }
        let sealed = eval("arc-seal", input);
        let headers = sealed["headers"]
            .as_array()
            .unwrap_or_else(|| panic!("{sealed}"));
        assert!(
            headers[0].as_str().unwrap().contains("spf=pass"),
            "{sealed}"
        );
        for field in headers {
            message.insert_str(0, field.as_str().unwrap());
        }
        let valid = eval("arc", asked(&message));
        assert_eq!(valid["result"], "pass", "{valid}");
        assert_eq!(valid["instance"], instance);
    }
    let broken = message.replace("hello", "hullo");
    assert_eq!(eval("arc", asked(&broken))["result"], "fail");
}
