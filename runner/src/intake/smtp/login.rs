//! AUTH: one login of a submitter.
//!
//! What a client says of itself is looked at only while neither its network nor its user is
//! blocked. A wrong answer waits, counted from when the client spoke, so that it tells nothing by
//! its time; nor does its text say what was wrong.

use std::sync::Arc;
use std::time::Duration;

use courser_core::mail::address::ReversePath;
use courser_core::smtp::reply::Reply;
use courser_core::smtp::sasl::server::{Exchange, Fault, Input, Output};
use courser_core::smtp::sasl::{Channel, Mechanism, Nonce};
use courser_core::smtp::server;
use courser_core::time::Instant;
use courser_core::traffic::logins::{Blocked, Claim, Whose};
use zeroize::Zeroizing;

use super::{Flaw, Visitor, reply};
use crate::events::{AuthBlocked, AuthFailed, Client, EventKind, Time};
use crate::login::users::Meant;
use crate::login::{Busy, User, Users, random};
use crate::net::clock;

/// Room for a challenge.
const CHALLENGE_BYTES: usize = 512;

/// A login that is under way.
pub(super) struct Attempt {
    exchange: Box<Exchange>,
    /// What the client said last, base64; `None`: nothing with its AUTH.
    said: Option<Zeroizing<Vec<u8>>>,
    at: Instant,
    /// Whom it says that it is, once it has.
    claim: Option<Claim>,
    user: Option<Arc<User>>,
}

impl Visitor {
    /// AUTH was said.
    pub(super) fn begin_login(&mut self, mechanism: &str, initial: Option<&[u8]>) {
        // The machine takes none that isn't offered, and none is offered that isn't known.
        let Some(mechanism) = Mechanism::of(mechanism) else {
            self.attempt = None;
            return;
        };
        // It counts only over a connection that SCRAM-SHA-256-PLUS was offered over.
        let channel = match self.machine.capabilities().auth.scram_sha_256_plus {
            true => self.channel(),
            false => Channel::none(),
        };
        let exchange = Exchange::new(mechanism, Nonce::of_random(random()), channel);
        self.attempt = Some(Attempt {
            exchange: Box::new(exchange),
            said: initial.map(|text| Zeroizing::new(text.to_vec())),
            at: clock::now(),
            claim: None,
            user: None,
        });
    }

    /// More of it was said.
    pub(super) fn go_on_with_login(&mut self, text: &[u8]) {
        if let Some(attempt) = &mut self.attempt {
            attempt.said = Some(Zeroizing::new(text.to_vec()));
            attempt.at = clock::now();
        }
    }

    /// What SCRAM-SHA-256-PLUS binds to. Without TLS there is nothing.
    fn channel(&self) -> Channel {
        self.stream.channel()
    }

    /// The users of the listener, as they are now.
    fn users(&self) -> Option<Arc<Users>> {
        let auth = self.terms.listener.auth.as_ref()?;
        self.shard
            .shared()
            .logins
            .loaded()
            .users(&auth.users)
            .cloned()
    }

    /// The user who logged in, as he is in the file now.
    ///
    /// # Errors
    /// He isn't there any more.
    fn refresh_user(&mut self) -> Result<Option<Arc<User>>, ()> {
        let Some(user) = &self.origin.user else {
            return Ok(None);
        };
        let now = self
            .users()
            .and_then(|users| users.get(&user.name).cloned());
        let now = now.ok_or(())?;
        self.origin.user = Some(now.clone());
        Ok(Some(now))
    }

    /// Whether the user who logged in may send another message, from this sender.
    pub(super) fn may_send_as(
        &mut self,
        sender: &ReversePath<'_>,
        now: Instant,
    ) -> Result<(), Flaw> {
        let flaw = |code, enhanced, text| Flaw {
            code,
            enhanced,
            text,
        };
        let user = self.refresh_user().map_err(|()| {
            let text = "Authentication required: your user is not here any more";
            flaw(530, (5, 7, 0), text.to_owned())
        })?;
        let Some(user) = user else { return Ok(()) };
        user.mail_from.may_be(sender).map_err(|e| {
            let text = format!("{e}: {} may not use it in MAIL FROM", user.name);
            flaw(550, (5, 7, 1), text)
        })?;
        user.message(now).map_err(|next| {
            let wait = in_words(next.since(now));
            let text = format!("You have sent as much as you may, try again in {wait}");
            flaw(451, (4, 7, 1), text)
        })
    }

    /// Looks at what was said, and answers.
    pub(super) async fn look_at_login(&mut self) {
        let Some(mut attempt) = self.attempt.take() else {
            return self.answer(server::Input::AuthFailed);
        };
        let Some(users) = self.users() else {
            let text = "Logins can't be checked here at the moment";
            return self.answer(server::Input::Refuse(reply(454, (4, 7, 0), text)));
        };
        if let Err(blocked) = self.logins().check(self.origin.client, attempt.claim) {
            return self.refuse_blocked(blocked);
        }
        let mut out = [0; CHALLENGE_BYTES];
        let said = attempt.said.take();
        let response = Input::Response(said.as_ref().map(|s| s.as_slice()));
        let mut output = attempt.exchange.step(response, &mut out);
        if matches!(output, Output::Keys | Output::Check) {
            let meant = users.meant(attempt.exchange.user());
            attempt.claim = Some(meant.claim());
            attempt.user = meant.user().cloned();
            if let Err(blocked) = self.logins().check(self.origin.client, attempt.claim) {
                return self.refuse_blocked(blocked);
            }
            output = match self.compare(&mut attempt, output, meant, &mut out).await {
                Ok(output) => output,
                Err(Busy) => {
                    let text = "Too many logins at once, try again in a moment";
                    return self.answer(server::Input::Refuse(reply(454, (4, 7, 0), text)));
                }
            };
            // Others may have been wrong too often meanwhile: then right and wrong are told alike.
            if let Err(blocked) = self.logins().check(self.origin.client, attempt.claim) {
                return self.refuse_blocked(blocked);
            }
        }
        match output {
            Output::Challenge(n) => {
                self.attempt = Some(attempt);
                self.answer(server::Input::AuthChallenge(&out[..n]));
            }
            Output::Done => self.logged_in(attempt).await,
            Output::Failed(fault) => self.login_failed(attempt, fault).await,
            // They were answered above, and nothing asks twice.
            Output::Keys | Output::Check => self.answer(server::Input::AuthFailed),
        }
    }

    /// Gives the exchange what it asked for.
    async fn compare(
        &self,
        attempt: &mut Attempt,
        asked: Output,
        meant: Meant,
        out: &mut [u8],
    ) -> Result<Output, Busy> {
        if asked == Output::Keys {
            return Ok(attempt.exchange.step(Input::Keys(meant.keys()), out));
        }
        let password = Zeroizing::new(attempt.exchange.password().to_vec());
        let right = self.logins().checker.has(meant, password).await?;
        Ok(attempt.exchange.step(Input::Checked(right), out))
    }

    async fn logged_in(&mut self, attempt: Attempt) {
        let (Some(user), Some(claim)) = (attempt.user.clone(), attempt.claim) else {
            return self.login_failed(attempt, Fault::Password).await;
        };
        if let Err(blocked) = self.logins().succeeded(self.origin.client, claim) {
            return self.refuse_blocked(blocked);
        }
        tracing::debug!(user = %user.name, client = %self.origin.client, "logged in");
        self.origin.user = Some(user);
        self.origin.with.auth = true;
        self.origin.trusted = true;
        self.answer(server::Input::AuthDone);
    }

    async fn login_failed(&mut self, attempt: Attempt, fault: Fault) {
        // What is no message of the mechanism says nothing of a user.
        let claim = match fault {
            Fault::Password | Fault::Channel => attempt.claim,
            _ => None,
        };
        let failed = self.logins().failed(self.origin.client, claim);
        let cause = match (fault, &attempt.user) {
            (Fault::Password, Some(user))
                if attempt.exchange.mechanism().is_scram() && user.hash().keys().is_none() =>
            {
                "wrong password, or a user without keys for SCRAM".to_owned()
            }
            (Fault::Password, Some(_)) => "wrong password".to_owned(),
            // The name is left out: people type passwords there.
            (Fault::Password, None) => "there is no such user".to_owned(),
            (fault, _) => fault.to_string(),
        };
        let client = self.login_client(attempt.user.as_deref());
        self.shard.event(EventKind::AuthFailed(Box::new(AuthFailed {
            client: client.clone(),
            mechanism: attempt.exchange.mechanism().name().into(),
            cause,
        })));
        if let Some(blocked) = failed.blocked {
            self.tell_blocked(client, blocked);
        }
        let held = failed.delay.saturating_sub(clock::now().since(attempt.at));
        tokio::time::sleep(held).await;
        match fault {
            // RFC 4954 4.
            Fault::Encoding => {
                let text = "That is not base64";
                self.answer(server::Input::Refuse(reply(501, (5, 5, 2), text)));
            }
            _ => self.answer(server::Input::AuthFailed),
        }
    }

    fn tell_blocked(&self, client: Client, blocked: Blocked) {
        let left = blocked.until.since(clock::now());
        let until = (clock::wall_ms().max(0) as u64).saturating_add(left.as_millis() as u64);
        let (whose, cause) = match blocked.whose {
            Whose::Network => ("address", "too many wrong passwords from this address"),
            Whose::User => ("user", "too many wrong passwords for this user"),
        };
        tracing::warn!(
            client = %self.origin.client, user = client.client_user, listener = client.listener,
            "{cause}: blocked for {}", in_words(left)
        );
        self.shard
            .event(EventKind::AuthBlocked(Box::new(AuthBlocked {
                client,
                blocked: whose.into(),
                until: Time(until),
                cause: cause.into(),
            })));
    }

    /// Who tried; the user only where he is one.
    fn login_client(&self, user: Option<&User>) -> Client {
        Client {
            client_address: Some(self.origin.client),
            client_helo: self.origin.helo.clone(),
            client_user: user.map(|u| u.name.to_string()).unwrap_or_default(),
            client_tls: self.origin.tls.as_ref().map(Into::into),
            listener: self.terms.listener.name.to_string(),
        }
    }

    /// The same words for who is there and who isn't.
    fn refuse_blocked(&mut self, blocked: Blocked) {
        let wait = in_words(blocked.until.since(clock::now()));
        match blocked.whose {
            Whose::Network => {
                let text = format!("Too many failed logins from your address, try again in {wait}");
                let refusal: Reply<'_> = reply(421, (4, 7, 0), &text);
                self.answer(server::Input::RefuseAndClose(refusal));
            }
            Whose::User => {
                let text = format!("Too many failed logins for this user, try again in {wait}");
                self.answer(server::Input::Refuse(reply(454, (4, 7, 0), &text)));
            }
        }
    }

    fn logins(&self) -> &crate::login::Logins {
        &self.shard.shared().logins
    }
}

/// How long to wait, rounded up: `40 seconds`, `15 minutes`, `3 hours`.
pub(super) fn in_words(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let (n, unit) = match seconds {
        0..=119 => (seconds.max(1), "second"),
        120..=7199 => (seconds.div_ceil(60), "minute"),
        _ => (seconds.div_ceil(3600), "hour"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_in_words() {
        for (ms, words) in [
            (0, "1 second"),
            (1, "1 second"),
            (1001, "2 seconds"),
            (119_000, "119 seconds"),
            (119_001, "2 minutes"),
            (900_000, "15 minutes"),
            (7_200_000, "2 hours"),
            (7_200_001, "3 hours"),
        ] {
            assert_eq!(in_words(Duration::from_millis(ms)), words, "{ms}");
        }
    }
}
