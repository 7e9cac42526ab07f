//! What a channel is called at the broker.

use crate::config::ChannelConfig;
use crate::error::error;
use anybroker_contract::{Address, Binding, ErrorKind, Result, Subscription, Text};

/// Topics have the alphabet of portable names. Two points stand between a channel's name and what we add, so that a channel is taken for another's
/// dead letters only if somebody has set it on that.
const BETWEEN: &str = "..";

/// The longest name of a topic.
const LONGEST: usize = 249;

/// The topic of a channel.
pub(crate) fn topic(binding: &Binding) -> Result<String> {
    let name = match &binding.address {
        Address::Table(_) => {
            return Err(error(ErrorKind::Config, "the address is a table, and a topic has one name")
                .with_help("write `address = \"the.topic\"`"));
        }
        _ => binding.native_name(),
    };
    check_topic("the topic's name", name)?;
    Ok(name.to_owned())
}

/// The topic of the dead letters of a channel, or of a subscription by its name.
pub(crate) fn dead_letters(binding: &Binding, subscription: Option<&Text>) -> Result<String> {
    let topic = topic(binding)?;
    let name = match subscription {
        Some(subscription) => format!("{topic}{BETWEEN}{subscription}{BETWEEN}dead-letters"),
        None => format!("{topic}{BETWEEN}dead-letters"),
    };
    check_topic("the name of the topic of dead letters", &name)?;
    Ok(name)
}

/// The group that shares the work of a point-to-point channel.
pub(crate) fn group(binding: &Binding) -> Result<String> {
    let config = ChannelConfig::read(&binding.settings)?;
    Ok(config.group.unwrap_or_else(|| binding.native_name().to_owned()))
}

/// The group of a named subscription.
pub(crate) fn subscription_group(binding: &Binding, subscription: &Subscription) -> Result<Option<String>> {
    let Some(name) = subscription.name() else { return Ok(None) };
    let mut config = ChannelConfig::read(&binding.settings)?;
    let group = config.groups.remove(name);
    Ok(Some(group.unwrap_or_else(|| format!("{}/{name}", binding.native_name()))))
}

pub(crate) fn check_topic(what: &str, name: &str) -> Result<()> {
    let bad = name.chars().find(|c| !(c.is_ascii_alphanumeric() || ".-_".contains(*c)));
    let problem = match bad {
        Some(bad) => format!("{what} {name:?} contains {bad:?}"),
        None if name.is_empty() => format!("{what} is empty"),
        None if name.len() > LONGEST => format!("{what} has {} bytes", name.len()),
        None if name == "." || name == ".." => format!("{what} is `{name}`"),
        None => return Ok(()),
    };
    Err(error(ErrorKind::Config, problem).with_help(format!(
        "Kafka takes 1 to {LONGEST} ASCII letters, digits, `.`, `-` and `_`: shorten or correct it"
    )))
}

/// A return address: a partition of the shared topic of replies, and whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplyAddress {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) owner: String,
}

impl ReplyAddress {
    pub(crate) fn to_text(&self) -> Text {
        format!("{}/{}/{}", self.topic, self.partition, self.owner).into()
    }

    /// `None` for what is no address of that topic.
    pub(crate) fn parse(address: &str, topic: &str) -> Option<Self> {
        let (partition, owner) = address.strip_prefix(topic)?.strip_prefix('/')?.split_once('/')?;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        let partition: i32 = Some(partition).filter(|p| plain(p))?.parse().ok()?;
        let owner = Some(owner).filter(|owner| plain(owner))?.to_owned();
        Some(Self { topic: topic.to_owned(), partition, owner })
    }
}

/// Text that no other instance has, by chance.
pub(crate) fn unique() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
