//! Replies that wait to be sent together (RFC 2920 3.2).
//!
//! ```text
//! 0        sent          ready              len
//! |  gone   |  to be sent  |  held for later  |  free
//! ```
//!
//! The refusal of a body that is still coming in is *held*: it is written down when it is known
//! and released when the body has ended.

use crate::limits::{SERVER_REPLY_BYTES_MAX, SERVER_REPLY_QUEUE_BYTES};
use crate::smtp::extension::Capabilities;
use crate::smtp::reply::{EnhancedCode, ReplyCode};
use core::fmt::{self, Write};

/// Octets of an application's text behind our name in the EHLO answer.
const EHLO_GREET_BYTES_MAX: usize = 128;

#[derive(Clone)]
pub(super) struct Queue {
    bytes: [u8; SERVER_REPLY_QUEUE_BYTES],
    sent: usize,
    ready: usize,
    len: usize,
    /// Where the reply begins that is to be sent once more after it was sent.
    again: Option<usize>,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; SERVER_REPLY_QUEUE_BYTES],
            sent: 0,
            ready: 0,
            len: 0,
            again: None,
        }
    }

    /// Nothing to be sent now.
    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.ready
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        (self.sent, self.ready, self.len, self.again) = (0, 0, 0, None);
    }

    /// Nothing at all, held replies included.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.is_sent() && self.ready == self.len
    }

    /// A further reply of any kind but an EHLO answer fits.
    pub(super) fn has_room(&self) -> bool {
        self.free() >= SERVER_REPLY_BYTES_MAX
    }

    fn free(&self) -> usize {
        SERVER_REPLY_QUEUE_BYTES - self.len
    }

    /// Moves what is to be sent to `out`, as much as fits.
    pub(super) fn take(&mut self, out: &mut [u8]) -> usize {
        let n = (self.ready - self.sent).min(out.len());
        let from = self.bytes.get(self.sent..self.sent + n);
        if let (Some(from), Some(to)) = (from, out.get_mut(..n)) {
            to.copy_from_slice(from);
        }
        self.sent += n;
        if self.is_sent() {
            if let Some(start) = self.again.take() {
                self.sent = start;
                self.ready = start;
            } else if self.ready == self.len {
                (self.sent, self.ready, self.len) = (0, 0, 0);
            }
        }
        n
    }

    /// Queues a reply. Text beyond [`SERVER_REPLY_BYTES_MAX`] is cut; `\n` begins a new line;
    /// what is not printable ASCII becomes `?`, so that no text can forge a reply.
    pub(super) fn push(&mut self, code: ReplyCode, enhanced: Option<EnhancedCode>, text: &[u8]) {
        self.write_reply(code, enhanced, text);
        self.ready = self.len;
    }

    /// Writes a reply down that stays here until [`Queue::release`].
    pub(super) fn hold(&mut self, code: ReplyCode, enhanced: Option<EnhancedCode>, text: &[u8]) {
        self.write_reply(code, enhanced, text);
    }

    /// A reply that went out with `again` must be sent before the next can go.
    pub(super) fn is_repeating(&self) -> bool {
        self.again.is_some()
    }

    /// Lets the held reply go; with `again`, a copy of it stays held.
    pub(super) fn release(&mut self, again: bool) {
        self.again = (again && self.ready < self.len).then_some(self.ready);
        self.ready = self.len;
    }

    /// Drops the held reply.
    pub(super) fn forget_held(&mut self) {
        self.len = self.ready;
        self.again = None;
    }

    /// Queues the greeting (RFC 5321 4.3.1).
    pub(super) fn push_greeting(&mut self, name: &str, lmtp: bool) {
        let protocol = if lmtp { "LMTP" } else { "ESMTP" };
        let _ = write!(self, "220 {name} {protocol}\r\n");
        self.ready = self.len;
    }

    fn write_reply(&mut self, code: ReplyCode, enhanced: Option<EnhancedCode>, text: &[u8]) {
        let mut prefix = heapless::String::<16>::new();
        if let Some(enhanced) = enhanced {
            // 16 octets hold the longest code, "5.999.999 ".
            let _ = write!(prefix, "{enhanced} ");
        }
        let overhead = "250 \r\n".len() + prefix.len();
        let mut room = self.free().min(SERVER_REPLY_BYTES_MAX);
        let mut lines = text.split(|&b| b == b'\n').peekable();
        while let Some(line) = lines.next() {
            let cut = line.len().min(room.saturating_sub(overhead));
            room = room.saturating_sub(overhead + cut);
            let more = lines.peek().is_some() && cut == line.len() && room > overhead;
            // Writing into the queue can only fail for want of room, which was measured.
            let _ = write!(self, "{code}{}{prefix}", if more { '-' } else { ' ' });
            for &b in line.iter().take(cut) {
                self.put_printable(b);
            }
            let _ = self.write_str("\r\n");
            if !more {
                break;
            }
        }
    }

    /// Queues the answer to HELO: our name and the first line of `greet`.
    pub(super) fn push_helo(&mut self, name: &str, greet: &[u8]) {
        let _ = self.write_hello(' ', name, greet);
        self.ready = self.len;
    }

    /// Queues the answer to EHLO (RFC 5321 4.1.1.1) with the first line of `greet`, cut to
    /// [`EHLO_GREET_BYTES_MAX`]. The queue must be empty.
    pub(super) fn push_ehlo(&mut self, name: &str, greet: &[u8], offered: &Capabilities) {
        let _ = self.write_ehlo(name, greet, offered);
        self.ready = self.len;
    }

    fn write_ehlo(&mut self, name: &str, greet: &[u8], offered: &Capabilities) -> fmt::Result {
        self.write_hello('-', name, greet)?;
        let flags = [
            (offered.pipelining, "PIPELINING"),
            (offered.eightbitmime, "8BITMIME"),
            (offered.smtputf8, "SMTPUTF8"),
            (offered.chunking, "CHUNKING"),
            (offered.binarymime, "BINARYMIME"),
            (offered.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
            (offered.dsn, "DSN"),
            (offered.starttls, "STARTTLS"),
            (offered.requiretls, "REQUIRETLS"),
            (offered.mt_priority, "MT-PRIORITY"),
        ];
        for (_, keyword) in flags.iter().filter(|(on, _)| *on) {
            write!(self, "250-{keyword}\r\n")?;
        }
        match offered.size {
            None => {}
            Some(0) => self.write_str("250-SIZE\r\n")?,
            Some(octets) => write!(self, "250-SIZE {octets}\r\n")?,
        }
        match offered.deliver_by {
            None => {}
            Some(0) => self.write_str("250-DELIVERBY\r\n")?,
            Some(seconds) => write!(self, "250-DELIVERBY {seconds}\r\n")?,
        }
        if let Some(seconds) = offered.future_release {
            // RFC 4865 4 wants a latest date as well; the interval is the bound that counts.
            write!(self, "250-FUTURERELEASE {seconds} 9999-12-31T23:59:59Z\r\n")?;
        }
        if offered.rcpt_max.is_some() || offered.mail_max.is_some() {
            self.write_str("250-LIMITS")?;
            if let Some(n) = offered.rcpt_max {
                write!(self, " RCPTMAX={n}")?;
            }
            if let Some(n) = offered.mail_max {
                write!(self, " MAILMAX={n}")?;
            }
            self.write_str("\r\n")?;
        }
        self.write_auth(offered)?;
        self.write_str("250 HELP\r\n")
    }

    fn write_hello(&mut self, mark: char, name: &str, greet: &[u8]) -> fmt::Result {
        write!(self, "250{mark}{name}")?;
        if !greet.is_empty() {
            self.put(b' ');
            let line = greet.iter().take_while(|&&b| b != b'\n');
            for &b in line.take(EHLO_GREET_BYTES_MAX) {
                self.put_printable(b);
            }
        }
        self.write_str("\r\n")
    }

    fn write_auth(&mut self, offered: &Capabilities) -> fmt::Result {
        let auth = offered.auth;
        let mechanisms = [
            (auth.plain, " PLAIN"),
            (auth.login, " LOGIN"),
            (auth.cram_md5, " CRAM-MD5"),
            (auth.scram_sha_256, " SCRAM-SHA-256"),
            (auth.scram_sha_256_plus, " SCRAM-SHA-256-PLUS"),
            (auth.oauth, " OAUTHBEARER XOAUTH2"),
        ];
        if !mechanisms.iter().any(|(on, _)| *on) {
            return Ok(());
        }
        self.write_str("250-AUTH")?;
        for (_, mechanism) in mechanisms.iter().filter(|(on, _)| *on) {
            self.write_str(mechanism)?;
        }
        self.write_str("\r\n")
    }

    /// Queues `334 challenge` (RFC 4954 4). False if it does not fit.
    pub(super) fn push_challenge(&mut self, challenge: &[u8]) -> bool {
        if self.free() < challenge.len().saturating_add("334 \r\n".len())
            || !challenge.iter().all(u8::is_ascii_graphic)
        {
            return false;
        }
        let _ = self.write_str("334 ");
        for &b in challenge {
            self.put(b);
        }
        let _ = self.write_str("\r\n");
        self.ready = self.len;
        true
    }

    fn put_printable(&mut self, b: u8) {
        self.put(match b {
            b' '..=b'~' => b,
            b'\t' | b'\r' => b' ',
            _ => b'?',
        });
    }

    fn put(&mut self, b: u8) {
        if let Some(free) = self.bytes.get_mut(self.len) {
            *free = b;
            self.len += 1;
        }
    }
}

impl fmt::Write for Queue {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len.checked_add(s.len()).ok_or(fmt::Error)?;
        let free = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        free.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::extension::AuthMechanisms;
    use std::string::String;
    use std::vec::Vec;

    fn code(n: u16) -> ReplyCode {
        ReplyCode::new(n).unwrap()
    }

    fn drain(queue: &mut Queue) -> String {
        let mut all = Vec::new();
        let mut out = [0; 7];
        loop {
            let n = queue.take(&mut out);
            if n == 0 {
                return String::from_utf8(all).unwrap();
            }
            all.extend_from_slice(&out[..n]);
        }
    }

    #[test]
    fn a_held_reply_waits_and_can_be_repeated() {
        let mut queue = Queue::new();
        queue.push(code(250), Some(EnhancedCode::new(2, 1, 0)), b"Ok");
        queue.hold(code(552), None, b"Too big");
        assert_eq!(drain(&mut queue), "250 2.1.0 Ok\r\n");
        assert!(!queue.is_empty());
        queue.release(true);
        let mut out = [0; 64];
        assert_eq!(queue.take(&mut out), 13);
        assert!(queue.is_sent() && !queue.is_empty());
        queue.release(false);
        assert_eq!(queue.take(&mut out), 13);
        assert_eq!(&out[..13], b"552 Too big\r\n");
        assert!(queue.is_empty());
    }

    #[test]
    fn text_cannot_forge_a_reply_or_overflow() {
        let mut queue = Queue::new();
        queue.push(
            code(550),
            Some(EnhancedCode::new(5, 1, 1)),
            b"a\r\n250 ok\x00\xff\n",
        );
        assert_eq!(
            drain(&mut queue),
            "550-5.1.1 a \r\n550-5.1.1 250 ok??\r\n550 5.1.1 \r\n"
        );
        for text in [&[b'x'; 4096][..], &[b'\n'; 4096], &[b'\xff'; 4096]] {
            let mut queue = Queue::new();
            queue.push(code(550), Some(EnhancedCode::new(5, 999, 999)), text);
            queue.push(code(550), None, text);
            let all = drain(&mut queue);
            assert!(all.ends_with("\r\n"));
            assert!(all.len() <= 2 * SERVER_REPLY_BYTES_MAX);
            assert_eq!(all.matches("550 ").count(), 2);
        }
    }

    #[test]
    fn the_longest_ehlo_answer_fits() {
        let name = "n".repeat(crate::limits::DOMAIN_BYTES_MAX);
        let mut queue = Queue::new();
        let all = Capabilities {
            pipelining: true,
            chunking: true,
            binarymime: true,
            eightbitmime: true,
            smtputf8: true,
            dsn: true,
            enhanced_status_codes: true,
            starttls: true,
            requiretls: true,
            size: Some(u64::MAX),
            mt_priority: true,
            deliver_by: Some(u32::MAX),
            future_release: Some(u32::MAX),
            rcpt_max: Some(u32::MAX),
            mail_max: Some(u32::MAX),
            auth: AuthMechanisms {
                plain: true,
                login: true,
                cram_md5: true,
                scram_sha_256: true,
                scram_sha_256_plus: true,
                oauth: true,
            },
        };
        queue.push_ehlo(&name, &[b'g'; 500], &all);
        let answer = drain(&mut queue);
        assert!(answer.ends_with("\r\n250 HELP\r\n"), "{answer}");
        assert_eq!(answer.lines().count(), 17);
    }
}
