//! Host names with a wildcard, as policies and certificates have them (RFC 6125 6.4.3, as narrowed
//! by RFC 8461 4.1 and RFC 7672 3.2.3).

/// Whether `pattern` stands for `host`, without regard to case and to a final dot of the host. A
/// wildcard is the whole left-most label and stands for exactly one.
pub(super) fn stands_for(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some(rest) = pattern.strip_prefix("*.") else {
        return !host.is_empty() && !pattern.contains('*') && pattern.eq_ignore_ascii_case(host);
    };
    match host.split_once('.') {
        Some((label, behind)) => {
            !label.is_empty()
                && !behind.is_empty()
                && !rest.contains('*')
                && rest.eq_ignore_ascii_case(behind)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_hosts() {
        // RFC 8461 4.1, RFC 7672 3.2.3.
        for (pattern, yes, no) in [
            (
                "*.example.com",
                &["mail.example.com", "MAIL.Example.COM."][..],
                &[
                    "example.com",
                    "foo.bar.example.com",
                    ".example.com",
                    "mail.example.org",
                    "",
                    ".",
                ][..],
            ),
            (
                "mail.Example.com",
                &["mail.example.com", "mail.example.com."],
                &[
                    "a.mail.example.com",
                    "example.com",
                    "mail.example.co",
                    "xmail.example.com",
                ],
            ),
            ("*.com", &["example.com"], &["com", "a.example.com"]),
            (
                "smtp*.example.com",
                &[],
                &["smtp1.example.com", "smtp*.example.com"],
            ),
            ("*smtp.example.com", &[], &["1smtp.example.com"]),
            ("mx.*.com", &[], &["mx.example.com", "mx.*.com"]),
            ("*.*.com", &[], &["mx.example.com", "a.*.com"]),
            ("*", &[], &["a", "a.example", "*"]),
            ("*.", &[], &["a", "a.", ""]),
            ("", &[], &["", ".", "a"]),
        ] {
            for host in yes {
                assert!(stands_for(pattern, host), "{pattern} {host}");
            }
            for host in no {
                assert!(!stands_for(pattern, host), "{pattern} {host}");
            }
        }
    }
}
