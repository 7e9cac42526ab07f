//! Configuration in TOML.

use super::Config;
use super::reader::{fault, join};
use super::secret::unreadable;
use anybroker_contract::{Error, ErrorKind, Result, Settings, Value};
use std::fs;
use std::path::Path;

/// How the parser gives a date to a reader that knows none.
const DATE: &str = "$__toml_private_datetime";

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the file, and the line or the path of the field.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|error| {
            Error::new(ErrorKind::Config, format!("the file `{}` {}", path.display(), unreadable(&error)))
                .with_source(error)
        })?;
        Self::from_toml(&text).map_err(|error| error.at(path.display()))
    }

    /// Reads TOML text.
    ///
    /// ```
    /// # fn main() -> anybroker::Result<()> {
    /// let config = anybroker::Config::from_toml(
    ///     r#"
    ///     [brokers.main]
    ///     url = "memory://main"
    ///
    ///     [channels.orders]              # only where something differs
    ///     address = "prod.orders.v1"
    ///     durable = true
    ///     "#,
    /// )?;
    /// # let _ = config;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the line or the path of the field.
    pub fn from_toml(text: &str) -> Result<Self> {
        let settings: Settings = toml::from_str(text).map_err(|error| {
            // `Display` of the parser's error quotes the line, which may hold a secret.
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            match line {
                Some(line) => fault(&format!("line {line}"), error.message()),
                None => fault("", error.message()),
            }
        })?;
        refuse_dates("", &settings)?;
        Self::from_value(Value::Table(settings))
    }
}

fn refuse_dates(path: &str, table: &Settings) -> Result<()> {
    for key in table.keys() {
        if key == DATE {
            return Err(fault(path, "there are no dates in configuration").with_help("put it in quotes"));
        }
        let values = match table.get(key) {
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        for value in values {
            if let Value::Table(table) = value {
                refuse_dates(&join(path, key), table)?;
            }
        }
    }
    Ok(())
}
