//! Seeds that found something. Each is run again and again.

/// The seed, and what it found.
pub(crate) const FOUND: &[(u64, &str)] = &[
    (
        18157,
        "two shards whose answers of DNS differed handed a domain's mail to each other without end",
    ),
    (
        61234,
        "a lane was flushed while a session of it got through: its mail was flushed and given back without end",
    ),
    (
        119512,
        "a power cut brought back messages whose writing had failed and whose clients had heard so",
    ),
    (164138, "the same"),
    (
        981243,
        "a power cut brought back a copy that had failed to be written, of a message that had been moved elsewhere and delivered",
    ),
];
