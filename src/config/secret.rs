use super::reader::{Node, fault};
use anybroker_contract::{Result, Secret, Value};
use std::path::PathBuf;
use std::{env, fs, io};

/// Where a secret comes from.
///
/// In a document: `"text"`, `{ env = "NAME" }` or `{ file = "path" }`. It is looked up when the broker is opened. `Debug` shows the name of a variable
/// or file, and never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretSource {
    /// The secret itself.
    Literal(Secret),
    /// An environment variable.
    Env(String),
    /// A UTF-8 file, whose newline at the end is cut. A relative path starts at the working directory.
    File(PathBuf),
}

impl SecretSource {
    /// The secret itself.
    #[must_use]
    pub fn literal(secret: impl Into<String>) -> Self {
        Self::Literal(Secret::new(secret))
    }

    /// The value of an environment variable.
    #[must_use]
    pub fn env(name: impl Into<String>) -> Self {
        Self::Env(name.into())
    }

    /// The content of a file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }

    pub(super) fn read(node: Node) -> Result<Self> {
        const EXPECTED: &str = "text, `{ env = \"NAME\" }` or `{ file = \"path\" }`";
        match &node.value {
            Value::String(text) => Ok(Self::literal(text)),
            Value::Table(_) => {
                let path = node.path.clone();
                let table = node.table()?;
                table.only(&["env", "file"])?;
                match (table.field("env"), table.field("file")) {
                    (Some(name), None) => name.text().map(Self::Env),
                    (None, Some(file)) => file.text().map(Self::file),
                    _ => Err(fault(&path, format_args!("expected {EXPECTED}"))),
                }
            }
            _ => Err(node.mismatch(EXPECTED)),
        }
    }

    /// The secret of the field at `path`.
    pub(super) fn look_up(&self, path: &str) -> Result<Secret> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Env(name) => match env::var(name) {
                Ok(value) => Ok(Secret::new(value)),
                Err(env::VarError::NotPresent) => {
                    Err(fault(path, format_args!("the environment variable `{name}` is not set")))
                }
                // The error of the standard library quotes the value.
                Err(env::VarError::NotUnicode(_)) => {
                    Err(fault(path, format_args!("the environment variable `{name}` is not UTF-8")))
                }
            },
            Self::File(file) => match fs::read_to_string(file) {
                Ok(content) => {
                    let line = content.strip_suffix('\n').unwrap_or(&content);
                    Ok(Secret::new(line.strip_suffix('\r').unwrap_or(line)))
                }
                Err(error) => {
                    Err(fault(path, format_args!("the file `{}` {}", file.display(), unreadable(&error)))
                        .with_source(error))
                }
            },
        }
    }
}

impl From<&str> for SecretSource {
    fn from(secret: &str) -> Self {
        Self::literal(secret)
    }
}

impl From<String> for SecretSource {
    fn from(secret: String) -> Self {
        Self::literal(secret)
    }
}

/// What is wrong with a file that could not be read; completes "the file …".
pub(super) fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => String::from("does not exist"),
        io::ErrorKind::PermissionDenied => String::from("may not be read: permission denied"),
        io::ErrorKind::InvalidData => String::from("is not UTF-8"),
        _ => format!("cannot be read: {error}"),
    }
}
