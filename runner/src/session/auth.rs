//! AUTH to a smart host: the lines that the machine asks for.
//!
//! Users and passwords stay with [`SmartHost`]; a line with a password is wiped when it is sent.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courser_core::limits::OUT_BYTES_MIN;
use courser_core::smtp::client::{AuthLine, AuthLines, Input};
use courser_core::smtp::sasl::client::{Exchange, Fault};
use courser_core::smtp::sasl::{Channel, Mechanism, Nonce};
use zeroize::Zeroizing;

use super::link::Link;
use crate::login::{Busy, SmartHost, random};
use crate::net::clock;
use crate::shard::Shard;

/// While others log in here, keys wait: so often,
const BUSY_TRIES: u32 = 30;
/// and so long each time.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Who we are, until the peer has taken it.
pub struct Identity {
    shard: Rc<Shard>,
    host: Arc<SmartHost>,
    lines: Option<AuthLines>,
}

impl Identity {
    /// The user and password of `host`.
    pub fn new(shard: Rc<Shard>, host: Arc<SmartHost>) -> Self {
        Self {
            shard,
            host,
            lines: None,
        }
    }

    /// The next line, in answer to a challenge or the first; whether it is the last.
    async fn line(
        &mut self,
        mechanism: Mechanism,
        challenge: Option<&[u8]>,
        plus_offered: bool,
        channel: Channel,
    ) -> Result<(Zeroizing<Vec<u8>>, bool), Fault> {
        let lines = self.lines.get_or_insert_with(|| {
            let nonce = Nonce::of_random(random());
            AuthLines::new(Exchange::new(mechanism, nonce, channel, plus_offered))
        });
        let mut out = Zeroizing::new(vec![0; OUT_BYTES_MIN]);
        let mut line = lines.next(challenge, self.host.login(), &mut out);
        if line == AuthLine::Keys {
            let recipe = lines.recipe().ok_or(Fault::OutOfTurn)?;
            let keys = match self.host.keys(&recipe) {
                Some(keys) => keys,
                None => {
                    let checker = &self.shard.shared().logins.checker;
                    let mut tries = 0;
                    let keys = loop {
                        match checker.keys(self.host.password(), recipe.clone()).await {
                            Ok(keys) => break keys,
                            Err(Busy) if tries < BUSY_TRIES => tries += 1,
                            Err(Busy) => return Err(Fault::OutOfTurn),
                        }
                        tokio::time::sleep(BUSY_WAIT).await;
                    };
                    self.host.keep(keys.clone());
                    keys
                }
            };
            line = lines.with_keys(self.host.login(), &keys, &mut out);
        }
        match line {
            AuthLine::Send { len, complete } => {
                out.truncate(len);
                Ok((out, complete))
            }
            AuthLine::Keys => Err(Fault::OutOfTurn),
            AuthLine::Failed(fault) => Err(fault),
        }
    }
}

impl Link {
    /// Sends the line that the machine asked for.
    pub(super) async fn authenticate(&mut self, mechanism: Mechanism) {
        let plus_offered = self.machine().capabilities().auth.scram_sha_256_plus;
        let challenge = self.machine().challenge().map(<[u8]>::to_vec);
        // Without TLS there is nothing to bind to.
        let channel = self.stream().channel();
        let line = match self.identity() {
            Some(identity) => {
                identity
                    .line(mechanism, challenge.as_deref(), plus_offered, channel)
                    .await
            }
            // The options ask for AUTH only where there is one.
            None => Err(Fault::OutOfTurn),
        };
        let input = match line {
            Ok((line, complete)) => {
                if !self.send(vec![Bytes::from_owner(line)]).await {
                    // The peer is gone, which the next receive tells.
                    return;
                }
                Input::AuthSent { complete }
            }
            Err(fault) => {
                tracing::debug!(%mechanism, %fault, "authentication is given up");
                Input::AuthFailed
            }
        };
        let _ = self.machine().handle(clock::now(), input);
    }
}
