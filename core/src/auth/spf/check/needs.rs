//! What terms need: their place in the count, the domain that they are about, the client's name.

use alloc::sync::Arc;

use super::super::macros::{Context, Letter, MacroString};
use super::super::report::{Match, Problem};
use super::{Check, ClientName, Pick, State, Target, Why, Work, address_kind};
use crate::dns::{Name, Question};
use crate::limits::{SPF_LOOKUPS_MAX, SPF_VOID_LOOKUPS_MAX};

impl Check {
    /// The current term, and whose record it stands in.
    pub(super) fn here(&self) -> Match {
        let (term, domain) = self
            .frames
            .last()
            .map_or(("", ""), |frame| (frame.term(), &frame.domain));
        Match {
            term: term.into(),
            domain: domain.into(),
        }
    }

    /// Counts a term that asks DNS, once (RFC 7208 4.6.4).
    pub(super) fn count(&mut self) -> bool {
        if let Some(frame) = self.frames.last_mut()
            && !core::mem::replace(&mut frame.counted, true)
        {
            self.lookups += 1;
        }
        self.lookups <= SPF_LOOKUPS_MAX
    }

    /// Counts a term with a void answer, and says whether there may be that many (RFC 7208 4.6.4).
    ///
    /// An answer is void if the name does not exist, or has no records of the type; a timeout or a
    /// server failure is an error instead. What counts is the A or AAAA of `a`, the A of `exists`,
    /// the MX of `mx`, and the PTR of `ptr` and of `%{p}`: once per term, whatever is void in it.
    ///
    /// What does not count, since 4.6.4 limits terms: addresses of an MX's hosts and of the
    /// client's names; the client's names, where an earlier term asked for them; explanations. The
    /// record of `include` and `redirect` is in the report's number, but a void one is a permanent
    /// error whatever the number is.
    pub(super) fn void(&mut self) -> bool {
        if let Some(frame) = self.frames.last_mut()
            && !core::mem::replace(&mut frame.void, true)
        {
            self.void_lookups += 1;
        }
        self.void_lookups <= SPF_VOID_LOOKUPS_MAX
    }

    pub(super) fn context(&self) -> Option<Context<'_>> {
        let frame = self.frames.last()?;
        Some(Context {
            ip: self.client.ip,
            local: &self.client.local,
            sender_domain: &self.client.sender_domain,
            domain: &frame.domain,
            helo: &self.client.helo,
            receiver: self.client.receiver.as_deref().unwrap_or("unknown"),
            validated: frame.validated.as_deref().unwrap_or("unknown"),
            now: self.client.now,
        })
    }

    /// What `spec` stands for, or the domain itself without one (RFC 7208 4.8). An error is what
    /// has to be waited for first.
    pub(super) fn target(
        &mut self,
        spec: Option<MacroString<'_>>,
        back: Work,
    ) -> core::result::Result<Target, State> {
        let Some(spec) = spec else {
            return Ok(match self.frames.last() {
                Some(frame) => Target::Name(frame.domain.clone(), frame.name.clone()),
                None => Target::Never,
            });
        };
        if !self.client.local.is_ascii() && (spec.uses(Letter::Sender) || spec.uses(Letter::Local))
        {
            return Ok(Target::Never);
        }
        if let Some(wait) = self.validated(spec, &back) {
            return Err(wait);
        }
        let Some(context) = self.context() else {
            return Ok(Target::Never);
        };
        let domain = spec.domain(&context);
        Ok(match Name::from_bytes(domain.as_bytes()) {
            Ok(name) => Target::Name(domain, name),
            Err(_) => Target::Invalid(domain),
        })
    }

    /// What has to be done before `%{p}` is known, if `string` needs it (RFC 7208 7.3).
    pub(super) fn validated(&mut self, string: MacroString<'_>, back: &Work) -> Option<State> {
        let frame = self.frames.last()?;
        if frame.validated.is_some() || !string.uses(Letter::Validated) {
            return None;
        }
        let domain = frame.name.clone();
        let Some(names) = &self.names else {
            // RFC 7208 4.6.4: the question for %{p} counts too, unless it is about an explanation.
            if matches!(back, Work::Term | Work::End) {
                self.lookups += 1;
                if self.lookups > SPF_LOOKUPS_MAX {
                    return Some(self.permanent(Problem::Lookups));
                }
            }
            return Some(State::Ask(
                Question::reverse(self.client.ip),
                Why::Names(back.clone()),
            ));
        };
        // The domain itself, then names under it, then others.
        let picks = [
            pick(names, |name| *name == domain),
            pick(names, |name| name.is_within(&domain)),
            pick(names, |_| true),
        ];
        let mut validated = None;
        for pick in picks {
            match pick {
                Pick::Valid(name) => {
                    validated = Some(name);
                    break;
                }
                Pick::Ask(n, name) => {
                    return Some(State::Ask(
                        Question::new(name, address_kind(self.client.ip)),
                        Why::Validate(n, back.clone()),
                    ));
                }
                Pick::Nothing => {}
            }
        }
        if let Some(frame) = self.frames.last_mut() {
            let text = validated.as_ref().map_or("unknown", Name::as_str);
            frame.validated = Some(Arc::from(text));
        }
        None
    }
}

/// The first name that is kept and valid, or else the first that is kept and not yet known.
pub(super) fn pick(names: &[ClientName], keep: impl Fn(&Name) -> bool) -> Pick {
    let kept = || names.iter().enumerate().filter(|(_, n)| keep(&n.name));
    if let Some((_, valid)) = kept().find(|(_, n)| n.valid == Some(true)) {
        return Pick::Valid(valid.name.clone());
    }
    match kept().find(|(_, n)| n.valid.is_none()) {
        Some((n, open)) => Pick::Ask(n, open.name.clone()),
        None => Pick::Nothing,
    }
}
