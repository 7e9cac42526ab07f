//! What a channel is called at the broker.

use crate::error::error;
use anybroker_contract::{Address, Binding, ChannelKind, Error, ErrorKind, Result, Subscription};
use lapin::types::ShortString;
use serde::Deserialize;

/// Where a channel is at the broker.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The exchange to publish to; empty is the default exchange.
    pub(crate) exchange: ShortString,
    /// The routing key of every message; none where each has its own.
    pub(crate) routing_key: Option<ShortString>,
    /// The queue of a point-to-point channel, and the beginning of the names of all other queues.
    pub(crate) base: String,
    /// Its parts were named one by one: they exist already and are never made.
    pub(crate) foreign: bool,
}

/// An address that is a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Parts {
    exchange: Option<String>,
    routing_key: Option<String>,
    queue: Option<String>,
}

impl Place {
    pub(crate) fn of(binding: &Binding) -> Result<Self> {
        match &binding.address {
            Address::Table(settings) => {
                let parts: Parts = settings.read().map_err(|e| e.at("address"))?;
                Self::parts(binding, &parts)
            }
            _ => {
                let name = binding.native_name();
                let published = binding.channel.kind() == ChannelKind::PublishSubscribe;
                Ok(Self {
                    exchange: short("the exchange's name", name)?,
                    routing_key: if published { None } else { Some(short("the queue's name", name)?) },
                    base: name.to_owned(),
                    foreign: false,
                })
            }
        }
    }

    fn parts(binding: &Binding, parts: &Parts) -> Result<Self> {
        if parts.exchange.is_none() && parts.queue.is_none() {
            return Err(error(ErrorKind::Config, "the address names neither an exchange nor a queue")
                .with_help("write `address = { exchange = \"…\", routing-key = \"…\", queue = \"…\" }`, or a name alone"));
        }
        if binding.channel.kind() == ChannelKind::PublishSubscribe && parts.exchange.is_none() {
            return Err(error(
                ErrorKind::Config,
                "the address of a publish-subscribe channel names no exchange",
            )
            .with_help("write `address = { exchange = \"…\" }`, with a `routing-key` where it needs one"));
        }
        let name = parts.queue.clone().unwrap_or_else(|| binding.channel.name().to_owned());
        let key = match (&parts.routing_key, &parts.exchange) {
            (Some(key), _) => Some(short("the routing key", key)?),
            // The default exchange knows queues by their names.
            (None, None) => Some(short("the queue's name", &name)?),
            (None, Some(_)) => None,
        };
        let exchange = short("the exchange's name", parts.exchange.as_deref().unwrap_or_default())?;
        Ok(Self { exchange, routing_key: key, base: name, foreign: true })
    }

    /// The same for a subscription: its queues and, in order, an exchange of its own.
    pub(crate) fn subscription(&self, subscription: &Subscription) -> String {
        match subscription.name() {
            Some(name) => format!("{}/{name}", self.base),
            None => format!("{}/~{}", self.base, unique()),
        }
    }

    /// What it is bound with.
    pub(crate) fn binding_key(&self) -> ShortString {
        self.routing_key.clone().unwrap_or_default()
    }
}

// `#` and `/` are in no portable name, so that none of these is the name of another channel.

/// A queue in order is this many and on, each with one active consumer.
pub(crate) fn shard(base: &str, number: usize) -> String {
    format!("{base}#{number}")
}

/// An exchange that takes what other clients send to a channel in order with the key itself as routing key.
pub(crate) fn others(base: &str) -> String {
    format!("{base}#others")
}

pub(crate) fn dead_letters(base: &str) -> String {
    format!("{base}#dead-letters")
}

/// A queue without messages: whoever consumes from a channel in order consumes from it too, to be counted.
pub(crate) fn members(base: &str) -> String {
    format!("{base}#members")
}

/// The beginning of every return address.
pub(crate) const REPLIES: &str = "anybroker.reply.";

/// RabbitMQ's own return addresses, which foreign requesters use.
pub(crate) const DIRECT_REPLIES: &str = "amq.rabbitmq.reply-to.";

/// Text that no other instance has, by chance.
pub(crate) fn unique() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

/// The most bytes of AMQP's short text.
pub(crate) const LONGEST: usize = 255;

/// AMQP's short text.
pub(crate) fn short(what: &str, text: &str) -> Result<ShortString> {
    ShortString::try_new(text).map_err(|_| too_long(ErrorKind::Config, what, text.len()))
}

pub(crate) fn too_long(kind: ErrorKind, what: &str, length: usize) -> Error {
    error(kind, format!("{what} is {length} bytes long, and AMQP carries at most {LONGEST} there"))
        .with_help("shorten it")
}
