//! The parameters of MAIL and RCPT: `*( SP keyword [ "=" value ] )`.
//!
//! | keyword | value | from |
//! |---|---|---|
//! | `SIZE` | 1 to 20 digits; more than 64 bits saturate | RFC 1870 |
//! | `BODY` | `7BIT`, `8BITMIME`, `BINARYMIME` | RFC 6152, RFC 3030 |
//! | `SMTPUTF8`, `REQUIRETLS` | none | RFC 6531, RFC 8689 |
//! | `RET` | `FULL`, `HDRS` | RFC 3461 4.3 |
//! | `ENVID` | xtext, at most 100 characters | RFC 3461 4.4 |
//! | `AUTH` | xtext, or `<>` | RFC 4954 5 |
//! | `MT-PRIORITY` | -9 to 9 | RFC 6710 |
//! | `BY` | `[-/+]` 1 to 9 digits `;` `R` or `N`, then `T` or nothing | RFC 2852 |
//! | `HOLDFOR` | 1 to 9 digits | RFC 4865 |
//! | `HOLDUNTIL` | RFC 3339 date-time | RFC 4865, its erratum 2040 |
//! | `NOTIFY` | `NEVER`, or a list of `SUCCESS`, `FAILURE`, `DELAY` | RFC 3461 4.1 |
//! | `ORCPT` | type `;` xtext (or utf-8-addr-xtext), at most 500 characters | RFC 3461 4.2, RFC 6533 3 |

use super::{
    BodyType, CommandError, CommandErrorKind, DeliverBy, FutureRelease, MailParams, Notify,
    RcptParams, Ret, number,
};
use crate::limits::{
    DELIVER_BY_S_MAX, ENVID_BYTES_MAX, HOLD_FOR_S_MAX, MAIL_AUTH_BYTES_MAX, MT_PRIORITY_MAX,
    ORCPT_BYTES_MAX,
};
use crate::smtp::rfc3339;
use crate::smtp::xtext;
use crate::smtp::{Buffer, BufferFull};

type Value<'a> = Option<&'a str>;

/// Sets a field that must not be set yet, from a value that must be there and be right.
fn once<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), CommandErrorKind> {
    if slot.is_some() {
        return Err(CommandErrorKind::ParameterDuplicate);
    }
    *slot = Some(value.ok_or(CommandErrorKind::ParameterValue)?);
    Ok(())
}

/// The same for a parameter without a value.
fn flag(slot: &mut bool, value: Value<'_>) -> Result<(), CommandErrorKind> {
    if *slot {
        return Err(CommandErrorKind::ParameterDuplicate);
    }
    *slot = true;
    match value {
        None => Ok(()),
        Some(_) => Err(CommandErrorKind::ParameterValue),
    }
}

/// Splits what follows a path into parameters and hands each to `set`.
fn each<'a>(
    rest: &'a str,
    mut set: impl FnMut(&'a str, Value<'a>) -> Result<(), CommandErrorKind>,
) -> Result<(), CommandError> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(CommandErrorKind::Syntax.into());
    }
    for word in rest.split(' ').filter(|w| !w.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        set(keyword, value)?;
    }
    Ok(())
}

impl<'a> MailParams<'a> {
    pub(super) fn parse(rest: &'a str) -> Result<Self, CommandError> {
        let mut p = Self::default();
        each(rest, |keyword, value| p.set(keyword, value))?;
        Ok(p)
    }

    fn set(&mut self, keyword: &str, value: Value<'a>) -> Result<(), CommandErrorKind> {
        let is = |name: &str| keyword.eq_ignore_ascii_case(name);
        if is("SIZE") {
            once(&mut self.size, value.and_then(|v| number(v.as_bytes())))
        } else if is("BODY") {
            once(&mut self.body, value.and_then(BodyType::parse))
        } else if is("SMTPUTF8") {
            flag(&mut self.smtputf8, value)
        } else if is("RET") {
            once(&mut self.ret, value.and_then(Ret::parse))
        } else if is("ENVID") {
            once(
                &mut self.envid,
                value.and_then(|v| xtext_value(v, ENVID_BYTES_MAX)),
            )
        } else if is("AUTH") {
            once(
                &mut self.auth,
                value.and_then(|v| xtext_value(v, MAIL_AUTH_BYTES_MAX)),
            )
        } else if is("REQUIRETLS") {
            flag(&mut self.requiretls, value)
        } else if is("MT-PRIORITY") {
            once(&mut self.mt_priority, value.and_then(priority))
        } else if is("BY") {
            once(&mut self.by, value.and_then(DeliverBy::parse))
        } else if is("HOLDFOR") {
            once(&mut self.hold, value.and_then(hold_for))
        } else if is("HOLDUNTIL") {
            let until = value.and_then(rfc3339::parse);
            once(&mut self.hold, until.map(FutureRelease::HoldUntil))
        } else {
            Err(CommandErrorKind::ParameterUnknown)
        }
    }

    pub(super) fn emit(&self, out: &mut Buffer<'_>) -> Result<(), BufferFull> {
        if let Some(size) = self.size {
            out.put_fmt(format_args!(" SIZE={size}"))?;
        }
        if let Some(body) = self.body {
            out.put(match body {
                BodyType::SevenBit => b" BODY=7BIT",
                BodyType::EightBitMime => b" BODY=8BITMIME",
                BodyType::BinaryMime => b" BODY=BINARYMIME",
            })?;
        }
        if self.smtputf8 {
            out.put(b" SMTPUTF8")?;
        }
        if let Some(ret) = self.ret {
            out.put(match ret {
                Ret::Full => b" RET=FULL",
                Ret::Headers => b" RET=HDRS",
            })?;
        }
        if let Some(envid) = self.envid {
            out.put(b" ENVID=")?;
            put_value(out, envid)?;
        }
        if let Some(auth) = self.auth {
            out.put(b" AUTH=")?;
            put_value(out, auth)?;
        }
        if self.requiretls {
            out.put(b" REQUIRETLS")?;
        }
        if let Some(priority) = self.mt_priority {
            out.put_fmt(format_args!(" MT-PRIORITY={priority}"))?;
        }
        if let Some(by) = self.by {
            let mode = if by.returns { 'R' } else { 'N' };
            let trace = if by.trace { "T" } else { "" };
            out.put_fmt(format_args!(" BY={};{mode}{trace}", by.seconds))?;
        }
        match self.hold {
            Some(FutureRelease::HoldFor(seconds)) => {
                out.put_fmt(format_args!(" HOLDFOR={seconds}"))
            }
            Some(FutureRelease::HoldUntil(wall)) => {
                out.put_fmt(format_args!(" HOLDUNTIL={}", rfc3339::Utc(wall)))
            }
            None => Ok(()),
        }
    }
}

impl<'a> RcptParams<'a> {
    pub(super) fn parse(rest: &'a str) -> Result<Self, CommandError> {
        let mut p = Self::default();
        each(rest, |keyword, value| {
            if keyword.eq_ignore_ascii_case("NOTIFY") {
                once(&mut p.notify, value.and_then(Notify::parse))
            } else if keyword.eq_ignore_ascii_case("ORCPT") {
                once(&mut p.orcpt, value.and_then(original_recipient))
            } else {
                Err(CommandErrorKind::ParameterUnknown)
            }
        })?;
        Ok(p)
    }

    pub(super) fn emit(&self, out: &mut Buffer<'_>) -> Result<(), BufferFull> {
        if let Some(notify) = self.notify {
            notify.emit(out)?;
        }
        if let Some((kind, address)) = self.orcpt {
            out.put(b" ORCPT=")?;
            put_value(out, kind)?;
            out.put(b";")?;
            put_value(out, address)?;
        }
        Ok(())
    }
}

/// Writes a value; a space in it would start another parameter.
fn put_value(out: &mut Buffer<'_>, value: &[u8]) -> Result<(), BufferFull> {
    for part in value.split_inclusive(|&b| b == b' ') {
        match part.split_last() {
            Some((b' ', before)) => {
                out.put_printable(before)?;
                out.put(b"?")?;
            }
            _ => out.put_printable(part)?,
        }
    }
    Ok(())
}

impl BodyType {
    fn parse(value: &str) -> Option<Self> {
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        if is("7BIT") {
            Some(Self::SevenBit)
        } else if is("8BITMIME") {
            Some(Self::EightBitMime)
        } else if is("BINARYMIME") {
            Some(Self::BinaryMime)
        } else {
            None
        }
    }
}

impl Ret {
    fn parse(value: &str) -> Option<Self> {
        if value.eq_ignore_ascii_case("FULL") {
            Some(Self::Full)
        } else if value.eq_ignore_ascii_case("HDRS") {
            Some(Self::Headers)
        } else {
            None
        }
    }
}

impl Notify {
    fn parse(value: &str) -> Option<Self> {
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(Self {
                never: true,
                ..Self::default()
            });
        }
        let mut notify = Self::default();
        for word in value.split(',') {
            let slot = if word.eq_ignore_ascii_case("SUCCESS") {
                &mut notify.success
            } else if word.eq_ignore_ascii_case("FAILURE") {
                &mut notify.failure
            } else if word.eq_ignore_ascii_case("DELAY") {
                &mut notify.delay
            } else {
                return None;
            };
            *slot = true;
        }
        Some(notify)
    }

    /// Nothing asked for is written as `NEVER`, which says the same.
    fn emit(self, out: &mut Buffer<'_>) -> Result<(), BufferFull> {
        out.put(b" NOTIFY=")?;
        let asked: [(bool, &[u8]); 3] = [
            (self.success, b"SUCCESS"),
            (self.failure, b"FAILURE"),
            (self.delay, b"DELAY"),
        ];
        let mut words = asked.iter().filter(|(on, _)| *on && !self.never);
        match words.next() {
            None => return out.put(b"NEVER"),
            Some((_, word)) => out.put(word)?,
        }
        for (_, word) in words {
            out.put(b",")?;
            out.put(word)?;
        }
        Ok(())
    }
}

impl DeliverBy {
    /// RFC 2852 4: a time that has passed can't ask for return.
    fn parse(value: &str) -> Option<Self> {
        let (time, mode) = value.split_once(';')?;
        let (negative, digits) = match time.as_bytes() {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        let seconds = i32::try_from(number(digits)?).ok()?;
        if seconds > DELIVER_BY_S_MAX || digits.len() > 9 {
            return None;
        }
        let seconds = if negative { -seconds } else { seconds };
        let (returns, trace) = match mode.as_bytes() {
            [b'R' | b'r'] => (true, false),
            [b'R' | b'r', b'T' | b't'] => (true, true),
            [b'N' | b'n'] => (false, false),
            [b'N' | b'n', b'T' | b't'] => (false, true),
            _ => return None,
        };
        if returns && seconds <= 0 {
            return None;
        }
        Some(Self {
            seconds,
            returns,
            trace,
        })
    }
}

fn priority(value: &str) -> Option<i8> {
    let priority: i8 = match value.as_bytes() {
        [b'0'..=b'9'] | [b'-', b'0'..=b'9'] => value.parse().ok()?,
        _ => return None,
    };
    (-MT_PRIORITY_MAX..=MT_PRIORITY_MAX)
        .contains(&priority)
        .then_some(priority)
}

fn hold_for(value: &str) -> Option<FutureRelease> {
    let seconds = u32::try_from(number(value.as_bytes())?).ok()?;
    (value.len() <= 9 && seconds <= HOLD_FOR_S_MAX).then_some(FutureRelease::HoldFor(seconds))
}

/// A value of xtext (RFC 3461 4), left encoded; what it stands for has no control characters.
fn xtext_value(value: &str, most: usize) -> Option<&[u8]> {
    let fits = !value.is_empty() && value.len() <= most;
    (fits && xtext::is_text(value.as_bytes())).then_some(value.as_bytes())
}

/// `type;address`, the address xtext or, for `utf-8`, one of the forms of RFC 6533 3.
fn original_recipient(value: &str) -> Option<(&[u8], &[u8])> {
    let (kind, address) = value.split_once(';')?;
    let is_atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_address = if kind.eq_ignore_ascii_case("utf-8") {
        xtext::is_utf8_addr(address)
    } else {
        xtext::is_text(address.as_bytes())
    };
    let fits = !address.is_empty() && value.len() <= ORCPT_BYTES_MAX;
    (is_atom && is_address && fits).then_some((kind.as_bytes(), address.as_bytes()))
}
