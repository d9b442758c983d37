//! Who we are to the hosts of a route.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use courser_core::limits::SASL_PASSWORD_BYTES_MAX;
use courser_core::smtp::client::Auth;
use courser_core::smtp::sasl::Mechanism;
use courser_core::smtp::sasl::client::Login;
use courser_core::smtp::sasl::prepare;
use courser_core::smtp::sasl::scram::{ClientKeys, Recipe};
use zeroize::Zeroizing;

use super::LoginFault;
use crate::config::{RouteAuth, mechanisms};
use crate::private::{self, Unread};

/// User and password for one route.
pub struct SmartHost {
    user: String,
    password: Zeroizing<String>,
    auth: Auth,
    /// SCRAM's keys of the password, as the last server wanted them: they take long to make.
    keys: Mutex<Option<ClientKeys>>,
}

impl SmartHost {
    /// Reads the password of the route for `domain`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(domain: &str, auth: &RouteAuth, before: Option<&Self>) -> Result<Self, LoginFault> {
        let file = auth.password_file.display();
        let wrong =
            |what: String| LoginFault(format!("the password of route {domain}, {file}: {what}"));
        // With its line end.
        let most = SASL_PASSWORD_BYTES_MAX as u64 + 2;
        let what = "a file with the password and nothing else";
        let harm = format!("send as {:?} there", auth.user);
        let bytes = private::read(&auth.password_file, most, what, &harm);
        let bytes = bytes.map_err(|unread| match unread {
            Unread::Missing => wrong("the file is not there; write the password into it".into()),
            Unread::Wrong(what) => wrong(what),
        })?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| wrong("is no text in UTF-8; write the password into it".into()))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(wrong("is empty; write the password into it".into()));
        }
        if text.contains('\n') {
            return Err(wrong(
                "has several lines; only the password belongs there".into(),
            ));
        }
        let prepared =
            |text: &str, what: &str| prepare(text).map_err(|e| wrong(format!("{what} has {e}")));
        let password = prepared(text, "it")?;
        let user = prepared(&auth.user, "the user")?;
        let allowed = match &*auth.mechanisms {
            [] => mechanisms(&Mechanism::BEST_FIRST),
            some => mechanisms(some),
        };
        let this = Self {
            user: (*user).clone(),
            password,
            auth: Auth {
                mechanisms: allowed,
                without_tls: auth.without_tls,
            },
            keys: Mutex::default(),
        };
        if let Some(before) = before.filter(|b| b.password == this.password) {
            *this.known() = before.known().clone();
        }
        Ok(this)
    }

    /// User and password.
    pub fn login(&self) -> Login<'_> {
        Login {
            user: &self.user,
            password: self.password.as_bytes(),
        }
    }

    /// The password, to make keys of.
    pub fn password(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.password.as_bytes().to_vec())
    }

    /// What the delivery session is told.
    pub const fn auth(&self) -> Auth {
        self.auth
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<ClientKeys>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of this recipe, if they were made before.
    pub fn keys(&self, recipe: &Recipe) -> Option<ClientKeys> {
        self.known().clone().filter(|keys| keys.recipe() == recipe)
    }

    /// Keeps keys for the next session.
    pub fn keep(&self, keys: ClientKeys) {
        *self.known() = Some(keys);
    }
}

/// Says who we are, and not the password.
impl fmt::Debug for SmartHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmartHost")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn passwords_are_read_without_their_line_end_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let auth = RouteAuth {
            user: "we".into(),
            password_file: file.clone(),
            mechanisms: Vec::new(),
            without_tls: false,
        };
        let load = |text: &[u8], mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            SmartHost::load("*", &auth, None)
        };
        for text in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            let host = load(text.as_bytes(), 0o600).unwrap();
            assert_eq!(host.login().password, b"hunter2");
            assert_eq!(format!("{host:?}"), "SmartHost { user: \"we\", .. }");
        }
        assert_eq!(
            load(b" two words ", 0o640).unwrap().login().password,
            b" two words "
        );
        for (text, mode, words) in [
            (&b"hunter2"[..], 0o644, "chmod 600"),
            (b"", 0o600, "is empty"),
            (b"\n", 0o600, "is empty"),
            (b"hunter2\nmore\n", 0o600, "several lines"),
            (b"\xffhunter2", 0o600, "UTF-8"),
            (b"hunter2\x07", 0o600, "typed again"),
            (&[b'h'; 1027], 0o600, "more than 1026 bytes"),
        ] {
            let said = load(text, mode).unwrap_err().to_string();
            assert!(said.contains(words) && said.contains("route *"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        fs::remove_file(&file).unwrap();
        let said = SmartHost::load("*", &auth, None).unwrap_err().to_string();
        assert!(said.contains("not there"), "{said}");
    }

    #[test]
    fn keys_are_kept_for_one_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "hunter2").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let auth = RouteAuth {
            user: "we".into(),
            password_file: file.clone(),
            mechanisms: Vec::new(),
            without_tls: false,
        };
        let host = SmartHost::load("*", &auth, None).unwrap();
        let recipe = |salt: &[u8]| Recipe::new(salt, 4096).unwrap();
        assert!(host.keys(&recipe(b"a")).is_none());
        host.keep(ClientKeys::derive(b"hunter2", recipe(b"a")));
        assert!(host.keys(&recipe(b"a")).is_some() && host.keys(&recipe(b"b")).is_none());
        let same = SmartHost::load("*", &auth, Some(&host)).unwrap();
        assert!(same.keys(&recipe(b"a")).is_some());
        fs::write(&file, "hunter3").unwrap();
        let other = SmartHost::load("*", &auth, Some(&host)).unwrap();
        assert!(other.keys(&recipe(b"a")).is_none());
    }
}
