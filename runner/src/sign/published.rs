//! Whether the keys are published: what DNS says, against what it should.
//!
//! Receivers can check a signature only with its record. [`watch`] asks for it from time to time, for
//! keys that sign and for those that will soon, so that a switch of keys doesn't go wrong unseen.

use std::rc::Rc;
use std::time::Duration;

use courser_core::auth::dkim::KeyRecord;
use courser_core::dns::{Kind, Name, Outcome, Question, Records};
use courser_core::time::Wall;

use super::Key;
use crate::net::clock;
use crate::shard::Shard;

/// How often the records are asked for.
const WATCH_EVERY: Duration = Duration::from_secs(3600);
/// How long after the start or a reload.
const WATCH_FIRST: Duration = Duration::from_secs(5);
/// A key that begins within this time should be published by now, seconds.
const AHEAD_S: i64 = 7 * 86_400;
/// What [`Published::Revoked`] means for a key that signs.
pub const REVOKED: &str = "the record revokes the key: its p= is empty";
/// Warnings at the most; more of them say nothing more.
const WARNINGS_MAX: usize = 20;

/// How a key stands in DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// As it should.
    Right,
    /// There is no record.
    Missing,
    /// There is one, and it says that the key is no longer good.
    Revoked,
    /// There is one that is not this key's; in words.
    Wrong(String),
    /// DNS doesn't say; in words.
    Unknown(String),
}

/// Where the record of a key is asked for.
pub fn question(key: &Key) -> Option<Question> {
    let name = Name::parse(&key.record_name()).ok()?;
    Some(Question::new(name, Kind::Txt))
}

/// How a key stands in DNS, from the answer to its [`question`].
pub fn published(key: &Key, outcome: &Outcome) -> Published {
    let texts = match outcome {
        Outcome::Found(Records::Txt(texts)) => texts,
        Outcome::NoData | Outcome::NoName => return Published::Missing,
        Outcome::Failed(why) => return Published::Unknown(why.to_string()),
        _ => return Published::Unknown("the answer is about something else".into()),
    };
    let [text] = &texts[..] else {
        return Published::Wrong(format!(
            "there are {} TXT records of this name, and receivers may take any of them; leave one",
            texts.len()
        ));
    };
    match KeyRecord::parse(text) {
        Err(error) => Published::Wrong(format!("the record can't be read: {error}")),
        Ok(there) if there.is_revoked() => Published::Revoked,
        // The key may be written in two ways (RFC 6376 3.6.1).
        Ok(there) if there.key().ok() != key.record.key().ok() => Published::Wrong(
            "the record holds another key; publish what `courser dkim record` prints".into(),
        ),
        Ok(there) if !there.sha256 || !there.email => Published::Wrong(
            "the record doesn't allow sha256, or not for mail (h=, s=); leave these tags out"
                .into(),
        ),
        Ok(there) if there.testing => Published::Wrong(
            "the record says t=y: receivers treat the mail as if it were not signed; take it out"
                .into(),
        ),
        Ok(_) => Published::Right,
    }
}

/// Asks for the records from time to time, for ever, and says which are not right.
pub async fn watch(shard: Rc<Shard>) {
    loop {
        // A start and a reload have better things to do first.
        tokio::time::sleep(WATCH_FIRST).await;
        shard.shared().warn_of_keys(look(&shard).await);
        let bell = shard.shared().keys_bell.notified();
        let _ = tokio::time::timeout(WATCH_EVERY, bell).await;
    }
}

async fn look(shard: &Shard) -> Vec<String> {
    let keys = shard.shared().keys();
    let now = clock::wall();
    let mut warnings = Vec::new();
    for key in keys.iter().filter(|k| matters(k, now)) {
        let Some(question) = question(key) else {
            continue;
        };
        let answer = shard.ask_dns(question).await;
        let what = match published(key, &answer.outcome) {
            Published::Right => continue,
            Published::Missing => "is not published".to_owned(),
            Published::Revoked => REVOKED.to_owned(),
            Published::Wrong(why) => why,
            // What can't be known now is asked again.
            Published::Unknown(_) => continue,
        };
        let when = match key.from {
            Some(from) if now < from.0 => format!(", and is to sign from {from}"),
            _ => " while it signs mail".to_owned(),
        };
        warnings.push(format!(
            "the DKIM key {}{when}: {what}; see `courser dkim check`",
            key.record_name()
        ));
        if warnings.len() == WARNINGS_MAX {
            break;
        }
    }
    warnings
}

fn matters(key: &Key, now: Wall) -> bool {
    let soon = key.from.is_some_and(|from| from.0 <= now.plus_s(AHEAD_S));
    key.is_active(now) || (soon && key.until.is_none_or(|until| now < until.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::Keys;
    use std::os::unix::fs::PermissionsExt;

    const RSA: &str = include_str!("../../../core/src/auth/dkim/test-rsa-2048.pem");

    #[test]
    fn what_dns_may_say() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.pem");
        std::fs::write(&file, RSA).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "hostname = \"a.example\"\n[[dkim.key]]\ndomain = \"a.example\"\nselector = \"s\"\n\
             file = \"{}\"\n",
            file.display()
        );
        let keys = Keys::load(&crate::config::parse(&text, "test").unwrap().dkim).unwrap();
        let key = keys.iter().next().unwrap();
        let said = |texts: &[String]| {
            let texts = texts.iter().map(|t| t.clone().into_bytes().into());
            published(key, &Outcome::Found(Records::Txt(texts.collect())))
        };
        let record = key.record.to_string();
        assert_eq!(said(std::slice::from_ref(&record)), Published::Right);
        // The bare RSAPublicKey begins after the 24 octets of a SubjectPublicKeyInfo's head.
        let bare = KeyRecord::new(key.record.key_type, key.record.public[24..].to_vec());
        assert_ne!(bare.public, key.record.public);
        assert_eq!(said(&[bare.to_string()]), Published::Right);
        assert_eq!(said(&["v=DKIM1; k=rsa; p=".into()]), Published::Revoked);
        let wrong = |texts: &[String], words: &str| {
            let Published::Wrong(why) = said(texts) else {
                panic!("{texts:?}")
            };
            assert!(why.contains(words), "{why}");
        };
        let other = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        wrong(&[other.into()], "another key");
        wrong(&[record.replacen("p=MIIB", "p=MIIC", 1)], "another key");
        wrong(&[record.clone(), record.clone()], "2 TXT records");
        wrong(&[record.replace("k=rsa", "k=rsa; t=y")], "t=y");
        wrong(&[record.replace("k=rsa", "h=sha1; k=rsa")], "sha256");
        wrong(&["v=DKIM1".into()], "can't be read");
        assert_eq!(published(key, &Outcome::NoName), Published::Missing);
        let late = Outcome::Failed(courser_core::dns::Failure::Timeout);
        assert!(matches!(published(key, &late), Published::Unknown(_)));
    }
}
