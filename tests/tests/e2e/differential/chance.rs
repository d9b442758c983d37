//! What chance makes of streams, and what it begins with.

use super::streams::{HELLO, MAIL, QUIT, RCPT, SECOND, TEXT};

/// xorshift64*: the test's own chance, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % n.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// What mutations put in.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n.\r\n",
    "\n.\n",
    "\r\n.\n",
    "\n.\r\n",
    "\r.\r",
    ".",
    "..",
    "\0",
    " ",
    "\t",
    "\r\n\r\n",
    ":",
    "<",
    ">",
    "@",
    "\"",
    "\\",
    "\u{fc}",
    HELLO,
    MAIL,
    RCPT,
    "DATA\r\n",
    TEXT,
    SECOND,
    QUIT,
    "RSET\r\n",
    "NOOP\r\n",
    "BDAT 5 LAST\r\n",
    "BDAT 0 LAST\r\n",
    "BDAT 3\r\na\r\n",
    "HELO x.test\r\n",
    " SIZE=100",
    " BODY=8BITMIME",
    " BODY=BINARYMIME",
    " SMTPUTF8",
    " NOTIFY=NEVER",
    "MAIL FROM:<>\r\n",
    "Received: x\r\n",
    "From a\r\n",
];

/// Streams made of `bases` by chance.
pub(super) fn mutated(bases: &[Vec<u8>], count: usize, seed: u64) -> Vec<(String, Vec<u8>)> {
    let mut chance = Chance(seed);
    (0..count)
        .map(|n| {
            let mut stream = chance.of(bases).clone();
            for _ in 0..=chance.below(4) {
                let at = chance.below(stream.len() + 1);
                let end = (at + chance.below(12)).min(stream.len());
                match chance.below(7) {
                    0 => drop(stream.splice(at..at, chance.of(PIECES).bytes())),
                    1 => drop(stream.splice(at..end, chance.of(PIECES).bytes())),
                    2 => drop(stream.drain(at..end)),
                    3 => drop(stream.splice(at..at, stream[at..end].to_vec())),
                    4 => stream.truncate(at),
                    5 => stream.extend_from_slice(chance.of::<Vec<u8>>(bases)),
                    // At a line end, where commands and bodies meet.
                    _ => {
                        let line = stream[at..]
                            .iter()
                            .position(|b| *b == b'\n')
                            .map_or(stream.len(), |i| at + i + 1);
                        drop(stream.splice(line..line, chance.of(PIECES).bytes()));
                    }
                }
            }
            stream.truncate(1 << 17);
            (format!("mutation {n} of seed {seed}"), stream)
        })
        .collect()
}

/// The seeds of the fuzz targets that speak SMTP, as streams.
pub(super) fn fuzz_seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds");
    let files = |target: &str| -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = std::fs::read_dir(format!("{folder}/{target}"))
            .expect("fuzz/seeds")
            .flatten()
            .map(|f| f.path())
            .collect();
        paths.sort();
        paths
            .iter()
            .map(|p| std::fs::read(p).expect("a seed"))
            .collect()
    };
    let session = |middle: &[u8]| {
        [
            HELLO.as_bytes(),
            middle,
            b"\r\n",
            MAIL.as_bytes(),
            RCPT.as_bytes(),
            b"DATA\r\n",
            TEXT.as_bytes(),
            b"\r\n.\r\n",
            QUIT.as_bytes(),
        ]
        .concat()
    };
    let commands = files("command").into_iter().map(|c| session(&c));
    // Behind the size of its cuts, a body.
    let bodies = files("data").into_iter().map(|d| {
        [
            HELLO.as_bytes(),
            MAIL.as_bytes(),
            RCPT.as_bytes(),
            b"DATA\r\n",
            d.get(1..).unwrap_or_default(),
            b"\r\n.\r\n",
            QUIT.as_bytes(),
        ]
        .concat()
    });
    // Flags, then calls: what the client sends has its length in front, below 128.
    let sessions = files("server").into_iter().map(|s| {
        let (mut rest, mut stream) = (s.get(1..).unwrap_or_default(), Vec::new());
        while let Some((&call, behind)) = rest.split_first() {
            let (piece, behind) = behind.split_at(if call < 128 {
                behind.len().min(call.into())
            } else {
                0
            });
            stream.extend_from_slice(piece);
            rest = behind;
        }
        stream
    });
    commands.chain(bodies).chain(sessions).collect()
}
