//! `courser eval`: each kind on published vectors and on what a person may get wrong, and the
//! program's lines in and out.

#[path = "../../core/tests/common/vectors.rs"]
mod shared;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use courser::cli::eval::{KINDS, LINE_BYTES_MAX, answer, answer_all};
use serde_json::{Value, json};
use shared::vectors;

fn eval(kind: &str, input: Value) -> Value {
    let kind = KINDS.iter().find(|k| k.name == kind).unwrap();
    answer(kind, input.to_string().as_bytes())
}

fn error(kind: &str, input: Value) -> String {
    let answer = eval(kind, input);
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    answer["error"].as_str().unwrap().to_owned()
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

/// `courser eval reply`, what it reads, and what it writes.
fn eval_reply() -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut courser = Command::new(env!("CARGO_BIN_EXE_courser"))
        .args(["eval", "reply"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ask = courser.stdin.take().unwrap();
    let answers = BufReader::new(courser.stdout.take().unwrap());
    (courser, ask, answers)
}

#[test]
fn the_program_answers_while_it_is_asked() {
    let (mut courser, mut ask, answers) = eval_reply();
    let mut answers = answers.lines();
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
fn an_answer_does_not_wait_for_the_rest_of_the_next_line() {
    let (mut courser, mut ask, out) = eval_reply();
    let (send, answers) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in out.lines() {
            let answer: Value = serde_json::from_str(&line.unwrap()).unwrap();
            send.send(answer["code"].clone()).unwrap();
        }
    });
    let next = || answers.recv_timeout(std::time::Duration::from_secs(20));
    // Each write ends one line and begins the next.
    for (text, code) in [
        ("{\"line\": \"250 x\"}\n{\"line\":", 250),
        (" \"451 x\"}\n{", 451),
        ("\"line\": \"550 x\"}\n{\"line\": \"221 x\"", 550),
    ] {
        ask.write_all(text.as_bytes()).unwrap();
        assert_eq!(next(), Ok(json!(code)));
    }
    ask.write_all(b"}").unwrap();
    drop(ask);
    assert_eq!(next(), Ok(json!(221)));
    reader.join().unwrap();
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
        "example.org": {"TXT": ["v=spf1 a:mail.example.org include:_spf.example.net -all exp=why.example.org"]},
        "mail.example.org": {"A": ["192.0.2.1"]},
        "_spf.example.net": {"TXT": ["v=spf1 ip4:198.51.100.0/24 ?all"]},
        "why.example.org": {"TXT": ["%{i} may not, says %{r}"]},
        "broken.example": {"TXT": "timeout"},
        "wrong.example": {"TXT": ["v=spf1 ip4:x"]},
        "odd+a=b._x.example": {"A": ["127.0.0.1"]},
        "odd.example": {"TXT": ["v=spf1 exists:%{l}._x.example -all"]},
    });
    for (ip, mail_from, result, mechanism) in [
        (
            "192.0.2.1",
            json!("ann@example.org"),
            "pass",
            json!("a:mail.example.org"),
        ),
        (
            "198.51.100.7",
            json!("ann@example.org"),
            "pass",
            json!("include:_spf.example.net"),
        ),
        (
            "203.0.113.1",
            json!("ann@example.org"),
            "fail",
            json!("-all"),
        ),
        (
            "192.0.2.1",
            Value::Null,
            "pass",
            json!("a:mail.example.org"),
        ),
        ("192.0.2.1", json!("x@nothing.example"), "none", Value::Null),
        (
            "192.0.2.1",
            json!("x@broken.example"),
            "temperror",
            Value::Null,
        ),
        (
            "192.0.2.1",
            json!("x@wrong.example"),
            "permerror",
            Value::Null,
        ),
        (
            "192.0.2.1",
            json!("odd+a=b@odd.example"),
            "pass",
            json!("exists:%{l}._x.example"),
        ),
    ] {
        let input = json!({"ip": ip, "mail_from": mail_from, "helo": "example.org", "receiver": "mx.example", "dns": dns});
        let got = eval("spf", input);
        assert_eq!(
            (&got["result"], &got["mechanism"]),
            (&json!(result), &mechanism),
            "{got}"
        );
        let error = matches!(result, "temperror" | "permerror");
        assert_eq!(got["error"].is_string(), error, "{got}");
    }
    let got = eval(
        "spf",
        json!({"ip": "203.0.113.1", "mail_from": "a@example.org", "helo": "x", "receiver": "mx.example", "dns": dns}),
    );
    assert_eq!(got["explanation"], "203.0.113.1 may not, says mx.example");
    assert_eq!(
        (&got["lookups"], &got["void_lookups"]),
        (&json!(2), &json!(0))
    );
    // Whose record each mechanism stands in.
    let got = eval(
        "spf",
        json!({"ip": "198.51.100.7", "mail_from": "a@example.org", "helo": "x", "dns": dns}),
    );
    let fields = [
        "mechanism",
        "mechanism_domain",
        "included",
        "included_domain",
    ];
    assert_eq!(
        fields.map(|f| got[f].as_str().unwrap_or("")),
        [
            "include:_spf.example.net",
            "example.org",
            "ip4:198.51.100.0/24",
            "_spf.example.net"
        ],
        "{got}"
    );
    assert_eq!(
        error("spf", json!({"ip": "192.0.2"})),
        "ip: expected an IPv4 or IPv6 address"
    );
}

#[test]
fn dkim_signs_and_verifies() {
    // The seed of RFC 8463 A.2, and "From: a@example.com" with a body.
    let key = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    let message = "RnJvbTogYUBleGFtcGxlLmNvbQ0KU3ViamVjdDogaGVsbG8NCg0KSGkhDQo=";
    let sign = |canonicalization: &str| {
        eval(
            "dkim-sign",
            json!({
                "message_b64": message, "now": 1_790_000_000, "domain": "example.com", "selector": "one",
                "key_pem": key, "canonicalization": canonicalization, "headers": ["From", "Subject", "from"],
            }),
        )
    };
    let dns = json!({"one._domainkey.example.com": {"TXT": ["v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]}});
    for (canonicalization, written) in [
        ("relaxed/relaxed", "c=relaxed/relaxed"),
        ("simple/relaxed", "c=simple/relaxed"),
        ("relaxed", "c=relaxed"),
    ] {
        let signed = sign(canonicalization);
        let field = signed["header"]
            .as_str()
            .unwrap_or_else(|| panic!("{signed}"));
        assert!(
            field.starts_with("DKIM-Signature: ") && field.ends_with("\r\n"),
            "{field}"
        );
        assert!(field.contains(written), "{field}");
        let unfolded: String = field.split_ascii_whitespace().collect();
        assert!(
            unfolded
                .to_ascii_lowercase()
                .contains("h=from:from:subject;"),
            "{field}"
        );
        let whole = [
            field.as_bytes(),
            b"From: a@example.com\r\nSubject: hello\r\n\r\nHi!\r\n",
        ]
        .concat();
        for (dns, result) in [
            (&dns, "pass"),
            (
                &json!({"one._domainkey.example.com": "timeout"}),
                "temperror",
            ),
            (&json!({}), "permerror"),
        ] {
            let got = eval(
                "dkim",
                json!({"message_b64": base64(&whole), "now": 1_790_000_000, "dns": dns}),
            );
            let signature = &got["signatures"][0];
            let fields = ["result", "domain", "selector", "algorithm"]
                .map(|f| signature[f].as_str().unwrap());
            assert_eq!(
                fields,
                [result, "example.com", "one", "ed25519-sha256"],
                "{got}"
            );
        }
    }
    let got = eval("dkim", json!({"message_b64": message, "now": 0}));
    assert_eq!(got["signatures"][0]["result"], "none");
    let input = |key: &str, at: &str, value: Value| {
        let mut input = json!({"message_b64": message, "now": 0, "domain": "example.com", "selector": "one", "key_pem": key});
        input[at] = value;
        error("dkim-sign", input)
    };
    for (at, value, words) in [
        ("key_pem", json!("no key"), "key_pem: "),
        (
            "now",
            json!("today"),
            "now: expected a unix time in whole seconds",
        ),
        ("message_b64", json!("?"), "message_b64: expected base64"),
        (
            "canonicalization",
            json!("x/y"),
            "canonicalization: expected simple or relaxed",
        ),
        (
            "headers",
            json!(["From", 1]),
            "headers: expected a list of texts",
        ),
        ("domain", json!("a..b"), "domain: two dots"),
        (
            "message_b64",
            json!("VG86IHgNCg0K"),
            "the message has no From",
        ),
    ] {
        let got = input(key, at, value);
        assert!(got.starts_with(words), "{got}");
    }
}

#[test]
fn arc_seals_and_validates() {
    let key = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    let dns = json!({"one._domainkey.example.com": {"TXT": ["v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]}});
    let mut message = b"Authentication-Results: mx.example.com; spf=pass smtp.mailfrom=a@example.org\r\nAuthentication-Results: other.example; dkim=pass\r\nFrom: a@example.org\r\n\r\nHi!\r\n".to_vec();
    for instance in 1..=2 {
        let sealed = eval(
            "arc-seal",
            json!({
                "message_b64": base64(&message), "now": 1_790_000_000, "dns": dns,
                "authserv_id": "MX.example.com", "domain": "example.com", "selector": "one", "key_pem": key,
            }),
        );
        let headers = sealed["headers"]
            .as_array()
            .unwrap_or_else(|| panic!("{sealed}"));
        let names = [
            "ARC-Authentication-Results: ",
            "ARC-Message-Signature: ",
            "ARC-Seal: ",
        ];
        for (header, name) in headers.iter().zip(names) {
            assert!(header.as_str().unwrap().starts_with(name), "{header}");
            message = [header.as_str().unwrap().as_bytes(), &message].concat();
        }
        let aar: Vec<&str> = headers[0]
            .as_str()
            .unwrap()
            .split_ascii_whitespace()
            .collect();
        let arc = if instance == 1 {
            "arc=none"
        } else {
            "arc=pass"
        };
        let expected = format!(
            "ARC-Authentication-Results: i={instance}; MX.example.com; spf=pass smtp.mailfrom=a@example.org; {arc}"
        );
        assert_eq!(aar.join(" "), expected);
        let got = eval(
            "arc",
            json!({"message_b64": base64(&message), "now": 1_790_000_000, "dns": dns}),
        );
        assert_eq!(
            (&got["result"], &got["instance"]),
            (&json!("pass"), &json!(instance)),
            "{got}"
        );
        assert_eq!(got["sealers"].as_array().unwrap().len(), instance);
    }
    let changed = base64(&[&message[..], b"more\r\n"].concat());
    let got = eval(
        "arc",
        json!({"message_b64": changed, "now": 1_790_000_000, "dns": dns}),
    );
    assert_eq!(
        (&got["result"], &got["instance"]),
        (&json!("fail"), &json!(2)),
        "{got}"
    );
    let got = eval(
        "arc",
        json!({"message_b64": "RnJvbTogYUBiDQoNCg==", "now": 0}),
    );
    assert_eq!(
        (&got["result"], &got["instance"]),
        (&json!("none"), &json!(0)),
        "{got}"
    );
}

/// Base64 with padding (RFC 4648 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0u32, |n, b| n << 8 | u32::from(*b));
        for at in 0..4u32 {
            let digit = ALPHABET[(n >> (18 - 6 * at) & 63) as usize];
            text.push(if at as usize <= chunk.len() {
                digit as char
            } else {
                '='
            });
        }
    }
    text
}
