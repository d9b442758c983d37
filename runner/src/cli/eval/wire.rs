//! The kinds of the SMTP wire: `mailbox`, `command`, `reply`.

use courser_core::mail::address::{AddressError, Domain, Mailbox, ReversePath};
use courser_core::smtp::command::{
    BodyType, Command, FutureRelease, MailParams, Notify, RcptParams, Ret,
};
use courser_core::smtp::reply::{Lossy, ReplyError, ReplyReader, ReplyState};
use serde_json::{Map, Value, json};

use super::Kind;
use super::fields::{Fields, Mistake};

/// Whether a text is a mailbox.
pub const MAILBOX: Kind = Kind {
    name: "mailbox",
    help: r#"
Whether a text is a mailbox of RFC 5321 4.1.2, or of RFC 6531 3.3.
in:  {address, smtputf8?}: without smtputf8 (false by default) it must be ASCII
out: {valid, local, domain, reason}: local and domain as written, null unless valid"#,
    evaluate: mailbox,
};

/// What a command line says.
pub const COMMAND: Kind = Kind {
    name: "command",
    help: r#"
What a line of an SMTP client says (RFC 5321 4.1, and extensions).
in:  {line}: with or without its CRLF
out: {verb, ...}: name (EHLO, HELO, LHLO), from and params (MAIL; from is null for <>), to
     and params (RCPT), size and last (BDAT), mechanism and initial (AUTH), argument (NOOP,
     HELP, VRFY, EXPN); params by keyword; or {error, reply}: the reply the server gives"#,
    evaluate: command,
};

/// What a reply says.
pub const REPLY: Kind = Kind {
    name: "reply",
    help: r#"
What an SMTP server's reply says (RFC 5321 4.2, RFC 2034).
in:  {line}: one reply, of several lines if they are joined by line ends
out: {code, enhanced, text, lines}: enhanced is null where there is none, and the text and its
     lines are without codes; or {error}"#,
    evaluate: reply,
};

fn mailbox(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let address = fields.text("address")?;
    let smtputf8 = fields.optional_bool("smtputf8")?.unwrap_or(false);
    let invalid = |reason: String| {
        Ok(json!({ "valid": false, "local": null, "domain": null, "reason": reason }))
    };
    match Mailbox::parse(address) {
        Err(error) => invalid(error.to_string()),
        Ok(mailbox) if !smtputf8 && !mailbox.is_ascii() => {
            invalid("it is not ASCII, and needs SMTPUTF8".into())
        }
        Ok(mailbox) => match mailbox.domain() {
            Some(domain) => Ok(json!({
                "valid": true,
                "local": mailbox.local(),
                "domain": as_written(address, &mailbox, domain),
                "reason": null,
            })),
            // RFC 5321 4.1.1.3: only in RCPT, and no mailbox of 4.1.2.
            None => invalid(format!(
                "{}; Postmaster stands alone only in RCPT",
                AddressError::NoDomain
            )),
        },
    }
}

/// A literal's text is in the address.
fn as_written<'a>(address: &'a str, mailbox: &Mailbox<'_>, domain: Domain<'a>) -> &'a str {
    match domain {
        Domain::Name(name) => name,
        Domain::Literal(_) => address.get(mailbox.local().len() + 1..).unwrap_or(""),
    }
}

fn command(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let line = without_end(fields.text("line")?);
    Ok(match Command::parse(line.as_bytes()) {
        Ok(command) => parsed(&command),
        Err(error) => {
            let (code, enhanced, text) = error.reply();
            json!({ "error": error.to_string(), "reply": format!("{code} {enhanced} {text}") })
        }
    })
}

fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

fn parsed(command: &Command<'_>) -> Value {
    match command {
        Command::Ehlo(name) => json!({ "verb": "EHLO", "name": name }),
        Command::Helo(name) => json!({ "verb": "HELO", "name": name }),
        Command::Lhlo(name) => json!({ "verb": "LHLO", "name": name }),
        Command::Mail(from, params) => {
            let from = match from {
                ReversePath::Null => Value::Null,
                ReversePath::Mailbox(mailbox) => mailbox.to_string().into(),
            };
            json!({ "verb": "MAIL", "from": from, "params": mail_params(params) })
        }
        Command::Rcpt(to, params) => {
            json!({ "verb": "RCPT", "to": to.to_string(), "params": rcpt_params(params) })
        }
        Command::Data => json!({ "verb": "DATA" }),
        Command::Bdat { size, last } => json!({ "verb": "BDAT", "size": size, "last": last }),
        Command::Rset => json!({ "verb": "RSET" }),
        Command::Noop(argument) => json!({ "verb": "NOOP", "argument": text(argument) }),
        Command::Quit => json!({ "verb": "QUIT" }),
        Command::Help(argument) => json!({ "verb": "HELP", "argument": text(argument) }),
        Command::Vrfy(argument) => json!({ "verb": "VRFY", "argument": text(argument) }),
        Command::Expn(argument) => json!({ "verb": "EXPN", "argument": text(argument) }),
        Command::StartTls => json!({ "verb": "STARTTLS" }),
        Command::Auth { mechanism, initial } => {
            json!({ "verb": "AUTH", "mechanism": mechanism, "initial": initial.map(text) })
        }
    }
}

fn mail_params(params: &MailParams<'_>) -> Value {
    let mut all = Map::new();
    let mut put = |keyword: &str, value: Option<Value>| {
        all.extend(value.map(|value| (keyword.to_owned(), value)));
    };
    put("SIZE", params.size.map(Value::from));
    put(
        "BODY",
        params.body.map(|body| match body {
            BodyType::SevenBit => "7BIT".into(),
            BodyType::EightBitMime => "8BITMIME".into(),
            BodyType::BinaryMime => "BINARYMIME".into(),
        }),
    );
    put("SMTPUTF8", params.smtputf8.then_some(Value::Bool(true)));
    put(
        "RET",
        params.ret.map(|ret| match ret {
            Ret::Full => "FULL".into(),
            Ret::Headers => "HDRS".into(),
        }),
    );
    put("ENVID", params.envid.map(|id| text(id).into()));
    put("AUTH", params.auth.map(|auth| text(auth).into()));
    put("REQUIRETLS", params.requiretls.then_some(Value::Bool(true)));
    put("MT-PRIORITY", params.mt_priority.map(Value::from));
    put(
        "BY",
        params.by.map(|by| {
            json!({ "seconds": by.seconds, "mode": if by.returns { "R" } else { "N" }, "trace": by.trace })
        }),
    );
    match params.hold {
        None => {}
        Some(FutureRelease::HoldFor(seconds)) => put("HOLDFOR", Some(seconds.into())),
        Some(FutureRelease::HoldUntil(time)) => put("HOLDUNTIL", Some(time.unix().into())),
    }
    Value::Object(all)
}

fn rcpt_params(params: &RcptParams<'_>) -> Value {
    let mut all = Map::new();
    if let Some(Notify {
        never,
        success,
        failure,
        delay,
    }) = params.notify
    {
        let events = [
            (never, "NEVER"),
            (success, "SUCCESS"),
            (failure, "FAILURE"),
            (delay, "DELAY"),
        ];
        let named = events.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
        all.insert("NOTIFY".into(), named.collect::<Vec<_>>().into());
    }
    if let Some((kind, address)) = params.orcpt {
        let text = format!("{};{}", text(kind), text(address));
        all.insert("ORCPT".into(), text.into());
    }
    Value::Object(all)
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn reply(fields: &Fields<'_>) -> Result<Value, Mistake> {
    // A final line end may be missing.
    let wire = format!("{}\r\n", without_end(fields.text("line")?));
    let wrong = |error: ReplyError| fields.mistake("line", error);
    let mut reader = ReplyReader::new();
    let mut rest = wire.as_bytes();
    let mut lines = Vec::new();
    loop {
        let pushed = reader.push(rest).map_err(wrong)?;
        rest = rest.get(pushed.consumed..).unwrap_or(&[]);
        if pushed.state == ReplyState::Incomplete {
            return Err(wrong(ReplyError::Incomplete));
        }
        lines.push(Lossy(reader.line()).to_string());
        if pushed.state == ReplyState::Complete {
            break;
        }
    }
    match reader.reply() {
        Some(reply) if rest.is_empty() => Ok(json!({
            "code": reply.code.get(),
            "enhanced": reply.enhanced.map(|code| code.to_string()),
            "text": String::from_utf8_lossy(reply.text),
            "lines": lines,
        })),
        _ => Err(wrong(ReplyError::Incomplete)),
    }
}
