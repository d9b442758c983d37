//! The folder of event files: names, repair, compression, retention.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::event::Time;
use super::log::Options;

pub(super) const OPEN: &str = ".jsonl";
const COMPRESSED: &str = ".jsonl.zst";
const PART: &str = ".jsonl.zst.part";
/// zstd's own default: a third of a core's cost of higher ones, and most of their gain.
const ZSTD_LEVEL: i32 = 3;
const DAY: Duration = Duration::from_secs(86_400);

fn is_ours(name: &str) -> bool {
    name.starts_with("events-") && (name.ends_with(OPEN) || name.ends_with(COMPRESSED))
}

/// Makes the next file. Its name is after all that are there, even where the civil clock was set back
/// and they have later times in their names.
pub(super) fn create(dir: &Path, now: Time) -> io::Result<(PathBuf, File)> {
    fs::create_dir_all(dir)?;
    let stamp = now.timestamp().strftime("%Y%m%dT%H%M%S").to_string();
    let newest = closed(dir, None)?.pop().map(|path| key(&path));
    let (stamp, first) = match newest {
        Some((later, n)) if later > format!("events-{stamp}") => {
            (later.trim_start_matches("events-").to_owned(), n + 1)
        }
        _ => (stamp, 0),
    };
    for n in first.. {
        let path = dir.join(format!("events-{stamp}-{n}{OPEN}"));
        if path.with_extension("jsonl.zst").exists() {
            continue;
        }
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => {
                // The name has to outlive a power failure as its content does.
                File::open(dir)?.sync_all()?;
                return Ok((path, file));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Files of the folder, oldest first, without `current`.
pub(super) fn closed(dir: &Path, current: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path
            .file_name()
            .and_then(|n| n.to_str())
            .is_some_and(is_ours)
            && Some(path.as_path()) != current
        {
            files.push(path);
        }
    }
    files.sort_by_cached_key(|path| key(path));
    Ok(files)
}

/// What files are ordered by: the time in their names, and the number behind it.
fn key(path: &Path) -> (String, u64) {
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let (stamp, n) = stem.rsplit_once('-').unwrap_or((stem, ""));
    (stamp.to_owned(), n.parse().unwrap_or(0))
}

/// Ends lines that a crash has cut, and removes unfinished compressions.
pub(super) fn repair(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.to_str().is_some_and(|p| p.ends_with(PART)) {
            fs::remove_file(&path)?;
        }
    }
    for path in closed(dir, None)? {
        if !path.to_str().is_some_and(|p| p.ends_with(OPEN)) {
            continue;
        }
        let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
        let len = file.metadata()?.len();
        if len == 0 {
            fs::remove_file(&path)?;
            continue;
        }
        let mut last = [0];
        file.seek(SeekFrom::Start(len - 1))?;
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            tracing::warn!(path = %path.display(), "the last event was cut by a crash; its line was ended");
            file.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// Compresses closed files, then deletes the oldest of them. `closed` lists them, and must leave out
/// the file that is written, although another one may have been begun since.
pub(super) fn tend(dir: &Path, options: &Options, closed: impl Fn() -> io::Result<Vec<PathBuf>>) {
    let each = |what: &str, path: &Path, result: io::Result<()>| {
        if let Err(error) = result {
            tracing::warn!(%error, path = %path.display(), "an event file couldn't be {what}");
        }
    };
    let files = match closed() {
        Ok(files) => files,
        Err(error) => {
            return tracing::warn!(%error, path = %dir.display(), "the event files can't be listed");
        }
    };
    if options.compress {
        for path in files
            .iter()
            .filter(|p| p.to_str().is_some_and(|p| p.ends_with(OPEN)))
        {
            each("compressed", path, compress(path));
        }
    }
    let mut kept: Vec<(PathBuf, u64, Option<SystemTime>)> = closed()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|path| {
            let meta = fs::metadata(&path).ok()?;
            Some((path, meta.len(), meta.modified().ok()))
        })
        .collect();
    let mut bytes: u64 = kept.iter().map(|(_, len, _)| len).sum();
    let mut count = kept.len();
    let now = SystemTime::now();
    let age = |modified: Option<SystemTime>| {
        modified
            .and_then(|m| now.duration_since(m).ok())
            .unwrap_or_default()
    };
    // Where even the newest seems to be past its time, it is more likely the civil clock that is
    // wrong: nothing is deleted for its age until there is a file of today.
    let newest = age(kept.last().and_then(|(.., modified)| *modified));
    let keep = options.keep.filter(|keep| newest <= (*keep).max(DAY));
    for (path, len, modified) in kept.drain(..) {
        let too_old = keep.is_some_and(|keep| age(modified) > keep);
        if !(too_old || count > options.keep_files || bytes > options.keep_bytes) {
            break;
        }
        each("deleted", &path, fs::remove_file(&path));
        count -= 1;
        bytes -= len;
    }
}

/// Replaces a file by its compressed form; at every moment one of the two is whole.
fn compress(path: &Path) -> io::Result<()> {
    let done = path.with_extension("jsonl.zst");
    if !done.exists() {
        let part = path.with_extension("jsonl.zst.part");
        let copy = || {
            let out = File::create(&part)?;
            let source = File::open(path)?;
            let modified = source.metadata()?.modified()?;
            zstd::stream::copy_encode(source, &out, ZSTD_LEVEL)?;
            // It is as old as its last event.
            out.set_modified(modified)?;
            out.sync_all()?;
            fs::rename(&part, &done)
        };
        if let Err(e) = copy() {
            let _ = fs::remove_file(&part);
            return Err(e);
        }
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_civil_clock_that_is_set_back_or_far_ahead_mixes_nothing_up_and_deletes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let at = |s: u64| Time(s * 1000);
        for (time, made) in [
            (86_400, "events-19700102T000000-0.jsonl"),
            (86_400, "events-19700102T000000-1.jsonl"),
            (0, "events-19700102T000000-2.jsonl"),
            (86_399, "events-19700102T000000-3.jsonl"),
            (86_401, "events-19700102T000001-0.jsonl"),
        ] {
            let (path, _) = create(dir.path(), at(time)).unwrap();
            assert_eq!(name(&path), made);
        }
        let set_age = |n: usize, days: u32| {
            let path = &closed(dir.path(), None).unwrap()[n];
            let when = SystemTime::now() - DAY * days;
            File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(when)
                .unwrap();
        };
        let options = Options {
            compress: false,
            keep: Some(DAY * 30),
            ..Options::default()
        };
        let left = || {
            tend(dir.path(), &options, || closed(dir.path(), None));
            closed(dir.path(), None).unwrap().len()
        };
        // The clock says that all of them are years old, the last one too.
        (0..5).for_each(|n| set_age(n, 3650));
        assert_eq!(left(), 5);
        set_age(4, 0);
        assert_eq!(left(), 1);
    }
}
