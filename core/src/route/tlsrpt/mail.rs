//! The mail that a report is sent in (RFC 8460 5.3).
//!
//! ```text
//! multipart/report; report-type="tlsrpt"
//!   text/plain                 a sentence for people
//!   application/tlsrpt+gzip    the report, in base64
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use base64ct::{Base64, Encoding};

use super::report::Report;
use crate::dns::Name;
use crate::mail::address::Mailbox;
use crate::mail::date::Date;
use crate::mail::header::write_folded;
use crate::time::Wall;

/// Octets of one line of base64 (RFC 2045 6.8).
const LINE: usize = 76;

/// A report as mail.
#[derive(Clone, Copy, Debug)]
pub struct ReportMail<'a> {
    /// The report.
    pub report: &'a Report,
    /// The same, gzipped.
    pub gzip: &'a [u8],
    /// The domain that it is about.
    pub domain: &'a Name,
    /// Who sends it: the domain that the mail is signed for.
    pub submitter: &'a Name,
    /// The address in From, in ASCII.
    pub from: Mailbox<'a>,
    /// Whom it is for, in ASCII.
    pub to: Mailbox<'a>,
    /// Left part of its Message-ID; must be unique for `host`.
    pub message_id: &'a str,
    /// The host that sends it.
    pub host: &'a str,
    /// When it is written.
    pub date: Wall,
}

impl ReportMail<'_> {
    /// Appends the mail to `out`, with CRLF, in ASCII. It has to be signed (RFC 8460 3), and is to be
    /// delivered although TLS fails, which it says itself (RFC 8689 5).
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (domain, submitter) = (self.domain, self.submitter);
        // `=` and `_` are in no line of base64 at this place, and the sentence is our own.
        let boundary = format!("=_courser_tlsrpt_{:08x}", crc32fast::hash(self.gzip));
        let mut text = String::new();
        // Writing into a String can't fail.
        let mut field = |name: &str, value: &str| {
            let _ = write_folded(&mut text, name, value);
        };
        field("From", &format!("<{}>", self.from));
        field("To", &format!("<{}>", self.to));
        field(
            "Subject",
            &format!(
                "Report Domain: {domain} Submitter: {submitter} Report-ID: <{}>",
                self.report.id
            ),
        );
        field("Date", &Date::utc(self.date).to_string());
        field(
            "Message-ID",
            &format!("<{}@{}>", self.message_id, self.host),
        );
        field("Auto-Submitted", "auto-generated");
        field("TLS-Report-Domain", domain.as_str());
        field("TLS-Report-Submitter", submitter.as_str());
        field("TLS-Required", "No");
        field("MIME-Version", "1.0");
        field(
            "Content-Type",
            &format!("multipart/report; report-type=\"tlsrpt\"; boundary=\"{boundary}\""),
        );
        let file = self.report.file_name(submitter, domain);
        let _ = write!(
            text,
            "\r\n\
             --{boundary}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\
             Content-Transfer-Encoding: 7bit\r\n\
             \r\n\
             This is an aggregate TLS report from {submitter} about mail to\r\n\
             {domain} (RFC 8460).\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: application/tlsrpt+gzip\r\n\
             Content-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n \
             filename=\"{file}\"\r\n\
             \r\n"
        );
        out.extend_from_slice(text.as_bytes());
        for line in Base64::encode_string(self.gzip).as_bytes().chunks(LINE) {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::tlsrpt::{
        AppliedPolicy, Collector, Failure, PolicyType, Reporter, ResultType, gzip,
    };

    #[test]
    fn what_is_sent_can_be_read() {
        let at = Wall::from_unix(1_800_000_000);
        let submitter = Name::parse("example.org").unwrap();
        for (domain, failures) in [
            ("example.net", 1),
            (&format!("{}net", "example.".repeat(30)), 500),
        ] {
            let domain = Name::parse(domain).unwrap();
            let mut day = Collector::new(at);
            let policy = AppliedPolicy::new(PolicyType::NoPolicyFound, &domain);
            for n in 0..failures {
                let mut failure = Failure::new(ResultType::CertificateExpired);
                failure.receiving_mx_hostname = Some(format!("mx{n}.example.net"));
                day.add(at, &domain, &policy, Some(&failure)).unwrap();
            }
            let reporter = Reporter {
                organization: "Example",
                contact: "postmaster@example.org",
                submitter: &submitter,
            };
            let report = day.report(&domain, &reporter).unwrap();
            let mut mail = b"DKIM-Signature: x\r\n".to_vec();
            ReportMail {
                report: &report,
                gzip: &gzip(&report.to_json()),
                domain: &domain,
                submitter: &submitter,
                from: Mailbox::parse("tls-reports@example.org").unwrap(),
                to: Mailbox::parse("rua@example.net").unwrap(),
                message_id: "x",
                host: "mail.example.org",
                date: at,
            }
            .emit(&mut mail);
            assert_eq!(Report::of_mail(&mail).as_ref(), Ok(&report));
            let text = String::from_utf8(mail).unwrap();
            let unfolded = text.replace("\r\n ", " ");
            for line in [
                "From: <tls-reports@example.org>",
                "To: <rua@example.net>",
                &format!("TLS-Report-Domain: {domain}"),
                "TLS-Report-Submitter: example.org",
                "TLS-Required: No",
                &format!(
                    "Subject: Report Domain: {domain} Submitter: example.org Report-ID: <{}>",
                    report.id
                ),
                "Content-Type: application/tlsrpt+gzip",
            ] {
                assert!(unfolded.contains(&format!("{line}\r\n")), "{line}\n{text}");
            }
            assert!(unfolded.contains(&format!(
                "filename=\"{}\"\r\n",
                report.file_name(&submitter, &domain)
            )));
            assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 998));
            assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        }
    }
}
