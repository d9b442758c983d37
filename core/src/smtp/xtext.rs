//! The encodings of DSN parameters: xtext (RFC 3461 4), utf-8-addr-xtext and
//! utf-8-addr-unitext (RFC 6533 3).

/// Whether `bytes` are xtext: printable without `+` and `=`, or `+` and two upper case hex
/// digits. Lower case hex is taken as well.
pub fn is_xtext(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return true,
            [b'+', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            [b'+' | b'=', ..] => return false,
            [b'!'..=b'~', rest @ ..] => rest,
            _ => return false,
        };
    }
}

/// Whether `text` is a utf-8-addr-xtext or utf-8-addr-unitext.
pub fn is_utf8_addr(text: &str) -> bool {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '\\' => match embedded(rest) {
                Some((_, rest)) => rest,
                None => return false,
            },
            '+' | '=' => return false,
            '!'..='~' => &rest[1..],
            _ if c.is_ascii() || c.is_control() => return false,
            _ => &rest[c.len_utf8()..],
        };
    }
    true
}

/// `\x{HEXPOINT}` at the start of `text`, and what follows.
fn embedded(text: &str) -> Option<(char, &str)> {
    let (hex, rest) = text.strip_prefix("\\x{")?.split_once('}')?;
    let digits = (2..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let point = digits.then(|| u32::from_str_radix(hex, 16).ok())??;
    char::from_u32(point).map(|c| (c, rest))
}
