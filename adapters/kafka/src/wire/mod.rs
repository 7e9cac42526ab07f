//! How a message is written as a record of Kafka, so that any client can read it, and how any client's record is read.
//!
//! | field | on the wire |
//! |---|---|
//! | key, payload | key and value of the record; none is null, which differs from empty |
//! | id | the header `ce_id` |
//! | type | the header `ce_type` |
//! | media type | the header `content-type` |
//! | kind | the header `ce_kind` |
//! | correlation id | the header `ce_correlationid` |
//! | return address | the header `ce_replyto` |
//! | expiry | the header `ce_expirytime` (RFC 3339) |
//! | time | the timestamp of the record, when it is at most a minute from the sender's clock; otherwise the header `ce_time` (RFC 3339), and the timestamp is that clock's |
//! | no time | the header `ce_time` without value, and that timestamp |
//! | headers | headers behind those, in order, repeated or without value as they are |
//!
//! The names are those of CloudEvents' binary mode in Kafka. A header of ours without value says that there is no such field, and of one that is
//! repeated the last counts, as it does to Kafka's own clients. A caller's header with a name that means something else here travels behind
//! `anybroker-header-`. Replies have one more header, `anybroker-to`, which says who they are for.
//!
//! Brokers delete by the timestamps of records, and refuse those far in the future. So a record has none that is far from now: a message that was
//! sent long ago, such as a copied dead letter, would be gone at once.

mod decode;
mod encode;

pub(crate) use decode::{Record, decode, unreadable};
pub(crate) use encode::{encode, measure, measure_within};

const ID: &str = "ce_id";
const TYPE: &str = "ce_type";
const CONTENT_TYPE: &str = "content-type";
const KIND: &str = "ce_kind";
const CORRELATION_ID: &str = "ce_correlationid";
const REPLY_TO: &str = "ce_replyto";
const EXPIRY: &str = "ce_expirytime";
const TIME: &str = "ce_time";
const ESCAPE: &str = "anybroker-header-";

/// Who a reply is for.
pub(crate) const TO: &str = "anybroker-to";

/// Ours: read into fields.
const FIELDS: [&str; 9] = [ID, TYPE, CONTENT_TYPE, KIND, CORRELATION_ID, REPLY_TO, EXPIRY, TIME, TO];

/// The last millisecond of the year 9999: what comes later cannot be written as RFC 3339.
const LAST: i64 = 253_402_300_799_999;

/// Whether a caller's header of that name has to be set apart.
fn is_taken(name: &str) -> bool {
    FIELDS.contains(&name) || name.starts_with(ESCAPE)
}

#[cfg(test)]
mod tests;
