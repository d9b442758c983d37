//! What was found: each difference, and how many messages who took.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::known::{BLIND, BODIES, Change, Known, as_postfix_writes};
use super::side::{Seen, Taken, queued};
use super::streams::{Kind, Stream};
use super::strict::read_strictly;

/// A reply that says that a message was taken, whatever its id.
const QUEUED: &str = "250 2.0.0 Queued";

/// Streams of one kind, and what became of them.
#[derive(Clone, Copy, Default)]
struct Count {
    streams: usize,
    /// Both gave replies of the same classes to all of it.
    alike: usize,
    /// Courser refused a bare CR or LF where Postfix said something else.
    bare: usize,
    /// And what Postfix said is that it has queued a message.
    bare_queued: usize,
    /// Postfix has queued a message out of more than is in the stream by RFC 5321.
    misread: usize,
    /// Messages that both took, and that one of them did.
    both: usize,
    only_postfix: usize,
    only_courser: usize,
}

/// Each difference, how often, and the first stream that showed it.
type Differences = BTreeMap<String, (usize, String)>;

#[derive(Default)]
pub(super) struct Found {
    pub(super) known: Differences,
    pub(super) unknown: Differences,
    counts: BTreeMap<Kind, Count>,
}

impl Found {
    fn note(&mut self, known: bool, difference: String, stream: &Stream) {
        let map = if known {
            &mut self.known
        } else {
            &mut self.unknown
        };
        map.entry(difference)
            .or_insert_with(|| (0, stream.name.clone()))
            .0 += 1;
    }

    fn count(&mut self, stream: &Stream) -> &mut Count {
        self.counts.entry(stream.kind).or_default()
    }

    pub(super) fn compare(&mut self, stream: &Stream, postfix: &Seen, courser: &Seen) {
        let misread = match read_strictly(&stream.bytes, &postfix.replies) {
            Ok(honest) => honest.len() < postfix.messages.len(),
            Err(_) => !postfix.messages.is_empty(),
        };
        let count = self.count(stream);
        count.streams += 1;
        count.misread += usize::from(misread);
        // Two refusals are the same, but not when one of them closes.
        let class = |seen: &Seen, i: usize| {
            let reply = seen.replies.get(i)?;
            Some((reply.bytes().next(), closes(reply)))
        };
        let most = postfix.replies.len().max(courser.replies.len());
        let taken = |seen: &Seen, end: usize| {
            seen.replies[..end.min(seen.replies.len())]
                .iter()
                .filter(|r| queued(r).is_some())
                .count()
        };
        let (mut from, mut compared) = (0, 0);
        loop {
            let first = (from..most).find(|&i| class(postfix, i) != class(courser, i));
            let end = first.unwrap_or(most);
            let (p, c) = (taken(postfix, end), taken(courser, end));
            if p != c {
                self.note(false, format!("{p} messages and {c}"), stream);
                return;
            }
            let both = postfix.messages[compared..p]
                .iter()
                .zip(&courser.messages[compared..c]);
            for (p, c) in both {
                let (known, unknown) = differences(p, c);
                known.into_iter().for_each(|d| self.note(true, d, stream));
                unknown
                    .into_iter()
                    .for_each(|d| self.note(false, d, stream));
            }
            self.count(stream).both += p - compared;
            compared = p;
            let Some(i) = first else {
                self.count(stream).alike += usize::from(from == 0);
                return;
            };
            let replies = (reply(postfix, i), reply(courser, i));
            let known = Known::find(stream, &replies.0, &replies.1);
            match known {
                Some(k) => self.note(true, k.row(k.because), stream),
                None => self.note(false, format!("{:60} | {}", replies.0, replies.1), stream),
            }
            if known.is_some_and(|k| k.goes_on) {
                from = i + 1;
                continue;
            }
            let bare = replies.1.contains("Bare CR or LF");
            let count = self.count(stream);
            count.bare += usize::from(bare);
            count.bare_queued += usize::from(bare && replies.0.starts_with(QUEUED));
            let behind = (&postfix.messages[p..], &courser.messages[c..]);
            return self.compare_behind(stream, known, &replies, behind);
        }
    }

    /// The messages behind the first reply that differs, as sets: from there on the two are in
    /// different places, and no reply of one answers one of the other.
    fn compare_behind(
        &mut self,
        stream: &Stream,
        known: Option<&Known>,
        (p, c): &(String, String),
        (postfix, courser): (&[Taken], &[Taken]),
    ) {
        let (mut only_postfix, mut only_courser) = (postfix.iter().collect::<Vec<_>>(), 0);
        for message in courser {
            let same = |p: &&Taken| differences(p, message).1.is_empty();
            match only_postfix.iter().position(same) {
                Some(at) => drop(only_postfix.remove(at)),
                None => only_courser += 1,
            }
        }
        let count = self.count(stream);
        count.both += courser.len() - only_courser;
        count.only_postfix += only_postfix.len();
        count.only_courser += only_courser;
        let refused = c.starts_with(['4', '5']);
        let closed = c.is_empty() || closes(c);
        let reason = match known {
            // It has closed: not one message may follow, not even one that both take.
            _ if closed => None,
            Some(k) => {
                let more = k.more.or(refused.then_some(BLIND));
                more.map(|more| k.row(&format!("behind it: {more}")))
            }
            None => None,
        };
        if closed && !courser.is_empty() {
            let what = format!("{p:60} | {c}, and then Courser takes mail");
            self.note(false, what, stream);
        } else if only_courser > 0 {
            let known = reason.is_some();
            let what = reason
                .clone()
                .unwrap_or_else(|| format!("{p:60} | {c}, and then only Courser takes a message"));
            self.note(known, what, stream);
        }
        // Who has refused or closed takes less.
        if !only_postfix.is_empty() && !refused && !closed && reason.is_none() {
            let what = format!("{p:60} | {c}, and then only Postfix takes a message");
            self.note(false, what, stream);
        }
    }

    /// What became of the streams of each kind.
    pub(super) fn counts(&self) -> String {
        let mut table = format!(
            "{:26} | streams | replies alike | bare CR or LF refused | and queued by Postfix | read otherwise by Postfix | messages of both | of Postfix only | of Courser only\n",
            ""
        );
        for kind in Kind::ALL {
            let c = self.counts.get(&kind).copied().unwrap_or_default();
            let _ = writeln!(
                table,
                "{:26} | {:7} | {:13} | {:21} | {:21} | {:25} | {:16} | {:15} | {:15}",
                kind.name(),
                c.streams,
                c.alike,
                c.bare,
                c.bare_queued,
                c.misread,
                c.both,
                c.only_postfix,
                c.only_courser
            );
        }
        table
    }

    /// Streams out of which Postfix took more than RFC 5321 has it.
    pub(super) fn misread(&self) -> usize {
        self.counts.values().map(|c| c.misread).sum()
    }
}

/// The last line of a reply, without what would make each another; empty where none came.
fn reply(seen: &Seen, i: usize) -> String {
    let reply = seen.replies.get(i).map_or("", String::as_str);
    let last = reply.lines().last().unwrap_or_default();
    match queued(last) {
        Some(_) => QUEUED.to_owned(),
        None => last.to_owned(),
    }
}

/// Whether the server closes behind this reply.
fn closes(reply: &str) -> bool {
    ["421", "521", "221"]
        .iter()
        .any(|code| reply.starts_with(code))
}

pub(super) fn table(differences: &Differences) -> String {
    let mut table = String::new();
    for (difference, (count, stream)) in differences {
        let _ = writeln!(table, "{count:6} | {difference} | {stream}");
    }
    table
}

/// How what both made of one message differs: as we know it, and otherwise.
fn differences(postfix: &Taken, courser: &Taken) -> (Vec<String>, Vec<String>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let from = as_postfix_writes(&courser.from);
    let to: BTreeSet<String> = courser.to.iter().map(|to| as_postfix_writes(to)).collect();
    let lower = |to: &BTreeSet<String>| -> BTreeSet<String> {
        to.iter()
            .map(|t| t.replace("Postmaster@", "postmaster@"))
            .collect()
    };
    if (&postfix.from, lower(&postfix.to)) == (&from, lower(&to)) {
        if (&postfix.from, &postfix.to) != (&courser.from, &courser.to) {
            known.push(format!(
                "{:93} | {}",
                "quotes that aren't needed are taken off; <postmaster> gets the server's own name",
                "RFC 5321 4.1.2: the same mailbox; addresses are passed on as they came"
            ));
        }
    } else {
        unknown.push(format!(
            "envelope {:?} {:?} | {:?} {:?}",
            postfix.from, postfix.to, courser.from, courser.to
        ));
    }
    if courser.content == postfix.content {
        return (known, unknown);
    }
    // Postfix makes all of them that there is a reason for, but chunks are spared some.
    let all = (1 << BODIES.len()) - 1;
    let right = (0..=all).rev().find_map(|which: u32| {
        let (content, made) = changed(&courser.content, which);
        (content == postfix.content).then_some(made)
    });
    let content = match right {
        Some(made) => {
            let row = |c: &Change| format!("{:93} | {}", c.what, c.because);
            known.extend(made.into_iter().map(row));
            return (known, unknown);
        }
        None => changed(&courser.content, all).0,
    };
    let at = content
        .iter()
        .zip(&postfix.content)
        .position(|(a, b)| a != b)
        .unwrap_or(content.len().min(postfix.content.len()));
    let near = |c: &[u8]| {
        String::from_utf8_lossy(&c[at.saturating_sub(20)..(at + 30).min(c.len())]).into_owned()
    };
    unknown.push(format!(
        "content {:?} | {:?}",
        near(&postfix.content),
        near(&content)
    ));
    (known, unknown)
}

/// Content with those of [`BODIES`] whose bits are set, and which of them have changed something.
fn changed(content: &[u8], which: u32) -> (Vec<u8>, Vec<&'static Change>) {
    let (mut content, mut made) = (content.to_vec(), Vec::new());
    for (i, change) in BODIES.iter().enumerate() {
        if which & 1 << i == 0 {
            continue;
        }
        let new = (change.change)(&content);
        if new != content {
            made.push(change);
            content = new;
        }
    }
    (content, made)
}
