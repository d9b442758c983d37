//! What both servers are told: streams that somebody wrote, and what chance makes of them.

use super::chance::{fuzz_seeds, mutated};

/// What a stream begins with, where nothing else is said.
pub(super) const HELLO: &str = "EHLO client.test\r\n";
pub(super) const MAIL: &str = "MAIL FROM:<sender@sender.test>\r\n";
pub(super) const RCPT: &str = "RCPT TO:<one@dest.test>\r\n";
pub(super) const TEXT: &str = "Subject: first\r\n\r\nfirst";
/// What somebody would like to smuggle in.
pub(super) const SECOND: &str = "MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<victim@dest.test>\r\nDATA\r\nSubject: second\r\n\r\nsmuggled\r\n.\r\n";
pub(super) const QUIT: &str = "QUIT\r\n";

/// Where a stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Written to smuggle a message.
    Smuggling,
    /// Written for something else.
    Written,
    /// A seed of the fuzz targets.
    Seed,
    /// Made of the others by chance.
    Mutated,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Smuggling, Self::Written, Self::Seed, Self::Mutated];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Smuggling => "written to smuggle",
            Self::Written => "written for other things",
            Self::Seed => "seeds of the fuzz targets",
            Self::Mutated => "mutations of all these",
        }
    }
}

/// All that a client sends in one session.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl Stream {
    /// Whether one of its lines, however it ends, begins with BDAT, perhaps behind white space.
    pub(super) fn has_bdat(&self) -> bool {
        let mut lines = self.bytes.split(|b| matches!(b, b'\r' | b'\n'));
        lines.any(|line| {
            let verb = line.trim_ascii_start().get(..4);
            verb.is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"))
        })
    }
}

/// All streams, with so many mutations.
pub(super) fn all(mutations: usize) -> Vec<Stream> {
    let of = |kind, list: Vec<(String, Vec<u8>)>| {
        let stream = move |(name, bytes)| Stream { kind, name, bytes };
        list.into_iter().map(stream)
    };
    let mut streams: Vec<Stream> = of(Kind::Smuggling, smuggling())
        .chain(of(Kind::Written, written()))
        .collect();
    let bases: Vec<Vec<u8>> = streams
        .iter()
        .map(|s| s.bytes.clone())
        .filter(|s| s.len() < 4000)
        .chain(fuzz_seeds())
        .collect();
    let seeds = fuzz_seeds().into_iter().enumerate();
    let seeds = seeds.map(|(n, s)| (format!("fuzz seed {n}"), s)).collect();
    streams.extend(of(Kind::Seed, seeds));
    streams.extend(of(Kind::Mutated, mutated(&bases, mutations, 1)));
    streams
}

/// A transaction up to DATA with `text` behind it.
fn data(text: &str) -> String {
    format!("{HELLO}{MAIL}{RCPT}DATA\r\n{text}{QUIT}")
}

/// A session with a MAIL and a RCPT of its own, and a small message.
fn envelope(mail: &str, rcpt: &str) -> String {
    format!("{HELLO}{mail}\r\n{rcpt}\r\nDATA\r\n{TEXT}\r\n.\r\n{QUIT}")
}

/// A transaction with these chunks behind it.
fn chunks(chunks: &str) -> String {
    format!("{HELLO}{MAIL}{RCPT}{chunks}{QUIT}")
}

fn chunk(text: &str, last: &str) -> String {
    format!("BDAT {}{last}\r\n{text}", text.len())
}

/// Every line end in front of the dot with every one behind it.
fn ends() -> Vec<String> {
    let line_ends = [
        "\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\n\n", "\r\n\r", "\n\r\n", "\r\r", "\0\r\n",
        "\r\0\n", "\r\n\0",
    ];
    line_ends
        .iter()
        .flat_map(|before| {
            line_ends
                .iter()
                .map(move |behind| format!("{before}.{behind}"))
        })
        .collect()
}

/// What was written to smuggle a second message behind a first one.
fn smuggling() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, stream: String| all.push((name.to_owned(), stream.into_bytes()));
    for end in ends() {
        add(
            &format!("end {end:?}"),
            data(&format!("{TEXT}{end}{SECOND}")),
        );
    }
    for dot in [
        ". ", ".\t", "..", ".\0", "\0.", " .", ".x", ".\r", "\x08.", "．", "\u{ff0e}",
    ] {
        add(
            &format!("dot {dot:?}"),
            data(&format!("{TEXT}\r\n{dot}\r\n{SECOND}")),
        );
    }
    for behind in ["\n", "\r", "\r\r\n", "\r\n", " ", "\0", "x"] {
        add(
            &format!("behind the end {behind:?}"),
            data(&format!("{TEXT}\r\n.\r\n{behind}{SECOND}")),
        );
    }
    all
}

/// What else somebody thought of.
fn written() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, stream: String| all.push((name.to_owned(), stream.into_bytes()));
    for (name, text) in [
        ("empty", ".\r\n"),
        ("a line end", "\r\n.\r\n"),
        ("no header", "first\r\n.\r\n"),
        ("no body", "Subject: first\r\n.\r\n"),
        (
            "no empty line",
            "Subject: first\r\nfirst line without a colon\r\nsecond\r\n.\r\n",
        ),
        ("no header, colons", "a: b\r\nc d: e\r\n\r\nx\r\n.\r\n"),
        ("only a colon", ":\r\n\r\nx\r\n.\r\n"),
        (
            "field without a name",
            "Subject: x\r\n: y\r\n\r\nx\r\n.\r\n",
        ),
        ("space before the colon", "Subject : x\r\n\r\nx\r\n.\r\n"),
        ("folded", "Subject: x\r\n y\r\n\tz\r\n\r\nx\r\n.\r\n"),
        ("folded first", " x\r\nSubject: x\r\n\r\nx\r\n.\r\n"),
        (
            "white line in the header",
            "Subject: x\r\n \r\nTo: y\r\n\r\nx\r\n.\r\n",
        ),
        (
            "mbox line",
            "From a@b Mon Nov 23 10:00:00 2026\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "quoted mbox line",
            ">From a@b Mon Nov 23 10:00:00 2026\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "From in the body",
            "Subject: x\r\n\r\nFrom a@b\r\n>From c\r\n.\r\n",
        ),
        (
            "return path",
            "Return-Path: <x@y>\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "content length",
            "Content-Length: 5\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        ("bcc", "Bcc: x@y.test\r\nSubject: x\r\n\r\nx\r\n.\r\n"),
        (
            "resent bcc",
            "Resent-Bcc: x@y.test\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "received",
            "Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "delivered to",
            "Delivered-To: one@dest.test\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "errors to",
            "Errors-To: x@y\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "stuffed",
            "Subject: x\r\n\r\n..\r\n..x\r\n...\r\n.y\r\n.\r\n",
        ),
        ("stuffed header", ".Subject: x\r\n\r\nx\r\n.\r\n"),
        ("NUL", "Subject: x\r\n\r\na\0b\r\n.\r\n"),
        ("NUL in the header", "Subject: a\0b\r\n\r\nx\r\n.\r\n"),
        ("8 bit", "Subject: x\r\n\r\nG\u{fc}\u{df}e\r\n.\r\n"),
        (
            "8 bit in the header",
            "Subject: G\u{fc}\u{df}e\r\n\r\nx\r\n.\r\n",
        ),
        (
            "controls",
            "Subject: x\r\n\r\n\x01\x02\x08\x0b\x0c\x1b[0m\x7f\r\n.\r\n",
        ),
        (
            "commands",
            "Subject: x\r\n\r\nRSET\r\nQUIT\r\nMAIL FROM:<a@b.test>\r\nDATA\r\n.\r\n",
        ),
        (
            "multipart",
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\na\r\n--x--\r\n.\r\n",
        ),
        ("no end", "Subject: x\r\n\r\nx\r\n"),
        ("no line end at the end", "Subject: x\r\n\r\nx"),
    ] {
        add(&format!("data: {name}"), data(text));
    }
    for n in [78, 998, 999, 1000, 2047, 2048, 2049, 5000, 70_000] {
        add(
            &format!("a line of {n}"),
            data(&format!("Subject: x\r\n\r\n{}\r\n.\r\n", "a".repeat(n))),
        );
        add(
            &format!("a field of {n}"),
            data(&format!("Subject: {}\r\n\r\nx\r\n.\r\n", "a".repeat(n))),
        );
    }
    add(
        "a header of 150 kB",
        data(&format!(
            "{}\r\nx\r\n.\r\n",
            "X-A: 0123456789012345678901234567890123456789\r\n".repeat(3000)
        )),
    );
    for n in [400, 512, 513, 900, 1024, 2047, 2048, 2049, 4096, 10_000] {
        add(
            &format!("a command of {n}"),
            format!(
                "{HELLO}NOOP {}\r\n{}",
                "a".repeat(n - 7),
                &data(&format!("{TEXT}\r\n.\r\n"))[HELLO.len()..]
            ),
        );
        add(
            &format!("an address of {n}"),
            envelope(
                &format!("MAIL FROM:<{}@sender.test>", "a".repeat(n)),
                RCPT.trim_end(),
            ),
        );
    }
    for (name, list) in [
        ("whole", chunk(&format!("{TEXT}\r\n"), " LAST")),
        (
            "two",
            chunk("Subject: x\r\n\r\n", "") + &chunk("x\r\n", " LAST"),
        ),
        (
            "nothing last",
            chunk(&format!("{TEXT}\r\n"), "") + "BDAT 0 LAST\r\n",
        ),
        ("nothing at all", "BDAT 0 LAST\r\n".into()),
        ("no line end at the end", chunk(TEXT, " LAST")),
        (
            "a line end cut in two",
            chunk("Subject: x\r", "") + &chunk("\n\r\nx\r\n", " LAST"),
        ),
        ("a dot line", chunk("Subject: x\r\n\r\n.\r\n", " LAST")),
        ("dots", chunk("Subject: x\r\n\r\n..\r\n.x\r\n", " LAST")),
        (
            "a false end",
            chunk(&format!("{TEXT}\r\n.\r\n{SECOND}"), " LAST"),
        ),
        ("bare LF", chunk("Subject: x\r\n\r\na\nb\r\n", " LAST")),
        ("bare CR", chunk("Subject: x\r\n\r\na\rb\r\n", " LAST")),
        (
            "bare LF and a dot",
            chunk("Subject: x\r\n\r\na\n.\nb\r\n", " LAST"),
        ),
        ("CR at the end", chunk("Subject: x\r\n\r\na\r", " LAST")),
        ("LF at the end", chunk("Subject: x\r\n\r\na\n", " LAST")),
        ("NUL", chunk("Subject: x\r\n\r\na\0b\r\n", " LAST")),
        (
            "one octet too few",
            format!("BDAT {} LAST\r\n{TEXT}\r\n", TEXT.len() + 1),
        ),
        (
            "one octet too many",
            format!("BDAT {} LAST\r\n{TEXT}\r\n", TEXT.len() + 3),
        ),
        ("no size", "BDAT\r\n".into()),
        ("negative", "BDAT -1 LAST\r\n".into()),
        (
            "signed",
            format!("BDAT +{} LAST\r\n{TEXT}\r\n", TEXT.len() + 2),
        ),
        ("hexadecimal", "BDAT 0x10 LAST\r\n0123456789abcdef".into()),
        (
            "leading zeros",
            format!("BDAT 000{} LAST\r\n{TEXT}\r\n", TEXT.len() + 2),
        ),
        ("huge", "BDAT 99999999999999999999999999 LAST\r\nx".into()),
        ("2^32", "BDAT 4294967296 LAST\r\nx".into()),
        ("2^64", "BDAT 18446744073709551616 LAST\r\nx".into()),
        (
            "lower case",
            chunk(&format!("{TEXT}\r\n"), " last").replace("BDAT", "bdat"),
        ),
        ("another word", chunk(&format!("{TEXT}\r\n"), " FIRST")),
        ("a word behind", chunk(&format!("{TEXT}\r\n"), " LAST x")),
        ("two spaces", chunk(&format!("{TEXT}\r\n"), "  LAST")),
        (
            "DATA behind BDAT",
            chunk("Subject: x\r\n\r\n", "") + "DATA\r\nx\r\n.\r\n",
        ),
        (
            "RCPT behind BDAT",
            chunk("Subject: x\r\n\r\n", "") + RCPT + &chunk("x\r\n", " LAST"),
        ),
        (
            "MAIL behind BDAT",
            chunk("Subject: x\r\n\r\n", "") + MAIL + &chunk("x\r\n", " LAST"),
        ),
        (
            "RSET behind BDAT",
            chunk("Subject: x\r\n\r\n", "") + "RSET\r\n" + &chunk("x\r\n", " LAST"),
        ),
        (
            "again",
            chunk(&format!("{TEXT}\r\n"), " LAST") + &chunk("x\r\n", " LAST"),
        ),
        (
            "NOOP between",
            chunk("Subject: x\r\n\r\n", "") + "NOOP\r\n" + &chunk("x\r\n", " LAST"),
        ),
    ] {
        add(&format!("bdat: {name}"), chunks(&list));
    }
    add(
        "bdat without rcpt",
        format!("{HELLO}{MAIL}{}{QUIT}", chunk(SECOND, " LAST")),
    );
    add(
        "bdat without mail",
        format!("{HELLO}{}{QUIT}", chunk(SECOND, " LAST")),
    );
    add(
        "bdat after helo",
        format!(
            "HELO client.test\r\n{MAIL}{RCPT}{}{QUIT}",
            chunk(&format!("{TEXT}\r\n"), " LAST")
        ),
    );
    add(
        "bdat behind a refused rcpt",
        format!(
            "{HELLO}{MAIL}RCPT TO:<>\r\n{}{QUIT}",
            chunk(SECOND, " LAST")
        ),
    );
    for (name, commands) in [
        (
            "data without rcpt",
            format!("{HELLO}{MAIL}DATA\r\n{SECOND}{QUIT}"),
        ),
        (
            "data without mail",
            format!("{HELLO}DATA\r\n{SECOND}{QUIT}"),
        ),
        ("rcpt without mail", format!("{HELLO}{RCPT}{SECOND}{QUIT}")),
        (
            "no hello",
            format!("{MAIL}{RCPT}DATA\r\n{TEXT}\r\n.\r\n{QUIT}"),
        ),
        (
            "helo",
            data(&format!("{TEXT}\r\n.\r\n")).replace("EHLO", "HELO"),
        ),
        (
            "lhlo",
            data(&format!("{TEXT}\r\n.\r\n")).replace("EHLO", "LHLO"),
        ),
        (
            "lower case",
            data(&format!("{TEXT}\r\n.\r\n"))
                .replace("EHLO", "ehlo")
                .replace("MAIL FROM", "mail from")
                .replace("RCPT TO", "rcpt to")
                .replace("DATA", "data"),
        ),
        (
            "mixed case",
            data(&format!("{TEXT}\r\n.\r\n"))
                .replace("EHLO", "eHlO")
                .replace("MAIL FROM", "mAiL fRoM")
                .replace("RCPT TO", "rCpT tO")
                .replace("DATA", "dAtA"),
        ),
        (
            "ehlo twice",
            format!("{HELLO}{}", data(&format!("{TEXT}\r\n.\r\n"))),
        ),
        (
            "ehlo between",
            format!("{HELLO}{MAIL}{RCPT}{HELLO}DATA\r\n{SECOND}{QUIT}"),
        ),
        (
            "helo between",
            format!("{HELLO}{MAIL}{RCPT}HELO x.test\r\nDATA\r\n{SECOND}{QUIT}"),
        ),
        (
            "rset between",
            format!("{HELLO}{MAIL}{RCPT}RSET\r\n{SECOND}{QUIT}"),
        ),
        (
            "rset with a word",
            format!("{HELLO}{MAIL}{RCPT}RSET x\r\n{SECOND}{QUIT}"),
        ),
        (
            "data with a word",
            format!("{HELLO}{MAIL}{RCPT}DATA x\r\n{SECOND}{QUIT}"),
        ),
        (
            "noop with words",
            format!("{HELLO}NOOP a b\r\n{SECOND}{QUIT}"),
        ),
        ("quit with a word", format!("{HELLO}{SECOND}QUIT now\r\n")),
        ("behind quit", format!("{HELLO}{QUIT}{SECOND}")),
        (
            "mail twice",
            format!("{HELLO}{MAIL}{MAIL}{RCPT}DATA\r\n{TEXT}\r\n.\r\n{QUIT}"),
        ),
        (
            "rcpt twice",
            format!("{HELLO}{MAIL}{RCPT}{RCPT}DATA\r\n{TEXT}\r\n.\r\n{QUIT}"),
        ),
        (
            "three messages",
            format!("{HELLO}{SECOND}{SECOND}{SECOND}{QUIT}"),
        ),
        ("no quit", format!("{HELLO}{SECOND}")),
        (
            "unknown",
            format!("{HELLO}FOO\r\nXFOO bar\r\n{SECOND}{QUIT}"),
        ),
        ("empty lines", format!("{HELLO}\r\n\r\n{SECOND}{QUIT}")),
        ("space in front", format!("{HELLO} NOOP\r\n{SECOND}{QUIT}")),
        (
            "space behind",
            format!("{HELLO}NOOP \r\nRSET \r\n{SECOND}{QUIT}").replace("DATA\r\n", "DATA \r\n"),
        ),
        (
            "tab for a space",
            format!("{HELLO}NOOP\tx\r\n{SECOND}{QUIT}").replace("MAIL FROM", "MAIL\tFROM"),
        ),
        (
            "vrfy",
            format!("{HELLO}VRFY a\r\nEXPN a\r\nHELP\r\nTURN\r\nETRN x\r\n{SECOND}{QUIT}"),
        ),
        (
            "auth",
            format!("{HELLO}AUTH PLAIN AGEAYg==\r\n{SECOND}{QUIT}"),
        ),
        ("starttls", format!("{HELLO}STARTTLS\r\n{SECOND}{QUIT}")),
        (
            "http",
            format!("GET / HTTP/1.1\r\nHost: x\r\n\r\n{HELLO}{SECOND}{QUIT}"),
        ),
        (
            "post",
            format!("POST / HTTP/1.1\r\nHost: x\r\n\r\n{HELLO}{SECOND}{QUIT}"),
        ),
        (
            "bare LF everywhere",
            format!("{HELLO}{SECOND}{QUIT}").replace("\r\n", "\n"),
        ),
        (
            "bare CR everywhere",
            format!("{HELLO}{SECOND}{QUIT}").replace("\r\n", "\r"),
        ),
        (
            "bare LF behind a command",
            format!("{HELLO}NOOP\n{SECOND}{QUIT}"),
        ),
        (
            "bare CR in a command",
            format!("{HELLO}NOOP\rNOOP\r\n{SECOND}{QUIT}"),
        ),
        (
            "NUL in a command",
            format!("{HELLO}NOOP a\0b\r\n{SECOND}{QUIT}"),
        ),
        (
            "NUL behind a command",
            format!("{HELLO}NOOP\0\r\n{SECOND}{QUIT}"),
        ),
        (
            "8 bit in a command",
            format!("{HELLO}NOOP \u{fc}\r\n{SECOND}{QUIT}"),
        ),
        (
            "101 recipients",
            format!(
                "{HELLO}{MAIL}{}DATA\r\n{TEXT}\r\n.\r\n{QUIT}",
                (0..101)
                    .map(|n| format!("RCPT TO:<r{n}@dest.test>\r\n"))
                    .collect::<String>()
            ),
        ),
        (
            "data refused, then a body",
            format!("{HELLO}{MAIL}RCPT TO:<>\r\nDATA\r\n{TEXT}\r\n.\r\n{SECOND}{QUIT}"),
        ),
    ] {
        add(name, commands);
    }
    for name in [
        "",
        "client.test",
        "client_x.test",
        "[127.0.0.1]",
        "[IPv6:::1]",
        "127.0.0.1",
        "a b",
        "-",
        "client.test.",
        "..",
        "\u{fc}.test",
        "<a>",
        "a;b",
        "(x)",
    ] {
        add(
            &format!("ehlo {name:?}"),
            data(&format!("{TEXT}\r\n.\r\n")).replacen("client.test", name, 1),
        );
        add(
            &format!("helo {name:?}"),
            data(&format!("{TEXT}\r\n.\r\n")).replacen(
                "EHLO client.test",
                &format!("HELO {name}"),
                1,
            ),
        );
    }
    for mail in [
        "MAIL FROM: <a@b.test>",
        "MAIL FROM:a@b.test",
        "MAIL FROM: a@b.test",
        "MAIL FROM <a@b.test>",
        "MAIL FROM:<a@b.test",
        "MAIL FROM:a@b.test>",
        "MAIL FROM :<a@b.test>",
        "MAIL  FROM:<a@b.test>",
        "MAIL FROM:<a@b.test> ",
        "MAIL FROM:<a@b.test>x",
        "MAIL FROM:<>",
        "MAIL FROM:< >",
        "MAIL FROM:<<a@b.test>>",
        "MAIL FROM:<a@b.test> <c@d.test>",
        "MAIL FROM:Name <a@b.test>",
        "MAIL FROM:<a@b.test> (comment)",
        "MAIL FROM:",
        "MAIL",
        "MAIL FROM",
        "MAIL FROM:<a>",
        "MAIL FROM:<@b.test>",
        "MAIL FROM:<a@>",
        "MAIL FROM:<@x.test:a@b.test>",
        "MAIL FROM:<@x.test,@y.test:a@b.test>",
        "MAIL FROM:<\"a b\"@b.test>",
        "MAIL FROM:<\"a\"@b.test>",
        "MAIL FROM:<\"a\\\"b\"@b.test>",
        "MAIL FROM:<\"a@b\"@b.test>",
        "MAIL FROM:<a\\@x@b.test>",
        "MAIL FROM:<a b@b.test>",
        "MAIL FROM:<a..b@b.test>",
        "MAIL FROM:<.a@b.test>",
        "MAIL FROM:<a.@b.test>",
        "MAIL FROM:<a@b..test>",
        "MAIL FROM:<a@b.test.>",
        "MAIL FROM:<a@-b.test>",
        "MAIL FROM:<a@b_c.test>",
        "MAIL FROM:<a@[127.0.0.1]>",
        "MAIL FROM:<a@[IPv6:::1]>",
        "MAIL FROM:<a@127.0.0.1>",
        "MAIL FROM:<a@[x]>",
        "MAIL FROM:<a@b@c.test>",
        "MAIL FROM:<a%b@c.test>",
        "MAIL FROM:<x!a@c.test>",
        "MAIL FROM:<\u{fc}@b.test>",
        "MAIL FROM:<\u{fc}@b.test> SMTPUTF8",
        "MAIL FROM:<a@\u{fc}.test> SMTPUTF8",
        "MAIL FROM:<a@b.test> SIZE=10",
        "MAIL FROM:<a@b.test> SIZE=0",
        "MAIL FROM:<a@b.test> SIZE=99999999999",
        "MAIL FROM:<a@b.test> SIZE=-1",
        "MAIL FROM:<a@b.test> SIZE=",
        "MAIL FROM:<a@b.test> SIZE",
        "MAIL FROM:<a@b.test> SIZE=1 SIZE=2",
        "MAIL FROM:<a@b.test> SIZE=x",
        "MAIL FROM:<a@b.test> BODY=8BITMIME",
        "MAIL FROM:<a@b.test> BODY=7BIT",
        "MAIL FROM:<a@b.test> BODY=BINARYMIME",
        "MAIL FROM:<a@b.test> BODY=x",
        "MAIL FROM:<a@b.test> BODY=7BIT BODY=8BITMIME",
        "MAIL FROM:<a@b.test> body=8bitmime",
        "MAIL FROM:<a@b.test> RET=HDRS ENVID=x",
        "MAIL FROM:<a@b.test> RET=x",
        "MAIL FROM:<a@b.test> ENVID=",
        "MAIL FROM:<a@b.test> AUTH=<>",
        "MAIL FROM:<a@b.test> FOO=bar",
        "MAIL FROM:<a@b.test> FOO",
        "MAIL FROM:<a@b.test>  SIZE=10",
        "MAIL FROM:<a@b.test>SIZE=10",
        "MAIL FROM:<a@b.test> REQUIRETLS",
        "MAIL FROM:<a\0b@c.test>",
        "MAIL FROM:<a\tb@c.test>",
    ] {
        add(&format!("{mail:?}"), envelope(mail, RCPT.trim_end()));
    }
    for rcpt in [
        "RCPT TO: <a@b.test>",
        "RCPT TO:a@b.test",
        "RCPT TO <a@b.test>",
        "RCPT TO:<a@b.test",
        "RCPT TO:a@b.test>",
        "RCPT TO:<>",
        "RCPT TO:<a>",
        "RCPT TO:<postmaster>",
        "RCPT TO:<Postmaster>",
        "RCPT TO:<@b.test>",
        "RCPT TO:<a@>",
        "RCPT TO:<@x.test:a@b.test>",
        "RCPT TO:<@x.test,@y.test:a@b.test>",
        "RCPT TO:<\"a b\"@b.test>",
        "RCPT TO:<\"a\"@b.test>",
        "RCPT TO:<a@b.test> <c@d.test>",
        "RCPT TO:<a@b.test>,<c@d.test>",
        "RCPT TO:<a@b.test,c@d.test>",
        "RCPT TO:<a@[127.0.0.1]>",
        "RCPT TO:<a@127.0.0.1>",
        "RCPT TO:<a@b@c.test>",
        "RCPT TO:<a%b@c.test>",
        "RCPT TO:<x!a>",
        "RCPT TO:<a@b..test>",
        "RCPT TO:<a@b.test.>",
        "RCPT TO:<A@B.TEST>",
        "RCPT TO:<\u{fc}@b.test>",
        "RCPT TO:<a@b.test> NOTIFY=NEVER",
        "RCPT TO:<a@b.test> NOTIFY=NEVER,SUCCESS",
        "RCPT TO:<a@b.test> NOTIFY=x",
        "RCPT TO:<a@b.test> NOTIFY=",
        "RCPT TO:<a@b.test> ORCPT=rfc822;x",
        "RCPT TO:<a@b.test> ORCPT=x",
        "RCPT TO:<a@b.test> FOO=bar",
        "RCPT TO:<a@b.test> NOTIFY=NEVER NOTIFY=NEVER",
        "RCPT TO:",
        "RCPT",
        "RCPT TO:<a b@c.test>",
        "RCPT TO:<a@b.test> ",
        "RCPT TO:<|cmd@b.test>",
        "RCPT TO:</etc/passwd@b.test>",
        "RCPT TO:<-f@b.test>",
    ] {
        add(&format!("{rcpt:?}"), envelope(MAIL.trim_end(), rcpt));
    }
    // Octets that are no UTF-8.
    for (name, octets) in [
        ("latin 1", &b"\xfc"[..]),
        ("surrogate", b"\xed\xa0\x80"),
        ("0xff", b"\xff"),
    ] {
        let place = |stream: String| -> Vec<u8> {
            let stream = stream.into_bytes();
            let at = stream
                .iter()
                .position(|b| *b == b'@' || *b == b'#')
                .unwrap_or(0);
            [&stream[..at], octets, &stream[at..]].concat()
        };
        all.push((
            format!("address in {name}"),
            place(envelope("MAIL FROM:<a@b.test>", RCPT.trim_end())),
        ));
        all.push((
            format!("text in {name}"),
            place(
                data("Subject: x\r\n\r\n#\r\n.\r\n")
                    .replace('@', "%")
                    .replacen("%", "@", 0)
                    .replace("sender%", "sender")
                    .replace("one%", "one"),
            ),
        ));
    }
    all
}
