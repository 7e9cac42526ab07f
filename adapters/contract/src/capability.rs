use std::fmt;
use std::time::Duration;

/// One thing a broker can do by itself. The portable layer emulates some of the others; what is left is refused when the channel opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Capability {
    /// Channels whose messages each reach one consumer.
    PointToPoint,
    /// Channels whose messages each reach every subscription.
    PublishSubscribe,
    /// Subscriptions that last, shared by competing consumers.
    NamedSubscription,
    /// Subscriptions that end with their consumer.
    EphemeralSubscription,
    /// Order of one key's messages while several consumers compete.
    OrderPerKey,
    /// Accepted messages survive a crash of the broker.
    Durable,
    /// A message comes again no earlier than asked.
    DelayedRetry,
    /// The broker counts the attempts of a message, over consumers too.
    AttemptCount,
    /// A channel for rejected messages beside each queue or subscription.
    DeadLetter,
    /// The broker itself withholds expired messages.
    Expiry,
    /// New subscriptions can start in the past.
    StartPosition,
    /// A bound on waiting messages that makes senders wait.
    Bounded,
    /// The lease of a delivery can be made longer.
    LeaseExtension,
    /// Return addresses for replies.
    Replies,
}

impl Capability {
    /// All capabilities, in the order of documents.
    pub const ALL: [Self; 14] = [
        Self::PointToPoint,
        Self::PublishSubscribe,
        Self::NamedSubscription,
        Self::EphemeralSubscription,
        Self::OrderPerKey,
        Self::Durable,
        Self::DelayedRetry,
        Self::AttemptCount,
        Self::DeadLetter,
        Self::Expiry,
        Self::StartPosition,
        Self::Bounded,
        Self::LeaseExtension,
        Self::Replies,
    ];

    /// The name in errors, configuration and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PointToPoint => "point-to-point",
            Self::PublishSubscribe => "publish-subscribe",
            Self::NamedSubscription => "named-subscription",
            Self::EphemeralSubscription => "ephemeral-subscription",
            Self::OrderPerKey => "order-per-key",
            Self::Durable => "durable",
            Self::DelayedRetry => "delayed-retry",
            Self::AttemptCount => "attempt-count",
            Self::DeadLetter => "dead-letter",
            Self::Expiry => "expiry",
            Self::StartPosition => "start-position",
            Self::Bounded => "bounded",
            Self::LeaseExtension => "lease-extension",
            Self::Replies => "replies",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a capability is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Support {
    /// The broker keeps it.
    Native,
    /// The portable layer keeps it, or the adapter builds it from broker objects.
    Emulated,
    /// Nobody keeps it: requiring it is refused when the channel opens.
    Unsupported,
}

/// How many messages of one key may be on their way to the broker at once without losing their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InFlightPerKey {
    /// One: a batch may fail in part, so the portable layer holds the followers back.
    #[default]
    One,
    /// Any number: the broker takes them in the order of the calls, or none.
    Any,
}

/// How safe an accepted message is, from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// The operating system has it.
    #[default]
    Kernel,
    /// The peer's process has it in memory.
    PeerMemory,
    /// The broker has it.
    Broker,
    /// The broker has it where a crash leaves it.
    Durable,
}

/// What an adapter does on one channel: plain data.
///
/// [`crate::Adapter::capabilities`] gives the upper bound, known before connecting; opening a channel gives what really holds there. The default is
/// nothing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Capabilities {
    support: [Option<Support>; Capability::ALL.len()],
    refusals: Vec<(Capability, Refusal)>,
    /// Messages of one key on their way at once.
    pub in_flight_per_key: InFlightPerKey,
    /// The level of its receipts.
    pub level: Level,
    /// The largest message, in bytes as measured by [`crate::Sender::measure`].
    pub max_message_bytes: Option<usize>,
    /// The largest batch, in messages.
    pub max_batch_messages: Option<usize>,
    /// The largest batch, in bytes as measured.
    pub max_batch_bytes: Option<usize>,
    /// The longest time that a delivery can be held unsettled, extensions included.
    pub max_hold: Option<Duration>,
    /// Its client connects again by itself, so that senders and receivers outlive a connection, with what they hold.
    pub reconnects: bool,
    /// Settlements count at once for this receiver, and are committed from time to time: what was settled since comes again after a crash, unless
    /// [`crate::Receiver::flush`] came between.
    pub commits_later: bool,
}

/// Why a capability is missing, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Completes "…, which `adapter` …", such as "keeps only on FIFO queues".
    pub why: String,
    /// Completes "help: …".
    pub help: String,
}

impl Capabilities {
    /// Nothing at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The same with these kept by the broker.
    #[must_use]
    pub fn native(mut self, capabilities: &[Capability]) -> Self {
        for capability in capabilities {
            self.support[*capability as usize] = Some(Support::Native);
        }
        self
    }

    /// The same with these built by the adapter from broker objects.
    #[must_use]
    pub fn emulated(mut self, capabilities: &[Capability]) -> Self {
        for capability in capabilities {
            self.support[*capability as usize] = Some(Support::Emulated);
        }
        self
    }

    /// The same without one, saying why and what to do instead.
    #[must_use]
    pub fn without(
        mut self,
        capability: Capability,
        why: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        self.support[capability as usize] = None;
        self.refusals.retain(|(c, _)| *c != capability);
        self.refusals.push((capability, Refusal { why: why.into(), help: help.into() }));
        self
    }

    /// How that capability is kept.
    #[must_use]
    pub const fn support(&self, capability: Capability) -> Support {
        match self.support[capability as usize] {
            Some(support) => support,
            None => Support::Unsupported,
        }
    }

    /// Whether that capability is kept by the broker or built by the adapter.
    #[must_use]
    pub const fn has(&self, capability: Capability) -> bool {
        self.support[capability as usize].is_some()
    }

    /// Why that capability is missing, where the adapter says so.
    #[must_use]
    pub fn refusal(&self, capability: Capability) -> Option<&Refusal> {
        self.refusals.iter().find(|(c, _)| *c == capability).map(|(_, refusal)| refusal)
    }
}
