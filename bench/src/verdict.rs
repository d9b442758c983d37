//! Replies that are judged by each of the ways in which rules are found.

use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};

/// Their names, and they.
pub fn replies() -> [(&'static str, Reply<'static>); 5] {
    let replies: [(&'static str, u16, Option<EnhancedCode>, &'static [u8]); 5] = [
        (
            "success",
            250,
            Some(EnhancedCode::new(2, 0, 0)),
            b"Ok: queued as 4XYZ",
        ),
        (
            "enhanced code",
            550,
            Some(EnhancedCode::new(5, 1, 1)),
            b"The email account that you tried to reach does not exist. Please try\n\
              double-checking the recipient's email address for typos or unnecessary spaces.",
        ),
        (
            "marker",
            421,
            Some(EnhancedCode::new(4, 7, 0)),
            b"[TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or \
              user complaints - 4.16.55.1; see https://postmaster.example/error-codes",
        ),
        (
            "words",
            451,
            None,
            b"Greylisted, please try again in 300 seconds",
        ),
        (
            "no rule at all",
            550,
            None,
            b"Le message qui devait partir aujourd'hui ne part pas, on ne sait pas pourquoi, et \
              personne ne le dira avant longtemps; voir le site",
        ),
    ];
    replies.map(|(name, code, enhanced, text)| {
        let code = ReplyCode::new(code).expect("a reply code");
        let reply = Reply {
            code,
            enhanced,
            text,
        };
        (name, reply)
    })
}
