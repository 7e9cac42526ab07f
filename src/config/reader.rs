//! Reads a document field by field, so that every error names the path of its field, whatever the document's format.

use crate::spelling::did_you_mean;
use crate::{adapters, config::AdapterTables};
use anybroker_contract::{Error, ErrorKind, Result, Settings, Value};
use std::fmt;

/// A field of a document: its value, and the path that leads to it.
pub(super) struct Node {
    pub(super) path: String,
    pub(super) value: Value,
}

/// A table of fields.
pub(super) struct Table {
    path: String,
    settings: Settings,
}

impl Node {
    pub(super) fn root(value: Value) -> Self {
        Self { path: String::new(), value }
    }

    pub(super) fn text(self) -> Result<String> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => Err(self.mismatch("text")),
        }
    }

    pub(super) fn flag(self) -> Result<bool> {
        match self.value {
            Value::Bool(flag) => Ok(flag),
            _ => Err(self.mismatch("`true` or `false`")),
        }
    }

    /// A whole number of at least one.
    pub(super) fn count<T: TryFrom<i64>>(self) -> Result<T> {
        let count = match self.value {
            Value::Integer(number) if number > 0 => T::try_from(number).ok(),
            Value::Integer(_) => None,
            _ => return Err(self.mismatch("a whole number")),
        };
        count.ok_or_else(|| {
            fault(&self.path, "the number must be at least 1, and not beyond what a count can hold")
        })
    }

    pub(super) fn choice<T: Copy>(self, choices: &[(&'static str, T)]) -> Result<T> {
        let path = self.path.clone();
        let text = self.text()?;
        let names = || choices.iter().map(|(name, _)| *name);
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Ok(*choice),
            None => Err(fault(&path, format_args!("there is no choice `{text}`")).with_help(format!(
                "{}the choices are: {}",
                did_you_mean(&text, names()),
                list(names())
            ))),
        }
    }

    pub(super) fn table(self) -> Result<Table> {
        match self.value {
            Value::Table(settings) => Ok(Table { path: self.path, settings }),
            _ => Err(self.mismatch("a table")),
        }
    }

    pub(super) fn mismatch(&self, expected: &str) -> Error {
        let found = match self.value {
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
            _ => "something else",
        };
        fault(&self.path, format_args!("expected {expected}, found {found}"))
    }
}

impl Table {
    /// The field of that key, if it is there.
    pub(super) fn field(&self, key: &str) -> Option<Node> {
        self.settings.get(key).map(|value| Node { path: join(&self.path, key), value: value.clone() })
    }

    /// All fields, of a table whose keys are names.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, Node)> {
        self.settings.keys().filter_map(|key| Some((key, self.field(key)?)))
    }

    /// Refuses all other keys.
    pub(super) fn only(&self, known: &[&str]) -> Result<()> {
        match self.fields().find(|(key, _)| !known.contains(key)) {
            None => Ok(()),
            Some((key, field)) => Err(unknown_key(&field.path, key, known, &[])),
        }
    }

    /// Takes all other keys as the settings of adapters. Whether there are such adapters is known only when the application's own ones are:
    /// see [`check_adapters`].
    pub(super) fn adapter_tables(&self, known: &[&str]) -> Result<AdapterTables> {
        let ours: Vec<&str> = adapters::names().collect();
        self.fields()
            .filter(|(key, _)| !known.contains(key))
            .map(|(key, field)| match field.value {
                Value::Table(settings) => Ok((key.to_owned(), settings)),
                _ if ours.contains(&key) => Err(field.mismatch("a table")),
                _ => Err(unknown_key(&field.path, key, known, &ours)),
            })
            .collect()
    }
}

/// Refuses tables of adapters that are neither ours nor given by the application.
pub(super) fn check_adapters(
    path: &str,
    tables: &AdapterTables,
    known: &[&str],
    adapters: &[&str],
) -> Result<()> {
    match tables.keys().find(|name| !adapters.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(unknown_key(&join(path, name), name, known, adapters)),
    }
}

/// An error of the field at that path.
pub(super) fn fault(path: &str, problem: impl fmt::Display) -> Error {
    let error = Error::new(ErrorKind::Config, problem.to_string());
    if path.is_empty() { error } else { error.at(path) }
}

/// The path of a key in the table at `path`, quoted as in TOML.
pub(super) fn join(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let dot = if path.is_empty() { "" } else { "." };
    if is_bare { format!("{path}{dot}{key}") } else { format!("{path}{dot}{key:?}") }
}

/// Words with commas between them.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

fn unknown_key(path: &str, key: &str, known: &[&str], adapters: &[&str]) -> Error {
    let near = match adapters::alias_of(key) {
        Some(adapter) if !adapters.is_empty() => format!("did you mean `{adapter}`? "),
        _ => did_you_mean(key, known.iter().chain(adapters).copied()),
    };
    let also = if adapters.is_empty() {
        String::new()
    } else {
        format!("; tables of adapters: {}", list(adapters.iter().copied()))
    };
    fault(path, "unknown key").with_help(format!("{near}the keys are: {}{also}", list(known.iter().copied())))
}
