//! A stream as RFC 5321 and 3030 have it.

use courser_core::limits::COMMAND_LINE_BYTES;

/// Reads a stream as RFC 5321 and 3030 have it, with the replies that were given: the messages
/// that are in it, each as its content and number of recipients. An error is where replies and
/// stream don't fit.
pub(super) fn read_strictly(
    stream: &[u8],
    replies: &[String],
) -> Result<Vec<(Vec<u8>, usize)>, String> {
    let mut replies = replies.iter();
    let (mut rest, mut messages) = (stream, Vec::new());
    let (mut recipients, mut chunked) = (0, Vec::new());
    loop {
        let line_end = rest.windows(2).position(|w| w == b"\r\n");
        let Some(reply) = replies.next() else {
            // No more replies: there is no whole command any more, or no whole chunk behind it.
            return match line_end {
                None => Ok(messages),
                Some(end)
                    if chunk_size(&rest[..end]).is_some_and(|(n, _)| n > rest.len() - end - 2) =>
                {
                    Ok(messages)
                }
                Some(_) => Err(format!(
                    "no reply to {:?}",
                    String::from_utf8_lossy(&rest[..rest.len().min(60)])
                )),
            };
        };
        if reply.starts_with("421") || reply.starts_with("521") || reply.starts_with("221") {
            return match replies.next() {
                None => Ok(messages),
                Some(more) => Err(format!("a reply behind the last one: {more}")),
            };
        }
        let Some(end) = line_end else {
            // One that is too long is refused before its end, which never came here.
            let refused = reply.starts_with("500 5.5.2 Line too long");
            return match replies.next() {
                None if refused && rest.len() > COMMAND_LINE_BYTES => Ok(messages),
                _ => Err(format!("a reply without a command: {reply}")),
            };
        };
        let line = String::from_utf8_lossy(&rest[..end]).to_ascii_uppercase();
        rest = &rest[end + 2..];
        let yes = reply.starts_with('2');
        match line.split(' ').next().unwrap_or_default() {
            "EHLO" | "HELO" | "RSET" if yes => (recipients, chunked) = (0, Vec::new()),
            "MAIL" if yes => (recipients, chunked) = (0, Vec::new()),
            "RCPT" if yes => recipients += 1,
            "DATA" if reply.starts_with("354") => {
                let Some((content, behind)) = unstuff(rest) else {
                    // It never ended: at most a refusal follows.
                    return match replies.next() {
                        Some(last) if last.starts_with('2') => Err(format!("no end, but {last}")),
                        _ => Ok(messages),
                    };
                };
                rest = behind;
                match replies.next() {
                    Some(last) if last.starts_with('2') => messages.push((content, recipients)),
                    Some(last) if last.starts_with("421") || last.starts_with("521") => {
                        return Ok(messages);
                    }
                    Some(_) => {}
                    None => return Err("no reply to a message".into()),
                }
                recipients = 0;
            }
            "BDAT" => {
                // Where the chunk ends isn't known, or its end never comes: nothing may follow.
                let chunk = chunk_size(line.as_bytes()).filter(|(size, _)| *size <= rest.len());
                let Some((size, last)) = chunk else {
                    return match (yes, replies.next()) {
                        (true, _) => Err("a chunk that isn't there was taken".into()),
                        (_, Some(more)) => Err(format!("a reply behind half a chunk: {more}")),
                        (_, None) => Ok(messages),
                    };
                };
                let (chunk, behind) = rest.split_at(size);
                rest = behind;
                if !yes {
                    (recipients, chunked) = (0, Vec::new());
                    continue;
                }
                chunked.extend_from_slice(chunk);
                if last {
                    messages.push((std::mem::take(&mut chunked), recipients));
                    recipients = 0;
                }
            }
            _ => {}
        }
    }
}

/// The size in a BDAT command, and whether it is the last (RFC 3030 2); octets that may not be there
/// count as far too many.
fn chunk_size(line: &[u8]) -> Option<(usize, bool)> {
    // RFC 5321 4.1.1: white space at the end is tolerated.
    let line = String::from_utf8_lossy(line.trim_ascii_end()).to_ascii_uppercase();
    let mut words = line.split(' ').filter(|w| !w.is_empty());
    let (verb, size) = (words.next()?, words.next()?);
    let last = match words.next() {
        None => false,
        Some("LAST") => true,
        Some(_) => return None,
    };
    let digits = size.bytes().all(|b| b.is_ascii_digit());
    let fine = verb == "BDAT" && digits && words.next().is_none();
    fine.then(|| (size.parse().unwrap_or(usize::MAX), last))
}

/// The content up to CRLF.CRLF without the dots of DATA, and what is behind it.
fn unstuff(stream: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut content, mut rest) = (Vec::new(), stream);
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")? + 2;
        let (line, behind) = rest.split_at(end);
        rest = behind;
        if line == b".\r\n" {
            return Some((content, rest));
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
}

/// Whether every server sees the same lines in it.
pub(super) fn lines_are_whole(content: &[u8]) -> bool {
    content.iter().enumerate().all(|(i, b)| match b {
        b'\n' => i > 0 && content[i - 1] == b'\r',
        b'\r' => content.get(i + 1) == Some(&b'\n'),
        _ => true,
    })
}

pub(super) fn readable(messages: &[(Vec<u8>, usize)]) -> Vec<(String, usize)> {
    let text = |(content, to): &(Vec<u8>, usize)| {
        let end = content.len().min(400);
        (String::from_utf8_lossy(&content[..end]).into_owned(), *to)
    };
    messages.iter().map(text).collect()
}
