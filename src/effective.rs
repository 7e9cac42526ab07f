use crate::adapter::{Binding, Capabilities, Capability, ChannelKind, Level, Start, Subscription, Support};
use crate::{Error, ErrorKind, Result};

/// What holds on a channel with the portable layer on top: what it emulates is added.
pub(crate) fn with_emulation(mut capabilities: Capabilities) -> Capabilities {
    for emulated in [Capability::DelayedRetry, Capability::Expiry] {
        if capabilities.support(emulated) == Support::Unsupported {
            capabilities = capabilities.emulated(&[emulated]);
        }
    }
    capabilities
}

/// Refuses a channel whose requirements cannot be kept, by name, with what to do instead.
pub(crate) fn check(adapter: &'static str, binding: &Binding, has: &Capabilities) -> Result<()> {
    let requires = binding.channel.requirements();
    let mut needs = vec![match binding.channel.kind() {
        ChannelKind::PublishSubscribe => Capability::PublishSubscribe,
        _ => Capability::PointToPoint,
    }];
    let mut need = |when: bool, capability| {
        if when {
            needs.push(capability);
        }
    };
    need(requires.order_per_key, Capability::OrderPerKey);
    need(requires.durable, Capability::Durable);
    need(requires.delayed_retry, Capability::DelayedRetry);
    need(requires.dead_letter_after.is_some() || requires.expired_to_dead_letter, Capability::DeadLetter);
    need(requires.bounded.is_some(), Capability::Bounded);
    for capability in needs {
        require(adapter, binding, has, capability)?;
    }
    let name = binding.channel.name();
    if requires.durable && has.level < Level::Durable {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "channel `{name}` requires `durable`, and the receipts of `{adapter}` end at {:?}",
                has.level
            ),
        )
        .with_help("bind it to a broker that stores messages, or drop the requirement"));
    }
    if let (Some(largest), Some(limit)) = (requires.largest_message, has.max_message_bytes)
        && largest > limit
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("channel `{name}` requires messages of {largest} bytes, and `{adapter}` takes at most {limit} bytes here"),
        )
        .with_help("raise the broker's limit, send a reference instead of the data, or lower `largest-message`"));
    }
    Ok(())
}

/// Refuses a subscription whose form the adapter does not have.
pub(crate) fn check_subscription(
    adapter: &'static str,
    binding: &Binding,
    subscription: &Subscription,
    has: &Capabilities,
) -> Result<()> {
    let form = match subscription.name() {
        Some(_) => Capability::NamedSubscription,
        None => Capability::EphemeralSubscription,
    };
    require(adapter, binding, has, form)?;
    match subscription.start() {
        Start::Latest => Ok(()),
        _ => require(adapter, binding, has, Capability::StartPosition),
    }
}

/// Refuses a channel without that capability.
pub(crate) fn require(
    adapter: &'static str,
    binding: &Binding,
    has: &Capabilities,
    capability: Capability,
) -> Result<()> {
    if has.has(capability) {
        return Ok(());
    }
    let (why, help) = match has.refusal(capability) {
        Some(refusal) => (refusal.why.as_str(), refusal.help.as_str()),
        None => ("does not have", "bind it to a broker that has it, or drop the requirement"),
    };
    let name = binding.channel.name();
    let what = format!("channel `{name}` requires `{capability}`, which `{adapter}` {why}");
    Err(Error::new(ErrorKind::Unsupported, what).with_help(help))
}
