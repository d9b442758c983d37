//! `[listener.auth]`, `[route.auth]` and `[logins]`: who logs in here, who we are elsewhere, and what
//! becomes of those who fail.

use std::path::PathBuf;
use std::time::Duration;

use courser_core::smtp::extension::AuthMechanisms;
use courser_core::smtp::sasl::Mechanism;
use courser_core::traffic::logins;

use super::names::words;
use super::tree::{Section, Setting};

words!(Mechanism {
    "PLAIN" => Plain, "LOGIN" => Login,
    "SCRAM-SHA-256" => ScramSha256, "SCRAM-SHA-256-PLUS" => ScramSha256Plus
});

/// The mechanisms of a list.
pub fn mechanisms(list: &[Mechanism]) -> AuthMechanisms {
    let mut all = AuthMechanisms::default();
    list.iter().for_each(|mechanism| mechanism.add_to(&mut all));
    all
}

/// `[listener.auth]`: users may log in.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerAuth {
    /// The file of the users.
    pub users: PathBuf,
    /// Mechanisms that are offered. Empty: what every user can do.
    pub mechanisms: Vec<Mechanism>,
    /// Nobody may hand in without it, wherever he comes from.
    pub required: bool,
    /// Logging in is offered without TLS, too.
    pub without_tls: bool,
}

impl ListenerAuth {
    /// `None` where the listener has no such section.
    pub(super) fn read(mut s: Section<'_, '_>) -> Option<Self> {
        if s.is_absent() {
            return None;
        }
        let users: Option<PathBuf> = s.required(
            "users",
            "name the file of the users: users = \"/etc/courser/users.toml\"; `courser user add` makes it",
        );
        let read = Self {
            users: users.unwrap_or_default(),
            mechanisms: s.get("mechanisms", Vec::new()),
            required: s.get("required", false),
            without_tls: s.get("without_tls", false),
        };
        s.finish();
        Some(read)
    }
}

/// `[route.auth]`: who we are to the route's hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteAuth {
    /// The user.
    pub user: String,
    /// The file with the password, and nothing else.
    pub password_file: PathBuf,
    /// Mechanisms that may be used. Empty: all.
    pub mechanisms: Vec<Mechanism>,
    /// The password is sent without TLS, too.
    pub without_tls: bool,
}

impl RouteAuth {
    /// `None` where the route has no such section.
    pub(super) fn read(mut s: Section<'_, '_>) -> Option<Self> {
        if s.is_absent() {
            return None;
        }
        let user: Option<String> = s.required("user", "say who we are there: user = \"…\"");
        let password_file: Option<PathBuf> = s.required(
            "password_file",
            "name a file with the password, which only the server may read: \
             password_file = \"/etc/courser/relay.password\"",
        );
        if s.has("password") {
            // It would be shown wherever the configuration is.
            let right = "write it into a file of its own and name that: password_file = \"…\"";
            s.wrong(
                "password",
                "the configuration is no place for a password",
                right,
            );
            s.known("password");
        }
        let read = Self {
            user: user.unwrap_or_default(),
            password_file: password_file.unwrap_or_default(),
            mechanisms: s.get("mechanisms", Vec::new()),
            without_tls: s.get("without_tls", false),
        };
        let longest = courser_core::limits::SASL_USER_BYTES_MAX;
        let bad = read.user.is_empty() || read.user.contains(char::is_control);
        if s.has("user") && (bad || read.user.len() > longest) {
            let right = format!("write 1 to {longest} bytes without control characters");
            s.wrong("user", "is no name of a user", right);
        }
        s.finish();
        Some(read)
    }
}

/// `[logins]`: what becomes of those who fail to log in.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginLimits(pub logins::Limits);

impl LoginLimits {
    pub(super) fn read(mut s: Section<'_, '_>) -> Self {
        let usual = logins::Limits::default();
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let minute = Duration::from_secs(60);
        let read = logins::Limits {
            per_network: s.bounded("failures_per_address", usual.per_network, 1..=1_000_000),
            per_user: s.bounded("failures_per_user", usual.per_user, 1..=1_000_000),
            block: s.bounded("block", usual.block, second..=day),
            block_max: s.bounded("block_max", usual.block_max, second..=7 * day),
            delay: s.bounded("delay", usual.delay, Duration::ZERO..=minute),
            delay_max: s.bounded("delay_max", usual.delay_max, Duration::ZERO..=minute),
        };
        for (key, most, least_key, least) in [
            ("block_max", read.block_max, "block", read.block),
            ("delay_max", read.delay_max, "delay", read.delay),
        ] {
            if most < least {
                let what = format!(
                    "{} is less than `{least_key}`, {}",
                    Setting::show(&most),
                    Setting::show(&least)
                );
                s.wrong(key, what, format!("make it at least `{least_key}`"));
            }
        }
        s.finish();
        Self(read)
    }
}
