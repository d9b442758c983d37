//! One exchange as the client.
//!
//! ```text
//!                  PLAIN
//!   Begin ────┬────────────────────────────────────────► Complete
//!             │ LOGIN    user           password         ▲
//!             ├──────────────► Password ─────────────────┤
//!             │ SCRAM      server-first      keys    v=  │
//!             └─────────► First ────────► Keys ──► Final ┘
//! ```
//!
//! From everywhere a challenge that is none of the mechanism's leads to `Failed`: the server can't
//! do it, or isn't the server.

use core::fmt::{self, Write};

use subtle::ConstantTimeEq;

use super::message::{self, ServerFirst};
use super::scram::{BadRecipe, ClientKeys, Key, Recipe};
use super::{Channel, Mechanism, Nonce, Secret, base64};
use crate::limits::{SASL_MESSAGE_BYTES_MAX, SCRAM_NONCE_BYTES_MAX};
use crate::smtp::Buffer;

/// Longest server-first message that is read, octets: two nonces, a salt, and some more.
const SERVER_FIRST_BYTES_MAX: usize = 768;

/// Who we are to a server.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The user, [prepared](super::prepare()).
    pub user: &'a str,
    /// The password, [prepared](super::prepare()).
    pub password: &'a [u8],
}

/// Says who, and not the password.
impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// One AUTH command, from its mechanism to its last line. What it says goes into AUTH and the
/// lines behind it; [`smtp::client::AuthLines`](crate::smtp::client::AuthLines) writes those.
///
/// # The order of calls
///
/// 1. [`Exchange::new`], then [`begin`](Exchange::begin).
/// 2. [`challenge`](Exchange::challenge) with each challenge of the server. After [`Step::Keys`],
///    make [`ClientKeys`] of [`recipe`](Exchange::recipe) and give them to
///    [`keys`](Exchange::keys).
/// 3. When the server says yes, it counts only if [`is_complete`](Exchange::is_complete): with
///    SCRAM, the server has to prove that it knows the password, too (RFC 5802 3).
pub struct Exchange {
    mechanism: Mechanism,
    channel: Channel,
    nonce: Nonce,
    plus_offered: bool,
    state: State,
    server_first: heapless::Vec<u8, SERVER_FIRST_BYTES_MAX>,
    signature: Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begin,
    /// LOGIN: will be asked for the user.
    User,
    /// LOGIN: will be asked for the password.
    Password,
    /// SCRAM: the server's first message is to come.
    First,
    Keys,
    /// SCRAM: the server's proof is to come.
    Final,
    Complete,
    Failed,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the first so many bytes of `out`; they are base64, and none of them is an empty
    /// response.
    Response(usize),
    /// Nothing to say before the server has said something.
    Wait,
    /// Make the keys of [`Exchange::recipe`], for [`Exchange::keys`]; it may take half a second of
    /// a processor.
    Keys,
    /// Cancel; the server can't be trusted, or doesn't speak the mechanism.
    Failed(Fault),
}

/// Why an exchange failed on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What the server said is no message of the mechanism.
    Malformed,
    /// It wants keys made of too few or too many iterations.
    Recipe(BadRecipe),
    /// It could not prove that it knows the password.
    Unproven,
    /// User and password are too long, or `out` is too small.
    TooLong,
    /// There is no TLS connection that SCRAM-SHA-256-PLUS could be bound to.
    Channel,
    /// The call was not the one that the last step asked for.
    OutOfTurn,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "what the server said is no message of the mechanism",
            Self::Recipe(bad) => {
                return write!(f, "the server wants keys that are not made: {bad}");
            }
            Self::Unproven => "the server could not prove that it knows the password",
            Self::TooLong => "user and password are too long",
            Self::Channel => "there is no TLS connection to bind to",
            Self::OutOfTurn => "the exchange was not gone on with in order",
        })
    }
}
impl core::error::Error for Fault {}

impl Exchange {
    /// Before anything was said. `channel` is the TLS connection as far as the caller can tell;
    /// `plus_offered` is whether the server offers SCRAM-SHA-256-PLUS, so that it sees when
    /// somebody between took that away (RFC 5802 6).
    pub fn new(mechanism: Mechanism, nonce: Nonce, channel: Channel, plus_offered: bool) -> Self {
        Self {
            mechanism,
            channel,
            nonce,
            plus_offered,
            state: State::Begin,
            server_first: heapless::Vec::new(),
            signature: [0; 32],
        }
    }

    /// Which mechanism it is of.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Whether the server's yes counts.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// What [`ClientKeys`] are to be made with, after [`Step::Keys`].
    pub fn recipe(&self) -> Option<Recipe> {
        let first = core::str::from_utf8(&self.server_first).ok()?;
        ServerFirst::parse(first)?.recipe()?.ok()
    }

    /// Nothing was said after all: the initial response goes behind an empty challenge.
    pub(in crate::smtp) fn rewind(&mut self) {
        self.state = State::Begin;
    }

    /// The initial response.
    pub fn begin(&mut self, login: Login<'_>, out: &mut [u8]) -> Step {
        let next = match (self.state, self.mechanism) {
            (State::Begin, Mechanism::Plain) => self.plain(login, out),
            (State::Begin, Mechanism::Login) => {
                self.state = State::User;
                Ok(Step::Wait)
            }
            (State::Begin, Mechanism::ScramSha256 | Mechanism::ScramSha256Plus) => {
                self.client_first(login, out)
            }
            _ => Err(Fault::OutOfTurn),
        };
        self.taken(next)
    }

    /// The answer to a challenge: the text behind 334.
    pub fn challenge(&mut self, login: Login<'_>, text: &[u8], out: &mut [u8]) -> Step {
        let next = match self.state {
            // Servers ask in words of their own, some of them not in base64.
            State::User => {
                self.state = State::Password;
                respond(login.user.as_bytes(), out)
            }
            State::Password => {
                self.state = State::Complete;
                respond(login.password, out)
            }
            State::First => self.server_first(text),
            State::Final => self.server_final(text),
            _ => Err(Fault::OutOfTurn),
        };
        self.taken(next)
    }

    /// The answer that needs keys.
    pub fn keys(&mut self, login: Login<'_>, keys: &ClientKeys, out: &mut [u8]) -> Step {
        let next = match self.state {
            State::Keys => self.client_final(login, keys, out),
            _ => Err(Fault::OutOfTurn),
        };
        self.taken(next)
    }

    fn taken(&mut self, next: Result<Step, Fault>) -> Step {
        next.unwrap_or_else(|fault| {
            self.state = State::Failed;
            Step::Failed(fault)
        })
    }

    fn plain(&mut self, login: Login<'_>, out: &mut [u8]) -> Result<Step, Fault> {
        let message = Secret::<SASL_MESSAGE_BYTES_MAX>::filled(|room| {
            let mut room = Buffer::new(room);
            room.put(b"\0").ok()?;
            room.put(login.user.as_bytes()).ok()?;
            room.put(b"\0").ok()?;
            room.put(login.password).ok()?;
            Some(room.written())
        });
        let message = message.ok_or(Fault::TooLong)?;
        self.state = State::Complete;
        respond(&message, out)
    }

    fn client_first(&mut self, login: Login<'_>, out: &mut [u8]) -> Result<Step, Fault> {
        let mut message = heapless::String::<SASL_MESSAGE_BYTES_MAX>::new();
        self.put_header(&mut message)?;
        self.put_bare(login, &mut message)?;
        self.state = State::First;
        respond(message.as_bytes(), out)
    }

    /// RFC 5802 6: whether we bind, and whether we would have.
    fn put_header(&self, out: &mut impl Write) -> Result<(), Fault> {
        let put = match self.mechanism {
            Mechanism::ScramSha256Plus => {
                let (name, _) = self.channel.best().ok_or(Fault::Channel)?;
                write!(out, "p={name},,")
            }
            _ if self.channel.is_none() || self.plus_offered => out.write_str("n,,"),
            _ => out.write_str("y,,"),
        };
        put.map_err(|_| Fault::TooLong)
    }

    fn put_bare(&self, login: Login<'_>, out: &mut impl Write) -> Result<(), Fault> {
        let mut put = || {
            out.write_str("n=")?;
            message::escape(login.user, out)?;
            write!(out, ",r={}", self.nonce.as_str())
        };
        put().map_err(|_| Fault::TooLong)
    }

    fn server_first(&mut self, text: &[u8]) -> Result<Step, Fault> {
        let message = base64::decode::<SERVER_FIRST_BYTES_MAX>(text).ok_or(Fault::Malformed)?;
        let first = core::str::from_utf8(&message).map_err(|_| Fault::Malformed)?;
        let first = ServerFirst::parse(first).ok_or(Fault::Malformed)?;
        let recipe = first.recipe().ok_or(Fault::Malformed)?;
        recipe.map_err(Fault::Recipe)?;
        // Ours, and at least something of the server's (RFC 5802 5.1).
        let ours = self.nonce.as_str();
        let theirs = first.nonce.strip_prefix(ours).unwrap_or_default();
        if theirs.is_empty() || theirs.len() > SCRAM_NONCE_BYTES_MAX {
            return Err(Fault::Malformed);
        }
        let kept = self.server_first.extend_from_slice(&message);
        kept.map_err(|_| Fault::Malformed)?;
        self.state = State::Keys;
        Ok(Step::Keys)
    }

    fn client_final(
        &mut self,
        login: Login<'_>,
        keys: &ClientKeys,
        out: &mut [u8],
    ) -> Result<Step, Fault> {
        if self.recipe().as_ref() != Some(keys.recipe()) {
            return Err(Fault::OutOfTurn);
        }
        let mut binding = heapless::Vec::<u8, 128>::new();
        let mut header = heapless::String::<32>::new();
        self.put_header(&mut header)?;
        let bound = match self.mechanism {
            Mechanism::ScramSha256Plus => self.channel.best().map(|(_, value)| value),
            _ => None,
        };
        let put = binding.extend_from_slice(header.as_bytes());
        put.map_err(|_| Fault::TooLong)?;
        let put = binding.extend_from_slice(bound.unwrap_or_default());
        put.map_err(|_| Fault::TooLong)?;

        let mut message = [0; SASL_MESSAGE_BYTES_MAX];
        let mut room = Buffer::new(&mut message);
        let mut text = [0; 176];
        let mut put = || {
            let first = core::str::from_utf8(&self.server_first).ok()?;
            let nonce = ServerFirst::parse(first)?.nonce;
            room.put(b"c=").ok()?;
            let n = base64::encode(&binding, &mut text)?;
            room.put(text.get(..n)?).ok()?;
            room.put(b",r=").ok()?;
            room.put(nonce.as_bytes()).ok()
        };
        put().ok_or(Fault::TooLong)?;
        let written = room.written();

        let mut bare = heapless::String::<SASL_MESSAGE_BYTES_MAX>::new();
        self.put_bare(login, &mut bare)?;
        let without_proof = message.get(..written).unwrap_or_default();
        let signed: [&[u8]; 5] = [
            bare.as_bytes(),
            b",",
            &self.server_first,
            b",",
            without_proof,
        ];
        let proof = keys.proof(&signed);
        self.signature = keys.signature(&signed);
        let mut room = Buffer::new(message.get_mut(written..).unwrap_or_default());
        let n = base64::encode(&proof, &mut text).ok_or(Fault::TooLong)?;
        let proof = text.get(..n).unwrap_or_default();
        let put = room.put(b",p=").and_then(|()| room.put(proof));
        put.map_err(|_| Fault::TooLong)?;
        let written = written + room.written();
        self.state = State::Final;
        respond(message.get(..written).unwrap_or_default(), out)
    }

    fn server_final(&mut self, text: &[u8]) -> Result<Step, Fault> {
        let message = base64::decode::<SERVER_FIRST_BYTES_MAX>(text).ok_or(Fault::Malformed)?;
        let message = core::str::from_utf8(&message).map_err(|_| Fault::Malformed)?;
        let signature = message::server_final(message).ok_or(Fault::Unproven)?;
        if !bool::from(signature.ct_eq(&self.signature)) {
            return Err(Fault::Unproven);
        }
        self.state = State::Complete;
        Ok(Step::Response(0))
    }
}

/// No secrets, and no names.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("mechanism", &self.mechanism)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

fn respond(message: &[u8], out: &mut [u8]) -> Result<Step, Fault> {
    base64::encode(message, out)
        .map(Step::Response)
        .ok_or(Fault::TooLong)
}
