//! From the spanned TOML tree to values: a [`Section`] is one table that is being read.
//!
//! Reading never stops at a mistake: it is written down, a stand-in is returned and the next
//! option is read, so that one run of `courser check-config` shows every mistake. A section
//! remembers which options it was asked for; `finish` reports the keys that nobody asked for,
//! and the same memory lists every option with its default ([`Option_`]), which is what keeps
//! the documented example complete.

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, did_you_mean};

/// A value that one option can hold, alone or in a list.
pub(super) trait Scalar: Sized {
    /// What is expected, with an example: `a duration such as "30s" or "4h"`.
    const EXPECTED: &'static str;
    /// [`Self::EXPECTED`], and what else would do.
    fn expected() -> String {
        Self::EXPECTED.to_owned()
    }
    /// Reads the value, or says what is wrong with it.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
    /// The value as TOML.
    fn show(&self) -> String;
}

/// What one option can hold: a [`Scalar`] or a list of them.
pub(super) trait Setting: Sized {
    /// Reads the value; reports each mistake and returns `None` if there was one.
    fn read(
        value: &Spanned<DeValue<'_>>,
        wrong: &mut dyn FnMut(Range<usize>, String, String),
    ) -> Option<Self>;
    /// The value as TOML.
    fn show(&self) -> String;
}

impl<T: Scalar> Setting for T {
    fn read(
        value: &Spanned<DeValue<'_>>,
        wrong: &mut dyn FnMut(Range<usize>, String, String),
    ) -> Option<Self> {
        match T::read(value.get_ref()) {
            Ok(v) => Some(v),
            Err(what) => {
                wrong(value.span(), what, format!("expected {}", T::expected()));
                None
            }
        }
    }
    fn show(&self) -> String {
        Scalar::show(self)
    }
}

impl<T: Scalar> Setting for Vec<T> {
    fn read(
        value: &Spanned<DeValue<'_>>,
        wrong: &mut dyn FnMut(Range<usize>, String, String),
    ) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            let what = format!("is {}, not a list", described(value.get_ref()));
            wrong(
                value.span(),
                what,
                format!("put it in brackets: [ … ], each {}", T::expected()),
            );
            return None;
        };
        let read: Vec<_> = array
            .iter()
            .map(|v| <T as Setting>::read(v, wrong))
            .collect();
        read.into_iter().collect()
    }
    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(Scalar::show).collect();
        format!("[{}]", items.join(", "))
    }
}

/// `a string ("x")`, `an integer (5)`: a TOML value in words.
pub(super) fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(s) => format!("the string {s:?}"),
        DeValue::Integer(i) => format!("the number {i}"),
        DeValue::Float(x) => format!("the number {x}"),
        DeValue::Boolean(b) => format!("{b}"),
        DeValue::Datetime(d) => format!("the time {d}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// One option as it was read: its path, its value and its default, both as TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Option_ {
    /// The path with names, such as `listener[default].max_recipients`.
    pub path: String,
    /// The value in force; `None` when it has none.
    pub value: Option<String>,
    /// The value without a configuration; `None` when it has none.
    pub default: Option<String>,
}

/// What reading gathers beside the values.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
    pub(super) options: Vec<Option_>,
    /// Labels of the sections that can be there, whether they are or not.
    pub(super) sections: Vec<String>,
}

/// One table that is being read.
pub(super) struct Section<'a, 'i> {
    text: &'a str,
    notes: &'a RefCell<Notes>,
    table: Option<&'a DeTable<'i>>,
    span: Range<usize>,
    /// Path for messages, with positions: `listener[0]`.
    path: String,
    /// Path for options, with names: `listener[default]`.
    label: String,
    known: Vec<&'static str>,
}

impl<'a, 'i> Section<'a, 'i> {
    /// The whole file.
    pub(super) fn root(
        text: &'a str,
        notes: &'a RefCell<Notes>,
        table: &'a Spanned<DeTable<'i>>,
    ) -> Self {
        Self {
            text,
            notes,
            table: Some(table.get_ref()),
            span: 0..0,
            path: String::new(),
            label: String::new(),
            known: Vec::new(),
        }
    }

    /// Names this section in the list of options, where it is one of several.
    pub(super) fn label(&mut self, name: &str) {
        let kind = self.label.rfind('[').unwrap_or(self.label.len());
        let named = format!("{}[{name}]", &self.label[..kind]);
        // What was read before the name was known.
        for option in self.notes.borrow_mut().options.iter_mut().rev() {
            match option.path.strip_prefix(&self.label) {
                Some(rest) => option.path = format!("{named}{rest}"),
                None => break,
            }
        }
        self.label = named;
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.known.push(key);
        self.table?.get(key)
    }

    fn note(&self, key: &str, value: Option<String>, default: Option<String>) {
        self.notes.borrow_mut().options.push(Option_ {
            path: join(&self.label, key),
            value,
            default,
        });
    }

    fn report(&self, span: Range<usize>, path: String, what: String, right: String) {
        let problem = Problem::new(self.text, span, path, what, right);
        self.notes.borrow_mut().problems.push(problem);
    }

    /// Reports that the value of `key` (or this section, if the key isn't there) is wrong.
    pub(super) fn wrong(&self, key: &str, what: impl Into<String>, right: impl Into<String>) {
        let span = self
            .table
            .and_then(|t| t.get(key))
            .map_or(self.span.clone(), Spanned::span);
        self.report(span, join(&self.path, key), what.into(), right.into());
    }

    /// Like [`Self::wrong`], about item `index` of the list `key`.
    pub(super) fn wrong_item(
        &self,
        key: &str,
        index: usize,
        what: impl Into<String>,
        right: impl Into<String>,
    ) {
        let item = self
            .table
            .and_then(|t| t.get(key))
            .and_then(|v| v.get_ref().as_array()?.get(index));
        match item {
            Some(v) => self.report(v.span(), join(&self.path, key), what.into(), right.into()),
            None => self.wrong(key, what, right),
        }
    }

    /// The line of `key`, from 1; that of the section where it isn't set.
    pub(super) fn line_of(&self, key: &str) -> usize {
        let value = self.table.and_then(|t| t.get(key));
        let at = value.map_or(self.span.start, |v| v.span().start);
        let before = self.text.get(..at).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }

    /// `key` was looked at, so that [`Self::finish`] doesn't report it.
    pub(super) fn known(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// Whether the file sets `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// Reads `key`; `bounds` stand behind what would be right.
    fn read<T: Setting>(&mut self, key: &'static str, bounds: &str) -> Option<T> {
        let value = self.value(key)?;
        let path = join(&self.path, key);
        T::read(value, &mut |span, what, right| {
            self.report(span, path.clone(), what, right + bounds);
        })
    }

    /// The option `key`, or its default.
    pub(super) fn get<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.get_within(key, default, "")
    }

    fn get_within<T: Setting>(&mut self, key: &'static str, default: T, bounds: &str) -> T {
        let shown = default.show();
        let value = self.read(key, bounds).unwrap_or(default);
        self.note(key, Some(value.show()), Some(shown));
        value
    }

    /// The option `key`, which must lie in `range`, or its default.
    pub(super) fn bounded<T: Setting + PartialOrd>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        let bounds = format!("from {} to {}", range.start().show(), range.end().show());
        let value = self.get_within(key, default, &format!(", {bounds}"));
        if !range.contains(&value) {
            let what = if value < *range.start() {
                format!("{} is too small", value.show())
            } else {
                format!("{} is too large", value.show())
            };
            self.wrong(key, what, format!("write a value {bounds}"));
        }
        value
    }

    /// The option `key`, which has no default and may be left out.
    pub(super) fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        let value: Option<T> = self.read(key, "");
        self.note(key, value.as_ref().map(Setting::show), None);
        value
    }

    /// The option `key`, which must be there; `None` (and a report) if it isn't or is wrong.
    pub(super) fn required<T: Setting>(&mut self, key: &'static str, right: &str) -> Option<T> {
        let value = self.optional(key);
        if value.is_none() && !self.has(key) {
            let what = match self.path.as_str() {
                "" => format!("`{key}` is missing"),
                path => format!("{path} has no `{key}`"),
            };
            self.report(self.span.clone(), join(&self.path, key), what, right.into());
        }
        value
    }

    /// The option `key`, the name of one of `names`; its position. `default` is a position too.
    pub(super) fn reference(
        &mut self,
        key: &'static str,
        what: &str,
        names: &[&str],
        default: usize,
    ) -> usize {
        let fallback = names.get(default).copied().unwrap_or_default().to_owned();
        let name: String = self.get(key, fallback);
        self.position(key, what, names, &name).unwrap_or(default)
    }

    /// Where `name`, the value of `key`, stands in `names`; reports it if it doesn't.
    pub(super) fn position(
        &self,
        key: &str,
        what: &str,
        names: &[&str],
        name: &str,
    ) -> Option<usize> {
        let found = names.iter().position(|n| *n == name);
        if found.is_none() {
            let right = match did_you_mean(name, names.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None if names.is_empty() => format!("there is no [[{what}]] at all; add one"),
                None => format!(
                    "known: {}; or add a [[{what}]] of that name",
                    names.join(", ")
                ),
            };
            self.wrong(key, format!("there is no {what} {name:?}"), right);
        }
        found
    }

    /// The table `key`; an empty one if it isn't there.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a, 'i> {
        let value = self.value(key);
        let table = value.and_then(|v| v.get_ref().as_table());
        if let (Some(v), None) = (value, table) {
            let what = format!("is {}, not a table", described(v.get_ref()));
            let path = join(&self.path, key);
            self.report(v.span(), path.clone(), what, format!("write [{path}]"));
        }
        Section {
            text: self.text,
            notes: self.notes,
            table,
            span: value.map_or(self.span.clone(), Spanned::span),
            path: join(&self.path, key),
            label: join(&self.label, key),
            known: Vec::new(),
        }
    }

    /// The tables of the list `key`, written `[[key]]` or `key = [{ … }]`.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'a, 'i>> {
        let label = join(&self.label, key);
        self.notes.borrow_mut().sections.push(label);
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let path = join(&self.path, key);
        let right = format!("write [[{path}]] in double brackets, once for each");
        let Some(array) = value.get_ref().as_array() else {
            let what = format!("is {}, not a list of tables", described(value.get_ref()));
            self.report(value.span(), path, what, right);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (i, item) in array.iter().enumerate() {
            let path = format!("{path}[{i}]");
            let Some(table) = item.get_ref().as_table() else {
                let what = format!("is {}, not a table", described(item.get_ref()));
                self.report(item.span(), path, what, right.clone());
                continue;
            };
            sections.push(Section {
                text: self.text,
                notes: self.notes,
                table: Some(table),
                span: item.span(),
                label: format!("{}[{i}]", join(&self.label, key)),
                path,
                known: Vec::new(),
            });
        }
        sections
    }

    /// Like [`Self::sections`]; where the file has none, one of which it says nothing
    /// ([`Self::is_absent`]), so that it has its defaults.
    pub(super) fn sections_or_default(&mut self, key: &'static str) -> Vec<Section<'a, 'i>> {
        let mut sections = self.sections(key);
        if sections.is_empty() {
            sections.push(Section {
                text: self.text,
                notes: self.notes,
                table: None,
                span: self.span.clone(),
                path: join(&self.path, &format!("{key}[0]")),
                label: join(&self.label, &format!("{key}[0]")),
                known: Vec::new(),
            });
        }
        sections
    }

    /// Whether the file says nothing of this section.
    pub(super) fn is_absent(&self) -> bool {
        self.table.is_none()
    }

    /// Whether something in this section is wrong already.
    pub(super) fn has_problems(&self) -> bool {
        let notes = self.notes.borrow();
        let inside = |p: &Problem| {
            p.path
                .strip_prefix(&self.path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        notes.problems.iter().any(inside)
    }

    /// Whether `key` is left out or is an empty list.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        let value = self.table.and_then(|t| t.get(key));
        value.is_none_or(|v| v.get_ref().as_array().is_some_and(|a| a.is_empty()))
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let right = match did_you_mean(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let what = if self.path.is_empty() {
                "there is no such option or section".to_owned()
            } else {
                format!("[{}] has no such option", self.path)
            };
            self.report(key.span(), join(&self.path, name), what, right);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", key) => key.to_owned(),
        (path, "") => path.to_owned(),
        (path, key) => format!("{path}.{key}"),
    }
}
