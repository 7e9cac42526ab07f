use crate::error::error;
use anybroker_contract::{Connection, Error, ErrorKind, Result, Settings, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The broker's own table, and what the URL's query says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Config {
    /// The largest message in bytes, where the topic does not say it.
    pub(crate) max_message: usize,
    /// Milliseconds that a message waits for others to share its batch.
    pub(crate) linger: u32,
    /// Milliseconds until the client gives up a message.
    pub(crate) delivery_timeout: u32,
    pub(crate) compression: Compression,
    pub(crate) group_protocol: GroupProtocol,
    /// Milliseconds without a sign of life until a member of a group is taken for dead.
    pub(crate) session_timeout: u32,
    /// Milliseconds between two commits.
    pub(crate) commit_interval: u32,
    /// Milliseconds to finish with a partition that goes to another consumer.
    pub(crate) revoke_within: u32,
    /// How many messages of a partition are read beyond the oldest unsettled one.
    pub(crate) max_ahead: u64,
    /// The instance's name is a static member's.
    pub(crate) static_membership: bool,
    /// The mechanism of SASL, where the credentials do not say it.
    pub(crate) mechanism: Option<String>,
    /// The topic to which replies come.
    pub(crate) reply_topic: String,
    /// Topics that are answered as return addresses, beside our own.
    pub(crate) reply_to: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // What Kafka takes unless told otherwise.
            max_message: Table::Kafka.largest_message(),
            linger: 0,
            delivery_timeout: 30_000,
            compression: Compression::None,
            group_protocol: GroupProtocol::Classic,
            session_timeout: 10_000,
            commit_interval: 1000,
            revoke_within: 10_000,
            max_ahead: 10_000,
            static_membership: false,
            mechanism: None,
            reply_topic: String::from("anybroker.replies"),
            reply_to: Vec::new(),
        }
    }
}

/// How batches are compressed; the broker keeps them so.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Who divides the partitions of a group.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GroupProtocol {
    /// The members among themselves: every broker has it.
    Classic,
    /// The broker (KIP-848): from Kafka 4.0 on.
    Consumer,
}

/// What may stand in the URL.
const QUERY: [&str; 5] = ["compression", "group-protocol", "linger", "mechanism", "session-timeout"];

impl Config {
    pub(crate) fn read(connection: &Connection) -> Result<Self> {
        connection.deny_unknown_query(&QUERY)?;
        let mut settings = connection.settings.clone();
        for (key, value) in &connection.query {
            // Numbers are numbers there as in the table.
            let value = match value.parse::<i64>() {
                Ok(number) => anybroker_contract::Value::Integer(number),
                Err(_) => anybroker_contract::Value::String(value.clone()),
            };
            settings.insert(key.as_str(), value);
        }
        let config: Self = settings.read()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let at_least = |key: &str, value: u64, least: u64, unit: &str| match value >= least {
            true => Ok(()),
            false => {
                Err(wrong(format!("`{key}` is {value}")).with_help(format!("choose at least {least} {unit}")))
            }
        };
        at_least("max-message", self.max_message as u64, 1000, "bytes")?;
        at_least("delivery-timeout", self.delivery_timeout.into(), 1000, "milliseconds")?;
        at_least("session-timeout", self.session_timeout.into(), 1000, "milliseconds")?;
        at_least("commit-interval", self.commit_interval.into(), 1, "milliseconds")?;
        at_least("max-ahead", self.max_ahead, 1, "message")?;
        if self.linger >= self.delivery_timeout {
            let (linger, timeout) = (self.linger, self.delivery_timeout);
            return Err(wrong(format!("`linger` is {linger}, no less than `delivery-timeout`, {timeout}"))
                .with_help("choose a few milliseconds for `linger`"));
        }
        crate::names::check_topic("`reply-topic`", &self.reply_topic)
    }

    pub(crate) fn revoke_within(&self) -> Duration {
        Duration::from_millis(self.revoke_within.into())
    }

    pub(crate) fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_interval.into())
    }
}

/// A channel's own table.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ChannelConfig {
    /// Of a topic that is made: the most consumers that can share its work.
    pub(crate) partitions: Option<i32>,
    /// Of a topic that is made: how many brokers have each message.
    pub(crate) replication: Option<i32>,
    /// Of a topic that is made: milliseconds that a message is kept.
    pub(crate) retention: Option<i64>,
    /// The group of a point-to-point channel.
    pub(crate) group: Option<String>,
    /// The groups of named subscriptions.
    pub(crate) groups: BTreeMap<String, String>,
}

impl ChannelConfig {
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let config: Self = settings.read().map_err(|e| e.at("kafka"))?;
        for (key, value) in [("partitions", config.partitions), ("replication", config.replication)] {
            if let Some(value) = value.filter(|value| *value < 1) {
                return Err(wrong(format!("`{key}` is {value}")).with_help("choose at least 1"));
            }
        }
        if config.group.iter().chain(config.groups.values()).any(String::is_empty) {
            return Err(wrong("a group has an empty name").with_help("name the group that consumers share"));
        }
        Ok(config)
    }
}

fn wrong(what: impl Into<String>) -> Error {
    error(ErrorKind::Config, what)
}
