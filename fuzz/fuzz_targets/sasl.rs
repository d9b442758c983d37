//! SASL, both ends: whatever the other side says, nothing panics, nobody without the password gets
//! in, no server without it is believed, and what is written is read back.
//!
//! The input is flags and lines. A line is said as it is or in base64; in `{}` stands the nonce that
//! the other side said last, so that more than first messages get through.
#![no_main]

use base64ct::{Base64, Encoding};
use courser_core::smtp::client::{AuthLine, AuthLines};
use courser_core::smtp::sasl::client::{self, Login};
use courser_core::smtp::sasl::scram::{ClientKeys, Keys, Recipe};
use courser_core::smtp::sasl::server::{Exchange, Input, Output};
use courser_core::smtp::sasl::{Channel, Mechanism, Nonce, prepare};
use libfuzzer_sys::fuzz_target;

/// The nonce in a message of the other side, if it is one of SCRAM.
fn nonce_in(base64: &[u8]) -> Option<Vec<u8>> {
    let message = Base64::decode_vec(std::str::from_utf8(base64).ok()?).ok()?;
    let at = message.windows(2).position(|w| w == b"r=")? + 2;
    let rest = &message[at..];
    let end = rest.iter().position(|b| *b == b',').unwrap_or(rest.len());
    Some(rest[..end].to_vec())
}

fn said(line: &str, encoded: bool, nonce: &[u8]) -> Vec<u8> {
    let line = line.replace("{}", &String::from_utf8_lossy(nonce));
    match encoded {
        true => Base64::encode_string(line.as_bytes()).into_bytes(),
        false => line.into_bytes(),
    }
}

fuzz_target!(|input: (u8, Vec<(bool, &str)>)| {
    let (flags, lines) = input;
    let mechanism = Mechanism::BEST_FIRST[usize::from(flags % 4)];
    let channel = match flags & 4 {
        0 => Channel::none(),
        _ => Channel::none().with_exporter([1; 32]).with_server_end_point(&[2; 48]),
    };
    let nonce = || Nonce::of_random([flags; 18]);
    let recipe = Recipe::new(b"salt", 4096).unwrap();
    // Nobody knows what these are of.
    let keys = Keys::made_up(&[flags; 32], b"ann", &recipe);
    let login = Login {
        user: "ann",
        password: b"sesame",
    };
    let mut out = [0; 2048];

    let mut server = Exchange::new(mechanism, nonce(), channel.clone());
    let mut heard = Vec::new();
    if flags & 8 != 0 {
        let _ = server.step(Input::Response(None), &mut out);
    }
    for (encoded, line) in &lines {
        let line = said(line, *encoded, &heard);
        let mut output = server.step(Input::Response(Some(&line)), &mut out);
        if output == Output::Keys {
            assert!(!server.user().is_empty());
            output = server.step(Input::Keys(&keys), &mut out);
        } else if output == Output::Check {
            assert!(!server.user().is_empty() && !server.password().is_empty());
            assert!(!mechanism.is_scram());
        }
        assert_ne!(output, Output::Done);
        if let Output::Challenge(n) = output {
            // It fits into a reply.
            assert!(n <= 506);
            heard = nonce_in(&out[..n]).unwrap_or(heard);
        }
    }

    let exchange = client::Exchange::new(mechanism, nonce(), channel, flags & 16 != 0);
    let mut client = AuthLines::new(exchange);
    let mut heard = Vec::new();
    let mut line = client.next(None, login, &mut out);
    for (encoded, challenge) in &lines {
        match line {
            AuthLine::Send { len, complete } => {
                assert!(out[..len].ends_with(b"\r\n"));
                assert!(!complete || !mechanism.is_scram());
                let text = out[..len - 2].rsplit(|b| *b == b' ').next();
                heard = text.and_then(nonce_in).unwrap_or(heard);
            }
            AuthLine::Keys => unreachable!("they were made"),
            AuthLine::Failed(_) => break,
        }
        let challenge = said(challenge, *encoded, &heard);
        line = client.next(Some(&challenge), login, &mut out);
        if line == AuthLine::Keys {
            let recipe = client.recipe().expect("keys are of something");
            if recipe.iterations() > 5000 {
                break;
            }
            let keys = ClientKeys::derive(login.password, recipe);
            line = client.with_keys(login, &keys, &mut out);
        }
    }

    for (_, text) in lines {
        if let Ok(once) = prepare(text) {
            assert_eq!(prepare(&once).as_ref().map(|t| t.as_str()), Ok(once.as_str()));
        }
        if let Ok(keys) = Keys::parse(text) {
            keys.emit(|again| assert_eq!(again, text));
        }
    }
});
