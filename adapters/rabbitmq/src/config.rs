use crate::buckets::BUCKETS;
use crate::error::error;
use anybroker_contract::{Connection, Error, ErrorKind, Result, Settings, Table};
use serde::Deserialize;

/// The broker's own table, and what the URL's query says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Config {
    /// Seconds between two signs of life; two missed ones end the connection.
    pub(crate) heartbeat: u16,
    /// The largest message in bytes.
    pub(crate) max_message: usize,
    /// Beginnings of queue names that are answered as return addresses, beside our own.
    pub(crate) reply_to: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        // RabbitMQ 4 takes 16 MiB unless told otherwise, RabbitMQ 3 took 128 MiB.
        Self { heartbeat: 10, max_message: Table::RabbitMq.largest_message(), reply_to: Vec::new() }
    }
}

impl Config {
    pub(crate) fn read(connection: &Connection) -> Result<Self> {
        connection.deny_unknown_query(&["heartbeat", "max-message"])?;
        let mut config: Self = connection.settings.read()?;
        for (key, value) in &connection.query {
            let wrong = || {
                wrong(format!("the URL's parameter `{key}` is `{value}`, which is no whole number in range"))
                    .with_help("write it as in `heartbeat=10` (seconds) or `max-message=16777216` (bytes)")
            };
            match key.as_str() {
                "heartbeat" => config.heartbeat = value.parse().map_err(|_| wrong())?,
                _ => config.max_message = value.parse().map_err(|_| wrong())?,
            }
        }
        match (config.heartbeat, config.max_message) {
            (0, _) => {
                Err(wrong("`heartbeat` is 0, and a connection that is silently gone would never be noticed")
                    .with_help("choose from 1 to 65535 seconds"))
            }
            (_, 0) => Err(wrong("`max-message` is 0").with_help("choose at least 1 byte")),
            _ => Ok(config),
        }
    }
}

/// A channel's own table, used when the channel is made.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ChannelConfig {
    /// How many queues an ordered channel is spread over, which is the most consumers that can share its work.
    pub(crate) shards: usize,
    /// How often a message may come back to the queue before the broker itself dead-letters it.
    pub(crate) delivery_limit: u32,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self { shards: 8, delivery_limit: 100 }
    }
}

impl ChannelConfig {
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let config: Self = settings.read().map_err(|e| e.at("rabbitmq"))?;
        if !(1..=BUCKETS).contains(&config.shards) {
            return Err(wrong(format!("`shards` is {}", config.shards))
                .with_help(format!("choose from 1 to {BUCKETS}")));
        }
        Ok(config)
    }
}

fn wrong(what: impl Into<String>) -> Error {
    error(ErrorKind::Config, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anybroker_contract::{BoxFuture, Clock, Timestamp, Value};
    use std::sync::Arc;
    use std::time::Instant;

    #[derive(Debug)]
    struct NoClock;

    impl Clock for NoClock {
        fn now(&self) -> Instant {
            panic!("reading a configuration takes no time")
        }
        fn wall(&self) -> Timestamp {
            panic!("reading a configuration takes no time")
        }
        fn sleep_until(&self, _: Instant) -> BoxFuture<'static, ()> {
            panic!("reading a configuration takes no time")
        }
    }

    fn connection(query: &[(&str, &str)]) -> Connection {
        let mut connection = Connection::new("rabbitmq", Arc::new(NoClock));
        connection.query = query.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        connection
    }

    #[test]
    fn the_query_wins_over_the_table() {
        let mut both = connection(&[("heartbeat", "3")]);
        both.settings.insert("heartbeat", Value::Integer(7));
        both.settings.insert("max-message", Value::Integer(9));
        let config = Config::read(&both).unwrap();
        assert_eq!((config.heartbeat, config.max_message), (3, 9));
    }

    #[test]
    fn errors_name_the_key_and_the_fix() {
        for (pair, says) in [
            (
                ("heartbeat", "soon"),
                "the URL's parameter `heartbeat` is `soon`, which is no whole number in range",
            ),
            (("heartbeat", "0"), "`heartbeat` is 0"),
            (("max-message", "0"), "`max-message` is 0"),
            (("hartbeat", "1"), "the URL's parameter `hartbeat` is not known"),
        ] {
            let error = Config::read(&connection(&[pair])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().starts_with(says) && error.help().is_some(), "{error}");
        }
        let mut table = Settings::default();
        table.insert("shards", Value::Integer(0));
        assert!(ChannelConfig::read(&table).unwrap_err().to_string().starts_with("`shards` is 0"));
        let table: Settings = [(String::from("shard"), Value::Integer(3))].into_iter().collect();
        let error = ChannelConfig::read(&table).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("rabbitmq") && error.to_string().contains("shard"), "{error}");
    }
}
