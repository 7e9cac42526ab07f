use crate::error;
use anybroker_contract::{Connection, Error, ErrorKind, Result, Settings, Value};
use std::time::Duration;

/// What a memory broker is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How long a delivery belongs to its receiver unless extended; `None` is for ever.
    pub lease: Option<Duration>,
    /// The largest message, in bytes as [`anybroker_contract::Message::size`] counts.
    pub max_message: usize,
    /// The number of key-hashed shards of an ordered channel, which is the most consumers that can share its work.
    pub shards: usize,
    /// How many messages a publish-subscribe channel keeps for subscriptions that start in the past.
    pub retain: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { lease: None, max_message: 64 * 1024 * 1024, shards: 16, retain: 1000 }
    }
}

const KEYS: [&str; 4] = ["lease", "max-message", "shards", "retain"];
const MOST_SHARDS: usize = 4096;

impl Config {
    /// This configuration with what the connection's URL and settings say.
    pub(crate) fn with(mut self, connection: &Connection) -> Result<Self> {
        connection.deny_unknown_query(&KEYS)?;
        for (key, value) in &connection.query {
            self.set(key, value)?;
        }
        for key in connection.settings.keys() {
            self.set(key, &text_of(&connection.settings, key)?)?;
        }
        Ok(self)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "lease" => self.lease = Some(duration(key, value)?),
            "max-message" => self.max_message = number(key, value, usize::MAX)?,
            "shards" => self.shards = number(key, value, MOST_SHARDS)?,
            "retain" => self.retain = whole(key, value)?,
            _ => return Err(unknown(key, &KEYS)),
        }
        Ok(())
    }
}

/// What one channel's settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelConfig {
    pub(crate) shards: Option<usize>,
    pub(crate) retain: Option<usize>,
}

impl ChannelConfig {
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let mut config = Self::default();
        for key in settings.keys() {
            let value = text_of(settings, key)?;
            match key {
                "shards" => config.shards = Some(number(key, &value, MOST_SHARDS)?),
                "retain" => config.retain = Some(whole(key, &value)?),
                _ => return Err(unknown(key, &["shards", "retain"])),
            }
        }
        Ok(config)
    }
}

/// The name of the broker that the URL names; empty for a private one.
pub(crate) fn name(connection: &Connection) -> Result<String> {
    let refuse = |what: &str, help: &str| Err(wrong(what).with_help(help));
    if !connection.path.is_empty() {
        return refuse("the URL has a path", "write `memory://name`, without anything behind the name");
    }
    if connection.tls.is_some() {
        return refuse("`tls` is set, and nothing leaves the process", "remove `tls`");
    }
    if connection.auth.is_some() {
        return refuse("`auth` is set, and whoever is in the process may use the broker", "remove `auth`");
    }
    match &connection.hosts[..] {
        [] => Ok(String::new()),
        [host] if host.port.is_none() => Ok(host.name.clone()),
        [_] => refuse("the URL has a port", "write `memory://name`, without a port"),
        _ => refuse("the URL names several hosts", "write `memory://name`, with one name"),
    }
}

fn text_of(settings: &Settings, key: &str) -> Result<String> {
    match settings.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Integer(number)) => Ok(number.to_string()),
        _ => Err(wrong(&format!("`{key}` is neither text nor a whole number"))
            .with_help("write it as in the URL, such as `lease = \"30s\"` or `shards = 16`")),
    }
}

fn duration(key: &str, value: &str) -> Result<Duration> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = count.parse::<u64>().ok().zip(millis).and_then(|(count, millis)| count.checked_mul(millis));
    match millis {
        Some(millis @ 1..) => Ok(Duration::from_millis(millis)),
        _ => Err(wrong(&format!("`{key}` is `{value}`, which is no duration above zero"))
            .with_help("write a number and `ms`, `s`, `m` or `h`, such as `30s`")),
    }
}

fn whole(key: &str, value: &str) -> Result<usize> {
    value.parse().map_err(|_| {
        wrong(&format!("`{key}` is `{value}`, which is no whole number"))
            .with_help("write one, such as `1000`")
    })
}

fn number(key: &str, value: &str, most: usize) -> Result<usize> {
    match whole(key, value)? {
        number if (1..=most).contains(&number) => Ok(number),
        _ => Err(wrong(&format!("`{key}` is `{value}`")).with_help(format!("choose from 1 to {most}"))),
    }
}

fn unknown(key: &str, known: &[&str]) -> Error {
    wrong(&format!("the setting `{key}` is not known")).with_help(format!("known are: {}", known.join(", ")))
}

fn wrong(what: &str) -> Error {
    error(ErrorKind::Config, what)
}
