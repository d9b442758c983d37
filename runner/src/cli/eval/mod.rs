//! `courser eval`: the protocol core's answers to questions in JSON, without a network.
//!
//! One object a line comes in, one a line goes out, in the same order. Each kind is a file (or a
//! few kinds of one family), which has its [`Kind`] with its part of the help; [`KINDS`] is what
//! the command line offers.
//!
//! | file | kinds |
//! |---|---|
//! | [`spf`] | `spf` |
//! | [`dkim`] | `dkim`, `dkim-sign` |
//! | [`arc`] | `arc`, `arc-seal` |
//! | [`dmarc`] | `dmarc` |
//! | [`auth_results`] | `auth-results` |
//! | [`dane`] | `dane` |
//! | [`mta_sts`] | `mta-sts` |
//! | [`tlsrpt`] | `tlsrpt` |
//! | [`wire`] | `mailbox`, `command`, `reply` |
//! | [`fields`] | what all of them read their input with |
//! | [`dns`] | the DNS in the input |

pub mod arc;
pub mod auth_results;
pub mod dane;
pub mod dkim;
pub mod dmarc;
pub mod dns;
pub mod fields;
pub mod mta_sts;
pub mod spf;
pub mod tlsrpt;
pub mod wire;

use std::io::{BufRead, BufReader, Read, Write};

use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use self::fields::{Fields, Mistake};
use super::{Failure, Outcome};

/// Longest input line, bytes without its end: 64 MiB. A message of the largest size that the
/// server takes by default fits, base64 and DNS with it.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// What is left of an over-long line is thrown away in pieces of this size, bytes.
const SKIP_BYTES: u64 = 64 << 10;

/// One kind of question.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Its part of the help.
    pub help: &'static str,
    /// Answers one.
    pub evaluate: fn(&Fields<'_>) -> Result<Value, Mistake>,
}

/// All kinds, in the order of the help.
pub const KINDS: &[Kind] = &[
    spf::KIND,
    dkim::VERIFY,
    dkim::SIGN,
    arc::VALIDATE,
    arc::SEAL,
    dmarc::KIND,
    auth_results::KIND,
    dane::KIND,
    mta_sts::KIND,
    tlsrpt::KIND,
    wire::MAILBOX,
    wire::COMMAND,
    wire::REPLY,
];

/// `courser eval`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to evaluate
    #[arg(value_name = "KIND", value_parser = PossibleValuesParser::new(KINDS.iter().map(|k| k.name)))]
    kind: String,
}

/// The reference, for `--help`.
pub fn long_about() -> String {
    let mut text = String::from(
        "Evaluate addresses, SMTP lines, authentication and TLS policies offline, one JSON object a line

Reads one JSON object per line on standard input and writes one per line on standard output, in \
         the same order. Nothing is asked of the network and no clock is read: what an evaluation \
         needs is in its line. A line that can't be evaluated gives {\"error\": \"...\"}, which \
         says which field is wrong and what would be right, and the next line follows. A field \
         that is not named here is ignored; `?` marks those that may be left out.

Kinds:
",
    );
    for kind in KINDS {
        text.push_str(&format!("\n  {}\n", kind.name));
        for line in kind.help.trim().lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text.push('\n');
    text.push_str(dns::HELP);
    text
}

/// Runs it on standard input.
///
/// # Errors
/// Reading or writing failed. Lines that can't be evaluated are no error.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    let kind = KINDS.iter().find(|kind| kind.name == args.kind);
    let kind = kind.ok_or_else(|| Failure::new(format!("no kind {:?}", args.kind)))?;
    let mut input = BufReader::new(std::io::stdin().lock());
    answer_all(kind, &mut input, out)
}

/// Answers every line of `input` on `out`.
///
/// # Errors
/// Reading or writing failed.
pub fn answer_all(kind: &Kind, input: &mut BufReader<impl Read>, out: &mut dyn Write) -> Outcome {
    let mut line = Vec::new();
    loop {
        line.clear();
        let bound = LINE_BYTES_MAX as u64 + 1;
        if input.by_ref().take(bound).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let ended = line.pop_if(|last| *last == b'\n').is_some();
        let answer = if line.len() > LINE_BYTES_MAX {
            if !ended {
                skip_line(input)?;
            }
            too_long()
        } else {
            answer(kind, &line)
        };
        serde_json::to_writer(&mut *out, &answer).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
        // Who waits for the answer before the rest of the next question gets it.
        if !input.buffer().contains(&b'\n') {
            out.flush()?;
        }
    }
}

/// Answers one line.
pub fn answer(kind: &Kind, line: &[u8]) -> Value {
    let value = match serde_json::from_slice::<Value>(line) {
        Ok(value) => value,
        Err(error) => return json!({ "error": format!("the line is no JSON: {error}") }),
    };
    let answer = Fields::of(&value).and_then(|fields| (kind.evaluate)(&fields));
    answer.unwrap_or_else(|mistake| json!({ "error": mistake.to_string() }))
}

fn too_long() -> Value {
    json!({ "error": format!("the line is longer than {LINE_BYTES_MAX} bytes") })
}

fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    let mut rest = Vec::new();
    loop {
        rest.clear();
        let read = input
            .by_ref()
            .take(SKIP_BYTES)
            .read_until(b'\n', &mut rest)?;
        if read == 0 || rest.ends_with(b"\n") {
            return Ok(());
        }
    }
}
