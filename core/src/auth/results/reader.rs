//! The parts of a value, one after the other.

use alloc::string::String;

use super::{MethodResult, Property, ResultsError, is_address, is_token};
use crate::limits::AUTH_PROPERTIES_MAX;

/// What is left of a value.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a str,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    pub(super) fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take_while(&mut self, good: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !good(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Skips comments and white space, and gives the first comment.
    pub(super) fn skip(&mut self) -> Result<Option<String>, ResultsError> {
        let mut first = None;
        loop {
            self.take_while(is_blank);
            if !self.take('(') {
                return Ok(first);
            }
            let comment = self.comment()?;
            first = first.or(Some(comment));
        }
    }

    fn comment(&mut self) -> Result<String, ResultsError> {
        let (mut text, mut depth) = (String::new(), 0usize);
        loop {
            let c = match self.next().ok_or(ResultsError::Comment)? {
                '\r' | '\n' => continue,
                ')' if depth == 0 => return Ok(text),
                '\\' => self.next().ok_or(ResultsError::Comment)?,
                c => {
                    match c {
                        '(' => depth += 1,
                        ')' => depth -= 1,
                        _ => {}
                    }
                    c
                }
            };
            // It is shown to people.
            text.push(if c.is_control() && c != '\t' { '?' } else { c });
        }
    }

    pub(super) fn authserv_id(&mut self) -> Result<String, ResultsError> {
        self.skip()?;
        let id = self.value()?;
        if id.is_empty() {
            return Err(ResultsError::AuthservId);
        }
        self.skip()?;
        Ok(id)
    }

    /// The authserv-id of a whole value, if every reader finds the same: a token, in quotes or not,
    /// and then nothing but perhaps a version before the end or the results.
    pub(super) fn clear_authserv_id(&mut self) -> Option<String> {
        let id = self.authserv_id().ok()?;
        if self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.number()?;
            self.skip().ok()?;
        }
        let ended = matches!(self.peek(), None | Some(';'));
        (ended && is_token(&id)).then_some(id)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.take_while(|c| c.is_ascii_digit()).parse().ok()
    }

    /// A quoted string, an address or whatever stands there up to white space.
    fn value(&mut self) -> Result<String, ResultsError> {
        let start = self.rest;
        if !self.take('"') {
            return Ok(self.take_while(is_bare).into());
        }
        let mut text = String::new();
        loop {
            match self.next().ok_or(ResultsError::Value)? {
                '"' => break,
                '\r' | '\n' => {}
                '\\' => text.push(self.next().ok_or(ResultsError::Value)?),
                c => text.push(c),
            }
        }
        if text.contains(|c: char| c.is_control() && c != '\t') {
            return Err(ResultsError::Value);
        }
        if self.peek() != Some('@') {
            return Ok(text);
        }
        // A quoted local part: the address as it stands.
        self.take_while(is_bare);
        let length = start.len() - self.rest.len();
        let raw = start.get(..length).unwrap_or(start);
        Ok(raw.replace(['\r', '\n'], ""))
    }

    /// `none` alone.
    pub(super) fn none(&mut self) -> Result<bool, ResultsError> {
        let mut ahead = Reader { rest: self.rest };
        if !ahead.take_while(is_keyword).eq_ignore_ascii_case("none") {
            return Ok(false);
        }
        ahead.skip()?;
        ahead.take(';');
        ahead.skip()?;
        Ok(ahead.rest.is_empty())
    }

    pub(super) fn result(&mut self) -> Result<MethodResult, ResultsError> {
        let method = self.keyword().ok_or(ResultsError::Method)?;
        self.skip()?;
        let mut method_version = None;
        if self.take('/') {
            self.skip()?;
            method_version = Some(self.number().ok_or(ResultsError::Method)?);
            self.skip()?;
        }
        if !self.take('=') {
            return Err(ResultsError::Method);
        }
        self.skip()?;
        let result = self.keyword().ok_or(ResultsError::Method)?;
        let mut result = MethodResult {
            method_version,
            ..MethodResult::new(method, result)
        };
        result.comment = self.skip()?;
        while !matches!(self.peek(), None | Some(';')) {
            self.pair(&mut result)?;
            self.skip()?;
        }
        Ok(result)
    }

    /// `reason=word` or `ptype.property=pvalue`.
    fn pair(&mut self, result: &mut MethodResult) -> Result<(), ResultsError> {
        let first = self.keyword().ok_or(ResultsError::Property)?;
        self.skip()?;
        let (ptype, property) = if self.take('.') {
            self.skip()?;
            let property = self.keyword().ok_or(ResultsError::Property)?;
            self.skip()?;
            (first, property)
        } else {
            (String::new(), first)
        };
        if !self.take('=') {
            return Err(ResultsError::Property);
        }
        let value = if self.is_without_value()? {
            String::new()
        } else {
            self.skip()?;
            self.value()?
        };
        if ptype.is_empty() && property.eq_ignore_ascii_case("reason") && result.reason.is_none() {
            result.reason = Some(value);
            return Ok(());
        }
        if result.properties.len() >= AUTH_PROPERTIES_MAX {
            return Err(ResultsError::TooMany);
        }
        result.properties.push(Property {
            ptype: ptype.into(),
            property: property.into(),
            value,
        });
        Ok(())
    }

    /// Behind `=`: white space, and then the next property, or nothing.
    ///
    /// What looks like the next property may be the address that this one says:
    /// `bounce-ann=example.org@lists.example`. It is, unless it begins with a ptype.
    fn is_without_value(&self) -> Result<bool, ResultsError> {
        let mut ahead = Reader { rest: self.rest };
        if ahead.peek().is_some_and(|c| !is_blank(c)) {
            return Ok(false);
        }
        ahead.skip()?;
        let all = Reader { rest: ahead.rest }.take_while(is_bare);
        let word = ahead.take_while(|c| is_keyword(c) || c == '.');
        ahead.skip()?;
        if word.is_empty() || ahead.peek() != Some('=') {
            return Ok(false);
        }
        let ptype = word.split_once('.').map_or("", |(ptype, _)| ptype);
        let known = PTYPES.iter().any(|known| known.eq_ignore_ascii_case(ptype));
        Ok(known || !(all.contains('@') && is_address(all)))
    }

    fn keyword(&mut self) -> Option<String> {
        let keyword = self.take_while(is_keyword);
        (!keyword.is_empty()).then(|| keyword.to_ascii_lowercase())
    }
}

/// Where properties come from (RFC 8601 2.3, RFC 8904, RFC 9989 9.2).
const PTYPES: [&str; 6] = ["smtp", "header", "body", "policy", "dns", "polrec"];

/// What a value without quotes is taken to have.
fn is_bare(c: char) -> bool {
    !is_blank(c) && !c.is_control() && !matches!(c, ';' | '(' | '"')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// RFC 5321 4.1.2 Keyword, and `_`.
pub(super) fn is_keyword(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}
