//! Spans around what a service does, with the attributes that OpenTelemetry has for messaging. Never a payload.

use crate::adapter::{Channel, Message};
use tracing::Span;

/// Around one attempt of a handler.
pub(super) fn process(source: &str, channel: &Channel, message: &Message, attempt: u32) -> Span {
    tracing::info_span!(
        "process",
        otel.name = format_args!("process {source}"),
        otel.kind = "consumer",
        messaging.operation.r#type = "process",
        messaging.operation.name = "process",
        messaging.destination.name = channel.name(),
        messaging.destination.subscription.name = source.split_once('/').map(|(_, name)| name),
        messaging.message.id = message.id().map(tracing::field::display),
        messaging.message.conversation_id = message.correlation_id().map(|id| &**id),
        messaging.message.body.size = message.body().len(),
        messaging.message.r#type = message.type_name().map(|name| &**name),
        messaging.delivery.attempt = attempt,
    )
}

/// Around what a handler sends.
pub(super) fn send(channel: &Channel) -> Span {
    tracing::info_span!(
        "send",
        otel.name = format_args!("send {}", channel.name()),
        otel.kind = "producer",
        messaging.operation.r#type = "send",
        messaging.operation.name = "send",
        messaging.destination.name = channel.name(),
    )
}
