//! What is wrong with a configuration file, where, and what would be right.

use std::fmt;
use std::ops::Range;

/// Most characters of a line that are shown; the file may be no configuration at all.
const EXCERPT_CHARS_MAX: usize = 160;
/// Of a longer line so many are shown before the guilty text.
const EXCERPT_CHARS_BEFORE: usize = 40;

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the option, such as `listener[0].max_recipients`; empty for TOML syntax.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub right: String,
    /// The line of the file, to show; `None`: it isn't for logs.
    excerpt: Option<String>,
    /// Columns of the guilty text in `excerpt`, characters from 0.
    marked: Range<usize>,
}

impl Problem {
    /// A problem at the bytes `span` of `text`.
    pub(super) fn new(
        text: &str,
        span: Range<usize>,
        path: String,
        what: String,
        right: String,
    ) -> Self {
        let start = floor(text, span.start);
        let end = floor(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let excerpt = text[line_start..line_end].trim_end_matches('\r');
        let from = text[line_start..start].chars().count();
        let to = from + text[start..end.min(line_end)].chars().count();
        let is_long = excerpt.chars().nth(EXCERPT_CHARS_MAX).is_some();
        let cut = if is_long {
            from.saturating_sub(EXCERPT_CHARS_BEFORE)
        } else {
            0
        };
        let marked_to = (to - cut).min(EXCERPT_CHARS_MAX);
        let is_secret = is_secret(excerpt);
        let shown = excerpt.chars().skip(cut).take(EXCERPT_CHARS_MAX);
        Self {
            path,
            line: text[..line_start].matches('\n').count() + 1,
            column: from + 1,
            what,
            right,
            excerpt: (!is_secret).then(|| shown.collect()),
            marked: from - cut..marked_to.max(from - cut + 1),
        }
    }
}

/// Whether a line of TOML sets something that is called password or secret.
fn is_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["password", "passwd", "secret"].iter().any(|word| {
        line.match_indices(word).any(|(at, _)| {
            let rest = line[at + word.len()..].trim_start_matches(['"', '\'']);
            rest.trim_start().starts_with('=')
        })
    })
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Every mistake of one configuration file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl Problems {
    pub(super) fn new(file: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|p| (p.line, p.column));
        Self {
            file: file.to_owned(),
            list,
        }
    }

    /// The same without the lines of the file, which are nobody's business.
    pub(super) fn without_excerpts(mut self) -> Self {
        for problem in &mut self.list {
            problem.excerpt = None;
        }
        self
    }

    /// The mistakes.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            let Problem { line, column, .. } = problem;
            write!(f, "{}:{line}:{column}: ", self.file)?;
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            writeln!(f, "{}", problem.what)?;
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            if let Some(excerpt) = &problem.excerpt {
                let excerpt = excerpt.replace(char::is_control, " ");
                writeln!(f, "  {number} | {excerpt}")?;
                let marks = "^".repeat(problem.marked.len());
                writeln!(
                    f,
                    "  {margin} | {}{marks}",
                    " ".repeat(problem.marked.start)
                )?;
            }
            if !problem.right.is_empty() {
                writeln!(f, "  {margin} = {}", problem.right)?;
            }
            writeln!(f)?;
        }
        match self.list.len() {
            1 => write!(f, "1 problem in {}", self.file),
            n => write!(f, "{n} problems in {}", self.file),
        }
    }
}

/// `did you mean "x"?` for the known word that is nearest to `word`, if one is near.
pub(super) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const NEAR: f64 = 0.75;
    let word = word.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&word, k), k))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        let problem = Problem::new(text, span, String::new(), "wrong".into(), String::new());
        Problems::new("x", vec![problem]).to_string()
    }

    #[test]
    fn lines_with_passwords_are_not_shown() {
        for line in [
            "password = \"hunter2\"",
            "auth = { user = \"u\", password=\"hunter2\" }",
            "Password \t= 'hunter2'",
            "\"password\" = 'hunter2'",
            "client_secret = \"hunter2\"",
        ] {
            let text = shown(&format!("{line}\n"), 0..4);
            assert_eq!(text, "x:1:1: wrong\n\n1 problem in x", "{line}");
        }
        assert!(shown("password_file = \"/x\"\n", 0..4).contains("password_file"));
    }

    #[test]
    fn what_is_no_configuration_is_not_shown_in_full() {
        let short = shown("a\n\tb = 1\n", 3..4);
        assert_eq!(
            short,
            "x:2:2: wrong\n  2 |  b = 1\n    |  ^\n\n1 problem in x"
        );
        let noise = "\0\u{fffd}".repeat(100_000);
        for span in [0..noise.len(), 0..0, noise.len() - 3..noise.len()] {
            let long = shown(&noise, span.clone());
            assert!(
                long.len() < 1000 && !long.contains('\0'),
                "{span:?}: {long}"
            );
            assert!(long.contains('^'), "{span:?}: {long}");
        }
        // The guilty text and what is around it.
        let line = format!("{}guilty{}", "x".repeat(1000), "y".repeat(1000));
        let long = shown(&line, 1000..1006);
        assert!(long.starts_with("x:1:1001: wrong\n"), "{long}");
        let mut lines = long.lines().skip(1);
        let (text, marks) = (lines.next().unwrap(), lines.next().unwrap());
        let at = marks.find('^').unwrap();
        assert_eq!(&text[at..at + 6], "guilty");
        assert!(marks.ends_with("^^^^^^") && text.len() < 200);
    }
}
