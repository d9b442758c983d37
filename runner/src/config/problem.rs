//! What is wrong with a configuration file, where, and what would be right.

use std::fmt;
use std::ops::Range;

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
    /// The line of the file, to show.
    excerpt: String,
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
        Self {
            path,
            line: text[..line_start].matches('\n').count() + 1,
            column: from + 1,
            what,
            right,
            excerpt: excerpt.to_owned(),
            marked: from..to.max(from + 1),
        }
    }
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
            writeln!(f, "  {number} | {}", problem.excerpt.replace('\t', " "))?;
            let marks = "^".repeat(problem.marked.len());
            writeln!(
                f,
                "  {margin} | {}{marks}",
                " ".repeat(problem.marked.start)
            )?;
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
