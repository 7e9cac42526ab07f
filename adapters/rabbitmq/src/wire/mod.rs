//! How a message is written in AMQP 0-9-1, so that any client can read it, and how any client's message is read.
//!
//! | field | on the wire |
//! |---|---|
//! | id | `message_id` |
//! | type | `type` |
//! | correlation id, return address, media type | `correlation_id`, `reply_to`, `content_type` |
//! | time | `timestamp` in seconds, and the header `cloudEvents:time` (RFC 3339) to the millisecond |
//! | kind | the header `cloudEvents:kind` |
//! | key | the header `cloudEvents:partitionkey` |
//! | expiry | the header `cloudEvents:expirytime` (RFC 3339) |
//! | no payload | an empty body and the header `cloudEvents:tombstone` |
//! | headers | headers, as long strings; a repeated one is an array, one without value is void |
//!
//! A table of AMQP has no order: where headers are not in the order of their names, the header `anybroker-headers` lists the names in order. A
//! caller's header with a name that means something else here travels behind `anybroker-header-`.

mod decode;
mod encode;

pub use decode::NativeHeaders;
pub(crate) use decode::decode;
pub(crate) use encode::{encode, measure};

const TIME: &str = "cloudEvents:time";
const KIND: &str = "cloudEvents:kind";
const KEY: &str = "cloudEvents:partitionkey";
const EXPIRY: &str = "cloudEvents:expirytime";
const TOMBSTONE: &str = "cloudEvents:tombstone";
const ORDER: &str = "anybroker-headers";
const ESCAPE: &str = "anybroker-header-";

/// Ours: read into fields.
const FIELDS: [&str; 6] = [TIME, KIND, KEY, EXPIRY, TOMBSTONE, ORDER];

/// The broker's own: it reads some and writes others, so that a caller's must not get there.
fn is_the_brokers(name: &str) -> bool {
    matches!(
        name,
        "CC" | "BCC" | "x-death" | "x-delivery-count" | "x-acquired-count" | "x-delay" | "x-stream-offset"
    ) || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// Whether a caller's header of that name has to be set apart.
fn is_taken(name: &str) -> bool {
    name.is_empty() || FIELDS.contains(&name) || name.starts_with(ESCAPE) || is_the_brokers(name)
}

#[cfg(test)]
mod tests;
