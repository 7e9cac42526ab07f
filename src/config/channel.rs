use super::AdapterTables;
use super::reader::{Node, Table, check_adapters, fault, join};
use anybroker_contract::{
    Address, Channel as Portable, ChannelKind, Declare, Requirements, Result, Settings, Value,
};
use std::collections::BTreeMap;
use std::fmt;

/// The keys of a channel's table, beside those named after adapters.
const KEYS: &[&str] = &[
    "broker",
    "address",
    "declare",
    "headers",
    "kind",
    "order-per-key",
    "durable",
    "delayed-retry",
    "expired-to-dead-letter",
    "dead-letter-after",
    "largest-message",
    "bounded",
];

const NEVER_WEAKEN: &str =
    "configuration may add to what the code requires, never weaken it: remove the key, or change the code";

/// What configuration says about a channel, beyond what the code says.
///
/// ```
/// use anybroker::adapter::Address;
/// use anybroker::config::{Channel, Field};
///
/// let orders = Channel::new()
///     .broker("events")
///     .address(Address::Name(String::from("prod.orders.v1")))
///     .header(Field::Type, "eventType");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channel {
    pub(super) broker: Option<String>,
    pub(super) address: Address,
    pub(super) declare: Declare,
    pub(super) headers: BTreeMap<Field, String>,
    settings: AdapterTables,
    kind: Option<ChannelKind>,
    requires: Additions,
}

/// A requirement that is absent says nothing; `false` says that the code must not require it either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Additions {
    order_per_key: Option<bool>,
    durable: Option<bool>,
    delayed_retry: Option<bool>,
    expired_to_dead_letter: Option<bool>,
    dead_letter_after: Option<u32>,
    largest_message: Option<usize>,
    bounded: Option<usize>,
}

/// A field of a message for which foreign clients use a header of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The type of the body.
    Type,
    /// The message's id.
    Id,
    /// The ordering key.
    Key,
    /// The id of the conversation.
    CorrelationId,
    /// The return address.
    ReplyTo,
    /// When the message was sent.
    Time,
    /// Document, command or event.
    Kind,
    /// The media type of the payload.
    ContentType,
}

impl Field {
    const ALL: [Self; 8] = [
        Self::Type,
        Self::Id,
        Self::Key,
        Self::CorrelationId,
        Self::ReplyTo,
        Self::Time,
        Self::Kind,
        Self::ContentType,
    ];

    /// The name in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Id => "id",
            Self::Key => "key",
            Self::CorrelationId => "correlation-id",
            Self::ReplyTo => "reply-to",
            Self::Time => "time",
            Self::Kind => "kind",
            Self::ContentType => "content-type",
        }
    }
}

impl Channel {
    /// Nothing beyond what the code says.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds the channel to that broker in place of the default one.
    #[must_use]
    pub fn broker(mut self, name: impl Into<String>) -> Self {
        self.broker = Some(name.into());
        self
    }

    /// Sets the native name.
    #[must_use]
    pub fn address(mut self, address: Address) -> Self {
        self.address = address;
        self
    }

    /// Sets how far declaring may go.
    #[must_use]
    pub const fn declare(mut self, mode: Declare) -> Self {
        self.declare = mode;
        self
    }

    /// Sets the header in which foreign clients have a field.
    #[must_use]
    pub fn header(mut self, field: Field, name: impl Into<String>) -> Self {
        self.headers.insert(field, name.into());
        self
    }

    /// Sets the kind that the code must agree with.
    #[must_use]
    pub const fn kind(mut self, kind: ChannelKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Adds requirements to those of the code.
    #[must_use]
    pub fn require(mut self, requirements: Requirements) -> Self {
        let flag = |required: bool| required.then_some(true);
        self.requires = Additions {
            order_per_key: flag(requirements.order_per_key),
            durable: flag(requirements.durable),
            delayed_retry: flag(requirements.delayed_retry),
            expired_to_dead_letter: flag(requirements.expired_to_dead_letter),
            dead_letter_after: requirements.dead_letter_after,
            largest_message: requirements.largest_message,
            bounded: requirements.bounded,
        };
        self
    }

    /// Sets what only that adapter reads. Applied while the channel is bound to that adapter.
    #[must_use]
    pub fn settings(mut self, adapter: impl Into<String>, settings: Settings) -> Self {
        self.settings.insert(adapter.into(), settings);
        self
    }

    pub(super) fn read(node: Node) -> Result<Self> {
        let table = node.table()?;
        Ok(Self {
            settings: table.adapter_tables(KEYS)?,
            broker: table.field("broker").map(Node::text).transpose()?,
            address: table.field("address").map_or(Ok(Address::Portable), address)?,
            declare: table.field("declare").map_or(Ok(Declare::IfMissing), |node| {
                node.choice(&[
                    ("if-missing", Declare::IfMissing),
                    ("verify", Declare::Verify),
                    ("never", Declare::Never),
                ])
            })?,
            headers: table.field("headers").map_or(Ok(BTreeMap::new()), headers)?,
            kind: table
                .field("kind")
                .map(|node| {
                    node.choice(
                        &[ChannelKind::PointToPoint, ChannelKind::PublishSubscribe]
                            .map(|kind| (kind.as_str(), kind)),
                    )
                })
                .transpose()?,
            requires: Additions::read(&table)?,
        })
    }

    /// Checks what can be checked before the code's channel is known.
    pub(super) fn check(&self, path: &str, adapters: &[&str]) -> Result<()> {
        check_adapters(path, &self.settings, KEYS, adapters)?;
        if self.address == Address::Name(String::new()) {
            return Err(fault(&join(path, "address"), "the address is empty")
                .with_help("remove the key to use the channel's own name"));
        }
        let path = join(path, "headers");
        let mut names = BTreeMap::new();
        for (field, name) in &self.headers {
            let path = join(&path, field.as_str());
            if name.is_empty() {
                return Err(fault(&path, "the name of a header is empty"));
            }
            if let Some(other) = names.insert(name, field) {
                return Err(fault(
                    &path,
                    format_args!("`{name}` is the header of `{}` already", other.as_str()),
                ));
            }
        }
        Ok(())
    }

    /// The code's channel, with the requirements of both.
    pub(super) fn apply(&self, path: &str, channel: &Portable) -> Result<Portable> {
        if let Some(kind) = self.kind.filter(|kind| *kind != channel.kind()) {
            return Err(fault(
                &join(path, "kind"),
                format_args!(
                    "configuration says `{}`, the code says `{}`",
                    kind.as_str(),
                    channel.kind().as_str()
                ),
            )
            .with_help("a channel has one kind, and the code decides it: change or remove the key"));
        }
        let requirements = self.requires.add_to(path, channel.requirements())?;
        Ok(channel.clone().with_requirements(requirements))
    }

    /// The table for that adapter.
    pub(super) fn settings_for(&self, adapter: &str) -> Settings {
        self.settings.get(adapter).cloned().unwrap_or_default()
    }
}

impl Additions {
    fn read(table: &Table) -> Result<Self> {
        let flag = |key| table.field(key).map(Node::flag).transpose();
        let count = |key| table.field(key).map(Node::count).transpose();
        Ok(Self {
            order_per_key: flag("order-per-key")?,
            durable: flag("durable")?,
            delayed_retry: flag("delayed-retry")?,
            expired_to_dead_letter: flag("expired-to-dead-letter")?,
            dead_letter_after: table.field("dead-letter-after").map(Node::count).transpose()?,
            largest_message: count("largest-message")?,
            bounded: count("bounded")?,
        })
    }

    fn add_to(&self, path: &str, mut code: Requirements) -> Result<Requirements> {
        for (key, added, required) in [
            ("order-per-key", self.order_per_key, &mut code.order_per_key),
            ("durable", self.durable, &mut code.durable),
            ("delayed-retry", self.delayed_retry, &mut code.delayed_retry),
            ("expired-to-dead-letter", self.expired_to_dead_letter, &mut code.expired_to_dead_letter),
        ] {
            match added {
                Some(false) if *required => return Err(weaker(&join(path, key), false, true)),
                added => *required |= added == Some(true),
            }
        }
        match (self.dead_letter_after, code.dead_letter_after) {
            (Some(added), Some(required)) if added != required => {
                return Err(fault(
                    &join(path, "dead-letter-after"),
                    format_args!("configuration says `{added}`, the code says `{required}`"),
                )
                .with_help("where the code names the attempts, it decides: change or remove the key"));
            }
            (added, required) => code.dead_letter_after = required.or(added),
        }
        match (self.largest_message, code.largest_message) {
            (Some(added), Some(required)) if added < required => {
                return Err(weaker(&join(path, "largest-message"), added, required));
            }
            (added, required) => code.largest_message = added.or(required),
        }
        match (self.bounded, code.bounded) {
            (Some(added), Some(required)) if added > required => {
                return Err(weaker(&join(path, "bounded"), added, required));
            }
            (added, required) => code.bounded = added.or(required),
        }
        Ok(code)
    }
}

fn weaker(path: &str, added: impl fmt::Display, required: impl fmt::Display) -> anybroker_contract::Error {
    fault(path, format_args!("`{added}` is weaker than what the code requires, `{required}`"))
        .with_help(NEVER_WEAKEN)
}

fn address(node: Node) -> Result<Address> {
    match node.value {
        Value::String(name) => Ok(Address::Name(name)),
        Value::Table(table) => Ok(Address::Table(table)),
        _ => Err(node.mismatch("text or a table")),
    }
}

fn headers(node: Node) -> Result<BTreeMap<Field, String>> {
    let table = node.table()?;
    table.only(&Field::ALL.map(Field::as_str))?;
    Field::ALL
        .into_iter()
        .filter_map(|field| Some((field, table.field(field.as_str())?)))
        .map(|(field, node)| Ok((field, node.text()?)))
        .collect()
}
