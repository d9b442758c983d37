//! Tables, times and numbers for people.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::config::show_duration;
use crate::control::protocol::{LaneRow, Time, Waiting};

/// A table with these column titles, without borders, as wide as it needs.
pub fn table(titles: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(titles.iter().map(|t| t.to_uppercase()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Aligns the columns `numbers` of `table` to the right.
pub fn align_right(table: &mut Table, numbers: &[usize]) {
    for at in numbers {
        if let Some(column) = table.column_mut(*at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// The text of `table` without spaces at the ends of its lines.
pub fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `in 4m`, `3h 20m ago`, `now`: `at` seen from `now`, to two units.
pub fn relative(now: Time, at: Time) -> String {
    let ms = now.until_ms(at);
    if ms.unsigned_abs() < 1000 {
        return "now".into();
    }
    let shown = rough(std::time::Duration::from_millis(ms.unsigned_abs()));
    if ms < 0 {
        format!("{shown} ago")
    } else {
        format!("in {shown}")
    }
}

/// A duration to two units: `5d 3h`, `4m 10s`, `12s`.
pub fn rough(duration: std::time::Duration) -> String {
    let s = duration.as_secs();
    let unit = match s {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    let whole = std::time::Duration::from_secs(s / unit * unit);
    let mut text = String::new();
    let mut digit_before = true;
    for c in show_duration(whole).chars() {
        if c.is_ascii_digit() && !digit_before {
            text.push(' ');
        }
        digit_before = c.is_ascii_digit();
        text.push(c);
    }
    text
}

/// `12 345 678`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(c);
    }
    text
}

/// `1.5 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// `text` on one line, without control characters (a reply must not drive the terminal), cut to
/// `most` characters.
pub fn one_line(text: &str, most: usize) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if let Some((at, _)) = line.char_indices().nth(most) {
        line.truncate(at);
        line.push('…');
    }
    line
}

/// When it will be tried.
pub fn next(now: Time, waiting: &Waiting) -> String {
    match waiting.until {
        Some(at) => relative(now, at),
        None => "-".into(),
    }
}

/// The lanes as a table.
pub fn lanes(now: Time, lanes: &[LaneRow]) -> String {
    let mut table = table(&[
        "source",
        "site",
        "provider",
        "ready",
        "deferred",
        "sending",
        "conns",
        "delivered",
        "deferrals",
        "bounced",
        "waits for",
    ]);
    for lane in lanes {
        table.add_row([
            one_line(&lane.source, 40),
            one_line(&lane.site, 40),
            one_line(lane.provider.as_deref().unwrap_or("-"), 24),
            count(lane.ready),
            count(lane.deferred),
            count(lane.in_flight),
            format!("{}/{}", lane.connections, lane.connections_max),
            count(lane.delivered),
            count(lane.deferrals),
            count(lane.bounced),
            match &lane.waiting {
                Some(w) if w.until.is_some() => format!("{} {}", w.reason.word(), next(now, w)),
                Some(w) => w.reason.word().to_owned(),
                None => String::new(),
            },
        ]);
    }
    align_right(&mut table, &[3, 4, 5, 6, 7, 8, 9]);
    lines(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rough() {
        let now = Time::from_unix_ms(1_000_000_000);
        let at = |s: i64| relative(now, Time::from_unix_ms(now.unix_ms + s * 1000));
        assert_eq!(at(0), "now");
        assert_eq!(at(12), "in 12s");
        assert_eq!(at(-250), "4m 10s ago");
        assert_eq!(at(12_010), "in 3h 20m");
        assert_eq!(at(5 * 86_400 + 3 * 3600 + 59), "in 5d 3h");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(0), "0");
        assert_eq!(count(12_345_678), "12 345 678");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
    }

    #[test]
    fn a_reply_does_not_drive_the_terminal() {
        assert_eq!(one_line("a\x1b[2Jb\r\nc", 80), "a [2Jb  c");
        assert_eq!(one_line("ééééé", 3), "ééé…");
    }
}
