//! Configuration: which broker carries which channel.
//!
//! Applications name channels; this is the only place that names brokers. A document has up to three keys, here in TOML, but any format that `serde`
//! reads will do:
//!
//! ```toml
//! [brokers.main]                          # a broker by the name `main`; any number of them
//! url = "memory://main"                   # the scheme is the adapter, with `+tls` behind it for TLS
//! tls = { ca = "ca.pem" }                 # or true: the system's authorities; also cert, key, server-name
//! auth = { username = "svc", password = { file = "/run/secrets/broker" } }    # also kind, token; a secret is text, { env } or { file }
//!
//! [channels.orders]                       # only where a channel differs from what the code says
//! broker = "main"
//! address = "prod.orders.v1"              # the native name, or a table that the adapter reads
//! declare = "never"                       # or "if-missing", the default, or "verify"
//! durable = true                          # adds a requirement; none is ever weakened
//! headers = { type = "eventType" }        # the header in which foreign clients have a field
//! ```
//!
//! A table that has an adapter's name, in a broker or a channel, is for that adapter, and is left alone while another one is bound: changing the URL
//! is enough to change the broker, and changing it back is, too.
//!
//! A channel that is not listed goes to the default broker under its own name. The default broker is the one that the key `default` names, else the
//! only one, else the one called `main`.
//!
//! Unknown keys, wrong types and contradictions are errors of the kind [`ErrorKind::Config`](crate::ErrorKind::Config) that name the path of the field
//! and what to do. Secrets are looked up when the broker is opened, nothing is read from the environment that is not named, and no `Debug` or error
//! shows a secret.

mod broker;
mod channel;
#[cfg(feature = "toml")]
mod file;
mod name;
mod reader;
mod resolve;
mod secret;
#[cfg(test)]
#[cfg(feature = "toml")]
mod tests;
mod url;

pub use broker::{Auth, Broker};
pub use channel::{Channel, Field};
pub(crate) use name::check_name;
pub(crate) use resolve::{Bindings, Bound};
pub use secret::SecretSource;

use anybroker_contract::{Result, Settings, Value};
use reader::Node;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;

/// The settings of adapters, by the adapter's name.
type AdapterTables = BTreeMap<String, Settings>;

/// Which brokers there are and which channel goes where; see [the module](self) for all keys.
///
/// Read it from a file with `Config::load`, from any other source with `serde`, or make it in code:
///
/// ```
/// use anybroker::config::{Auth, Broker, Channel, Config, SecretSource};
///
/// let auth = Auth::new().username("svc").password(SecretSource::env("BROKER_PASSWORD"));
/// let config = Config::new()
///     .broker("main", Broker::new("memory://main").auth(auth))
///     .broker("events", Broker::new("memory://events"))
///     .channel("order-events", Channel::new().broker("events"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    default: Option<String>,
    brokers: BTreeMap<String, Broker>,
    channels: BTreeMap<String, Channel>,
}

impl Config {
    /// No broker yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One broker, named `main`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a URL that cannot be read or whose scheme names no adapter.
    pub fn url(url: &str) -> Result<Self> {
        broker::check_url(url).map_err(|error| error.at("brokers.main.url"))?;
        Ok(Self::new().broker("main", Broker::new(url)))
    }

    /// Adds a broker, in place of one by the same name.
    #[must_use]
    pub fn broker(mut self, name: impl Into<String>, broker: Broker) -> Self {
        self.brokers.insert(name.into(), broker);
        self
    }

    /// Says what is special about a channel, by its portable name.
    #[must_use]
    pub fn channel(mut self, name: impl Into<String>, channel: Channel) -> Self {
        self.channels.insert(name.into(), channel);
        self
    }

    /// Names the broker of all channels that name none.
    #[must_use]
    pub fn default_broker(mut self, name: impl Into<String>) -> Self {
        self.default = Some(name.into());
        self
    }

    fn from_value(value: Value) -> Result<Self> {
        let table = Node::root(value).table()?;
        table.only(&["default", "brokers", "channels"])?;
        Ok(Self {
            default: table.field("default").map(Node::text).transpose()?,
            brokers: named(table.field("brokers"), Broker::read)?,
            channels: named(table.field("channels"), Channel::read)?,
        })
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The entries of a table whose keys are names.
fn named<T>(table: Option<Node>, read: fn(Node) -> Result<T>) -> Result<BTreeMap<String, T>> {
    match table {
        None => Ok(BTreeMap::new()),
        Some(node) => node.table()?.fields().map(|(name, node)| Ok((name.to_owned(), read(node)?))).collect(),
    }
}
