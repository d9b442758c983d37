//! The fields of an input object, and mistakes in them.

use std::fmt;

use base64ct::{Base64, Encoding};
use serde_json::{Map, Value};

const RIGHT_TIME: &str = "a unix time in whole seconds";

/// What is wrong with an input line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Which field, as `dns."a.example".MX[0]`; empty for the line itself.
    pub field: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl Mistake {
    /// Something about a field.
    pub fn new(field: impl Into<String>, what: impl fmt::Display) -> Self {
        Self {
            field: field.into(),
            what: what.to_string(),
        }
    }

    /// Something else is there than what would be right.
    pub fn expected(field: impl Into<String>, right: &str, found: &Value) -> Self {
        Self::new(
            field,
            format_args!("expected {right}, found {}", name_of(found)),
        )
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.what),
            field => write!(f, "{field}: {}", self.what),
        }
    }
}

/// What JSON calls it, with a short text as it is.
fn name_of(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(text) if text.len() <= 40 => format!("{text:?}"),
        Value::String(_) => "a text".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// An object of the input, which knows where it stands.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The object of a line.
    ///
    /// # Errors
    /// It is none.
    pub fn of(value: &'a Value) -> Result<Self, Mistake> {
        Self::at(String::new(), value)
    }

    fn at(path: String, value: &'a Value) -> Result<Self, Mistake> {
        match value.as_object() {
            Some(map) => Ok(Self { path, map }),
            None => Err(Mistake::expected(path, "a JSON object", value)),
        }
    }

    /// The path of a field.
    pub fn path(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// Something is wrong with a field.
    pub fn mistake(&self, name: &str, what: impl fmt::Display) -> Mistake {
        Mistake::new(self.path(name), what)
    }

    /// A field; null counts as not there.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        name: &str,
        right: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Mistake> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Mistake::expected(self.path(name), right, value)),
        }
    }

    fn required<T>(
        &self,
        name: &str,
        right: &str,
        found: Result<Option<T>, Mistake>,
    ) -> Result<T, Mistake> {
        found?.ok_or_else(|| self.mistake(name, format_args!("missing, should be {right}")))
    }

    /// A text that may be missing.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_text(&self, name: &str) -> Result<Option<&'a str>, Mistake> {
        self.typed(name, "a text", Value::as_str)
    }

    /// A text.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn text(&self, name: &str) -> Result<&'a str, Mistake> {
        self.required(name, "a text", self.optional_text(name))
    }

    /// A truth value that may be missing.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_bool(&self, name: &str) -> Result<Option<bool>, Mistake> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A whole number up to `most` that may be missing.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_number(&self, name: &str, most: u64) -> Result<Option<u64>, Mistake> {
        let right = format!("a whole number from 0 to {most}");
        self.typed(name, &right, |value| value.as_u64().filter(|n| *n <= most))
    }

    /// A time in whole seconds since 1970 that may be missing.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_time(&self, name: &str) -> Result<Option<i64>, Mistake> {
        self.typed(name, RIGHT_TIME, Value::as_i64)
    }

    /// A time in whole seconds since 1970.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn time(&self, name: &str) -> Result<i64, Mistake> {
        self.required(name, RIGHT_TIME, self.optional_time(name))
    }

    /// Octets in base64, which may have line ends in it.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn base64(&self, name: &str) -> Result<Vec<u8>, Mistake> {
        let mut text = self.text(name)?.to_owned();
        text.retain(|c| !c.is_ascii_whitespace());
        Base64::decode_vec(&text).map_err(|_| self.mistake(name, "expected base64"))
    }

    /// A list of texts that may be missing.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_texts(&self, name: &str) -> Result<Option<Vec<&'a str>>, Mistake> {
        self.typed(name, "a list of texts", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn texts(&self, name: &str) -> Result<Vec<&'a str>, Mistake> {
        self.required(name, "a list of texts", self.optional_texts(name))
    }

    /// A text or a list of texts that may be missing.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_text_or_texts(&self, name: &str) -> Result<Option<Vec<&'a str>>, Mistake> {
        self.typed(name, "a text or a list of texts", |value| match value {
            Value::String(text) => Some(vec![text.as_str()]),
            other => other.as_array()?.iter().map(Value::as_str).collect(),
        })
    }

    /// One of `words` that may be missing.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Mistake> {
        let all: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let right = format!("one of {}", all.join(", "));
        self.typed(name, &right, |value| {
            let text = value.as_str()?;
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, v)| *v)
        })
    }

    /// One of `words`.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<T, Mistake> {
        let right = words.first().map_or("", |(word, _)| *word);
        let right = format!("a word such as {right:?}");
        self.required(name, &right, self.optional_word(name, words))
    }

    /// An object that may be missing.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_object(&self, name: &str) -> Result<Option<Fields<'a>>, Mistake> {
        self.get(name)
            .map(|value| Self::at(self.path(name), value))
            .transpose()
    }

    /// The objects of a list; none if it is missing.
    ///
    /// # Errors
    /// It is something else.
    pub fn objects(&self, name: &str) -> Result<Vec<Fields<'a>>, Mistake> {
        let list = self.typed(name, "a list of objects", Value::as_array)?;
        list.map_or(&[][..], |list| list.as_slice())
            .iter()
            .enumerate()
            .map(|(n, value)| Self::at(format!("{}[{n}]", self.path(name)), value))
            .collect()
    }
}
