//! Both ends against the RFCs' examples, against each other, and against nonsense.

use super::client::{self, Login, Step};
use super::scram::{ClientKeys, Keys, Recipe};
use super::server::{self, Fault, Input, Output};
use super::*;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

const OUT: usize = 2048;

fn b64(text: &str) -> String {
    let mut out = [0; 4096];
    let n = base64::encode(text.as_bytes(), &mut out).unwrap();
    String::from_utf8(out[..n].to_vec()).unwrap()
}

fn plain(text: &[u8]) -> String {
    String::from_utf8(base64::decode::<4096>(text).unwrap().to_vec()).unwrap()
}

fn recipe() -> Recipe {
    Recipe::new(b"sixteen octets !", 4096).unwrap()
}

/// Keys take milliseconds, and properties ask for them a thousand times.
fn keys_of(password: &str) -> Keys {
    Keys::derive(password.as_bytes(), recipe())
}

fn server(mechanism: Mechanism, channel: Channel) -> server::Exchange {
    let nonce = Nonce::of_text("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
    server::Exchange::new(mechanism, nonce, channel)
}

/// One side's words as the other side hears them, until the server has decided.
fn meet(
    mut client: client::Exchange,
    login: Login<'_>,
    mut server: server::Exchange,
    keys: &Keys,
    password: &str,
) -> Result<String, String> {
    let (mut to_server, mut to_client) = ([0; OUT], [0; OUT]);
    let mut said = match client.begin(login, &mut to_server) {
        Step::Response(n) => Some(n),
        Step::Wait => None,
        Step::Failed(fault) => return Err(format!("client: {fault:?}")),
        Step::Keys => unreachable!(),
    };
    loop {
        let response = said.map(|n| &to_server[..n]);
        let mut output = server.step(Input::Response(response), &mut to_client);
        if output == Output::Keys {
            output = server.step(Input::Keys(keys), &mut to_client);
        } else if output == Output::Check {
            let good = server.password() == password.as_bytes();
            output = server.step(Input::Checked(good), &mut to_client);
        }
        let n = match output {
            Output::Challenge(n) => n,
            Output::Done if client.is_complete() => return Ok(server.user().to_string()),
            Output::Done => return Err("client: not complete".into()),
            Output::Failed(fault) => return Err(format!("server: {fault:?}")),
            Output::Keys | Output::Check => unreachable!("asked twice"),
        };
        let mut step = client.challenge(login, &to_client[..n], &mut to_server);
        if step == Step::Keys {
            let keys = ClientKeys::derive(login.password, client.recipe().unwrap());
            step = client.keys(login, &keys, &mut to_server);
        }
        said = match step {
            Step::Response(n) => Some(n),
            Step::Failed(fault) => return Err(format!("client: {fault:?}")),
            Step::Wait | Step::Keys => unreachable!(),
        };
    }
}

fn tls(octet: u8) -> Channel {
    Channel::none().with_exporter([octet; 32])
}

fn client(mechanism: Mechanism, channel: Channel, plus_offered: bool) -> client::Exchange {
    let nonce = Nonce::of_random([3; 18]);
    client::Exchange::new(mechanism, nonce, channel, plus_offered)
}

fn login<'a>(user: &'a str, password: &'a str) -> Login<'a> {
    Login {
        user,
        password: password.as_bytes(),
    }
}

#[test]
fn example_of_rfc_7677() {
    let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let client_final = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let server_final = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    let user = login("user", "pencil");

    let nonce = Nonce::of_text("rOprNGfwEbeRWgbNEkqO").unwrap();
    let mut client = client::Exchange::new(Mechanism::ScramSha256, nonce, Channel::none(), false);
    let mut out = [0; OUT];
    let Step::Response(n) = client.begin(user, &mut out) else {
        panic!()
    };
    let client_first = plain(&out[..n]);
    assert_eq!(client_first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let asked = client.challenge(user, b64(server_first).as_bytes(), &mut out);
    assert_eq!(asked, Step::Keys);
    let keys = ClientKeys::derive(user.password, client.recipe().unwrap());
    let Step::Response(n) = client.keys(user, &keys, &mut out) else {
        panic!()
    };
    assert_eq!(plain(&out[..n]), client_final);
    assert!(!client.is_complete());
    let last = client.challenge(user, b64(server_final).as_bytes(), &mut out);
    assert_eq!((last, client.is_complete()), (Step::Response(0), true));

    let mut server = server(Mechanism::ScramSha256, Channel::none());
    let keys = Keys::derive(b"pencil", keys.recipe().clone());
    let said = b64(&client_first);
    let asked = server.step(Input::Response(Some(said.as_bytes())), &mut out);
    assert_eq!((asked, server.user()), (Output::Keys, "user"));
    let Output::Challenge(n) = server.step(Input::Keys(&keys), &mut out) else {
        panic!()
    };
    assert_eq!(plain(&out[..n]), server_first);
    let said = b64(client_final);
    let Output::Challenge(n) = server.step(Input::Response(Some(said.as_bytes())), &mut out) else {
        panic!()
    };
    assert_eq!(plain(&out[..n]), server_final);
    assert_eq!(
        server.step(Input::Response(Some(b"")), &mut out),
        Output::Done
    );
}

#[test]
fn examples_of_rfc_4616() {
    let check = |message: &str| {
        let mut server = server(Mechanism::Plain, Channel::none());
        let mut out = [0; OUT];
        let said = b64(message);
        let output = server.step(Input::Response(Some(said.as_bytes())), &mut out);
        (
            output,
            server.user().to_string(),
            server.password().to_vec(),
        )
    };
    let (output, user, password) = check("\0tim\0tanstaaftanstaaf");
    assert_eq!((output, &*user), (Output::Check, "tim"));
    assert_eq!(password, b"tanstaaftanstaaf");
    // Only as himself.
    assert_eq!(check("tim\0tim\0x").0, Output::Check);
    assert_eq!(
        check("Ursel\0Kurt\0xipj3plmq").0,
        Output::Failed(Fault::Identity)
    );
    let long = (
        format!("\0{}\0x", "u".repeat(256)),
        format!("\0u\0{}", "p".repeat(1025)),
    );
    for bad in [
        "",
        "tim",
        "\0tim",
        "\0\0x",
        "\0tim\0",
        "\0tim\0x\0",
        "\0tim\0x\0y",
        &long.0,
        &long.1,
    ] {
        assert_eq!(check(bad).0, Output::Failed(Fault::Malformed), "{bad:?}");
    }
    let longest = format!("{0}\0{0}\0{1}", "u".repeat(255), "p".repeat(1024));
    assert_eq!(check(&longest).0, Output::Check);
}

#[test]
fn with_and_without_an_initial_response() {
    let mut out = [0; OUT];
    for mechanism in Mechanism::BEST_FIRST {
        let mut asked = server(mechanism, tls(1));
        let Output::Challenge(n) = asked.step(Input::Response(None), &mut out) else {
            panic!()
        };
        let challenge = plain(&out[..n]);
        assert_eq!(
            challenge,
            if mechanism == Mechanism::Login {
                "Username:"
            } else {
                ""
            }
        );
        // An empty one is told from none.
        let mut empty = server(mechanism, tls(1));
        let failed = empty.step(Input::Response(Some(b"=")), &mut out);
        assert_eq!(failed, Output::Failed(Fault::Malformed));
        let mut junk = server(mechanism, tls(1));
        let failed = junk.step(Input::Response(Some(b"no base64!")), &mut out);
        assert_eq!(failed, Output::Failed(Fault::Encoding));
    }
    // Some clients of LOGIN say who they are at once.
    let mut quick = server(Mechanism::Login, Channel::none());
    let said = b64("ann");
    let Output::Challenge(n) = quick.step(Input::Response(Some(said.as_bytes())), &mut out) else {
        panic!()
    };
    assert_eq!(plain(&out[..n]), "Password:");
    let said = b64("sesame");
    assert_eq!(
        quick.step(Input::Response(Some(said.as_bytes())), &mut out),
        Output::Check
    );
    assert_eq!((quick.user(), quick.password()), ("ann", &b"sesame"[..]));
    assert_eq!(
        quick.step(Input::Checked(false), &mut out),
        Output::Failed(Fault::Password)
    );
    assert!(quick.password().is_empty());
}

#[test]
fn who_knows_the_password_gets_in() {
    let keys = keys_of("sesame");
    for mechanism in Mechanism::BEST_FIRST {
        let tries = |password: &str| {
            let client = client(mechanism, tls(1), true);
            let server = server(mechanism, tls(1));
            meet(
                client,
                login("ann,=\u{e9}", password),
                server,
                &keys,
                "sesame",
            )
        };
        assert_eq!(tries("sesame"), Ok("ann,=\u{e9}".into()), "{mechanism}");
        assert_eq!(
            tries("Sesame"),
            Err("server: Password".into()),
            "{mechanism}"
        );
    }
}

#[test]
fn nobody_stands_between() {
    let keys = keys_of("sesame");
    let user = login("ann", "sesame");
    let meets = |client, server| meet(client, user, server, &keys, "sesame").map(|_| ());
    let (basic, plus) = (Mechanism::ScramSha256, Mechanism::ScramSha256Plus);
    let end_point = |octet| Channel::none().with_server_end_point(&[octet; 48]);
    let fails = Err("server: Channel".to_string());
    for (client, server, want) in [
        (client(plus, tls(1), true), server(plus, tls(1)), Ok(())),
        (
            client(plus, end_point(1), true),
            server(plus, end_point(1)),
            Ok(()),
        ),
        // The client takes the one that only this connection has.
        (
            client(plus, end_point(1).with_exporter([1; 32]), true),
            server(plus, tls(1)),
            Ok(()),
        ),
        (
            client(plus, tls(1), true),
            server(plus, tls(2)),
            fails.clone(),
        ),
        (
            client(plus, end_point(1), true),
            server(plus, end_point(2)),
            fails.clone(),
        ),
        (
            client(plus, tls(1), true),
            server(plus, end_point(1)),
            fails.clone(),
        ),
        (
            client(plus, tls(1), true),
            server(plus, Channel::none()),
            fails.clone(),
        ),
        // The server offers PLUS, and somebody took it away; or the client didn't want it.
        (
            client(basic, tls(1), false),
            server(basic, tls(1)),
            fails.clone(),
        ),
        (client(basic, tls(1), true), server(basic, tls(1)), Ok(())),
        (
            client(basic, tls(1), false),
            server(basic, Channel::none()),
            Ok(()),
        ),
        (
            client(basic, Channel::none(), false),
            server(basic, tls(1)),
            Ok(()),
        ),
        // The mechanism and what binds must agree.
        (
            client(plus, tls(1), true),
            server(basic, tls(1)),
            fails.clone(),
        ),
        (
            client(basic, Channel::none(), false),
            server(plus, tls(1)),
            fails,
        ),
        (
            client(plus, Channel::none(), true),
            server(plus, tls(1)),
            Err("client: Channel".into()),
        ),
    ] {
        assert_eq!(meets(client, server), want);
    }
}

#[test]
fn a_server_without_the_password_is_found_out() {
    let user = login("ann", "sesame");
    let mut out = [0; OUT];
    let hear = |first: &str, last: &str, out: &mut [u8]| {
        let mut client = client(Mechanism::ScramSha256, Channel::none(), false);
        client.begin(user, out);
        let step = client.challenge(user, b64(first).as_bytes(), out);
        if step != Step::Keys {
            return step;
        }
        let keys = ClientKeys::derive(user.password, client.recipe().unwrap());
        client.keys(user, &keys, out);
        let step = client.challenge(user, b64(last).as_bytes(), out);
        assert!(!client.is_complete());
        step
    };
    let ours = Nonce::of_random([3; 18]);
    let ours = ours.as_str();
    let good = format!("r={ours}xyz,s=AAAA,i=4096");
    let unproven = Step::Failed(client::Fault::Unproven);
    for last in [
        format!("v={}=", "A".repeat(43)),
        "e=other-error".into(),
        "v=".into(),
    ] {
        assert_eq!(hear(&good, &last, &mut out), unproven);
    }
    let malformed = Step::Failed(client::Fault::Malformed);
    for first in [
        String::new(),
        "r=xyz,s=AAAA,i=4096".into(),
        // Nothing of its own.
        format!("r={ours},s=AAAA,i=4096"),
        format!("r={ours}x,s=AAA,i=4096"),
        format!("r={ours}x,s=AAAA,i=4096,m=1"),
        format!("r={ours}{},s=AAAA,i=4096", "x".repeat(129)),
        format!("r={ours}x,s=AAAA,i=4096,x={}", "x".repeat(800)),
    ] {
        assert_eq!(hear(&first, "", &mut out), malformed, "{first}");
    }
    for (i, why) in [
        (1, scram::BadRecipe::TooFew),
        (4_000_000_000_u32, scram::BadRecipe::TooMany),
    ] {
        let first = format!("r={ours}x,s=AAAA,i={i}");
        assert_eq!(
            hear(&first, "", &mut out),
            Step::Failed(client::Fault::Recipe(why))
        );
    }
}

#[test]
fn a_proof_is_good_for_one_exchange() {
    let keys = keys_of("sesame");
    let user = login("ann", "sesame");
    let mut out = [0; OUT];
    // What was overheard once, said again to a server with another nonce.
    let mut client = client(Mechanism::ScramSha256, Channel::none(), false);
    let Step::Response(n) = client.begin(user, &mut out) else {
        panic!()
    };
    let first = out[..n].to_vec();
    let hears_first = |nonce: &str, out: &mut [u8]| {
        let nonce = Nonce::of_text(nonce).unwrap();
        let mut server = server::Exchange::new(Mechanism::ScramSha256, nonce, Channel::none());
        server.step(Input::Response(Some(&first)), out);
        let Output::Challenge(n) = server.step(Input::Keys(&keys), out) else {
            panic!()
        };
        (server, n)
    };
    let (mut server, n) = hears_first("one", &mut out);
    let challenge = out[..n].to_vec();
    client.challenge(user, &challenge, &mut out);
    let keys = ClientKeys::derive(user.password, client.recipe().unwrap());
    let Step::Response(n) = client.keys(user, &keys, &mut out) else {
        panic!()
    };
    let last = out[..n].to_vec();
    let says = |server: &mut server::Exchange, out: &mut [u8]| {
        server.step(Input::Response(Some(&last)), out)
    };
    assert!(matches!(says(&mut server, &mut out), Output::Challenge(_)));
    assert_eq!(
        says(&mut server, &mut out),
        Output::Failed(Fault::Malformed)
    );
    let (mut other, _) = hears_first("two", &mut out);
    assert_eq!(says(&mut other, &mut out), Output::Failed(Fault::Malformed));
}

#[test]
fn secrets_are_not_shown() {
    let user = login("ann", "sesame");
    let keys = ClientKeys::derive(b"sesame", recipe());
    let mut server = server(Mechanism::Plain, tls(7));
    let mut out = [0; OUT];
    let said = b64("\0ann\0sesame");
    server.step(Input::Response(Some(said.as_bytes())), &mut out);
    assert_eq!(server.password(), b"sesame");
    let secret = Secret::<16>::of(b"sesame");
    let shown = format!(
        "{user:?} {keys:?} {:?} {server:?} {secret:?} {:?}",
        keys_of("sesame"),
        client(Mechanism::Plain, tls(7), true),
    );
    for word in ["sesame", "115, 101", &b64("sesame"), "7, 7"] {
        assert!(!shown.contains(word), "{word} in {shown}");
    }
    assert_eq!(secret, Secret::of(b"sesame"));
    assert_ne!(secret, Secret::of(b"sesamE"));
}

#[test]
fn mechanisms_have_their_names() {
    for mechanism in Mechanism::BEST_FIRST {
        let mut one = AuthMechanisms::default();
        mechanism.add_to(&mut one);
        assert!(mechanism.is_in(one) && one.has(mechanism.name()));
        assert_eq!(
            Mechanism::of(&mechanism.name().to_lowercase()),
            Some(mechanism)
        );
        assert_eq!(Mechanism::best(one, one), Some(mechanism));
    }
    assert_eq!(Mechanism::of("CRAM-MD5"), None);
    let all = AuthMechanisms {
        plain: true,
        login: true,
        scram_sha_256: true,
        cram_md5: true,
        ..AuthMechanisms::default()
    };
    assert_eq!(Mechanism::best(all, all), Some(Mechanism::ScramSha256));
    assert_eq!(Mechanism::best(all, AuthMechanisms::default()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_name_and_password(
        user in "[^\u{0}]{1,80}",
        password in "[^\u{0}]{1,80}",
        which in 0..4_usize,
        typo in 0..3_usize,
    ) {
        let mechanism = Mechanism::BEST_FIRST[which];
        let mut typed = password.clone();
        if typo == 0 {
            typed.push('x');
        }
        let keys = keys_of(&password);
        let client = client(mechanism, tls(9), true);
        let came = meet(client, login(&user, &typed), server(mechanism, tls(9)), &keys, &password);
        let want = if typo == 0 { Err("server: Password".into()) } else { Ok(user.clone()) };
        prop_assert_eq!(came, want);
    }
}

proptest! {
    #[test]
    fn nonsense_fails_and_nothing_more(
        which in 0..4_usize,
        said in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..5),
    ) {
        let mut server = server(Mechanism::BEST_FIRST[which], tls(1));
        let mut client = client(Mechanism::BEST_FIRST[which], tls(1), true);
        let keys = Keys::made_up(&[1; 32], b"x", &recipe());
        let user = login("ann", "sesame");
        let (mut out, mut text) = ([0; OUT], [0; OUT]);
        client.begin(user, &mut out);
        for (encoded, bytes) in said {
            let line: Vec<u8> = if encoded {
                let n = base64::encode(&bytes, &mut text).unwrap();
                text[..n].to_vec()
            } else {
                bytes
            };
            let mut output = server.step(Input::Response(Some(&line)), &mut out);
            if output == Output::Keys {
                output = server.step(Input::Keys(&keys), &mut out);
            }
            prop_assert_ne!(output, Output::Done);
            client.challenge(user, &line, &mut out);
            prop_assert!(client.is_complete() <= !client.mechanism().is_scram());
        }
    }
}
