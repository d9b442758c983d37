//! A table of cases, clause by clause: what RFC 7208 wants, and what is easy to get wrong.

use crate::zone::Zone;

/// Name, client, MAIL FROM, HELO, and the result with the explanation behind a space.
type Case<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

#[track_caller]
fn table(zone: &str, cases: &[Case<'_>]) {
    let zone = Zone::of(zone);
    let mut wrong = Vec::new();
    for &(name, ip, from, helo, expected) in cases {
        let report = zone.check(ip, from, helo);
        let mut got = report.result.to_string();
        if let Some(explanation) = &report.explanation {
            got = format!("{got} {explanation}");
        }
        if got != expected {
            let error = report.error.map(|e| e.to_string()).unwrap_or_default();
            wrong.push(format!("{name}: {got}, not {expected} {error}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

const V4: &str = "192.0.2.5";
const V6: &str = "2001:db8::5";
const H: &str = "mail.example.net";

/// 4.3.
#[test]
fn initial_processing() {
    let label63 = "a".repeat(63);
    let zone = format!(
        "
        example.com TXT v=spf1 -all
        example.net TXT v=spf1 -all exp=why.example.net
        why.example.net TXT %{{S}} by %{{h}}
        mail.example.net TXT v=spf1 -all exp=why.example.net
        {label63}.example.com TXT v=spf1 -all
        localhost TXT v=spf1 +all
        xn--bcher-kva.example TXT v=spf1 -all exp=why.xn--bcher-kva.example
        why.xn--bcher-kva.example TXT %{{o}} %{{d}}
        hello.example TXT v=spf1 -all exp=why.hello.example
        why.hello.example TXT %{{h}}
        local.example TXT v=spf1 exists:%{{l}}.local.example -all
        inc.local.example TXT v=spf1 include:%{{l}}.local.example -all
        red.local.example TXT v=spf1 redirect=%{{s}}.local.example
        jo.local.example A 127.0.0.2
        jo.local.example TXT v=spf1 +all
        jo@red.local.example.local.example TXT v=spf1 +all
        b\u{fc}.local.example A 127.0.0.2
        b\u{fc}.local.example TXT v=spf1 +all
        b\u{fc}@red.local.example.local.example TXT v=spf1 +all
        "
    );
    table(
        &zone,
        &[
            (
                "label of 63",
                V4,
                &format!("a@{label63}.example.com"),
                H,
                "fail",
            ),
            (
                "label of 64",
                V4,
                &format!("a@a{label63}.example.com"),
                H,
                "none",
            ),
            ("empty label", V4, "a@b..example.com", H, "none"),
            ("leading dot", V4, "a@.example.com", H, "none"),
            ("final dot", V4, "a@example.com.", H, "fail"),
            ("one label", V4, "a@localhost", H, "none"),
            ("one label and a dot", V4, "a@localhost.", H, "none"),
            ("literal", V4, "a@[192.0.2.5]", H, "none"),
            ("IPv6 literal", V6, "a@[IPv6:2001:db8::5]", H, "none"),
            ("no domain", V4, "a@", H, "none"),
            (
                "too long",
                V4,
                &format!("a@{}example.com", "abcdefg.".repeat(32)),
                H,
                "none",
            ),
            (
                "null path, HELO",
                V4,
                "",
                H,
                "fail postmaster%40mail.example.net by mail.example.net",
            ),
            (
                "null path, HELO with a final dot",
                V4,
                "",
                "mail.example.net.",
                "fail postmaster%40mail.example.net by mail.example.net",
            ),
            (
                "HELO with a final dot",
                V4,
                "a@hello.example",
                "Mail.example.net.",
                "fail Mail.example.net",
            ),
            (
                "HELO in U-labels (RFC 8616)",
                V4,
                "a@hello.example",
                "b\u{fc}cher.example",
                "fail xn--bcher-kva.example",
            ),
            ("null path, HELO of one label", V4, "", "PC-7", "none"),
            ("null path, HELO literal", V4, "", "[192.0.2.5]", "none"),
            ("null path, HELO empty", V4, "", "", "none"),
            (
                "no local part",
                V4,
                "@example.net",
                H,
                "fail postmaster%40example.net by mail.example.net",
            ),
            (
                "no at sign",
                V4,
                "example.net",
                H,
                "fail postmaster%40example.net by mail.example.net",
            ),
            (
                "quoted at sign",
                V4,
                "\"a@b\"@example.net",
                H,
                "fail %22a%40b%22%40example.net by mail.example.net",
            ),
            (
                "upper case",
                V4,
                "Jo@EXAMPLE.net",
                H,
                "fail Jo%40EXAMPLE.net by mail.example.net",
            ),
            ("no such domain", V4, "a@nowhere.example", H, "none"),
            (
                "U-label (RFC 8616)",
                V4,
                "a@b\u{fc}cher.example",
                H,
                "fail xn--bcher-kva.example xn--bcher-kva.example",
            ),
            (
                "ASCII local part in a name",
                V4,
                "jo@local.example",
                H,
                "pass",
            ),
            (
                "UTF-8 local part never matches (RFC 8616)",
                V4,
                "b\u{fc}@local.example",
                H,
                "fail",
            ),
            (
                "ASCII local part, included",
                V4,
                "jo@inc.local.example",
                H,
                "pass",
            ),
            (
                "nor is UTF-8 included",
                V4,
                "b\u{fc}@inc.local.example",
                H,
                "fail",
            ),
            (
                "ASCII local part, redirected to",
                V4,
                "jo@red.local.example",
                H,
                "pass",
            ),
            (
                "nor is UTF-8 redirected to",
                V4,
                "b\u{fc}@red.local.example",
                H,
                "permerror",
            ),
        ],
    );
}

/// 4.4, 4.5.
#[test]
fn record_lookup_and_selection() {
    table(
        "
        nodata.example EXISTS
        slow.example TIMEOUT
        broken.example SERVFAIL
        other.example TXT hello, world
        two.example TXT v=spf1 -all
        two.example TXT v=spf1 -all
        twocase.example TXT V=SPF1 -all
        twocase.example TXT v=spf1 +all
        bad2.example TXT v=spf1 nonsense
        bad2.example TXT v=spf1 -all
        among.example TXT something else
        among.example TXT v=spf1 -all
        among.example TXT v=spf10 +all
        among.example TXT v=spf1+all
        among.example TXT v=spf2.0/pra +all
        case.example TXT V=sPf1 -aLL
        ten.example TXT v=spf10 -all
        glued.example TXT v=spf1-all
        tabbed.example TXT v=spf1\\x09-all
        lead.example TXT \\x20v=spf1 -all
        bare.example TXT v=spf1
        blank.example TXT v=spf1\\x20\\x20
        high.example TXT not SPF\\x96
        high.example TXT v=spf1 -all
        void.example TXT \\x00
        ",
        &[
            ("no data", V4, "a@nodata.example", H, "none"),
            ("timeout", V4, "a@slow.example", H, "temperror"),
            ("server failure", V4, "a@broken.example", H, "temperror"),
            ("no SPF record", V4, "a@other.example", H, "none"),
            ("the same twice", V4, "a@two.example", H, "permerror"),
            (
                "twice in other case",
                V4,
                "a@twocase.example",
                H,
                "permerror",
            ),
            ("two, one wrong", V4, "a@bad2.example", H, "permerror"),
            ("among others", V4, "a@among.example", H, "fail"),
            ("any case", V4, "a@case.example", H, "fail"),
            ("version 10", V4, "a@ten.example", H, "none"),
            ("no space", V4, "a@glued.example", H, "none"),
            ("tab", V4, "a@tabbed.example", H, "none"),
            ("leading space", V4, "a@lead.example", H, "none"),
            ("no terms", V4, "a@bare.example", H, "neutral"),
            ("spaces only", V4, "a@blank.example", H, "neutral"),
            ("8-bit elsewhere", V4, "a@high.example", H, "fail"),
            ("NUL", V4, "a@void.example", H, "none"),
        ],
    );
}

/// 4.6, 4.7.
#[test]
fn evaluation_and_syntax() {
    table(
        "
        late.example TXT v=spf1 +all nonsense
        late2.example TXT v=spf1 ip4:192.0.2.5 a:192.0.2.5
        spaces.example TXT v=spf1   ip4:192.0.2.9    -all\\x20
        tab.example TXT v=spf1 ip4:192.0.2.9\\x09-all
        nul.example TXT v=spf1 a:a.example\\x00.com -all
        eight.example TXT v=spf1 a:\\xefa.example -all
        eight2.example TXT v=spf1 -all\\x96
        cr.example TXT v=spf1 -all\\x0d
        mods.example TXT v=spf1 moo.cow-far_out=man:dog/cat v=spf1 all=1 x= ip4:192.0.2.5 -all
        macromod.example TXT v=spf1 m=%{d}%% -all
        badmod.example TXT v=spf1 m=%d -all
        expmod.example TXT v=spf1 m=%{t} -all
        digit.example TXT v=spf1 1m=a -all
        empty.example TXT v=spf1 =a -all
        qual.example TXT v=spf1 -m=a -all
        twoq.example TXT v=spf1 +-all
        quals.example TXT v=spf1 ?ip4:192.0.2.1 ~ip4:192.0.2.2 -ip4:192.0.2.3 +ip4:192.0.2.4 ip4:192.0.2.5
        order.example TXT v=spf1 ?all -all
        default.example TXT v=spf1 ip4:198.51.100.1
        ",
        &[
            ("a mistake behind what matches", V4, "a@late.example", H, "permerror"),
            ("again", V4, "a@late2.example", H, "permerror"),
            ("many spaces", V4, "a@spaces.example", H, "fail"),
            ("a tab is no space", V4, "a@tab.example", H, "permerror"),
            ("NUL", V4, "a@nul.example", H, "permerror"),
            ("8-bit", V4, "a@eight.example", H, "permerror"),
            ("8-bit at the end", V4, "a@eight2.example", H, "permerror"),
            ("CR", V4, "a@cr.example", H, "permerror"),
            ("unknown modifiers", V4, "a@mods.example", H, "pass"),
            ("macros in them", V4, "a@macromod.example", H, "fail"),
            ("mistakes in those", V4, "a@badmod.example", H, "permerror"),
            ("t is for explanations", V4, "a@expmod.example", H, "permerror"),
            ("a modifier's name begins with a letter", V4, "a@digit.example", H, "permerror"),
            ("has a name", V4, "a@empty.example", H, "permerror"),
            ("and no qualifier", V4, "a@qual.example", H, "permerror"),
            ("two qualifiers", V4, "a@twoq.example", H, "permerror"),
            ("neutral", "192.0.2.1", "a@quals.example", H, "neutral"),
            ("softfail", "192.0.2.2", "a@quals.example", H, "softfail"),
            ("fail", "192.0.2.3", "a@quals.example", H, "fail"),
            ("pass", "192.0.2.4", "a@quals.example", H, "pass"),
            ("pass by default", V4, "a@quals.example", H, "pass"),
            ("the first decides", V4, "a@order.example", H, "neutral"),
            ("nothing matches", V4, "a@default.example", H, "neutral"),
        ],
    );
}

/// 5.1, 5.6.
#[test]
fn all_and_networks() {
    table(
        "
        dot.example TXT v=spf1 -all.
        arg.example TXT v=spf1 -all:foo.example
        cidr.example TXT v=spf1 -all/8
        neutral.example TXT v=spf1 ?all
        pass4.example TXT v=spf1 ip4:192.0.2.0/24 -all
        host4.example TXT v=spf1 ip4:192.0.2.5 -all
        any4.example TXT v=spf1 ip4:198.51.100.1/0 -all
        long4.example TXT v=spf1 ip4:192.0.2.0/33 -all
        zero4.example TXT v=spf1 ip4:192.0.2.0/024 -all
        dual4.example TXT v=spf1 ip4:192.0.2.0//32 -all
        bare4.example TXT v=spf1 ip4 -all
        none4.example TXT v=spf1 ip4: -all
        port4.example TXT v=spf1 ip4:192.0.2.5:25 -all
        short4.example TXT v=spf1 ip4:192.0.2 -all
        pass6.example TXT v=spf1 ip6:2001:db8::/32 -all
        any6.example TXT v=spf1 ip6:::1/0 -all
        long6.example TXT v=spf1 ip6:2001:db8::/129 -all
        bare6.example TXT v=spf1 ip6 -all
        bad6.example TXT v=spf1 ip6:2001:db8 -all
        mapped6.example TXT v=spf1 ip6:::ffff:192.0.2.0/120 -all
        four6.example TXT v=spf1 ip6:2001:db8::192.0.2.5 -all
        both.example TXT v=spf1 ip4:192.0.2.5 ip6:2001:db8::5 -all
        ",
        &[
            ("all.", V4, "a@dot.example", H, "permerror"),
            ("all:", V4, "a@arg.example", H, "permerror"),
            ("all/", V4, "a@cidr.example", H, "permerror"),
            ("?all", V4, "a@neutral.example", H, "neutral"),
            ("ip4 network", V4, "a@pass4.example", H, "pass"),
            ("outside of it", "192.0.3.5", "a@pass4.example", H, "fail"),
            ("ip4 host", V4, "a@host4.example", H, "pass"),
            ("other host", "192.0.2.4", "a@host4.example", H, "fail"),
            ("ip4 /0", V4, "a@any4.example", H, "pass"),
            ("ip4 /0 has no IPv6", V6, "a@any4.example", H, "fail"),
            ("ip4 /33", V4, "a@long4.example", H, "permerror"),
            ("ip4 /024", V4, "a@zero4.example", H, "permerror"),
            ("ip4 //32", V4, "a@dual4.example", H, "permerror"),
            ("ip4 alone", V4, "a@bare4.example", H, "permerror"),
            ("ip4:", V4, "a@none4.example", H, "permerror"),
            ("ip4 with a port", V4, "a@port4.example", H, "permerror"),
            ("ip4 of three", V4, "a@short4.example", H, "permerror"),
            ("ip6 network", V6, "a@pass6.example", H, "pass"),
            ("outside of it", "2001:db9::5", "a@pass6.example", H, "fail"),
            ("ip6 /0", V6, "a@any6.example", H, "pass"),
            ("ip6 /0 has no IPv4", V4, "a@any6.example", H, "fail"),
            ("ip6 /129", V6, "a@long6.example", H, "permerror"),
            ("ip6 alone", V6, "a@bare6.example", H, "permerror"),
            ("ip6 cut short", V6, "a@bad6.example", H, "permerror"),
            (
                "a mapped client is IPv4 (5)",
                "::ffff:192.0.2.5",
                "a@host4.example",
                H,
                "pass",
            ),
            (
                "and not in a network of mapped ones",
                "::ffff:192.0.2.5",
                "a@mapped6.example",
                H,
                "fail",
            ),
            (
                "dotted end",
                "2001:db8::c000:205",
                "a@four6.example",
                H,
                "pass",
            ),
            ("both", V6, "a@both.example", H, "pass"),
        ],
    );
}

/// 5.2, 6.1.
#[test]
fn include_and_redirect() {
    table(
        "
        pass.example TXT v=spf1 +all
        fail.example TXT v=spf1 -all exp=why.fail.example
        why.fail.example TXT fail.example says no
        soft.example TXT v=spf1 ~all
        neutral.example TXT v=spf1 ?all
        broken.example TXT v=spf1 broken
        slow.example TIMEOUT
        empty.example EXISTS
        i-pass.example TXT v=spf1 -include:pass.example +all
        i-fail.example TXT v=spf1 include:fail.example -all
        i-soft.example TXT v=spf1 include:soft.example -all
        i-neutral.example TXT v=spf1 include:neutral.example -all
        i-broken.example TXT v=spf1 include:broken.example +all
        i-slow.example TXT v=spf1 include:slow.example +all
        i-none.example TXT v=spf1 include:none.example +all
        i-empty.example TXT v=spf1 include:empty.example +all
        i-arg.example TXT v=spf1 include +all
        i-noarg.example TXT v=spf1 include: +all
        i-cidr.example TXT v=spf1 include:pass.example/24 +all
        i-self.example TXT v=spf1 include:i-self.example +all
        i-late.example TXT v=spf1 ip4:192.0.2.5 include:broken.example
        i-exp.example TXT v=spf1 include:fail.example -all exp=why.i-exp.example
        why.i-exp.example TXT %{d} says no
        i-d.example TXT v=spf1 include:%{d1r}.sub.example -all
        i-d.sub.example TXT v=spf1 ip4:192.0.2.5 exists:%{d}.never.example -all
        i-bad.example TXT v=spf1 include:%{h} +all
        i-mapped.example TXT v=spf1 include:a..example +all
        r-pass.example TXT v=spf1 redirect=pass.example
        r-fail.example TXT v=spf1 redirect=fail.example
        r-own.example TXT v=spf1 redirect=fail.example exp=why.i-exp.example
        r-first.example TXT v=spf1 redirect=pass.example ip4:192.0.2.5 -all
        r-match.example TXT v=spf1 -ip4:192.0.2.5 redirect=pass.example
        r-all.example TXT v=spf1 redirect=pass.example ?all
        r-none.example TXT v=spf1 redirect=none.example
        r-broken.example TXT v=spf1 redirect=broken.example
        r-slow.example TXT v=spf1 redirect=slow.example
        r-empty.example TXT v=spf1 redirect=
        r-cidr.example TXT v=spf1 redirect=pass.example/24
        r-colon.example TXT v=spf1 redirect:pass.example
        r-qual.example TXT v=spf1 ?redirect=pass.example
        r-two.example TXT v=spf1 redirect=pass.example redirect=pass.example
        r-self.example TXT v=spf1 redirect=r-self.example
        r-i.example TXT v=spf1 include:r-neutral.example -all
        r-neutral.example TXT v=spf1 redirect=pass.example
        r-bad.example TXT v=spf1 redirect=%{h}
        ",
        &[
            ("pass matches", V4, "a@i-pass.example", H, "fail"),
            ("fail does not", V4, "a@i-fail.example", H, "fail"),
            ("softfail does not", V4, "a@i-soft.example", H, "fail"),
            ("neutral does not", V4, "a@i-neutral.example", H, "fail"),
            ("permerror is one", V4, "a@i-broken.example", H, "permerror"),
            ("temperror is one", V4, "a@i-slow.example", H, "temperror"),
            (
                "none is a permerror",
                V4,
                "a@i-none.example",
                H,
                "permerror",
            ),
            ("no data as well", V4, "a@i-empty.example", H, "permerror"),
            ("no argument", V4, "a@i-arg.example", H, "permerror"),
            ("empty argument", V4, "a@i-noarg.example", H, "permerror"),
            ("no network", V4, "a@i-cidr.example", H, "permerror"),
            ("itself, for ever", V4, "a@i-self.example", H, "permerror"),
            (
                "what is broken is not reached",
                V4,
                "a@i-late.example",
                H,
                "pass",
            ),
            (
                "what is broken is reached",
                V6,
                "a@i-late.example",
                H,
                "permerror",
            ),
            (
                "whose explanation",
                V4,
                "a@i-exp.example",
                H,
                "fail i-exp.example says no",
            ),
            ("whose domain", V4, "a@i-d.example", H, "pass"),
            ("not a domain", V4, "a@i-bad.example", "pc", "permerror"),
            ("empty label", V4, "a@i-mapped.example", H, "permerror"),
            ("redirect, pass", V4, "a@r-pass.example", H, "pass"),
            (
                "redirect, fail",
                V4,
                "a@r-fail.example",
                H,
                "fail fail.example says no",
            ),
            (
                "not one's own explanation",
                V4,
                "a@r-own.example",
                H,
                "fail fail.example says no",
            ),
            ("stands anywhere", V4, "a@r-first.example", H, "pass"),
            ("not after a match", V4, "a@r-match.example", H, "fail"),
            ("not after all", V4, "a@r-all.example", H, "neutral"),
            ("redirect, none", V4, "a@r-none.example", H, "permerror"),
            (
                "redirect, permerror",
                V4,
                "a@r-broken.example",
                H,
                "permerror",
            ),
            (
                "redirect, temperror",
                V4,
                "a@r-slow.example",
                H,
                "temperror",
            ),
            ("redirect=", V4, "a@r-empty.example", H, "permerror"),
            (
                "redirect with a network",
                V4,
                "a@r-cidr.example",
                H,
                "permerror",
            ),
            ("redirect:", V4, "a@r-colon.example", H, "permerror"),
            ("?redirect=", V4, "a@r-qual.example", H, "permerror"),
            ("redirect twice", V4, "a@r-two.example", H, "permerror"),
            ("redirect to itself", V4, "a@r-self.example", H, "permerror"),
            ("redirect in an include", V4, "a@r-i.example", H, "pass"),
            (
                "redirect to no domain",
                V4,
                "a@r-bad.example",
                "pc",
                "permerror",
            ),
        ],
    );
}

/// 5.3.
#[test]
fn a() {
    table(
        "
        bare.example TXT v=spf1 a -all
        bare.example A 192.0.2.5
        bare.example AAAA 2001:db8::5
        net.example TXT v=spf1 a:host.example/24//64 -all
        host.example A 192.0.2.99
        host.example A 198.51.100.1
        host.example AAAA 2001:db8::99
        zero4.example TXT v=spf1 a:host.example/0 -all
        zero6.example TXT v=spf1 a:host.example//0 -all
        off.example TXT v=spf1 a:host.example/32//128 -all
        onlynet.example TXT v=spf1 a/24 -all
        onlynet.example A 192.0.2.77
        six.example TXT v=spf1 a//64 -all
        six.example AAAA 2001:db8::77
        bad1.example TXT v=spf1 a/33 -all
        bad2.example TXT v=spf1 a//129 -all
        bad3.example TXT v=spf1 a:host.example/24/64 -all
        bad4.example TXT v=spf1 a:host.example/ -all
        bad5.example TXT v=spf1 a: -all
        bad6.example TXT v=spf1 a:museum -all
        bad7.example TXT v=spf1 a:museum. -all
        bad8.example TXT v=spf1 a:192.0.2.5 -all
        bad9.example TXT v=spf1 a:host.-example -all
        bad10.example TXT v=spf1 a:host.example:25 -all
        bad11.example TXT v=spf1 a:/24 -all
        odd.example TXT v=spf1 a:foo:bar/baz.host.example -all
        foo:bar/baz.host.example A 192.0.2.5
        dot.example TXT v=spf1 a:host.example./24 -all
        dash.example TXT v=spf1 a:a.b-c -all
        a.b-c A 192.0.2.5
        num.example TXT v=spf1 a:x.1a -all
        x.1a A 192.0.2.5
        none.example TXT v=spf1 a:nowhere.example -all
        slow.example TXT v=spf1 a:slowhost.example +all
        slowhost.example TIMEOUT
        empty.example TXT v=spf1 a:a..example -all
        long.example TXT v=spf1 a:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example -all
        ",
        &[
            ("itself", V4, "a@bare.example", H, "pass"),
            ("itself, IPv6", V6, "a@bare.example", H, "pass"),
            ("another", "192.0.2.6", "a@bare.example", H, "fail"),
            ("network", V4, "a@net.example", H, "pass"),
            ("network of another address", "198.51.100.200", "a@net.example", H, "pass"),
            ("network, IPv6", "2001:db8::1:2", "a@net.example", H, "pass"),
            ("outside, IPv6", "2001:db8:1::1", "a@net.example", H, "fail"),
            ("/0", "8.8.8.8", "a@zero4.example", H, "pass"),
            ("/0 is not for IPv6", "2001:db9::1", "a@zero4.example", H, "fail"),
            ("//0", "2001:db9::1", "a@zero6.example", H, "pass"),
            ("//0 is not for IPv4", "8.8.8.8", "a@zero6.example", H, "fail"),
            ("/32//128", V4, "a@off.example", H, "fail"),
            ("a/24", V4, "a@onlynet.example", H, "pass"),
            ("a//64", V6, "a@six.example", H, "pass"),
            ("a//64 has no IPv4 address", V4, "a@six.example", H, "fail"),
            ("a/33", V4, "a@bad1.example", H, "permerror"),
            ("a//129", V4, "a@bad2.example", H, "permerror"),
            ("/24/64", V4, "a@bad3.example", H, "permerror"),
            ("/ alone", V4, "a@bad4.example", H, "permerror"),
            ("a:", V4, "a@bad5.example", H, "permerror"),
            ("one label", V4, "a@bad6.example", H, "permerror"),
            ("one label and a dot", V4, "a@bad7.example", H, "permerror"),
            ("an address", V4, "a@bad8.example", H, "permerror"),
            ("a dash first", V4, "a@bad9.example", H, "permerror"),
            ("a port", V4, "a@bad10.example", H, "permerror"),
            ("a:/24", V4, "a@bad11.example", H, "permerror"),
            ("odd characters", V4, "a@odd.example", H, "pass"),
            ("final dot", V4, "a@dot.example", H, "pass"),
            ("dash in the last label", V4, "a@dash.example", H, "pass"),
            ("digits in the last label", V4, "a@num.example", H, "pass"),
            ("no such name", V4, "a@none.example", H, "fail"),
            ("timeout", V4, "a@slow.example", H, "temperror"),
            ("no valid name: no match (4.8)", V4, "a@empty.example", H, "fail"),
            ("label of 64: no match (4.8)", V4, "a@long.example", H, "fail"),
        ],
    );
}

/// 5.4, 4.6.4.
#[test]
fn mx() {
    let many: String = (1..=11)
        .map(|n| {
            let ten = if n <= 10 {
                format!("ten.example MX {n} m{n}.example\n")
            } else {
                String::new()
            };
            format!("{ten}eleven.example MX {n} m{n}.example\nm{n}.example A 192.0.2.{n}\n")
        })
        .collect();
    let zone = format!(
        "{many}
        ten.example TXT v=spf1 mx -all
        eleven.example TXT v=spf1 mx -all
        void.example TXT v=spf1 mx:v.example mx:v.example mx:v.example mx:v.example ip4:192.0.2.5
        v.example MX 1 a.v.example
        v.example MX 2 b.v.example
        v.example MX 3 c.v.example
        null.example TXT v=spf1 mx -all
        null.example MX 0 .
        implicit.example TXT v=spf1 mx -all
        implicit.example A 192.0.2.5
        nx.example TXT v=spf1 mx:nowhere.example -all
        six.example TXT v=spf1 mx//64 -all
        six.example MX 10 m6.example
        m6.example AAAA 2001:db8::77
        slow.example TXT v=spf1 mx +all
        slow.example MX 10 m1.example
        slow.example MX 20 slowhost.example
        slowhost.example TIMEOUT
        slowmx.example TXT v=spf1 mx:slowhost.example +all
        some.example TXT v=spf1 mx -all
        some.example MX 10 gone.example
        some.example MX 20 m5.example
        bad1.example TXT v=spf1 mx/33
        bad2.example TXT v=spf1 mx:
        bad3.example TXT v=spf1 mx:m1
        net.example TXT v=spf1 mx:ten.example/24 -all
        "
    );
    table(
        &zone,
        &[
            ("the tenth", "192.0.2.10", "a@ten.example", H, "pass"),
            ("none of ten", "192.0.2.11", "a@ten.example", H, "fail"),
            (
                "eleven are too many, even if the first matches",
                "192.0.2.1",
                "a@eleven.example",
                H,
                "permerror",
            ),
            (
                "hosts without addresses are not void lookups",
                V4,
                "a@void.example",
                H,
                "pass",
            ),
            ("null MX", V4, "a@null.example", H, "fail"),
            (
                "the domain's own address is none",
                V4,
                "a@implicit.example",
                H,
                "fail",
            ),
            ("no such domain", V4, "a@nx.example", H, "fail"),
            ("IPv6", V6, "a@six.example", H, "pass"),
            (
                "found before the timeout",
                "192.0.2.1",
                "a@slow.example",
                H,
                "pass",
            ),
            ("timeout of a host", V4, "a@slow.example", H, "temperror"),
            ("timeout of the MX", V4, "a@slowmx.example", H, "temperror"),
            ("the first host is gone", V4, "a@some.example", H, "pass"),
            ("mx/33", V4, "a@bad1.example", H, "permerror"),
            ("mx:", V4, "a@bad2.example", H, "permerror"),
            ("one label", V4, "a@bad3.example", H, "permerror"),
            ("network", "192.0.2.222", "a@net.example", H, "pass"),
        ],
    );
}

/// 5.5, 4.6.4.
#[test]
fn ptr() {
    let many: String = (1..=10)
        .map(|n| {
            format!(
                "7.2.0.192.in-addr.arpa PTR n{n}.other.example\nn{n}.other.example A 192.0.2.9\n"
            )
        })
        .collect();
    let zone = format!(
        "{many}
        7.2.0.192.in-addr.arpa PTR late.example
        late.example A 192.0.2.7
        late.example TXT v=spf1 ptr -all
        own.example TXT v=spf1 ptr -all
        own.example A 192.0.2.5
        5.2.0.192.in-addr.arpa PTR liar.example
        5.2.0.192.in-addr.arpa PTR slow.own.example
        5.2.0.192.in-addr.arpa PTR OWN.example
        5.2.0.192.in-addr.arpa PTR mail.sub.own2.example
        mail.sub.own2.example A 192.0.2.5
        slow.own.example TIMEOUT
        liar.example A 192.0.2.6
        liar.example TXT v=spf1 ptr -all
        sub.example TXT v=spf1 ptr:own2.example -all
        suffix.example TXT v=spf1 ptr:wn2.example -all
        below.example TXT v=spf1 ptr:a.mail.sub.own2.example -all
        five.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR x.example
        5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR six.example
        six.example AAAA 2001:db8::5
        six.example TXT v=spf1 ptr -all
        broken.example TXT v=spf1 ptr ip4:192.0.2.8 -all
        8.2.0.192.in-addr.arpa SERVFAIL
        noname.example TXT v=spf1 ptr ptr ptr ptr -all
        10.2.0.192.in-addr.arpa PTR a\\x20b.odd.example
        a\\x20b.odd.example A 192.0.2.10
        odd.example TXT v=spf1 ptr -all
        bad1.example TXT v=spf1 ptr: -all
        bad2.example TXT v=spf1 ptr/24 -all
        bad3.example TXT v=spf1 ptr:own -all
        "
    );
    table(
        &zone,
        &[
            ("the domain itself", V4, "a@own.example", H, "pass"),
            (
                "a name that doesn't point back",
                V4,
                "a@liar.example",
                H,
                "fail",
            ),
            ("a name under it", V4, "a@sub.example", H, "pass"),
            ("labels, not letters", V4, "a@suffix.example", H, "fail"),
            (
                "a name that no host has",
                "192.0.2.10",
                "a@odd.example",
                H,
                "fail",
            ),
            ("not above it", V4, "a@below.example", H, "fail"),
            ("IPv6", V6, "a@six.example", H, "pass"),
            (
                "a DNS error is no match",
                "192.0.2.8",
                "a@broken.example",
                H,
                "pass",
            ),
            (
                "ten names are looked at",
                "192.0.2.7",
                "a@late.example",
                H,
                "fail",
            ),
            (
                "one question, one void answer",
                "192.0.2.250",
                "a@noname.example",
                H,
                "fail",
            ),
            ("ptr:", V4, "a@bad1.example", H, "permerror"),
            ("ptr/24", V4, "a@bad2.example", H, "permerror"),
            ("one label", V4, "a@bad3.example", H, "permerror"),
        ],
    );
}

/// 5.7.
#[test]
fn exists() {
    table(
        "
        there.example TXT v=spf1 exists:%{i}.list.example -all
        192.0.2.5.list.example A 127.0.0.2
        2.0.0.1.0.d.b.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.5.list.example A 127.0.0.2
        six.example TXT v=spf1 exists:six.list.example -all
        six.list.example AAAA 2001:db8::5
        text.example TXT v=spf1 exists:text.list.example -all
        text.list.example TXT hello
        slow.example TXT v=spf1 exists:slow.list.example +all
        slow.list.example TIMEOUT
        bad1.example TXT v=spf1 exists -all
        bad2.example TXT v=spf1 exists: -all
        bad3.example TXT v=spf1 exists:a.list.example/24 -all
        bad4.example TXT v=spf1 exists:list -all
        ",
        &[
            ("there", V4, "a@there.example", H, "pass"),
            ("not there", "192.0.2.6", "a@there.example", H, "fail"),
            (
                "A also for an IPv6 client",
                V6,
                "a@there.example",
                H,
                "pass",
            ),
            ("AAAA does not count", V6, "a@six.example", H, "fail"),
            ("nor does TXT", V4, "a@text.example", H, "fail"),
            ("timeout", V4, "a@slow.example", H, "temperror"),
            ("no argument", V4, "a@bad1.example", H, "permerror"),
            ("empty argument", V4, "a@bad2.example", H, "permerror"),
            ("network", V4, "a@bad3.example", H, "permerror"),
            ("one label", V4, "a@bad4.example", H, "permerror"),
        ],
    );
}

/// 6.2.
#[test]
fn exp() {
    let endless = "x".repeat(2049);
    let zone = format!(
        "
        good.example TXT v=spf1 -all exp=why.%{{d}}
        why.good.example TXT See http://x.example/?s=%{{S}}&i=%{{C}}%_%%%-\\x20 end
        first.example TXT v=spf1 exp=why.good.example -all
        sub.good.example TXT v=spf1 exp=why.good.example redirect=good.example
        none.example TXT v=spf1 -all exp=nowhere.example
        slow.example TXT v=spf1 -all exp=slowwhy.example
        slowwhy.example TIMEOUT
        two.example TXT v=spf1 -all exp=twowhy.example
        twowhy.example TXT one
        twowhy.example TXT two
        empty.example TXT v=spf1 -all exp=emptywhy.example
        emptywhy.example TXT
        wrong.example TXT v=spf1 -all exp=wrongwhy.example
        wrongwhy.example TXT 100% wrong
        letter.example TXT v=spf1 -all exp=letterwhy.example
        letterwhy.example TXT %{{x}}
        eight.example TXT v=spf1 -all exp=eightwhy.example
        eightwhy.example TXT \\xe9crit
        control.example TXT v=spf1 -all exp=controlwhy.example
        controlwhy.example TXT a\\x0d\\x0ab
        long.example TXT v=spf1 -all exp=longwhy.example
        longwhy.example TXT {endless}
        soft.example TXT v=spf1 ~all exp=why.good.example
        pass.example TXT v=spf1 +all exp=why.good.example
        noexp.example TXT v=spf1 -all
        noname.example TXT v=spf1 -all exp=a..%{{d}}
        bad1.example TXT v=spf1 -all exp=
        bad2.example TXT v=spf1 -all exp=why.good.example exp=why.good.example
        bad3.example TXT v=spf1 -all exp=%{{r}}.good.example
        bad4.example TXT v=spf1 -all exp:why.good.example
        bad5.example TXT v=spf1 -all exp=why
        ctr.example TXT v=spf1 -all exp=ctrwhy.example
        ctrwhy.example TXT c=%{{c}} t=%{{t}} r=%{{r}} p=%{{p}} v=%{{v}} h=%{{h}} l=%{{l}} o=%{{o}} i=%{{i}}
        6.2.0.192.in-addr.arpa PTR mx.ctr.example
        mx.ctr.example A 192.0.2.6
        costs.example TXT v=spf1 a:v1.example a:v2.example -all exp=%{{p}}.costs.example
        unknown.costs.example TXT and %{{p}}
        "
    );
    table(
        &zone,
        &[
            (
                "macros",
                V4,
                "a b@good.example",
                H,
                "fail See http://x.example/?s=a%20b%40good.example&i=192.0.2.5 %%20  end",
            ),
            (
                "stands anywhere",
                V4,
                "a@first.example",
                H,
                "fail See http://x.example/?s=a%40first.example&i=192.0.2.5 %%20  end",
            ),
            (
                "of the record that decided",
                V4,
                "a@sub.good.example",
                H,
                "fail See http://x.example/?s=a%40sub.good.example&i=192.0.2.5 %%20  end",
            ),
            ("no such name", V4, "a@none.example", H, "fail"),
            ("timeout", V4, "a@slow.example", H, "fail"),
            ("two texts", V4, "a@two.example", H, "fail"),
            ("empty text", V4, "a@empty.example", H, "fail "),
            ("bare percent", V4, "a@wrong.example", H, "fail"),
            ("unknown letter", V4, "a@letter.example", H, "fail"),
            ("8-bit", V4, "a@eight.example", H, "fail"),
            ("line end", V4, "a@control.example", H, "fail"),
            ("too long", V4, "a@long.example", H, "fail"),
            ("softfail has none", V4, "a@soft.example", H, "softfail"),
            ("pass has none", V4, "a@pass.example", H, "pass"),
            ("fail without", V4, "a@noexp.example", H, "fail"),
            ("no valid name", V4, "a@noname.example", H, "fail"),
            ("exp=", V4, "a@bad1.example", H, "permerror"),
            ("twice", V4, "a@bad2.example", H, "permerror"),
            ("r in its name", V4, "a@bad3.example", H, "permerror"),
            ("exp:", V4, "a@bad4.example", H, "permerror"),
            ("one label", V4, "a@bad5.example", H, "permerror"),
            (
                "all letters",
                "192.0.2.6",
                "a@ctr.example",
                H,
                "fail c=192.0.2.6 t=1790000000 r=unknown p=mx.ctr.example v=in-addr h=mail.example.net l=a o=ctr.example i=192.0.2.6",
            ),
            (
                "what it asks does not count",
                V4,
                "a@costs.example",
                H,
                "fail and unknown",
            ),
            ("UTF-8 sender in it", V4, "\u{fc}@ctr.example", H, "fail"),
        ],
    );
}

/// 7.
#[test]
fn macros() {
    // Names of 253, 254 and 272 octets, and what is left of them.
    let labels = |n: usize| ["a23456789"; 26][..n].join(".");
    let (fits, over, far) = (
        format!("b{}", labels(24)),
        format!("bb{}", labels(24)),
        labels(26),
    );
    let (cut, cut_far) = (labels(23), labels(24));
    assert_eq!(format!("{fits}.deep.example").len(), 253);
    let zone = format!(
        "
        helo.example TXT v=spf1 a:%{{h}} -all
        mail.example.net A 192.0.2.5
        local.example TXT v=spf1 exists:%{{l}}.l.example exists:%{{lr-}}.r.example -all
        plus.example TXT v=spf1 exists:%{{l1r+}}.p.example -all
        strong-bad.l.example A 127.0.0.2
        good.weak.r.example A 127.0.0.2
        list.p.example A 127.0.0.2
        upper.example TXT v=spf1 exists:%{{L}}.u.example -all
        a%26b.u.example A 127.0.0.2
        x%3da%26b.u.example A 127.0.0.2
        url.example TXT v=spf1 exists:%{{S1=}}.url.example -all
        a%26b%40url.example.url.example A 127.0.0.2
        nibbles.example TXT v=spf1 exists:%{{ir}}.%{{v}}.n.example -all
        5.2.0.192.in-addr.n.example A 127.0.0.2
        5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.n.example A 127.0.0.2
        p.example TXT v=spf1 exists:%{{p}}.yes.example -all
        5.2.0.192.in-addr.arpa PTR other.example
        5.2.0.192.in-addr.arpa PTR x.p.example
        5.2.0.192.in-addr.arpa PTR p.example
        other.example A 192.0.2.5
        x.p.example A 192.0.2.5
        p.example A 192.0.2.5
        p.example.yes.example A 127.0.0.2
        psub.example TXT v=spf1 exists:%{{p}}.yes.example -all
        6.2.0.192.in-addr.arpa PTR other6.example
        6.2.0.192.in-addr.arpa PTR x.psub.example
        other6.example A 192.0.2.6
        x.psub.example A 192.0.2.6
        x.psub.example.yes.example A 127.0.0.2
        7.2.0.192.in-addr.arpa PTR other7.example
        other7.example A 192.0.2.7
        other7.example.yes.example A 127.0.0.2
        unknown.yes.example A 127.0.0.2
        9.2.0.192.in-addr.arpa TIMEOUT
        10.2.0.192.in-addr.arpa PTR a\\x20b.podd.example
        10.2.0.192.in-addr.arpa PTR good.example
        a\\x20b.podd.example A 192.0.2.10
        good.example A 192.0.2.10
        podd.example TXT v=spf1 exists:%{{p}}.yes.example -all
        good.example.yes.example A 127.0.0.2
        literal.example TXT v=spf1 exists:%%.%_x.%-.lit.example -all
        %.\\x20x.%20.lit.example A 127.0.0.2
        deep.example TXT v=spf1 exists:%{{l}}.deep.example -all
        {fits}.deep.example A 127.0.0.2
        deeq.example TXT v=spf1 exists:%{{l}}.deeq.example -all
        {cut}.deeq.example A 127.0.0.2
        deer.example TXT v=spf1 exists:%{{l}}.deer.example -all
        {cut_far}.deer.example A 127.0.0.2
        x0.example TXT v=spf1 exists:%{{d0}}.x.example -all
        xx.example TXT v=spf1 exists:%{{x}}.x.example -all
        xopen.example TXT v=spf1 exists:%{{d.x.example -all
        xbare.example TXT v=spf1 exists:%a.x.example -all
        xparen.example TXT v=spf1 exists:%(d).x.example -all
        xc.example TXT v=spf1 exists:%{{c}}.x.example -all
        xr.example TXT v=spf1 exists:%{{r}}.x.example -all
        xt.example TXT v=spf1 exists:%{{t}}.x.example -all
        xend.example TXT v=spf1 exists:x.example% -all
        dot.example TXT v=spf1 exists:%{{d1}}.dot.example. -all
        xdot.example TXT v=spf1 exists:%{{d}}. -all
        example.dot.example A 127.0.0.2
        three.example TXT v=spf1 exists:%{{o2r}}.three.example -all
        sub.three.example TXT v=spf1 redirect=three.example
        three.sub.three.example A 127.0.0.2
        "
    );
    table(
        &zone,
        &[
            ("h", V4, "a@helo.example", H, "pass"),
            ("h is no name", V4, "a@helo.example", "JUMBO JET", "fail"),
            (
                "h is a literal",
                V4,
                "a@helo.example",
                "[192.0.2.5]",
                "fail",
            ),
            ("l", V4, "Strong-Bad@local.example", H, "pass"),
            (
                "l, split at dashes, reversed",
                V4,
                "weak-good@local.example",
                H,
                "pass",
            ),
            (
                "l, the first of two",
                V4,
                "list+tag@plus.example",
                H,
                "pass",
            ),
            ("l, not the second", V4, "tag+list@plus.example", H, "fail"),
            ("URL escapes", V4, "a&b@upper.example", H, "pass"),
            ("of = as well", V4, "x=a&b@upper.example", H, "pass"),
            ("cut before", V4, "x=a&b@url.example", H, "pass"),
            ("i and v", V4, "a@nibbles.example", H, "pass"),
            ("i and v, IPv6", V6, "a@nibbles.example", H, "pass"),
            ("p, the domain itself", V4, "a@p.example", H, "pass"),
            (
                "p, a name under it",
                "192.0.2.6",
                "a@psub.example",
                H,
                "pass",
            ),
            ("p, any name", "192.0.2.7", "a@psub.example", H, "pass"),
            ("p, no name", "192.0.2.8", "a@psub.example", H, "pass"),
            ("p, DNS error", "192.0.2.9", "a@psub.example", H, "pass"),
            (
                "p, a name that no host has",
                "192.0.2.10",
                "a@podd.example",
                H,
                "pass",
            ),
            ("literals", V4, "a@literal.example", H, "pass"),
            ("253 octets", V4, &format!("{fits}@deep.example"), H, "pass"),
            (
                "254 octets: the first label is cut off",
                V4,
                &format!("{over}@deeq.example"),
                H,
                "pass",
            ),
            (
                "272 octets: two labels are",
                V4,
                &format!("{far}@deer.example"),
                H,
                "pass",
            ),
            ("zero parts", V4, "a@x0.example", H, "permerror"),
            ("unknown letter", V4, "a@xx.example", H, "permerror"),
            ("not closed", V4, "a@xopen.example", H, "permerror"),
            ("bare percent", V4, "a@xbare.example", H, "permerror"),
            ("wrong bracket", V4, "a@xparen.example", H, "permerror"),
            ("c", V4, "a@xc.example", H, "permerror"),
            ("r", V4, "a@xr.example", H, "permerror"),
            ("t", V4, "a@xt.example", H, "permerror"),
            ("percent at the end", V4, "a@xend.example", H, "permerror"),
            ("final dot", V4, "a@dot.example", H, "pass"),
            (
                "no dot behind a macro (12)",
                V4,
                "a@xdot.example",
                H,
                "permerror",
            ),
            ("digits and r", V4, "a@sub.three.example", H, "pass"),
        ],
    );
}

/// 4.6.4.
#[test]
fn limits() {
    let includes = |n: usize| {
        let all: String = (0..n).map(|i| format!(" include:i{i}.example")).collect();
        let records: String = (0..n)
            .map(|i| format!("i{i}.example TXT v=spf1 -all\n"))
            .collect();
        (all, records)
    };
    let (ten, records) = includes(10);
    let (eleven, _) = includes(11);
    let chain: String = (0..12)
        .map(|i| format!("c{i}.example TXT v=spf1 redirect=c{}.example\n", i + 1))
        .collect();
    let zone = format!(
        "{records}{chain}
        c12.example TXT v=spf1 +all
        ten.example TXT v=spf1{ten} +all
        eleven.example TXT v=spf1{eleven} +all
        early.example TXT v=spf1 ip4:192.0.2.5{eleven} +all
        free.example TXT v=spf1{ten} ip4:192.0.2.5 ip6:2001:db8::5 moo=%{{d}} -all exp=i0.example
        redirected.example TXT v=spf1{ten} redirect=i0.example
        nested.example TXT v=spf1 include:n1.example a:h.example a:h.example +all
        n1.example TXT v=spf1 include:n2.example a:h.example a:h.example -all
        n2.example TXT v=spf1 a:h.example a:h.example a:h.example a:h.example -all
        nested2.example TXT v=spf1 include:n1.example a:h.example a:h.example a:h.example +all
        h.example A 198.51.100.1
        kinds.example TXT v=spf1 a:h.example mx:h.example ptr exists:h.example.never.example include:i1.example a:h.example a:h.example a:h.example a:h.example a:h.example +all
        kinds2.example TXT v=spf1 a:h.example mx:h.example ptr exists:h.example.never.example include:i1.example a:h.example a:h.example a:h.example a:h.example a:h.example ptr +all
        h.example MX 10 h.example
        5.2.0.192.in-addr.arpa PTR h.example
        void2.example TXT v=spf1 a:v1.example exists:v2.example +all
        void3.example TXT v=spf1 a:v1.example mx:v2.example exists:v3.example +all
        voidnodata.example TXT v=spf1 a:v.example mx:v.example exists:v.example +all
        v.example EXISTS
        voidin.example TXT v=spf1 a:v1.example include:voidin2.example a:v3.example +all
        voidin2.example TXT v=spf1 a:v2.example -all
        voidp.example TXT v=spf1 exists:%{{p}}.never.example a:v1.example +all
        voidptr.example TXT v=spf1 ptr ptr ptr a:v1.example +all
        voidptr3.example TXT v=spf1 ptr a:v1.example a:v2.example +all
        voidslow.example TXT v=spf1 a:v1.example a:v2.example ptr +all
        7.2.0.192.in-addr.arpa TIMEOUT
        withp.example TXT v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example exists:%{{p}}.h.example +all
        withp2.example TXT v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example exists:%{{p}}.h.example +all
        "
    );
    table(
        &zone,
        &[
            ("ten", V4, "a@ten.example", H, "pass"),
            ("eleven", V4, "a@eleven.example", H, "permerror"),
            ("decided before", V4, "a@early.example", H, "pass"),
            ("what costs nothing", V4, "a@free.example", H, "pass"),
            (
                "nor does exp",
                "192.0.2.6",
                "a@free.example",
                H,
                "fail v=spf1 -all",
            ),
            (
                "redirect is the eleventh",
                V4,
                "a@redirected.example",
                H,
                "permerror",
            ),
            ("ten, nested", V4, "a@nested.example", H, "pass"),
            ("eleven, nested", V4, "a@nested2.example", H, "permerror"),
            ("ten redirects", V4, "a@c2.example", H, "pass"),
            ("eleven redirects", V4, "a@c1.example", H, "permerror"),
            ("every kind, ten", V4, "a@kinds.example", H, "pass"),
            ("every kind, eleven", V4, "a@kinds2.example", H, "permerror"),
            ("two void", V4, "a@void2.example", H, "pass"),
            ("three void", V4, "a@void3.example", H, "permerror"),
            (
                "three without data",
                V4,
                "a@voidnodata.example",
                H,
                "permerror",
            ),
            (
                "three void, one of them included",
                V4,
                "a@voidin.example",
                H,
                "permerror",
            ),
            (
                "one void in all its questions",
                "192.0.2.6",
                "a@voidp.example",
                H,
                "pass",
            ),
            (
                "void where it is asked, not again",
                "192.0.2.6",
                "a@voidptr.example",
                H,
                "pass",
            ),
            (
                "names of the client are void",
                "192.0.2.6",
                "a@voidptr3.example",
                H,
                "permerror",
            ),
            (
                "an error is not",
                "192.0.2.7",
                "a@voidslow.example",
                H,
                "pass",
            ),
            ("p counts: ten", V4, "a@withp.example", H, "pass"),
            ("p counts: eleven", V4, "a@withp2.example", H, "permerror"),
        ],
    );
}
