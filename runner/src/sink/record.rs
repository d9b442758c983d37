//! What is kept of the messages that were taken.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files that all receivers write to.
#[derive(Debug)]
pub(super) struct Record {
    save: Option<PathBuf>,
    list: Option<Mutex<BufWriter<File>>>,
}

/// A message that was taken.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    pub(super) receiver: &'a str,
    /// Connection and message in it.
    pub(super) number: (u64, u64),
    pub(super) client: SocketAddr,
    pub(super) helo: &'a str,
    /// `<path>` and parameters, as they came.
    pub(super) mail: &'a str,
    /// The same of each recipient, each with its line feed.
    pub(super) recipients: &'a str,
    pub(super) content: &'a [u8],
}

impl Record {
    pub(super) fn new(save: Option<&Path>, list: Option<&Path>) -> io::Result<Self> {
        if let Some(dir) = save {
            fs::create_dir_all(dir)?;
        }
        let list =
            list.map(|path| Ok::<_, io::Error>(Mutex::new(BufWriter::new(File::create(path)?))));
        Ok(Self {
            save: save.map(Path::to_owned),
            list: list.transpose()?,
        })
    }

    /// Whether whole messages are kept.
    pub(super) fn saves(&self) -> bool {
        self.save.is_some()
    }

    /// Writes the message to a file of its own, which appears under its name when it is whole.
    pub(super) fn save(&self, taken: &Taken<'_>) -> io::Result<()> {
        let Some(dir) = &self.save else { return Ok(()) };
        let mut text = format!(
            "X-Sink-Receiver: {}\r\nX-Sink-Client: {}\r\nX-Sink-Helo: {}\r\nX-Sink-Mail-From: {}\r\n",
            taken.receiver, taken.client, taken.helo, taken.mail
        )
        .into_bytes();
        for recipient in taken.recipients.lines() {
            write!(text, "X-Sink-Rcpt-To: {recipient}\r\n")?;
        }
        text.extend_from_slice(taken.content);
        let (connection, message) = taken.number;
        let name = format!("{}-{connection:08}-{message:04}", taken.receiver);
        let part = dir.join(format!(".{name}.part"));
        fs::write(&part, text)?;
        fs::rename(part, dir.join(format!("{name}.eml")))
    }

    /// A line for a recipient.
    pub(super) fn list(&self, receiver: &str, message_id: Option<&[u8]>, recipient: &str) {
        if let Some(list) = &self.list {
            let id = String::from_utf8_lossy(message_id.unwrap_or(b"-"));
            let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
            // A full disk must not end the session; the count of lines shows it.
            let _ = writeln!(list, "{receiver} {recipient} {id}");
        }
    }

    /// Brings the list to its file.
    pub(super) fn flush(&self) -> io::Result<()> {
        match &self.list {
            Some(list) => list.lock().unwrap_or_else(PoisonError::into_inner).flush(),
            None => Ok(()),
        }
    }
}

/// The Message-ID in the header that `content` begins with.
pub(super) fn message_id(content: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"message-id:";
    let mut lines = content.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end);
    while let Some(line) = lines.next().filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_at_checked(NAME.len()) else {
            continue;
        };
        if name.eq_ignore_ascii_case(NAME) {
            let value = match value.trim_ascii() {
                // Folded behind its name.
                b"" => lines.next()?.trim_ascii(),
                value => value,
            };
            return (!value.is_empty()).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_found_in_the_header_only() {
        let id = |text: &'static str| {
            message_id(text.as_bytes()).map(|id| id.escape_ascii().to_string())
        };
        assert_eq!(
            id("A: b\r\nMessage-Id:  <x@y> \r\n\r\n").as_deref(),
            Some("<x@y>")
        );
        assert_eq!(
            id("Message-ID:\r\n <x@y>\r\n\r\n").as_deref(),
            Some("<x@y>")
        );
        assert_eq!(id("A: b\r\n\r\nMessage-ID: <x@y>\r\n"), None);
        assert_eq!(id("Message-ID:\r\n"), None);
        assert_eq!(id(""), None);
    }
}
