//! A delivery session authenticates to a submission session, by each mechanism, over a wire that
//! cuts anywhere.

use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::client::{
    self, Auth, AuthLine, AuthLines, Cause, EhloName, Envelope, Envelopes, TransactionId,
};
use courser_core::smtp::command::{MailParams, RcptParams};
use courser_core::smtp::extension::AuthMechanisms;
use courser_core::smtp::sasl::client::Login;
use courser_core::smtp::sasl::scram::{ClientKeys, Keys, Recipe};
use courser_core::smtp::sasl::server::{Exchange, Input, Output};
use courser_core::smtp::sasl::{self, Channel, Mechanism, Nonce};
use courser_core::smtp::server;
use courser_core::time::Instant;
use proptest::prelude::*;

const NOW: Instant = Instant::ZERO;

struct NoMail;
struct NoLetter;

impl Envelope for NoLetter {
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
        (ReversePath::Null, MailParams::default())
    }
    fn recipients(&self) -> usize {
        0
    }
    fn recipient(&self, _: usize) -> (Mailbox<'_>, RcptParams<'_>) {
        unreachable!("it has none")
    }
    fn size(&self) -> u64 {
        0
    }
    fn eight_bit(&self) -> bool {
        false
    }
    fn utf8(&self) -> bool {
        false
    }
}

impl Envelopes for NoMail {
    type Envelope<'a> = NoLetter;
    fn envelope(&self, _: TransactionId) -> Option<NoLetter> {
        None
    }
}

fn mechanisms(one: Mechanism) -> AuthMechanisms {
    let mut all = AuthMechanisms::default();
    one.add_to(&mut all);
    all
}

struct Submitter {
    session: client::Session,
    lines: Option<AuthLines>,
    channel: Channel,
    password: String,
    ready: bool,
    broken: Option<client::Failure>,
    closed: bool,
}

impl Submitter {
    fn poll(&mut self, wire: &mut Vec<u8>) {
        let mut out = [0; 2048];
        loop {
            match self.session.poll(NOW, &NoMail, &mut out) {
                client::Output::Send(n) => wire.extend_from_slice(&out[..n]),
                client::Output::SendAuth(mechanism) => self.authenticate(mechanism, wire),
                client::Output::Event(client::Event::Ready(_)) => self.ready = true,
                client::Output::Event(client::Event::Broken { failure }) => {
                    self.broken = Some(failure);
                }
                client::Output::Wait(_) => return,
                client::Output::Close => {
                    self.closed = true;
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn authenticate(&mut self, mechanism: Mechanism, wire: &mut Vec<u8>) {
        let plus_offered = self.session.capabilities().auth.scram_sha_256_plus;
        let channel = self.channel.clone();
        let lines = self.lines.get_or_insert_with(|| {
            let nonce = Nonce::of_random([1; 18]);
            AuthLines::new(sasl::client::Exchange::new(
                mechanism,
                nonce,
                channel,
                plus_offered,
            ))
        });
        let login = Login {
            user: "ann@example.org",
            password: self.password.as_bytes(),
        };
        let mut out = [0; 2048];
        let mut line = lines.next(self.session.challenge(), login, &mut out);
        if line == AuthLine::Keys {
            let keys = ClientKeys::derive(login.password, lines.recipe().unwrap());
            line = lines.with_keys(login, &keys, &mut out);
        }
        let input = match line {
            AuthLine::Send { len, complete } => {
                wire.extend_from_slice(&out[..len]);
                client::Input::AuthSent { complete }
            }
            _ => client::Input::AuthFailed,
        };
        self.session.handle(NOW, input).unwrap();
    }
}

struct Receiver {
    session: server::Session,
    exchange: Option<Exchange>,
    keys: Keys,
    channel: Channel,
    /// It knows no password, and says yes all the same.
    impostor: bool,
}

/// What the application says to an output of the exchange.
fn say(session: &mut server::Session, output: Output, out: &[u8]) {
    let input = match output {
        Output::Challenge(n) => server::Input::AuthChallenge(&out[..n]),
        Output::Done => server::Input::AuthDone,
        Output::Failed(_) => server::Input::AuthFailed,
        Output::Keys | Output::Check => unreachable!("answered before"),
    };
    session.handle(NOW, input).unwrap();
}

impl Receiver {
    /// Takes what came; what was not consumed stays.
    fn poll(&mut self, input: &mut Vec<u8>, wire: &mut Vec<u8>) {
        let mut out = [0; 512];
        loop {
            let bytes = std::mem::take(input);
            let (consumed, output) = self.session.poll(NOW, &bytes, &mut out);
            let mut response = None;
            let mut done = false;
            match output {
                server::Output::Send(n) => wire.extend_from_slice(&out[..n]),
                server::Output::Event(server::Event::Hello { .. }) => {
                    self.session.handle(NOW, server::Input::Accept).unwrap();
                }
                server::Output::Event(server::Event::Auth { mechanism, initial }) => {
                    let mechanism = Mechanism::of(mechanism).unwrap();
                    let nonce = Nonce::of_random([2; 18]);
                    let offered = self.session.capabilities().auth;
                    if !offered.scram_sha_256_plus {
                        self.channel = Channel::none();
                    }
                    self.exchange = Some(Exchange::new(mechanism, nonce, self.channel.clone()));
                    response = Some(initial.map(<[u8]>::to_vec));
                }
                server::Output::Event(server::Event::AuthResponse(text)) => {
                    response = Some(Some(text.to_vec()));
                }
                server::Output::Event(server::Event::AuthCancelled | server::Event::Quit) => {}
                server::Output::Wait(_) | server::Output::Close => done = true,
                other => panic!("{other:?}"),
            }
            *input = bytes[consumed..].to_vec();
            if let Some(response) = response {
                self.hear(response.as_deref(), &mut out);
            }
            if done {
                return;
            }
        }
    }

    fn hear(&mut self, response: Option<&[u8]>, out: &mut [u8]) {
        if self.impostor {
            self.session.handle(NOW, server::Input::AuthDone).unwrap();
            return;
        }
        let exchange = self.exchange.as_mut().unwrap();
        let mut output = exchange.step(Input::Response(response), out);
        if output == Output::Keys {
            assert_eq!(exchange.user(), "ann@example.org");
            output = exchange.step(Input::Keys(&self.keys), out);
        } else if output == Output::Check {
            let good = self.keys.are_of(exchange.password());
            output = exchange.step(Input::Checked(good), out);
        }
        say(&mut self.session, output, out);
    }
}

/// Both until neither says anything more; pieces of `cut` bytes.
fn meet(
    mechanism: Mechanism,
    password: &str,
    channels: [Channel; 2],
    impostor: bool,
    cut: usize,
) -> (Submitter, Receiver) {
    let [ours, theirs] = channels;
    let mut options = client::Options::new(EhloName::new("c.example").unwrap());
    options.tls = client::TlsMode::Implicit;
    options.auth = Some(Auth {
        mechanisms: mechanisms(mechanism),
        without_tls: false,
    });
    let mut submitter = Submitter {
        session: client::Session::new(NOW, options),
        lines: None,
        channel: ours,
        password: password.to_owned(),
        ready: false,
        broken: None,
        closed: false,
    };
    let mut options = server::Options::new("mx.example").unwrap();
    options.auth = mechanisms(mechanism);
    let mut session = server::Session::new(NOW, options);
    session.handle(NOW, server::Input::TlsEstablished).unwrap();
    let recipe = Recipe::new(b"some salt", 4096).unwrap();
    let mut receiver = Receiver {
        session,
        exchange: None,
        keys: Keys::derive(b"sesame", recipe),
        channel: theirs,
        impostor,
    };
    let (mut to_server, mut from_server, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        submitter.poll(&mut to_server);
        for piece in std::mem::take(&mut to_server).chunks(cut) {
            unread.extend_from_slice(piece);
            receiver.poll(&mut unread, &mut from_server);
        }
        receiver.poll(&mut unread, &mut from_server);
        if from_server.is_empty() {
            return (submitter, receiver);
        }
        for piece in std::mem::take(&mut from_server).chunks(cut) {
            let mut rest = piece;
            while !rest.is_empty() && !submitter.closed {
                let input = client::Input::Received(rest);
                match submitter.session.handle(NOW, input) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(_) => submitter.poll(&mut to_server),
                }
                submitter.poll(&mut to_server);
            }
        }
    }
}

fn tls(octet: u8) -> Channel {
    Channel::none().with_exporter([octet; 32])
}

#[test]
fn the_right_password() {
    for mechanism in Mechanism::BEST_FIRST {
        for cut in [1, 7, 4096] {
            let (submitter, receiver) = meet(mechanism, "sesame", [tls(1), tls(1)], false, cut);
            assert!(
                submitter.ready && submitter.session.is_authenticated(),
                "{mechanism}"
            );
            assert!(receiver.session.is_authenticated(), "{mechanism}");
            assert!(submitter.session.can_begin());
        }
    }
}

#[test]
fn a_wrong_password() {
    for mechanism in Mechanism::BEST_FIRST {
        let (submitter, receiver) = meet(mechanism, "Sesame", [tls(1), tls(1)], false, 4096);
        assert!(!submitter.ready && !receiver.session.is_authenticated());
        let failure = submitter.broken.unwrap();
        assert!(matches!(failure.cause, Cause::AuthRefused { code, .. } if code.get() == 535));
        assert!(!failure.permanent, "mail waits for the operator");
        assert!(submitter.closed, "after a QUIT");
    }
}

#[test]
fn somebody_between() {
    let plus = Mechanism::ScramSha256Plus;
    let (submitter, receiver) = meet(plus, "sesame", [tls(1), tls(2)], false, 4096);
    assert!(!submitter.ready && !receiver.session.is_authenticated());
}

#[test]
fn a_server_that_only_says_yes() {
    for mechanism in Mechanism::BEST_FIRST {
        let (submitter, _) = meet(mechanism, "sesame", [tls(1), tls(1)], true, 4096);
        // Of PLAIN nothing more was to be said; LOGIN and SCRAM had not come to their end.
        let believed = mechanism == Mechanism::Plain;
        assert_eq!(submitter.ready, believed, "{mechanism}");
        assert_eq!(submitter.session.is_authenticated(), believed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn only_the_right_password(which in 0..4_usize, password in "[ -~]{1,30}", cut in 1..200_usize) {
        let mechanism = Mechanism::BEST_FIRST[which];
        let (submitter, receiver) = meet(mechanism, &password, [tls(1), tls(1)], false, cut);
        prop_assert_eq!(submitter.ready, password == "sesame");
        prop_assert_eq!(receiver.session.is_authenticated(), password == "sesame");
    }
}
