//! One exchange as the server.
//!
//! ```text
//!                        PLAIN, LOGIN                        right
//!   Begin ─────────┬──────────────────────► Check ─────────────────► Done
//!                  │ SCRAM                                           ▲
//!                  └───────► Keys ──► proof ──────► signature ───────┘
//!                            server-first    good          ""
//! ```
//!
//! From everywhere a mistake of the client's, and an input out of turn, lead to `Failed`.

use core::fmt::{self, Write};

use subtle::ConstantTimeEq;

use super::message::{self, Binding, ClientFinal, ClientFirst};
use super::scram::Keys;
use super::{Channel, Mechanism, Nonce, Secret, base64};
use crate::limits::{
    CHANNEL_BINDING_BYTES_MAX, SASL_MESSAGE_BYTES_MAX, SASL_PASSWORD_BYTES_MAX, SASL_USER_BYTES_MAX,
};
use crate::smtp::Buffer;

/// One AUTH command, from its mechanism to whether the client is who it says.
///
/// # The order of calls
///
/// 1. [`Exchange::new`] for [`Event::Auth`](crate::smtp::server::Event::Auth), then
///    [`step`](Exchange::step) with [`Input::Response`] and its initial response.
/// 2. Do what the [`Output`] says. Each gives one more input, until [`Output::Done`] or
///    [`Output::Failed`]. When the session tells that the client cancelled, drop the exchange.
///
/// ```
/// use courser_core::smtp::sasl::server::{Exchange, Input, Output};
/// use courser_core::smtp::sasl::{Channel, Mechanism, Nonce};
///
/// let nonce = Nonce::of_random([7; 18]); // from your source of chance
/// let mut exchange = Exchange::new(Mechanism::Plain, nonce, Channel::none());
/// let mut out = [0; 512];
/// // AUTH PLAIN AGFubgBzZXNhbWU=
/// let asked = exchange.step(Input::Response(Some(b"AGFubgBzZXNhbWU=")), &mut out);
/// assert_eq!(asked, Output::Check);
/// assert_eq!((exchange.user(), exchange.password()), ("ann", &b"sesame"[..]));
/// // Looked up, and compared with a hash on another thread:
/// assert_eq!(exchange.step(Input::Checked(true), &mut out), Output::Done);
/// ```
pub struct Exchange {
    mechanism: Mechanism,
    channel: Channel,
    nonce: Nonce,
    state: State,
    user: heapless::String<SASL_USER_BYTES_MAX>,
    password: Secret<SASL_PASSWORD_BYTES_MAX>,
    /// What the client's `c=` must say.
    binding: heapless::Vec<u8, { SASL_MESSAGE_BYTES_MAX + CHANNEL_BINDING_BYTES_MAX }>,
    /// The first two messages of SCRAM, as they are signed.
    transcript: heapless::String<SASL_MESSAGE_BYTES_MAX>,
    /// Where the nonce of both stands in it.
    both_nonces: (usize, usize),
    keys: Option<Keys>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begin,
    /// PLAIN: the message is to come. LOGIN: the user.
    First,
    /// LOGIN: the password.
    Password,
    Check,
    Keys,
    Proof,
    /// SCRAM: the client has the signature and says nothing more.
    Last,
    Over,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The client said this in base64; `None`: its AUTH had no initial response.
    Response(Option<&'a [u8]>),
    /// To [`Output::Keys`]: the user's keys, or [made up](Keys::made_up) ones where there is no
    /// such user.
    Keys(&'a Keys),
    /// To [`Output::Check`]: whether the user has this password.
    Checked(bool),
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send the first so many bytes of `out` as a challenge; they are base64. The client's answer
    /// is the next input.
    Challenge(usize),
    /// Look [`Exchange::user`] up and give [`Input::Keys`].
    Keys,
    /// See whether [`Exchange::user`] has [`Exchange::password`], and give [`Input::Checked`].
    /// Whoever isn't there must take as long as who is.
    Check,
    /// The client is [`Exchange::user`].
    Done,
    /// It isn't.
    Failed(Fault),
}

/// Why an exchange failed. The client hears one and the same of all of them but
/// [`Fault::Encoding`], so that it can't tell who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What it said isn't base64, or is too long: 501 5.5.2 (RFC 4954 4).
    Encoding,
    /// What it said is no message of the mechanism.
    Malformed,
    /// It wants to act as somebody else than whose password it has.
    Identity,
    /// It and we see different TLS connections, or it was made to think that we can't bind
    /// (RFC 5802 6): somebody may stand between.
    Channel,
    /// Wrong password, or no such user.
    Password,
    /// The caller's input was not what the last output asked for.
    OutOfTurn,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "what the client said is not base64, or is too long",
            Self::Malformed => "what the client said is no message of the mechanism",
            Self::Identity => "the client wants to act as somebody else",
            Self::Channel => "the client sees another TLS connection, or none",
            Self::Password => "wrong password, or no such user",
            Self::OutOfTurn => "the exchange was not gone on with in order",
        })
    }
}
impl core::error::Error for Fault {}

/// Messages are decoded to this; a password may be in them.
type Message = Secret<SASL_MESSAGE_BYTES_MAX>;

impl Exchange {
    /// Before anything was said. `nonce` is for SCRAM; `channel` is the TLS connection, where one
    /// is and SCRAM-SHA-256-PLUS was offered over it.
    pub fn new(mechanism: Mechanism, nonce: Nonce, channel: Channel) -> Self {
        Self {
            mechanism,
            channel,
            nonce,
            state: State::Begin,
            user: heapless::String::new(),
            password: Secret::new(),
            binding: heapless::Vec::new(),
            transcript: heapless::String::new(),
            both_nonces: (0, 0),
            keys: None,
        }
    }

    /// Which mechanism it is of.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Who the client says that it is; empty until it has. A stranger's word until
    /// [`Output::Done`], and perhaps a password that was typed into the wrong field.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password that it gave, for [`Output::Check`]. Octets as they came: UTF-8 is to be
    /// [prepared](super::prepare()).
    pub fn password(&self) -> &[u8] {
        &self.password
    }

    /// Takes what happened and says what to do next. `out` needs 512 bytes.
    pub fn step(&mut self, input: Input<'_>, out: &mut [u8]) -> Output {
        let next = match (self.state, input) {
            (State::Begin, Input::Response(None)) => self.ask(out),
            (State::Begin, Input::Response(Some(text))) => {
                // RFC 4954 4: the only way to write an empty one there.
                let text = if text == b"=" { b"" } else { text };
                self.first(text, out)
            }
            (State::First, Input::Response(Some(text))) => self.first(text, out),
            (State::Password, Input::Response(Some(text))) => self.login_password(text),
            (State::Check, Input::Checked(true)) => Ok(Output::Done),
            (State::Check, Input::Checked(false)) => Err(Fault::Password),
            (State::Keys, Input::Keys(keys)) => self.server_first(keys, out),
            (State::Proof, Input::Response(Some(text))) => self.proof(text, out),
            (State::Last, Input::Response(Some(b""))) => Ok(Output::Done),
            (State::Last, Input::Response(Some(_))) => Err(Fault::Malformed),
            _ => Err(Fault::OutOfTurn),
        };
        let output = next.unwrap_or_else(Output::Failed);
        if matches!(output, Output::Done | Output::Failed(_)) {
            self.state = State::Over;
            self.password = Secret::new();
            self.keys = None;
        }
        output
    }

    /// The client waits to be asked.
    fn ask(&mut self, out: &mut [u8]) -> Result<Output, Fault> {
        self.state = State::First;
        match self.mechanism {
            Mechanism::Login => challenge(b"Username:", out),
            _ => Ok(Output::Challenge(0)),
        }
    }

    fn first(&mut self, text: &[u8], out: &mut [u8]) -> Result<Output, Fault> {
        let message: Message = base64::decode(text).ok_or(Fault::Encoding)?;
        match self.mechanism {
            Mechanism::Plain => self.plain(&message),
            Mechanism::Login => {
                self.user = name(&message).ok_or(Fault::Malformed)?;
                self.state = State::Password;
                challenge(b"Password:", out)
            }
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => self.client_first(&message),
        }
    }

    /// `[identity] NUL user NUL password` (RFC 4616 2).
    fn plain(&mut self, message: &[u8]) -> Result<Output, Fault> {
        let mut parts = message.split(|&b| b == 0);
        let (Some(identity), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::Malformed);
        };
        self.user = name(user).ok_or(Fault::Malformed)?;
        if !identity.is_empty() && identity != user {
            return Err(Fault::Identity);
        }
        self.take_password(password)
    }

    fn login_password(&mut self, text: &[u8]) -> Result<Output, Fault> {
        let message: Message = base64::decode(text).ok_or(Fault::Encoding)?;
        self.take_password(&message)
    }

    fn take_password(&mut self, password: &[u8]) -> Result<Output, Fault> {
        if password.is_empty() || password.contains(&0) {
            return Err(Fault::Malformed);
        }
        self.password = Secret::of(password).ok_or(Fault::Malformed)?;
        self.state = State::Check;
        Ok(Output::Check)
    }

    fn client_first(&mut self, message: &[u8]) -> Result<Output, Fault> {
        let text = core::str::from_utf8(message).map_err(|_| Fault::Malformed)?;
        let first = ClientFirst::parse(text).ok_or(Fault::Malformed)?;
        self.user = message::unescape(first.user).ok_or(Fault::Malformed)?;
        let is_same = |identity| message::unescape(identity).is_some_and(|i| i == self.user);
        if !first.authzid.is_none_or(is_same) {
            return Err(Fault::Identity);
        }
        let bound: &[u8] = match (first.binding, self.mechanism) {
            (Binding::Named(name), Mechanism::ScramSha256Plus) => {
                self.channel.named(name).ok_or(Fault::Channel)?
            }
            (Binding::Unable, Mechanism::ScramSha256) => &[],
            // It could bind, and somebody took SCRAM-SHA-256-PLUS out of our offer (RFC 5802 6).
            (Binding::ServerUnable, Mechanism::ScramSha256) if self.channel.is_none() => &[],
            _ => return Err(Fault::Channel),
        };
        let room = Fault::Malformed;
        let header = first.gs2_header.as_bytes();
        self.binding.extend_from_slice(header).map_err(|_| room)?;
        self.binding.extend_from_slice(bound).map_err(|_| room)?;
        self.transcript.push_str(first.bare).map_err(|_| room)?;
        self.transcript.push_str(",r=").map_err(|_| room)?;
        let from = self.transcript.len();
        self.transcript.push_str(first.nonce).map_err(|_| room)?;
        let ours = self.nonce.as_str();
        self.transcript.push_str(ours).map_err(|_| room)?;
        self.both_nonces = (from, self.transcript.len());
        self.state = State::Keys;
        Ok(Output::Keys)
    }

    fn server_first(&mut self, keys: &Keys, out: &mut [u8]) -> Result<Output, Fault> {
        let mut salt = [0; 4 * crate::limits::SCRAM_SALT_BYTES_MAX.div_ceil(3)];
        let recipe = keys.recipe();
        let n = base64::encode(recipe.salt(), &mut salt).ok_or(Fault::Malformed)?;
        let salt = core::str::from_utf8(salt.get(..n).unwrap_or_default()).unwrap_or_default();
        write!(self.transcript, ",s={salt},i={}", recipe.iterations())
            .map_err(|_| Fault::Malformed)?;
        self.keys = Some(keys.clone());
        self.state = State::Proof;
        // From `r=` on.
        let from = self.both_nonces.0.saturating_sub(2);
        challenge(
            self.transcript.as_bytes().get(from..).unwrap_or_default(),
            out,
        )
    }

    fn proof(&mut self, text: &[u8], out: &mut [u8]) -> Result<Output, Fault> {
        let message: Message = base64::decode(text).ok_or(Fault::Encoding)?;
        let text = core::str::from_utf8(&message).map_err(|_| Fault::Malformed)?;
        let last = ClientFinal::parse(text).ok_or(Fault::Malformed)?;
        let (from, to) = self.both_nonces;
        if self.transcript.get(from..to) != Some(last.nonce) {
            return Err(Fault::Malformed);
        }
        let channel: Message = base64::decode(last.channel.as_bytes()).ok_or(Fault::Malformed)?;
        let same_channel = bool::from(channel.ct_eq(&self.binding));
        let keys = self.keys.take().ok_or(Fault::OutOfTurn)?;
        let signed = [
            self.transcript.as_bytes(),
            b",",
            last.without_proof.as_bytes(),
        ];
        if !keys.proves(&last.proof, &signed) {
            return Err(Fault::Password);
        }
        // After the proof: whoever doesn't know the password learns nothing.
        if !same_channel {
            return Err(Fault::Channel);
        }
        let mut message = [0; 46];
        let mut room = Buffer::new(&mut message);
        let mut signature = [0; 44];
        let n = base64::encode(&keys.signature(&signed), &mut signature);
        let signature = n.and_then(|n| signature.get(..n)).unwrap_or_default();
        let put = room.put(b"v=").and_then(|()| room.put(signature));
        put.map_err(|_| Fault::Malformed)?;
        let written = room.written();
        self.state = State::Last;
        challenge(message.get(..written).unwrap_or_default(), out)
    }
}

/// Says whose exchange it is where it came to that, and no secrets.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("mechanism", &self.mechanism)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A user's name: UTF-8, not empty, no longer than it may be.
fn name(octets: &[u8]) -> Option<heapless::String<SASL_USER_BYTES_MAX>> {
    let text = core::str::from_utf8(octets).ok()?;
    let good = !text.is_empty() && !text.contains('\0');
    good.then(|| heapless::String::try_from(text).ok())?
}

fn challenge(message: &[u8], out: &mut [u8]) -> Result<Output, Fault> {
    base64::encode(message, out)
        .map(Output::Challenge)
        .ok_or(Fault::Malformed)
}
