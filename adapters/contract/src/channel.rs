use crate::Timestamp;
use std::borrow::Cow;

/// A channel: a portable name, its kind, and what the application requires of it.
///
/// Requirements live in code, so that they are read where the handler is; configuration binds the channel to a broker and may add
/// requirements, never weaken them. All of it is checked when the channel opens.
///
/// ```
/// use anybroker_contract::Channel;
/// static ORDERS: Channel = Channel::point_to_point("orders").order_per_key().dead_letter_after(5);
/// assert_eq!(ORDERS.name(), "orders");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    name: Cow<'static, str>,
    kind: ChannelKind,
    requires: Requirements,
}

impl Channel {
    /// A channel whose messages each reach one of the competing consumers.
    #[doc(alias = "queue")]
    #[must_use]
    pub const fn point_to_point(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), kind: ChannelKind::PointToPoint, requires: Requirements::NONE }
    }

    /// A channel whose messages each reach every subscription.
    #[doc(alias = "topic")]
    #[must_use]
    pub const fn publish_subscribe(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), kind: ChannelKind::PublishSubscribe, requires: Requirements::NONE }
    }

    /// A channel whose name is known at run time only.
    #[must_use]
    pub fn named(kind: ChannelKind, name: impl Into<String>) -> Self {
        Self { name: Cow::Owned(name.into()), kind, requires: Requirements::NONE }
    }

    /// Requires that messages of one key are handled one after another, in the order in which they were sent.
    #[must_use]
    pub const fn order_per_key(mut self) -> Self {
        self.requires.order_per_key = true;
        self
    }

    /// Requires that an accepted message survives a crash of the broker.
    #[must_use]
    pub const fn durable(mut self) -> Self {
        self.requires.durable = true;
        self
    }

    /// Requires that a message can come again after a chosen delay.
    #[must_use]
    pub const fn delayed_retry(mut self) -> Self {
        self.requires.delayed_retry = true;
        self
    }

    /// Requires a dead-letter channel, to which a message goes when its `attempts`-th attempt has failed.
    ///
    /// Zero is taken as one: the first failure dead-letters.
    #[must_use]
    pub const fn dead_letter_after(mut self, attempts: u32) -> Self {
        self.requires.dead_letter_after = Some(if attempts == 0 { 1 } else { attempts });
        self
    }

    /// Requires that messages of that many bytes, as measured on the wire, can be sent.
    #[must_use]
    pub const fn largest_message(mut self, bytes: usize) -> Self {
        self.requires.largest_message = Some(bytes);
        self
    }

    /// Requires that an expired message goes to the dead-letter channel instead of being acknowledged and counted.
    #[must_use]
    pub const fn expired_to_dead_letter(mut self) -> Self {
        self.requires.expired_to_dead_letter = true;
        self
    }

    /// Requires a bound of that many waiting messages; a sender then waits for room, up to its deadline.
    #[must_use]
    pub const fn bounded(mut self, messages: usize) -> Self {
        self.requires.bounded = Some(messages);
        self
    }

    /// The same channel with other requirements.
    #[must_use]
    pub const fn with_requirements(mut self, requires: Requirements) -> Self {
        self.requires = requires;
        self
    }

    /// The portable name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Point-to-point or publish-subscribe.
    #[must_use]
    pub const fn kind(&self) -> ChannelKind {
        self.kind
    }

    /// What the application requires.
    #[must_use]
    pub const fn requirements(&self) -> Requirements {
        self.requires
    }

    /// The subscription of that name: durable, shared by all consumers that name it.
    #[must_use]
    pub fn subscription(&self, name: impl Into<Cow<'static, str>>) -> Subscription {
        Subscription { channel: self.clone(), name: Some(name.into()), start: Start::default() }
    }

    /// A subscription of one consumer, gone when that closes.
    #[must_use]
    pub fn ephemeral(&self) -> Subscription {
        Subscription { channel: self.clone(), name: None, start: Start::Latest }
    }

    /// The dead-letter channel of this point-to-point channel.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters { channel: self.clone(), subscription: None }
    }
}

/// How many receivers a message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelKind {
    /// One of the competing consumers.
    PointToPoint,
    /// Every subscription.
    PublishSubscribe,
}

impl ChannelKind {
    /// The name in configuration and errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PointToPoint => "point-to-point",
            Self::PublishSubscribe => "publish-subscribe",
        }
    }
}

/// What an application requires of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requirements {
    /// See [`Channel::order_per_key`].
    pub order_per_key: bool,
    /// See [`Channel::durable`].
    pub durable: bool,
    /// See [`Channel::delayed_retry`].
    pub delayed_retry: bool,
    /// See [`Channel::dead_letter_after`].
    pub dead_letter_after: Option<u32>,
    /// See [`Channel::largest_message`].
    pub largest_message: Option<usize>,
    /// See [`Channel::expired_to_dead_letter`].
    pub expired_to_dead_letter: bool,
    /// See [`Channel::bounded`].
    pub bounded: Option<usize>,
}

impl Requirements {
    /// Nothing is required.
    pub const NONE: Self = Self {
        order_per_key: false,
        durable: false,
        delayed_retry: false,
        dead_letter_after: None,
        largest_message: None,
        expired_to_dead_letter: false,
        bounded: None,
    };
}

/// A subscription to a publish-subscribe channel.
///
/// Where it starts is asked once, when the subscription is new: a named one that exists goes on from where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    channel: Channel,
    name: Option<Cow<'static, str>>,
    start: Start,
}

impl Subscription {
    /// The same subscription, starting elsewhere when it is new.
    #[must_use]
    pub const fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// The channel subscribed to.
    #[must_use]
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The name, or `None` for an ephemeral subscription.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where a new subscription starts.
    #[must_use]
    pub const fn start(&self) -> Start {
        self.start
    }

    /// The dead-letter channel of this subscription.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters { channel: self.channel.clone(), subscription: self.name.clone() }
    }
}

/// Where a new subscription starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With what is accepted after the subscription is there.
    #[default]
    Latest,
    /// With the oldest message that the broker still has.
    Earliest,
    /// With the first message accepted at that time or later.
    At(Timestamp),
}

/// The dead-letter channel of a point-to-point channel or of a subscription, to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    channel: Channel,
    subscription: Option<Cow<'static, str>>,
}

impl DeadLetters {
    /// The channel whose dead letters these are.
    #[must_use]
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The subscription whose dead letters these are; `None` on point-to-point.
    #[must_use]
    pub fn subscription(&self) -> Option<&str> {
        self.subscription.as_deref()
    }
}
