//! One test for each row of the receivers' table, and the rules' own promises.

#[path = "../../tests/common/vectors.rs"]
mod shared;

use self::shared::vectors;
use super::rules::BUILT_IN;
use super::verdict::*;
use crate::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use core::time::Duration;
use proptest::prelude::*;
use std::format;
use std::string::String;
use std::vec::Vec;

fn enhanced(s: &str) -> Option<EnhancedCode> {
    let mut n = s.split('.').map(|p| p.parse::<u16>().ok());
    let code = EnhancedCode::new(u8::try_from(n.next()??).ok()?, n.next()??, n.next()??);
    n.next().is_none().then_some(code)
}

/// `"550 5.1.1 words"` as a reply.
fn reply(line: &str) -> Reply<'_> {
    let (code, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let (enhanced, text) = match enhanced(first) {
        Some(e) => (Some(e), after),
        None => (None, rest),
    };
    Reply {
        code: ReplyCode::new(code.parse().unwrap()).unwrap(),
        enhanced,
        text: text.as_bytes(),
    }
}

fn judge(line: &str, stage: Stage, provider: Option<&str>) -> Verdict {
    Rules::built_in().judge(&reply(line), stage, provider)
}

/// What a row of the table says: name, who, stage, reply, class, scope, permanent.
type Row = (
    Option<&'static str>,
    Stage,
    &'static str,
    Class,
    Scope,
    bool,
);

use Class::*;
use Stage::*;

const G: Option<&str> = Some("google");
const Y: Option<&str> = Some("yahoo");
const M: Option<&str> = Some("outlook");
const A: Option<&str> = Some("apple");
const C: Option<&str> = Some("comcast");
const O: Option<&str> = Some("orange");
const X: Option<&str> = Some("gmx");
const N: Option<&str> = Some("netease");
const Q: Option<&str> = Some("qq");

/// Every row of "Replies and what they are about", in its order.
#[rustfmt::skip]
const RECEIVERS: &[Row] = &[
    (G, Rcpt, "421 4.7.23 The sending IP address doesn't have a PTR record, or its forward entry doesn't match", Authentication, Scope::Source, false),
    (G, Body, "550 5.7.25 The IP address sending this message does not have a PTR record setup", Authentication, Scope::Source, true),
    (G, Body, "421 4.7.26 This mail has been rate limited because it is unauthenticated. Gmail requires all senders to authenticate with either SPF or DKIM.", Authentication, Scope::Identity, false),
    (G, Body, "550 5.7.26 This mail has been blocked because the sender is unauthenticated.", Authentication, Scope::Identity, true),
    (G, Body, "421 4.7.27 Your email has been rate limited because SPF authentication didn't pass for this message.", Authentication, Scope::Identity, false),
    (G, Body, "550 5.7.27 This mail has been blocked because SPF authentication didn't pass.", Authentication, Scope::Identity, true),
    (G, Body, "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address.", RateLimited, Scope::Source, false),
    (G, Body, "421 4.7.28 Our system has detected an unusual rate of unsolicited mail containing one of your URL domains.", RateLimited, Scope::Identity, false),
    (G, Body, "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your SPF domain [x.example 35].", RateLimited, Scope::Identity, false),
    (G, Body, "550 5.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your DKIM domain [x.example 35].", RateLimited, Scope::Identity, true),
    (G, Body, "421 4.7.29 Your email has been rate limited because this message wasn't sent over a TLS connection.", Authentication, Scope::Lane, false),
    (G, Body, "550 5.7.29 This mail has been blocked because it wasn't sent over TLS.", Authentication, Scope::Lane, true),
    (G, Body, "421 4.7.30 Your email has been rate limited because DKIM authentication didn't pass.", Authentication, Scope::Identity, false),
    (G, Body, "550 5.7.30 This mail has been blocked because DKIM authentication didn't pass.", Authentication, Scope::Identity, true),
    (G, Body, "421 4.7.31 The sending domain has no DMARC record.", Authentication, Scope::Identity, false),
    (G, Body, "421 4.7.40 The sending domain has no DMARC record.", Authentication, Scope::Identity, false),
    (G, Body, "550 5.7.40 This mail has been blocked, no DMARC record.", Authentication, Scope::Identity, true),
    (G, Body, "421 4.7.32 The From: header isn't aligned with either the authenticated SPF or DKIM domain.", Authentication, Scope::Identity, false),
    (G, Body, "550 5.7.32 From: isn't aligned.", Authentication, Scope::Identity, true),
    (G, Body, "421 4.7.0 This message is suspicious due to the very low reputation of the sending domain.", Reputation, Scope::Identity, false),
    (G, Body, "421 4.7.0 This message is suspicious due to the very low reputation of the sending IP address.", Reputation, Scope::Source, false),
    (G, Body, "421 4.7.0 This message is suspicious due to the nature of the content and/or the links within.", Content, Scope::Message, false),
    (G, Rcpt, "421 4.7.0 TLS required for RCPT domain, closing connection.", Authentication, Scope::Lane, false),
    (G, Rcpt, "421 4.7.0 Try again later, closing connection.", Busy, Scope::Lane, false),
    (G, Rcpt, "450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message at a later time.", RateLimited, Scope::Recipient, false),
    (G, Rcpt, "452 4.2.2 The recipient's inbox is out of storage space.", MailboxFull, Scope::Recipient, false),
    (G, Rcpt, "552 5.2.2 The recipient's inbox is out of storage space and inactive.", MailboxFull, Scope::Recipient, true),
    (G, Rcpt, "421 4.3.0 Temporary System Problem. Try again later.", Busy, Scope::Lane, false),
    (G, Rcpt, "421 4.4.5 Server busy, try again later.", Busy, Scope::Lane, false),
    (G, Rcpt, "452 4.5.3 Your message has too many recipients.", TooManyRecipients, Scope::Message, false),
    (G, Rcpt, "550 5.1.1 The email account that you tried to reach does not exist.", UnknownRecipient, Scope::Recipient, true),
    (G, Rcpt, "550 5.2.1 The email account that you tried to reach is disabled.", UnknownRecipient, Scope::Recipient, true),
    (G, Body, "550 5.7.1 Our system has detected that this message is likely unsolicited mail.", Content, Scope::Message, true),
    (G, Body, "550 5.7.1 Our system has detected that this message is likely suspicious due to the very low reputation of the sending IP address.", Reputation, Scope::Source, true),
    (G, Body, "550 5.7.1 Messages with multiple addresses in From: header are not accepted.", Protocol, Scope::Message, true),
    (Y, Greeting, "421 4.7.0 [TS01] Messages from 192.0.2.1 temporarily deferred due to user complaints - 4.16.55.1", RateLimited, Scope::Source, false),
    (Y, Greeting, "421 4.7.0 [TS02] Messages from 192.0.2.1 temporarily deferred - 4.16.56.1", Reputation, Scope::Source, false),
    (Y, Greeting, "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.", Blocklisted, Scope::Source, false),
    (Y, Mail, "553 5.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred", Blocklisted, Scope::Source, true),
    (Y, Mail, "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1", Reputation, Scope::Source, false),
    (Y, Greeting, "421 4.7.0 [IPTS04] Messages from 192.0.2.1 temporarily deferred", Reputation, Scope::Source, false),
    (Y, Mail, "421 4.7.0 [TSS05] Messages from 192.0.2.1 temporarily deferred", Reputation, Scope::Source, false),
    (Y, Mail, "421 4.7.0 [IPTS05] Messages from 192.0.2.1 temporarily deferred", Reputation, Scope::Source, false),
    (Y, Mail, "421 4.16.55 deferred", Reputation, Scope::Source, false),
    (Y, Rcpt, "451 4.3.2 Internal error reading data", Busy, Scope::Host, false),
    (Y, Rcpt, "451 4.16.1 busy", Busy, Scope::Lane, false),
    (Y, Greeting, "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list", Blocklisted, Scope::Source, false),
    (Y, Mail, "553 5.7.1 [BL23] Connections not accepted from IP addresses on Spamhaus XBL", Blocklisted, Scope::Source, true),
    (Y, Body, "554 5.7.9 Message not accepted for policy reasons. See https://senders.yahooinc.com/error-codes", Authentication, Scope::Identity, true),
    (Y, Body, "554 Message not allowed - [PH01] Email not accepted for policy reasons.", Content, Scope::Message, true),
    (Y, Rcpt, "554 30 Sorry, your message to a@example.com cannot be delivered. This mailbox is disabled (554.30).", UnknownRecipient, Scope::Recipient, true),
    (Y, Rcpt, "552 1 Requested mail action aborted, mailbox not found", UnknownRecipient, Scope::Recipient, true),
    (M, Body, "550 5.7.515 Access denied, sending domain x.example doesn't meet the required authentication level.", Authentication, Scope::Identity, true),
    (M, Greeting, "421 RP-001 (RP-001) The mail server IP connecting has exceeded the rate limit allowed.", RateLimited, Scope::Source, false),
    (M, Mail, "421 (RP-002) The mail server IP connecting has exceeded the rate limit allowed on this connection.", RateLimited, Scope::Source, false),
    (M, Mail, "421 (RP-003) The mail server IP connecting has exceeded the connection limit allowed.", RateLimited, Scope::Source, false),
    (M, Mail, "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S843)", Reputation, Scope::Source, false),
    (M, Mail, "451 4.7.651 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S3114)", Reputation, Scope::Source, false),
    (M, Rcpt, "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (AS77712345)", Busy, Scope::Lane, false),
    (M, Rcpt, "451 4.7.501 Suspicious new sending pattern (AS77714513)", RateLimited, Scope::Source, false),
    (M, Mail, "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Part of their network is on our block list (S3140).", Blocklisted, Scope::Source, true),
    (M, Mail, "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent (S3150).", Blocklisted, Scope::Source, true),
    (M, Mail, "550 (SC-001) Unfortunately, messages from 192.0.2.1 weren't sent.", Reputation, Scope::Source, true),
    (M, Mail, "550 (SC-002) Mail rejected by Outlook for policy reasons.", Reputation, Scope::Source, true),
    (M, Mail, "550 (SC-004) Mail rejected for policy reasons.", Reputation, Scope::Source, true),
    (M, Mail, "550 (DY-001) Mail rejected; connecting from a dynamic address.", Blocklisted, Scope::Source, true),
    (M, Rcpt, "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel.", RateLimited, Scope::Source, false),
    (M, Rcpt, "451 4.7.550 Throttled [IB007]", RateLimited, Scope::Source, false),
    (M, Mail, "550 5.7.606 Access denied, banned sending IP [192.0.2.1].", Blocklisted, Scope::Source, true),
    (M, Mail, "550 5.7.607 Access denied, banned sending IP [192.0.2.1].", Blocklisted, Scope::Source, true),
    (M, Mail, "550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked (AS16012611)", Blocklisted, Scope::Source, true),
    (M, Rcpt, "550 5.4.1 Recipient address rejected: Access denied. [XX.protection.outlook.com]", UnknownRecipient, Scope::Recipient, true),
    (M, Rcpt, "550 5.5.0 Requested action not taken: mailbox unavailable", UnknownRecipient, Scope::Recipient, true),
    (A, Mail, "421 4.7.1 [HCM1] Message rejected due to volume", RateLimited, Scope::Source, false),
    (A, Mail, "451 4.7.1 [BS02] try again later", RateLimited, Scope::Source, false),
    (A, Body, "550 5.7.1 [CS01] Message rejected due to local policy.", Content, Scope::Message, true),
    (A, Body, "554 5.7.1 [CS02] Message rejected due to local policy.", Content, Scope::Message, true),
    (A, Body, "554 5.7.1 [HM08] Message rejected due to local policy.", Reputation, Scope::Source, true),
    (C, Mail, "421 4.1.0 192.0.2.1 Throttled - try again later. RL000001", RateLimited, Scope::Source, false),
    (C, Mail, "421 4.1.0 x.example Throttled - RL000010", RateLimited, Scope::Identity, false),
    (C, Mail, "554 5.7.1 192.0.2.1 blocked. BL000000", Blocklisted, Scope::Source, true),
    (C, Greeting, "554 imta.example comcast 192.0.2.1 Comcast block for spam. BL000001", Blocklisted, Scope::Source, false),
    (C, Mail, "550 5.7.1 blocked. BL000010", Blocklisted, Scope::Source, true),
    (C, Mail, "550 5.7.1 blocked. BL000100", Blocklisted, Scope::Source, true),
    (C, Greeting, "554 192.0.2.1 found on one or more DNSBLs ES000001", Blocklisted, Scope::Source, false),
    (O, Greeting, "421 mwinf5c04 ME Trop de connexions, veuillez verifier votre configuration. Too many connections, slow down. OFR004_104 [104]", RateLimited, Scope::Source, false),
    (O, Greeting, "421 Service refuse. Service refused, please try later. OFR004_105 [105]", Reputation, Scope::Source, false),
    (O, Greeting, "421 Service refuse. OFR_108 [108]", Reputation, Scope::Source, false),
    (O, Greeting, "421 mwinf5c77 ME Service refuse. Veuillez essayer plus tard. OFR_999 [999]", Reputation, Scope::Source, false),
    (O, Body, "550 5.7.0 OFR DMARC policy", Authentication, Scope::Identity, true),
    (O, Mail, "550 5.7.1 no PTR OFR_107 [107]", Authentication, Scope::Source, true),
    (O, Mail, "501 5.5.4 HELO OFR_203", Authentication, Scope::Source, true),
    (O, Body, "550 5.7.0 DKIM missing OFR_535", Authentication, Scope::Identity, true),
    (X, Mail, "421 rate limit reached", RateLimited, Scope::Lane, false),
    (X, Greeting, "421 web.de (mxweb113) Nemesis ESMTP Service not available Reject due to policy restrictions. Too many messages have been received in a short period of time.", RateLimited, Scope::Source, false),
    (X, Rcpt, "450 gmx.net (mxgmx1) Nemesis ESMTP Reject due to policy restrictions", Policy, Scope::Source, false),
    (X, Greeting, "554 gmx.net (mxgmx104) Nemesis ESMTP Service not available\nNo SMTP service\nIP address is block listed.\nFor explanation visit https://postmaster.gmx.net/en/case?c=r0201&i=ip&v=192.0.2.1&r=1", Blocklisted, Scope::Source, false),
    (N, Body, "554 DT:SPM 163 mx1,s8Cowxxx http://mail.163.com/help/help_spam_16.htm", Content, Scope::Message, true),
    (N, Rcpt, "421 RP:ORQ 163 mx2", RateLimited, Scope::Source, false),
    (N, Hello, "554 HL:ITC 163 mx3", Authentication, Scope::Source, false),
    (Q, Mail, "550 Ip frequency limited [xx Blocked IP 192.0.2.22]. http://service.mail.qq.com", RateLimited, Scope::Source, true),
];

/// Replies of anyone, for the snapshot beside the receivers' own.
#[rustfmt::skip]
const ANYONE: &[(Stage, &str)] = &[
    (Greeting, "554 No SMTP service here"),
    (Greeting, "550 5.7.1 Go away"),
    (Greeting, "521 5.3.2 This host never accepts mail"),
    (Greeting, "421 4.3.2 Service shutting down"),
    (Greeting, "421 too many connections from 192.0.2.1"),
    (Greeting, "220 hello"),
    (Greeting, "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"),
    (Greeting, "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]"),
    (Hello, "504 EHLO not implemented."),
    (Hello, "502 5.5.2 Error: command not recognized"),
    (Hello, "550 5.7.1 Helo command rejected: Invalid name"),
    (Hello, "454 4.7.0 TLS not available due to local problem"),
    (Hello, "535 5.7.8 authentication failed"),
    (Hello, "454 4.7.0 Temporary authentication failure"),
    (Mail, "530 5.7.0 Must issue a STARTTLS command first"),
    (Mail, "530 5.7.0 Authentication required"),
    (Mail, "550 5.1.8 Domain of sender address a@x.example does not exist"),
    (Mail, "553 5.1.8 <a@x.example>... Domain of sender address a@x.example does not exist"),
    (Mail, "550 Sender address rejected"),
    (Mail, "550 5.1.0 Address rejected."),
    (Mail, "552 5.3.4 Message size exceeds fixed limit"),
    (Mail, "552 message too big"),
    (Mail, "452 4.3.1 Insufficient system storage"),
    (Mail, "451 4.3.0 Temporary lookup failure"),
    (Mail, "501 5.5.4 Syntax error in parameters"),
    (Mail, "555 5.5.4 Unsupported option"),
    (Mail, "503 bad command sequence"),
    (Mail, "421 4.7.0 Too many messages on this connection"),
    (Mail, "451 4.7.1 Greylisting in action, please come back in 00:05:00"),
    (Rcpt, "450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see http://postgrey.example/"),
    (Rcpt, "451 4.7.1 Please try again later"),
    (Rcpt, "450 try again in 300 seconds"),
    (Rcpt, "451 Temporary local problem - please try later"),
    (Rcpt, "451 4.3.0 Mail server temporarily rejected message"),
    (Rcpt, "450 4.1.1 <a@b.example>: Recipient address rejected: unverified address"),
    (Rcpt, "450 4.1.1 User unknown in virtual alias table"),
    (Rcpt, "450 mailbox busy"),
    (Rcpt, "450 4.7.25 Client host rejected: cannot find your hostname"),
    (Rcpt, "452 4.5.3 Too many recipients"),
    (Rcpt, "452 Too many recipients received this hour"),
    (Rcpt, "552 Too many recipients"),
    (Rcpt, "452 too many"),
    (Rcpt, "452 4.2.2 Mailbox full"),
    (Rcpt, "550 Requested action not taken: mailbox unavailable"),
    (Rcpt, "550 User unknown"),
    (Rcpt, "550 5.7.1 550 User Unknown: b@b.example"),
    (Rcpt, "550 no"),
    (Rcpt, "551 User not local; please try <c@c.example>"),
    (Rcpt, "551 5.7.1 Forwarding to remote hosts disabled"),
    (Rcpt, "552 5.2.2 Over quota"),
    (Rcpt, "552 1"),
    (Rcpt, "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),
    (Rcpt, "553 5.1.3 bad address syntax"),
    (Rcpt, "554 5.7.1 <b@b.example>: Relay access denied"),
    (Rcpt, "554 5.7.1 Access denied"),
    (Rcpt, "554 delivery error: dd This user doesn't have a y.example account"),
    (Rcpt, "550 5.7.1 Recipient not authorized, your IP has been found on a block list"),
    (Rcpt, "550 5.7.17 Mailbox owner has changed"),
    (Rcpt, "550 5.1.6 recipient no longer on server"),
    (Rcpt, "550 5.2.1 Mailbox disabled"),
    (Rcpt, "450 4.2.1 Mailbox temporarily disabled"),
    (Rcpt, "556 5.1.10 Recipient address has null MX"),
    (Rcpt, "550 5.4.4 Invalid domain"),
    (Rcpt, "550 5.4.6 Routing loop detected"),
    (Rcpt, "542 b@b.example Rejected"),
    (Rcpt, "571 5.7.1 denied"),
    (Rcpt, "550 5.6.7 SMTPUTF8 needed"),
    (Rcpt, "421 4.4.2 timeout exceeded"),
    (Rcpt, "421 Service not available, closing channel"),
    (Rcpt, "400 what"),
    (Rcpt, "599 what"),
    (Data, "554 no valid recipients"),
    (Data, "451 4.3.5 Server configuration problem"),
    (Data, "354 go ahead"),
    (Body, "250 2.0.0 Ok: queued as 4XYZ"),
    (Body, "550 Virus Detected; Content Rejected"),
    (Body, "554 5.7.1 Spam message rejected"),
    (Body, "550 5.7.1 Message contains a URL listed by SURBL"),
    (Body, "552 5.2.3 Message size exceeds fixed maximum message size (10485760)"),
    (Body, "552 5.6.0 Headers too large (3 max)"),
    (Body, "554 Transaction failed: Duplicate header 'DKIM-Signature'."),
    (Body, "550 5.7.20 No passing DKIM signature found"),
    (Body, "550 5.7.23 SPF validation failed"),
    (Body, "550 DMARC check failed."),
    (Body, "550 5.7.29 ARC validation failure"),
    (Body, "550 5.7.30 REQUIRETLS support required"),
    (Body, "550 5.7.1 Message rejected due to content restrictions"),
    (Body, "451 4.7.0 Message deferred, retry in 15 minutes"),
    (Body, "451 4.3.0 queue file write error"),
    (Body, "451 4.4.1 timed out"),
    (Body, "554 5.4.14 Hop count exceeded - possible mail loop"),
    (Body, "450 4.0.0 Temporary failure"),
    (Body, "554 5.3.0 unspecified"),
    (Body, "550 5.99.99 something new"),
];

#[test]
fn each_row_of_the_receivers_table() {
    let mut wrong = String::new();
    for &(provider, stage, line, class, scope, permanent) in RECEIVERS {
        let (got, basis) = Rules::built_in().explain(&reply(line), stage, provider);
        let want = (class, scope, permanent);
        let got = (got.class, got.scope, got.permanent);
        if got != want {
            wrong += &format!("{line}\n  want {want:?}\n  got  {got:?} by {basis:?}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn snapshot_of_verdicts() {
    let mut table = String::new();
    let receivers = RECEIVERS.iter().map(|r| (r.0, r.1, r.2));
    let anyone = ANYONE.iter().map(|&(stage, line)| (None, stage, line));
    for (provider, stage, line) in receivers.chain(anyone) {
        let (v, basis) = Rules::built_in().explain(&reply(line), stage, provider);
        let basis = match basis {
            Basis::BuiltIn(name) | Basis::Configured(name) => name,
            Basis::Enhanced => "(enhanced code)",
            Basis::Code => "(reply code)",
        };
        let retry = v
            .retry_after
            .map_or(String::new(), |d| format!(", after {} s", d.as_secs()));
        table += &format!(
            "{} {stage:?}: {}\n    {} of {}, {}{}{retry}  by {basis}\n",
            provider.unwrap_or("-"),
            line.replace('\n', "\\n"),
            v.class,
            v.scope,
            if v.permanent {
                "permanent"
            } else {
                "transient"
            },
            if v.pressure { ", pressure" } else { "" },
        );
    }
    insta::assert_snapshot!(table);
}

#[test]
fn busy_greylisting_full_and_unknown_are_no_pressure() {
    for (line, stage) in [
        ("421 Service not available", Greeting),
        ("451 4.3.2 busy", Rcpt),
        ("450 4.7.1 Greylisted", Rcpt),
        ("452 4.2.2 Mailbox full", Rcpt),
        ("550 5.1.1 User unknown", Rcpt),
    ] {
        assert!(!judge(line, stage, None).pressure, "{line}");
    }
}

#[test]
fn a_greeting_bounces_nobody() {
    for line in [
        "554 no",
        "550 5.7.1 blocked using spamhaus",
        "500 what",
        "571 denied",
    ] {
        for stage in [Connect, Greeting, Hello] {
            assert!(!judge(line, stage, None).permanent, "{line}");
        }
    }
    assert!(judge("521 never", Greeting, None).permanent);
}

#[test]
fn configured_rules_come_first() {
    let own = [Rule {
        name: "ours",
        codes: Codes::parse("55x").unwrap(),
        enhanced: Enhanced::parse("*.1.1").unwrap(),
        all: &["Moved", "BUILDING"],
        class: Class::Busy,
        permanent: Some(false),
        retry_after: Some(Duration::from_secs(60)),
        ..Rule::ANY
    }];
    let rules = Rules::new(&own);
    let (v, basis) = rules.explain(
        &reply("550 5.1.1 has moved to another building"),
        Rcpt,
        None,
    );
    assert_eq!(basis, Basis::Configured("ours"));
    assert_eq!(
        (v.class, v.scope, v.permanent),
        (Class::Busy, Scope::Recipient, false)
    );
    assert_eq!(v.retry_after, Some(Duration::from_secs(60)));
    let (_, basis) = rules.explain(&reply("550 5.1.1 has moved"), Rcpt, None);
    assert_eq!(basis, Basis::Enhanced);
}

#[test]
fn google_is_known_by_its_signature() {
    let line = "421 4.7.30 DKIM didn't pass. x - gsmtp";
    for provider in [None, Some("gmail"), Some("google")] {
        assert_eq!(judge(line, Body, provider).scope, Scope::Identity);
    }
    // Of anybody else it is REQUIRETLS (RFC 8689).
    assert_eq!(judge("421 4.7.30 no", Body, None).scope, Scope::Message);
}

#[test]
fn patterns_from_configuration() {
    assert_eq!(Codes::parse("421"), Some(Codes::one(421)));
    assert_eq!(Codes::parse("4yz"), Some(Codes::TRANSIENT));
    assert_eq!(Codes::parse("5xx"), Some(Codes::PERMANENT));
    assert_eq!(
        Codes::parse("450-452"),
        Some(Codes {
            low: 450,
            high: 452
        })
    );
    assert_eq!(Codes::parse("*"), Some(Codes::ANY));
    for bad in [
        "",
        "4",
        "x50",
        "5x0",
        "600",
        "1234",
        "452-450",
        "55-",
        "５５０",
    ] {
        assert_eq!(Codes::parse(bad), None, "{bad}");
    }
    assert_eq!(Enhanced::parse("*.7.1"), Some(Enhanced::detail(7, 1)));
    assert_eq!(
        Enhanced::parse("*.7.500-699"),
        Some(Enhanced::details(7, 500, 699))
    );
    assert_eq!(Enhanced::parse("vague"), Some(Enhanced::Vague));
    for bad in [
        "", "5", "5.7", "6.1.1", "5.7.1.1", "5.7.9-1", "5.7.1000", "5.+7.1",
    ] {
        assert_eq!(Enhanced::parse(bad), None, "{bad}");
    }
    for class in Class::ALL {
        assert_eq!(Class::from_name(class.name()), Some(*class));
    }
}

#[test]
fn built_in_rules_are_well_formed() {
    for rule in BUILT_IN {
        assert!(!rule.name.is_empty());
        for word in rule.all.iter().chain(rule.any) {
            // Short words are found by accident; upper case is never found.
            assert!(word.len() >= 3, "{}: {word}", rule.name);
            assert_eq!(*word, word.to_lowercase(), "{}", rule.name);
        }
        let asks = rule.enhanced != Enhanced::Any && rule.enhanced != Enhanced::Vague;
        assert!(
            asks || rule.codes == Codes::one(530) || !rule.all.is_empty() || !rule.any.is_empty(),
            "{}",
            rule.name
        );
    }
}

#[test]
fn a_status_agrees_with_the_outcome() {
    // 5.7.1 beside a 554 greeting that is retried: the report must not say 5.
    let r = reply("554 5.7.1 no");
    let v = Rules::built_in().judge(&r, Greeting, None);
    assert_eq!(v.status(Some(&r)).class, 4);
    let r = reply("550 5.1.1 no");
    let v = Rules::built_in().judge(&r, Rcpt, None);
    assert_eq!(v.status(Some(&r)), EnhancedCode::new(5, 1, 1));
    assert_eq!(v.status(None), EnhancedCode::new(5, 1, 1));
    assert_eq!(Cause::NullMx.status(), EnhancedCode::new(5, 1, 10));
    assert_eq!(Cause::ConnectTimeout.status(), EnhancedCode::new(4, 4, 1));
}

/// Receivers' servers as MailKit's tests have them: each reply gets a verdict that its code allows.
#[test]
fn replies_seen_in_the_wild() {
    let Some(folder) = vectors("replies") else {
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "txt") {
            continue;
        }
        let text = std::fs::read(&path).unwrap();
        for line in String::from_utf8_lossy(&text).lines() {
            let (Some(code), Some(rest)) = (line.get(..3), line.get(4..)) else {
                continue;
            };
            let Some(code) = code.parse().ok().and_then(ReplyCode::new) else {
                continue;
            };
            let line = format!("{code} {rest}");
            for stage in [Greeting, Hello, Mail, Rcpt, Data, Body] {
                let v = judge(&line, stage, None);
                assert_eq!(v.class == Class::Delivered, code.is_success(), "{line}");
                assert!(!v.permanent || code.is_permanent(), "{line}");
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} replies read");
}

const STAGES: [Stage; 7] = [Connect, Greeting, Hello, Mail, Rcpt, Data, Body];

proptest! {
    /// Whatever comes: success is success, permanence is never more than the code says.
    #[test]
    fn any_reply_has_a_verdict(
        code in 200u16..600,
        enhanced in proptest::option::of((0u8..10, any::<u16>(), any::<u16>())),
        text in proptest::collection::vec(any::<u8>(), 0..300),
        stage in 0usize..7,
    ) {
        let reply = Reply {
            code: ReplyCode::new(code).unwrap(),
            enhanced: enhanced.map(|(c, s, d)| EnhancedCode::new(c, s, d)),
            text: &text,
        };
        let stage = STAGES[stage];
        let v = Rules::built_in().judge(&reply, stage, None);
        prop_assert_eq!(v.class == Class::Delivered, code < 300);
        prop_assert!(!v.permanent || code >= 500);
        prop_assert!(!v.permanent || !stage.is_session() || code == 521 || code == 556);
        prop_assert!(!v.permanent || v.retry_after.is_none());
        let digit = v.status(Some(&reply)).class;
        prop_assert_eq!(digit, if code < 300 { 2 } else if v.permanent { 5 } else { 4 });
    }
}

/// What the judge needs for one word list must not lean on the order of hash bits.
#[test]
fn every_built_in_word_is_found_in_itself() {
    for rule in BUILT_IN {
        for word in rule.any {
            let line: Vec<u8> = [b"x ", word.as_bytes(), b" y"].concat();
            assert!(super::text::Folded::new(&line).contains(word), "{word}");
        }
    }
}
