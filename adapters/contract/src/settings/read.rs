//! Reads settings into a type, with errors that name the key and show no value.

use super::{Settings, Value};
use crate::{Error, ErrorKind, Result};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, MapAccess, Unexpected, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};
use std::collections::btree_map;
use std::fmt;

pub(super) fn read<T: DeserializeOwned>(settings: Settings) -> Result<T> {
    T::deserialize(Reader(Value::Table(settings))).map_err(|misread| {
        let mut error = Error::new(ErrorKind::Config, misread.problem);
        if let Some(help) = misread.help {
            error = error.with_help(help);
        }
        match misread.path.is_empty() {
            true => error,
            false => error.at(misread.path),
        }
    })
}

/// What serde finds wrong, and the path of the key.
#[derive(Debug)]
struct Misread {
    path: String,
    problem: String,
    help: Option<String>,
}

impl Misread {
    fn within(mut self, key: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.path = format!("{key}{dot}{}", self.path);
        self
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Misread {}

impl de::Error for Misread {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self { path: String::new(), problem: problem.to_string(), help: None }
    }

    // The next two would quote the value.

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
            Unexpected::Float(_) => "a number",
            Unexpected::Str(_) => "text",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "something else",
        };
        Self::custom(format_args!("expected {expected}, found {found}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}"))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self {
            path: key.to_owned(),
            problem: String::from("unknown key"),
            help: Some(match known {
                [] => String::from("there are no keys here: remove it"),
                _ => format!("the keys are: {}", known.join(", ")),
            }),
        }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::custom(format_args!("the key `{key}` is missing"))
    }
}

/// The entries of a table, one after another.
struct Entries {
    rest: btree_map::IntoIter<String, Value>,
    next: Option<(String, Value)>,
}

impl Entries {
    fn of(table: Settings) -> Self {
        Self { rest: table.0.into_iter(), next: None }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Misread;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misread> {
        self.next = self.rest.next();
        match &self.next {
            Some((key, _)) => seed.deserialize(key.clone().into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misread> {
        match self.next.take() {
            Some((key, value)) => seed.deserialize(Reader(value)).map_err(|misread| misread.within(&key)),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}

/// A value as serde reads it.
struct Reader(Value);

impl IntoDeserializer<'_, Misread> for Reader {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Reader {
    type Error = Misread;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misread> {
        match self.0 {
            Value::Bool(v) => visitor.visit_bool(v),
            Value::Integer(v) => visitor.visit_i64(v),
            Value::Float(v) => visitor.visit_f64(v),
            Value::String(v) => visitor.visit_string(v),
            Value::Array(v) => visitor.visit_seq(de::value::SeqDeserializer::new(v.into_iter().map(Reader))),
            Value::Table(v) => visitor.visit_map(Entries::of(v)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misread> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misread> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misread> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(variant.into_deserializer()),
            Value::Table(table) => {
                visitor.visit_enum(de::value::MapAccessDeserializer::new(Entries::of(table)))
            }
            _ => Err(de::Error::custom("expected a name")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Name(String);

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Acks {
        All,
        Count(u8),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        count: u8,
        ratio: Option<f64>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: Name,
        acks: Acks,
        list: Vec<Inner>,
    }

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Value::Table(entries.map(|(key, value)| (key.to_owned(), value)).into_iter().collect())
    }

    fn read(name: Value, acks: Value, item: Value) -> Result<Outer> {
        let list = Value::Array(vec![item]);
        let entries = [("name", name), ("acks", acks), ("list", list)];
        entries.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<Settings>().read()
    }

    #[test]
    fn settings_are_read_into_any_shape() {
        let item = table([("count", Value::Integer(3)), ("ratio", Value::Float(0.5))]);
        assert_eq!(
            read(text("n"), table([("count", Value::Integer(2))]), item).unwrap(),
            Outer {
                name: Name("n".to_owned()),
                acks: Acks::Count(2),
                list: vec![Inner { count: 3, ratio: Some(0.5) }],
            }
        );
        let item = table([("count", Value::Integer(3))]);
        assert_eq!(read(text("n"), text("all"), item).unwrap().acks, Acks::All);
    }

    #[test]
    fn errors_name_the_key_and_no_value() {
        let good = || table([("count", Value::Integer(3))]);
        let secret = || text("hunter2");
        for (result, expected) in [
            (read(Value::Bool(true), text("all"), good()), "name: expected a string, found a boolean"),
            (read(text("n"), Value::Array(vec![secret()]), good()), "acks: expected a name"),
            (read(text("n"), table([("count", secret())]), good()), "acks.count: expected u8, found text"),
            (
                read(text("n"), text("all"), table([("count", secret())])),
                "list.count: expected u8, found text",
            ),
            (
                read(text("n"), text("all"), table([("count", Value::Integer(300))])),
                "list.count: expected u8",
            ),
            (read(text("n"), text("all"), table([])), "list: the key `count` is missing"),
            (
                read(text("n"), text("all"), table([("cuont", Value::Integer(1))])),
                "list.cuont: unknown key\n  = help: the keys are: count, ratio",
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), expected);
        }
        let error = Settings::default().read::<Outer>().unwrap_err();
        assert_eq!(error.to_string(), "the key `name` is missing");
    }
}
