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
const CHUNK: usize = 1 << 20;
/// Most bytes that are read.
const READ_MAX: usize = 256 << 20;

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

/// Reads the end of the log in `dir`; `None` where there is none.
///
/// # Errors
/// A file can't be read.
pub fn recent(dir: &Path) -> io::Result<Option<Recent>> {
    let files = match closed(dir, None) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        files => files?,
    };
    let mut found: Option<Recent> = None;
    let mut left = READ_MAX;
    for path in files.iter().rev() {
        let mut oldest = Time(u64::MAX);
        let mut over = false;
        let mut each = |line: &[u8]| {
            // What a crash has cut is none.
            let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
                return true;
            };
            let recent = found.get_or_insert_with(|| Recent {
                since: Time(line.time.0.saturating_sub(BACK_MS)),
                told: HashSet::new(),
            });
            oldest = line.time;
            if line.time.0.saturating_add(SLACK_MS) < recent.since.0 {
                over = true;
                return false;
            }
            let ends = ["delivered", "bounced", "expired", "suppressed"];
            if let Some(DeliverySelector {
                message,
                recipient: Some(recipient),
            }) = line.delivery
                && ends.contains(&&*line.kind)
            {
                recent.told.insert((message.0, recipient));
            }
            true
        };
        if path.to_str().is_some_and(|p| p.ends_with(OPEN)) {
            let file = File::open(path)?;
            lines_back(&file, &mut left, &mut each)?;
        } else {
            let mut text = Vec::new();
            let unpacked = zstd::stream::read::Decoder::new(File::open(path)?)?;
            unpacked.take(left as u64).read_to_end(&mut text)?;
            left -= text.len();
            text.rsplit(|b| *b == b'\n').all(&mut each);
        }
        if over {
            break;
        }
        if left == 0 {
            // What is further back isn't known, so nothing is made up of it.
            if let Some(recent) = found.as_mut().filter(|_| oldest.0 < u64::MAX) {
                recent.since = recent.since.max(oldest);
            }
            break;
        }
    }
    Ok(found)
}

/// Gives the lines of a file, last one first, to `each` until it has enough; reads no more than `left`.
fn lines_back(
    file: &File,
    left: &mut usize,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let mut at = file.metadata()?.len();
    // The beginning of the part that was read last: its line may begin further in front.
    let mut rest = Vec::new();
    while at > 0 && *left > 0 {
        let len = CHUNK.min(*left).min(usize::try_from(at).unwrap_or(CHUNK));
        at -= len as u64;
        *left -= len;
        let mut chunk = vec![0; len];
        file.read_exact_at(&mut chunk, at)?;
        chunk.append(&mut rest);
        let first = match at {
            0 => 0,
            _ => chunk
                .iter()
                .position(|b| *b == b'\n')
                .map_or(chunk.len(), |i| i + 1),
        };
        if !chunk[first..].rsplit(|b| *b == b'\n').all(&mut *each) {
            return Ok(());
        }
        chunk.truncate(first);
        rest = chunk;
    }
    Ok(())
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
