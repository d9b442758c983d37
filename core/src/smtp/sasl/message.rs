//! The messages of SCRAM (RFC 5802 7).
//!
//! ```text
//! client-first  = gs2-header bare                    bare = "n=" saslname "," "r=" nonce [exts]
//! gs2-header    = ("n" / "y" / "p=" name) "," ["a=" saslname] ","
//! server-first  = "r=" nonce "," "s=" base64 "," "i=" number [exts]
//! client-final  = "c=" base64 "," "r=" nonce [exts] "," "p=" base64
//! server-final  = ("v=" base64 / "e=" error) [exts]
//! saslname      = 1*( UTF-8 without NUL, "," and "=" / "=2C" / "=3D" )
//! exts          = *( "," ALPHA "=" 1*( UTF-8 without NUL and "," ) )
//! ```
//!
//! `m=` announces an extension that must be understood (5.1); none is, so the message is no good.
//! All other extensions are passed over.

use core::fmt::{self, Write};

use super::base64;
use super::scram::{BadRecipe, Key, Recipe, key, number};
use crate::limits::{SASL_USER_BYTES_MAX, SCRAM_NONCE_BYTES_MAX, SCRAM_SALT_BYTES_MAX};

/// Whether it can stand behind `r=` (RFC 5802 7, printable), with our bound.
pub(super) fn is_nonce(text: &str) -> bool {
    let printable = |b: u8| b.is_ascii_graphic() && b != b',';
    (1..=SCRAM_NONCE_BYTES_MAX).contains(&text.len()) && text.bytes().all(printable)
}

/// How a client says whether it binds the channel (RFC 5802 6, gs2-cbind-flag).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding<'m> {
    /// `n`: it can't.
    Unable,
    /// `y`: it could, and thinks that the server can't.
    ServerUnable,
    /// `p=`: with this one.
    Named(&'m str),
}

/// The first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'m> {
    pub(super) binding: Binding<'m>,
    /// The identity to act as, still with `=2C` and `=3D`.
    pub(super) authzid: Option<&'m str>,
    /// What stands before the rest: flag and identity with their commas.
    pub(super) gs2_header: &'m str,
    /// The rest.
    pub(super) bare: &'m str,
    /// Whose password, still with `=2C` and `=3D`.
    pub(super) user: &'m str,
    pub(super) nonce: &'m str,
}

impl<'m> ClientFirst<'m> {
    pub(super) fn parse(message: &'m str) -> Option<Self> {
        let (flag, rest) = message.split_once(',')?;
        let (authzid, bare) = rest.split_once(',')?;
        let binding = match flag {
            "n" => Binding::Unable,
            "y" => Binding::ServerUnable,
            _ => Binding::Named(flag.strip_prefix("p=").filter(|name| is_binding(name))?),
        };
        let authzid = match authzid {
            "" => None,
            _ => Some(authzid.strip_prefix("a=")?),
        };
        let (user, rest) = bare.strip_prefix("n=")?.split_once(',')?;
        let (nonce, extensions) = first(rest.strip_prefix("r=")?);
        let good = is_nonce(nonce) && are_extensions(extensions);
        good.then(|| {
            let gs2_header = message
                .get(..message.len() - bare.len())
                .unwrap_or_default();
            Self {
                binding,
                authzid,
                gs2_header,
                bare,
                user,
                nonce,
            }
        })
    }
}

/// The server's answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerFirst<'m> {
    pub(super) nonce: &'m str,
    pub(super) salt: &'m str,
    pub(super) iterations: u32,
}

impl<'m> ServerFirst<'m> {
    pub(super) fn parse(message: &'m str) -> Option<Self> {
        let (nonce, rest) = message.strip_prefix("r=")?.split_once(',')?;
        let (salt, rest) = rest.strip_prefix("s=")?.split_once(',')?;
        let (iterations, extensions) = first(rest.strip_prefix("i=")?);
        let printable = |b: u8| b.is_ascii_graphic() && b != b',';
        let good = nonce.bytes().all(printable) && are_extensions(extensions);
        Some(Self {
            nonce,
            salt,
            iterations: number(iterations)?,
        })
        .filter(|_| good)
    }

    /// What the keys are made with.
    pub(super) fn recipe(&self) -> Option<Result<Recipe, BadRecipe>> {
        let salt = base64::decode::<{ SCRAM_SALT_BYTES_MAX }>(self.salt.as_bytes())?;
        Some(Recipe::new(&salt, self.iterations))
    }
}

/// The client's proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'m> {
    /// Of the header and the channel, in base64.
    pub(super) channel: &'m str,
    pub(super) nonce: &'m str,
    /// The message up to the proof.
    pub(super) without_proof: &'m str,
    pub(super) proof: Key,
}

impl<'m> ClientFinal<'m> {
    pub(super) fn parse(message: &'m str) -> Option<Self> {
        let (without_proof, last) = message.rsplit_once(',')?;
        let proof = key(last.strip_prefix("p=")?)?;
        let (channel, rest) = without_proof.strip_prefix("c=")?.split_once(',')?;
        let (nonce, extensions) = first(rest.strip_prefix("r=")?);
        are_extensions(extensions).then_some(Self {
            channel,
            nonce,
            without_proof,
            proof,
        })
    }
}

/// The signature in the server's last message; `None` if it is an error or no such message.
pub(super) fn server_final(message: &str) -> Option<Key> {
    let (signature, extensions) = first(message.strip_prefix("v=")?);
    key(signature).filter(|_| are_extensions(extensions))
}

/// The value up to the next comma, and what follows it.
fn first(text: &str) -> (&str, Option<&str>) {
    match text.split_once(',') {
        Some((value, rest)) => (value, Some(rest)),
        None => (text, None),
    }
}

fn are_extensions(text: Option<&str>) -> bool {
    let is_one = |extension: &str| {
        let mut octets = extension.bytes();
        let name = octets
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() && b != b'm');
        name && octets.next() == Some(b'=') && extension.len() > 2 && !extension.contains('\0')
    };
    text.is_none_or(|text| text.split(',').all(is_one))
}

/// RFC 5802 7, cb-name.
fn is_binding(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    !name.is_empty() && name.bytes().all(good)
}

/// A name without its `=2C` and `=3D`.
pub(super) fn unescape(name: &str) -> Option<heapless::String<SASL_USER_BYTES_MAX>> {
    let mut plain = heapless::String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('=') {
        plain.push_str(before).ok()?;
        if let Some(after) = after.strip_prefix("2C") {
            plain.push(',').ok()?;
            rest = after;
        } else {
            rest = after.strip_prefix("3D")?;
            plain.push('=').ok()?;
        }
    }
    plain.push_str(rest).ok()?;
    (!plain.is_empty() && !plain.contains('\0')).then_some(plain)
}

/// Writes a name with its `=2C` and `=3D`.
pub(super) fn escape(name: &str, out: &mut impl Write) -> fmt::Result {
    for c in name.chars() {
        match c {
            ',' => out.write_str("=2C")?,
            '=' => out.write_str("=3D")?,
            c => out.write_char(c)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::sasl::scram::Keys;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;

    #[test]
    fn first_messages() {
        let m = ClientFirst::parse("p=tls-exporter,a=b=2Cc,n=u=3Du,r=abc,x=y").unwrap();
        assert_eq!(m.binding, Binding::Named("tls-exporter"));
        assert_eq!(
            (m.authzid, m.user, m.nonce),
            (Some("b=2Cc"), "u=3Du", "abc")
        );
        assert_eq!(m.gs2_header, "p=tls-exporter,a=b=2Cc,");
        assert_eq!(m.bare, "n=u=3Du,r=abc,x=y");
        let good = ["n,,n=u,r=a", "y,,n=u,r=a", "p=x.y-z,,n=u,r=a,b=c,d=e=f"];
        assert!(good.iter().all(|m| ClientFirst::parse(m).is_some()));
        for bad in [
            "",
            "n,,",
            "n,n=u,r=a",
            "n,,n=u",
            "n,,n=u,r=",
            "n,,n=u,r=a,",
            "n,,n=u,r=a,b",
            "n,,n=u,r=a,b=",
            "n,,m=1,n=u,r=a",
            "n,,n=u,r=a,m=1",
            "n,,r=a,n=u",
            "n,,n=u,r=a b",
            "N,,n=u,r=a",
            "p,,n=u,r=a",
            "p=,,n=u,r=a",
            "p=a_b,,n=u,r=a",
            "n,b,n=u,r=a",
            " n,,n=u,r=a",
            "n,,n=u,r=\u{e9}",
        ] {
            assert_eq!(ClientFirst::parse(bad), None, "{bad:?}");
        }
        let long = format!("n,,n=u,r={}", "a".repeat(SCRAM_NONCE_BYTES_MAX));
        assert!(ClientFirst::parse(&long).is_some());
        assert!(ClientFirst::parse(&(long + "a")).is_none());
    }

    #[test]
    fn other_messages() {
        let m = ServerFirst::parse("r=ab,s=AAAA,i=4096,x=y").unwrap();
        assert_eq!((m.nonce, m.salt, m.iterations), ("ab", "AAAA", 4096));
        assert!(matches!(m.recipe(), Some(Ok(_))));
        for bad in [
            "",
            "r=a",
            "r=a,s=AAAA",
            "r=a,i=1,s=AAAA",
            "r=a,s=AAAA,i=",
            "r=a,s=AAAA,i=x",
            "r=a,s=AAAA,i=0",
            "r=a,s=AAAA,i=99999999999",
            "m=1,r=a,s=AAAA,i=1",
            "r=a,s=AAAA,i=1,",
        ] {
            assert_eq!(ServerFirst::parse(bad), None, "{bad:?}");
        }
        let proof = "A".repeat(43) + "=";
        let text = format!("c=biws,r=ab,x=p=q,p={proof}");
        let m = ClientFinal::parse(&text).unwrap();
        assert_eq!((m.channel, m.nonce, m.proof), ("biws", "ab", [0; 32]));
        assert_eq!(m.without_proof, "c=biws,r=ab,x=p=q");
        for bad in [
            "c=biws,r=ab",
            &format!("r=ab,c=biws,p={proof}"),
            &format!("{text},x=y"),
            "c=biws,r=ab,p=AAAA",
            &format!("c=biws,r=ab,m=1,p={proof}"),
            &format!("c=biws,p={proof}"),
        ] {
            assert_eq!(ClientFinal::parse(bad), None, "{bad:?}");
        }
        assert_eq!(server_final(&format!("v={proof}")), Some([0; 32]));
        assert_eq!(server_final(&format!("v={proof},a=b")), Some([0; 32]));
        assert_eq!(server_final("e=invalid-proof"), None);
        assert_eq!(server_final("v=AAAA"), None);
    }

    proptest! {
        #[test]
        fn names_come_back(name in "[^\u{0}]{1,60}") {
            let mut escaped = String::new();
            escape(&name, &mut escaped).unwrap();
            prop_assert!(!escaped.contains(','));
            let back = unescape(&escaped);
            prop_assert_eq!(back.as_deref(), Some(&*name));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z]?[=,a-zA-Z0-9+/ ]{0,80}") {
            let _ = (ClientFirst::parse(&text), ServerFirst::parse(&text));
            let _ = (ClientFinal::parse(&text), server_final(&text), unescape(&text), Keys::parse(&text));
        }
    }

    #[test]
    fn names_that_are_none() {
        for bad in [
            "",
            "a=",
            "a=2",
            "a=2c",
            "a=4D",
            "=",
            "a\0b",
            &"x".repeat(256),
        ] {
            assert_eq!(unescape(bad), None, "{bad:?}");
        }
    }
}
