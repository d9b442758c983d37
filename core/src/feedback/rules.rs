//! The built-in rules: markers and wordings of known receivers, as data.
//!
//! Three tables in one, first match wins:
//!
//! 1. markers that one receiver alone writes (`[TSS04]`, `S3150`, `OFR_999`) and codes that it
//!    gives a meaning of its own (`4.7.28`);
//! 2. wordings of anyone, asked only where the enhanced code is missing or vague
//!    ([`Enhanced::Vague`]), in an order that puts the narrow before the wide: "spamhaus" before
//!    "spam", "mailbox size limit" before "size limit".
//!
//! Waiting times stand only where the receiver publishes that shorter retries are refused; how
//! fast to go after that is for the lane to find out.

use super::text::Probe;
use super::verdict::Class::*;
use super::verdict::{Class, Codes, Enhanced, Rule, Scope, Stage};
use core::time::Duration;

const GOOGLE: Option<&str> = Some("google");
const HOUR: u64 = 3600;

/// A receiver's marker: any of `any`, whatever the codes.
const fn marker(
    name: &'static str,
    any: &'static [&'static str],
    class: Class,
    scope: Scope,
) -> Rule<'static> {
    Rule {
        name,
        any,
        class,
        scope: Some(scope),
        ..Rule::ANY
    }
}

/// A receiver's own meaning of an enhanced code.
const fn code(
    name: &'static str,
    provider: Option<&'static str>,
    enhanced: Enhanced,
    class: Class,
    scope: Scope,
) -> Rule<'static> {
    Rule {
        name,
        provider,
        enhanced,
        class,
        scope: Some(scope),
        ..Rule::ANY
    }
}

/// Words that anyone may write, asked only beside a vague code.
const fn words(
    name: &'static str,
    any: &'static [&'static str],
    class: Class,
    scope: Scope,
) -> Rule<'static> {
    Rule {
        name,
        enhanced: Enhanced::Vague,
        any,
        class,
        scope: Some(scope),
        ..Rule::ANY
    }
}

const fn after_s(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

/// The built-in rules, first match wins.
#[rustfmt::skip]
pub const BUILT_IN: &[Rule<'static>] = &[
    // -- Google: codes of the 4.7.x and 5.7.x range with meanings that the registry gives to
    //    others (support.google.com/a/answer/3726730) --
    code("google-ptr", GOOGLE, Enhanced::detail(7, 23), Authentication, Scope::Source),
    code("google-ptr", GOOGLE, Enhanced::detail(7, 25), Authentication, Scope::Source),
    code("google-unauthenticated", GOOGLE, Enhanced::detail(7, 26), Authentication, Scope::Identity),
    code("google-spf", GOOGLE, Enhanced::detail(7, 27), Authentication, Scope::Identity),
    Rule {
        any: &["your ip address", "ip address", "ip netblock", "netblock"],
        ..code("google-rate-ip", GOOGLE, Enhanced::detail(7, 28), RateLimited, Scope::Source)
    },
    code("google-rate-identity", GOOGLE, Enhanced::detail(7, 28), RateLimited, Scope::Identity),
    code("google-tls", GOOGLE, Enhanced::detail(7, 29), Authentication, Scope::Lane),
    code("google-dkim", GOOGLE, Enhanced::detail(7, 30), Authentication, Scope::Identity),
    code("google-dmarc", GOOGLE, Enhanced::detail(7, 31), Authentication, Scope::Identity),
    code("google-dmarc", None, Enhanced::detail(7, 40), Authentication, Scope::Identity),
    code("google-alignment", GOOGLE, Enhanced::detail(7, 32), Authentication, Scope::Identity),
    // 450 4.2.1: the mailbox gets mail too fast, from everybody.
    Rule {
        codes: Codes::TRANSIENT,
        pressure: Some(false),
        ..marker(
            "recipient-too-fast",
            &[
                "receiving mail too quickly",
                "receiving mail at a rate that",
                "receiving mail too fast",
            ],
            RateLimited,
            Scope::Recipient,
        )
    },
    Rule {
        codes: Codes::TRANSIENT,
        pressure: Some(false),
        ..code("google-recipient-rate", GOOGLE, Enhanced::detail(2, 1), RateLimited, Scope::Recipient)
    },
    // 421 4.7.0 says what it is about in words only.
    Rule {
        all: &["reputation", "domain"],
        provider: GOOGLE,
        ..words("google-domain-reputation", &[], Reputation, Scope::Identity)
    },
    Rule {
        all: &["reputation"],
        provider: GOOGLE,
        ..words("google-ip-reputation", &[], Reputation, Scope::Source)
    },
    Rule {
        provider: GOOGLE,
        ..words("google-tls-required", &["tls required", "requires tls"], Authentication, Scope::Lane)
    },
    Rule {
        provider: GOOGLE,
        ..words("google-whitelist", &["ip not in whitelist"], Policy, Scope::Source)
    },
    Rule {
        provider: GOOGLE,
        ..words("google-content", &["nature of the content", "content and attachment"], Content, Scope::Message)
    },
    Rule {
        provider: GOOGLE,
        ..words(
            "google-unsolicited",
            &["unsolicited mail originating from your ip"],
            Reputation,
            Scope::Source,
        )
    },
    // -- Yahoo, AOL (senders.yahooinc.com/smtp-error-codes) --
    Rule {
        retry_after: after_s(2 * HOUR),
        ..marker("yahoo-ts01", &["[ts01]"], RateLimited, Scope::Source)
    },
    Rule {
        retry_after: after_s(4 * HOUR),
        ..marker("yahoo-ts02", &["[ts02]"], Reputation, Scope::Source)
    },
    Rule {
        retry_after: after_s(24 * HOUR),
        ..marker("yahoo-ts03", &["[ts03]"], Blocklisted, Scope::Source)
    },
    Rule {
        retry_after: after_s(2 * HOUR),
        ..marker("yahoo-ts04", &["[tss04]", "[ts04]", "[ipts04]"], Reputation, Scope::Source)
    },
    Rule {
        retry_after: after_s(4 * HOUR),
        ..marker("yahoo-ts05", &["[tss05]", "[ts05]", "[ipts05]"], Reputation, Scope::Source)
    },
    Rule {
        retry_after: after_s(2 * HOUR),
        ..code("yahoo-bucket", None, Enhanced::details(16, 50, 59), Reputation, Scope::Source)
    },
    code("yahoo-busy", None, Enhanced::detail(16, 1), Busy, Scope::Lane),
    marker("yahoo-spamhaus", &["[bl21]", "[bl22]", "[bl23]"], Blocklisted, Scope::Source),
    marker("yahoo-phishing", &["[ph01]"], Content, Scope::Message),
    Rule {
        codes: Codes::PERMANENT,
        any: &["policy", "dmarc", "dkim", "authenticat"],
        ..code("yahoo-dmarc", None, Enhanced::detail(7, 9), Authentication, Scope::Identity)
    },
    marker("yahoo-mailbox-gone", &["(554.30)", "30 sorry, your message"], UnknownRecipient, Scope::Recipient),
    // -- Microsoft: consumer and Exchange Online --
    code("microsoft-bulk-auth", None, Enhanced::detail(7, 515), Authentication, Scope::Identity),
    marker("microsoft-rate", &["(rp-001)", "(rp-002)", "(rp-003)"], RateLimited, Scope::Source),
    marker("microsoft-concurrency", &["ib007"], RateLimited, Scope::Source),
    marker("microsoft-blocklist", &["s3140", "s3150"], Blocklisted, Scope::Source),
    marker(
        "microsoft-reputation",
        &["(s843)", "(s844)", "(s775)", "(s776)", "(s3114)", "(s3115)"],
        Reputation,
        Scope::Source,
    ),
    marker("microsoft-content", &["(sc-001)", "(sc-002)", "(sc-003)", "(sc-004)"], Reputation, Scope::Source),
    marker("microsoft-dynamic", &["(dy-001)", "(dy-002)"], Blocklisted, Scope::Source),
    marker("microsoft-open-proxy", &["(ou-001)", "(ou-002)"], Blocklisted, Scope::Source),
    marker("microsoft-spamhaus", &["as16012611"], Blocklisted, Scope::Source),
    code("microsoft-banned", None, Enhanced::details(7, 606, 649), Blocklisted, Scope::Source),
    code("microsoft-ip-reputation", None, Enhanced::details(7, 650, 651), Reputation, Scope::Source),
    Rule {
        any: &["server busy", "too busy"],
        ..code("microsoft-busy", None, Enhanced::details(7, 500, 699), Busy, Scope::Lane)
    },
    Rule {
        codes: Codes::TRANSIENT,
        ..code("microsoft-suspicious", None, Enhanced::details(7, 500, 699), RateLimited, Scope::Source)
    },
    Rule {
        codes: Codes::PERMANENT,
        ..code("microsoft-refused", None, Enhanced::details(7, 500, 699), Blocklisted, Scope::Source)
    },
    Rule {
        all: &["access denied"],
        codes: Codes::PERMANENT,
        ..code("microsoft-no-mailbox", None, Enhanced::detail(4, 1), UnknownRecipient, Scope::Recipient)
    },
    Rule {
        all: &["concurrent connections"],
        ..code("microsoft-connections", None, Enhanced::detail(3, 2), RateLimited, Scope::Source)
    },
    // -- Apple --
    marker("apple-volume", &["[hcm1]", "[bs02]"], RateLimited, Scope::Source),
    marker("apple-reputation", &["[hm08]"], Reputation, Scope::Source),
    marker("apple-content", &["[cs01]", "[cs02]"], Content, Scope::Message),
    // -- Comcast --
    marker("comcast-domain-rate", &["rl000010"], RateLimited, Scope::Identity),
    marker("comcast-rate", &["rl0000", "rl0001"], RateLimited, Scope::Source),
    marker("comcast-block", &["bl000000", "bl000001", "bl000010", "bl0001"], Blocklisted, Scope::Source),
    marker("comcast-dynamic", &["es0000"], Blocklisted, Scope::Source),
    // -- Orange, Wanadoo: OFR (consumers), LPN (La Poste) --
    marker("orange-connections", &["ofr004_104", "ofr_104", "ofr004_106"], RateLimited, Scope::Source),
    Rule {
        retry_after: after_s(2 * HOUR),
        ..marker(
            "orange-refused",
            &["ofr004_105", "ofr_105", "ofr_108", "ofr004_108", "ofr_999", "lpn001_10", "lpn007_10"],
            Reputation,
            Scope::Source,
        )
    },
    Rule {
        all: &["ofr"],
        ..marker("orange-dmarc", &["dmarc"], Authentication, Scope::Identity)
    },
    marker("orange-ptr", &["ofr_107", "ofr004_107"], Authentication, Scope::Source),
    marker(
        "orange-helo",
        &["ofr_200", "ofr_201", "ofr_202", "ofr_203", "ofr_204", "ofr_205", "ofr_206", "ofr_207"],
        Authentication,
        Scope::Source,
    ),
    marker("orange-dkim", &["ofr_535", "ofr004_535"], Authentication, Scope::Identity),
    marker("orange-unknown", &["ofr_416", "lpn007_416", "lpn007_426"], UnknownRecipient, Scope::Recipient),
    marker("orange-full", &["ofr_417", "lpn007_417"], MailboxFull, Scope::Recipient),
    marker("orange-content", &["ofr_506", "ofr004_506", "ofr_507"], Content, Scope::Message),
    // -- United Internet: GMX, web.de, 1&1. No enhanced codes; the reason is `c=` in the URL --
    marker("gmx-rate", &["too many messages have been received in a short"], RateLimited, Scope::Source),
    Rule {
        all: &["nemesis"],
        ..marker(
            "gmx-listed",
            &["block listed", "black listed", "c=r02", "c=bl", "on our black"],
            Blocklisted,
            Scope::Source,
        )
    },
    Rule {
        all: &["nemesis"],
        ..marker("gmx-ptr", &["c=rdns", "c=hdns", "invalid dns"], Authentication, Scope::Source)
    },
    Rule {
        all: &["nemesis"],
        codes: Codes::TRANSIENT,
        ..marker("gmx-policy", &["policy"], Policy, Scope::Source)
    },
    Rule {
        all: &["nemesis"],
        codes: Codes::one(554),
        ..marker("gmx-refused", &["no smtp service", "service not available"], Blocklisted, Scope::Source)
    },
    // -- NetEase (163, 126, yeah) and Tencent (qq) --
    marker("netease-spam", &["dt:spm", "dt:sum"], Content, Scope::Message),
    marker("netease-rbl", &["dt:rbl"], Blocklisted, Scope::Source),
    marker("netease-recipients", &["rp:orq", "rp:trc", "rp:qrc", "rp:drc"], RateLimited, Scope::Source),
    marker(
        "netease-rate",
        &["hl:icc", "hl:ifc", "mi:dmc", "mi:sfq", "rp:qmc"],
        RateLimited,
        Scope::Source,
    ),
    marker("netease-reputation", &["hl:rep", "hl:mep"], Reputation, Scope::Source),
    marker("netease-helo", &["hl:itc", "hl:ihu"], Authentication, Scope::Source),
    marker("tencent-rate", &["frequency limited"], RateLimited, Scope::Source),
    // -- Spectrum, Charter, Cox --
    marker("spectrum-rate", &["aup#out-1", "aup#mxrt", "aup#cxcnct", "aup#in-1310"], RateLimited, Scope::Source),
    marker("spectrum-block", &["aup#bl", "aup#cdrbl"], Blocklisted, Scope::Source),
    // 550 5.5.0 at RCPT is Microsoft's and others' "no mailbox", where no marker said more.
    Rule {
        codes: Codes::one(550),
        stage: Some(Stage::Rcpt),
        ..code("no-mailbox", None, Enhanced::detail(5, 0), UnknownRecipient, Scope::Recipient)
    },
    // -- Wordings of anyone: what the message looks like, where other words would mislead --
    marker("url-listed", &["surbl", "uribl", "dbl.spamhaus", "url listed", "listed url"], Content, Scope::Identity),
    // The name of a list in any reply is the reason, whatever code stands beside it.
    marker(
        "block-list-named",
        &["spamhaus.", "spamcop.net", "barracudacentral", "sorbs.net", "dnsbl", "proofpoint.com/dnsbl"],
        Blocklisted,
        Scope::Source,
    ),
    words("header-form", &["duplicate header", "addresses in from", "headers too large"], Protocol, Scope::Message),
    words(
        "classified",
        &[
            "spam classification", "classified as spam", "detected as spam", "considered spam",
            "identified as spam", "looks like spam",
        ],
        Content,
        Scope::Message,
    ),
    // 530 is "authenticate or encrypt first" (RFC 4954 6, RFC 3207 4).
    Rule {
        codes: Codes::one(530),
        enhanced: Enhanced::Vague,
        class: Authentication,
        scope: Some(Scope::Lane),
        name: "session-authentication",
        ..Rule::ANY
    },
    // -- who is listed or refused as a host --
    words(
        "block-list",
        &[
            "spamhaus", "spamcop", "barracudacentral", "blacklist", "black list", "blocklist",
            "block list", "block-list", "denylist", "dnsbl", "blocked using", "sorbs.net",
            "banned sending ip", "senderscore", "dynamic ip", "blocked ip", "black ip",
            "listed by", "client host blocked", "rbl deny",
        ],
        Blocklisted,
        Scope::Source,
    ),
    words(
        "ptr",
        &[
            "reverse dns", "rdns", "ptr record", "no ptr", "reverse hostname", "fcrdns",
            "reverse mapping", "does not resolve", "forward-confirmed", "valid hostname",
            "ptr for", "matching reverse",
        ],
        Authentication,
        Scope::Source,
    ),
    words(
        "authentication-of-sender",
        &[
            "dmarc", "dkim", "unauthenticated", "spf check", "spf fail", "spf record", "spf policy",
            "spf:", "sender policy framework", "not permitted by the domain owner",
        ],
        Authentication,
        Scope::Identity,
    ),
    words(
        "tls-wanted",
        &["must issue a starttls", "starttls first", "tls required", "requires tls", "without tls"],
        Authentication,
        Scope::Lane,
    ),
    words(
        "helo",
        &["helo command rejected", "ehlo command rejected", "invalid helo", "helo name", "bad helo"],
        Authentication,
        Scope::Source,
    ),
    words(
        "authentication-wanted",
        &["smtp authentication", "authentication required", "authentication is required"],
        Authentication,
        Scope::Lane,
    ),
    // What other mail systems say in their reports of their own DNS.
    words(
        "dns",
        &["dns error", "name service error", "nxdomain", "host not found", "null mx"],
        Dns,
        Scope::Recipient,
    ),
    // -- the recipient --
    words(
        "mailbox-full",
        &[
            "mailbox full", "mailbox is full", "inbox is full", "box full", "over quota",
            "overquota", "over its quota", "exceeded quota", "quota exceed", "exceeds quota",
            "exceed quota", "mailbox quota", "disk quota", "quota limit", "storage allocation",
            "out of storage", "exceeded storage", "exceeded its storage", "mailbox size limit",
            "mailbox exceed", "mailfolder is full", "exceeds the quota", "exceeding his",
            "not enough storage space", "account is full", "user is over", "full mailbox",
        ],
        MailboxFull,
        Scope::Recipient,
    ),
    words(
        "greylist",
        &["greylist", "graylist", "grey list", "gray list", "grey-list", "gray-list", "greytrap"],
        Greylisted,
        Scope::Recipient,
    ),
    // -- how fast --
    Rule {
        permanent: Some(false),
        ..words("too-many-recipients", &["too many recipients"], TooManyRecipients, Scope::Message)
    },
    words(
        "rate",
        &[
            "rate limit", "ratelimit", "rate-limit", "too many connections", "too many concurrent",
            "concurrent connections", "too many messages", "too many sessions", "too many emails",
            "throttl", "too fast", "too quickly", "connection limit", "maximum connections",
            "connection rate", "sending rate", "message rate", "unusual rate", "too much mail",
            "exceeded the rate", "slow down", "temporarily deferred", "hourly limit",
            "daily limit", "connections from your", "many messages from",
        ],
        RateLimited,
        Scope::Lane,
    ),
    words(
        "reputation",
        &["reputation", "user complaints", "unexpected volume", "suspicious due to"],
        Reputation,
        Scope::Source,
    ),
    // -- the sender --
    words(
        "sender-refused",
        &[
            "sender address rejected", "sender rejected", "sender domain", "domain of sender",
            "sender denied", "bad sender", "sender verify failed", "invalid sender",
            "sender address does not", "sender address verification",
        ],
        Policy,
        Scope::Identity,
    ),
    words(
        "relay",
        &[
            "relay access denied", "relaying denied", "relay denied", "unable to relay",
            "not permitted to relay", "permitted to relay", "relay not permitted", "relay through",
            "relaying not", "relay not allowed", "not relay", "no relaying", "relay prohibited", "to relay mail",
            "rcpthosts", "authentication required for relay", "gateway user",
        ],
        Relay,
        Scope::Recipient,
    ),
    words(
        "mailbox-disabled",
        &[
            "mailbox disabled", "mailbox is disabled", "account disabled", "account is disabled",
            "user disabled", "account has been disabled", "is inactive", "mailbox inactive",
            "inactive user", "inactive account", "account inactive", "deactivated",
            "account suspended", "account is suspended", "user suspended", "account is bloc",
            "mailbox is frozen", "account frozen", "mailbox is blocked", "account is locked",
            "user is locked", "account expired", "mailbox currently suspended", "user reject",
        ],
        UnknownRecipient,
        Scope::Recipient,
    ),
    words(
        "unknown-recipient",
        &[
            "user unknown", "unknown user", "no such user", "no such recipient", "no such mailbox",
            "no such address", "no such person", "no such account", "no such local user",
            "no such domain", "user not found", "not found by smtp", "recipient not found",
            "mailbox not found", "account not found", "recipient unknown", "unknown recipient",
            "unknown address", "address unknown", "unknown mailbox", "invalid recipient",
            "recipient invalid", "invalid mailbox", "invalid address", "invalid user",
            "mailbox invalid", "mailbox unavailable", "mailbox does not exist", "does not exist",
            "doesn't exist", "not exist", "doesn't have", "not our user", "not a valid mailbox",
            "not a valid user", "no mailbox", "unrouteable address", "unroutable address",
            "user doesn", "no longer on server", "no longer valid", "no longer available",
            "isn't a valid", "unknown local", "user unavailable", "not known", "not a known user",
            "undeliverable address", "recipient address rejected: undel",
            "unknown in", "destinataire inval", "adresse inconnue", "host unknown",
            "domain not found", "no account", "domain is not reachable", "bad destination",
        ],
        UnknownRecipient,
        Scope::Recipient,
    ),
    // -- the message --
    words(
        "too-large",
        &[
            "message too large", "message is too large", "message too big", "message size exceeds",
            "size limit", "exceeds fixed maximum", "exceeds maximum message size", "too large",
            "maximum size", "mailsize limit", "message is too big", "maximum message size",
            "message length exceeds",
        ],
        TooLarge,
        Scope::Message,
    ),
    words(
        "content",
        &[
            "spam", "virus", "malware", "phish", "unsolicited", "content rejected",
            "message content", "content denied", "content filter", "banned content", "infected",
            "trojan", " ube", "bulk mail", "junk mail", "suspicious", "url in", "malicious",
            "attachment", "objectionable", "illegal content", "content restriction",
        ],
        Content,
        Scope::Message,
    ),
    words(
        "message-form",
        &[
            "rfc 5322", "rfc5322", "rfc 2822", "rfc2822",
            "malformed", "missing header", "bare lf", "not compliant",
            "invalid header", "line too long",
        ],
        Protocol,
        Scope::Message,
    ),
    // -- the receiver itself --
    words(
        "loop",
        &["hop count", "too many hops", "mail loop", "routing loop", "loops back", "looping"],
        Relay,
        Scope::Recipient,
    ),
    Rule {
        codes: Codes { low: 450, high: 451 },
        stage: Some(Stage::Rcpt),
        ..words(
            "come-back-later",
            &["come back later", "not yet authorized", "retry later", "please retry", "deferring"],
            Greylisted,
            Scope::Recipient,
        )
    },
    Rule {
        // 421 says nothing but "busy" by itself, and that of the lane.
        codes: Codes { low: 430, high: 499 },
        ..words(
            "busy",
            &[
                "server busy", "too busy", "system busy", "is busy", "service unavailable",
                "service temporarily unavailable", "temporarily unavailable", "not available",
                "resources", "load too high", "high load", "system load", "local error",
                "internal error", "system problem", "temporary failure", "temporary system",
                "temporary error", "temporary problem", "temporary local", "queue file",
                "insufficient", "timeout", "timed out", "lookup fail", "out of memory", "overload",
                "shutting down", "maintenance", "could not load", "database", "unable to verify",
            ],
            Busy,
            Scope::Host,
        )
    },
    Rule {
        codes: Codes { low: 450, high: 451 },
        stage: Some(Stage::Rcpt),
        ..words("try-again", &["try again", "try later"], Greylisted, Scope::Recipient)
    },
    Rule {
        scope: None,
        ..words(
            "policy",
            &[
                "policy", "access denied", "not accepted", "not accepting", "refused", "not allowed", "banned",
                "blocked", "not authorized", "not authorised", "rejected by", "administrative",
            ],
            Policy,
            Scope::Message,
        )
    },
];

/// Words of all built-in rules.
const WORDS: usize = {
    let (mut rule, mut words) = (0, 0);
    while rule < BUILT_IN.len() {
        words += BUILT_IN[rule].all.len() + BUILT_IN[rule].any.len();
        rule += 1;
    }
    words
};

/// The probes of the words of the built-in rules, rule by rule: first `all`, then `any`.
static PROBES: [Probe; WORDS] = {
    let mut probes = [Probe::NONE; WORDS];
    let (mut rule, mut at) = (0, 0);
    while rule < BUILT_IN.len() {
        let (all, any) = (BUILT_IN[rule].all, BUILT_IN[rule].any);
        let mut word = 0;
        while word < all.len() + any.len() {
            probes[at] = Probe::of(if word < all.len() {
                all[word]
            } else {
                any[word - all.len()]
            });
            at += 1;
            word += 1;
        }
        rule += 1;
    }
    probes
};

/// The built-in rules in order, each with the probes of its `all` and its `any`.
pub(super) fn built_in()
-> impl Iterator<Item = (&'static Rule<'static>, &'static [Probe], &'static [Probe])> {
    let mut rest: &[Probe] = &PROBES;
    BUILT_IN.iter().filter_map(move |rule| {
        let (all, behind) = rest.split_at_checked(rule.all.len())?;
        let (any, behind) = behind.split_at_checked(rule.any.len())?;
        rest = behind;
        Some((rule, all, any))
    })
}
