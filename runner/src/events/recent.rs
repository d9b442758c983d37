//! The last events, read when the server starts: whether a crash took some.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;

use super::event::{Event, Time};
use super::files::{OPEN, closed};
use crate::control::DeliverySelector;
use crate::spool::EndedDelivery;

/// Events may be missing that are older than the last one that is there by so much, milliseconds:
/// shards hold some back, and what was held back is written in the order in which it came.
const BACK_MS: u64 = 10_000;
/// And those that are there are looked for so much further back, milliseconds.
const SLACK_MS: u64 = 5000;
/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;
/// Most bytes that are read: some hundred thousand events.
const READ_MAX: u64 = 64 << 20;

/// The ends of deliveries that have an event, of the last while before the end of the log.
#[derive(Debug, Default)]
pub struct Recent {
    /// Ends since then may lack their event.
    pub since: Time,
    told: HashSet<(u64, u32)>,
}

impl Recent {
    /// The events that are missing of those that ended since then.
    pub fn missing(mut self, ended: &[EndedDelivery]) -> Vec<Event> {
        let since = self.since.0;
        let recent = ended.iter().filter(|e| e.at_ms >= since);
        recent
            .filter(|e| self.told.insert((e.envelope.id(), e.outcome.recipient)))
            .filter_map(Event::made_up)
            .collect()
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    time: Time,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    delivery: Option<DeliverySelector>,
}

/// The log as it is read, from its end.
#[derive(Default)]
struct Reading {
    found: Option<Recent>,
    /// Of the last line that was read.
    oldest: Option<Time>,
}

impl Reading {
    /// Reads a line; false if it is so old that the ones in front of it don't matter.
    fn line(&mut self, line: &[u8]) -> bool {
        // What a crash has cut is none.
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
            return true;
        };
        let recent = self.found.get_or_insert_with(|| Recent {
            since: Time(line.time.0.saturating_sub(BACK_MS)),
            told: HashSet::new(),
        });
        self.oldest = Some(line.time);
        let ends = ["delivered", "bounced", "expired", "suppressed"];
        if let Some(DeliverySelector {
            message,
            recipient: Some(recipient),
        }) = line.delivery
            && ends.contains(&&*line.kind)
        {
            recent.told.insert((message.0, recipient));
        }
        line.time.0.saturating_add(SLACK_MS) >= recent.since.0
    }

    /// No more can be read: what is further back isn't known, so nothing is made up of it.
    fn cut(&mut self) {
        if let (Some(recent), Some(oldest)) = (&mut self.found, self.oldest) {
            let certain = Time(oldest.0.saturating_add(SLACK_MS));
            recent.since = recent.since.max(certain);
        }
    }
}

/// Reads the end of the log in `dir`; `None` where there is none.
///
/// # Errors
/// A file can't be read.
pub fn recent(dir: &Path) -> io::Result<Option<Recent>> {
    recent_of(dir, READ_MAX)
}

fn recent_of(dir: &Path, mut left: u64) -> io::Result<Option<Recent>> {
    let files = match closed(dir, None) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        files => files?,
    };
    let mut reading = Reading::default();
    for path in files.iter().rev() {
        let goes_on = if path.to_str().is_some_and(|p| p.ends_with(OPEN)) {
            lines_back(&File::open(path)?, &mut left, &mut reading)?
        } else {
            let text = unpacked_end(path, left)?;
            left -= text.len() as u64;
            text.rsplit(|b| *b == b'\n').all(|l| reading.line(l))
        };
        if !goes_on {
            break;
        }
        if left == 0 {
            reading.cut();
            break;
        }
    }
    Ok(reading.found)
}

/// The end of a compressed file, `most` bytes of it. It is unpacked twice, as it may be larger than
/// what should be held in memory.
fn unpacked_end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let unpack = || zstd::stream::read::Decoder::new(File::open(path)?);
    let len = io::copy(&mut unpack()?, &mut io::sink())?;
    let mut rest = unpack()?;
    io::copy(
        &mut (&mut rest).take(len.saturating_sub(most)),
        &mut io::sink(),
    )?;
    let mut text = Vec::new();
    rest.read_to_end(&mut text)?;
    Ok(text)
}

/// Reads the lines of a file, last one first, and no more than `left` bytes; false once it has enough.
fn lines_back(file: &File, left: &mut u64, reading: &mut Reading) -> io::Result<bool> {
    let mut at = file.metadata()?.len();
    // The beginning of the part that was read last: its line may begin further in front.
    let mut rest = Vec::new();
    while at > 0 && *left > 0 {
        let len = CHUNK.min(*left).min(at);
        at -= len;
        *left -= len;
        let mut chunk = vec![0; len as usize];
        file.read_exact_at(&mut chunk, at)?;
        chunk.append(&mut rest);
        let first = match at {
            0 => 0,
            _ => chunk
                .iter()
                .position(|b| *b == b'\n')
                .map_or(chunk.len(), |i| i + 1),
        };
        if !chunk[first..]
            .rsplit(|b| *b == b'\n')
            .all(|l| reading.line(l))
        {
            return Ok(false);
        }
        chunk.truncate(first);
        rest = chunk;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventKind, EventLog, Options};
    use crate::spool::{EnvelopeFields, Outcome, OutcomeKind, RecipientFields};

    fn ended(id: u64, recipient: u32, at_ms: u64) -> EndedDelivery {
        let to = |n: u32| RecipientFields {
            address: format!("r{n}@d.test"),
            ..RecipientFields::default()
        };
        let fields = EnvelopeFields {
            id,
            sender: "a@s.test".into(),
            recipients: (0..3).map(to).collect(),
            ..EnvelopeFields::default()
        };
        EndedDelivery {
            envelope: fields.encode().unwrap(),
            at_ms,
            outcome: Outcome {
                recipient,
                kind: OutcomeKind::Delivered,
            },
        }
    }

    /// A log with these ends and, before the last of them, enough lines to need several chunks.
    fn log(dir: &Path, ends: &[EndedDelivery], compress: bool) {
        let options = Options {
            compress,
            ..Options::default()
        };
        let log = EventLog::open(dir, options).unwrap();
        let mut events: Vec<Event> = ends.iter().filter_map(Event::made_up).collect();
        let last = events.pop();
        let filler = Event {
            time: ends.last().map_or(Time(0), |e| Time(e.at_ms)),
            kind: EventKind::Spool {
                state: "trouble".into(),
                reason: "x".repeat(1000),
            },
        };
        events.extend(vec![filler; 3000]);
        events.extend(last);
        log.sink().send_blocking(&mut events);
        log.close();
    }

    #[test]
    fn what_has_no_event_is_found() {
        for compress in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            assert!(recent(dir.path()).unwrap().is_none(), "no log");
            let (old, told) = (ended(1, 0, 50_000), ended(2, 0, 92_000));
            log(
                dir.path(),
                &[old, told.clone(), ended(2, 1, 100_000)],
                compress,
            );
            if compress {
                drop(EventLog::open(dir.path(), Options::default()).unwrap());
                let one = closed(dir.path(), None).unwrap().pop().unwrap();
                assert!(one.to_str().unwrap().ends_with(".zst"));
            }
            let last = |found: Option<Recent>| found.expect("a log");
            assert_eq!(last(recent(dir.path()).unwrap()).since, Time(90_000));
            let missing = last(recent(dir.path()).unwrap()).missing(&[
                ended(1, 1, 89_999), // too old to be judged
                told.clone(),
                ended(2, 1, 100_001),
                ended(2, 2, 100_002),
                ended(2, 2, 100_002), // found twice
                ended(3, 0, 95_000),
            ]);
            let all: Vec<_> = missing
                .iter()
                .map(|e| match &e.kind {
                    EventKind::Delivered(d) => (e.time.0, d.delivery.delivery.to_string()),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(all.len(), 2, "{all:?}");
            assert_eq!((all[0].0, all[1].0), (100_002, 95_000));
            // A line that was cut says nothing.
            let path = closed(dir.path(), None).unwrap().pop().unwrap();
            if !compress {
                let mut text = std::fs::read(&path).unwrap();
                text.truncate(text.len() - 10);
                std::fs::write(&path, text).unwrap();
                let missing = last(recent(dir.path()).unwrap()).missing(&[ended(2, 1, 100_000)]);
                assert_eq!(missing.len(), 1);
            }
        }
    }

    #[test]
    fn a_log_that_is_too_long_is_read_from_its_end() {
        for compress in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let ends = [
                ended(1, 0, 99_000),
                ended(1, 1, 99_000),
                ended(1, 2, 100_000),
            ];
            log(dir.path(), &ends, compress);
            if compress {
                drop(EventLog::open(dir.path(), Options::default()).unwrap());
            }
            // Its last line, and some of what is in front of it: the other ends may have been told.
            let recent = recent_of(dir.path(), 20_000).unwrap().expect("a log");
            assert_eq!(recent.since, Time(100_000 + SLACK_MS));
            assert!(recent.told.contains(&(1, 2)) && recent.told.len() == 1);
            let missing = recent.missing(&[ended(1, 0, 99_000), ended(1, 1, 99_000)]);
            assert_eq!(missing, []);
        }
    }

    #[test]
    fn what_is_settled_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(dir.path(), Options::default()).unwrap();
        let sink = log.sink();
        sink.settle(std::time::Duration::ZERO);
        let mut events = vec![Event::made_up(&ended(7, 0, 1000)).unwrap()];
        sink.send_blocking(&mut events);
        sink.settle(std::time::Duration::from_secs(60));
        let recent = recent(dir.path()).unwrap().expect("a log");
        assert!(recent.missing(&[ended(7, 0, 1000)]).is_empty());
    }
}
