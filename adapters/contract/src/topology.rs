use crate::{Channel, Settings, Subscription, Text};
use std::sync::Arc;

/// A channel as configuration has bound it to one broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Binding {
    /// The channel, with the requirements of code and configuration together.
    pub channel: Channel,
    /// Its native name.
    pub address: Address,
    /// The adapter's own settings for it.
    pub settings: Settings,
}

impl Binding {
    /// A channel under its own name, without settings.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { channel, address: Address::Portable, settings: Settings::default() }
    }

    /// The same at a native address.
    #[must_use]
    pub fn at(mut self, address: Address) -> Self {
        self.address = address;
        self
    }

    /// The same with the adapter's own settings.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The native name: the one configured, else the portable one. An address that is a table is for the adapter to read.
    #[must_use]
    pub fn native_name(&self) -> &str {
        match &self.address {
            Address::Name(name) => name,
            Address::Portable | Address::Table(_) => self.channel.name(),
        }
    }
}

/// The native name of a channel.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Address {
    /// None was configured: the adapter derives it from the portable name.
    #[default]
    Portable,
    /// That name, which may exist already.
    Name(String),
    /// A name in several parts, which the adapter reads.
    Table(Settings),
}

/// Where messages are sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Target {
    /// A channel of either kind.
    Channel(Arc<Binding>),
    /// The dead-letter channel of a point-to-point channel, or of a subscription by its name.
    DeadLetter(Arc<Binding>, Option<Text>),
    /// A return address that [`crate::Adapter::open_replies`] of some instance has given out. Foreign input: an adapter answers only addresses of
    /// its reply namespace, with [`crate::ErrorKind::Unauthorized`] for any other.
    Reply(Text),
}

/// Where messages are received from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A point-to-point channel.
    Channel(Arc<Binding>),
    /// A subscription to a publish-subscribe channel.
    Subscription(Arc<Binding>, Subscription),
    /// The dead-letter channel of a point-to-point channel, or of a subscription by its name.
    DeadLetter(Arc<Binding>, Option<Text>),
}

/// What is to exist at the broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Topology {
    /// A channel of either kind.
    Channel(Arc<Binding>),
    /// A channel and a subscription to it.
    Subscription(Arc<Binding>, Subscription),
    /// The dead-letter channel of a point-to-point channel, or of a subscription by its name.
    DeadLetter(Arc<Binding>, Option<Text>),
}

/// How far declaring may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Declare {
    /// Makes what is missing. What exists must match, else [`crate::ErrorKind::Conflict`].
    #[default]
    IfMissing,
    /// Makes nothing. What is missing is [`crate::ErrorKind::NotFound`], what differs [`crate::ErrorKind::Conflict`].
    Verify,
    /// Does nothing: opening what is missing is [`crate::ErrorKind::NotFound`].
    Never,
}
